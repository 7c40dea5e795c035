#pragma once
/// Importance weights divided by their mean over the batch.

#include <cstddef>
#include <vector>

#include <rlvr/objective/importance.hpp>

namespace rlvr {

/// Multiplies coefficients by v / mean(v), v the bounded weights of `correction`: their mean is 1, whatever the bounds
/// took away. The mean is over active tokens for importance_over::token, over sequences with active tokens for the
/// others. A mean of at most 1e-8 divides nothing. Depends on how the batch is cut: call it on whole batches.
/// Branches and throws as importance_correction. O(T), one array of T.
/// Source: verl compute_rollout_correction_weights, rollout_is_batch_normalize.
struct normalized_importance {
  importance_correction correction = {};
  using whole_batch = void;

  template <class Real>
  void operator()(const token_batch<Real>& b, coefficients_of<Real> coefficients,
                  std::span<branch> branches = {}) const {
    validate(b, "normalized_importance");
    std::vector<Real> weight(b.tokens(), Real(1));
    correction(b, std::span<Real>(weight));
    const bool per_token = correction.over == importance_over::token;
    double sum = 0, count = 0;
    for (std::size_t i = 0; i < b.size(); ++i) {
      const std::size_t n = detail::active_length(b, i);
      if (n == 0) continue;
      const double own = detail::sum_active(b, i, [&](std::size_t t) { return weight[t]; });
      sum += per_token ? own : own / static_cast<double>(n);
      count += per_token ? static_cast<double>(n) : 1.0;
    }
    correction(b, coefficients, branches);
    if (!(sum > 1e-8 * count)) return;
    for (std::size_t t = 0; t < coefficients.size(); ++t) {
      coefficients[t] = static_cast<Real>(static_cast<double>(coefficients[t]) * (count / sum));
      require(is_finite(coefficients[t]), "normalized_importance: the coefficient of token ", b.offsets.front() + t,
              " is ", coefficients[t], ", not a finite number");
    }
  }
};

}  // namespace rlvr
