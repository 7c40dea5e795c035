#pragma once
/// The linear algebra that every algorithm here stands on, and its two refinements.

#include <concepts>
#include <cstddef>
#include <span>
#include <string>
#include <vector>

namespace rlvr {

/// The vectors of a space.
template <class S>
using vector_t = typename S::vector;

/// A finite-dimensional real vector space whose vectors may live anywhere (the host may not be able to read them).
///
/// With s a const S&, x and y vectors of s, a a double:
///  - `s.dimension()`: the number of coordinates.
///  - `s.zero()`: a new vector, all coordinates +0. May throw std::bad_alloc or a std::runtime_error.
///  - `s.assign(y, x)`: y <- x, bit for bit.
///  - `s.scale(a, y)`: y <- a y. `s.scale(0, y)` makes y zero when y is finite.
///  - `s.axpy(a, x, y)`: y <- y + a x. x and y are different objects. `s.axpy(0, x, y)` leaves y as it is when
///    x is finite.
///  - `s.dot(x, y)`: the inner product, accumulated in double or better; the same bits for the same arguments.
/// Vectors come from `zero()` of an equal space and are movable; nothing else is asked of them. All operations
/// but `zero` act on coordinates independently except `dot`. NaN and infinity pass through as IEEE 754 says.
template <class S>
concept vector_space = requires(const S& s, vector_t<S>& y, const vector_t<S>& x, double a) {
  requires std::movable<vector_t<S>>;
  { s.dimension() } -> std::convertible_to<std::size_t>;
  { s.zero() } -> std::same_as<vector_t<S>>;
  s.assign(y, x);
  s.scale(a, y);
  s.axpy(a, x, y);
  { s.dot(x, x) } -> std::same_as<double>;
};

namespace detail {
/// A function that `elementwise` spaces must be able to map: pure, default constructible, for float and double.
struct example_map {
  template <class T>
  constexpr T operator()(T y, T x) const {
    return x > y ? x : y;
  }
};
}  // namespace detail

/// A vector space that can map a function over coordinates: optimisers, sign, Fisher scalings, sketches.
///
///  - `s.map(f, y, x...)`: y_i <- f(y_i, x_i...) for every i, in unspecified order. f is a pure function object
///    callable with the space's scalar type; on a device it must be callable there.
template <class S>
concept elementwise =
    vector_space<S> && requires(const S& s, vector_t<S>& y, const vector_t<S>& x, detail::example_map f) {
      s.map(f, y, x);
    };

/// One named tensor inside a vector: coordinates [offset, offset + the product of shape), row-major.
struct tensor_slot {
  std::string name;
  std::vector<std::size_t> shape;
  std::size_t offset = 0;

  std::size_t size() const {
    std::size_t n = 1;
    for (std::size_t extent : shape) n *= extent;
    return n;
  }
};

/// A vector space whose coordinates form named tensors: per-tensor directions, saving.
///
///  - `s.tensors()`: the tensors in the order of their offsets, without gaps or overlap, covering [0, dimension()).
template <class S>
concept tensor_layout = vector_space<S> && requires(const S& s) {
  { s.tensors() } -> std::convertible_to<std::span<const tensor_slot>>;
};

}  // namespace rlvr
