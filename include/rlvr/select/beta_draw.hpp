#pragma once
/// One draw from a Beta distribution, as a pure function of the key.

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <numbers>

#include <rlvr/select/selector.hpp>

namespace rlvr {

namespace detail {

/// Marsaglia and Tsang's rejection for Gamma(shape, 1): from a normal and a uniform number the logarithm of a draw, or
/// no draw. Below shape 1, Gamma(shape) = Gamma(shape + 1) U^(1 / shape).
class gamma_rejection {
 public:
  explicit gamma_rejection(double shape)
      : d_((shape < 1 ? shape + 1 : shape) - 1.0 / 3), c_(1 / std::sqrt(9 * d_)) {}

  bool accepts(double normal, double uniform) {
    const double t = 1 + c_ * normal;
    if (t <= 0) return false;
    const double v = t * t * t, squared = normal * normal;
    if (uniform >= 1 - 0.0331 * squared * squared &&
        std::log(uniform) >= 0.5 * squared + d_ * (1 - v + std::log(v)))
      return false;
    value_ = d_ * v;
    return true;
  }
  double value() const { return value_; }

 private:
  double d_, c_, value_ = 0;
};

}  // namespace detail

/// A draw from Beta(alpha, beta), alpha and beta >= 0; 0 is the limit from above: Beta(0, b) is 0, Beta(a, 0) is 1, and
/// Beta(0, 0) one of both. In [0, 1], never NaN. Two gamma draws by the rejection of Marsaglia and Tsang (2000), which
/// needs 1.05 tries at most on average; shapes below 1 are drawn in logarithms, where tiny ones do not underflow.
inline double beta_draw(double alpha, double beta, const prompt_draws& draws) {
  alpha = std::max(alpha, 1e-300);  // below, both logarithms could be infinite; a draw is 0 or 1 long before
  beta = std::max(beta, 1e-300);
  detail::gamma_rejection a(alpha), b(beta);
  bool has_a = false, has_b = false;
  for (std::uint32_t at = 1; !(has_a && has_b); at += 2) {
    const auto [u, v] = draws.uniform_pair(at);
    const double radius = std::sqrt(-2 * std::log(u)), angle = 2 * std::numbers::pi * v;
    const auto [accept_a, accept_b] = draws.uniform_pair(at + 1);
    has_a = has_a || a.accepts(radius * std::cos(angle), accept_a);
    has_b = has_b || b.accepts(radius * std::sin(angle), accept_b);
  }
  if (alpha >= 1 && beta >= 1) return a.value() / (a.value() + b.value());
  const auto [boost_a, boost_b] = draws.uniform_pair(0);
  const double log_a = std::log(a.value()) + (alpha < 1 ? std::log(boost_a) / alpha : 0);
  const double log_b = std::log(b.value()) + (beta < 1 ? std::log(boost_b) / beta : 0);
  return 1 / (1 + std::exp(log_b - log_a));
}

}  // namespace rlvr
