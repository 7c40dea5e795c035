#pragma once
/// Tapered off-policy REINFORCE.

#include <cmath>
#include <cstddef>

#include <rlvr/core/exponential.hpp>
#include <rlvr/objective/objective.hpp>

namespace rlvr {

/// Whether an importance weight belongs to a token or to the whole sequence.
enum class importance_level { token, sequence };

/// With W = exp(sum_t D) over the sequence (or r_t = exp(D_t)), D = log_probs - old_log_probs, old_log_probs being
/// those of the policy that sampled:
///
///     loss = -sg(a) A log pi,    a = 1 where A >= 0,  clamp(W, min, max) where A < 0,    kappa = a A
///
/// Positive examples are fitted as by supervised learning; negative ones lose weight as the policy leaves them.
/// Branches: clipped_high (W > max) and clipped_low (W < min) keep a gradient. A carries the sign of the reward: give
/// rewards of +-1, or an advantage. ROLL's topr is the token form and takes the sign from the raw score.
/// Throws std::invalid_argument unless 0 <= min <= max.
/// Source: Le Roux et al. 2025, arXiv 2503.14286, sequence level, [0, 1].
struct topr {
  double min = 0;
  double max = 1;
  importance_level level = importance_level::sequence;

  template <class Real>
  void operator()(const token_batch<Real>& b, weights_of<Real> weights, coefficients_of<Real> coefficients,
                  std::span<branch> branches = {}) const {
    require(min >= 0 && min <= max, "topr: the weights are in [", min, ", ", max, "]");
    const auto value = [floor = static_cast<Real>(min), ceiling = static_cast<Real>(max)](Real a, Real w) {
      const Real above = detail::select(w < floor, floor, w), clamped = detail::select(above > ceiling, ceiling, above);
      const bool up = (a < 0) & (w > ceiling), down = (a < 0) & (w < floor);
      const auto code =
          detail::wide_branch<Real>(branch::active).or_if(down, branch::clipped_low).or_if(up, branch::clipped_high);
      return detail::token_value<Real>{a * detail::select(a < 0, clamped, Real(1)), code};
    };
    const auto run = [&](const auto& kernel_of) {
      detail::each_token<detail::combine::assign>("topr", b, detail::advantage_use::needed, weights, coefficients,
                                                  branches, detail::now_and_old(b), kernel_of);
    };
    if (level == importance_level::token)
      run([&](std::size_t) { return [value](Real a, Real now, Real old) { return value(a, vector_exp(now - old)); }; });
    else
      run([&](std::size_t i) {
        const double sum = detail::sum_active(b, i, [&](std::size_t t) { return b.log_probs[t] - b.old_log_probs[t]; });
        return [value, w = static_cast<Real>(std::exp(sum))](Real a, Real, Real) { return value(a, w); };
      });
  }
};

}  // namespace rlvr
