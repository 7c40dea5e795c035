#pragma once
/// MiniRL: the token-level surrogate of a sequence objective, corrected for the sampler and for staleness separately.

#include <array>

#include <rlvr/core/exponential.hpp>
#include <rlvr/objective/objective.hpp>

namespace rlvr {

/// With r = exp(log_probs - old_log_probs), which decides, and v = exp(log_probs - sampled_log_probs), which weights:
///
///     loss = -M sg(min(v, cap)) A log pi,    kappa = M min(v, cap) A
///     M = 0 where A > 0 and r > 1 + high, or A < 0 and r < 1 - low;  1 elsewhere
///
/// to be summed over tokens without normalising by length. Branches: clipped_high, clipped_low (M = 0), active.
/// Throws std::invalid_argument for low, high or cap negative or NaN.
/// Source: Zheng et al. 2025, arXiv 2512.01374, eq. 7; advantages are rewards less the group's mean.
struct mini_rl {
  double low = 0.2;
  double high = 0.27;
  double cap = 5;

  template <class Real>
  void operator()(const token_batch<Real>& b, weights_of<Real> weights, coefficients_of<Real> coefficients,
                  std::span<branch> branches = {}) const {
    require(low >= 0, "mini_rl: low is ", low);
    require(high >= 0, "mini_rl: high is ", high);
    require(cap >= 0, "mini_rl: cap is ", cap);
    const auto kernel = [floor = static_cast<Real>(1 - low), ceiling = static_cast<Real>(1 + high),
                         most = static_cast<Real>(cap)](Real a, Real now, Real old, Real sampled) {
      const Real r = vector_exp(now - old), v = vector_exp(now - sampled), w = v > most ? most : v;
      const bool up = (a > 0) & (r > ceiling), down = (a < 0) & (r < floor), drop = up | down;
      const auto code =
          detail::wide_branch<Real>(branch::active).or_if(down, branch::clipped_low).or_if(up, branch::clipped_high);
      return detail::token_value<Real>{a * detail::select(drop, Real(0), w), code};
    };
    detail::each_token<detail::combine::assign>(
        "mini_rl", b, detail::advantage_use::needed, weights, coefficients, branches,
        std::array<detail::token_array<Real>, 3>{{{"log_probs", b.log_probs},
                                                  {"old_log_probs", b.old_log_probs},
                                                  {"sampled_log_probs", b.sampled_log_probs}}},
        [&](std::size_t) { return kernel; });
  }
};

}  // namespace rlvr
