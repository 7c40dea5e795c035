#pragma once
/// Divergence proximal policy optimisation: trust regions in probability instead of in the ratio.

#include <algorithm>
#include <limits>

#include <rlvr/core/exponential.hpp>
#include <rlvr/core/logarithm.hpp>
#include <rlvr/objective/objective.hpp>

namespace rlvr {

/// How far a token's probability has moved: total variation |p - p_old|, or KL(p_old || p), of the distribution
/// {this token, any other token}.
enum class binary_divergence { total_variation, kl };

/// With p = exp(log_probs), q = exp(old_log_probs), r = p / q, log r clamped to +-log_ratio_limit, d the divergence:
///
///     loss = -M sg(min(r, cap)) A log pi,    kappa = M min(r, cap) A
///     M = 0 where A > 0, p > q and d > high, or A <= 0, p < q and d > low;  1 elsewhere
///     d = |p - q|,  or  q log(q/p) + (1 - q) log((1 - q + 1e-8) / (1 - p + 1e-8))
///
/// Branches: clipped_high, clipped_low (M = 0), active (also where a clamp holds). verl computes min(r, 3): it asks for
/// clip_ratio_c with default 20 (core_algos.py:1427 and :1508 of 0.9.1), but that field is 3 (config/actor.py:163).
/// In d, log-probabilities below -87 (double: -708) count as that. Throws std::invalid_argument for low, high or cap
/// negative or NaN, log_ratio_limit not positive. Source: Qi et al. 2026, arXiv 2602.04879; verl dppo_tv, dppo_kl.
struct dppo {
  double low = 0.2;
  double high = 0.2;
  double cap = 20;
  double log_ratio_limit = 20;
  binary_divergence divergence = binary_divergence::total_variation;

  template <class Real>
  void operator()(const token_batch<Real>& b, weights_of<Real> weights, coefficients_of<Real> coefficients,
                  std::span<branch> branches = {}) const {
    require(low >= 0, "dppo: low is ", low);
    require(high >= 0, "dppo: high is ", high);
    require(cap >= 0, "dppo: cap is ", cap);
    require(log_ratio_limit > 0, "dppo: log_ratio_limit is ", log_ratio_limit);
    const Real limit = static_cast<Real>(log_ratio_limit), bottom = vector_exp(-limit), top = vector_exp(limit);
    constexpr Real infinity = std::numeric_limits<Real>::infinity();
    const auto run = [&](const auto& distance) {  // from q to p, with a sign: only one bound matters to an advantage
      const Real most = std::min(static_cast<Real>(cap), top) + Real(0);  // not -0
      const auto kernel = [lower = static_cast<Real>(low), upper = static_cast<Real>(high), bottom, most,
                           distance](Real a, Real now, Real old) {
        const Real d = detail::clamp_around_zero(now - old, least_exponent<Real>, most_exponent<Real>);
        const Real r = vector_exp_in_range(d), w = detail::clamp_positive(r, bottom, most);
        const Real moved = distance(r, now, old);
        const Real to = detail::select(a > 0, upper, infinity), from = detail::select(a > 0, -infinity, -lower);
        const bool up = moved > to, down = moved < from;
        const auto code =
            detail::wide_branch<Real>(branch::active).or_if(down, branch::clipped_low).or_if(up, branch::clipped_high);
        return detail::token_value<Real>{a * detail::select(!up & !down, w, Real(0)), code};
      };
      detail::each_token<detail::combine::assign>("dppo", b, detail::advantage_use::needed, weights, coefficients,
                                                  branches, detail::now_and_old(b),
                                                  [&](std::size_t) { return kernel; });
    };
    if (divergence == binary_divergence::total_variation)
      run([](Real r, Real now, Real old) {  // q (r - 1); p itself where r is so large that q is nothing beside it
        const bool far = now - old > 40;
        return detail::select(far, Real(1), r - 1) * probability(detail::select(far, now, old));
      });
    else
      run([](Real, Real now, Real old) {
        constexpr Real tiny = static_cast<Real>(1e-8);
        const Real p = probability(now), q = probability(old);
        const Real d = q * (old - now) + (1 - q) * vector_log((1 - q + tiny) / (1 - p + tiny));
        return detail::select(now > old, d, -d);
      });
  }

 private:
  template <class Real>
  static Real probability(Real log_prob) {
    return vector_exp_in_range(detail::clamp_around_zero(log_prob, least_exponent<Real>, most_exponent<Real>));
  }
};

}  // namespace rlvr
