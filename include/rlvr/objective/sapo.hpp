#pragma once
/// Soft adaptive policy optimisation: a smooth gate in the place of clipping.

#include <limits>

#include <rlvr/core/exponential.hpp>
#include <rlvr/objective/objective.hpp>

namespace rlvr {

/// With r = exp(log_probs - old_log_probs), tau = tau_positive where A > 0 and tau_negative elsewhere,
/// s = sigmoid(tau (r - 1)):
///
///     loss = -(4 / tau) s A,    kappa = 4 s (1 - s) r A,    kappa = A at r = 1
///
/// Branches: active; saturated where |log r| > log_ratio_limit, kappa 0 (verl 20; TRL has none, where s (1 - s) is 0
/// beyond tau (r - 1) = 80 anyway). Belongs with sequence_mean_of_token_mean.
/// Throws std::invalid_argument for a tau or log_ratio_limit not positive, or a tau not finite.
/// Source: Gao et al. 2025, arXiv 2511.20347; verl's and TRL's sapo.
struct sapo {
  double tau_positive = 1.0;
  double tau_negative = 1.05;
  double log_ratio_limit = 20;

  template <class Real>
  void operator()(const token_batch<Real>& b, weights_of<Real> weights, coefficients_of<Real> coefficients,
                  std::span<branch> branches = {}) const {
    constexpr double infinity = std::numeric_limits<double>::infinity();
    require(tau_positive > 0 && tau_positive < infinity, "sapo: tau_positive is ", tau_positive);
    require(tau_negative > 0 && tau_negative < infinity, "sapo: tau_negative is ", tau_negative);
    require(log_ratio_limit > 0, "sapo: log_ratio_limit is ", log_ratio_limit);
    const auto kernel = [positive = static_cast<Real>(tau_positive), negative = static_cast<Real>(tau_negative),
                         limit = static_cast<Real>(log_ratio_limit)](Real a, Real now, Real old) {
      const Real d = now - old, r = vector_exp(d);
      const Real tau = a > 0 ? positive : negative;
      const Real x = tau * (r - 1), e = vector_exp(-(x < 0 ? -x : x));  // s (1 - s) = e / (1 + e)^2 is even in x
      const bool out = (d > limit) | (d < -limit), drop = out | (x > 80);
      const Real gate = e / ((1 + e) * (1 + e));
      return detail::token_value<Real>{4 * a * detail::select(drop, Real(0), gate) * detail::select(drop, Real(0), r),
                                       out ? branch::saturated : branch::active};
    };
    detail::each_token<detail::combine::assign>("sapo", b, detail::advantage_use::needed, weights, coefficients,
                                                branches, detail::now_and_old(b), [&](std::size_t) { return kernel; });
  }
};

}  // namespace rlvr
