#pragma once
/// What a pass rate is worth: functions of p that selectors maximise, and how they are read off a posterior.

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <string_view>

#include <rlvr/select/beta_tracker.hpp>
#include <rlvr/select/beta_draw.hpp>
#include <rlvr/select/selector.hpp>

namespace rlvr {

// Each is a function object of p in [0, 1] with `peak`, the p of its largest value; all rise before it and fall after.

/// p, the success rate of the bandit literature.
struct rate_itself {
  static constexpr std::string_view state_name = "rate_itself";
  static constexpr double peak = 1;
  double operator()(double p) const { return p; }
};

/// p (1 - p), the variance of a binary reward: learnability (LILO, arXiv 2502.12272), MMR1's outcome variance.
struct rate_variance {
  static constexpr std::string_view state_name = "rate_variance";
  static constexpr double peak = 0.5;
  double operator()(double p) const { return p * (1 - p); }
};

/// p (1 - p)^2: VADE's information gain (arXiv 2511.18902), Knapsack RL's value.
struct rate_information {
  static constexpr std::string_view state_name = "rate_information";
  static constexpr double peak = 1.0 / 3;
  double operator()(double p) const { return p * (1 - p) * (1 - p); }
};

/// sqrt(p (1 - p)), the deviation of a binary reward; also half the mean |A| under group-normalised advantages.
struct rate_deviation {
  static constexpr std::string_view state_name = "rate_deviation";
  static constexpr double peak = 0.5;
  double operator()(double p) const { return std::sqrt(p * (1 - p)); }
};

/// 2 p (1 - p), the mean |A| of centred advantages.
struct rate_advantage {
  static constexpr std::string_view state_name = "rate_advantage";
  static constexpr double peak = 0.5;
  double operator()(double p) const { return 2 * p * (1 - p); }
};

/// 1 - p^n - (1 - p)^n, the probability that n rollouts do not all have the same reward: the expectation of
/// 1[0 < k < n].
struct rate_mixed {
  static constexpr std::string_view state_name = "rate_mixed";
  static constexpr double peak = 0.5;
  double rollouts = 8;
  double operator()(double p) const { return 1 - std::pow(p, rollouts) - std::pow(1 - p, rollouts); }
};

/// -(p - target)^2. Source: MoPPS, target 1/2 (arXiv 2507.04632).
struct rate_near {
  static constexpr std::string_view state_name = "rate_near";
  double peak = 0.5;
  double operator()(double p) const { return -(p - peak) * (p - peak); }
};

/// 0 inside [low, high] and minus the distance outside: with draw_top random ones inside, and then those nearest to it.
/// Source: MoPPS, threshold mode.
struct rate_band {
  static constexpr std::string_view state_name = "rate_band";
  double low = 0.3;
  double high = 0.7;
  double operator()(double p) const { return std::min({p - low, high - p, 0.0}); }
};

/// floor + (1 - p). Source: Kimi k1.5's prioritised sampling (arXiv 2501.12599, section 2.3.4), with draw_proportional
/// and without a floor; the floor lets a solved prompt come back.
struct rate_failure {
  static constexpr std::string_view state_name = "rate_failure";
  double floor = 0;
  double operator()(double p) const { return floor + (1 - p); }
};

/// Utility of the posterior mean: the greedy rule.
template <class Rate>
struct expected {
  static constexpr detail::joined_name state_name{"expected ", detail::name_of<Rate>()};
  Rate of = {};
  double operator()(const beta_belief& b, const pool_clock&) const { return of(b.weight() > 0 ? b.rate() : 0.5); }
};

/// Utility of one draw from the posterior: Thompson's rule for that utility.
/// Source: Thompson 1933; over a utility of the pass rate VADE and MoPPS.
template <class Rate>
struct sampled {
  static constexpr detail::joined_name state_name{"sampled ", detail::name_of<Rate>()};
  Rate of = {};
  double operator()(const beta_belief& b, const pool_clock&, const prompt_draws& draws) const {
    return of(beta_draw(b.alpha, b.beta, draws));
  }
};

}  // namespace rlvr
