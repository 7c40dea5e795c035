#pragma once
/// What became of one visit to a prompt: all that a selector learns from.

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include <rlvr/core/error.hpp>
#include <rlvr/core/moments.hpp>

namespace rlvr {

/// A group of rollouts of one prompt, summed up. Rewards are in [0, 1]; outcome_of maps other ranges to it.
struct outcome {
  std::uint32_t rollouts = 0;  ///< scored rollouts n; a visit with none teaches nothing about the rewards
  double mean = 0;             ///< of the rewards: the pass rate when they are 0 or 1
  double variance = 0;         ///< of the rewards, divided by n: p (1 - p) when they are 0 or 1
  double spread = 0;           ///< mean |reward - mean|, the mean |advantage| before any scaling
  double entropy = 1;          ///< in [0, 1]: entropy of the tokens or of the distinct answers over its largest
                               ///< value; 1 when not measured
  double divergence = 0;       ///< mean |log pi_then - log pi_now| of the prompt's last response, nats per token
  double diversity = 0;        ///< in [0, 1]: how different the trajectories are, e.g. 1 - self-BLEU
  std::uint64_t step = 0;      ///< the training step that the visit belongs to; what decays, decays per step

  double successes() const { return mean * static_cast<double>(rollouts); }
  double failures() const { return (1 - mean) * static_cast<double>(rollouts); }
};

/// The rewards a verifier can give.
struct reward_range {
  double low = 0;
  double high = 1;
};

/// Sums up the scored rewards of one group, mapped from `range` to [0, 1]. O(n). Throws
/// std::invalid_argument for an empty or infinite range, and for a reward that is NaN or outside it, naming its index.
inline outcome outcome_of(std::span<const double> rewards, std::uint64_t step = 0, reward_range range = {}) {
  require(range.low < range.high && std::isfinite(range.high - range.low), "outcome_of: reward range [", range.low,
          ", ", range.high, "]");
  for (std::size_t i = 0; i < rewards.size(); ++i)
    require(rewards[i] >= range.low && rewards[i] <= range.high, "outcome_of: reward ", i, " is ", rewards[i],
            ", outside [", range.low, ", ", range.high, "]");
  outcome out{.rollouts = static_cast<std::uint32_t>(rewards.size()), .step = step};
  if (rewards.empty()) return out;
  // Mapped before they are summed up: what a mean rounds off is then small beside 1, however narrow the range.
  std::vector<double> unit(rewards.begin(), rewards.end());
  for (double& r : unit) r = (r - range.low) / (range.high - range.low);
  const moments m = moments_of(unit);
  out.mean = m.mean;
  out.variance = m.variance(0);
  for (const double u : unit) out.spread += std::abs(u - m.mean);
  out.spread /= static_cast<double>(unit.size());
  return out;
}

/// The outcome of k successes in n rollouts of a binary reward. Throws std::invalid_argument for k > n. O(1).
inline outcome binary_outcome(std::uint32_t k, std::uint32_t n, std::uint64_t step = 0) {
  require(k <= n, "binary_outcome: ", k, " successes in ", n, " rollouts");
  const double p = n == 0 ? 0 : static_cast<double>(k) / static_cast<double>(n);
  return {.rollouts = n, .mean = p, .variance = p * (1 - p), .spread = 2 * p * (1 - p), .step = step};
}

/// Throws std::invalid_argument, naming the field, when o cannot be an outcome: rewards in [0, 1] with that mean have
/// at most the variance mean (1 - mean) and the spread 2 mean (1 - mean) of binary ones. 1e-9 is left for rounding.
inline void check_outcome(const outcome& o) {
  const auto unit = [](double x) { return x >= 0 && x <= 1; };
  require(unit(o.mean), "outcome: mean is ", o.mean, ", outside [0, 1]");
  const double binary = o.mean * (1 - o.mean);
  require(o.variance >= 0 && o.variance <= binary + 1e-9, "outcome: variance is ", o.variance, ", outside [0, ", binary,
          "] at mean ", o.mean);
  require(o.spread >= 0 && o.spread <= 2 * binary + 1e-9, "outcome: spread is ", o.spread, ", outside [0, ", 2 * binary,
          "] at mean ", o.mean);
  require(unit(o.entropy), "outcome: entropy is ", o.entropy, ", outside [0, 1]");
  require(unit(o.diversity), "outcome: diversity is ", o.diversity, ", outside [0, 1]");
  require(o.divergence >= 0 && std::isfinite(o.divergence), "outcome: divergence is ", o.divergence);
}

}  // namespace rlvr
