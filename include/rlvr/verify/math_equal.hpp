#pragma once
/// Whether two mathematical answers are equal, as far as that can be decided without a computer algebra system.

#include <algorithm>
#include <cstddef>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <rlvr/verify/math_expression.hpp>
#include <rlvr/verify/math_parser.hpp>
#include <rlvr/verify/math_text.hpp>

namespace rlvr {

namespace detail {

comparison compare_answers(std::string_view a, std::string_view b, int depth);

inline std::optional<math_expression> parsed(std::string_view text) {
  return math_parser(text).parse();
}

inline comparison compare_in_order(const std::vector<std::string_view>& a, const std::vector<std::string_view>& b,
                                   int depth) {
  if (a.size() != b.size()) return comparison::different;
  comparison all = comparison::equal;
  for (std::size_t i = 0; i < a.size(); ++i) {
    const comparison one = compare_answers(a[i], b[i], depth);
    if (one == comparison::different) return one;
    if (one == comparison::undecided) all = one;
  }
  return all;
}

/// Every element of one has its own equal in the other. Lists of more than 24 elements are compared in order.
inline comparison compare_in_any_order(const std::vector<std::string_view>& a, std::vector<std::string_view> b,
                                       int depth) {
  if (a.size() != b.size()) return comparison::different;
  if (a.size() > 24)
    return compare_in_order(a, b, depth) == comparison::equal ? comparison::equal : comparison::undecided;
  bool undecided = false;
  for (std::string_view element : a) {
    std::size_t at = 0;
    bool any_undecided = false;
    for (; at < b.size(); ++at) {
      const comparison one = compare_answers(element, b[at], depth);
      if (one == comparison::equal) break;
      any_undecided = any_undecided || one == comparison::undecided;
    }
    if (at < b.size())
      b.erase(b.begin() + static_cast<std::ptrdiff_t>(at));
    else if (any_undecided)
      undecided = true;
    else
      return comparison::different;
  }
  return undecided ? comparison::undecided : comparison::equal;
}

/// Whether a text is a variable, or a function of variables, as on the left of x = 3 and f(x) = 3.
inline bool is_name(std::string_view text) {
  text = trimmed(text);
  if (text.empty() || text.size() > 12 || (!is_letter(text[0]) && text[0] != '\\')) return false;
  bool letters = true;
  for (char c : text.substr(1))
    if (!is_letter(c) && c != '_' && c != '{' && c != '}' && c != '(' && c != ')' && !is_digit(c) && c != ',' &&
        c != ' ')
      letters = false;
  return letters && text.substr(0, 5) != "\\frac" && text.substr(0, 5) != "\\sqrt" && text != "\\pi";
}

/// An interval as text: (l,u], from a chain of inequalities around a name or from one with a name on one side.
inline std::optional<std::string> interval_of(std::string_view text) {
  struct sign {
    std::string_view symbol;
    bool less, closed;
  };
  static constexpr sign signs[] = {
      {"\\le ", true, true}, {"\\ge ", false, true}, {"<", true, false}, {">", false, false}};
  std::vector<std::string_view> parts;
  std::vector<sign> between;
  std::size_t begin = 0;
  for (std::size_t i = 0; i < text.size(); ++i)
    for (const sign& s : signs)
      if (text.substr(i, s.symbol.size()) == s.symbol) {
        parts.push_back(trimmed(text.substr(begin, i - begin)));
        between.push_back(s);
        begin = i + s.symbol.size();
        i = begin - 1;
        break;
      }
  parts.push_back(trimmed(text.substr(begin)));
  const auto interval = [](std::string_view low, bool low_closed, std::string_view high, bool high_closed) {
    return (low_closed ? "[" : "(") + std::string(low) + "," + std::string(high) + (high_closed ? "]" : ")");
  };
  if (between.size() == 2 && between[0].less == between[1].less && is_name(parts[1])) {
    const bool up = between[0].less;
    return interval(parts[up ? 0 : 2], between[up ? 0 : 1].closed, parts[up ? 2 : 0], between[up ? 1 : 0].closed);
  }
  if (between.size() != 1) return std::nullopt;
  const bool name_left = is_name(parts[0]), name_right = is_name(parts[1]);
  if (name_left == name_right) return std::nullopt;
  const bool below = between[0].less == name_left;  // the name is below the bound
  const std::string_view bound = parts[name_left ? 1 : 0];
  return below ? interval("-\\infty", false, bound, between[0].closed)
               : interval(bound, between[0].closed, "\\infty", false);
}

/// left = right as left - right: two equations are the same when these are proportional.
inline comparison compare_equations(const std::vector<std::string_view>& a, const std::vector<std::string_view>& b) {
  const auto difference = [](const std::vector<std::string_view>& sides) {
    return parsed("(" + std::string(sides[0]) + ")-(" + std::string(sides[1]) + ")");
  };
  const std::optional<math_expression> f = difference(a), g = difference(b);
  if (!f || !g || !f->has(operation::variable) || !g->has(operation::variable)) return comparison::undecided;
  const auto somewhere = [](std::uint64_t name) -> complex_number {
    return {0.75 + static_cast<double>((name * 0x9e3779b97f4a7c15u) >> 11) * 0x1p-53, 0};
  };
  const complex_number ratio = f->at(somewhere) / g->at(somewhere);
  if (!ratio.is_finite() || magnitude(ratio) < 1e-12) return comparison::undecided;
  // f - ratio g is zero everywhere, or it is not.
  int finite = 0;
  for (int point = 1; point <= 4; ++point) {
    const auto value = [&](std::uint64_t name) -> complex_number {
      return {0.5 + static_cast<double>(((name + 17 * static_cast<std::uint64_t>(point)) * 0xd1342543de82ef95u) >> 11) *
                        0x1p-52,
              0};
    };
    const complex_number x = f->at(value), y = ratio * g->at(value);
    if (!x.is_finite() || !y.is_finite()) continue;
    ++finite;
    if (magnitude(x - y) > 1e-8 * std::max({magnitude(x), magnitude(y), 1e-3})) return comparison::different;
  }
  return finite >= 2 ? comparison::equal : comparison::undecided;
}

/// The rows of \begin{pmatrix} a & b \\ c & d \end{pmatrix}, and its kind; nothing for anything else.
struct matrix_text {
  std::string_view kind;
  std::vector<std::vector<std::string_view>> rows;
};
inline std::optional<matrix_text> matrix_of(std::string_view text) {
  constexpr std::string_view begin = "\\begin{", end = "\\end{";
  if (text.substr(0, begin.size()) != begin) return std::nullopt;
  const std::size_t brace = text.find('}'), close = text.rfind(end);
  if (brace == std::string_view::npos || close == std::string_view::npos || close < brace) return std::nullopt;
  matrix_text out;
  out.kind = text.substr(begin.size(), brace - begin.size());
  if (out.kind.find("matrix") == std::string_view::npos ||
      text.substr(close + end.size()) != std::string(out.kind) + "}" || text.find(begin, 1) != std::string_view::npos)
    return std::nullopt;
  for (std::string_view row : cut(text.substr(brace + 1, close - brace - 1), row_end))
    if (!row.empty()) out.rows.push_back(cut(row, "&"));
  return out;
}

/// The digits of a number with its base, 1011_2 or 1011_{2}.
struct based {
  std::string_view digits, base;
};
inline based split_base(std::string_view text) {
  const std::size_t at = text.find('_');
  const auto all_digits = [](std::string_view s) {
    for (char c : s)
      if (!is_digit(c)) return false;
    return !s.empty();
  };
  if (at == std::string_view::npos || !all_digits(text.substr(0, at))) return {text, {}};
  std::string_view base = text.substr(at + 1);
  if (base.size() > 2 && base.front() == '{' && base.back() == '}') base = base.substr(1, base.size() - 2);
  return all_digits(base) ? based{text.substr(0, at), base} : based{text, {}};
}

/// Words: nothing that an expression could be, or a run of four letters that is not a command.
inline bool is_words(std::string_view text) {
  std::size_t run = 0;
  bool command = false;
  for (std::size_t i = 0; i <= text.size(); ++i) {
    if (i < text.size() && is_letter(text[i])) {
      if (run++ == 0) command = i > 0 && text[i - 1] == '\\';
      continue;
    }
    const std::string_view word = text.substr(i - run, run);
    bool known = command;
    for (const named_operation& f : math_functions) known = known || word == f.name;
    if (run >= 4 && !known) return true;
    run = 0;
  }
  return false;
}

/// Two answers that are no lists: words, numbers with units and bases, expressions.
inline comparison compare_single(std::string_view a, std::string_view b) {
  const measured left = without_units(a), right = without_units(b);
  const auto x_text = unwrapped_text(left.text), y_text = unwrapped_text(right.text);
  const std::string_view x = x_text ? *x_text : left.text, y = y_text ? *y_text : right.text;
  if (x.empty() || y.empty()) return x.empty() && y.empty() ? comparison::undecided : comparison::different;
  const std::string words_x = lower_alphanumeric(x), words_y = lower_alphanumeric(y);
  if (x_text || y_text || is_words(x) || is_words(y)) {
    if (!words_x.empty() && words_x == words_y) return comparison::equal;
    if (is_words(x) || is_words(y)) return comparison::different;
  }
  const based number_x = split_base(x), number_y = split_base(y);
  if (!number_x.base.empty() && !number_y.base.empty() && number_x.base != number_y.base) return comparison::undecided;
  const std::optional<math_expression> f = parsed(number_x.digits), g = parsed(number_y.digits);
  if (!f || !g) return comparison::undecided;
  const comparison plain = compare(*f, *g);
  if (plain == comparison::equal || left.percent == right.percent) return plain;
  // 50% is 50 for one author and 0.5 for another.
  const std::optional<math_expression> hundredth =
      parsed("(" + std::string(left.percent ? number_x.digits : number_y.digits) + ")/100");
  return hundredth ? compare(*hundredth, left.percent ? *g : *f) : comparison::undecided;
}

inline comparison compare_answers(std::string_view a, std::string_view b, int depth) {
  a = trimmed(a);
  b = trimmed(b);
  if (without_blanks(a) == without_blanks(b)) return comparison::equal;
  if (depth == 0) return comparison::undecided;

  if (const auto in = cut(a, "\\in "); in.size() == 2 && is_name(in[0])) return compare_answers(in[1], b, depth - 1);
  if (const auto in = cut(b, "\\in "); in.size() == 2 && is_name(in[0])) return compare_answers(a, in[1], depth - 1);

  const auto pieces_a = cut(a, "\\cup"), pieces_b = cut(b, "\\cup");
  if (pieces_a.size() > 1 || pieces_b.size() > 1) return compare_in_any_order(pieces_a, pieces_b, depth - 1);

  const auto matrix_a = matrix_of(a), matrix_b = matrix_of(b);
  if (matrix_a || matrix_b) {
    if (!matrix_a || !matrix_b) return comparison::undecided;
    if ((matrix_a->kind == "vmatrix") != (matrix_b->kind == "vmatrix")) return comparison::undecided;
    if (matrix_a->rows.size() != matrix_b->rows.size()) return comparison::different;
    comparison all = comparison::equal;
    for (std::size_t i = 0; i < matrix_a->rows.size() && all != comparison::different; ++i) {
      const comparison row = compare_in_order(matrix_a->rows[i], matrix_b->rows[i], depth - 1);
      if (row != comparison::equal) all = row;
    }
    return all;
  }

  // Lists: tuples and intervals in order and with their brackets, sets and bare lists in any order.
  const auto around_a = brackets_around(a), around_b = brackets_around(b);
  const auto elements = [](std::string_view text, const std::optional<bracketed>& around) {
    return cut(around ? around->inside : text, ",");
  };
  const auto elements_a = elements(a, around_a), elements_b = elements(b, around_b);
  const bool set_a = around_a && around_a->open == "\\{", set_b = around_b && around_b->open == "\\{";
  if (elements_a.size() > 1 || elements_b.size() > 1 || set_a || set_b) {
    const bool tuple_a = around_a && !set_a && elements_a.size() > 1,
               tuple_b = around_b && !set_b && elements_b.size() > 1;
    if (tuple_a && tuple_b) {
      if (around_a->open != around_b->open || around_a->close != around_b->close) return comparison::different;
      return compare_in_order(elements_a, elements_b, depth - 1);
    }
    if (tuple_a || tuple_b) {
      const std::string_view other = tuple_a ? b : a;
      if (const auto interval = interval_of(other))
        return tuple_a ? compare_answers(a, *interval, depth - 1) : compare_answers(*interval, b, depth - 1);
      if ((tuple_a ? elements_b : elements_a).size() == 1 || set_a || set_b) return comparison::different;
      return compare_in_order(elements_a, elements_b, depth - 1);
    }
    // A bare list may hold x = 1, x = 2, and a set one element.
    const auto& side_a = elements_a.size() > 1 || set_a ? elements_a : std::vector<std::string_view>{a};
    const auto& side_b = elements_b.size() > 1 || set_b ? elements_b : std::vector<std::string_view>{b};
    if (side_a.size() == 1 || side_b.size() == 1) {
      const std::string_view one = side_a.size() == 1 ? side_a[0] : side_b[0];
      if (one.find("\\pm") == std::string_view::npos)
        return side_a.size() == side_b.size() ? compare_answers(side_a[0], side_b[0], depth - 1)
                                              : comparison::different;
    } else {
      return compare_in_any_order(side_a, side_b, depth - 1);
    }
  }

  // a \pm b is the set of both.
  const auto both_signs = [](std::string_view text) {
    std::string plus(text), minus(text);
    replace_all(plus, "\\pm", "+");
    replace_all(minus, "\\pm", "-");
    return plus + "," + minus;
  };
  const bool pm_a = a.find("\\pm") != std::string_view::npos, pm_b = b.find("\\pm") != std::string_view::npos;
  if (pm_a || pm_b)
    return compare_answers(pm_a ? both_signs(a) : std::string(a), pm_b ? both_signs(b) : std::string(b), depth - 1);

  const auto interval_a = interval_of(a), interval_b = interval_of(b);
  if (interval_a && interval_b) return compare_answers(*interval_a, *interval_b, depth - 1);

  const auto sides_a = cut(a, "="), sides_b = cut(b, "=");
  if (sides_a.size() > 1 || sides_b.size() > 1) {
    if (sides_a.size() > 1 && sides_b.size() > 1) {
      if (is_name(sides_a[0]) && sides_a[0] == sides_b[0])
        return compare_answers(sides_a.back(), sides_b.back(), depth - 1);
      if (sides_a.size() == 2 && sides_b.size() == 2) return compare_equations(sides_a, sides_b);
      return comparison::undecided;
    }
    // x = 3 and 1 + 2 = 3 give 3, but x + y = 3 is an equation.
    const auto& sides = sides_a.size() > 1 ? sides_a : sides_b;
    const std::optional<math_expression> left = parsed(sides[0]);
    if (!is_name(sides[0]) && (!left || left->has(operation::variable))) return comparison::undecided;
    return sides_a.size() > 1 ? compare_answers(sides.back(), b, depth - 1)
                              : compare_answers(a, sides.back(), depth - 1);
  }
  if (interval_a || interval_b) return comparison::undecided;
  return compare_single(a, b);
}

}  // namespace detail

/// Whether two mathematical answers in LaTeX or plain notation are equal.
///
/// Exactly decided: integers, decimals, fractions, mixed numbers and percents of up to 600 digits, and what + - * /
/// and whole powers make of them. By their values at fixed points: expressions with roots, powers, functions,
/// constants and variables (see detail::compare), and equations as multiples of each other. By their elements:
/// tuples and intervals (with their brackets), sets and lists (in any order), unions, matrices, a \pm b. Words
/// are compared without letter case and punctuation. Inequalities around one name are intervals. Units, degrees,
/// dollar signs, thousands commas, the base of a number and the name in "x = 3" are optional. 0.3333333 is 1/3
/// to six digits; 50% is 50 and 1/2.
///
/// undecided: whatever the parser does not know, values that are not finite, answers of more than 4,000 bytes
/// that are not the same text, nesting beyond 48 levels (6 of lists). Linear. Throws std::bad_alloc.
inline detail::comparison math_equal(std::string_view a, std::string_view b) {
  if (a == b && !a.empty()) return detail::comparison::equal;
  constexpr std::size_t longest = 4000;
  if (a.size() > longest || b.size() > longest) return detail::comparison::undecided;
  const std::string x = detail::math_normalized(a), y = detail::math_normalized(b);
  // In a fixed order, so that malformed answers too get the same verdict either way round.
  return x < y ? detail::compare_answers(x, y, 6) : detail::compare_answers(y, x, 6);
}

}  // namespace rlvr
