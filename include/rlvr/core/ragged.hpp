#pragma once
/// Sequences of different lengths in one array.

#include <cstddef>
#include <span>
#include <utility>
#include <vector>

namespace rlvr {

/// Rows of different lengths: row i is values[offsets[i] .. offsets[i+1]).
/// offsets has size() + 1 entries and begins with 0. Trivial memory layout, so that any array library can view it.
template <class T>
struct ragged {
  std::vector<T> values;
  std::vector<std::size_t> offsets{0};

  std::size_t size() const { return offsets.size() - 1; }
  bool empty() const { return size() == 0; }
  std::span<const T> operator[](std::size_t row) const {
    return std::span<const T>(values).subspan(offsets[row], offsets[row + 1] - offsets[row]);
  }
  std::span<T> operator[](std::size_t row) {
    return std::span<T>(values).subspan(offsets[row], offsets[row + 1] - offsets[row]);
  }
  template <class Row>
  void push_back(const Row& row) {
    values.insert(values.end(), std::begin(row), std::end(row));
    offsets.push_back(values.size());
  }
  friend bool operator==(const ragged&, const ragged&) = default;
};

}  // namespace rlvr
