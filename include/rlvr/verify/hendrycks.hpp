#pragma once
/// The normaliser of the MATH data set, and the verifier of boxed answers that compares normalised text.

#include <cstddef>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include <rlvr/verify/boxed.hpp>
#include <rlvr/verify/characters.hpp>
#include <rlvr/verify/verifier.hpp>

namespace rlvr {

namespace detail {

/// Puts braces around the character behind every \sqrt that has none. Nothing when the text ends with \sqrt.
inline std::optional<std::string> brace_sqrt(std::string_view text) {
  constexpr std::string_view command = "\\sqrt";
  std::string out;
  for (std::size_t at = text.find(command); at != std::string_view::npos; at = text.find(command)) {
    out.append(text.substr(0, at)).append(command);
    text.remove_prefix(at + command.size());
    // The next \sqrt is no argument: the original cuts the text at every \sqrt first.
    if (text.empty() || text.substr(0, command.size()) == command) return std::nullopt;
    if (text.front() == '{') continue;
    const std::size_t length = first_character(text);
    out.append("{").append(text.substr(0, length)).append("}");
    text.remove_prefix(length);
  }
  return out.append(text);
}

/// Puts braces around the two characters behind every \frac: \frac12 and \frac1{2} become \frac{1}{2}. The text
/// itself when a \frac has less than two characters behind it, nothing when it has none.
inline std::optional<std::string> brace_frac(std::string_view text) {
  constexpr std::string_view command = "\\frac";
  std::string out;
  std::string_view rest = text;
  for (std::size_t at = rest.find(command); at != std::string_view::npos; at = rest.find(command)) {
    out.append(rest.substr(0, at)).append(command);
    rest.remove_prefix(at + command.size());
    const std::string_view part = rest.substr(0, rest.find(command));
    if (part.empty()) return std::nullopt;
    if (part.front() == '{') continue;
    const std::size_t first = first_character(part);
    if (first == part.size()) return std::string(text);
    out.append("{").append(part.substr(0, first)).append("}");
    if (part[first] == '{') {
      rest.remove_prefix(first);
      continue;
    }
    const std::size_t second = first_character(part.substr(first));
    out.append("{").append(part.substr(first, second)).append("}");
    rest.remove_prefix(first + second);
  }
  return out.append(rest);
}

/// Whether Python would print the integer that it reads here as the same text.
constexpr bool canonical_integer(std::string_view text) {
  if (text == "0") return true;
  if (!text.empty() && text.front() == '-') text.remove_prefix(1);
  // Python refuses to read integers of more than 4300 digits.
  if (text.empty() || text.size() > 4300 || text.front() == '0') return false;
  for (char c : text)
    if (!is_digit(c)) return false;
  return true;
}

}  // namespace detail

/// The normal form of a LaTeX answer of the MATH data set, for comparison as text; nothing where the original
/// raises an exception (a trailing \frac or \sqrt, more than one "\text{ ").
///
/// Drops line ends, \! \left \right \$ \% and degrees, everything from "\text{ " on (units), a left side of at
/// most two characters before a single =, and spaces; \tfrac and \dfrac become \frac; .5 becomes 0.5;
/// arguments of \frac and \sqrt get braces; 0.5 and a/b of integers become \frac{}{}. Thousands commas, letter
/// case and the order of lists are kept. Linear. strip_string of hendrycks/math, math_equivalence.py.
inline std::optional<std::string> hendrycks_normalized(std::string_view answer) {
  using detail::replace_all;
  std::string text(answer);
  replace_all(text, "\n", "");
  replace_all(text, "\\!", "");
  replace_all(text, "\\\\", "\\");
  replace_all(text, "tfrac", "frac");
  replace_all(text, "dfrac", "frac");
  replace_all(text, "\\left", "");
  replace_all(text, "\\right", "");
  replace_all(text, "^{\\circ}", "");
  replace_all(text, "^\\circ", "");
  replace_all(text, "\\$", "");
  if (const std::size_t units = text.find("\\text{ "); units != std::string::npos) {
    if (text.find("\\text{ ", units + 1) != std::string::npos) return std::nullopt;
    text.erase(units);
  }
  replace_all(text, "\\%", "");
  replace_all(text, " .", " 0.");
  replace_all(text, "{.", "{0.");
  if (text.empty()) return text;
  if (text.front() == '.') text.insert(0, 1, '0');
  if (const std::size_t equals = text.find('='); equals != std::string::npos)
    if (text.find('=', equals + 1) == std::string::npos &&
        detail::character_count(std::string_view(text).substr(0, equals)) <= 2)
      text.erase(0, equals + 1);
  std::optional<std::string> braced = detail::brace_sqrt(text);
  if (!braced) return std::nullopt;
  replace_all(*braced, " ", "");
  braced = detail::brace_frac(*braced);
  if (!braced) return std::nullopt;
  text = std::move(*braced);
  if (text == "0.5") return "\\frac{1}{2}";
  if (const std::size_t slash = text.find('/'); slash != std::string::npos) {
    const std::string_view a(text.data(), slash), b = std::string_view(text).substr(slash + 1);
    if (detail::canonical_integer(a) && detail::canonical_integer(b))
      return "\\frac{" + std::string(a) + "}{" + std::string(b) + "}";
  }
  return text;
}

/// The same without white space at the ends and one \text{} around all of it; where there is no normal form, the
/// rest itself. Linear. normalize_answer of openai/prm800k, math_normalize.py.
inline std::string prm800k_normalized(std::string_view answer) {
  constexpr std::string_view open = "\\text{";
  answer = detail::trimmed(answer);
  if (answer.size() > open.size() + 1 && answer.substr(0, open.size()) == open && answer.back() == '}' &&
      answer.find('\n') == std::string_view::npos)
    answer = detail::trimmed(answer.substr(open.size(), answer.size() - open.size() - 1));
  return hendrycks_normalized(answer).value_or(std::string(answer));
}

/// Whether two answers have the same normal form; where one has none, whether they are the same text.
inline bool hendrycks_equal(std::string_view a, std::string_view b) {
  const std::optional<std::string> left = hendrycks_normalized(a);
  const std::optional<std::string> right = left ? hendrycks_normalized(b) : std::nullopt;
  return left && right ? *left == *right : a == b;
}

/// Reward 1 when the contents of the completion's last \boxed{} and the answer are hendrycks_equal, else 0.
/// Models text_verifier. Unscored only when memory runs out. Linear. As verl's math_reward.py.
struct boxed_verifier {
  verdict operator()(std::string_view completion, std::string_view answer) const noexcept {
    return detail::unless_out_of_memory([&]() -> verdict {
      const std::optional<std::string_view> given = last_boxed(completion);
      return {.reward = given && hendrycks_equal(*given, answer) ? 1.0 : 0.0};
    });
  }
};

}  // namespace rlvr
