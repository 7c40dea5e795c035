#pragma once
/// Contrastive policy gradient.

#include <cstddef>
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
/// wherever the sequences come from. A group of one gets 0. weight = 1 / B is the mean over sequences.
/// Throws std::invalid_argument for arrays missing or not finite, beta not positive. O(T).
/// Source: Flet-Berliac et al. 2024, arXiv 2406.19185; the loss is derived from its gradient.
struct contrastive_policy_gradient {
  double beta = 0.1;

  template <class Real>
  void operator()(const token_batch<Real>& b, double weight, coefficients_of<Real> coefficients) const {
    const char* who = "contrastive_policy_gradient";
    require(beta > 0 && is_finite(beta), who, ": beta is ", beta);
    require(is_finite(weight), who, ": weight is ", weight);
    validate(b, who);
    require(b.size() == 0 || (!b.groups.empty() && !b.advantages.empty()), who, ": groups or advantages is not given");
    for (std::size_t i = 0; i < b.advantages.size(); ++i)
      require(is_finite(b.advantages[i]), who, ": advantage ", i, " is ", b.advantages[i]);
    const std::vector<double> scores = detail::sequence_scores(who, b, sequence_score::sum, coefficients);
    std::vector<double> slopes(b.size());
    for (std::size_t g = 0; g + 1 < b.groups.size(); ++g) {
      const std::size_t first = b.groups[g], last = b.groups[g + 1];
      if (last - first < 2) continue;
      const double k = static_cast<double>(last - first);
      double mean = 0;
      for (std::size_t i = first; i < last; ++i)
        mean += (slopes[i] = static_cast<double>(b.advantages[i]) - beta * scores[i]) / k;
      for (std::size_t i = first; i < last; ++i) {
        slopes[i] = weight * (k / (k - 1)) * (slopes[i] - mean);
        require(is_finite(slopes[i]) && is_finite(static_cast<Real>(slopes[i])), who, ": the slope of sequence ", i,
                " is ", slopes[i]);
      }
    }
    detail::spread<Real>(b, sequence_score::sum, slopes, coefficients);
  }
};

}  // namespace rlvr
