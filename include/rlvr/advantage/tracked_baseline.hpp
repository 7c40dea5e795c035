#pragma once
/// Reward minus a success rate remembered for each prompt: one rollout per prompt is enough.

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include <rlvr/advantage/advantage_estimator.hpp>
#include <rlvr/advantage/whitening.hpp>

namespace rlvr {

struct success_tracker_options {
  double drift_half_life = 0.06;  ///< mean |log pi - log pi_then| per token that halves the memory; > 0
  double least_memory = 0.875;    ///< rho is never below; in (0, 1)
  double most_memory = 0.96;      ///< nor above; in [least_memory, 1)
};

/// Discounted counts of success and failure for each prompt: value = alpha / (alpha + beta).
///
/// After a reward R in [0, 1], alpha <- rho alpha + R and beta <- rho beta + 1 - R, where the memory rho falls with how
/// far the policy has drifted since the prompt's last rollout. A value: copying `alpha` and `beta` saves it. start,
/// value and observe throw std::invalid_argument when the two differ in size. Source: SPO (Xu and Ding 2025, arXiv
/// 2509.13232); constants of verl-recipe spo.
struct success_tracker {
  success_tracker_options options = {};
  std::vector<double> alpha;  ///< [prompts]
  std::vector<double> beta;   ///< [prompts]

  success_tracker() = default;

  /// All prompts at 1/2 with the weight of one rollout (alpha = beta = 1/2). Throws std::invalid_argument for options
  /// out of range.
  explicit success_tracker(std::size_t prompts, const success_tracker_options& o = {})
      : options(o), alpha(prompts, 0.5), beta(prompts, 0.5) {
    require(o.drift_half_life > 0, "success_tracker: drift_half_life is ", o.drift_half_life);
    require(o.least_memory > 0 && o.least_memory <= o.most_memory && o.most_memory < 1,
            "success_tracker: memory between ", o.least_memory, " and ", o.most_memory);
  }

  /// Starts a prompt from `successes` of `rollouts` that were sampled beforehand: the weight of 1 / (1 - least_memory)
  /// rollouts, smoothed by half a success and half a failure. No rollouts leave it as it is. Throws
  /// std::invalid_argument for a prompt out of range or more successes than rollouts. O(1).
  void start(std::size_t prompt, std::size_t successes, std::size_t rollouts) {
    check(prompt);
    require(successes <= rollouts, "success_tracker: ", successes, " successes of ", rollouts, " rollouts");
    if (rollouts == 0) return;
    const double weight = 1 / (1 - options.least_memory), n = static_cast<double>(rollouts);
    const double s = static_cast<double>(successes);
    alpha[prompt] = weight * (s + 0.5) / (n + 1);
    beta[prompt] = weight * (n - s + 0.5) / (n + 1);
  }

  /// The success rate expected of a prompt. O(1). Throws std::invalid_argument for a prompt out of range.
  double value(std::size_t prompt) const {
    check(prompt);
    return alpha[prompt] / (alpha[prompt] + beta[prompt]);
  }

  /// rho for a drift of so many nats per token, 2^(-drift / drift_half_life) between its bounds. O(1). Throws
  /// std::invalid_argument for a drift that is negative or NaN.
  double memory(double drift) const {
    require(drift >= 0, "success_tracker: drift is ", drift);
    return std::clamp(std::exp2(-drift / options.drift_half_life), options.least_memory, options.most_memory);
  }

  /// Takes one rollout's verdict; an unscored one changes nothing. `drift` is the mean over the tokens of the prompt's
  /// previous rollout of |log pi now - log pi then|; 0 when there is none. Several rollouts of a prompt are several
  /// calls. Throws std::invalid_argument for a prompt out of range, a scored reward outside [0, 1], or an impossible
  /// drift, with nothing changed. O(1).
  void observe(std::size_t prompt, const verdict& v, double drift = 0.0) {
    check(prompt);
    const double rho = memory(drift);
    if (!v.scored) return;
    require(v.reward >= 0 && v.reward <= 1, "success_tracker: reward of prompt ", prompt, " is ", v.reward,
            ", expected between 0 and 1");
    alpha[prompt] = rho * alpha[prompt] + v.reward;
    beta[prompt] = rho * beta[prompt] + 1 - v.reward;
  }

 private:
  void check(std::size_t prompt) const {
    require(alpha.size() == beta.size(), "success_tracker: ", alpha.size(), " alpha for ", beta.size(), " beta");
    require(prompt < alpha.size(), "success_tracker: prompt ", prompt, ", but there are ", alpha.size());
  }
};

/// A_i = whiten(R_i - value of its prompt) over the scored rollouts of the batch; [B] for [B] verdicts and prompts.
///
/// The values are those before this batch is observed, so that the baseline does not depend on the rollout. There are
/// no groups; whitening is per rollout, not per token, and makes the sum zero. Unscored rollouts get 0; equal
/// differences (one scored rollout, say) give exact zeros. Throws std::invalid_argument when sizes differ, for a prompt
/// out of range, and a scored reward that is not finite, naming its index. O(B). Source: SPO, as above; epsilon 1e-8,
/// ddof 1.
inline std::vector<double> tracked_advantages(std::span<const verdict> verdicts, std::span<const std::uint32_t> prompts,
                                              const success_tracker& tracker, const deviation& d = {.epsilon = 1e-8}) {
  require(prompts.size() == verdicts.size(), "tracked_advantages: ", prompts.size(), " prompts for ", verdicts.size(),
          " verdicts");
  std::vector<double> out(verdicts.size());
  std::vector<std::uint8_t> scored(verdicts.size());
  for (std::size_t i = 0; i < out.size(); ++i) {
    scored[i] = verdicts[i].scored;
    if (!verdicts[i].scored) continue;
    require(std::isfinite(verdicts[i].reward), "tracked_advantages: reward ", i, " is ", verdicts[i].reward);
    out[i] = verdicts[i].reward - tracker.value(prompts[i]);
  }
  whiten(std::span<double>(out), std::span<const std::uint8_t>(scored), d);
  return out;
}

}  // namespace rlvr
