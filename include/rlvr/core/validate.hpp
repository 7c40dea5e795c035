#pragma once
/// Whether rollouts that come from elsewhere are what they should be.

#include <cstddef>
#include <cstdint>
#include <span>

#include <rlvr/core/error.hpp>
#include <rlvr/core/offsets.hpp>
#include <rlvr/core/rollouts.hpp>

namespace rlvr {

/// Checks that offsets begin with 0, never decrease and end at tokens.size(), and that there is a prompt for each
/// rollout: what reading tokens by rollout relies on. O(B). Throws std::invalid_argument that names array and index.
inline void validate_offsets(const rollouts& r) {
  detail::check_offsets(r.offsets, "rollouts");
  require(r.tokens.size() == r.offsets.back(), "rollouts: ", r.tokens.size(), " tokens, but offsets end at ",
          r.offsets.back());
  require(r.prompts.size() == r.size(), "rollouts: ", r.prompts.size(), " prompts for ", r.size(), " rollouts");
}

/// Checks sizes, offsets and that every prompt index is below `prompt_count`. O(B).
/// Throws std::invalid_argument that names array, index and value.
inline void validate(const rollouts& r, std::size_t prompt_count) {
  validate_offsets(r);
  const std::size_t total = r.tokens.size();
  require(r.log_probs.size() == total, "rollouts: ", r.log_probs.size(), " log_probs for ", total, " tokens");
  require(r.entropies.size() == total, "rollouts: ", r.entropies.size(), " entropies for ", total, " tokens");
  require(r.finished.size() == r.size(), "rollouts: ", r.finished.size(), " finished flags for ", r.size(),
          " rollouts");
  require(r.verdicts.empty() || r.verdicts.size() == r.size(), "rollouts: ", r.verdicts.size(), " verdicts for ",
          r.size(), " rollouts");
  for (std::size_t i = 0; i < r.size(); ++i)
    require(r.prompts[i] < prompt_count, "rollouts: prompts[", i, "] = ", r.prompts[i], ", but there are ",
            prompt_count, " prompts");
  for (std::size_t i = 0; i < r.verdicts.size(); ++i)
    require(!r.verdicts[i].scored || is_finite(r.verdicts[i].reward), "rollouts: reward ", i, " is ",
            r.verdicts[i].reward);
}

/// Checks also that r is what a sampler was asked for: the rollouts of every request, in order. O(B).
inline void validate(const rollouts& r, std::size_t prompt_count, std::span<const sample_request> requests) {
  validate(r, prompt_count);
  std::size_t asked = 0;
  for (const sample_request& q : requests) asked += q.count;
  require(r.size() == asked, "rollouts: ", r.size(), " rollouts, but ", asked, " were asked for");
  std::size_t i = 0;
  for (const sample_request& q : requests)
    for (std::uint32_t k = 0; k < q.count; ++k, ++i)
      require(r.prompts[i] == q.prompt, "rollouts: prompts[", i, "] = ", r.prompts[i], ", but a rollout of prompt ",
              q.prompt, " was asked for");
}

/// Checks that every log-probability is finite and at most 0, but for 1/8, which a bfloat16 logit of up to 32 may lie
/// above an exact normaliser: a sampler that gives negative log-likelihoods is found. O(T). Throws
/// std::invalid_argument that names the first that is not.
inline void validate_log_probs(const rollouts& r) {
  for (std::size_t t = 0; t < r.log_probs.size(); ++t) {
    require(is_finite(r.log_probs[t]), "rollouts: log_probs[", t, "] is ", r.log_probs[t]);
    require(r.log_probs[t] <= 0.125, "rollouts: log_probs[", t, "] is ", r.log_probs[t], ", above 0");
  }
}

}  // namespace rlvr
