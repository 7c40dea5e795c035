#pragma once
/// From verdicts to rewards per token, and from those to returns.

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include <rlvr/advantage/advantage_estimator.hpp>
#include <rlvr/advantage/whitening.hpp>
#include <rlvr/core/offsets.hpp>

namespace rlvr {

/// Where the tokens of B rollouts stand, and which of them are the policy's own.
///
/// Tokens of rollout i are [offsets[i], offsets[i+1]). The mask has 1 for tokens that are trained on, 0 for others
/// (tool outputs, padding of a padded batch); no mask means all. Cheap to copy; refers to arrays of the caller.
struct token_layout {
  std::span<const std::size_t> offsets;     ///< [B+1], begins with 0
  std::span<const std::uint8_t> mask = {};  ///< [T] or empty

  std::size_t size() const { return offsets.size() - 1; }
  std::size_t tokens() const { return offsets.back(); }
  bool active(std::size_t t) const { return mask.empty() || mask[t] != 0; }

  /// Throws std::invalid_argument, in the name of `who`, for offsets that do not begin with 0 or decrease, and a mask
  /// that does not cover the tokens. O(B).
  void check(const char* who) const {
    detail::check_offsets(offsets, who);
    require(mask.empty() || mask.size() == tokens(), who, ": a mask of ", mask.size(), " for ", tokens(), " tokens");
  }
};

/// 1 for active tokens of scored rollouts, 0 for all others, [T]: the mask that keeps unscored rollouts out of returns,
/// whitening and losses. O(T). Throws std::invalid_argument for a layout or verdicts that do not fit.
inline std::vector<std::uint8_t> scored_mask(std::span<const verdict> verdicts, const token_layout& layout) {
  layout.check("scored_mask");
  require(verdicts.size() == layout.size(), "scored_mask: ", verdicts.size(), " verdicts for ", layout.size(),
          " rollouts");
  std::vector<std::uint8_t> out(layout.tokens());
  for (std::size_t i = 0; i < layout.size(); ++i)
    for (std::size_t t = layout.offsets[i]; t < layout.offsets[i + 1]; ++t)
      out[t] = verdicts[i].scored && layout.active(t);
  return out;
}

/// r_t = [t is the rollout's last active token] R_i - coefficient penalty_t on active tokens, 0 on others; [T].
///
/// The penalty is a KL estimate per token (k1: log pi - log ref), or anything else to keep low; pass no penalties for
/// none. A rollout without active tokens has nowhere to put its reward; an unscored rollout gets zeros. Throws
/// std::invalid_argument for arrays that do not fit, and a scored reward, a penalty of an active token or a coefficient
/// that is not finite, naming its index, and for rewards that overflow. O(T).
/// Source: verl apply_kl_penalty, OpenRLHF compute_reward, NeMo-RL _build_token_level_rewards.
inline std::vector<double> token_rewards(std::span<const verdict> verdicts, const token_layout& layout,
                                         std::span<const double> penalties = {}, double coefficient = 0.0) {
  layout.check("token_rewards");
  require(verdicts.size() == layout.size(), "token_rewards: ", verdicts.size(), " verdicts for ", layout.size(),
          " rollouts");
  require(penalties.empty() || penalties.size() == layout.tokens(), "token_rewards: ", penalties.size(),
          " penalties for ", layout.tokens(), " tokens");
  require(std::isfinite(coefficient), "token_rewards: coefficient is ", coefficient);
  std::vector<double> out(layout.tokens());
  for (std::size_t i = 0; i < layout.size(); ++i) {
    if (!verdicts[i].scored) continue;
    require(std::isfinite(verdicts[i].reward), "token_rewards: reward ", i, " is ", verdicts[i].reward);
    bool placed = false;
    for (std::size_t t = layout.offsets[i + 1]; t-- > layout.offsets[i];) {
      if (!layout.active(t)) continue;
      if (!penalties.empty()) {
        require(std::isfinite(penalties[t]), "token_rewards: penalty ", t, " is ", penalties[t]);
        out[t] = -coefficient * penalties[t];
      }
      if (!placed) out[t] += verdicts[i].reward;
      placed = true;
    }
  }
  detail::check_finite("token_rewards", "reward", out);
  return out;
}

/// What a return does at a token that is masked out: it passes over it, or ends there.
enum class masked_tokens { skipped, end_return };

/// G_t = r_t + gamma G_{t+1} on active tokens, 0 on others; [T]. Rewards of masked tokens are ignored.
///
/// skipped: G carries over masked tokens undiscounted (verl since v0.9). end_return: what lies behind a masked token is
/// lost (SkyRL, verl before v0.9). Throws
/// std::invalid_argument for arrays that do not fit, a reward of an active token that is not finite, or gamma outside
/// [0, 1]. O(T).
inline std::vector<double> discounted_returns(std::span<const double> rewards, const token_layout& layout,
                                              double gamma = 1.0, masked_tokens masked = masked_tokens::skipped) {
  layout.check("discounted_returns");
  require(rewards.size() == layout.tokens(), "discounted_returns: ", rewards.size(), " rewards for ", layout.tokens(),
          " tokens");
  require(gamma >= 0 && gamma <= 1, "discounted_returns: gamma is ", gamma);
  std::vector<double> out(rewards.size());
  for (std::size_t i = 0; i < layout.size(); ++i) {
    double running = 0;
    for (std::size_t t = layout.offsets[i + 1]; t-- > layout.offsets[i];) {
      if (layout.active(t)) {
        require(std::isfinite(rewards[t]), "discounted_returns: reward ", t, " is ", rewards[t]);
        out[t] = running = rewards[t] + gamma * running;
      } else if (masked == masked_tokens::end_return) {
        running = 0;
      }
    }
  }
  detail::check_finite("discounted_returns", "return", out);
  return out;
}

/// REINFORCE++: discounted returns, whitened over the active tokens of the batch; [T], 0 at masked tokens.
///
/// The mean and the deviation weigh tokens, so that long rollouts decide them; no group is needed. The default
/// deviation is verl's; OpenRLHF and NeMo-RL have {.ddof = 0, .epsilon = 1e-8, .place = epsilon_place::variance_floor}.
/// Equal returns everywhere give exact zeros. Throws as discounted_returns and whiten do. O(T). Source: Hu 2025, arXiv
/// 2501.03262; verl compute_reinforce_plus_plus_outcome_advantage. Its variant with a baseline is token_whitened() of
/// normalizer.hpp.
inline std::vector<double> whitened_returns(std::span<const double> rewards, const token_layout& layout,
                                            double gamma = 1.0, masked_tokens masked = masked_tokens::skipped,
                                            const deviation& d = {.epsilon = 1e-8,
                                                                  .place = epsilon_place::beside_variance}) {
  std::vector<double> out = discounted_returns(rewards, layout, gamma, masked);
  const std::vector<std::uint8_t> all(layout.mask.empty() ? out.size() : 0, std::uint8_t{1});
  whiten(std::span<double>(out), layout.mask.empty() ? std::span<const std::uint8_t>(all) : layout.mask, d);
  return out;
}

}  // namespace rlvr
