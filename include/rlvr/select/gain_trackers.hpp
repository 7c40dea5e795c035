#pragma once
/// Trackers of a gain per visit: what bandit rules maximise. The gain is any function of the outcome.

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <string_view>
#include <vector>

#include <rlvr/core/error.hpp>
#include <rlvr/select/decay.hpp>
#include <rlvr/select/selector.hpp>

namespace rlvr {

/// The gain of a visit is that of its pass rate. For bandit rules it should be within [0, 1].
template <class Rate>
struct gain_of_rate {
  static constexpr std::string_view state_name = detail::name_of<Rate>();
  Rate of = {};
  double operator()(const outcome& o) const { return of(o.mean); }
};

/// weight of the variance of the rewards plus weight of the diversity of the trajectories.
/// Source: MMR1's variance-promotion score (arXiv 2509.21268, section 3).
struct gain_promotion {
  static constexpr std::string_view state_name = "gain_promotion";
  double variance_weight = 0.8;
  double diversity_weight = 0.2;
  double operator()(const outcome& o) const { return variance_weight * o.variance + diversity_weight * o.diversity; }
};

/// The entropy of the tokens or answers of the visit.
struct gain_entropy {
  static constexpr std::string_view state_name = "gain_entropy";
  double operator()(const outcome& o) const { return o.entropy; }
};

/// Gains of one prompt, a visit without scored rollouts counted as one of its gain too (0 for those here), so that a
/// prompt that cannot be scored does not stay at an infinite bound: N visits, their mean and variance (divided by N).
struct gain_belief {
  double visits = 0;
  double mean = 0;
  double variance = 0;
};

/// Counts, sums and squares of the gains, all fading by `fade` at every step:
///
///     N = sum_s fade^(t - s),   mean = sum_s fade^(t - s) gain_s / N        over the visits at steps s <= t.
///
/// 16 bytes per prompt (float32). Models tracker. Source: the statistics of UCB1 with fade 1, of D-UCB (Garivier and
/// Moulines 2008, arXiv 0805.3415) below.
template <class Gain>
class gain_tracker {
 public:
  static constexpr detail::joined_name state_name{"gain_tracker of ", detail::name_of<Gain>()};
  static constexpr std::uint32_t state_version = 1;

  /// Throws std::invalid_argument for a fade outside (0, 1].
  explicit gain_tracker(std::size_t pool, double fade = 1, Gain gain = {})
      : gain_(gain), visits_(pool, fade), mean_(pool), variance_(pool) {}

  std::size_t size() const { return visits_.size(); }
  pool_clock clock() const { return {visits_.step(), visits_.total()}; }

  gain_belief operator[](prompt_id id) const {
    return {visits_[id], static_cast<double>(mean_[id]), static_cast<double>(variance_[id])};
  }

  void observe(prompt_id id, const outcome& o) {
    const double earlier = visits_.add(id, o.step), n = earlier + 1, gain = gain_(o);
    const double old = static_cast<double>(mean_[id]), mean = old + (gain - old) / n;
    variance_[id] =
        static_cast<float>((earlier * static_cast<double>(variance_[id]) + (gain - old) * (gain - mean)) / n);
    mean_[id] = static_cast<float>(mean);
  }

  template <class Self, class Visit>
  static void visit_state(Self& self, Visit&& visit) {
    fading_visits::visit_state(self.visits_, visit);
    visit(self.mean_, "gain mean");
    visit(self.variance_, "gain variance");
  }

 private:
  Gain gain_;
  fading_visits visits_;
  std::vector<float> mean_, variance_;  ///< weighted as the visits
};

/// Counts, sums and squares of the gains among the last `window` visits to the pool. 24 bytes per prompt and 16 per visit
/// of the window. Models tracker. Source: the statistics of SW-UCB (Garivier and Moulines 2008).
template <class Gain>
class gain_window_tracker {
 public:
  static constexpr detail::joined_name state_name{"gain_window_tracker of ", detail::name_of<Gain>()};
  static constexpr std::uint32_t state_version = 1;

