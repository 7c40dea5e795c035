#pragma once
/// The chance that at least one of k rollouts is correct.

#include <cstddef>
#include <span>
#include <vector>

#include <rlvr/core/error.hpp>
#include <rlvr/core/groups.hpp>
#include <rlvr/core/verdict.hpp>
#include <rlvr/diagnose/interval.hpp>

namespace rlvr {

/// Unbiased pass@k of one prompt: 1 - C(n-c, k) / C(n, k) for c correct among n rollouts, as a product of
/// min(c, k) factors below 1, so that nothing overflows.
/// Throws std::invalid_argument when k is 0 or above n, or c above n. O(min(c, k)).
/// Source: Chen et al. 2021 (arXiv 2107.03374), equation 1.
inline double pass_at_k(std::size_t n, std::size_t c, std::size_t k) {
  require(k > 0 && k <= n, "pass_at_k: k is ", k, " for ", n, " rollouts");
  require(c <= n, "pass_at_k: ", c, " correct of ", n, " rollouts");
  // C(n-c, k) / C(n, k) = C(n-k, c) / C(n, c): symmetric in c and k.
  const std::size_t fewer = c < k ? c : k, more = c < k ? k : c;
  double all_wrong = 1;
  for (std::size_t i = 0; i < fewer; ++i) {
    if (i + more >= n) return 1;
    all_wrong *= static_cast<double>(n - more - i) / static_cast<double>(n - i);
  }
  return 1 - all_wrong;
}

/// Mean of pass@k over groups, one group per prompt, with an interval clustered by prompt. Correct means
/// scored with a reward above `correct_above`; n counts the scored rollouts of the group. Throws
/// std::invalid_argument when groups do not cover the verdicts, one has fewer than k scored rollouts, k is 0, or
/// confidence is outside (0, 1). O(B).
inline interval pass_at_k(std::span<const verdict> verdicts, const groups& g, std::size_t k,
                          double correct_above = 0.5, double confidence = 0.95) {
  detail::check_cover(g, verdicts.size(), "pass_at_k");
  std::vector<double> per_prompt;
  per_prompt.reserve(g.size());
  for (std::size_t group = 0; group < g.size(); ++group) {
    std::size_t n = 0, c = 0;
    for (std::size_t i = g.begin(group); i < g.end(group); ++i) {
      n += verdicts[i].scored;
      c += verdicts[i].scored && verdicts[i].reward > correct_above;
    }
    require(k > 0 && k <= n, "pass_at_k: k is ", k, ", but group ", group, " has ", n, " scored rollouts");
    per_prompt.push_back(pass_at_k(n, c, k));
  }
  return mean_interval(per_prompt, confidence);
}

}  // namespace rlvr
