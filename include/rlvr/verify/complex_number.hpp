#pragma once
/// The complex functions that math_expression needs, without the cost of <complex>.

#include <cmath>
#include <limits>
#include <numbers>

namespace rlvr::detail {

struct complex_number {
  double re = 0;
  double im = 0;

  bool is_finite() const { return std::isfinite(re) && std::isfinite(im); }

  friend complex_number operator+(complex_number a, complex_number b) { return {a.re + b.re, a.im + b.im}; }
  friend complex_number operator-(complex_number a, complex_number b) { return {a.re - b.re, a.im - b.im}; }
  friend complex_number operator-(complex_number a) { return {-a.re, -a.im}; }
  friend complex_number operator*(complex_number a, complex_number b) {
    // Reals stay reals: infinity times i 0 would be no number.
    if (a.im == 0 && b.im == 0) return {a.re * b.re, 0};
    return {a.re * b.re - a.im * b.im, a.re * b.im + a.im * b.re};
  }
  friend complex_number operator/(complex_number a, complex_number b) {
    if (a.im == 0 && b.im == 0) return {a.re / b.re, 0};
    const double d = b.re * b.re + b.im * b.im;
    return {(a.re * b.re + a.im * b.im) / d, (a.im * b.re - a.re * b.im) / d};
  }
};

inline complex_number not_a_number() {
  return {std::numeric_limits<double>::quiet_NaN(), 0};
}
inline double magnitude(complex_number z) {
  return std::hypot(z.re, z.im);
}
inline complex_number exponential(complex_number z) {
  const double r = std::exp(z.re);
  return z.im == 0 ? complex_number{r, 0} : complex_number{r * std::cos(z.im), r * std::sin(z.im)};
}
/// The principal value; not a number at zero.
inline complex_number logarithm(complex_number z) {
  if (z.re == 0 && z.im == 0) return not_a_number();
  return {std::log(magnitude(z)), z.im == 0 && z.re > 0 ? 0 : std::atan2(z.im, z.re)};
}
/// The principal value; real powers of positive numbers and whole powers are real.
inline complex_number power(complex_number base, complex_number exponent) {
  if (exponent.im == 0 && base.im == 0) {
    if (base.re >= 0 || std::floor(exponent.re) == exponent.re) return {std::pow(base.re, exponent.re), 0};
  }
  if (exponent.im == 0 && std::floor(exponent.re) == exponent.re && std::abs(exponent.re) <= 64) {
    complex_number out{1, 0};
    for (int k = 0; k < static_cast<int>(std::abs(exponent.re)); ++k) out = out * base;
    return exponent.re < 0 ? complex_number{1, 0} / out : out;
  }
  return exponential(exponent * logarithm(base));
}
inline complex_number square_root(complex_number z) {
  if (z.im == 0) return z.re >= 0 ? complex_number{std::sqrt(z.re), 0} : complex_number{0, std::sqrt(-z.re)};
  return power(z, {0.5, 0});
}
inline complex_number cosine(complex_number z) {
  if (z.im == 0) return {std::cos(z.re), 0};
  return {std::cos(z.re) * std::cosh(z.im), -std::sin(z.re) * std::sinh(z.im)};
}
inline complex_number sine(complex_number z) {
  if (z.im == 0) return {std::sin(z.re), 0};
  return {std::sin(z.re) * std::cosh(z.im), std::cos(z.re) * std::sinh(z.im)};
}

}  // namespace rlvr::detail
