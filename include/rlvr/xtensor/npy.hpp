#pragma once
/// Arrays as .npy files, for exchange with NumPy: written whole or not at all, read with nothing lost.

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <limits>
#include <span>
#include <string>
#include <string_view>
#include <tuple>
#include <type_traits>
#include <utility>
#include <vector>

#include <xtensor/xarray.hpp>
#include <xtensor/xeval.hpp>
#include <xtensor/xexpression.hpp>
#include <xtensor/xtensor.hpp>

#include <rlvr/backend/decoder/files.hpp>
#include <rlvr/backend/decoder/mapped_file.hpp>
#include <rlvr/core/error.hpp>
#include <rlvr/xtensor/npy_header.hpp>

namespace rlvr {

/// xtensor expressions whose elements .npy files can hold.
template <class E>
concept npy_expression = npy_element<typename E::value_type>;

/// Writes an array (or any xtensor expression) to a .npy file, row-major, of the type that its elements have.
///
/// The file appears whole or not at all; an older one is replaced by renaming. Throws decoder::file_error naming the
/// path when that fails; an older file is then still there. A row-major array is written from where it lies.
template <npy_expression E>
void save_npy(const std::filesystem::path& path, const xt::xexpression<E>& array) {
  using T = typename E::value_type;
  const auto& values = xt::eval(array.derived_cast());
  const std::vector<std::size_t> shape(values.shape().begin(), values.shape().end());
  decoder::write_file(path, [&](auto& put) {
    put(detail::npy_preamble(npy_type<T>(), shape));
    const auto put_all = [&](const T* data) {
      put(std::string_view(reinterpret_cast<const char*>(data), values.size() * sizeof(T)));
    };
    if (values.layout() == xt::layout_type::row_major) return put_all(values.data());
    const xt::xarray<T, xt::layout_type::row_major> copy(values);
    put_all(copy.data());
  });
}

/// A .npy file that is mapped into memory: its header, and its data without a copy.
class npy_file {
 public:
  /// Throws decoder::input_error when there is no such file or its format is not supported (records, a later
  /// version), decoder::file_error when it cannot be read or is damaged: an invalid header, data that ends early, bytes
  /// behind the array. All name the path. No memory is asked for on the header's word.
  explicit npy_file(const std::filesystem::path& path)
      : path_(path.string()), file_(path), header_(detail::parse_npy(file_.bytes(), path_)) {
    const std::string& type = header_.type;
    constexpr std::string_view known[] = {"b1", "i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8", "f4", "f8"};
    if (type.size() != 3 || std::find(std::begin(known), std::end(known), type.substr(1)) == std::end(known))
      throw decoder::input_error(concat(path_, ": elements of type '", type, "' are not supported"));
    const std::size_t width = static_cast<std::size_t>(type[2] - '0');
    const char native = npy_type<std::uint16_t>()[0];
    if (type[0] != native && width > 1)
      throw decoder::input_error(
          concat(path_, ": elements of type '", type, "' have another byte order than this machine"));

    const std::size_t present = file_.bytes().size() - header_.begin;
    std::size_t needed = width;
    const auto& shape = header_.shape;
    const bool none = std::find(shape.begin(), shape.end(), std::size_t{0}) != shape.end();
    if (none) needed = 0;
    for (std::size_t i = 0; i < shape.size() && !none; ++i) {
      if (shape[i] > present / needed)
        throw decoder::file_error(concat(path_, ": ends too early: ", present, " bytes of data for ", text_of_shape()));
      needed *= shape[i];
    }
    if (needed != present)
      throw decoder::file_error(concat(path_, ": ", present - needed, " bytes behind an array of ", text_of_shape()));
  }

  const npy_header& header() const { return header_; }
  const std::string& path() const { return path_; }
  /// The data, in the order of the file. Valid while this object lives and is not moved from.
  std::span<const char> bytes() const { return file_.bytes().subspan(header_.begin); }

  /// The data as elements, without a copy; valid while this object lives and is not moved from.
  /// Throws decoder::input_error unless it is row-major and of type T, and lies at an address for T, as it does in
  /// all files that NumPy and save_npy write.
  template <npy_number T>
  std::span<const T> values() const {
    check_type<T>();
    if (header_.order != npy_order::row_major) throw decoder::input_error(concat(path_, ": the array is column-major"));
    if (reinterpret_cast<std::uintptr_t>(bytes().data()) % alignof(T) != 0)
      throw decoder::input_error(concat(path_, ": the data begins at byte ", header_.begin, ", which is not aligned"));
    return {reinterpret_cast<const T*>(bytes().data()), bytes().size() / sizeof(T)};
  }

  /// Throws decoder::input_error unless the elements are of type T.
  template <npy_element T>
  void check_type() const {
    if (header_.type.substr(1) != npy_type<T>().substr(1))
      throw decoder::input_error(
          concat(path_, ": elements of type '", header_.type, "', expected '", npy_type<T>(), "'"));
  }

 private:
  std::string text_of_shape() const {
    std::string out = "[";
    for (std::size_t i = 0; i < header_.shape.size(); ++i) out += concat(i > 0 ? ", " : "", header_.shape[i]);
    return out + "]";
  }

