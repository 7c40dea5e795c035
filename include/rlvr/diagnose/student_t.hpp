#pragma once
/// Quantiles of Student's t distribution.

#include <cmath>
#include <cstddef>
#include <numbers>

#include <rlvr/core/error.hpp>

namespace rlvr {

/// P(|T| <= t) for t >= 0 and a whole number of degrees of freedom: the finite series in cos^2(theta),
/// theta = atan(t / sqrt(degrees)), all terms positive, so exact up to rounding. O(degrees).
/// Source: Abramowitz and Stegun, equations 26.7.3 and 26.7.4.
inline double student_t_central(std::size_t degrees, double t) {
  require(degrees > 0, "student_t_central: degrees is 0");
  require(t >= 0, "student_t_central: t is ", t);
  const double theta = std::atan(t / std::sqrt(static_cast<double>(degrees)));
  const double cosine = std::cos(theta), sine = std::sin(theta);
  const bool odd = degrees % 2 == 1;
  double term = odd ? cosine : 1.0, sum = degrees > 1 ? term : 0.0;
  for (std::size_t k = odd ? 3 : 2; k + 1 < degrees && term > 1e-18 * sum; k += 2) {
    term *= cosine * cosine * static_cast<double>(k - 1) / static_cast<double>(k);
    sum += term;
  }
  return odd ? (theta + sine * sum) * 2 / std::numbers::pi : sine * sum;
}

/// The t with P(|T| <= t) = confidence: half the width of an interval in standard errors.
///
/// Newton's method from 0, which climbs to the root without passing it, as the distribution is concave there.
/// Relative error below 1e-10 for confidence up to 0.9999. Throws std::invalid_argument for degrees 0 or a
/// confidence outside (0, 1). O(degrees) per step, 7 to 18 steps: 8 us for 1000 degrees.
inline double student_t_quantile(std::size_t degrees, double confidence = 0.95) {
  require(degrees > 0, "student_t_quantile: degrees is 0");
  require(confidence > 0 && confidence < 1, "student_t_quantile: confidence is ", confidence);
  const double n = static_cast<double>(degrees);
  const double peak =
      2 * std::exp(std::lgamma((n + 1) / 2) - std::lgamma(n / 2)) / std::sqrt(n * std::numbers::pi);
  double t = 0;
  for (int step = 0; step < 200; ++step) {
    const double density = peak * std::pow(1 + t * t / n, -(n + 1) / 2);
    const double next = t + (confidence - student_t_central(degrees, t)) / density;
    if (!(next > t * (1 + 1e-14))) break;
    t = next;
  }
  return t;
}

}  // namespace rlvr