  /// Throws std::invalid_argument for window 0.
  gain_window_tracker(std::size_t pool, std::size_t window, Gain gain = {})
      : gain_(gain), visits_(pool), sum_(pool), squares_(pool), ids_(window), gains_(window) {
    require(window > 0, "gain_window_tracker: window is 0");
  }

  std::size_t size() const { return visits_.size(); }
  pool_clock clock() const {
    return {step_, static_cast<double>(std::min<std::uint64_t>(count_, ids_.size()))};
  }

  gain_belief operator[](prompt_id id) const {
    const double n = static_cast<double>(visits_[id]);
    if (n == 0) return {};
    const double mean = sum_[id] / n;
    return {n, mean, std::max(squares_[id] / n - mean * mean, 0.0)};
  }

  void observe(prompt_id id, const outcome& o) {
    const std::size_t slot = count_ % ids_.size();
    if (count_ >= ids_.size()) add(static_cast<prompt_id>(ids_[slot]), gains_[slot], -1);
    ids_[slot] = id;
    gains_[slot] = gain_(o);
    add(id, gains_[slot], 1);
    ++count_;
    step_ = std::max(step_, o.step);
  }

  template <class Self, class Visit>
  static void visit_state(Self& self, Visit&& visit) {
    visit(self.step_, "step");
    visit(self.count_, "count");
    visit(self.visits_, "gain visits");
    visit(self.sum_, "gain sum");
    visit(self.squares_, "gain squares");
    visit(self.ids_, "window ids");
    visit(self.gains_, "window gains");
  }

 private:
  void add(prompt_id id, double gain, int sign) {
    visits_[id] += sign;
    if (visits_[id] == 0) {  // nothing is left of rounding either
      sum_[id] = squares_[id] = 0;
      return;
    }
    sum_[id] += sign * gain;
    squares_[id] += sign * gain * gain;
  }

  Gain gain_;
  std::vector<std::int64_t> visits_;
  std::vector<double> sum_, squares_;
  std::vector<std::uint64_t> ids_;  ///< [window] ring of visits
  std::vector<double> gains_;
  std::uint64_t count_ = 0, step_ = 0;
};

/// The exponentially weighted gain of each prompt, value <- value + weight (gain - value), from `initial` on; weight 1
/// is the last visit's. 4 bytes per prompt (float32). Models tracker.
template <class Gain>
class moving_gain_tracker {
 public:
  static constexpr detail::joined_name state_name{"moving_gain_tracker of ", detail::name_of<Gain>()};
  static constexpr std::uint32_t state_version = 1;

  /// Throws std::invalid_argument for a weight outside (0, 1] and an initial gain that is NaN.
  explicit moving_gain_tracker(std::size_t pool, double weight = 1, double initial = 0, Gain gain = {})
      : gain_(gain), weight_(weight), value_(pool, static_cast<float>(initial)) {
    require(weight > 0 && weight <= 1, "moving_gain_tracker: weight is ", weight, ", outside (0, 1]");
    require(initial == initial, "moving_gain_tracker: initial is ", initial);
  }

  std::size_t size() const { return value_.size(); }
  pool_clock clock() const { return {step_, visits_}; }
  double operator[](prompt_id id) const { return static_cast<double>(value_[id]); }

  void observe(prompt_id id, const outcome& o) {
    const double old = (*this)[id];
    value_[id] = static_cast<float>(weight_ == 1 ? gain_(o) : old + weight_ * (gain_(o) - old));
    step_ = std::max(step_, o.step);
    visits_ += 1;
  }

  template <class Self, class Visit>
  static void visit_state(Self& self, Visit&& visit) {
    visit(self.step_, "step");
    visit(self.visits_, "visits");
    visit(self.value_, "moving gain");
  }

 private:
  Gain gain_;
  double weight_;
  std::vector<float> value_;
  std::uint64_t step_ = 0;
  double visits_ = 0;
};

/// The utility of a tracker that keeps one number per prompt: that number.
struct tracked_value {
  static constexpr std::string_view state_name = "tracked_value";
  double operator()(double value, const pool_clock&) const { return value; }
};

}  // namespace rlvr
