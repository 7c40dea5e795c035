#pragma once
/// The verifier of mathematical answers.

#include <cstddef>
#include <optional>
#include <string_view>

#include <rlvr/verify/boxed.hpp>
#include <rlvr/verify/characters.hpp>
#include <rlvr/verify/math_equal.hpp>
#include <rlvr/verify/tags.hpp>
#include <rlvr/verify/verifier.hpp>

namespace rlvr {

/// Where a math_verifier looks for the answer of a completion.
enum class math_source {
  boxed,     ///< in the last \boxed{} only
  anchored,  ///< there; else behind the last "answer is" or "answer:", else in the last $...$
  whole      ///< in the last \boxed{}; without one, the whole completion is the answer
};

namespace detail {

/// The rest of the line behind the last "answer is" or "answer:", without a final stop.
constexpr std::optional<std::string_view> behind_answer_phrase(std::string_view text) {
  constexpr std::string_view word = "answer";
  for (std::size_t i = text.size(); i-- > 0;) {
    if (lower(text[i]) != 'a' || i + word.size() >= text.size()) continue;
    std::size_t k = 1;
    while (k < word.size() && lower(text[i + k]) == word[k]) ++k;
    if (k < word.size()) continue;
    std::string_view rest = text.substr(i + word.size());
    if (rest.substr(0, 3) == " is")
      rest.remove_prefix(3);
    else if (rest.front() != ':')
      continue;
    if (!rest.empty() && rest.front() == ':') rest.remove_prefix(1);
    rest = trimmed(rest.substr(0, rest.find('\n')));
    while (!rest.empty() && (rest.back() == '.' || rest.back() == '*')) rest.remove_suffix(1);
    return rest;
  }
  return std::nullopt;
}

/// The contents of the last $...$, \(...\) or \[...\].
constexpr std::optional<std::string_view> last_formula(std::string_view text) {
  const std::size_t close = text.rfind('$');
  if (close != std::string_view::npos && close > 0) {
    std::string_view before = text.substr(0, close);
    while (!before.empty() && before.back() == '$') before.remove_suffix(1);
    if (const std::size_t open = before.rfind('$'); open != std::string_view::npos) return before.substr(open + 1);
  }
  for (std::string_view bracket : {"\\(\\)", "\\[\\]"}) {
    const std::size_t end = text.rfind(bracket.substr(2));
    const std::size_t begin = end == std::string_view::npos ? end : text.rfind(bracket.substr(0, 2), end);
    if (begin != std::string_view::npos) return text.substr(begin + 2, end - begin - 2);
  }
  return std::nullopt;
}

}  // namespace detail

/// What a completion gives as its answer to a mathematical question; nothing when it gives none. Linear.
constexpr std::optional<std::string_view> math_answer(std::string_view completion, math_source source) {
  if (const auto box = last_boxed(completion); box || source == math_source::boxed) return box;
  if (source == math_source::whole) return completion;
  if (const auto answer = detail::behind_answer_phrase(completion)) return answer;
  return detail::last_formula(completion);
}

/// Reward 1 when the completion's answer and the reference are math_equal, else 0: undecided counts as wrong
/// (ask math_equal which it was). Models text_verifier.
///
/// The reference may stand in \boxed{} or between dollar signs. Unscored when it is nothing that could be
/// compared: neither an expression, nor a list of such, nor a single word or \text{}. Linear.
struct math_verifier {
  math_source source = math_source::anchored;

  verdict operator()(std::string_view completion, std::string_view answer) const noexcept {
    return detail::unless_out_of_memory([&]() -> verdict {
      const std::string_view gold = last_boxed(answer).value_or(answer);
      if (!comparable(gold)) return {.reward = 0, .scored = false};
      const std::optional<std::string_view> given = math_answer(completion, source);
      return {.reward = given && math_equal(*given, gold) == detail::comparison::equal ? 1.0 : 0.0};
    });
  }

 private:
  /// Sentences are not: an answer that no completion could meet must not look like a hard question.
  static bool comparable(std::string_view gold) {
    gold = detail::trimmed(gold);
    if (gold.empty()) return false;
    if (detail::unwrapped_text(gold)) return true;
    std::size_t words = 0;
    for (std::size_t i = 0; i < gold.size();) {
      const std::size_t begin = i;
      while (i < gold.size() && detail::is_letter(gold[i])) ++i;
      bool word = i - begin >= 2 && (begin == 0 || (gold[begin - 1] != '\\' && gold[begin - 1] != '{'));
      for (const detail::named_operation& f : detail::math_functions)
        word = word && gold.substr(begin, i - begin) != f.name;
      words += word;
      if (i == begin) ++i;
    }
    return words < 2 || detail::is_digit(gold.front()) || gold.front() == '\\';
  }
};

}  // namespace rlvr
