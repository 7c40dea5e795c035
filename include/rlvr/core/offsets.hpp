#pragma once
/// Whether offsets that come from elsewhere can be used to read rows.

#include <cstddef>
#include <span>

#include <rlvr/core/error.hpp>

namespace rlvr::detail {

/// Throws std::invalid_argument, in the name of `who`, where offsets decrease. Messages call them `name` and count them
/// from `first`. O(rows).
inline void check_nondecreasing(std::span<const std::size_t> offsets, const char* who, const char* name = "offsets",
                                std::size_t first = 0) {
  for (std::size_t i = 0; i + 1 < offsets.size(); ++i)
    require(offsets[i] <= offsets[i + 1], who, ": ", name, "[", first + i + 1, "] = ", offsets[i + 1], " is below ",
            name, "[", first + i, "] = ", offsets[i]);
}

/// The same for offsets that are empty or do not begin with 0. The caller checks where they end.
inline void check_offsets(std::span<const std::size_t> offsets, const char* who, const char* name = "offsets") {
  require(!offsets.empty(), who, ": ", name, " is empty");
  require(offsets.front() == 0, who, ": ", name, "[0] = ", offsets.front(), ", but ", name, " must begin with 0");
  check_nondecreasing(offsets, who, name);
}

}  // namespace rlvr::detail
