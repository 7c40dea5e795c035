#pragma once
/// How much of a batch can teach anything.

#include <cstddef>
#include <span>

#include <rlvr/core/error.hpp>
#include <rlvr/core/groups.hpp>
#include <rlvr/core/verdict.hpp>

namespace rlvr {

/// The share of groups whose scored rewards differ: the others have zero advantages and contribute nothing to a
/// gradient with a group baseline. 0 when there are no groups. O(B).
inline double informative_share(std::span<const verdict> verdicts, const groups& g) {
  require(g.total() == verdicts.size(), "informative_share: groups of ", g.total(), " rollouts for ",
          verdicts.size(), " verdicts");
  std::size_t informative = 0;
  for (std::size_t group = 0; group < g.size(); ++group) {
    bool differ = false;
    const verdict* known = nullptr;
    for (const verdict& v : verdicts.subspan(g.begin(group), g.size(group))) {
      if (!v.scored) continue;
      differ = differ || (known && known->reward != v.reward);
      known = &v;
    }
    informative += differ;
  }
  return g.size() == 0 ? 0.0 : static_cast<double>(informative) / static_cast<double>(g.size());
}

}  // namespace rlvr
