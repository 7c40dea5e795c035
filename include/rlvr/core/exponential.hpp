#pragma once
/// exp as straight-line code that compilers turn into vector instructions, with the same bits in every lane.

#include <bit>
#include <cstdint>
#include <type_traits>

namespace rlvr {

namespace detail {
/// condition ? then : otherwise, bit for bit, selected as integers so that loops become vector code: from a choice
/// between floats gcc 12 makes a branch around what only one of them needs, or two copies of the code behind it.
template <class Real>
Real select(bool condition, Real then, Real otherwise) {
  using bits = std::conditional_t<sizeof(Real) == 4, std::uint32_t, std::uint64_t>;
  const bits mask = bits{0} - static_cast<bits>(condition);
  return std::bit_cast<Real>((std::bit_cast<bits>(otherwise) & ~mask) | (std::bit_cast<bits>(then) & mask));
}
}  // namespace detail

/// e^x with relative error below 1.2e-7 for x in [-87.3, 88.3]. Arguments below are clamped to that range, in which 2^n
/// is a normal number; above 88.38 the result is infinity, a little before float overflows. NaN stays NaN.
/// Method: x = n ln 2 + r, |r| <= ln 2 / 2, the Cephes polynomial for e^r, n added to the exponent.
inline float vector_exp(float x) {
  const bool above = x > 89.f;
  x = detail::select(x < -87.3f, -87.3f, x);
  x = detail::select(above, 89.f, x);  // n = 128, whose exponent is infinity's
  const float shifted = x * 1.44269504088896341f + 12582912.f;  // 1.5 * 2^23 rounds to the nearest integer
  const float n = shifted - 12582912.f;
  const float r = (x - n * 0.693359375f) + n * 2.12194440e-4f;
  float p = 1.9875691500e-4f;
  p = p * r + 1.3981999507e-3f;
  p = p * r + 8.3334519073e-3f;
  p = p * r + 4.1665795894e-2f;
  p = p * r + 1.6666665459e-1f;
  p = p * r + 5.0000001201e-1f;
  p = p * (r * r) + r + 1.f;
  return p * std::bit_cast<float>((std::bit_cast<std::uint32_t>(shifted) + (127u - 0x4b400000u)) << 23);
}

/// e^x as vector_exp, but a third cheaper because x must be in [-87.3, 89]: outside the result is anything. Relative
/// error below 1.2e-7 up to 88.3, infinity above 88.38. For loops that clamp or discard other arguments themselves.
/// Method: as above with a minimax polynomial of degree 6, relative error 4e-9 before rounding.
inline float vector_exp_in_range(float x) {
  const float shifted = x * 1.44269504088896341f + (12582912.f + 127.f);  // the exponent's bias is in already
  const float n = shifted - (12582912.f + 127.f);
  const float r = (x - n * 0.693359375f) + n * 2.12194440e-4f;
  float p = 1.3814540580e-3f;
  p = p * r + 8.3687454462e-3f;
  p = p * r + 4.1668388993e-2f;
  p = p * r + 1.6666521132e-1f;
  p = p * r + 4.9999994040e-1f;
  p = p * r + 1.f;
  p = p * r + 1.f;
  return p * std::bit_cast<float>(std::bit_cast<std::uint32_t>(shifted) << 23);
}

/// e^x for x in [-708, 710]: outside the result is anything. The bits of vector_exp.
inline double vector_exp_in_range(double x) {
  const double shifted = x * 1.4426950408889634074 + 6755399441055744.;  // 1.5 * 2^52
  const double n = shifted - 6755399441055744.;
  const double r = (x - n * 6.93145751953125e-1) - n * 1.42860682030941723212e-6;
  const double rr = r * r;
  const double p = r * ((1.26177193074810590878e-4 * rr + 3.02994407707441961300e-2) * rr + 9.99999999999999999910e-1);
  const double q =
      ((3.00198505138664455042e-6 * rr + 2.52448340349684104192e-3) * rr + 2.27265548208155028766e-1) * rr +
      2.00000000000000000005e0;
  const double e = 1. + 2. * (p / (q - p));
  return e * std::bit_cast<double>((std::bit_cast<std::uint64_t>(shifted) + (1023u - 0x4338000000000000u)) << 52);
}

/// e^x with relative error below 4e-16 for x in [-708, 709]; arguments below are clamped to that range, above 709.44
/// the result is infinity. NaN stays NaN. Method: as above with the Cephes rational approximation.
inline double vector_exp(double x) {
  const bool above = x > 710.;
  x = detail::select(x < -708., -708., x);
  return vector_exp_in_range(detail::select(above, 710., x));  // n = 1024, whose exponent is infinity's
}

/// The arguments that vector_exp_in_range takes: their least, and their most, at which it is infinite.
template <class Real>
inline constexpr Real least_exponent = sizeof(Real) == 4 ? Real(-87.3f) : Real(-708);
template <class Real>
inline constexpr Real most_exponent = sizeof(Real) == 4 ? Real(89) : Real(710);

}  // namespace rlvr
