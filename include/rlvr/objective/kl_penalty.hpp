#pragma once
/// Penalties on the divergence from a reference policy, in the loss or in the reward.

#include <array>
#include <cstddef>
#include <limits>
#include <span>

#include <rlvr/core/exponential.hpp>
#include <rlvr/objective/objective.hpp>

namespace rlvr {

/// Estimators of KL(pi || reference) from one sampled token, with q = log pi - log reference:
/// k1: q.  absolute: |q|.  k2: q^2 / 2 (verl "mse").  k3: e^-q - 1 + q (verl "low_var_kl").
enum class kl_estimator { k1, absolute, k2, k3 };

/// Which ratio multiplies the estimate, its gradient included. `one` is exp(log pi - sg(log pi)), whose value is 1: it
/// adds the term that sampling from a policy contributes (NeMo-RL). `old` and `sampled` are the importance ratios over
/// old_log_probs (TRL use_bias_correction_kl, slime use_unbiased_kl) and over sampled_log_probs.
enum class kl_ratio { none, one, old, sampled };

/// What the clamps act on: the estimate (verl, OpenRLHF), or the estimate times the ratio, with no gradient at all
/// where either clamp holds (NeMo-RL).
enum class kl_clamp { estimate, weighted };

/// Whose gradient is used: the estimator's, or that of k2 whatever the value (straight-through, verl's "+").
enum class kl_gradient { itself, k2 };

namespace detail {

/// Value and derivative by log pi of an estimator with its clamps; where a clamp holds the derivative is 0.
template <kl_estimator Estimator, class Real>
struct kl_kernel {
  Real input_limit, output_limit;

  Real value(Real q) const {
    const Real v = plain(clamp(q, input_limit));
    return clamp(v, output_limit);
  }

  /// Whether no clamp holds.
  bool within(Real q) const {
    const Real x = clamp(q, input_limit), v = plain(x);
    return (x == q) & (v <= output_limit) & (v >= -output_limit);
  }

  Real slope(Real q) const {
    const Real x = clamp(q, input_limit);
    Real slope = 1;
    if constexpr (Estimator == kl_estimator::absolute) slope = select(x > 0, Real(1), select(x < 0, Real(-1), Real(0)));
    if constexpr (Estimator == kl_estimator::k2) slope = x;
    if constexpr (Estimator == kl_estimator::k3) slope = 1 - vector_exp(-x);
    return select(within(q), slope, Real(0));
  }

 private:
  static Real clamp(Real x, Real limit) {
    const Real above = select(x < -limit, -limit, x);
    return select(above > limit, limit, above);
  }
  static Real plain(Real x) {
    if constexpr (Estimator == kl_estimator::absolute) return select(x < 0, -x, x);
    if constexpr (Estimator == kl_estimator::k2) return x * x / 2;
    if constexpr (Estimator == kl_estimator::k3) return vector_exp(-x) - 1 + x;
    return x;
  }
};

/// Calls f with the kernel of an estimator.
template <class Real, class F>
void with_kl_kernel(kl_estimator estimator, double input_limit, double output_limit, const F& f) {
  const Real input = static_cast<Real>(input_limit), output = static_cast<Real>(output_limit);
  switch (estimator) {
    case kl_estimator::k1:
      return f(kl_kernel<kl_estimator::k1, Real>{input, output});
    case kl_estimator::absolute:
      return f(kl_kernel<kl_estimator::absolute, Real>{input, output});
    case kl_estimator::k2:
      return f(kl_kernel<kl_estimator::k2, Real>{input, output});
    case kl_estimator::k3:
      return f(kl_kernel<kl_estimator::k3, Real>{input, output});
  }
}

}  // namespace detail

/// Adds -coefficient times the gradient of a KL estimate to coefficients. With v(q) the estimator and rho the ratio:
///
///     loss = coefficient rho v(q),   ratio none:  kappa = -coefficient v'(q)
///                                    otherwise:   kappa = -coefficient rho (v(q) + v'(q)),  q itself for k3
///
/// k1 in the loss without ratio has the constant kappa -coefficient: nothing in expectation. k2's expected gradient on
/// policy is the reverse KL's, that of k3 without ratio the forward KL's; k3 with a ratio has the reverse KL's.
/// input_limit clamps q, output_limit clamps v; where one holds, v' = 0. With kl_clamp::weighted output_limit clamps
/// rho v, and where a clamp holds kappa = 0. verl's low_var_kl {20, 10} stops pulling where q < -2.61, just where the
/// policy has fallen furthest. OpenRLHF clamps k1, k2, k3 to 10; TRL has no clamps; NeMo-RL
/// has {20, 10} with kl_ratio::one and kl_clamp::weighted. Give reference_log_probs. Call after corrections and entropy
/// masks, with the same weights as the objective (verl, TRL). Its branches are its own, so give it an array of its own:
/// active; saturated where a clamp holds. Throws std::invalid_argument for a coefficient not finite, a limit not
/// positive. O(T). Source: Schulman, "Approximating KL divergence" (2020); the frameworks as read in August 2026.
struct kl_penalty {
  double coefficient = 0.001;
  kl_estimator estimator = kl_estimator::k3;
  kl_ratio ratio = kl_ratio::none;
  kl_gradient gradient = kl_gradient::itself;
  double input_limit = std::numeric_limits<double>::infinity();
  double output_limit = std::numeric_limits<double>::infinity();
  kl_clamp clamp = kl_clamp::estimate;

