#pragma once
/// Direct reward optimisation: a quadratic penalty on the log-ratio in the place of importance weights.

#include <cstddef>

#include <rlvr/objective/objective.hpp>
#include <rlvr/objective/topr.hpp>

namespace rlvr {

/// With D = log_probs - old_log_probs (per token), or its sum over the sequence's active tokens:
///
///     token:    loss = -A log pi + beta / 2 D^2,                    kappa_t = A - beta D_t
///     sequence: loss = -A log pi(y) + beta / 2 (sum_t D)^2,          kappa_t = A - beta sum_u D_u
///
/// Off-policy without importance weights. The sequence form has the gradient of (1 / 2 beta) (A - beta sum D)^2, which
/// is Kimi k1.5's loss with A the reward less its mean over the prompt; weight it by sequence_mean_of_token_sum.
/// Branch: active.
/// Throws std::invalid_argument unless beta > 0. Source: Richemond et al. 2024, arXiv 2405.19107; verl's dro (token,
/// no default beta); Kimi k1.5, arXiv 2501.12599; ROLL's kimi15 (tau 0.1).
struct dro {
  double beta = 0.1;
  importance_level level = importance_level::token;

  template <class Real>
  void operator()(const token_batch<Real>& b, weights_of<Real> weights, coefficients_of<Real> coefficients,
                  std::span<branch> branches = {}) const {
    require(beta > 0 && is_finite(beta), "dro: beta is ", beta);
    const bool whole = level == importance_level::sequence;
    detail::each_token<detail::combine::assign>(
        "dro", b, detail::advantage_use::needed, weights, coefficients, branches, detail::now_and_old(b),
        [&, strength = static_cast<Real>(beta)](std::size_t i) {
          const Real sum = whole ? static_cast<Real>(detail::sum_active(
                                       b, i, [&](std::size_t t) { return b.log_probs[t] - b.old_log_probs[t]; }))
                                 : Real(0);
          return [strength, sum, whole](Real a, Real now, Real old) {
            return detail::token_value<Real>{a - strength * (whole ? sum : now - old)};
          };
        });
  }
};

}  // namespace rlvr
