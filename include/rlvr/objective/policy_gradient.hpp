#pragma once
/// REINFORCE as an objective: with masks, per-token advantages and aggregation weights.

#include <array>
#include <cstddef>
#include <span>

#include <rlvr/objective/objective.hpp>

namespace rlvr {

/// loss = -A log pi,  kappa = A. Reads no log-probabilities. Branch: active.
/// Supervised fine-tuning is the case A = 1 (see supervised.hpp). Source: Williams 1992; GPG's loss, verl's gpg,
/// NeMo-RL's disable_ppo_ratio. reinforce_coefficients is the same for whole rollouts without masks.
struct policy_gradient {
  template <class Real>
  void operator()(const token_batch<Real>& b, weights_of<Real> weights, coefficients_of<Real> coefficients,
                  std::span<branch> branches = {}) const {
    detail::each_token<detail::combine::assign>(
        "policy_gradient", b, detail::advantage_use::needed, weights, coefficients, branches,
        std::array<detail::token_array<Real>, 0>{},
        [](std::size_t) { return [](Real a) { return detail::token_value<Real>{a}; }; });
  }
};

}  // namespace rlvr
