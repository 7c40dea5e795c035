#pragma once
/// Ragged rows as padded [B, T] arrays, the shape of batches in Python, and back.

#include <algorithm>
#include <cstddef>
#include <type_traits>
#include <vector>

#include <xtensor/xtensor.hpp>

#include <rlvr/core/error.hpp>
#include <rlvr/core/offsets.hpp>
#include <rlvr/core/ragged.hpp>

namespace rlvr {

/// B rows padded on the right to the longest of them, T = max length.
template <class T>
struct padded {
  xt::xtensor<T, 2> values;   ///< [B, T]
  xt::xtensor<bool, 2> mask;  ///< [B, T] true where values holds an entry of a row, false at padding
};

/// One column of ragged rows as [B, T]: row i is values[offsets[i] .. offsets[i+1]), then `pad`. With r a rollouts:
/// `pad(r.log_probs, r.offsets)`, `pad(r.tokens, r.offsets, pad_token)`. A copy; rows that all have the same length
/// need none: equal_rows (padded_batch.hpp). Throws std::invalid_argument when offsets does not begin with 0,
/// decreases, or does not end at values.size(). O(B T).
template <class T>
padded<T> pad(const std::vector<T>& values, const std::vector<std::size_t>& offsets,
              std::type_identity_t<T> pad = T{}) {
  detail::check_offsets(offsets, "pad");
  const std::size_t rows = offsets.size() - 1;
  std::size_t width = 0;
  for (std::size_t i = 0; i < rows; ++i) width = std::max(width, offsets[i + 1] - offsets[i]);
  require(offsets.back() == values.size(), "pad: offsets end at ", offsets.back(), ", but there are ", values.size(),
          " values");
  padded<T> out{xt::xtensor<T, 2>({rows, width}, pad), xt::xtensor<bool, 2>({rows, width}, false)};
  for (std::size_t i = 0; i < rows; ++i) {
    const std::size_t length = offsets[i + 1] - offsets[i];
    std::copy_n(values.begin() + static_cast<std::ptrdiff_t>(offsets[i]), length, out.values.data() + i * width);
    std::fill_n(out.mask.data() + i * width, length, true);
  }
  return out;
}

/// Rows as [B, T], padded with `pad`.
template <class T>
padded<T> pad(const ragged<T>& rows, std::type_identity_t<T> pad = T{}) {
  return rlvr::pad(rows.values, rows.offsets, pad);
}

/// The entries under the mask, row by row: the inverse of pad, and `unpad(coefficients, mask).values` is a column in
/// the order of r.tokens. The mask may have gaps and stand anywhere; what it leaves out is dropped. A copy, as the rows
/// own their values; what takes spans can read the padded array where it lies: padded_batch.hpp. Throws
/// std::invalid_argument when values and mask differ in shape. O(B T).
template <class T>
ragged<T> unpad(const xt::xtensor<T, 2>& values, const xt::xtensor<bool, 2>& mask) {
  require(values.shape() == mask.shape(), "unpad: values are [", values.shape(0), ", ", values.shape(1),
          "], but the mask is [", mask.shape(0), ", ", mask.shape(1), "]");
  const std::size_t rows = values.shape(0), width = values.shape(1);
  ragged<T> out;
  out.values.reserve(static_cast<std::size_t>(std::count(mask.data(), mask.data() + mask.size(), true)));
  out.offsets.reserve(rows + 1);
  for (std::size_t i = 0; i < rows; ++i) {
    for (std::size_t k = i * width; k < (i + 1) * width; ++k)
      if (mask.data()[k]) out.values.push_back(values.data()[k]);
    out.offsets.push_back(out.values.size());
  }
  return out;
}

template <class T>
ragged<T> unpad(const padded<T>& batch) {
  return unpad(batch.values, batch.mask);
}

}  // namespace rlvr
