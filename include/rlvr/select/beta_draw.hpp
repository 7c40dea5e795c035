#pragma once
/// One draw from a Beta distribution, as a pure function of the key.

#include <cmath>
#include <cstdint>
#include <numbers>

#include <rlvr/select/selector.hpp>

namespace rlvr {

namespace detail {

/// The logarithm of a Gamma(shape, 1) draw; it uses positions first, first + 4, first + 8, ... and the three behind
/// each.
inline double log_gamma_draw(double shape, const prompt_draws& draws, std::uint32_t first) {
  // Below 1: Gamma(shape) = Gamma(shape + 1) U^(1 / shape), in logarithms, where tiny shapes do not underflow.
  const double boost = shape < 1 ? std::log(draws.uniform(first + 3)) / shape : 0;
  const double d = (shape < 1 ? shape + 1 : shape) - 1.0 / 3, c = 1 / std::sqrt(9 * d);
  for (std::uint32_t at = first;; at += 8) {
    const double radius = std::sqrt(-2 * std::log(draws.uniform(at)));
    const double x = radius * std::cos(2 * std::numbers::pi * draws.uniform(at + 1));
    const double t = 1 + c * x;
    if (t <= 0) continue;
    const double v = t * t * t, u = draws.uniform(at + 2);
    if (std::log(u) < 0.5 * x * x + d * (1 - v + std::log(v))) return std::log(d * v) + boost;
  }
}

}  // namespace detail

/// A draw from Beta(alpha, beta), alpha and beta >= 0; 0 is the limit from above: Beta(0, b) is 0, Beta(a, 0) is 1, and
/// Beta(0, 0) one of both. In [0, 1], never NaN. Two gamma draws by the rejection of Marsaglia and Tsang (2000), which
/// needs 1.05 tries at most on average.
inline double beta_draw(double alpha, double beta, const prompt_draws& draws) {
  if (alpha == 0 || beta == 0) {
    if (alpha == beta) return draws.uniform(0) < 0.5 ? 0 : 1;
    return alpha == 0 ? 0 : 1;
  }
  const double a = detail::log_gamma_draw(alpha, draws, 0), b = detail::log_gamma_draw(beta, draws, 4);
  return 1 / (1 + std::exp(b - a));
}

}  // namespace rlvr
