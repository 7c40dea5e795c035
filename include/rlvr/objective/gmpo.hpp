#pragma once
/// Geometric-mean policy optimisation.

#include <cmath>
#include <cstddef>
#include <limits>

#include <rlvr/core/exponential.hpp>
#include <rlvr/objective/objective.hpp>

namespace rlvr {

/// With D = log_probs - old_log_probs, clipped where it helps the loss, and n the active tokens of the sequence:
///
///     z_t = min(D_t, high) where A_t > 0,  max(D_t, -low) where A_t < 0,  0 where A_t = 0
///     loss of the sequence = -mean_t(A_t) exp(sum_t z_t / n)
///     kappa_t = mean_t(A_t) exp(sum_t z_t / n)  where z_t = D_t and A_t is not 0;  0 elsewhere
///
/// to be weighted by sequence_mean_of_token_mean. The bounds are in log space. `epsilon` is added to n in both means
/// (verl 1e-8). Branches: clipped_high, clipped_low, active. A geometric mean that overflows is an error.
/// Throws std::invalid_argument for low, high or epsilon negative or NaN. verl's geo_mean takes the mean over its
/// micro-batch (core_algos.py:2000 of 0.9.1), and so depends on how the batch is cut; it takes low and high from
/// clip_ratio (0.2).
/// Source: Zhao et al. 2025, arXiv 2507.20673, low = high = 0.4.
struct gmpo {
  double low = 0.4;
  double high = 0.4;
  double epsilon = 0;

  template <class Real>
  void operator()(const token_batch<Real>& b, weights_of<Real> weights, coefficients_of<Real> coefficients,
                  std::span<branch> branches = {}) const {
    require(low >= 0, "gmpo: low is ", low);
    require(high >= 0, "gmpo: high is ", high);
    require(epsilon >= 0, "gmpo: epsilon is ", epsilon);
    const Real floor = static_cast<Real>(-low), ceiling = static_cast<Real>(high);
    detail::each_token<detail::combine::assign>(
        "gmpo", b, detail::advantage_use::needed, weights, coefficients, branches, detail::now_and_old(b),
        [&](std::size_t i) {
          const double length = static_cast<double>(detail::active_length(b, i)), n = length + epsilon;
          const auto clipped = [now = b.log_probs.data(), old = b.old_log_probs.data(), floor, ceiling](Real a,
                                                                                                        std::size_t t) {
            constexpr Real infinity = std::numeric_limits<Real>::infinity();
            const Real d = now[t] - old[t];
            const Real least = detail::select(a < 0, floor, detail::select(a > 0, -infinity, Real(0)));
            const Real most = detail::select(a > 0, ceiling, detail::select(a < 0, infinity, Real(0)));
            const Real raised = detail::select(d < least, least, d);
            return detail::select(raised > most, most, raised);
          };
          const Real* each = b.token_advantages.data();
          const Real own = b.advantages.empty() ? Real(0) : b.advantages[i];
          const double z =
              b.advantages.empty()
                  ? detail::sum_active(b, i, [clipped, each](std::size_t t) { return clipped(each[t], t); })
                  : detail::sum_active(b, i, [clipped, own](std::size_t t) { return clipped(own, t); });
          const double sum = b.advantages.empty() ? detail::sum_active(b, i, [each](std::size_t t) { return each[t]; })
                                                  : static_cast<double>(own) * length;
          // d z_t / d log pi is 1 / (length + epsilon); weights divide by the length.
          const Real kappa = length == 0 ? Real(0) : static_cast<Real>(sum / n * std::exp(z / n) * (length / n));
          return [kappa, floor, ceiling](Real a, Real now, Real old) {
            const Real d = now - old;
            const bool up = (a > 0) & (d > ceiling), down = (a < 0) & (d < floor), none = a == 0;
            const auto code = detail::wide_branch<Real>(branch::active)
                                  .or_if(down, branch::clipped_low)
                                  .or_if(up, branch::clipped_high);
            const bool drop = up | down | none;
            return detail::token_value<Real>{detail::select(drop, Real(0), kappa), code};
          };
        });
  }
};

}  // namespace rlvr
