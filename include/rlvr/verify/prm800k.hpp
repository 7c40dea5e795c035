#pragma once
/// The grader of PRM800K, without a computer algebra system.

#include <cstddef>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <rlvr/verify/boxed.hpp>
#include <rlvr/verify/characters.hpp>
#include <rlvr/verify/hendrycks.hpp>
#include <rlvr/verify/math_expression.hpp>
#include <rlvr/verify/math_parser.hpp>
#include <rlvr/verify/plain_latex.hpp>
#include <rlvr/verify/verifier.hpp>

namespace rlvr {

namespace detail {

/// Drops a comma between a digit and three digits that no digit follows, again and again.
inline std::string without_formatted_commas(std::string text) {
  for (bool changed = true; changed;) {
    changed = false;
    std::string out;
    const auto digit = [&](std::size_t i) { return i < text.size() && is_digit(text[i]); };
    for (std::size_t i = 0; i < text.size(); ++i) {
      if (text[i] == ',' && i > 0 && digit(i - 1) && digit(i + 1) && digit(i + 2) && digit(i + 3) && !digit(i + 4)) {
        changed = true;
        out.append(text, i + 1, 4);  // what ends the number is not looked at again in this pass
        i += 4;
      } else {
        out += text[i];
      }
    }
    text.swap(out);
  }
  return text;
}

/// The digits of a whole number, which may end with zeros behind a point and have single _ between digits, as Python
/// reads them (52_8, in base 8, becomes 528); nothing for anything else.
inline std::optional<std::string> whole_number(std::string_view text) {
  text = trimmed(text);
  const bool negative = !text.empty() && text.front() == '-';
  if (!text.empty() && (negative || text.front() == '+')) text.remove_prefix(1);
  std::string digits;
  std::size_t end = 0;
  for (; end < text.size(); ++end)
    if (is_digit(text[end]))
      digits += text[end];
    else if (text[end] != '_' || digits.empty() || text[end - 1] == '_' || end + 1 == text.size() ||
             !is_digit(text[end + 1]))
      break;
  const std::string_view rest = text.substr(end);
  if (digits.empty()) return std::nullopt;
  if (!rest.empty() && (rest.front() != '.' || rest.find_first_not_of('0', 1) != std::string_view::npos))
    return std::nullopt;
  const std::size_t zeros = digits.find_first_not_of('0');
  digits.erase(0, zeros == std::string::npos ? digits.size() - 1 : zeros);
  return (negative && digits != "0" ? "-" : "") + digits;
}

/// The elements of (a,b,c) with either kind of bracket, and no bracket inside; else the text itself.
inline std::vector<std::string> prm800k_elements(const std::string& normal) {
  const std::string text = without_formatted_commas(normal);
  constexpr std::string_view brackets = "()[]";
  const auto bracket = [&](char c) { return brackets.find(c) != std::string_view::npos; };
  if (text.size() <= 2 || !bracket(text.front()) || !bracket(text.back()) ||
      text.find_first_of(brackets, 1) != text.size() - 1)
    return {text};
  std::vector<std::string> out;
  for (std::size_t at = 1; at < text.size();) {
    std::size_t end = text.find(',', at);
    if (end == std::string::npos) end = text.size() - 1;
    out.emplace_back(trimmed(std::string_view(text).substr(at, end - at)));
    at = end + 1;
  }
  return out;
}

/// digits/digits, with one more character behind each.
inline bool simple_fraction(std::string_view text) {
  const auto digits_and_one = [](std::string_view part) {
    const std::size_t other = part.find_first_not_of("0123456789");
    return !part.empty() && is_digit(part.front()) && (other == std::string_view::npos || other + 1 == part.size());
  };
  if (!text.empty() && text.front() == '-') text.remove_prefix(1);
  const std::size_t slash = text.find('/');
  if (slash == std::string_view::npos || !digits_and_one(text.substr(0, slash))) return false;
  const std::string_view below = text.substr(slash + 1);
  return digits_and_one(below) && below.find_first_not_of('0') < below.size() &&
         is_digit(below[below.find_first_not_of('0')]);
}

/// Whether the original would hand (a)-(b) to its computer algebra system.
inline bool simple_enough(std::string_view a, std::string_view b) {
  bool seen[26] = {};
  std::size_t letters = 0;
  for (std::string_view side : {a, b}) {
    std::string text(side);
    replace_all(text, "sqrt", "");
    replace_all(text, "frac", "");
    for (char c : text)
      if (is_letter(c) && !std::exchange(seen[lower(c) - 'a'], true)) ++letters;
    if (side.find("^{") != std::string_view::npos || side.find("^(") != std::string_view::npos) return false;
    for (std::size_t at = side.find('^'); at != std::string_view::npos; at = side.find('^', at + 1))
      if (at + 2 < side.size() && is_digit(side[at + 1]) && (is_digit(side[at + 2]) || side[at + 2] == '^'))
        return false;
  }
  return letters <= 2;
}

}  // namespace detail

/// The second normal form of PRM800K: plain text in lower case without spaces, braces, units, dollar and percent
/// signs; fractions as a/b, with brackets around more than one character; roots as sqrt(a); mixed numbers as a+b/c;
/// million as *10^6; whole numbers without thousands commas. Linear.
///
/// Differs from the original, which leaves LaTeX to the package pylatexenc, in what answers seldom have: letters of
/// formulas in \( \) and \textbf stay upright, environments other than matrices and rare commands lose their name,
/// letter case is that of ASCII, and whole numbers keep all their digits where the original rounds them to doubles.
/// _normalize of openai/prm800k, grader.py.
inline std::string prm800k_plain(std::string_view answer) {
  using detail::replace_all;
  constexpr std::string_view open = "\\text{";
  if (answer.size() > open.size() + 1 && answer.substr(0, open.size()) == open && answer.back() == '}' &&
      answer.find('\n') == std::string_view::npos)
    answer = answer.substr(open.size(), answer.size() - open.size() - 1);
  std::string text(answer);
  constexpr std::pair<std::string_view, std::string_view> words[] = {{"\\%", "%"},
                                                                     {"\\$", "$"},
                                                                     {"$", ""},
                                                                     {"%", ""},
                                                                     {" or ", " , "},
                                                                     {" and ", " , "},
                                                                     {"million", "*10^6"},
                                                                     {"billion", "*10^9"},
                                                                     {"trillion", "*10^12"}};
  for (const auto& [from, to] : words) replace_all(text, from, to);
  /// Drops every `from` with what `skip(place behind it)` passes over.
  const auto drop = [&](std::string_view from, const auto& skip) {
    std::string out;
    std::size_t begin = 0;
    for (std::size_t at = text.find(from); at != std::string::npos; at = text.find(from, begin)) {
      const std::size_t end = skip(at + from.size());
      out.append(text, begin, at - begin);
      begin = end;
      if (end == std::string::npos) return;
    }
    text = out.append(text, begin);
  };
  const auto spaces = [&](std::size_t at) {
    while (at < text.size() && text[at] == ' ') ++at;
    return at;
  };
  for (std::string_view unit : {"degree", "cm", "centimeter", "meter", "mile", "second", "minute", "hour", "day",
                                "week", "month", "year", "foot", "feet", "inch", "yard"})
    drop(unit, [&](std::size_t at) {
      if (text.compare(at, 2, "es") == 0) at += 2;
      if (at < text.size() && text[at] == 's') ++at;
      at = spaces(at);
      if (at + 1 < text.size() && text[at] == '^' && detail::is_digit(text[at + 1]))
        for (++at; at < text.size() && detail::is_digit(text[at]);) ++at;
      return at;
    });
  std::string out;
  for (std::size_t i = 0; i < text.size();) {
    const std::size_t circle = text[i] == '^' ? spaces(i + 1) : i;
    if (circle > i && text.compare(circle, 5, "\\circ") == 0)
      i = circle + 5;
    else
      out += text[i++];
  }
  text.swap(out);
  if (text.size() > 1 && text.front() == '{' && text.back() == '}') text = text.substr(1, text.size() - 2);
  drop(",\\!", spaces);
  if (std::optional<std::string> whole = detail::whole_number(text)) text = std::move(*whole);
  if (text.find('\\') != std::string::npos)
    if (std::optional<std::string> plain = detail::plain_latex::of(text)) text = detail::trimmed(*plain);

  // Spaces: none behind a minus; a + b/c of a b/c; then none at all.
  out.clear();
  for (std::size_t i = 0; i < text.size(); ++i) {
    out += text[i];
    if (text[i] == '-') i = spaces(i + 1) - 1;
  }
  text.swap(out);
  out.clear();
  for (std::size_t i = 0; i < text.size(); ++i) {
    const std::size_t next = detail::is_digit(text[i]) ? spaces(i + 1) : i;
    if (next > i + 1 && next < text.size() && detail::is_digit(text[next])) {
      out.append({text[i], '+', text[next]});
      i = next;
    } else if (text[i] != ' ' && text[i] != '{' && text[i] != '}') {
      out += detail::lower(text[i]);
    }
  }
  if (const auto whole = detail::whole_number(detail::without_formatted_commas(out))) return *whole;
  return out;
}

/// Whether PRM800K's grader takes `given` for `answer`: they have the same first or second normal form, or their
/// elements (one, without brackets around commas) are equal one by one. Fractions of integers must be the same text:
/// 2/4 is not 1/2. An integer equals nothing else. Other elements are compared by value where the original allows
/// it: at most two letters, and no power of more than one digit.
///
/// The original asks whether sympy simplifies the difference to 0; here see detail::compare. Linear.
/// grade_answer of openai/prm800k, grader.py.
inline bool prm800k_equal(std::string_view given, std::string_view answer) {
  if (prm800k_normalized(given) == prm800k_normalized(answer)) return true;
  const std::string x = prm800k_plain(given), y = prm800k_plain(answer);
  if (x == y) return true;
  if (x.empty() || y.empty()) return false;
  const std::vector<std::string> a = detail::prm800k_elements(x), b = detail::prm800k_elements(y);
  if (b.size() > 1 && (x.front() != y.front() || x.back() != y.back())) return false;
  if (a.size() != b.size()) return false;
  const auto is_whole = [](const std::string& text) {
    return detail::whole_number(detail::without_formatted_commas(text)).has_value();
  };
  for (std::size_t i = 0; i < a.size(); ++i) {
    if (a[i] == b[i]) continue;
    if (detail::simple_fraction(a[i]) && detail::simple_fraction(b[i])) return false;
    if (is_whole(a[i]) != is_whole(b[i]) || a[i].size() > 4000 || b[i].size() > 4000) return false;
    if (!detail::simple_enough(a[i], b[i])) return false;
    std::optional<detail::math_expression> f = detail::math_parser(a[i]).parse(), g = detail::math_parser(b[i]).parse();
    if (!f || !g) return false;
    f->has_decimals = g->has_decimals = false;  // a rounded number is not the number
    if (detail::compare(*f, *g) != detail::comparison::equal) return false;
  }
  return true;
}

/// Reward 1 when the contents of the completion's last \boxed{} and the answer are prm800k_equal, else 0. Models
/// text_verifier. Unscored only when memory runs out. Linear.
struct prm800k_verifier {
  verdict operator()(std::string_view completion, std::string_view answer) const noexcept {
    return detail::unless_out_of_memory([&]() -> verdict {
      const std::optional<std::string_view> given = last_boxed(completion);
      return {.reward = given && prm800k_equal(*given, answer) ? 1.0 : 0.0};
    });
  }
};

}  // namespace rlvr