  template <class Real>
  void operator()(const token_batch<Real>& b, weights_of<Real> weights, coefficients_of<Real> coefficients,
                  std::span<branch> branches = {}) const {
    check();
    const Real scale = static_cast<Real>(-coefficient);
    const bool valued = ratio != kl_ratio::none, own = gradient == kl_gradient::itself;
    const double infinity = std::numeric_limits<double>::infinity();
    const double estimate_limit = clamp == kl_clamp::estimate ? output_limit : infinity;
    const Real weighted_limit = static_cast<Real>(clamp == kl_clamp::weighted ? output_limit : infinity);
    const Real silent_limit = static_cast<Real>(clamp == kl_clamp::weighted ? input_limit : infinity);
    detail::with_kl_kernel<Real>(estimator, input_limit, estimate_limit, [&](const auto& k) {
      const auto saturated_unless = [](bool free) {
        return detail::wide_branch<Real>(branch::saturated).or_if(free, branch::active);
      };
      const auto term = [=](Real q, Real rho) {
        const Real v = k.value(q), size = rho * detail::select(v < 0, -v, v);
        const Real slope = detail::select(valued, v, Real(0)) + detail::select(own, k.slope(q), q);
        const bool heard = (size <= weighted_limit) & (q <= silent_limit) & (q >= -silent_limit);
        return detail::token_value<Real>{scale * detail::select(heard, rho * slope, Real(0)),
                                         saturated_unless(heard & k.within(q))};
      };
      const auto slope = [=](Real, Real now, Real reference) {
        const Real q = now - reference;
        return detail::token_value<Real>{scale * detail::select(own, k.slope(q), q), saturated_unless(k.within(q))};
      };
      const auto plain = [=](Real, Real now, Real reference) { return term(now - reference, Real(1)); };
      const auto weighted = [=](Real, Real now, Real reference, Real denominator) {
        return term(now - reference, vector_exp(now - denominator));
      };
      const detail::token_array<Real> now{"log_probs", b.log_probs},
          reference{"reference_log_probs", b.reference_log_probs};
      if (ratio == kl_ratio::none && clamp == kl_clamp::estimate)
        run("kl_penalty", b, weights, coefficients, branches, std::array{now, reference}, slope);
      else if (ratio == kl_ratio::none || ratio == kl_ratio::one)
        run("kl_penalty", b, weights, coefficients, branches, std::array{now, reference}, plain);
      else if (ratio == kl_ratio::old)
        run("kl_penalty", b, weights, coefficients, branches,
            std::array{now, reference, detail::token_array<Real>{"old_log_probs", b.old_log_probs}}, weighted);
      else
        run("kl_penalty", b, weights, coefficients, branches,
            std::array{now, reference, detail::token_array<Real>{"sampled_log_probs", b.sampled_log_probs}}, weighted);
    });
  }

  /// Adds -coefficient v(old_log_probs - reference_log_probs) to per-token rewards: KL in the reward. 0 outside the
  /// mask. `ratio` and `gradient` play no part. Source: verl apply_kl_penalty; OpenRLHF and slime with k1.
  template <class Real>
  void add_to_rewards(const token_batch<Real>& b, std::type_identity_t<std::span<Real>> token_rewards) const {
    check();
    const Real scale = static_cast<Real>(-coefficient);
    detail::with_kl_kernel<Real>(estimator, input_limit, output_limit, [&](const auto& k) {
      run("kl_penalty::add_to_rewards", b, {}, token_rewards, {},
          std::array{detail::token_array<Real>{"old_log_probs", b.old_log_probs},
                     detail::token_array<Real>{"reference_log_probs", b.reference_log_probs}},
          [=](Real, Real old, Real reference) { return detail::token_value<Real>{scale * k.value(old - reference)}; });
    });
  }

 private:
  void check() const {
    require(is_finite(coefficient), "kl_penalty: coefficient is ", coefficient);
    require(input_limit > 0, "kl_penalty: input_limit is ", input_limit);
    require(output_limit > 0, "kl_penalty: output_limit is ", output_limit);
  }
  template <class Real, std::size_t N, class Kernel>
  static void run(const char* who, const token_batch<Real>& b, weights_of<Real> weights, coefficients_of<Real> out,
                  std::span<branch> branches, const std::array<detail::token_array<Real>, N>& arrays,
                  const Kernel& kernel) {
    detail::each_token<detail::combine::add>(who, b, detail::advantage_use::unused, weights, out, branches, arrays,
                                             [&](std::size_t) { return kernel; });
  }
};

}  // namespace rlvr
