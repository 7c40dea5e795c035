#pragma once
/// The laws of vector_space and of its refinements.

#include <cmath>
#include <cstddef>
#include <span>
#include <utility>

#include <rlvr/core/error.hpp>
#include <rlvr/core/norm.hpp>
#include <rlvr/core/vector_space.hpp>
#include <rlvr/laws/report.hpp>

namespace rlvr::laws {

/// Tries the axioms of vector_space on three vectors x, y, z and their combinations.
///
/// `fill(v, index)` writes test vector number `index` into v, which comes from space.zero(): the same vector
/// each time for one index, finite, not zero, no two of indices 0, 1, 2 parallel, norms within a factor of
/// about 100 of each other. Only the operations of the space are used, so that the vectors may live on a
/// device. About 60 operations, 12 vectors of memory. A law that needs a working `dot` is only as good as
/// `dot` is, which is why that comes first.
template <vector_space S, class Fill>
violations vector_space_laws(const S& space, const Fill& fill, const law_options& options = {}) {
  report out(options);
  const auto filled = [&](std::size_t index) {
    vector_t<S> v = space.zero();
    fill(v, index);
    return v;
  };
  const vector_t<S> x = filled(0), y = filled(1), z = filled(2);
  const double xx = space.dot(x, x), yy = space.dot(y, y), zz = space.dot(z, z);
  const double xy = space.dot(x, y), xz = space.dot(x, z), yz = space.dot(y, z);
  const double nx = std::sqrt(xx), ny = std::sqrt(yy), nz = std::sqrt(zz);

  out.check(space.dimension() > 0, "dimension: is 0");
  out.check(xx > 0 && yy > 0 && zz > 0, "dot: <v, v> > 0 for v other than zero");
  out.check(xy * xy < xx * yy && xz * xz < xx * zz && yz * yz < yy * zz,
            "dot: Cauchy-Schwarz, strict for vectors that are not parallel");
  out.near(space.dot(y, x), xy, nx * ny, "dot: <y, x> = <x, y>");
  out.same(space.dot(x, y), xy, "dot: the same bits for the same arguments");
  {
    vector_t<S> a = space.zero();
    const vector_t<S> b = space.zero();
    out.same(space.dot(a, a), 0, "zero: <0, 0> = 0");
    out.same(space.dot(a, x), 0, "zero: <0, x> = 0");
    space.axpy(1.0, x, a);
    out.same(space, a, x, "zero: 0 + x = x");
    out.same(space.dot(b, b), 0, "zero: each call gives a vector of its own");
    const vector_t<S> c = space.zero();
    out.same(space.dot(c, c), 0, "zero: a fresh vector is zero, whatever was written before");
  }
  {
    vector_t<S> a = copy_of(space, y);
    space.assign(a, x);
    out.same(space, a, x, "assign: y <- x overwrites y, bit for bit");
    space.scale(2.0, a);
    out.same(space.dot(x, x), xx, "assign: y <- x, then changing y leaves x alone");
  }
  for (const double a : {2.0, -0.75, 1.0 / 3.0}) {
    const double size = 1 + std::fabs(a);
    vector_t<S> v = copy_of(space, x);
    space.scale(a, v);
    out.near(space.dot(v, z), a * xz, size * nx * nz, "scale: <a x, z> = a <x, z>");
    out.near(space.dot(v, v), a * a * xx, size * size * xx, "scale: |a x|^2 = a^2 |x|^2");

    space.assign(v, y);
    space.axpy(a, x, v);
    out.near(space.dot(v, z), yz + a * xz, size * (nx + ny) * nz, "axpy: <y + a x, z> = <y, z> + a <x, z>");
    out.near(space.dot(v, v), yy + 2 * a * xy + a * a * xx, size * size * (nx + ny) * (nx + ny),
             "axpy: |y + a x|^2 = |y|^2 + 2a <x, y> + a^2 |x|^2");
    out.same(space.dot(x, x), xx, "axpy: leaves x alone");
    space.axpy(a, x, v);
    vector_t<S> w = copy_of(space, y);
    space.axpy(2 * a, x, w);
    out.near(space, v, w, size * nx, "axpy: twice adds 2 a x");
    space.axpy(-2 * a, x, v);
    out.near(space, v, y, size * nx, "axpy: adding a x twice and taking 2 a x away gives y");
  }
  {
    vector_t<S> v = copy_of(space, y);
    space.axpy(0.0, x, v);
    out.same(space, v, y, "axpy: a = 0 leaves y as it is");
    space.axpy(-1.0, y, v);
    out.same(space.dot(v, v), 0, "axpy: y - y = 0");
    space.assign(v, y);
    space.scale(1.0, v);
    out.same(space, v, y, "scale: a = 1 leaves y as it is");
    space.scale(0.0, v);
    out.same(space.dot(v, v), 0, "scale: 0 y = 0");
  }
  {
    vector_t<S> left = copy_of(space, x), right = copy_of(space, z);
    space.axpy(1.0, y, left);
    space.axpy(1.0, z, left);  // (x + y) + z
    space.axpy(1.0, y, right);
    space.axpy(1.0, x, right);  // (z + y) + x
    out.near(space, left, right, nx + ny + nz, "axpy: (x + y) + z = (z + y) + x");
    vector_t<S> moved = std::move(left);
    out.near(space, moved, right, nx + ny + nz, "vector: a moved vector keeps its value");
  }
  return out.take();
}

namespace detail {
struct sum_map {
  template <class T>
  constexpr T operator()(T y, T x) const {
    return y + x;
  }
};
struct product_map {
  template <class T>
  constexpr T operator()(T y, T x) const {
    return y * x;
  }
};
struct least_map {
  template <class T>
  constexpr T operator()(T y, T x) const {
    return x < y ? x : y;
  }
};
struct one_map {
  template <class T>
  constexpr T operator()(T, T) const {
    return T(1);
  }
};
}  // namespace detail

/// Tries `map` against the linear operations: sums, products and extremes of coordinates. `fill` as for
/// vector_space_laws, which should hold.
template <elementwise S, class Fill>
violations elementwise_laws(const S& space, const Fill& fill, const law_options& options = {}) {
  report out(options);
  vector_t<S> x = space.zero(), y = space.zero();
  fill(x, 0);
  fill(y, 1);
  const double xx = space.dot(x, x), size = norm(space, x) + norm(space, y);
  vector_t<S> sum = copy_of(space, y);
  space.axpy(1.0, x, sum);

  vector_t<S> mapped = copy_of(space, y);
  space.map(detail::sum_map{}, mapped, x);
  out.near(space, mapped, sum, 0, "map: y_i + x_i is axpy with a = 1");
  out.same(space.dot(x, x), xx, "map: leaves x alone");

  vector_t<S> ones = space.zero();
  space.map(detail::one_map{}, ones, x);
  const double dimension = static_cast<double>(space.dimension());
  out.near(space.dot(ones, ones), dimension, dimension, "map: reaches each of the dimension() coordinates");

  space.assign(mapped, y);
  space.map(detail::product_map{}, mapped, x);
  out.near(space.dot(mapped, ones), space.dot(y, x), size * size, "map: sum of y_i x_i is <y, x>");

  vector_t<S> greatest = copy_of(space, y), least = copy_of(space, y);
  space.map(rlvr::detail::example_map{}, greatest, x);
  space.map(detail::least_map{}, least, x);
  space.axpy(1.0, least, greatest);
  out.near(space, greatest, sum, 0, "map: max(y_i, x_i) + min(y_i, x_i) = y_i + x_i");
  return out.take();
}

/// Checks that the named tensors lie one behind the other and cover the space.
template <tensor_layout S>
violations tensor_layout_laws(const S& space) {
  report out({});
  const std::span<const tensor_slot> tensors = space.tensors();
  std::size_t end = 0;
  for (std::size_t i = 0; i < tensors.size(); ++i) {
    const tensor_slot& t = tensors[i];
    if (t.offset != end)
      out.fail(concat("tensors: ", t.name, " begins at ", t.offset, ", the one before it ends at ", end));
    if (t.name.empty()) out.fail(concat("tensors: tensor ", i, " has no name"));
    for (std::size_t j = 0; j < i; ++j)
      if (tensors[j].name == t.name) out.fail(concat("tensors: two are named ", t.name));
    end = t.offset + t.size();
  }
  if (end != space.dimension())
    out.fail(
        concat("tensors: end at ", end, ", the space has ", std::size_t{space.dimension()}, " coordinates"));
  return out.take();
}

}  // namespace rlvr::laws
