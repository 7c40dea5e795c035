#pragma once
/// The unified policy gradient estimator: four choices that supervised and reinforcement losses have in common.

#include <array>
#include <limits>

#include <rlvr/core/exponential.hpp>
#include <rlvr/objective/objective.hpp>

namespace rlvr {

/// What the gradient of pi is divided by: pi itself (SFT, REINFORCE), the policy when the update began (PPO, GRPO),
/// the sampler, or 1 (offline data with unknown sampler).
enum class reference_policy { current, old, sampled, one };

/// grad = sum 1_stable (1 / pi_ref) A grad pi, that is
///
///     kappa = 1_stable (pi / pi_ref) A,   1_stable = 0 where A > 0 and pi / pi_ref > 1 + high,
///                                                    or A < 0 and pi / pi_ref < 1 - low;  1 elsewhere
///
/// Instances: SFT {current} with A = 1; REINFORCE {current}; PPO and GRPO {old, low, high} (ppo_clip); off-policy
/// REINFORCE {sampled}; offline RL {one}: kappa = pi A. low = high = infinity: always stable.
/// Branches: clipped_high, clipped_low, active. A ratio that overflows is an error. Throws std::invalid_argument for
/// low or high negative or NaN. Source: HPT, Lv et al. 2025, arXiv 2509.04419, equation 6 and table 1.
struct unified_gradient {
  reference_policy over = reference_policy::current;
  double low = std::numeric_limits<double>::infinity();
  double high = std::numeric_limits<double>::infinity();

  template <class Real>
  void operator()(const token_batch<Real>& b, weights_of<Real> weights, coefficients_of<Real> coefficients,
                  std::span<branch> branches = {}) const {
    require(low >= 0, "unified_gradient: low is ", low);
    require(high >= 0, "unified_gradient: high is ", high);
    detail::token_array<Real> base{"log_probs", b.log_probs};
    if (over == reference_policy::old) base = {"old_log_probs", b.old_log_probs};
    if (over == reference_policy::sampled) base = {"sampled_log_probs", b.sampled_log_probs};
    const auto kernel = [floor = static_cast<Real>(1 - low), ceiling = static_cast<Real>(1 + high),
                         one = over == reference_policy::one](Real a, Real now, Real denominator) {
      const Real r = vector_exp(now - detail::select(one, Real(0), denominator));
      const bool up = (a > 0) & (r > ceiling), down = (a < 0) & (r < floor), drop = up | down;
      const auto code =
          detail::wide_branch<Real>(branch::active).or_if(down, branch::clipped_low).or_if(up, branch::clipped_high);
      return detail::token_value<Real>{a * detail::select(drop, Real(0), r), code};
    };
    detail::each_token<detail::combine::assign>(
        "unified_gradient", b, detail::advantage_use::needed, weights, coefficients, branches,
        std::array<detail::token_array<Real>, 2>{{{"log_probs", b.log_probs}, base}},
        [&](std::size_t) { return kernel; });
  }
};

/// LUFFY's shaped imitation of another policy's rollouts, p = pi(y_t):
///
///     loss = -A p / (p + gamma),    kappa = A gamma p / (p + gamma)^2
///
/// which lets unlikely tokens learn more than p A does. Branch: active.
/// Throws std::invalid_argument unless gamma > 0. Source: Yan et al. 2025, arXiv 2504.14945, gamma 0.1.
struct shaped_imitation {
  double gamma = 0.1;

  template <class Real>
  void operator()(const token_batch<Real>& b, weights_of<Real> weights, coefficients_of<Real> coefficients,
                  std::span<branch> branches = {}) const {
    require(gamma > 0 && is_finite(gamma), "shaped_imitation: gamma is ", gamma);
    const auto kernel = [g = static_cast<Real>(gamma)](Real a, Real now) {
      const Real p = vector_exp(now), sum = p + g;
      return detail::token_value<Real>{a * g * p / (sum * sum)};
    };
    detail::each_token<detail::combine::assign>(
        "shaped_imitation", b, detail::advantage_use::needed, weights, coefficients, branches,
        std::array<detail::token_array<Real>, 1>{{{"log_probs", b.log_probs}}}, [&](std::size_t) { return kernel; });
  }
};

}  // namespace rlvr
