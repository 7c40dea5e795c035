#pragma once
/// What a deviation is: which variance, and where epsilon stands.

#include <cmath>
#include <cstddef>
#include <limits>

#include <rlvr/core/error.hpp>
#include <rlvr/core/exponential.hpp>
#include <rlvr/core/moments.hpp>
#include <rlvr/core/square_root.hpp>

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

  /// factors[k] <- factor of n values whose centred squares sum to squares[k], n > ddof: vector code, error below
  /// 1e-15. NaN where the variance is so large or so small that only the other call is exact.
  template <std::size_t Lanes>
  void factors(std::size_t n, const double* squares, double* factors) const {
    constexpr double least = std::numeric_limits<double>::min(), none = std::numeric_limits<double>::quiet_NaN();
    const double count = static_cast<double>(n - ddof), inside = place == epsilon_place::beside_variance ? epsilon : 0;
    const double floor = place == epsilon_place::variance_floor ? epsilon : 0;
    const double outside = place == epsilon_place::beside_deviation ? epsilon : 0;
    for (std::size_t k = 0; k < Lanes; ++k) {
      const double variance = squares[k] / count, shifted = variance + inside;
      const double divisor = vector_sqrt(detail::select(shifted > floor, shifted, floor)) + outside;
      const bool plain = (variance == 0) | ((variance > 1e-290) & (variance < 1e290));
      factors[k] = detail::select(plain, detail::select(divisor >= least, 1 / divisor, 0.0), none);
    }
  }

  /// Throws std::invalid_argument, in the name of `who`, for ddof above 1 and epsilon negative or not finite.
  void check(const char* who) const {
    require(ddof <= 1, who, ": ddof is ", ddof, ", expected 0 or 1");
    require(epsilon >= 0 && std::isfinite(epsilon), who, ": epsilon is ", epsilon);
  }
};

}  // namespace rlvr
