#pragma once
/// A baseline for every token position of a group, of least variance.

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <span>
#include <vector>

#include <rlvr/advantage/advantage_estimator.hpp>
#include <rlvr/advantage/gae.hpp>
#include <rlvr/advantage/token_rewards.hpp>

namespace rlvr {

/// A_t = G_t - B_p,  p the number of active tokens of the rollout before t,  G_t its reward to go:
///
///     B_p = sum_i W_ip G_ip / (sum_i W_ip + epsilon)        over the group's rollouts that have a token p
///     W_ip = sum_{q <= p} rho_q^2 w_q,   w_q = 1 - 2 pi_q + sum_v pi_qv^2
///
/// w is the squared norm of grad log pi with respect to the logits, so that B_p makes the sum of W (G - B)^2 least: the
/// variance of the gradient of the tokens up to p where gradients of different tokens are uncorrelated. rho weighs
/// tokens that another distribution sampled.
///
/// rewards [T] are per token, as of token_rewards; log_probs [T] those of the sampled tokens, squared_sums [T] the sums
/// over the vocabulary of squared probabilities, importance_weights [T] or empty. Entries of masked tokens are ignored;
/// mask unscored rollouts (scored_mask). Returns advantages and G, both [T] and 0 at masked tokens.
///
/// A group's only rollout with tokens, and the tokens of its longest one behind the second longest, have nothing to be
/// compared with: 0, or G itself as in verl (lone, tail). Where the weights are all zero, B_p is the plain mean. With
/// epsilon 0, equal returns give exact zeros, and a constant added to all returns changes nothing. Advantages of a
/// position sum to zero weighted by W.
///
/// Throws std::invalid_argument for arrays that do not fit, an empty group, epsilon negative or not finite, advantages
/// that overflow, and at an active token, naming it, a reward, log-prob or weight that is not finite, a log-prob above
/// 0 or a sum of squares outside [0, 1] (1e-3 above is let through: scorers round). O(T).
///
/// Source: Li et al. 2026, arXiv 2602.07078; verl compute_multi_turn_optimal_token_baseline_advantage (epsilon 1e-8).
struct optimal_token_baseline {
  lone_rollout lone = lone_rollout::zero;
  lone_rollout tail = lone_rollout::zero;
  double epsilon = 0;

  advantages_and_returns operator()(std::span<const double> rewards, const token_layout& layout, const groups& g,
                                    std::span<const double> log_probs, std::span<const double> squared_sums,
                                    std::span<const double> importance_weights = {}) const {
    layout.check("optimal_token_baseline");
    detail::check_groups(layout.size(), g);
    require(epsilon >= 0 && std::isfinite(epsilon), "optimal_token_baseline: epsilon is ", epsilon);
    const auto fits = [&](std::span<const double> values, const char* name) {
      require(values.size() == layout.tokens(), "optimal_token_baseline: ", values.size(), " ", name, " for ",
              layout.tokens(), " tokens");
    };
    fits(rewards, "rewards");
    fits(log_probs, "log_probs");
    fits(squared_sums, "squared_sums");
    if (!importance_weights.empty()) fits(importance_weights, "importance_weights");

    advantages_and_returns out{std::vector<double>(rewards.size()), std::vector<double>(rewards.size())};
    std::vector<position> positions;
    for (std::size_t group = 0; group < g.size(); ++group) {
      positions.clear();
      for (std::size_t i = g.begin(group); i < g.end(group); ++i) {
        double running = 0;
        for (std::size_t t = layout.offsets[i + 1]; t-- > layout.offsets[i];) {
          if (!layout.active(t)) continue;
          require(std::isfinite(rewards[t]), "optimal_token_baseline: reward ", t, " is ", rewards[t]);
          out.returns[t] = running += rewards[t];
        }
        double energy = 0;
        std::size_t p = 0;
        for (std::size_t t = layout.offsets[i]; t < layout.offsets[i + 1]; ++t) {
          if (!layout.active(t)) continue;
          energy += squared_score(log_probs, squared_sums, importance_weights, t);
          if (p == positions.size()) positions.push_back({.origin = out.returns[t]});
          positions[p++].add(out.returns[t], energy);
        }
      }
      const lone_rollout single = !positions.empty() && positions[0].count == 1 ? lone : tail;
      for (std::size_t i = g.begin(group); i < g.end(group); ++i) {
        std::size_t p = 0;
        for (std::size_t t = layout.offsets[i]; t < layout.offsets[i + 1]; ++t) {
          if (!layout.active(t)) continue;
          const position& at = positions[p++];
          if (at.count > 1)
            out.advantages[t] = out.returns[t] - at.baseline(epsilon);
          else if (single == lone_rollout::reward)
            out.advantages[t] = out.returns[t];
        }
      }
    }
    detail::check_finite("optimal_token_baseline", "advantage", out.advantages);
    detail::check_finite("optimal_token_baseline", "return", out.returns);
    return out;
  }

 private:
  /// Sums over the rollouts that have a token at one position, returns relative to the first one's.
  struct position {
    double origin = 0, weights = 0, weighted = 0, plain = 0;
    std::size_t count = 0;

    void add(double value, double weight) {
      weights += weight;
      weighted += weight * (value - origin);
      plain += value - origin;
      ++count;
    }
    double baseline(double added) const {
      if (weights == 0) return origin + plain / static_cast<double>(count);
      const double total = weights + added;
      return origin * (weights / total) + weighted / total;
    }
  };

  static double squared_score(std::span<const double> log_probs, std::span<const double> squared_sums,
                              std::span<const double> importance_weights, std::size_t t) {
    constexpr double rounding = 1e-3;
    require(log_probs[t] <= rounding && std::isfinite(log_probs[t]), "optimal_token_baseline: log-prob ", t, " is ",
            log_probs[t]);
    require(squared_sums[t] >= 0 && squared_sums[t] <= 1 + rounding, "optimal_token_baseline: squared sum ", t, " is ",
            squared_sums[t]);
    const double w = std::max(1 - 2 * std::exp(log_probs[t]) + squared_sums[t], 0.0);
    if (importance_weights.empty()) return w;
    require(std::isfinite(importance_weights[t]), "optimal_token_baseline: importance weight ", t, " is ",
            importance_weights[t]);
    return w * importance_weights[t] * importance_weights[t];
  }
};

}  // namespace rlvr
