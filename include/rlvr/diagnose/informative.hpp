#pragma once
/// How much of a batch can teach anything.

#include <cstddef>
#include <span>

#include <rlvr/core/error.hpp>
#include <rlvr/core/groups.hpp>
#include <rlvr/core/verdict.hpp>

namespace rlvr {

/// The share of groups whose scored rewards differ: the others have zero advantages and contribute nothing to a
/// gradient with a group baseline. 0 when there are no groups. Throws std::invalid_argument when groups do not cover
/// the verdicts or a scored reward is not finite. O(B).
inline double informative_share(std::span<const verdict> verdicts, const groups& g) {
  detail::check_cover(g, verdicts.size(), "informative_share");
  std::size_t informative = 0;
  for (std::size_t group = 0; group < g.size(); ++group) {
    bool differ = false;
    const verdict* known = nullptr;
    for (std::size_t i = g.begin(group); i < g.end(group); ++i) {
      const verdict& v = verdicts[i];
      if (!v.scored) continue;
      require(is_finite(v.reward), "informative_share: reward ", i, " is ", v.reward);
      differ = differ || (known && known->reward != v.reward);
      known = &v;
    }
    informative += differ;
  }
  return g.size() == 0 ? 0.0 : static_cast<double>(informative) / static_cast<double>(g.size());
}

}  // namespace rlvr
