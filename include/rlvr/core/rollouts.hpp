#pragma once
/// What was asked for, and what was sampled.

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include <rlvr/core/groups.hpp>
#include <rlvr/core/verdict.hpp>

namespace rlvr {

/// How many rollouts of a prompt, and the index of the first of them: rollouts [first, first + count) of a
/// prompt are the same draws whether asked for at once or in parts.
struct sample_request {
  std::uint32_t prompt = 0;
  std::uint32_t count = 1;
  std::uint32_t first = 0;
};

/// The distribution to sample from.
struct sampling_options {
  double temperature = 1.0;         ///< logits are divided by it; > 0
  std::uint32_t max_tokens = 64;    ///< at most so many tokens, the end-of-sequence token included
};

/// Rollouts as a ragged structure of arrays. B rollouts, T tokens in all.
/// Rollouts of one prompt that stand side by side form a group.
struct rollouts {
  std::vector<std::size_t> offsets{0};    ///< [B+1] tokens of rollout i are [offsets[i], offsets[i+1])
  std::vector<token> tokens;              ///< [T] completion tokens, the end-of-sequence token included
  std::vector<double> log_probs;          ///< [T] log pi(y_t | y_<t) of the distribution sampled from, in nats
  std::vector<double> entropies;          ///< [T] entropy of that distribution, in nats
  std::vector<std::uint32_t> prompts;     ///< [B] index of the prompt
  std::vector<std::uint8_t> finished;     ///< [B] 1 when ended by an end-of-sequence token, 0 when cut
  std::vector<verdict> verdicts;          ///< [B], or empty before verification

  std::size_t size() const { return offsets.size() - 1; }
  bool empty() const { return size() == 0; }
  std::size_t length(std::size_t i) const { return offsets[i + 1] - offsets[i]; }
  std::span<const token> completion(std::size_t i) const {
    return std::span<const token>(tokens).subspan(offsets[i], length(i));
  }
};

}  // namespace rlvr
