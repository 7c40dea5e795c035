#pragma once
/// Any objective of a token's ratio as one of its sequence's ratio.

#include <cstddef>
#include <span>
#include <vector>

#include <rlvr/objective/objective.hpp>

namespace rlvr {

/// Runs an objective with the log-ratio of every active token replaced by its sequence's mean, D = log_probs -
/// old_log_probs:
///
///     kappa_t = kappa(A_t, r = exp(mean_u D_u))
///
/// With one advantage per sequence this is the gradient of the objective's loss at that ratio, once per token: GSPO
/// with a dual clip from ppo_clip, TRL's importance_sampling_level="sequence" from ppo_clip, cispo and sapo. For
/// objectives that read log_probs and old_log_probs only through D. Branches and throws as the objective, and
/// std::invalid_argument for a log-ratio or its mean that overflows. O(T), two arrays of T. `gspo` does without them.
/// Source: Zheng et al. 2025, arXiv 2507.18071; TRL, OpenRLHF.
template <class Objective>
struct sequence_level {
  Objective of = {};

  template <class Real>
  void operator()(const token_batch<Real>& b, weights_of<Real> weights, coefficients_of<Real> coefficients,
                  std::span<branch> branches = {}) const {
    validate(b, "sequence_level");
    std::vector<Real> mean(b.tokens());
    detail::each_token<detail::combine::assign>(
        "sequence_level", b, detail::advantage_use::unused, {}, mean, {}, detail::now_and_old(b),
        [](std::size_t) { return [](Real, Real now, Real old) { return detail::token_value<Real>{now - old}; }; });
    const std::vector<Real> zero(b.tokens());
    for (std::size_t i = 0; i < b.size(); ++i) {
      const std::size_t n = detail::active_length(b, i);
      if (n == 0) continue;
      const double sum = detail::sum_active(b, i, [&](std::size_t t) { return mean[t]; });
      const Real value = static_cast<Real>(sum / static_cast<double>(n));
      require(is_finite(value), "sequence_level: the mean log-ratio of sequence ", i, " is ", value,
              ", not a finite number");
      for (std::size_t t = b.begin(i); t < b.end(i); ++t) mean[t] = value;
    }
    token_batch<Real> whole = b;
    whole.log_probs = mean;
    whole.old_log_probs = zero;
    of(whole, weights, coefficients, branches);
  }
};

}  // namespace rlvr
