#pragma once
/// What a text gives as its answer to a mathematical question.

#include <cstddef>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include <rlvr/verify/boxed.hpp>
#include <rlvr/verify/characters.hpp>
#include <rlvr/verify/math_equal.hpp>
#include <rlvr/verify/math_expression.hpp>
#include <rlvr/verify/math_relation.hpp>
#include <rlvr/verify/math_text.hpp>

namespace rlvr {

/// Where a math_verifier looks for the answer of a completion.
enum class math_source {
  boxed,     ///< in the last \boxed{} only, together with the boxes closely before it: a list
  anchored,  ///< there; else behind the last "answer is" or "answer:", else in the last $...$
  anywhere,  ///< there; else the whole text if it is one line of mathematics; else its last formula (of an
             ///< equation between numbers the last side) or number; else the whole text if it is one line
  whole      ///< in the last \boxed{}; without one, the whole completion is the answer
};

namespace detail {

/// The number of words with small letters, but for "and", "or" and names of functions, that are no commands.
inline std::size_t word_count(std::string_view text) {
  std::size_t words = 0;
  for (std::size_t i = 0; i < text.size();) {
    const std::size_t begin = i;
    bool small = false;
    for (; i < text.size() && is_letter(text[i]); ++i) small = small || (text[i] >= 'a' && text[i] <= 'z');
    const std::string_view word = text.substr(begin, i - begin);
    bool counts = small && word.size() >= 2 && word != "and" && word != "or" &&
                  (begin == 0 || (text[begin - 1] != '\\' && text[begin - 1] != '{'));
    for (const named_operation& f : math_functions) counts = counts && word != f.name;
    words += counts;
    if (i == begin) ++i;
  }
  return words;
}

/// A part of a text, and where it stands there.
struct found_text {
  std::size_t at = 0;
  std::string_view text;
};

/// Whether the text between two boxes joins them into one answer: at most 10 bytes, or at most 20 with a comma, "and"
/// or "or", where \quad, \text and braces do not count; not across the end of a sentence, behind which a model corrects
/// itself.
inline bool joins_boxes(std::string_view gap) {
  if (gap.size() > 60 || gap.find(". ") != gap.npos || gap.find(".\n") != gap.npos) return false;
  std::string text(gap);
  for (std::string_view layout : {"\\qquad", "\\quad", "\\text{", "}", "$"}) replace_all(text, layout, "");
  bool joined = text.size() <= 10;
  for (std::string_view word : {",", ";", "and", "or"}) joined = joined || text.find(word) != std::string::npos;
  return joined && text.size() <= 20;
}

/// The contents of the last boxes as a list, each once: \boxed{1} and \boxed{2} is 1,2.
inline std::optional<std::string> last_boxes(std::string_view text) {
  constexpr std::string_view open = "\\boxed{";
  constexpr std::size_t most = 24;
  const std::optional<std::string_view> last = last_boxed(text);
  if (!last) return std::nullopt;
  std::string out(*last);
  auto begin = static_cast<std::size_t>(last->data() - text.data());
  if (begin < open.size() || text.substr(begin - open.size(), open.size()) != open) return out;
  begin -= open.size();
  std::string_view newest = *last;
  for (std::size_t count = 1; count < most; ++count) {
    const std::size_t at = text.substr(0, begin).rfind(open);
    if (at == std::string_view::npos) break;
    std::size_t end = at + open.size();
    for (std::size_t depth = 1; end < begin; ++end) {
      depth += text[end] == '{';
      if (text[end] == '}' && --depth == 0) break;
    }
    if (end >= begin || !joins_boxes(text.substr(end + 1, begin - end - 1))) break;
    const std::string_view inside = text.substr(at + open.size(), end - at - open.size());
    if (inside != newest) out = std::string(inside) + "," + out;
    newest = inside;
    begin = at;
  }
  return out;
}

/// The contents of the last $...$, \(...\) or \[...\].
constexpr std::optional<found_text> last_formula(std::string_view text) {
  const auto dollar = [&](std::size_t before) {
    std::size_t at = before == 0 ? std::string_view::npos : text.rfind('$', before - 1);
    while (at != std::string_view::npos && at > 0 && text[at - 1] == '\\') at = text.rfind('$', at - 1);
    return at;
  };
  const std::size_t close = dollar(text.size());
  if (close != std::string_view::npos) {
    std::size_t end = close;
    while (end > 0 && text[end - 1] == '$') --end;
    if (const std::size_t open = dollar(end); open != std::string_view::npos)
      return found_text{open + 1, text.substr(open + 1, end - open - 1)};
  }
  for (std::string_view bracket : {"\\(\\)", "\\[\\]"}) {
    const std::size_t end = text.rfind(bracket.substr(2));
    const std::size_t begin = end == std::string_view::npos ? end : text.rfind(bracket.substr(0, 2), end);
    if (begin != std::string_view::npos) return found_text{begin + 2, text.substr(begin + 2, end - begin - 2)};
  }
  return std::nullopt;
}

/// The last number that no letter stands before: digits with commas, points and a slash, its sign, and percent.
constexpr std::optional<found_text> last_number(std::string_view text) {
  const auto digit = [&](std::size_t i) { return i < text.size() && is_digit(text[i]); };
  for (std::size_t end = text.size(); end > 0;) {
    if (!digit(end - 1)) {
      --end;
      continue;
    }
    std::size_t at = end - 1;
    while (at > 0 && (digit(at - 1) ||
                      ((text[at - 1] == ',' || text[at - 1] == '.' || text[at - 1] == '/') && at > 1 && digit(at - 2))))
      --at;
    if (at > 0 && text[at - 1] == '.') --at;
    if (at > 0 && (is_letter(text[at - 1]) || text[at - 1] == '_' || text[at - 1] == '^' || text[at - 1] == '{')) {
      end = at;
      continue;
    }
    if (at > 0 && text[at - 1] == '-' &&
        (at == 1 || !(digit(at - 2) || is_letter(text[at - 2]) || text[at - 2] == ')')))
      --at;
    std::size_t tail = end;
    while (tail < text.size() && (text[tail] == ' ' || text[tail] == '\\' || text[tail] == '$')) ++tail;
    for (std::string_view percent : {"%", "percent", "pct"})
      if (text.substr(tail, percent.size()) == percent)
        return found_text{at, text.substr(at, tail + percent.size() - at)};
    return found_text{at, text.substr(at, end - at)};
  }
  return std::nullopt;
}

/// The formula or number that ends last.
constexpr std::optional<std::string_view> last_formula_or_number(std::string_view text) {
  const auto formula = last_formula(text), number = last_number(text);
  if (!formula && !number) return std::nullopt;
  return !formula || (number && number->at > formula->at + formula->text.size()) ? number->text : formula->text;
}

/// Of an equation between numbers, true or false, the last side: it is the last number of a text that it ends.
inline std::string last_side(std::string_view formula) {
  const std::string text = math_normalized(formula);
  const std::vector<std::string_view> sides = cut(text, "=");
  for (std::string_view side : sides) {
    const std::optional<math_expression> f = parsed(side);
    if (!f || f->has(operation::variable)) return std::string(formula);
  }
  return std::string(sides.back());
}

/// The sentence behind the last "answer is" or "answer:", without its final stop.
inline std::optional<std::string_view> behind_answer_phrase(std::string_view text) {
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
    bool formula = false;
    for (std::size_t at = 0; at < rest.size(); ++at) {
      if (rest[at] == '$') formula = !formula;
      if (!formula && rest.substr(at, 2) == ". ") rest = rest.substr(0, at);
    }
    while (!rest.empty() && (rest.back() == '.' || rest.back() == '*' || rest.back() == '"')) rest.remove_suffix(1);
    while (!rest.empty() && (rest.front() == '*' || rest.front() == '"')) rest.remove_prefix(1);
    return trimmed(rest);
  }
  return std::nullopt;
}

/// The answer of a sentence: itself, unless it has words; then its formula at the front, else the last one or number.
inline std::string_view spoken_answer(std::string_view sentence) {
  constexpr std::size_t longest = 4000;
  if (sentence.size() > longest || !is_words(sentence)) return sentence;
  for (std::string_view bracket : {"$$", "\\(\\)", "\\[\\]"}) {
    const std::string_view open = bracket.substr(0, bracket.size() / 2), close = bracket.substr(bracket.size() / 2);
    if (sentence.substr(0, open.size()) != open) continue;
    const std::size_t end = sentence.find(close, open.size());
    if (end != std::string_view::npos) return sentence.substr(open.size(), end - open.size());
  }
  return last_formula_or_number(sentence).value_or(sentence);
}

}  // namespace detail

/// What a completion gives as its answer to a mathematical question; nothing when it gives none. Linear.
inline std::optional<std::string> math_answer(std::string_view completion, math_source source) {
  if (auto boxes = detail::last_boxes(completion); boxes || source == math_source::boxed) return boxes;
  if (source == math_source::whole) return std::string(completion);
  if (const auto sentence = detail::behind_answer_phrase(completion))
    return std::string(detail::spoken_answer(*sentence));
  if (source == math_source::anywhere) {
    const std::string_view line = detail::trimmed(completion);
    const bool short_line = line.size() <= 200 && line.find('\n') == std::string_view::npos;
    if (short_line && !detail::is_words(line) && detail::word_count(line) == 0) return std::string(line);
    if (const auto last = detail::last_formula_or_number(completion)) return detail::last_side(*last);
    return short_line ? std::optional<std::string>(line) : std::nullopt;
  }
  const auto formula = detail::last_formula(completion);
  return formula ? std::optional<std::string>(formula->text) : std::nullopt;
}

}  // namespace rlvr
