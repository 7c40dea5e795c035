#pragma once
/// The mixture of two gradient estimators with the smallest mean squared error.

#include <rlvr/core/error.hpp>
#include <rlvr/core/vector_space.hpp>

namespace rlvr {

/// Errors of two estimators x and y of the same gradient g: second moments E|x - g|^2, E|y - g|^2, E(x - g).(y - g).
/// A variance and a bias make one: second_moment(tr cov(x, y), bias_x . bias_y).
struct estimator_errors {
  double first = 0;
  double second = 0;
  double cross = 0;
};

constexpr double second_moment(double covariance_trace, double bias_product) { return covariance_trace + bias_product; }

/// The weight a in [0, 1] that minimises E|a x + (1 - a) y - g|^2:
///
///     a = (second - cross) / (first + second - 2 cross), clipped;  1/2 when x and y have the same error
///
/// In BVPO x is the policy gradient with sampled reasoning traces (unbiased, noisy) and y the one with empty traces
/// (biased, quiet): kappa is multiplied by a on trace tokens and their answer, by 1 - a on the answer without trace.
/// Biases need the true gradient, which nobody has: with biases set to 0 the weight is that of least variance.
/// Throws std::invalid_argument for values that are not finite, negative squares, or a cross moment that no two
/// estimators have (|cross|^2 > first second, up to rounding). O(1).
/// Source: BVPO's closed form, derived from its objective.
inline double mixing_weight(const estimator_errors& e) {
  require(is_finite(e.first) && e.first >= 0, "mixing_weight: first is ", e.first);
  require(is_finite(e.second) && e.second >= 0, "mixing_weight: second is ", e.second);
  const double larger = e.first > e.second ? e.first : e.second, unit = larger > 0 ? larger : 1;
  const double first = e.first / unit, second = e.second / unit, cross = e.cross / unit;  // products stay in range
  require(is_finite(cross) && cross * cross <= first * second * (1 + 1e-9), "mixing_weight: cross is ", e.cross,
          " for second moments ", e.first, " and ", e.second);
  const double difference = first + second - 2 * cross;  // E|x - y|^2
  if (!(difference > 0)) return 0.5;
  const double a = (second - cross) / difference;
  return a < 0 ? 0 : a > 1 ? 1 : a;
}

/// y <- a x + (1 - a) y. x and y are different objects. O(dimension).
template <vector_space S>
void mix(const S& space, double a, const vector_t<S>& x, vector_t<S>& y) {
  require(a >= 0 && a <= 1, "mix: the weight is ", a);
  space.scale(1 - a, y);
  space.axpy(a, x, y);
}

}  // namespace rlvr