  std::string path_;
  decoder::mapped_file file_;
  npy_header header_;
};

/// What load_npy does with another type than the one asked for: refuse it, or convert it when every value stays what it
/// is (int64 tokens that fit, float32 to double, a mask of 0 and 1 in any type to bool).
enum class npy_conversion { none, exact };

namespace detail {

/// to <- from. False when `to` cannot hold the value; NaN stays NaN.
template <class To, class From>
bool convert_exactly(From from, To& to) {
  if constexpr (std::same_as<To, bool>) {
    to = from == From{1};
    return to || from == From{0};
  } else if constexpr (std::integral<From> && std::integral<To>) {
    to = static_cast<To>(from);
    return std::in_range<To>(from);
  } else if constexpr (std::integral<To>) {
    const From top = std::ldexp(From{1}, std::numeric_limits<To>::digits);
    const From bottom = std::is_signed_v<To> ? -top : From{0};
    if (!(from >= bottom && from < top)) return false;
    to = static_cast<To>(from);
    return static_cast<From>(to) == from;
  } else if constexpr (std::integral<From>) {
    to = static_cast<To>(from);
    From back{};
    return convert_exactly(to, back) && back == from;
  } else {
    if (std::isfinite(from) && std::fabs(from) > static_cast<double>(std::numeric_limits<To>::max())) return false;
    to = static_cast<To>(from);
    return static_cast<double>(to) == static_cast<double>(from) || std::isnan(from);
  }
}

/// Calls f(row-major index, file index) for every element of a file's array. O(elements).
template <class F>
void for_each_index(const npy_header& header, std::size_t count, F f) {
  if (header.order == npy_order::row_major || header.shape.size() < 2) {
    for (std::size_t k = 0; k < count; ++k) f(k, k);
    return;
  }
  const std::size_t rank = header.shape.size();
  std::vector<std::size_t> strides(rank, 1), at(rank, 0);
  for (std::size_t d = 1; d < rank; ++d) strides[d] = strides[d - 1] * header.shape[d - 1];
  std::size_t from = 0;
  for (std::size_t k = 0; k < count; ++k) {
    f(k, from);
    for (std::size_t d = rank; d-- > 0;) {
      from += strides[d];
      if (++at[d] < header.shape[d]) break;
      from -= strides[d] * header.shape[d];
      at[d] = 0;
    }
  }
}

/// out <- the elements of a file, which are of type Stored (uint8_t for bool).
template <class Stored, class T>
void read_elements(const npy_file& file, T* out) {
  const char* bytes = file.bytes().data();
  const std::size_t count = file.bytes().size() / sizeof(Stored);
  if (std::same_as<Stored, T> && file.header().order == npy_order::row_major) {
    if (count > 0) std::memcpy(out, bytes, count * sizeof(T));
    return;
  }
  for_each_index(file.header(), count, [&](std::size_t to, std::size_t from) {
    Stored value;
    std::memcpy(&value, bytes + from * sizeof value, sizeof value);
    if (!convert_exactly(value, out[to]))
      throw decoder::input_error(concat(file.path(), ": element ", from, " of type '", file.header().type, "' is ",
                                        value, ", which '", npy_type<T>(), "' cannot hold"));
  });
}

}  // namespace detail

/// Reads an array of N dimensions and type T from a .npy file, row- or column-major.
///
/// Another type is refused, or converted without loss when asked for. Throws what npy_file throws, and
/// decoder::input_error that names the file when it holds another type, another number of dimensions, or a value that T
/// cannot hold, with its place in the file. One copy, straight from the mapped file. O(elements).
template <npy_element T, std::size_t N>
xt::xtensor<T, N> load_npy(const std::filesystem::path& path, npy_conversion conversion = npy_conversion::none) {
  const npy_file file(path);
  const npy_header& header = file.header();
  if (header.shape.size() != N)
    throw decoder::input_error(
        concat(file.path(), ": the array has ", header.shape.size(), " dimensions, expected ", N));
  if (conversion == npy_conversion::none) file.check_type<T>();
  std::array<std::size_t, N> shape;
  if constexpr (N > 0) std::copy(header.shape.begin(), header.shape.end(), shape.begin());
  xt::xtensor<T, N> out(shape);
  const auto read_as = [&]<class... Stored>(std::tuple<Stored...>) {
    const std::string_view kind = std::string_view(header.type).substr(1);
    const auto try_one = [&](const std::string& type, auto read) {
      if (kind == std::string_view(type).substr(1)) read(file, out.data());
    };
    (try_one(npy_type<Stored>(), detail::read_elements<Stored, T>), ...);
  };
  if (header.type == "|b1")  // any byte may stand in the file, but a bool is 0 or 1
    detail::read_elements<std::uint8_t>(file, out.data());
  else
    read_as(std::tuple<std::int8_t, std::uint8_t, std::int16_t, std::uint16_t, std::int32_t, std::uint32_t,
                       std::int64_t, std::uint64_t, float, double>{});
  return out;
}

}  // namespace rlvr
