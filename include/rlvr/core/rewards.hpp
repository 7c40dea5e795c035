#pragma once
/// Rewards that somebody else gave, as verdicts.

#include <span>
#include <vector>

#include <rlvr/core/error.hpp>
#include <rlvr/core/verdict.hpp>

namespace rlvr {

/// One verdict per reward; NaN stands for "could not be scored", as in TRL. Of prompts with G rewards each, those of
/// one side by side, group_normalized{}(verdicts_of(rewards), groups_of_size(G, rewards.size())) are the advantages.
/// Throws std::invalid_argument for an infinite reward, with its index. O(B).
inline std::vector<verdict> verdicts_of(std::span<const double> rewards) {
  std::vector<verdict> out;
  out.reserve(rewards.size());
  for (const double reward : rewards) {
    const bool scored = reward == reward;
    require(!scored || is_finite(reward), "verdicts_of: reward ", out.size(), " is ", reward);
    out.push_back({.reward = scored ? reward : 0.0, .scored = scored});
  }
  return out;
}

}  // namespace rlvr
