#pragma once
/// Padded [B, T] arrays and ragged spans of the same memory: what needs no copy, and the labels of a batch from Python.
///
/// An objective reads a padded batch where it lies, and writes its coefficients as [B, T]:
///
///     const std::vector<double> a = group_normalized{}(verdicts, groups);
///     const std::vector<float> advantages(a.begin(), a.end());  // estimators give double, as the batch's floats
///     const std::vector<std::size_t> rows = row_offsets(mask.shape(0), mask.shape(1));
///     token_batch<float> b;
///     b.offsets = rows;
///     b.advantages = advantages;
///     b.log_probs = flat(log_probs, mask.shape(), "log_probs");
///     b.old_log_probs = flat(old_log_probs, mask.shape(), "old_log_probs");
///     b.mask = mask_of(mask);
///     xt::xtensor<float, 2> c(mask.shape());
///     ppo_clip{}(b, sequence_weights(b, token_mean), flat(c));
///
/// What lies in a .npy file can be read in the same way where it is mapped: `npy_file(path).values<float>()`.

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <unordered_set>
#include <vector>

#include <xtensor/xadapt.hpp>
#include <xtensor/xtensor.hpp>

#include <rlvr/core/error.hpp>
#include <rlvr/core/groups.hpp>
#include <rlvr/core/offsets.hpp>
#include <rlvr/core/rewards.hpp>
#include <rlvr/core/verdict.hpp>

namespace rlvr {

/// The elements of a row-major array as a span of the same memory: [B, T] becomes B rows of T one behind the other.
/// Valid until the array is resized or gone.
template <class T, std::size_t N>
std::span<T> flat(xt::xtensor<T, N>& array) {
  return {array.data(), array.size()};
}
template <class T, std::size_t N>
std::span<const T> flat(const xt::xtensor<T, N>& array) {
  return {array.data(), array.size()};
}
template <class T, std::size_t N>
void flat(const xt::xtensor<T, N>&&) = delete;  // it would dangle

namespace detail {
template <std::size_t N>
std::string shape_text(const std::array<std::size_t, N>& shape) {
  std::string out;
  for (const std::size_t extent : shape) out += concat(out.empty() ? "" : ", ", extent);
  return "[" + out + "]";
}
}  // namespace detail

/// The same where every array of a batch must have one shape, its mask's for instance: transposed, [T, B], an array has
/// as many elements, and they would belong to other tokens. Throws std::invalid_argument with both shapes; `name`, the
/// array's, begins the message.
template <class T, std::size_t N>
std::span<T> flat(xt::xtensor<T, N>& array, const std::array<std::size_t, N>& shape, std::string_view name) {
  require(array.shape() == shape, name, ": its shape is ", detail::shape_text(array.shape()), ", but the batch's is ",
          detail::shape_text(shape));
  return flat(array);
}
template <class T, std::size_t N>
std::span<const T> flat(const xt::xtensor<T, N>& array, const std::array<std::size_t, N>& shape,
                        std::string_view name) {
  require(array.shape() == shape, name, ": its shape is ", detail::shape_text(array.shape()), ", but the batch's is ",
          detail::shape_text(shape));
  return flat(array);
}
template <class T, std::size_t N>
void flat(const xt::xtensor<T, N>&&, const std::array<std::size_t, N>&, std::string_view) = delete;

/// The bytes of a mask as token_batch reads them, 0 or 1, of the same memory.
template <std::size_t N>
std::span<const std::uint8_t> mask_of(const xt::xtensor<bool, N>& mask) {
  static_assert(sizeof(bool) == sizeof(std::uint8_t));
  return {reinterpret_cast<const std::uint8_t*>(mask.data()), mask.size()};
}
template <std::size_t N>
void mask_of(const xt::xtensor<bool, N>&&) = delete;

/// The offsets of `rows` rows of `width` each: 0, width, 2 width, ...; with them a flat [rows, width] array is ragged.
inline std::vector<std::size_t> row_offsets(std::size_t rows, std::size_t width) {
  std::vector<std::size_t> offsets(rows + 1);
  for (std::size_t i = 0; i <= rows; ++i) offsets[i] = i * width;
  return offsets;
}

/// A column of rows that all have the same length as an array [B, T] of the same memory, an xtensor expression.
/// T is const for a read-only view. Valid until the column is resized or gone. Throws std::invalid_argument when the
/// rows differ in length (pad copies such) or offsets do not end at values.size(). O(B).
template <class T>
auto equal_rows(std::span<T> values, std::span<const std::size_t> offsets) {
  detail::check_offsets(offsets, "equal_rows");
  const std::size_t rows = offsets.size() - 1, width = rows > 0 ? offsets[1] : 0;
  for (std::size_t i = 0; i < rows; ++i)
    require(offsets[i + 1] == (i + 1) * width, "equal_rows: offsets[", i + 1, "] = ", offsets[i + 1], ", but rows of ",
            width, " end at ", (i + 1) * width);
  require(offsets.back() == values.size(), "equal_rows: offsets end at ", offsets.back(), ", but there are ",
          values.size(), " values");
  return xt::adapt(values.data(), values.size(), xt::no_ownership(), std::array<std::size_t, 2>{rows, width});
}

/// Verdicts from an array of rewards, as verdicts_of of a span. Throws as it.
template <class T>
std::vector<verdict> verdicts_of(const xt::xtensor<T, 1>& rewards) {
  return verdicts_of(std::span<const double>(std::vector<double>(rewards.begin(), rewards.end())));
}

/// Groups from an array with any id per row, rows of one group side by side. Throws std::invalid_argument when an id
/// comes back after another: such rows would silently be groups of their own (sort the rows first,
/// `np.argsort(ids, kind="stable")`). O(B).
template <class Id>
groups groups_of_ids(const xt::xtensor<Id, 1>& ids) {
  groups out;
  std::unordered_set<Id> seen;
  for (std::size_t i = 0; i < ids.size(); ++i) {
    if (i > 0 && ids(i) == ids(i - 1)) continue;
    if (i > 0) out.offsets.push_back(i);
    require(seen.insert(ids(i)).second, "groups_of_ids: id ", ids(i), " of row ", i,
            " comes back after another; rows of one group must stand side by side");
  }
  if (ids.size() > 0) out.offsets.push_back(ids.size());
  return out;
}

}  // namespace rlvr
