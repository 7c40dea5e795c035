#pragma once
/// Mathematical answers as text: one notation for all, units, and the places where they are cut.

#include <array>
#include <cstddef>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <rlvr/verify/characters.hpp>

namespace rlvr::detail {

/// +1 for an opening bracket, -1 for a closing one; escaped braces count as well.
constexpr int bracket_step(char c) {
  return c == '(' || c == '[' || c == '{' ? 1 : c == ')' || c == ']' || c == '}' ? -1 : 0;
}

/// Drops the commas among digits that separate thousands.
inline std::string without_thousands_commas(std::string_view text) {
  const auto digit_at = [&](std::size_t i) { return i < text.size() && is_digit(text[i]); };
  std::string out;
  for (std::size_t i = 0; i < text.size();) {
    const std::size_t begin = i;
    while (digit_at(i)) ++i;
    out.append(text.substr(begin, i - begin));
    if (i > begin && i - begin <= 3 && text[begin] != '0' && (begin == 0 || text[begin - 1] != '.'))
      while (i < text.size() && text[i] == ',' && digit_at(i + 1) && digit_at(i + 2) && digit_at(i + 3) &&
             !digit_at(i + 4)) {
        out.append(text.substr(i + 1, 3));
        i += 4;
      }
    if (i == begin || (i < text.size() && !digit_at(i))) {
      if (i < text.size()) out += text[i];
      ++i;
    }
  }
  return out;
}

/// 1 000 000.5 without its spaces; any other text as it is.
inline std::string without_thousands_spaces(std::string text) {
  std::string out;
  std::size_t at = !text.empty() && text[0] == '-' ? 1 : 0, run = 0;
  for (std::size_t i = 0; i <= text.size(); ++i) {
    const char c = i < text.size() ? text[i] : ' ';
    if (i >= at && is_digit(c)) {
      ++run;
    } else if (i >= at && (c == ' ' || c == '.')) {
      if (out.size() == at + run ? run == 0 || run > 3 : run != 3) return text;
      run = 0;
      if (c == '.')
        return text.find_first_not_of("0123456789", i + 1) == std::string::npos ? out + text.substr(i) : text;
      continue;
    } else if (i >= at) {
      return text;
    }
    if (i < text.size()) out += c;
  }
  return out;
}

/// Semicolons as commas; where commas stand between them, what they separate as tuples.
inline std::string without_semicolons(std::string_view text) {
  std::vector<std::string> parts(1);
  int depth = 0;
  bool commas = false;
  for (char c : text) {
    depth += bracket_step(c);
    commas = commas || (c == ',' && depth == 0);
    if (c == ';' && depth == 0)
      parts.emplace_back();
    else
      parts.back() += c == ';' ? ',' : c;
  }
  std::string out;
  for (const std::string& part : parts) {
    const bool tuple = commas && parts.size() > 1;
    out.append(out.empty() ? "" : ",").append(tuple ? "(" : "").append(part).append(tuple ? ")" : "");
  }
  return out;
}

/// What stands for \\\\ in a normalised answer: no other command begins with it.
inline constexpr std::string_view row_end = "\x01";

/// An answer without layout commands, dollar signs and degrees, with one spelling of every relation and bracket.
inline std::string math_normalized(std::string_view answer) {
  struct rewriting {
    std::string_view from, to;
  };
  // In this order: a longer name stands before its beginnings.
  static constexpr rewriting rewritings[] = {{"\\\\", row_end},
                                             {"\\displaystyle", " "},
                                             {"\\left", ""},
                                             {"\\right", ""},
                                             {"\\bigl", ""},
                                             {"\\bigr", ""},
                                             {"\\Bigl", ""},
                                             {"\\Bigr", ""},
                                             {"{, }", "{,}"},
                                             {" {,}", "{,}"},
                                             {"{,}", ""},
                                             {",\\! ", ","},
                                             {"\\!", ""},
                                             {"\\,", " "},
                                             {"\\;", " "},
                                             {"\\:", " "},
                                             {"\\ ", " "},
                                             {"\\qquad", " "},
                                             {"\\quad", " "},
                                             {"~", " "},
                                             {"\n", " "},
                                             {"\\(", ""},
                                             {"\\)", ""},
                                             {"\\[", ""},
                                             {"\\]", ""},
                                             {"\\$", ""},
                                             {"$", ""},
                                             {"^{\\circ}", ""},
                                             {"^\\circ", ""},
                                             {"\\degree", ""},
                                             {"\xc2\xb0", ""},
                                             {"\\%", "%"},
                                             {"\\lvert", "|"},
                                             {"\\rvert", "|"},
                                             {"\\vert", "|"},
                                             {"\\lbrace", "\\{"},
                                             {"\\rbrace", "\\}"},
                                             {"\\leqslant", "\\le "},
                                             {"\\geqslant", "\\ge "},
                                             {"\\leq", "\\le "},
                                             {"\\geq", "\\ge "},
                                             {"<=", "\\le "},
                                             {">=", "\\ge "},
                                             {"\\neq", "\\ne "},
                                             {"!=", "\\ne "},
                                             {"\xe2\x89\xa0", "\\ne "},
                                             {"\xe2\x89\x88", "\\approx "},
                                             {"\\lt", "<"},
                                             {"\\gt", ">"},
                                             {"\\emptyset", "\\{\\}"},
                                             {"\\varnothing", "\\{\\}"},
                                             {"\\text{ and }", ","},
                                             {"\\text{and}", ","},
                                             {"\\text{ or }", ","},
                                             {"\\text{or}", ","},
                                             {", and ", ","},
                                             {" and ", ","},
                                             {" or ", ","},
                                             {")or(", "),("},
                                             {")and(", "),("},
                                             {"\\land", ","},
                                             {"\\lor", ","},
                                             {"\xcf\x80", "\\pi "},
                                             {"\xe2\x88\x9e", "\\infty "},
                                             {"\xe2\x88\x92", "-"},
                                             {"\xc3\x97", "*"},
                                             {"\xc2\xb7", "*"},
                                             {"\xe2\x89\xa4", "\\le "},
                                             {"\xe2\x89\xa5", "\\ge "},
                                             {"\xe2\x88\x9a", "\\sqrt "},
                                             {"\xe2\x88\xaa", "\\cup "},
                                             {"\xc2\xb1", "\\pm "}};
  std::string text(answer);
  // Outside matrices two backslashes are one that was escaped.
  if (text.find("\\begin{") == std::string::npos) replace_all(text, "\\\\", "\\");
  for (const rewriting& r : rewritings) replace_all(text, r.from, r.to);
  std::string_view rest = trimmed(text);
  // Full stops and commas end a sentence; an ellipsis is part of the answer.
  while (!rest.empty() && !(rest.size() > 1 && rest.substr(rest.size() - 2) == "..") &&
         (rest.back() == '.' || rest.back() == ',' || rest.back() == ';')) {
    rest.remove_suffix(1);
    rest = trimmed(rest);
  }
  // Within brackets a comma separates elements.
  std::string out(rest);
  if (rest.find_first_of("([{") == std::string_view::npos)
    out = without_thousands_spaces(without_thousands_commas(rest));
  return out.find(';') == std::string::npos ? out : without_semicolons(out);
}

/// Keeps one blank between two digits: 3 1/2 is not 31/2. Not before three digits, which it separates as thousands.
inline std::string without_blanks(std::string_view text) {
  const auto digit_at = [&](std::size_t i) { return i < text.size() && is_digit(text[i]); };
  std::string out;
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (is_blank(text[i])) continue;
    const bool after_blank = i > 0 && is_blank(text[i - 1]) && !out.empty() && is_digit(out.back());
    const bool thousands = digit_at(i) && digit_at(i + 1) && digit_at(i + 2) && !digit_at(i + 3) &&
                           text.substr(i + 3, 1) != "/";
    if (after_blank && digit_at(i) && !thousands) out += ' ';
    out += text[i];
  }
  return out;
}

