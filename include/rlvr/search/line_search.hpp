#pragma once
/// The best step along a line, from values alone: no derivatives, a noisy objective, a small budget.

#include <array>
#include <cmath>
#include <cstddef>
#include <span>
#include <string_view>
#include <utility>
#include <vector>

#include <rlvr/core/error.hpp>
#include <rlvr/search/line_objective.hpp>

namespace rlvr {

/// How a search ended. Only `improved` is a reason to move.
enum class line_status {
  improved,             ///< an admissible alpha beats the base
  no_improvement,       ///< none does
  nonfinite_direction,  ///< the direction's norm is NaN or infinite (search_direction)
  zero_direction,       ///< the direction is zero, moves no log-probability, or could not be calibrated (search_direction)
  budget_spent          ///< the best may lie beyond the alphas tried: the largest is the best of them, or none beats
                        ///< the base (alpha is 0) and the smallest is still below it, or inadmissible
};

constexpr std::string_view to_string(line_status status) {
  switch (status) {
    case line_status::improved:
      return "improved";
    case line_status::no_improvement:
      return "no_improvement";
    case line_status::nonfinite_direction:
      return "nonfinite_direction";
    case line_status::zero_direction:
      return "zero_direction";
    case line_status::budget_spent:
      return "budget_spent";
  }
  return "";
}

/// Points outside the guards are shown but never chosen. A NaN violates its guard.
struct line_guards {
  double max_kl = 30;            ///< nats per sequence; > 0. Best steps have been seen at .01 to 6
  double min_entropy_ratio = 0;  ///< of the base's entropy; 0: entropy is watched and does not decide
  double max_length_ratio = 4;   ///< of the base's length; > 0
};

struct line_search_options {
  double factor = 2;                 ///< between neighbouring alphas; > 1. 2 in alpha is 4 in KL
  std::size_t max_evaluations = 20;  ///< the base included; >= 2
  std::size_t initial = 6;      ///< alphas tried whatever their values: noise at small steps ends nothing
  std::size_t falling = 2;      ///< so many alphas in a row that do not exceed the best: it has fallen; >= 1
  std::size_t refinements = 2;  ///< rounds of two alphas beside the best, each halving the gap in log alpha
  line_guards guards{};
};

/// Throw std::invalid_argument, naming the option, when one is out of its range.
inline void validate(const line_guards& guards) {
  require(guards.max_kl > 0, "line_guards: max_kl is ", guards.max_kl);
  require(guards.min_entropy_ratio >= 0, "line_guards: min_entropy_ratio is ", guards.min_entropy_ratio);
  require(guards.max_length_ratio > 0, "line_guards: max_length_ratio is ", guards.max_length_ratio);
}
inline void validate(const line_search_options& options) {
  validate(options.guards);
  require(options.factor > 1 && std::isfinite(options.factor), "line_search_options: factor is ", options.factor);
  require(options.max_evaluations >= 2, "line_search_options: max_evaluations is ", options.max_evaluations);
  require(options.falling >= 1, "line_search_options: falling is 0");
}

/// The landscape, and the step to take.
struct [[nodiscard]] line_search_result {
  line_status status = line_status::no_improvement;
  double alpha = 0;                ///< the best admissible alpha; to be applied only when status is improved
  line_point base;                 ///< alpha = 0
  std::vector<line_point> points;  ///< every evaluation, by increasing alpha; the base is the first
};

/// What a search tells its progress callback after every evaluation.
struct search_progress {
  std::size_t done = 0;
  std::size_t budget = 0;  ///< at most so many
};

struct ignore_progress {
  void operator()(search_progress) const {}
};

/// Whether a point may be chosen: its value is finite and it keeps within the guards.
inline bool admissible(const line_point& point, const line_point& base, const line_guards& guards) {
  return std::isfinite(point.value) && std::fabs(point.kl) <= guards.max_kl &&
         point.entropy >= guards.min_entropy_ratio * base.entropy &&
         point.length <= guards.max_length_ratio * base.length;
}

namespace detail {

/// The points evaluated so far, by increasing alpha.
template <class F, class Progress>
class line_walk {
 public:
  line_walk(F& f, const line_guards& guards, std::size_t budget, Progress& progress)
      : f_(f), guards_(guards), budget_(budget), progress_(progress) {
    validate(guards);
    evaluate(0);
    require(std::isfinite(base().value), "line search: the value at alpha = 0 is ", base().value);
  }

  bool spent() const { return points_.size() == budget_; }
  const std::vector<line_point>& points() const { return points_; }
  const line_point& base() const { return points_.front(); }
  bool admissible(const line_point& p) const { return rlvr::admissible(p, base(), guards_); }

  /// Index of the largest admissible value; the smallest alpha among equals, and the base before them all.
  std::size_t best() const {
    std::size_t best = 0;
    for (std::size_t i = 1; i < points_.size(); ++i)
      if (admissible(points_[i]) && points_[i].value > points_[best].value) best = i;
    return best;
  }

  line_point evaluate(double alpha) {
    const line_point point = evaluate_at(f_, alpha);
    auto place = points_.end();
    while (place != points_.begin() && (place - 1)->alpha > alpha) --place;
    points_.insert(place, point);
    progress_(search_progress{points_.size(), budget_});
    return point;
  }

  line_search_result finish(line_status status) {
    return {status, points_[best()].alpha, base(), std::move(points_)};
  }

