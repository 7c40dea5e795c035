#pragma once
/// Pairs of a hard but solvable prompt and an easy but brittle one.

#include <algorithm>
#include <cstddef>
#include <limits>
#include <span>
#include <vector>

#include <rlvr/core/error.hpp>
#include <rlvr/select/draw.hpp>

namespace rlvr {

/// Of scores that are pass rates: ceil(k/2) prompts with the smallest rates in (0, 1/2), the hard ones that are
/// sometimes solved, and then the k - ceil(k/2) with the largest in [1/2, 1), the easy ones that sometimes fail. Where
/// one side runs short, prompts of the other side and at last those of rate 0 or 1 fill up, nearest to 1/2 first.
/// Models draw. Source: Beyond Variance (arXiv 2602.03452, abstract); which and how many are ours.
struct draw_pairs {
  template <class Score>
  void operator()(const candidate_list& candidates, Score&& score, std::span<prompt_id> out, random_key key) const {
    require(out.size() <= candidates.size(), "select: ", out.size(), " prompts wanted of ", candidates.size());
    const std::size_t hard = (out.size() + 1) / 2;
    const auto rate = [&](prompt_id id) {
      const double p = score(id);
      require(p >= 0 && p <= 1, "draw_pairs: the pass rate of prompt ", id, " is ", p);
      return p;
    };
    // the side's own in [1, 2], the other side's in [-1, 0), no signal at -2
    keep_largest(
        candidates,
        [&](prompt_id id) {
          const double p = rate(id);
          return p <= 0 || p >= 1 ? -2.0 : p < 0.5 ? 2 - p : -p;
        },
        out.first(hard), key.fold(1));
    std::vector<prompt_id> taken(out.begin(), out.begin() + static_cast<std::ptrdiff_t>(hard));
    std::sort(taken.begin(), taken.end());
    keep_largest(
        candidates,
        [&](prompt_id id) {
          if (std::binary_search(taken.begin(), taken.end(), id)) return -std::numeric_limits<double>::infinity();
          const double p = rate(id);
          return p <= 0 || p >= 1 ? -2.0 : p >= 0.5 ? 1 + p : p - 1;
        },
        out.subspan(hard), key.fold(2));
  }
};

}  // namespace rlvr
