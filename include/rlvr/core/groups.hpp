#pragma once
/// Which rollouts belong together.

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

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

/// Runs of equal prompt index. O(B).
inline groups groups_of(std::span<const std::uint32_t> prompts) {
  groups out;
  for (std::size_t i = 1; i <= prompts.size(); ++i)
    if (i == prompts.size() || prompts[i] != prompts[i - 1]) out.offsets.push_back(i);
  return out;
}

}  // namespace rlvr
