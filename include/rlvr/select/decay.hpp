#pragma once
/// Exponential decay per step, applied when it is looked at.

#include <cmath>
#include <cstdint>

#include <rlvr/core/error.hpp>
#include <rlvr/core/exponential.hpp>

namespace rlvr {

/// factor^steps, in straight-line code that vectorises.
class step_decay {
 public:
  /// Throws std::invalid_argument unless 0 < factor <= 1.
  explicit step_decay(double factor = 1) : log_(std::log(factor)) {
    require(factor > 0 && factor <= 1, "decay: factor is ", factor, ", outside (0, 1]");
  }

  /// steps below 2^31.
  double over(std::uint64_t steps) const {
    return vector_exp(log_ * static_cast<double>(static_cast<std::int32_t>(steps)));
  }

  /// Over the steps between the last visit and one at `step`, both not counted: each of those two has a rule of its
  /// own.
  double until_visit(std::uint64_t last, std::uint64_t step) const {
    return step > last + 1 ? over(step - last - 1) : 1.0;
  }

 private:
  double log_;
};

}  // namespace rlvr
