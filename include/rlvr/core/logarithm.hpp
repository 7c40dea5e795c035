#pragma once
/// log as straight-line code that compilers turn into vector instructions, with the same bits in every lane.

#include <bit>
#include <cstdint>
#include <limits>

#include <rlvr/core/exponential.hpp>

namespace rlvr {

/// log x with an error below 1.2e-7 |log x| for x in [1.2e-38, 3.4e38], the normal numbers; NaN for all else.
/// Method: x = 2^n m, m in [sqrt 1/2, sqrt 2), the Cephes polynomial for log m.
inline float vector_log(float x) {
  const std::uint32_t biased = std::bit_cast<std::uint32_t>(x) + (0x3f800000u - 0x3f3504f3u);  // less sqrt 1/2
  const float n = std::bit_cast<float>(0x4b400000u + (biased >> 23)) - (12582912.f + 127.f);
  const float f = std::bit_cast<float>((biased & 0x007fffffu) + 0x3f3504f3u) - 1.f;
  float p = 7.0376836292e-2f;
  p = p * f - 1.1514610310e-1f;
  p = p * f + 1.1676998740e-1f;
  p = p * f - 1.2420140846e-1f;
  p = p * f + 1.4249322787e-1f;
  p = p * f - 1.6668057665e-1f;
  p = p * f + 2.0000714765e-1f;
  p = p * f - 2.4999993993e-1f;
  p = p * f + 3.3333331174e-1f;
  const float ff = f * f, y = p * f * ff - n * 2.12194440e-4f - 0.5f * ff;
  constexpr float least = std::numeric_limits<float>::min(), most = std::numeric_limits<float>::max();
  const bool normal = (x >= least) & (x <= most);
  return detail::select(normal, n * 0.693359375f + (f + y), std::numeric_limits<float>::quiet_NaN());
}

/// log x with an error below 4e-16 |log x| for x in [2.3e-308, 1.7e308], the normal numbers; NaN for all else.
/// Method: as above, log m = 2 artanh(f / (2 + f)) by fdlibm's polynomial.
inline double vector_log(double x) {
  const std::uint64_t biased = std::bit_cast<std::uint64_t>(x) + (0x3ff0000000000000u - 0x3fe6a09e667f3bcdu);
  const double n = std::bit_cast<double>(0x4338000000000000u + (biased >> 52)) - (6755399441055744. + 1023.);
  const double f = std::bit_cast<double>((biased & 0x000fffffffffffffu) + 0x3fe6a09e667f3bcdu) - 1.;
  const double s = f / (2. + f), z = s * s;
  double p = 1.479819860511658591e-1;
  p = p * z + 1.531383769920937332e-1;
  p = p * z + 1.818357216161805012e-1;
  p = p * z + 2.222219843214978396e-1;
  p = p * z + 2.857142874366239149e-1;
  p = p * z + 3.999999999940941908e-1;
  p = p * z + 6.666666666666735130e-1;
  const double half = 0.5 * f * f, low = s * (half + p * z) + n * 1.90821492927058770002e-10;
  constexpr double least = std::numeric_limits<double>::min(), most = std::numeric_limits<double>::max();
  const bool normal = (x >= least) & (x <= most);
  return detail::select(normal, n * 6.93147180369123816490e-1 - ((half - low) - f),
                        std::numeric_limits<double>::quiet_NaN());
}

}  // namespace rlvr
