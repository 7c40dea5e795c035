#pragma once
/// Corrections for tokens that another distribution sampled: factors on coefficients.

#include <algorithm>
#include <array>
#include <cstddef>
#include <limits>

#include <rlvr/core/exponential.hpp>
#include <rlvr/objective/objective.hpp>

namespace rlvr {

/// What an importance weight is taken over: a token, the product over its sequence, or their geometric mean.
enum class importance_over { token, sequence_product, sequence_geometric_mean };

/// What happens at the bounds [min, max] of a weight v.
enum class importance_bound {
  truncate,  ///< clamp(v, min, max): truncated importance sampling (TIS)
  zero,      ///< v inside, 0 outside: masked importance sampling, IcePop
  reject     ///< 1 inside, 0 outside: rejection; combine with another correction for the weight
};

/// Multiplies coefficients by a detached weight of the policy when the update began over the sampler:
///
///     v = exp(E),  E = old_log_probs - sampled_log_probs of the token, their sum, or their mean over active tokens,
///
/// E clamped to +-log_ratio_limit, bounded as `bound` says. Call after an objective; corrections compose. KL terms are
/// added afterwards (no framework weights them).
/// Branches: tokens whose factor is 0 become rejected; the others keep theirs.
/// Defaults are verl's (token level, cap 2, log clamped at 20). TRL: sequence product, zero, [0, 3]. OpenRLHF: truncate
/// [0.5, 5]; icepop is zero; its seq-mask-tis is {geometric mean, reject} then {token, truncate, [0, inf]}. slime:
/// truncate [0, 2]. NeMo-RL: min 0. Requires log_ratio_limit finite for weights that may be infinite.
/// Throws std::invalid_argument unless 0 <= min <= max and log_ratio_limit > 0. O(T).
/// Source: TIS, Yao et al. 2025; IcePop, Ling team 2025; the frameworks as read in August 2026.
struct importance_correction {
  importance_over over = importance_over::token;
  importance_bound bound = importance_bound::truncate;
  double min = 0;
  double max = 2;
  double log_ratio_limit = 20;

  template <class Real>
  void operator()(const token_batch<Real>& b, coefficients_of<Real> coefficients,
                  std::span<branch> branches = {}) const {
    require(min >= 0 && min <= max, "importance_correction: the weights are in [", min, ", ", max, "]");
    require(log_ratio_limit > 0, "importance_correction: log_ratio_limit is ", log_ratio_limit);
    const bool per_token = over == importance_over::token;
    detail::each_token<detail::combine::multiply>(
        "importance_correction", b, detail::advantage_use::unused, {}, coefficients, branches,
        std::array<detail::token_array<Real>, 2>{
            {{"old_log_probs", b.old_log_probs}, {"sampled_log_probs", b.sampled_log_probs}}},
        [&, floor = static_cast<Real>(min), ceiling = static_cast<Real>(max),
         least = std::max(static_cast<Real>(-log_ratio_limit), least_exponent<Real>),
         most = std::min(static_cast<Real>(log_ratio_limit), most_exponent<Real>), how = bound](std::size_t i) {
          Real sequence = 0;
          if (!per_token) {
            double e =
                detail::sum_active(b, i, [&](std::size_t t) { return b.old_log_probs[t] - b.sampled_log_probs[t]; });
            if (over == importance_over::sequence_geometric_mean)
              e /= static_cast<double>(std::max<std::size_t>(detail::active_length(b, i), 1));
            sequence = static_cast<Real>(e);
          }
          const Real unknown = sequence == sequence ? Real(0) : sequence;  // a NaN, which the clamp would lose
          return [floor, ceiling, least, most, how, per_token, sequence, unknown](Real, Real old, Real sampled) {
            const Real e = detail::select(per_token, old - sampled, sequence);
            const Real v = vector_exp_in_range(detail::clamp_around_zero(e, least, most));
            const bool outside = (v < floor) | (v > ceiling);
            const Real raised = detail::select(v < floor, floor, v);
            const Real truncated = detail::select(raised > ceiling, ceiling, raised);
            const Real inside = detail::select(how == importance_bound::zero, v, Real(1));
            const Real masked = detail::select(outside, Real(0), inside);
            const Real factor = detail::select(how == importance_bound::truncate, truncated, masked) + unknown;
            const detail::wide_branch<Real> code = branch::active;
            return detail::token_value<Real>{factor, code.or_if(factor == 0, branch::rejected)};
          };
        });
  }
};

/// Off-policy sequence masking: drops the sequences with A < 0 that the policy has left too far.
///
///     coefficient := 0 where A < 0 and mean_t(old_log_probs - log_probs) > threshold
///
/// the mean over the sequence's active tokens. Give the sampler's log-probabilities as old_log_probs to count the
/// mismatch of the engines too, as TRL does. Branches: rejected; the others keep theirs.
/// Throws std::invalid_argument for a NaN threshold. O(T). Source: DeepSeek-V3.2, arXiv 2512.02556; slime (1e-4), TRL.
struct off_policy_mask {
  double threshold = 1e-4;

  template <class Real>
  void operator()(const token_batch<Real>& b, coefficients_of<Real> coefficients,
                  std::span<branch> branches = {}) const {
    require(threshold == threshold, "off_policy_mask: threshold is ", threshold);
    detail::each_token<detail::combine::multiply>(
        "off_policy_mask", b, detail::advantage_use::needed, {}, coefficients, branches, detail::now_and_old(b),
        [&](std::size_t i) {
          const double left =
              detail::sum_active(b, i, [&](std::size_t t) { return b.old_log_probs[t] - b.log_probs[t]; });
          const std::size_t n = std::max<std::size_t>(detail::active_length(b, i), 1);
          const bool far = left / static_cast<double>(n) > threshold;
          return [far](Real a, Real, Real) {
            const bool drop = (a < 0) & far;
            const detail::wide_branch<Real> code = branch::active;
            return detail::token_value<Real>{detail::select(drop, Real(0), Real(1)),
                                             code.or_if(drop, branch::rejected)};
          };
        });
  }
};

}  // namespace rlvr
