#pragma once
/// What was sampled, what was judged, and how rollouts belong together.

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include <rlvr/core/error.hpp>
#include <rlvr/core/ragged.hpp>

namespace rlvr {

using token = std::int32_t;

/// What a verifier says of one rollout. Unscored is not zero: an unscored rollout enters no statistic and
/// gets advantage 0.
struct verdict {
  double reward = 0;
  bool scored = true;
  friend bool operator==(const verdict&, const verdict&) = default;
};

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

  /// Adds other's rollouts behind ours. Either both or neither have verdicts, or one of them is empty.
  /// Throws std::invalid_argument otherwise, with nothing changed.
  void append(const rollouts& other) {
    if (other.empty()) return;
    require(empty() || verdicts.empty() == other.verdicts.empty(),
            "rollouts::append: only one of the two has verdicts");
    const std::size_t shift = tokens.size();
    for (std::size_t i = 1; i < other.offsets.size(); ++i) offsets.push_back(shift + other.offsets[i]);
    const auto join = [](auto& ours, const auto& theirs) {
      ours.insert(ours.end(), theirs.begin(), theirs.end());
    };
    join(tokens, other.tokens);
    join(log_probs, other.log_probs);
    join(entropies, other.entropies);
    join(prompts, other.prompts);
    join(finished, other.finished);
    join(verdicts, other.verdicts);
  }
};

/// The first min(count, size) rollouts. O(their tokens).
inline rollouts head(const rollouts& r, std::size_t count) {
  if (count >= r.size()) return r;
  const auto n = static_cast<std::ptrdiff_t>(count), t = static_cast<std::ptrdiff_t>(r.offsets[count]);
  rollouts out;
  out.offsets.assign(r.offsets.begin(), r.offsets.begin() + n + 1);
  out.tokens.assign(r.tokens.begin(), r.tokens.begin() + t);
  out.log_probs.assign(r.log_probs.begin(), r.log_probs.begin() + t);
  out.entropies.assign(r.entropies.begin(), r.entropies.begin() + t);
  out.prompts.assign(r.prompts.begin(), r.prompts.begin() + n);
  out.finished.assign(r.finished.begin(), r.finished.begin() + n);
  if (!r.verdicts.empty()) out.verdicts.assign(r.verdicts.begin(), r.verdicts.begin() + n);
  return out;
}

/// Groups as offsets: group g is [offsets[g], offsets[g+1]). Sizes may differ.
struct groups {
  std::vector<std::size_t> offsets{0};

  std::size_t size() const { return offsets.size() - 1; }
  std::size_t begin(std::size_t g) const { return offsets[g]; }
  std::size_t end(std::size_t g) const { return offsets[g + 1]; }
  std::size_t size(std::size_t g) const { return offsets[g + 1] - offsets[g]; }
  std::size_t total() const { return offsets.back(); }
};

/// Runs of equal prompt index. O(B).
inline groups groups_of(std::span<const std::uint32_t> prompts) {
  groups out;
  for (std::size_t i = 1; i <= prompts.size(); ++i)
    if (i == prompts.size() || prompts[i] != prompts[i - 1]) out.offsets.push_back(i);
  return out;
}

/// Checks that offsets begin with 0, never decrease and end at tokens.size(), and that there is a prompt for each
/// rollout: what reading tokens by rollout relies on. O(B). Throws std::invalid_argument that names array and index.
inline void validate_offsets(const rollouts& r) {
  require(!r.offsets.empty() && r.offsets.front() == 0, "rollouts: offsets must begin with 0");
  for (std::size_t i = 0; i < r.size(); ++i)
    require(r.offsets[i] <= r.offsets[i + 1], "rollouts: offsets[", i + 1, "] = ", r.offsets[i + 1],
            " is below offsets[", i, "] = ", r.offsets[i]);
  require(r.tokens.size() == r.offsets.back(), "rollouts: ", r.tokens.size(), " tokens, but offsets end at ",
          r.offsets.back());
  require(r.prompts.size() == r.size(), "rollouts: ", r.prompts.size(), " prompts for ", r.size(), " rollouts");
}

/// Checks sizes, offsets and that every prompt index is below `prompt_count`; B, T linear.
/// Throws std::invalid_argument that names array, index and value.
inline void validate(const rollouts& r, std::size_t prompt_count) {
  validate_offsets(r);
  const std::size_t total = r.tokens.size();
  require(r.log_probs.size() == total, "rollouts: ", r.log_probs.size(), " log_probs for ", total, " tokens");
  require(r.entropies.size() == total, "rollouts: ", r.entropies.size(), " entropies for ", total, " tokens");
  require(r.finished.size() == r.size(), "rollouts: ", r.finished.size(), " finished flags for ", r.size(),
          " rollouts");
  require(r.verdicts.empty() || r.verdicts.size() == r.size(), "rollouts: ", r.verdicts.size(),
          " verdicts for ", r.size(), " rollouts");
  for (std::size_t i = 0; i < r.size(); ++i)
    require(r.prompts[i] < prompt_count, "rollouts: prompts[", i, "] = ", r.prompts[i], ", but there are ",
            prompt_count, " prompts");
  for (std::size_t i = 0; i < r.verdicts.size(); ++i)
    require(!r.verdicts[i].scored || std::isfinite(r.verdicts[i].reward), "rollouts: reward ", i, " is ",
            r.verdicts[i].reward);
}

}  // namespace rlvr
