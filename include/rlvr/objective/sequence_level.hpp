#pragma once
/// Any objective of a token's ratio as one of its sequence's ratio.

#include <cstddef>
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
/// objectives that read log_probs and old_log_probs only through D. Throws and branches as the objective; a log-ratio
/// that is not finite is reported as the first of its sequence's. O(T), two arrays of T. `gspo` does without them.
template <class Objective>
struct sequence_level {
  Objective of = {};

  template <class Real>
  void operator()(const token_batch<Real>& b, weights_of<Real> weights, coefficients_of<Real> coefficients,
                  std::span<branch> branches = {}) const {
    validate(b, "sequence_level");
    for (const auto& a : detail::now_and_old(b))
      require(b.tokens() == 0 || !a.values.empty(), "sequence_level: ", a.name, " is not given");
    std::vector<Real> mean(b.tokens());
    const std::vector<Real> zero(b.tokens());
    for (std::size_t i = 0; i < b.size(); ++i) {
      const std::size_t n = detail::active_length(b, i);
      if (n == 0) continue;
      const double sum = detail::sum_active(b, i, [&](std::size_t t) { return b.log_probs[t] - b.old_log_probs[t]; });
      for (std::size_t t = b.begin(i); t < b.end(i); ++t) mean[t] = static_cast<Real>(sum / static_cast<double>(n));
    }
    token_batch<Real> whole = b;
    whole.log_probs = mean;
    whole.old_log_probs = zero;
    of(whole, weights, coefficients, branches);
  }
};

}  // namespace rlvr