/// Cuts at every `separator` that stands outside brackets.
inline std::vector<std::string_view> cut(std::string_view text, std::string_view separator) {
  std::vector<std::string_view> parts;
  int depth = 0;
  std::size_t begin = 0;
  for (std::size_t i = 0; i < text.size(); ++i) {
    depth += bracket_step(text[i]);
    if (depth == 0 && text.substr(i, separator.size()) == separator) {
      parts.push_back(trimmed(text.substr(begin, i - begin)));
      begin = i + separator.size();
      i = begin - 1;
    }
  }
  parts.push_back(trimmed(text.substr(begin)));
  return parts;
}

/// What stands between a bracket at the front and its partner at the back; ( and [ may be partners.
struct bracketed {
  std::string_view open, close, inside;
};
inline std::optional<bracketed> brackets_around(std::string_view text) {
  const std::size_t width = text.substr(0, 2) == "\\{" ? 2 : 1;
  if (text.size() < 2 * width || bracket_step(text[width - 1]) != 1 || bracket_step(text.back()) != -1)
    return std::nullopt;
  int depth = 0;
  for (std::size_t i = width - 1; i < text.size(); ++i) {
    depth += bracket_step(text[i]);
    if (depth == 0 && i + 1 < text.size()) return std::nullopt;
  }
  if (depth != 0 || (width == 2) != (text.substr(text.size() - 2) == "\\}")) return std::nullopt;
  return bracketed{text.substr(0, width), text.substr(text.size() - width),
                   text.substr(width, text.size() - 2 * width)};
}

