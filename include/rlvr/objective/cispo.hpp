#pragma once
/// Policy gradients with truncated importance weights that never lose a token.

#include <algorithm>

#include <rlvr/core/exponential.hpp>
#include <rlvr/objective/objective.hpp>

namespace rlvr {

/// With r = exp(log_probs - old_log_probs), log r clamped to +-log_ratio_limit, and sg() what no gradient goes through:
///
///     loss = -sg(clamp(r, min, max)) A log pi,    kappa = clamp(r, min, max) A
///
/// Branches: clipped_high (r > max), clipped_low (r < min) and saturated (the clamp of log r) keep a gradient here,
/// with the bound as weight. min = 0, max = 5 are ScaleRL's (arXiv 2510.13786) and what TRL recommends; TRL's
/// epsilon_high is max itself and falls back to epsilon = 0.2. verl, slime and NeMo-RL have min = 1 - clip_low and max
/// = 1 + clip_high. The clamp of log r is verl's; TRL and NeMo-RL have none. Throws std::invalid_argument unless 0 <=
/// min <= max and log_ratio_limit > 0. Source: MiniMax-M1, arXiv 2506.13585.
struct cispo {
  double min = 0;
  double max = 5;
  double log_ratio_limit = 20;

  template <class Real>
  void operator()(const token_batch<Real>& b, weights_of<Real> weights, coefficients_of<Real> coefficients,
                  std::span<branch> branches = {}) const {
    require(min >= 0 && min <= max, "cispo: the weights are in [", min, ", ", max, "]");
    require(log_ratio_limit > 0, "cispo: log_ratio_limit is ", log_ratio_limit);
    const Real limit = static_cast<Real>(log_ratio_limit), top = vector_exp(limit), bottom = vector_exp(-limit);
    const Real floor = static_cast<Real>(min), ceiling = static_cast<Real>(max);
    // Both clamps are one: to the bounds of log r, themselves clamped.
    const Real least = std::clamp(bottom, floor, ceiling), most = std::clamp(top, floor, ceiling);
    const auto kernel = [=](Real a, Real now, Real old) {
      const Real r = vector_exp(now - old), raised = detail::select(r < least, least, r);
      const auto code = detail::wide_branch<Real>(branch::active)
                            .or_if((r > top) | (r < bottom), branch::saturated)
                            .or_if(r < floor, branch::clipped_low)
                            .or_if(r > ceiling, branch::clipped_high);
      return detail::token_value<Real>{a * detail::select(raised > most, most, raised), code};
    };
    detail::each_token<detail::combine::assign>("cispo", b, detail::advantage_use::needed, weights, coefficients,
                                                branches, detail::now_and_old(b), [&](std::size_t) { return kernel; });
  }
};

/// SkyRL's rollout_is: loss = -sg(r) A log pi where 1 - low < r < 1 + high, 0 outside, for either sign of A.
///
///     kappa = A r  where 1 - low < r < 1 + high;  0 elsewhere
///
/// Unlike cispo it loses tokens, and unlike ppo_clip also those whose gradient would bring r back. The clipping of
/// IcePop with old_log_probs in the place of the sampler's. Branches: clipped_high, clipped_low, active.
/// Throws std::invalid_argument for low or high negative or NaN. Source: SkyRL's rollout_is.
struct masked_ratio {
  double low = 0.2;
  double high = 0.2;

  template <class Real>
  void operator()(const token_batch<Real>& b, weights_of<Real> weights, coefficients_of<Real> coefficients,
                  std::span<branch> branches = {}) const {
    require(low >= 0, "masked_ratio: low is ", low);
    require(high >= 0, "masked_ratio: high is ", high);
    const auto kernel = [floor = static_cast<Real>(1 - low), ceiling = static_cast<Real>(1 + high)](Real a, Real now,
                                                                                                    Real old) {
      const Real r = vector_exp(now - old);
      const bool up = r >= ceiling, down = r <= floor, drop = up | down;
      const auto code =
          detail::wide_branch<Real>(branch::active).or_if(down, branch::clipped_low).or_if(up, branch::clipped_high);
      return detail::token_value<Real>{a * detail::select(drop, Real(0), r), code};
    };
    detail::each_token<detail::combine::assign>("masked_ratio", b, detail::advantage_use::needed, weights, coefficients,
                                                branches, detail::now_and_old(b), [&](std::size_t) { return kernel; });
  }
};

}  // namespace rlvr
