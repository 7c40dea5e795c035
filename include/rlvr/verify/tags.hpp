#pragma once
/// Thinking and answer tags: extraction, and verifiers of what stands behind or between them.

#include <cstddef>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include <rlvr/verify/exact.hpp>
#include <rlvr/verify/verifier.hpp>

namespace rlvr {

/// The text behind the last `close`; nothing when there is none.
constexpr std::optional<std::string_view> behind_last(std::string_view text, std::string_view close) {
  const std::size_t at = text.rfind(close);
  if (at == std::string_view::npos) return std::nullopt;
  return text.substr(at + close.size());
}

/// The contents of the last pair of tags, each pair reaching from an opening tag to the next closing one;
/// nothing when there is no pair. Linear.
constexpr std::optional<std::string_view> last_between(std::string_view text, std::string_view open,
                                                       std::string_view close) {
  std::optional<std::string_view> last;
  for (;;) {
    const std::size_t begin = text.find(open);
    if (begin == std::string_view::npos) return last;
    text.remove_prefix(begin + open.size());
    const std::size_t end = text.find(close);
    if (end == std::string_view::npos) return last;
    last = text.substr(0, end);
    text.remove_prefix(end + close.size());
  }
}

/// Judges the text behind the last </think>, without white space at its ends; reward 0 when there is none. An
/// answer inside the thoughts does not count. Models text_verifier. The rule of TRL's
/// reasoning_accuracy_reward and of the ThinkParser of PrimeIntellect's verifiers.
template <text_verifier V>
struct after_thinking {
  V verifier = {};
  std::string close = "</think>";

  verdict operator()(std::string_view completion, std::string_view answer) const noexcept {
    const std::optional<std::string_view> text = behind_last(completion, close);
    // The answer decides whether there is a score, also where the completion has nothing to judge.
    const verdict v = verifier(detail::trimmed(text.value_or(std::string_view{})), answer);
    return text || !v.scored ? v : verdict{.reward = 0};
  }
};

/// Judges the contents of the last <answer>...</answer>, without white space at its ends; reward 0 when there
/// is none. Models text_verifier.
template <text_verifier V>
struct in_answer_tags {
  V verifier = {};
  std::string open = "<answer>";
  std::string close = "</answer>";

  verdict operator()(std::string_view completion, std::string_view answer) const noexcept {
    const std::optional<std::string_view> text = last_between(completion, open, close);
    // The answer decides whether there is a score, also where the completion has nothing to judge.
    const verdict v = verifier(detail::trimmed(text.value_or(std::string_view{})), answer);
    return text || !v.scored ? v : verdict{.reward = 0};
  }
};

}  // namespace rlvr
