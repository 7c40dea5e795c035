#pragma once
/// Contrastive policy gradient.

#include <cstddef>
#include <span>
#include <vector>

#include <rlvr/objective/preference.hpp>

namespace rlvr {

/// With the regularised reward R_i = reward_i - beta sum_t (log_probs - reference_log_probs) of sequence i, over the K
/// sequences of a group (`groups` of the batch; `advantages` holds the rewards):
///
///     loss = weight sum over groups of  1 / (2 beta (K - 1)) sum_{i < j} (R_i - R_j)^2
///     kappa = weight (R_i - mean of the others' R)  on the active tokens of sequence i
///
/// For K = 2: R_i - R_j, the paper's pairwise form. No importance weights: the minimum is the regularised optimum
/// wherever the sequences come from. weight = 1 / B is the mean over sequences. A sequence whose tokens are all masked
/// still counts with its reward: leave unscored rollouts out of the batch. Branches: active; unpaired in a group of one,
/// whose coefficients are 0. Throws std::invalid_argument for arrays missing or not finite, coefficients that overflow,
/// beta not positive. O(T).
/// Source: Flet-Berliac et al. 2024, arXiv 2406.19185; the loss is derived from its gradient.
struct contrastive_policy_gradient {
  double beta = 0.1;

  template <class Real>
  void operator()(const token_batch<Real>& b, double weight, coefficients_of<Real> coefficients,
                  std::span<branch> branches = {}) const {
    const char* who = "contrastive_policy_gradient";
    require(beta > 0 && is_finite(beta), who, ": beta is ", beta);
    require(is_finite(weight), who, ": weight is ", weight);
    validate(b, who);
    require(b.size() == 0 || (!b.groups.empty() && !b.advantages.empty()), who, ": groups or advantages is not given");
    for (std::size_t i = 0; i < b.advantages.size(); ++i)
      require(is_finite(b.advantages[i]), who, ": advantage ", i, " is ", b.advantages[i]);
    std::vector<double> gains = detail::sequence_scores(who, b, sequence_score::sum, coefficients, branches);
    for (std::size_t i = 0; i < b.size(); ++i) gains[i] = static_cast<double>(b.advantages[i]) - beta * gains[i];
    std::vector<detail::sequence_slope> slopes(b.size(), {0, branch::unpaired});
    for (std::size_t g = 0; g + 1 < b.groups.size(); ++g) {
      const std::size_t first = b.groups[g], last = b.groups[g + 1];
      if (last - first < 2) continue;
      const double k = static_cast<double>(last - first);
      double mean = 0;
      for (std::size_t i = first; i < last; ++i) mean += gains[i] / k;
      for (std::size_t i = first; i < last; ++i)
        slopes[i] = {weight * (k / (k - 1)) * (gains[i] - mean), branch::active};
    }
    detail::spread<Real>(who, b, sequence_score::sum, slopes, coefficients, branches);
  }
};

}  // namespace rlvr
