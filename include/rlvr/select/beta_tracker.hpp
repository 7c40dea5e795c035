#pragma once
/// Beta posteriors of the pass rates of a pool of prompts.

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include <rlvr/core/error.hpp>
#include <rlvr/select/decay.hpp>
#include <rlvr/select/selector.hpp>

namespace rlvr {

/// Beta(alpha, beta) over a pass rate.
struct beta_belief {
  double alpha = 1;
  double beta = 1;
  double rate() const { return alpha / (alpha + beta); }
  double weight() const { return alpha + beta; }
};

/// Counts keep the same share at every visit.
struct keep_share {
  static constexpr std::string_view state_name = "keep_share";

  double share = 1;
  double operator()(const outcome&) const { return share; }
};

/// Counts keep less the more the policy has moved on this prompt: 2^(-D / half_life), clamped to [low, high], with D
/// the outcome's divergence. Source: SPO (arXiv 2509.13232), constants of its recipe.
struct keep_by_divergence {
  static constexpr std::string_view state_name = "keep_by_divergence";

  double half_life = 0.06;
  double low = 0.875;
  double high = 0.96;
  double operator()(const outcome& o) const { return std::clamp(std::exp2(-o.divergence / half_life), low, high); }
};

/// What a beta_tracker begins with and how it forgets.
template <class Keep = keep_share>
struct beta_options {
  double prior_alpha = 1;  ///< added when read, never fades; >= 0
  double prior_beta = 1;
  Keep keep = {};    ///< the share of the counts that survives a visit, in [0, 1]
  double fade = 1;   ///< the share that survives a step without a visit, in (0, 1]
};

/// Counts a, b of successes and failures per prompt, read as Beta(prior_alpha + a, prior_beta + b). A visit with k
/// successes and m failures:
///
///     a <- keep a + k,   b <- keep b + m,
///
/// and every step without a visit (one without scored rollouts is none): a <- fade a, b <- fade b. A fractional reward
/// counts as that share of a success. With both 1 this is the posterior of a fixed rate; with keep the prior is relaxed to, as alpha <- keep alpha +
/// (1 - keep) prior + k. 12 bytes per prompt (float32 counts). Models tracker.
template <class Keep = keep_share>
class beta_tracker {
 public:
  static constexpr detail::joined_name state_name{"beta_tracker of ", detail::name_of<Keep>()};
  static constexpr std::uint32_t state_version = 1;

  /// Throws std::invalid_argument for a prior below 0 or a fade outside (0, 1].
  explicit beta_tracker(std::size_t pool, beta_options<Keep> options = {})
      : options_(options), fade_(options.fade), successes_(pool), failures_(pool), touched_(pool) {
    require(options.prior_alpha >= 0 && options.prior_beta >= 0 && std::isfinite(options.prior_alpha) &&
                std::isfinite(options.prior_beta),
            "beta_tracker: prior Beta(", options.prior_alpha, ", ", options.prior_beta, ")");
  }

  /// Counts as of now, from rollouts of an earlier policy. Throws std::invalid_argument for other sizes than the
  /// pool's and counts that are negative or not finite, with nothing changed.
  void set_counts(std::span<const double> successes, std::span<const double> failures) {
    require(successes.size() == size() && failures.size() == size(), "beta_tracker: counts of ", successes.size(),
            " and ", failures.size(), " prompts for a pool of ", size());
    for (std::size_t i = 0; i < size(); ++i)
      require(successes[i] >= 0 && failures[i] >= 0 && std::isfinite(successes[i] + failures[i]),
              "beta_tracker: counts of prompt ", i, " are ", successes[i], " and ", failures[i]);
    for (std::size_t i = 0; i < size(); ++i) {
      successes_[i] = static_cast<float>(successes[i]);
      failures_[i] = static_cast<float>(failures[i]);
      touched_[i] = static_cast<std::uint32_t>(step_);
    }
  }

  std::size_t size() const { return touched_.size(); }
  pool_clock clock() const { return {step_, visits_}; }

  beta_belief operator[](prompt_id id) const {
    const double left = fade_.over(step_ - touched_[id]);
    return {options_.prior_alpha + left * static_cast<double>(successes_[id]),
            options_.prior_beta + left * static_cast<double>(failures_[id])};
  }

  void observe(prompt_id id, const outcome& o) {
    step_ = std::max(step_, o.step);
    visits_ += 1;
    if (o.rollouts == 0) return;
    const double kept = options_.keep(o) * fade_.until_visit(touched_[id], o.step);
    successes_[id] = static_cast<float>(kept * static_cast<double>(successes_[id]) + o.successes());
    failures_[id] = static_cast<float>(kept * static_cast<double>(failures_[id]) + o.failures());
    touched_[id] = std::max(touched_[id], static_cast<std::uint32_t>(o.step));
  }

  template <class Self, class Visit>
  static void visit_state(Self& self, Visit&& visit) {
    visit(self.step_, "step");
    visit(self.visits_, "visits");
    visit(self.successes_, "successes");
    visit(self.failures_, "failures");
    visit(self.touched_, "touched");
  }

 private:
  beta_options<Keep> options_;
  step_decay fade_;
  std::vector<float> successes_, failures_;
  std::vector<std::uint32_t> touched_;  ///< the step of the last visit
  std::uint64_t step_ = 0;
  double visits_ = 0;
};

}  // namespace rlvr
