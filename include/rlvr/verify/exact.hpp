#pragma once
/// The completion is the answer, character for character.

#include <cstddef>
#include <string>
#include <string_view>

#include <rlvr/verify/verifier.hpp>

namespace rlvr {

namespace detail {

constexpr bool is_blank(char c) {
  return c == ' ' || c == '\t' || c == '\n' || c == '\r' || c == '\v' || c == '\f';
}

constexpr char lower(char c) {
  return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
}

/// Without ASCII white space at either end.
constexpr std::string_view trimmed(std::string_view text) {
  while (!text.empty() && is_blank(text.front())) text.remove_prefix(1);
  while (!text.empty() && is_blank(text.back())) text.remove_suffix(1);
  return text;
}

}  // namespace detail

/// Whether upper and lower case ASCII letters are the same.
enum class letter_case { kept, ignored };

/// Reward 1 when the completion equals the answer, both without white space at their ends, else 0. Models
/// text_verifier.
///
/// With a marker, only the text behind its last occurrence counts ("12+5=17" against "17" with marker "="),
/// and a completion without the marker is wrong. Linear; with a marker, times its length at worst.
struct exact_verifier {
  std::string marker = {};
  letter_case letters = letter_case::kept;

  verdict operator()(std::string_view completion, std::string_view answer) const noexcept {
    if (!marker.empty()) {
      const std::size_t at = completion.rfind(marker);
      if (at == std::string_view::npos) return {.reward = 0};
      completion.remove_prefix(at + marker.size());
    }
    completion = detail::trimmed(completion);
    answer = detail::trimmed(answer);
    if (letters == letter_case::kept || completion.size() != answer.size())
      return {.reward = completion == answer ? 1.0 : 0.0};
    for (std::size_t i = 0; i < answer.size(); ++i)
      if (detail::lower(completion[i]) != detail::lower(answer[i])) return {.reward = 0};
    return {.reward = 1};
  }
};

}  // namespace rlvr
