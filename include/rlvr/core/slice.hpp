#pragma once
/// Rollouts cut and joined.

#include <cstddef>
#include <span>
#include <vector>

#include <rlvr/core/error.hpp>
#include <rlvr/core/offsets.hpp>
#include <rlvr/core/rollouts.hpp>

namespace rlvr {

namespace detail {

/// Checks that rollouts [begin, end) can be cut out: arrays are empty or of their size, and offsets of what is cut do
/// not decrease. O(end - begin).
inline void check_cut(const rollouts& r, std::size_t begin, std::size_t end, const char* who) {
  require(!r.offsets.empty(), who, ": offsets is empty");
  require(begin <= end && end <= r.size(), who, ": rollouts [", begin, ", ", end, ") of ", r.size());
  const auto check = [who](const char* name, std::size_t size, std::size_t expected, const char* of) {
    require(size == 0 || size == expected, who, ": ", size, " ", name, " for ", expected, " ", of);
  };
  require(r.tokens.empty() || r.tokens.size() == r.offsets.back(), who, ": ", r.tokens.size(),
          " tokens, but offsets end at ", r.offsets.back());
  check("log_probs", r.log_probs.size(), r.offsets.back(), "tokens");
  check("entropies", r.entropies.size(), r.offsets.back(), "tokens");
  check("prompts", r.prompts.size(), r.size(), "rollouts");
  check("finished flags", r.finished.size(), r.size(), "rollouts");
  check("verdicts", r.verdicts.size(), r.size(), "rollouts");
  check_nondecreasing(std::span(r.offsets).subspan(begin, end - begin + 1), who, "offsets", begin);
  require(r.offsets[end] <= r.offsets.back(), who, ": offsets[", end, "] = ", r.offsets[end], ", but offsets end at ",
          r.offsets.back());
}

/// Checks that the tokens of rollouts [begin, end) can be read. O(end - begin).
inline void check_completions(const rollouts& r, std::size_t begin, std::size_t end, const char* who) {
  check_cut(r, begin, end, who);
  require(r.tokens.size() == r.offsets.back(), who, ": ", r.tokens.size(), " tokens, but offsets end at ",
          r.offsets.back());
}

}  // namespace detail

/// Rollouts [begin, end) of r, with what r has of log-probs, entropies, flags and verdicts. Throws
/// std::invalid_argument unless begin <= end <= r.size(), and for arrays that do not fit each other. O(their tokens).
inline rollouts slice(const rollouts& r, std::size_t begin, std::size_t end) {
  detail::check_cut(r, begin, end, "slice");
  rollouts out;
  const auto cut = [](auto& part, const auto& whole, std::size_t from, std::size_t to) {
    if (!whole.empty()) part.assign(whole.data() + from, whole.data() + to);
  };
  const std::size_t first = r.offsets[begin], last = r.offsets[end];
  for (std::size_t i = begin; i < end; ++i) out.offsets.push_back(r.offsets[i + 1] - first);
  cut(out.tokens, r.tokens, first, last);
  cut(out.log_probs, r.log_probs, first, last);
  cut(out.entropies, r.entropies, first, last);
  cut(out.prompts, r.prompts, begin, end);
  cut(out.finished, r.finished, begin, end);
  cut(out.verdicts, r.verdicts, begin, end);
  return out;
}

/// The first min(count, size) rollouts. Throws as slice does.
inline rollouts head(const rollouts& r, std::size_t count) {
  return slice(r, 0, count < r.size() ? count : r.size());
}

/// The rollouts at these indices, in their order. Throws std::invalid_argument for an index out of range, and for
/// arrays that do not fit each other. O(their tokens).
inline rollouts take(const rollouts& r, std::span<const std::size_t> indices) {
  rollouts out;
  const auto add = [](auto& part, const auto& whole, std::size_t from, std::size_t to) {
    if (!whole.empty()) part.insert(part.end(), whole.data() + from, whole.data() + to);
  };
  for (const std::size_t i : indices) {
    require(i < r.size(), "take: rollout ", i, " of ", r.size());
    detail::check_cut(r, i, i + 1, "take");
    add(out.tokens, r.tokens, r.offsets[i], r.offsets[i + 1]);
    add(out.log_probs, r.log_probs, r.offsets[i], r.offsets[i + 1]);
    add(out.entropies, r.entropies, r.offsets[i], r.offsets[i + 1]);
    add(out.prompts, r.prompts, i, i + 1);
    add(out.finished, r.finished, i, i + 1);
    add(out.verdicts, r.verdicts, i, i + 1);
    out.offsets.push_back(out.tokens.size());
  }
  return out;
}

/// Adds other's rollouts behind those of r; other may be r. Either both or neither have prompts, log-probs, entropies,
/// flags and verdicts, or one of them is empty. Throws std::invalid_argument otherwise, and for arrays that do not fit each
/// other, with nothing changed. O(other's tokens), amortised.
inline void append(rollouts& r, const rollouts& other) {
  if (other.empty()) return;
  if (&r == &other) return append(r, rollouts(other));
  detail::check_completions(r, r.size(), r.size(), "append");
  detail::check_completions(other, 0, other.size(), "append");
  require(other.offsets.front() == 0, "append: offsets[0] = ", other.offsets.front(),
          ", but offsets must begin with 0");
  const bool both_have_tokens = !r.tokens.empty() && !other.tokens.empty();
  const auto alike = [](bool needed, const auto& ours, const auto& theirs, const char* part) {
    require(!needed || ours.empty() == theirs.empty(), "append: only one of the two has ", part);
  };
  alike(!r.empty(), r.prompts, other.prompts, "prompts");
  alike(both_have_tokens, r.log_probs, other.log_probs, "log_probs");
  alike(both_have_tokens, r.entropies, other.entropies, "entropies");
  alike(!r.empty(), r.finished, other.finished, "finished flags");
  alike(!r.empty(), r.verdicts, other.verdicts, "verdicts");
  const std::size_t shift = r.tokens.size();
  for (std::size_t i = 1; i < other.offsets.size(); ++i) r.offsets.push_back(shift + other.offsets[i]);
  const auto join = [](auto& ours, const auto& theirs) { ours.insert(ours.end(), theirs.begin(), theirs.end()); };
  join(r.tokens, other.tokens);
  join(r.log_probs, other.log_probs);
  join(r.entropies, other.entropies);
  join(r.prompts, other.prompts);
  join(r.finished, other.finished);
  join(r.verdicts, other.verdicts);
}

}  // namespace rlvr