/// The contents of one of \text{}, \textbf{}, \mathrm{}, \mbox{}, ... that is the whole text.
inline std::optional<std::string_view> unwrapped_text(std::string_view text) {
  for (std::string_view open :
       {"\\text{", "\\textbf{", "\\textit{", "\\textnormal{", "\\mathrm{", "\\mathbf{", "\\mbox{", "\\boxed{"})
    if (text.substr(0, open.size()) == open)
      if (const auto whole = brackets_around(text.substr(open.size() - 1))) return trimmed(whole->inside);
  return std::nullopt;
}

/// Whether a lower-case word is a unit that an answer may carry or leave out.
constexpr bool is_unit(std::string_view word) {
  if (word.size() > 2 && word.back() == 's') word.remove_suffix(1);
  for (std::string_view unit :
       {"degree", "cm",    "centimeter", "meter", "km",     "kilometer", "mm",         "mile",   "second",
        "minute", "hour",  "day",        "week",  "month",  "year",      "foot",       "feet",   "ft",
        "inch",   "inche", "yard",       "unit",  "square", "cubic",     "sq",         "dollar", "cent",
        "point",  "mph",   "kg",         "gram",  "liter",  "percent",   "percentage", "pct",    "yuan"})
    if (word == unit) return true;
  return false;
}

/// Whether words behind a number change its value.
constexpr bool changes_value(std::string_view words) {
  for (std::string_view word : {"hundred", "thousand", "million", "billion", "trillion", "dozen", "half"})
    if (words.find(word) != std::string_view::npos) return true;
  return false;
}

/// One answer without its units, and whether percent was one of them.
struct measured {
  std::string text;
  bool percent = false;
};
inline measured without_units(std::string_view text) {
  measured out;
  for (bool again = true; again;) {
    again = false;
    text = trimmed(text);
    if (!text.empty() && text.back() == '%') {
      out.percent = again = true;
      text.remove_suffix(1);
      continue;
    }
    // A power of a unit, ^2 or ^{3}, goes with the unit.
    std::string_view rest = text;
    if (rest.size() > 4 && rest.back() == '}' && rest.substr(rest.size() - 4, 2) == "^{")
      rest.remove_suffix(4);
    else if (rest.size() > 2 && rest[rest.size() - 2] == '^')
      rest.remove_suffix(2);
    rest = trimmed(rest);
    if (!rest.empty() && rest.back() == '}') {
      for (std::string_view open :
           {"\\text{", "\\textnormal{", "\\mathrm{", "\\mbox{", "\\textbf{", "\\operatorname{"}) {
        const std::size_t at = rest.rfind(open);
        if (at == std::string_view::npos || at == 0) continue;
        const std::string_view inside = rest.substr(at + open.size(), rest.size() - 1 - at - open.size());
        const char before = trimmed(rest.substr(0, at)).empty() ? ' ' : trimmed(rest.substr(0, at)).back();
        if (inside.find('}') != std::string_view::npos || !(is_digit(before) || before == '}' || before == ')') ||
            changes_value(inside))
          continue;
        out.percent = out.percent || inside.find("percent") != std::string_view::npos;
        text = rest.substr(0, at);
        again = true;
        break;
      }
      if (again) continue;
    }
    std::size_t begin = rest.size();
    while (begin > 0 && is_letter(rest[begin - 1])) --begin;
    if (begin == 0 || begin == rest.size() || rest.size() - begin > 16) continue;
    if (rest[begin - 1] == '\\') continue;
    std::array<char, 16> word{};
    for (std::size_t i = begin; i < rest.size(); ++i) word[i - begin] = lower(rest[i]);
    const std::string_view name(word.data(), rest.size() - begin);
    if (!is_unit(name)) continue;
    out.percent = out.percent || name == "percent" || name == "percentage" || name == "pct";
    text = rest.substr(0, begin);
    again = true;
  }
  out.text = std::string(text);
  return out;
}

/// Letters and digits in lower case, for the comparison of words; and what makes another number of a number.
inline std::string lower_alphanumeric(std::string_view text) {
  const auto letter = [](char c) { return is_letter(c) || static_cast<unsigned char>(c) >= 0x80; };
  std::string out;
  for (std::size_t i = 0; i < text.size(); ++i) {
    const char c = text[i], before = i > 0 ? text[i - 1] : ' ';
    const bool sign = (c == '-' && !letter(before) && !is_digit(before)) || c == '.' || c == '/' || c == '^';
    if (letter(c) || is_digit(c) || (sign && i + 1 < text.size() && is_digit(text[i + 1]))) out += lower(c);
  }
  return out;
}

}  // namespace rlvr::detail
