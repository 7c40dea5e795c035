#pragma once
/// A bound on the length of a gradient.

#include <cmath>

#include <rlvr/core/error.hpp>
#include <rlvr/core/norm.hpp>
#include <rlvr/core/vector_space.hpp>

namespace rlvr {

/// g <- g min(1, most / (|g| + 1e-6)), and returns |g| as it was.
///
/// |g| is over all coordinates. A g that is short enough stays as it is, bit for bit, and so does one whose norm is
/// not finite: test the result. most = infinity only measures. Throws std::invalid_argument unless most > 0.
/// O(dimension). Source: torch.nn.utils.clip_grad_norm_ (PyTorch 2), from which the 1e-6 is.
template <vector_space S>
double clip_norm(const S& space, vector_t<S>& g, double most) {
  require(most > 0, "clip_norm: the largest norm is ", most);
  const double length = norm(space, g), factor = most / (length + 1e-6);
  if (std::isfinite(length) && factor < 1) space.scale(factor, g);
  return length;
}

}  // namespace rlvr
