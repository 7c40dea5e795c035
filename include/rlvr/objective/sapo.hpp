#pragma once
/// Soft adaptive policy optimisation: a smooth gate in the place of clipping.

#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>

#include <rlvr/core/exponential.hpp>
#include <rlvr/objective/objective.hpp>

namespace rlvr {

/// With r = exp(log_probs - old_log_probs), tau = tau_positive where A > 0 and tau_negative elsewhere,
/// s = sigmoid(tau (r - 1)):
///
///     loss = -(4 / tau) s A,    kappa = 4 s (1 - s) r A,    kappa = A at r = 1
///
/// Branches: active; saturated where |log r| > log_ratio_limit, kappa 0 (verl 20; TRL has none). A kappa whose r or
/// s (1 - s) is below e^-80 is 0. Belongs with sequence_mean_of_token_mean.
/// Throws std::invalid_argument for a tau outside [1e-30, 1e6], where floats can no longer tell r from 1 or from
/// infinity, and a log_ratio_limit not positive.
/// Source: Gao et al. 2025, arXiv 2511.20347; verl's and TRL's sapo.
struct sapo {
  double tau_positive = 1.0;
  double tau_negative = 1.05;
  double log_ratio_limit = 20;

  template <class Real>
  void operator()(const token_batch<Real>& b, weights_of<Real> weights, coefficients_of<Real> coefficients,
                  std::span<branch> branches = {}) const {
    constexpr double infinity = std::numeric_limits<double>::infinity();
    require(tau_positive >= 1e-30 && tau_positive <= 1e6, "sapo: tau_positive is ", tau_positive);
    require(tau_negative >= 1e-30 && tau_negative <= 1e6, "sapo: tau_negative is ", tau_negative);
    require(log_ratio_limit > 0, "sapo: log_ratio_limit is ", log_ratio_limit);
    // Log-ratios d outside [from, to] have a gate s (1 - s) or a ratio below e^-80: nothing.
    const auto from = [&](double tau) {
      const double gate = tau > 80 ? std::log1p(-80 / tau) : -infinity;
      return static_cast<Real>(std::max({-log_ratio_limit, gate, -80.0}));
    };
    const auto to = [&](double tau) { return static_cast<Real>(std::min(log_ratio_limit, std::log1p(80 / tau))); };
    const auto of_sign = [](Real a, Real positive, Real negative) { return detail::select(a > 0, positive, negative); };
    const detail::two_pass_kernel kernel{
        [](Real, Real now, Real old) { return vector_exp_in_range(now - old); },
        [=, positive = static_cast<Real>(tau_positive), negative = static_cast<Real>(tau_negative),
         positive_from = from(tau_positive), negative_from = from(tau_negative), positive_to = to(tau_positive),
         negative_to = to(tau_negative),
         limit = static_cast<Real>(log_ratio_limit)](Real a, Real r, Real now, Real old) {
          const Real d = now - old, tau = of_sign(a, positive, negative);
          const Real least = of_sign(a, positive_from, negative_from), most = of_sign(a, positive_to, negative_to);
          const bool open = (d >= least) & (d <= most);
          // s (1 - s) = e / (1 + e)^2 is even in tau (r - 1)
          const Real e = vector_exp_in_range(minus_magnitude(tau * (r - 1)));
          const detail::wide_branch<Real> code = branch::active;
          return detail::token_value<Real>{detail::select(open, 4 * a * r * e / ((1 + e) * (1 + e)), Real(0)),
                                           code.or_if((d > limit) | (d < -limit), branch::saturated)};
        }};
    detail::each_token<detail::combine::assign>("sapo", b, detail::advantage_use::needed, weights, coefficients,
                                                branches, detail::now_and_old(b), [&](std::size_t) { return kernel; });
  }

 private:
  /// -|x|.
  template <class Real>
  static Real minus_magnitude(Real x) {
    using bits = detail::bits_of<Real>;
    return std::bit_cast<Real>(std::bit_cast<bits>(x) | ~(~bits{0} >> 1));
  }
};

}  // namespace rlvr
