#pragma once
/// The mean reward over prompts, each prompt sampled several times.

#include <span>

#include <rlvr/core/rollouts.hpp>
#include <rlvr/diagnose/interval.hpp>

namespace rlvr {

/// avg@k: the mean over prompts of the mean reward of each prompt's scored rollouts, with an interval clustered by
/// prompt; k is the size of the groups, which may differ. With rewards of 0 and 1 this is pass@1, estimated from all k.
///
/// Every prompt weighs the same however many rollouts it has; a prompt without scored rollouts is left out. Throws
/// std::invalid_argument when groups do not cover the verdicts, a scored reward is not finite, or the confidence lies
/// outside (0, 1). O(B).
inline interval average_at_k(std::span<const verdict> verdicts, const groups& g, double confidence = 0.95) {
  return mean_interval(prompt_means(verdicts, g), confidence);
}

}  // namespace rlvr