 private:
  F& f_;
  line_guards guards_;
  std::size_t budget_;
  Progress& progress_;
  std::vector<line_point> points_;
};

inline void require_step(double alpha, std::string_view what) {
  require(alpha > 0 && std::isfinite(alpha), what, " is ", alpha, ", expected a positive number");
}

}  // namespace detail

/// Maximises f over alpha > 0 on a geometric ladder that finds its own ends, then refines.
///
/// Evaluates 0 and first_alpha factor^k, k = 0, 1, 2, ...: `initial` of them in any case, then until
/// `falling` in a row have failed to exceed the best value (a tie with the base fails only once something has
/// beaten the base, or half of the budget is spent), or at once when a point is inadmissible. Then k = -1, -2, ...
/// while nothing is above the base, or the smallest alpha is the best or inadmissible. Then, `refinements` times,
/// the geometric means of the best alpha and its two neighbours. For a value with a single peak in log alpha that
/// lies above the base, the result is within a factor factor^(2^-refinements) of it, if the budget lasts. Where
/// nothing is above the base all of it is spent: a peak nearer to 0 cannot be ruled out.
///
/// Ties go to the smaller alpha, and an alpha must exceed the base to count: on a deterministic objective the
/// result is never worse than alpha = 0. The maximum of a noisy objective is optimistic: confirm it on other
/// data.
///
/// Throws std::invalid_argument when first_alpha is not positive and finite, an option is out of its range or
/// the value at 0 is not finite; whatever f throws. At most max_evaluations evaluations, no alpha twice.
template <line_objective F, class Progress = ignore_progress>
line_search_result geometric_search(F&& f, double first_alpha, const line_search_options& options = {},
                                    Progress&& progress = {}) {
  detail::require_step(first_alpha, "geometric_search: first_alpha");
  validate(options);
  detail::line_walk walk(f, options.guards, options.max_evaluations, progress);
  const std::vector<line_point>& points = walk.points();

  std::size_t fallen = 0;
  double alpha = first_alpha;
  for (std::size_t k = 0; !walk.spent() && std::isfinite(alpha); ++k, alpha *= options.factor) {
    const line_point point = walk.evaluate(alpha);
    if (!walk.admissible(point)) break;
    const line_point& best = points[walk.best()];
    // The other half is for the way down: base accuracy 0 and a first alpha that breaks the policy look like this too.
    const bool plateau = point.value == walk.base().value && 2 * points.size() < options.max_evaluations;
    const bool rising = best.alpha == alpha || (best.alpha == 0 && plateau);
    fallen = rising ? 0 : fallen + 1;
    if (fallen >= options.falling && k + 1 >= options.initial) break;
  }

  for (alpha = first_alpha / options.factor; !walk.spent() && alpha > 0; alpha /= options.factor) {
    if (walk.best() > 1 && walk.admissible(points[1])) break;
    walk.evaluate(alpha);
  }

  for (std::size_t round = 0; round < options.refinements; ++round) {
    const std::size_t best = walk.best();
    if (best == 0 || best + 1 == points.size()) break;
    const double ends[] = {points[best - 1].alpha, points[best].alpha, points[best + 1].alpha};
    for (int side = 0; side < 2; ++side) {
      const double middle = std::sqrt(ends[side]) * std::sqrt(ends[side + 1]);
      if (!walk.spent() && middle > ends[side] && middle < ends[side + 1]) walk.evaluate(middle);
    }
  }

  const std::size_t best = walk.best();
  if (best > 0) return walk.finish(best + 1 == points.size() ? line_status::budget_spent : line_status::improved);
  const bool too_far = !walk.admissible(points[1]) || points[1].value < walk.base().value;
  return walk.finish(walk.spent() && too_far ? line_status::budget_spent : line_status::no_improvement);
}

/// Evaluates f at 0 and at the given alphas and takes the best. An alpha at the end of the grid is `improved`
/// like any other: the grid is the caller's choice.
///
/// Throws std::invalid_argument when alphas are empty, not positive and finite, or not increasing, or the
/// value at 0 is not finite; whatever f throws. alphas.size() + 1 evaluations.
template <line_objective F, class Progress = ignore_progress>
line_search_result grid_search(F&& f, std::span<const double> alphas, const line_guards& guards = {},
                               Progress&& progress = {}) {
  require(!alphas.empty(), "grid_search: alphas is empty");
  for (std::size_t i = 0; i < alphas.size(); ++i) {
    detail::require_step(alphas[i], concat("grid_search: alphas[", i, "]"));
    require(i == 0 || alphas[i] > alphas[i - 1], "grid_search: alphas[", i, "] = ", alphas[i],
            " is not above alphas[", i - 1, "] = ", i == 0 ? 0.0 : alphas[i - 1]);
  }
  detail::line_walk walk(f, guards, alphas.size() + 1, progress);
  for (double alpha : alphas) walk.evaluate(alpha);
  return walk.finish(walk.best() == 0 ? line_status::no_improvement : line_status::improved);
}

/// {0.5, 1, 2, 5, 10} alpha_base. Throws std::invalid_argument when alpha_base is not positive and finite.
inline std::array<double, 5> classical_grid(double alpha_base) {
  detail::require_step(alpha_base, "classical_grid: alpha_base");
  return {0.5 * alpha_base, alpha_base, 2 * alpha_base, 5 * alpha_base, 10 * alpha_base};
}

}  // namespace rlvr
