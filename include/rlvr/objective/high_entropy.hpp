#pragma once
/// Policy gradients on the tokens of highest entropy only.

#include <algorithm>
#include <array>
#include <cstddef>
#include <vector>

#include <rlvr/objective/objective.hpp>

namespace rlvr {

/// The (1 - share) quantile of the entropies of all active tokens, linear interpolation as torch.quantile: with n
/// values in order and h = (1 - share)(n - 1), x[floor h] + (h - floor h)(x[floor h + 1] - x[floor h]). 0 when no token
/// is active. Throws std::invalid_argument for a share outside [0, 1], entropies that are not given or not finite.
/// Expected O(T), one copy of the entropies.
template <class Real>
double entropy_threshold(const token_batch<Real>& b, double share) {
  require(share >= 0 && share <= 1, "entropy_threshold: share is ", share);
  validate(b, "entropy_threshold");
  require(b.tokens() == 0 || !b.entropies.empty(), "entropy_threshold: entropies is not given");
  std::vector<Real> values;
  values.reserve(b.entropies.size());
  for (std::size_t t = 0; t < b.entropies.size(); ++t) {
    if (!b.active(t)) continue;
    require(is_finite(b.entropies[t]), "entropy_threshold: entropies[", b.offsets.front() + t, "] is ", b.entropies[t]);
    values.push_back(b.entropies[t]);
  }
  if (values.empty()) return 0;
  const double h = (1 - share) * static_cast<double>(values.size() - 1);
  const auto at = std::min(static_cast<std::size_t>(h), values.size() - 1);
  const auto place = values.begin() + static_cast<std::ptrdiff_t>(at);
  std::nth_element(values.begin(), place, values.end());
  const double low = static_cast<double>(*place);
  if (at + 1 == values.size()) return low;
  const double next = static_cast<double>(*std::min_element(place + 1, values.end()));
  return low + (h - static_cast<double>(at)) * (next - low);
}

/// Zeroes the coefficients of active tokens whose entropy is below `threshold`; ties are kept. Weights, and so
/// denominators, stay as they were. Call after the objective and before KL terms, which keep acting on all tokens.
/// Branches: rejected; the others keep theirs. The threshold is of the whole batch (entropy_threshold, or one gathered
/// over machines): the micro-batch's own depends on how the batch is cut.
/// Source: Wang et al. 2025, "Beyond the 80/20 rule", arXiv 2506.01939, share 0.2; TRL get_high_entropy_mask. O(T).
struct high_entropy_only {
  double threshold = 0;

  template <class Real>
  void operator()(const token_batch<Real>& b, coefficients_of<Real> coefficients,
                  std::span<branch> branches = {}) const {
    require(is_finite(threshold), "high_entropy_only: threshold is ", threshold);
    const auto kernel = [least = threshold](Real, Real h) {
      const bool drop = static_cast<double>(h) < least;
      return detail::token_value<Real>{drop ? Real(0) : Real(1),
                                       detail::wide_branch<Real>(branch::active).or_if(drop, branch::rejected)};
    };
    detail::each_token<detail::combine::multiply>(
        "high_entropy_only", b, detail::advantage_use::unused, {}, coefficients, branches,
        std::array<detail::token_array<Real>, 1>{{{"entropies", b.entropies}}}, [&](std::size_t) { return kernel; });
  }
};

}  // namespace rlvr
