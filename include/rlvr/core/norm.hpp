#pragma once
/// Lengths and angles in any vector space.

#include <cmath>
#include <limits>

#include <rlvr/core/vector_space.hpp>

namespace rlvr {

/// Euclidean norm. O(dimension).
template <vector_space S>
double norm(const S& space, const vector_t<S>& x) {
  return std::sqrt(space.dot(x, x));
}

/// <x, y> / (|x| |y|), clamped to [-1, 1]; NaN when either is zero or not finite. O(dimension).
template <vector_space S>
double cosine(const S& space, const vector_t<S>& x, const vector_t<S>& y) {
  const double scale = norm(space, x) * norm(space, y);
  if (!(scale > 0) || !std::isfinite(scale)) return std::numeric_limits<double>::quiet_NaN();
  const double c = space.dot(x, y) / scale;
  return c > 1 ? 1.0 : c < -1 ? -1.0 : c;
}

}  // namespace rlvr
