#pragma once
/// The same number of rollouts for every prompt.

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include <rlvr/allocate/allocator.hpp>
#include <rlvr/allocate/spend.hpp>

namespace rlvr {

/// n_i as equal as the ranges allow: n_i = min(max(c, lower_i), upper_i) for one level c, and the rest of the division
/// to the first prompts. Models allocator. Reads no belief, so pass rates of 0 and 1 and prompts without history are
/// like all others. O(n + budget log n).
struct uniform_allocation {
  std::vector<std::uint32_t> operator()(std::span<const prompt_belief> beliefs, std::size_t budget,
                                        std::span<const count_range> ranges) const {
    detail::allocation a = detail::begin_allocation(beliefs, budget, ranges);
    a.left = spend(a.left, a.counts, a.caps, detail::no_gain);
    return a.counts;
  }
};

}  // namespace rlvr
