#pragma once
/// Tokens and sequences that the sampler's distribution and the policy's disagree on too much, left out.

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <vector>

#include <rlvr/objective/objective.hpp>

namespace rlvr {

/// Estimates of the divergence of the policy from the sampler at one token, with E = old_log_probs - sampled_log_probs,
/// q = exp(old_log_probs), p = exp(sampled_log_probs):
/// k1: -E.  k2: E^2 / 2.  k3: e^E - 1 - E.  binary_kl: KL(p || q) of {this token, any other}.  total_variation: |p -
/// q|.
enum class sampler_divergence { k1, k2, k3, binary_kl, total_variation };

/// What the divergences of a sequence's active tokens are put together to, the token itself excepted.
enum class rejection_over { token, sequence_sum, sequence_mean, sequence_max };

/// Rejects the tokens whose statistic is outside [min, max], or all tokens of a sequence whose statistic is.
///
///  - `kept(b)`: the batch's mask without the rejected tokens, [T]. verl puts it in the place of the mask, so that
///    rejected tokens leave the denominators too.
///  - `r(b, coefficients, branches)`: coefficients of rejected tokens become 0, branches rejected; weights stay as
///    they were, as in OpenRLHF.
///
/// E is clamped to +-log_ratio_limit (verl 20); binary_kl and total_variation clamp p and q to [1e-6, 1 - 1e-6]
/// (OpenRLHF). Bounds of ratios [a, b] are bounds [-log b, -log a] of k1 if they are of the policy over the sampler,
/// and [log a, log b] if they are of the sampler over the policy (verl's "a_b").
/// Throws std::invalid_argument unless min <= max and log_ratio_limit > 0, for arrays that are not given and values
/// that are not finite. O(T). Source: verl compute_rollout_rejection_mask; OpenRLHF PolicyLoss is_correction_gating.
struct rejection {
  sampler_divergence divergence = sampler_divergence::k1;
  rejection_over over = rejection_over::token;
  double min = -std::numeric_limits<double>::infinity();
  double max = std::numeric_limits<double>::infinity();
  double log_ratio_limit = 20;

  template <class Real>
  std::vector<std::uint8_t> kept(const token_batch<Real>& b) const {
    require(min <= max, "rejection: the statistic is kept in [", min, ", ", max, "]");
    require(log_ratio_limit > 0, "rejection: log_ratio_limit is ", log_ratio_limit);
    validate(b, "rejection");
    std::vector<Real> value(b.tokens());
    detail::each_token<detail::combine::assign>(
        "rejection", b, detail::advantage_use::unused, {}, value, {},
        std::array<detail::token_array<Real>, 2>{
            {{"old_log_probs", b.old_log_probs}, {"sampled_log_probs", b.sampled_log_probs}}},
        [this](std::size_t) {
          return [this](Real, Real old, Real sampled) {
            return detail::token_value<Real>{
                static_cast<Real>(one(static_cast<double>(old), static_cast<double>(sampled)))};
          };
        });
    std::vector<std::uint8_t> out(b.tokens());
    for (std::size_t i = 0; i < b.size(); ++i) {
      double sum = 0, most = -std::numeric_limits<double>::infinity();
      for (std::size_t t = b.begin(i); t < b.end(i); ++t) {
        if (!b.active(t)) continue;
        sum += static_cast<double>(value[t]);
        most = std::max(most, static_cast<double>(value[t]));
      }
      const std::size_t n = detail::active_length(b, i);
      const double mean = n > 0 ? sum / static_cast<double>(n) : 0.0;
      for (std::size_t t = b.begin(i); t < b.end(i); ++t) {
        const double statistic = over == rejection_over::token          ? static_cast<double>(value[t])
                                 : over == rejection_over::sequence_sum ? sum
                                 : over == rejection_over::sequence_max ? most
                                                                        : mean;
        out[t] = b.active(t) && statistic >= min && statistic <= max;
      }
    }
    return out;
  }

  template <class Real>
  void operator()(const token_batch<Real>& b, coefficients_of<Real> coefficients,
                  std::span<branch> branches = {}) const {
    validate(b, "rejection");
    require(coefficients.size() == b.tokens(), "rejection: ", coefficients.size(), " coefficients for ", b.tokens(),
            " tokens");
    require(branches.empty() || branches.size() == b.tokens(), "rejection: ", branches.size(), " branches for ",
            b.tokens(), " tokens");
    const std::vector<std::uint8_t> keep = kept(b);
    for (std::size_t t = 0; t < keep.size(); ++t) {
      if (keep[t] != 0) continue;
      coefficients[t] = 0;
      if (!branches.empty()) branches[t] = b.active(t) ? branch::rejected : branch::masked;
    }
  }

 private:
  double one(double old, double sampled) const {
    if (!is_finite(old - sampled)) return old - sampled;  // for the check of values
    const double e = std::clamp(old - sampled, -log_ratio_limit, log_ratio_limit);
    if (divergence == sampler_divergence::k1) return -e;
    if (divergence == sampler_divergence::k2) return e * e / 2;
    if (divergence == sampler_divergence::k3) return std::exp(e) - 1 - e;
    const double p = std::clamp(std::exp(sampled), 1e-6, 1 - 1e-6), q = std::clamp(std::exp(old), 1e-6, 1 - 1e-6);
    if (divergence == sampler_divergence::total_variation) return std::fabs(p - q);
    return p * std::log(p / q) + (1 - p) * std::log((1 - p) / (1 - q));
  }
};

}  // namespace rlvr
