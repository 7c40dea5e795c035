#pragma once
/// GRPO-Guard's ratio normalisation: clipping of a rescaled log-ratio.

#include <rlvr/core/exponential.hpp>
#include <rlvr/objective/objective.hpp>

namespace rlvr {

/// With r = exp(scale (log_probs - old_log_probs)):
///
///     loss  = -min(r A, clamp(r, 1 - low, 1 + high) A) / step
///     kappa = scale r A / step  where A > 0 and r <= 1 + high, or A < 0 and r >= 1 - low;  0 elsewhere
///
/// For flow and diffusion policies: a denoising step with noise sigma sqrt(dt) = s and means that moved by dmu has
/// scale = s, step = dt and a shift b = |dmu|^2 / (2 s^2) of the log-ratio, which the caller subtracts from
/// old_log_probs; then log r is centred and of the same spread at all steps. scale = step = 1 is ppo_clip.
/// Branches as for ppo_clip. Throws std::invalid_argument for low or high negative, scale or step not positive.
/// Source: GRPO-Guard, arXiv 2510.22319 (formula from third-party ports of its code).
struct ratio_normalized_clip {
  double low = 0.2;
  double high = 0.2;
  double scale = 1;
  double step = 1;

  template <class Real>
  void operator()(const token_batch<Real>& b, weights_of<Real> weights, coefficients_of<Real> coefficients,
                  std::span<branch> branches = {}) const {
    require(low >= 0, "ratio_normalized_clip: low is ", low);
    require(high >= 0, "ratio_normalized_clip: high is ", high);
    require(scale > 0 && is_finite(scale), "ratio_normalized_clip: scale is ", scale);
    require(step > 0 && is_finite(step), "ratio_normalized_clip: step is ", step);
    const auto kernel = [floor = static_cast<Real>(1 - low), ceiling = static_cast<Real>(1 + high),
                         s = static_cast<Real>(scale),
                         factor = static_cast<Real>(scale / step)](Real a, Real now, Real old) {
      const Real r = vector_exp(s * (now - old));
      const bool up = (a > 0) & (r > ceiling), down = (a < 0) & (r < floor), drop = up | down;
      const auto code =
          detail::wide_branch<Real>(branch::active).or_if(down, branch::clipped_low).or_if(up, branch::clipped_high);
      return detail::token_value<Real>{a * detail::select(drop, Real(0), r) * factor, code};
    };
    detail::each_token<detail::combine::assign>("ratio_normalized_clip", b, detail::advantage_use::needed, weights,
                                                coefficients, branches, detail::now_and_old(b),
                                                [&](std::size_t) { return kernel; });
  }
};

}  // namespace rlvr
