#pragma once
/// What a deviation is: which variance, and where epsilon stands.

#include <cmath>
#include <cstddef>
#include <limits>

#include <rlvr/core/error.hpp>
#include <rlvr/core/exponential.hpp>
#include <rlvr/core/moments.hpp>

namespace rlvr {

/// Whether there is a division by a deviation.
enum class scaling { none, deviation };

/// Where epsilon stands in the division by a deviation:
enum class epsilon_place {
  beside_deviation,  ///< 1 / (sqrt(variance) + epsilon)
  beside_variance,   ///< 1 / sqrt(variance + epsilon)
  variance_floor     ///< 1 / sqrt(max(variance, epsilon))
};

/// A divisor made of moments. ddof and epsilon decide parity with other trainers:
///
/// | trainer | ddof | epsilon | place |
/// |---|---|---|---|
/// | verl GRPO, SkyRL, NeMo-RL GRPO, slime, ROLL | 1 | 1e-6 | beside_deviation |
/// | TRL | 1 | 1e-4 | beside_deviation |
/// | OpenRLHF group_norm | 1 | 1e-9 | beside_deviation |
/// | verl masked_whiten, NeMo-RL GAE | 1 | 1e-8 | beside_variance |
/// | OpenRLHF, NeMo-RL REINFORCE++ | 0 | 1e-8 | variance_floor |
struct deviation {
  std::size_t ddof = 1;   ///< the variance is the centred sum of squares over n - ddof; 0 or 1
  double epsilon = 1e-6;  ///< >= 0
  epsilon_place place = epsilon_place::beside_deviation;

  /// The divisor for a variance. O(1).
  double scale(double variance) const {
    if (place == epsilon_place::beside_deviation) return std::sqrt(variance) + epsilon;
    return std::sqrt(place == epsilon_place::beside_variance ? variance + epsilon
                     : variance > epsilon                    ? variance
                                                             : epsilon);
  }
  /// One over the divisor; 0 for variance 0 with an epsilon of 0 or subnormal: squares of tiny differences underflow.
  /// O(1).
  double factor(double variance) const {
    const double divisor = scale(variance);
    return divisor >= std::numeric_limits<double>::min() ? 1.0 / divisor : 0.0;
  }
  /// The same; throws std::invalid_argument when the sum of squares has overflowed.
  double factor(const moments& m) const {
    require(std::isfinite(m.squares), "deviation: the squares of ", m.count, " rewards overflow");
    return factor(m.variance(ddof));
  }

  /// factors[k] <- factor of n values whose centred squares sum to squares[k], n > ddof: the same bits, in loops that
  /// become vector code (the first with -fno-math-errno).
  template <std::size_t Count>
  void factors(std::size_t n, const double* squares, double* factors) const {
    double divisors[Count];
    const double degrees = static_cast<double>(n - ddof);
    for (std::size_t k = 0; k < Count; ++k) divisors[k] = scale(squares[k] / degrees);
    for (std::size_t k = 0; k < Count; ++k)
      factors[k] = detail::select(divisors[k] >= std::numeric_limits<double>::min(), 1 / divisors[k], 0.0);
  }

  /// Throws std::invalid_argument, in the name of `who`, for ddof above 1 and epsilon negative or not finite.
  void check(const char* who) const {
    require(ddof <= 1, who, ": ddof is ", ddof, ", expected 0 or 1");
    require(epsilon >= 0 && std::isfinite(epsilon), who, ": epsilon is ", epsilon);
  }
};

}  // namespace rlvr
