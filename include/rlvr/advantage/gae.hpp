#pragma once
/// Generalised advantage estimation: from rewards and values per token to advantages and returns per token.

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <span>
#include <vector>

#include <rlvr/advantage/advantage_estimator.hpp>
#include <rlvr/advantage/token_rewards.hpp>

namespace rlvr {

struct gae_options {
  double gamma = 1.0;   ///< discount, in [0, 1]
  double lambda = 1.0;  ///< in [0, 1]; 1 is the return minus the value, 0 the one-step error
  /// When above 0, a rollout of n active tokens has lambda = 1 - 1 / max(length_adaptive n, 1) instead (VAPO).
  double length_adaptive = 0.0;
};

/// Advantages and the targets of the value function, each [T]; both 0 at masked tokens.
struct advantages_and_returns {
  std::vector<double> advantages;
  std::vector<double> returns;
};

/// A_t = delta_t + gamma lambda A_{t+1},  delta_t = r_t + gamma V_{t+1} - V_t,  return_t = A_t + V_t.
///
/// t + 1 stands for the next active token: values, rewards and the recursion pass over masked tokens, whose own entries
/// are ignored. Behind the last active token the value is 0, also for rollouts that were cut. Not whitened: whiten the
/// advantages with the same mask where that is wanted (verl always, NeMo-RL on request). Different lambdas for policy
/// and value (VAPO) are two calls.
///
/// Coming from a trainer without a mask in the recursion (SkyRL, slime): pass no mask. OpenRLHF multiplies values and
/// rewards by the mask first and recurs over all tokens: do the same and pass no mask. Throws std::invalid_argument for
/// arrays that do not fit, an option out of range, and a reward or value of an active token that is not finite, naming
/// its index. O(T).
/// Source: Schulman et al. 2015, arXiv 1506.02438, equation 16; verl compute_gae_advantage_return, NeMo-RL
/// GeneralizedAdvantageEstimator. length_adaptive: VAPO (Yue et al. 2025, arXiv 2504.05118).
inline advantages_and_returns gae(std::span<const double> rewards, std::span<const double> values,
                                  const token_layout& layout, const gae_options& o = {}) {
  layout.check("gae");
  require(rewards.size() == layout.tokens(), "gae: ", rewards.size(), " rewards for ", layout.tokens(), " tokens");
  require(values.size() == layout.tokens(), "gae: ", values.size(), " values for ", layout.tokens(), " tokens");
  require(o.gamma >= 0 && o.gamma <= 1, "gae: gamma is ", o.gamma);
  require(o.lambda >= 0 && o.lambda <= 1, "gae: lambda is ", o.lambda);
  require(o.length_adaptive >= 0 && std::isfinite(o.length_adaptive), "gae: length_adaptive is ", o.length_adaptive);
  advantages_and_returns out{std::vector<double>(rewards.size()), std::vector<double>(rewards.size())};
  for (std::size_t i = 0; i < layout.size(); ++i) {
    double lambda = o.lambda;
    if (o.length_adaptive > 0) {
      std::size_t n = 0;
      for (std::size_t t = layout.offsets[i]; t < layout.offsets[i + 1]; ++t) n += layout.active(t);
      lambda = 1 - 1 / std::max(o.length_adaptive * static_cast<double>(n), 1.0);
    }
    double next_value = 0, advantage = 0;
    for (std::size_t t = layout.offsets[i + 1]; t-- > layout.offsets[i];) {
      if (!layout.active(t)) continue;
      require(std::isfinite(rewards[t]), "gae: reward ", t, " is ", rewards[t]);
      require(std::isfinite(values[t]), "gae: value ", t, " is ", values[t]);
      const double error = rewards[t] + o.gamma * next_value - values[t];
      out.advantages[t] = advantage = error + o.gamma * lambda * advantage;
      out.returns[t] = advantage + values[t];
      next_value = values[t];
    }
  }
  detail::check_finite("gae", "advantage", out.advantages);
  detail::check_finite("gae", "return", out.returns);
  return out;
}

}  // namespace rlvr
