#pragma once
/// What objectives read: a ragged batch of token arrays that somebody else owns.

#include <concepts>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include <rlvr/core/error.hpp>
#include <rlvr/core/offsets.hpp>
#include <rlvr/core/rollouts.hpp>

namespace rlvr {

/// A view of B sequences with T tokens in all. An empty span means "not given"; an objective that needs an array that
/// is not given throws std::invalid_argument that names it.
///
/// Sequence i has the tokens [offsets[i], offsets[i+1]) less offsets[0], so that a part of a batch is again a batch
/// whose offsets go on where they were. Log-probabilities are natural logarithms of the probability of the sampled
/// token, so at most 0 but for rounding. Their sign is not checked, because densities may have any: negative
/// log-likelihoods in their place invert every ratio without an error. Values at tokens outside the mask are never
/// looked at: they may be NaN. Everything an objective reads at a token inside the mask must be finite.
template <std::floating_point Real>
struct token_batch {
  std::span<const std::size_t> offsets;       ///< [B+1], never decreasing
  std::span<const Real> advantages;           ///< [B] one per sequence, or
  std::span<const Real> token_advantages;     ///< [T] one per token; give one of the two
  std::span<const Real> log_probs;            ///< [T] under the policy to be updated, now
  std::span<const Real> old_log_probs;        ///< [T] under that policy when the update began
  std::span<const Real> sampled_log_probs;    ///< [T] under what sampled the tokens, as the sampler computed them
  std::span<const Real> reference_log_probs;  ///< [T] under the reference of KL terms and preference losses
  std::span<const Real> entropies;            ///< [T] of the next-token distribution now
  std::span<const std::uint8_t> mask;         ///< [T] 0 for tokens that are not trained on; empty: all are
  std::span<const std::size_t> groups;        ///< [P+1] prompt g has the sequences [groups[g], groups[g+1])

  std::size_t size() const { return offsets.empty() ? 0 : offsets.size() - 1; }
  std::size_t tokens() const { return offsets.empty() ? 0 : offsets.back() - offsets.front(); }
  std::size_t begin(std::size_t i) const { return offsets[i] - offsets.front(); }
  std::size_t end(std::size_t i) const { return offsets[i + 1] - offsets.front(); }
  bool active(std::size_t t) const { return mask.empty() || mask[t] != 0; }
};

/// The batch of rollouts whose policy has not moved since: log_probs, old_log_probs and sampled_log_probs are those of
/// the rollouts. `r` and `advantages` must outlive it: temporaries do not compile. Replace log_probs by those of the
/// moved policy, and entropies together with them: `b.log_probs = now.log_probs; b.entropies = now.entropies;` with now
/// what its `score` returned.
inline token_batch<double> batch_of(const rollouts& r, std::span<const double> advantages) {
  return {.offsets = r.offsets,
          .advantages = advantages,
          .token_advantages = {},
          .log_probs = r.log_probs,
          .old_log_probs = r.log_probs,
          .sampled_log_probs = r.log_probs,
          .reference_log_probs = {},
          .entropies = r.entropies,
          .mask = {},
          .groups = {}};
}
token_batch<double> batch_of(const rollouts&, const std::vector<double>&&) = delete;  // it would dangle
token_batch<double> batch_of(const rollouts&&, std::span<const double>) = delete;
token_batch<double> batch_of(const rollouts&&, const std::vector<double>&&) = delete;

/// Checks offsets and the sizes of all arrays that are given, B and P linear. `who` begins the message.
/// Throws std::invalid_argument that names array, index and value.
template <class Real>
void validate(const token_batch<Real>& b, const char* who) {
  detail::check_nondecreasing(b.offsets, who);
  const auto check = [who](const char* name, std::size_t size, std::size_t expected, const char* of) {
    require(size == 0 || size == expected, who, ": ", size, " ", name, " for ", expected, " ", of);
  };
  check("advantages", b.advantages.size(), b.size(), "sequences");
  check("token_advantages", b.token_advantages.size(), b.tokens(), "tokens");
  check("log_probs", b.log_probs.size(), b.tokens(), "tokens");
  check("old_log_probs", b.old_log_probs.size(), b.tokens(), "tokens");
  check("sampled_log_probs", b.sampled_log_probs.size(), b.tokens(), "tokens");
  check("reference_log_probs", b.reference_log_probs.size(), b.tokens(), "tokens");
  check("entropies", b.entropies.size(), b.tokens(), "tokens");
  check("mask values", b.mask.size(), b.tokens(), "tokens");
  if (b.groups.empty()) return;
  require(b.groups.front() == 0 && b.groups.back() == b.size(), who, ": groups are [", b.groups.front(), ", ",
          b.groups.back(), "), expected [0, ", b.size(), ")");
  detail::check_nondecreasing(b.groups, who, "groups");
}

namespace detail {
/// Active tokens of sequence i. O(1) without mask.
template <class Real>
std::size_t active_length(const token_batch<Real>& b, std::size_t i) {
  const std::size_t begin = b.begin(i), end = b.end(i);
  if (b.mask.empty()) return end - begin;
  const std::uint8_t* mask = b.mask.data();
  std::size_t n = 0;
  for (std::size_t t = begin; t < end; ++t) n += mask[t] != 0;
  return n;
}
}  // namespace detail

/// Sequences [first, last) of a batch: views of the same arrays, without groups. Arrays of results are cut likewise:
/// `out.subspan(b.begin(first), part(b, first, last).tokens())`. Requires a valid batch and first <= last <= B. O(1).
template <class Real>
token_batch<Real> part(const token_batch<Real>& b, std::size_t first, std::size_t last) {
  require(first <= last && last <= b.size(), "part: sequences [", first, ", ", last, ") of ", b.size());
  if (b.offsets.empty()) return b;
  const std::size_t begin = b.offsets[first] - b.offsets.front(), count = b.offsets[last] - b.offsets[first];
  const auto cut = [&](auto values) { return values.empty() ? values : values.subspan(begin, count); };
  token_batch<Real> out;
  out.offsets = b.offsets.subspan(first, last - first + 1);
  out.advantages = b.advantages.empty() ? b.advantages : b.advantages.subspan(first, last - first);
  out.token_advantages = cut(b.token_advantages);
  out.log_probs = cut(b.log_probs);
  out.old_log_probs = cut(b.old_log_probs);
  out.sampled_log_probs = cut(b.sampled_log_probs);
  out.reference_log_probs = cut(b.reference_log_probs);
  out.entropies = cut(b.entropies);
  out.mask = cut(b.mask);
  return out;
}

/// Boundaries of `count` parts with about as many tokens each: part k is sequences [result[k], result[k+1]). O(B).
template <class Real>
std::vector<std::size_t> even_parts(const token_batch<Real>& b, std::size_t count) {
  require(count > 0, "even_parts: count is 0");
  std::vector<std::size_t> bounds{0};
  std::size_t i = 0;
  for (std::size_t k = 1; k < count; ++k) {
    const std::size_t goal = b.tokens() / count * k + b.tokens() % count * k / count;
    while (i < b.size() && b.begin(i) < goal) ++i;
    bounds.push_back(i);
  }
  bounds.push_back(b.size());
  return bounds;
}

}  // namespace rlvr
