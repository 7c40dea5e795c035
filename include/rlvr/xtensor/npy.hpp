#pragma once
/// Arrays as .npy files, for exchange with NumPy.

#include <algorithm>
#include <array>
#include <cstddef>
#include <exception>
#include <fstream>
#include <ios>
#include <istream>
#include <ostream>
#include <stdexcept>
#include <string>

#include <xtensor/xexpression.hpp>
#include <xtensor/xnpy.hpp>
#include <xtensor/xtensor.hpp>

#include <rlvr/core/error.hpp>

namespace rlvr {

/// Writes an array (or any xtensor expression) to a .npy file, which it replaces.
/// Throws std::runtime_error that names the file when it cannot be written in full.
template <class E>
void save_npy(const std::string& path, const xt::xexpression<E>& array) {
  std::ofstream file(path, std::ios::binary);
  if (!file) throw std::runtime_error(concat(path, ": cannot be opened for writing"));
  file << xt::dump_npy(array) << std::flush;
  if (!file) throw std::runtime_error(concat(path, ": writing failed"));
}

namespace detail {

/// Throws when the shape in the first line promises far more elements than the file has bytes: xtensor would
/// compute with it, overflow and all, before it looks at the data. The slack is for extents beside a 0.
inline void check_npy_shape(std::istream& file, std::size_t length) {
  const std::size_t limit = length + (std::size_t{1} << 24);
  std::string head;
  std::getline(file, head);
  std::size_t elements = 1, at = head.find("'shape'");
  while (at < head.size() && head[at] != ')') {
    if (head[at] < '0' || head[at] > '9') {
      ++at;
      continue;
    }
    std::size_t extent = 0;
    for (; at < head.size() && head[at] >= '0' && head[at] <= '9'; ++at)
      if (extent <= limit) extent = 10 * extent + static_cast<std::size_t>(head[at] - '0');
    if (extent > limit / elements) throw std::runtime_error("the file ends too early");
    if (extent > 0) elements *= extent;
  }
  file.clear();
  file.seekg(0);
}

}  // namespace detail

/// Reads an array of N dimensions and type T from a .npy file; nothing is converted.
/// Throws std::runtime_error that names the file when it cannot be read, is damaged, or holds another type or
/// another number of dimensions.
template <class T, std::size_t N>
xt::xtensor<T, N> load_npy(const std::string& path) {
  std::ifstream file(path, std::ios::binary | std::ios::ate);
  if (!file) throw std::runtime_error(concat(path, ": cannot be opened for reading"));
  try {
    const auto length = static_cast<std::size_t>(file.tellg());
    file.seekg(0);
    detail::check_npy_shape(file, length);
    const auto array = xt::load_npy<T>(file);
    if (!file) throw std::runtime_error("the file ends too early");
    if (array.dimension() != N)
      throw std::runtime_error(concat("the array has ", array.dimension(), " dimensions, expected ", N));
    std::array<std::size_t, N> shape;
    std::copy_n(array.shape().begin(), N, shape.begin());
    xt::xtensor<T, N> out(shape);
    std::copy(array.begin(), array.end(), out.begin());
    return out;
  } catch (const std::exception& error) {
    throw std::runtime_error(concat(path, ": ", error.what()));
  }
}

}  // namespace rlvr
