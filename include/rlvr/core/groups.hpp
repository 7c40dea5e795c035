#pragma once
/// Which rollouts belong together.

#include <cstddef>
#include <cstdint>
#include <set>
#include <span>
#include <vector>

#include <rlvr/core/error.hpp>
#include <rlvr/core/offsets.hpp>

namespace rlvr {

/// Groups as offsets: group g is [offsets[g], offsets[g+1]). Sizes may differ.
struct groups {
  std::vector<std::size_t> offsets{0};

  std::size_t size() const { return offsets.size() - 1; }
  std::size_t begin(std::size_t g) const { return offsets[g]; }
  std::size_t end(std::size_t g) const { return offsets[g + 1]; }
  std::size_t size(std::size_t g) const { return offsets[g + 1] - offsets[g]; }
  std::size_t total() const { return offsets.back(); }
};

namespace detail {
/// Throws std::invalid_argument, in the name of `who`, unless groups begin at 0, do not overlap and end at the number
/// of verdicts; they may be empty. O(groups).
inline void check_cover(const groups& g, std::size_t verdicts, const char* who) {
  check_offsets(g.offsets, who, "groups.offsets");
  require(g.total() == verdicts, who, ": groups of ", g.total(), " rollouts for ", verdicts, " verdicts");
}
}  // namespace detail

/// Groups of `size` rollouts each. Throws std::invalid_argument when size is 0 or `rollouts` is no multiple of it.
/// O(groups).
inline groups groups_of_size(std::size_t size, std::size_t rollouts) {
  require(size > 0 && rollouts % size == 0, "groups_of_size: ", rollouts, " rollouts in groups of ", size);
  groups out;
  for (std::size_t end = size; end <= rollouts; end += size) out.offsets.push_back(end);
  return out;
}

/// Runs of equal prompt index. Throws std::invalid_argument when an index comes back after another: such rollouts would
/// silently be groups of their own. O(B + P log P) for P groups.
inline groups groups_of(std::span<const std::uint32_t> prompts) {
  groups out;
  std::set<std::uint32_t> seen;
  for (std::size_t i = 0; i < prompts.size(); ++i) {
    if (i > 0 && prompts[i] == prompts[i - 1]) continue;
    if (i > 0) out.offsets.push_back(i);
    require(seen.insert(prompts[i]).second, "groups_of: prompt ", prompts[i], " of rollout ", i,
            " comes back after another; rollouts of one prompt must stand side by side");
  }
  if (!prompts.empty()) out.offsets.push_back(prompts.size());
  return out;
}

}  // namespace rlvr
