#pragma once
/// GSM8K: the number behind ####, or the last number, compared as text.

#include <cstddef>
#include <string_view>

#include <rlvr/verify/characters.hpp>
#include <rlvr/verify/verifier.hpp>

namespace rlvr {

enum class gsm8k_rule {
  strict,   ///< the last "#### number"
  flexible  ///< the last run of digits, points and commas
};

namespace detail {

constexpr bool in_number(char c) {
  return is_digit(c) || c == '.' || c == ',';
}

/// The number at the front of a text, a minus included; empty when there is none.
constexpr std::string_view number_at_front(std::string_view text) {
  std::size_t end = !text.empty() && text[0] == '-';
  const std::size_t begin = end;
  while (end < text.size() && in_number(text[end])) ++end;
  return text.substr(0, end > begin ? end : 0);
}

/// What stands behind the last "#### " that a number follows.
constexpr std::string_view last_marked_number(std::string_view text) {
  constexpr std::string_view marker = "#### ";
  for (std::size_t at = text.rfind(marker); at != std::string_view::npos;
       at = at > 0 ? text.rfind(marker, at - 1) : std::string_view::npos)
    if (const std::string_view number = number_at_front(text.substr(at + marker.size())); !number.empty())
      return number;
  return {};
}

/// The last run of digits, points and commas that is not a single point; when all are, the first.
constexpr std::string_view last_number_run(std::string_view text) {
  std::string_view run;
  for (std::size_t end = text.size(); end > 0;) {
    if (!in_number(text[end - 1])) {
      --end;
      continue;
    }
    std::size_t begin = end;
    while (begin > 0 && in_number(text[begin - 1])) --begin;
    if (begin > 0 && text[begin - 1] == '-') --begin;
    run = text.substr(begin, end - begin);
    if (run != ".") return run;
    end = begin;
  }
  return run;
}

}  // namespace detail

/// Reward 1 when the number that the completion gives is the answer, as text; `format_reward` when it gives
/// another; 0 when it gives none. Models text_verifier.
///
/// Only the last 300 characters of the completion count. strict: the last "#### " directly followed by an
/// optional minus and digits, points and commas; the commas are then dropped. flexible: the last such run
/// anywhere, and it must be without commas. The text must match, but for the answer's commas: 18.0, 18. and $18 are not
/// 18 (numeric_verifier compares values). The answer is the number, or a solution that ends in "#### number". The rules
/// of verl's gsm8k.py and of SkyRL (strict); strict agrees with all 5,276 labels of GSM8K's example model solutions,
/// flexible with 5,274. Linear in the length of the answer and in 300 characters; allocates nothing.
struct gsm8k_verifier {
  gsm8k_rule rule = gsm8k_rule::strict;
  double format_reward = 0;

  constexpr verdict operator()(std::string_view completion, std::string_view answer) const noexcept {
    const std::string_view text = detail::last_characters(completion, 300);
    const std::string_view marked = detail::last_marked_number(answer);
    const std::string_view wanted = marked.empty() ? detail::trimmed(answer) : marked;
    const bool strict = rule == gsm8k_rule::strict;
    const std::string_view given = strict ? detail::last_marked_number(text) : detail::last_number_run(text);
    if (given.empty()) return {.reward = 0};
    const bool equal =
        detail::equal_but_for_commas(given, wanted) && (strict || given.find(',') == std::string_view::npos);
    return {.reward = equal ? 1.0 : format_reward};
  }
};

}  // namespace rlvr
