#pragma once
/// Variational sequence-level soft policy optimisation: a gamma-shaped weight of the sequence's importance ratio.

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <span>

#include <rlvr/objective/objective.hpp>

namespace rlvr {

/// With D = clamp(log_probs - old_log_probs, +-20), log w = clamp(sum_t D, log 1e-8, 20):
///
///     loss = -sg(phi(w)) A log pi,    kappa = phi(w) A,    phi(w) = exp(lambda + k log w - lambda w),  phi(1) = 1
///
/// (k, lambda) = (k_positive, lambda_positive) where A >= 0, (k_negative, lambda_negative) elsewhere. Branches: active;
/// saturated where log w is at a bound (the weight there is constant, not zero). `shifts`, [B] or empty, are added to
/// sum_t D before its clamp: the log-ratios of the policy when the update began over what sampled, as TRL adds them.
/// Throws std::invalid_argument for a k or lambda negative or not finite, shifts of another size or NaN.
/// Source: Shen et al. 2026, arXiv 2602.10693; constants and clamps as in TRL's vespo.
struct vespo {
  double k_positive = 2;
  double lambda_positive = 3;
  double k_negative = 3;
  double lambda_negative = 2;

  template <class Real>
  void operator()(const token_batch<Real>& b, weights_of<Real> weights, coefficients_of<Real> coefficients,
                  std::span<branch> branches = {}, std::span<const double> shifts = {}) const {
    require(shifts.empty() || shifts.size() == b.size(), "vespo: ", shifts.size(), " shifts for ", b.size(),
            " sequences");
    for (std::size_t i = 0; i < shifts.size(); ++i)
      require(shifts[i] == shifts[i], "vespo: shift ", i, " is ", shifts[i]);
    for (double x : {k_positive, lambda_positive, k_negative, lambda_negative})
      require(x >= 0 && is_finite(x), "vespo: a shape parameter is ", x);
    detail::each_token<detail::combine::assign>(
        "vespo", b, detail::advantage_use::needed, weights, coefficients, branches, detail::now_and_old(b),
        [&](std::size_t i) {
          const double moved =
              detail::sum_active(b, i, [now = b.log_probs.data(), old = b.old_log_probs.data()](std::size_t t) {
                const Real d = now[t] - old[t], raised = detail::select(d < -20, Real(-20), d);
                return detail::select(raised > 20, Real(20), raised);
              });
          const double sum = moved + (shifts.empty() ? 0.0 : shifts[i]);
          const double least = std::log(1e-8), log_w = std::min(std::max(sum, least), 20.0), w = std::exp(log_w);
          const auto phi = [&](double k, double lambda) {
            return static_cast<Real>(std::exp(lambda + k * log_w - lambda * w));
          };
          const branch code = sum < least || sum > 20 ? branch::saturated : branch::active;
          return [positive = phi(k_positive, lambda_positive), negative = phi(k_negative, lambda_negative), code](
                     Real a, Real, Real) {
            return detail::token_value<Real>{a * detail::select(a >= 0, positive, negative), code};
          };
        });
  }
};

}  // namespace rlvr
