#pragma once
/// Learning-rate schedules: factors on the learning rate, pure functions of the step.

#include <cmath>
#include <cstddef>

namespace rlvr {

/// Linear warm-up, then half a cosine from 1 down to `floor`:
///
///   (step + 1) / warmup                                                    for step < warmup
///   floor + (1 - floor) (1 + cos(pi (step - warmup) / (total - warmup))) / 2   up to total, then floor
///
/// Steps count from 0.
inline double warmup_cosine(std::size_t step, std::size_t warmup, std::size_t total, double floor = 0.0) {
  if (step < warmup) return static_cast<double>(step + 1) / static_cast<double>(warmup);
  if (step >= total) return floor;
  const double done = static_cast<double>(step - warmup) / static_cast<double>(total - warmup);
  return floor + (1 - floor) * 0.5 * (1 + std::cos(3.141592653589793 * done));
}

}  // namespace rlvr
