#pragma once
/// How different the completions of a group are.

#include <algorithm>
#include <cstddef>
#include <span>
#include <vector>

#include <rlvr/core/error.hpp>
#include <rlvr/core/rollouts.hpp>
#include <rlvr/core/slice.hpp>

namespace rlvr {

/// Distinct n-grams of tokens among the completions of rollouts [begin, end) of r, over all their n-grams: in (0, 1], 1
/// when none comes twice; 0 without rollouts. A completion shorter than n is one n-gram. Throws std::invalid_argument
/// for n = 0, rollouts that are not in r and damaged offsets. O(T log T) comparisons of n tokens. Source: distinct-n
/// (Li et al., arXiv 1510.03055). MMR1 (arXiv 2509.21268) has it with n = 3; its code leaves shorter completions out,
/// and counts padding.
inline double distinct_ngrams(const rollouts& r, std::size_t begin, std::size_t end, std::size_t n = 3) {
  require(n > 0, "distinct_ngrams: n is 0");
  detail::check_completions(r, begin, end, "distinct_ngrams");
  std::vector<std::span<const token>> grams;
  for (std::size_t i = begin; i < end; ++i) {
    const std::span<const token> completion = r.completion(i);
    const std::size_t width = std::min(n, completion.size());
    for (std::size_t t = 0; t + width <= completion.size(); ++t) {
      grams.push_back(completion.subspan(t, width));
      if (width < n) break;
    }
  }
  if (grams.empty()) return 0;
  std::sort(grams.begin(), grams.end(), [](std::span<const token> a, std::span<const token> b) {
    return std::lexicographical_compare(a.begin(), a.end(), b.begin(), b.end());
  });
  std::size_t distinct = 1;
  for (std::size_t i = 1; i < grams.size(); ++i)
    distinct += !std::equal(grams[i].begin(), grams[i].end(), grams[i - 1].begin(), grams[i - 1].end());
  return static_cast<double>(distinct) / static_cast<double>(grams.size());
}

}  // namespace rlvr
