#pragma once
/// Which rows of a cache are free.

#include <cstdint>
#include <iterator>
#include <map>
#include <optional>

namespace rlvr::cuda {

/// Ranges of free rows. O(ranges).
class row_ranges {
 public:
  explicit row_ranges(std::int32_t rows) {
    if (rows > 0) free_.emplace(0, rows);
  }

  /// The first of `count` > 0 rows side by side, the lowest there are; they are then taken.
  std::optional<std::int32_t> take(std::int32_t count) {
    for (auto range = free_.begin(); range != free_.end(); ++range) {
      const auto [row, length] = *range;
      if (length < count) continue;
      free_.erase(range);
      if (length > count) free_.emplace(row + count, length - count);
      return row;
    }
    return std::nullopt;
  }

  /// Gives back rows that were taken.
  void give(std::int32_t row, std::int32_t count) {
    auto behind = free_.lower_bound(row);
    if (behind != free_.end() && row + count == behind->first) {
      count += behind->second;
      behind = free_.erase(behind);
    }
    if (behind != free_.begin()) {
      const auto before = std::prev(behind);
      if (before->first + before->second == row) {
        before->second += count;
        return;
      }
    }
    free_.emplace(row, count);
  }

 private:
  std::map<std::int32_t, std::int32_t> free_;  ///< first row -> length; never adjacent
};

}  // namespace rlvr::cuda
