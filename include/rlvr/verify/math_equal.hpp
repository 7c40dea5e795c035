#pragma once
/// Whether two mathematical answers are equal, as far as that can be decided without a computer algebra system.

#include <cstddef>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <rlvr/verify/math_expression.hpp>
#include <rlvr/verify/math_parser.hpp>
#include <rlvr/verify/math_relation.hpp>
#include <rlvr/verify/math_text.hpp>

namespace rlvr {

namespace detail {

comparison compare_answers(std::string_view a, std::string_view b, int depth);

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

/// Sets: every element of each has its equal in the other. Those of more than 24 elements, and of more than 6 within
/// others, are compared in order.
template <class Text>
comparison compare_in_any_order(const std::vector<Text>& a, const std::vector<Text>& b, int depth) {
  comparison all = comparison::equal;
  const std::size_t most = depth >= 4 ? 24 : 6;
  if (a.size() > most || b.size() > most) {
    for (std::size_t i = 0; i < a.size() && a.size() == b.size(); ++i)
      if (compare_answers(a[i], b[i], depth) != comparison::equal) all = comparison::undecided;
    return a.size() == b.size() ? all : comparison::undecided;
  }
  std::vector<comparison> pairs(a.size() * b.size());
  for (std::size_t i = 0; i < a.size(); ++i)
    for (std::size_t j = 0; j < b.size(); ++j) pairs[i * b.size() + j] = compare_answers(a[i], b[j], depth);
  // The best that an element has among count others, from first on in steps.
  const auto match = [&](std::size_t first, std::size_t step, std::size_t count) {
    comparison best = comparison::different;
    for (std::size_t k = 0; k < count && best != comparison::equal; ++k)
      if (pairs[first + k * step] != comparison::different) best = pairs[first + k * step];
    if (best == comparison::undecided && all == comparison::equal) all = best;
    if (best == comparison::different) all = best;
  };
  for (std::size_t i = 0; i < a.size(); ++i) match(i * b.size(), 1, b.size());
  for (std::size_t j = 0; j < b.size(); ++j) match(j, b.size(), a.size());
  return all;
}

/// The rows of \begin{pmatrix} a & b \\ c & d \end{pmatrix}, and its kind; nothing for anything else.
struct matrix_text {
  std::string_view kind;
  std::vector<std::vector<std::string_view>> rows;
};
inline std::optional<matrix_text> matrix_of(std::string_view text) {
  constexpr std::string_view begin = "\\begin{", end = "\\end{";
  if (const auto around = brackets_around(text); around && around->open != "{") text = trimmed(around->inside);
  if (text.substr(0, begin.size()) != begin) return std::nullopt;
  const std::size_t brace = text.find('}'), close = text.rfind(end);
  if (brace == std::string_view::npos || close == std::string_view::npos || close < brace) return std::nullopt;
  matrix_text out;
  out.kind = text.substr(begin.size(), brace - begin.size());
  if ((out.kind.find("matrix") == std::string_view::npos && out.kind != "array") ||
      text.substr(close + end.size()) != std::string(out.kind) + "}" || text.find(begin, 1) != std::string_view::npos)
    return std::nullopt;
  std::string_view inside = text.substr(brace + 1, close - brace - 1);
  if (out.kind == "array" && !inside.empty() && inside.front() == '{') inside = inside.substr(inside.find('}') + 1);
  for (std::string_view row : cut(inside, row_end))
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

/// digits,digits without thousands: 2,5 for 2.5.
inline bool is_decimal_comma(std::string_view text) {
  if (!text.empty() && text.front() == '-') text.remove_prefix(1);
  const std::size_t comma = text.find(',');
  return comma != std::string_view::npos && comma > 0 && comma + 1 < text.size() &&
         text.find_first_not_of("0123456789") == comma &&
         text.find_first_not_of("0123456789", comma + 1) == std::string_view::npos;
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

/// An integer without leading zeros; nothing for anything else.
inline std::optional<std::string> plain_integer(std::string_view text) {
  const bool negative = !text.empty() && text.front() == '-';
  if (negative) text.remove_prefix(1);
  if (text.empty() || text.find_first_not_of("0123456789") != std::string_view::npos) return std::nullopt;
  while (text.size() > 1 && text.front() == '0') text.remove_prefix(1);
  return (negative && text != "0" ? "-" : "") + std::string(text);
}

/// Two answers that are no lists: words, numbers with units and bases, expressions.
inline comparison compare_single(std::string_view a, std::string_view b) {
  const measured left = without_units(a), right = without_units(b);
  const auto x_text = unwrapped_text(left.text), y_text = unwrapped_text(right.text);
  const std::string_view x = x_text ? *x_text : left.text, y = y_text ? *y_text : right.text;
  if (x.empty() || y.empty()) return x.empty() && y.empty() ? comparison::undecided : comparison::different;
  const std::string words_x = lower_alphanumeric(x), words_y = lower_alphanumeric(y);
  if (x_text || y_text || is_words(x) || is_words(y)) {
    // -x and x are the same words.
    const auto calculates = [](std::string_view t) { return t.find_first_of("0123456789+-*/^=<>|") != t.npos; };
    const bool words = is_words(x) || is_words(y);
    if (!words_x.empty() && words_x == words_y && (words || (!calculates(x) && !calculates(y))))
      return comparison::equal;
    if (words) return comparison::different;
  }
  // Integers beyond the cap of big_integer.
  if (const auto m = plain_integer(x), n = plain_integer(y); m && n)
    return *m == *n ? comparison::equal : comparison::different;
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

  // What an answer may leave out: braces of a group, the name before "=" and \\in, an approximation behind its value.
  const auto value_of = [](std::string_view text, std::string_view other) {
    if (const auto around = brackets_around(text); around && around->open == "{") return around->inside;
    if (const auto in = cut(text, "\\in "); in.size() == 2 && is_name(in[0])) return in[1];
    if (const auto near = cut(text, "\\approx"); near.size() > 1)
      return near.size() == 2 && (near[0].empty() || is_name(near[0])) ? near[1] : near[0];
    if (const auto sides = cut(text, "=");
        sides.size() > 1 && is_quantity(sides[0]) && cut(text, ",").size() == 1 && cut(other, "=").size() == 1)
      return sides.back();
    return text;
  };
  const std::string_view value_a = value_of(a, b), value_b = value_of(b, a);
  if (value_a.size() < a.size() || value_b.size() < b.size()) return compare_answers(value_a, value_b, depth - 1);

  const auto pieces_a = cut(a, "\\cup"), pieces_b = cut(b, "\\cup");
  if (pieces_a.size() > 1 || pieces_b.size() > 1) {
    const auto as_union = [](std::string_view text) -> std::optional<std::string> {
      std::string out;
      for (std::string_view part : cut(text, ",")) {
        const auto interval = interval_of(part);
        if (!interval) return std::nullopt;
        out.append(out.empty() ? "" : "\\cup ").append(*interval);
      }
      return out;
    };
    if (pieces_a.size() == 1)
      if (const auto joined = as_union(a)) return compare_answers(*joined, b, depth - 1);
    if (pieces_b.size() == 1)
      if (const auto joined = as_union(b)) return compare_answers(a, *joined, depth - 1);
    return compare_in_any_order(pieces_a, pieces_b, depth - 1);
  }

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

  if (a.find("\\begin{") != std::string_view::npos || b.find("\\begin{") != std::string_view::npos)
    return comparison::undecided;

  // Lists: tuples and intervals in order and with their brackets, sets and bare lists in any order.
  const auto around_a = brackets_around(a), around_b = brackets_around(b);
  const auto elements = [](std::string_view text, const std::optional<bracketed>& around) {
    return cut(around ? around->inside : text, ",");
  };
  const auto elements_a = elements(a, around_a), elements_b = elements(b, around_b);
  const bool set_a = around_a && around_a->open == "\\{", set_b = around_b && around_b->open == "\\{";
  const bool both_signs = a.find("\\pm") != std::string_view::npos || b.find("\\pm") != std::string_view::npos;
  if (elements_a.size() > 1 || elements_b.size() > 1 || set_a || set_b || both_signs) {
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
    // A bare list may hold x = 1, x = 2, and a set one element; a \\pm b are two.
    const auto members = [](std::string_view text, const std::vector<std::string_view>& parts, bool set) {
      std::vector<std::string> out;
      for (std::string_view element : parts.size() > 1 || set ? parts : std::vector<std::string_view>{text}) {
        if (element.find("\\pm") == std::string_view::npos) {
          if (!trimmed(element).empty()) out.emplace_back(element);
          continue;
        }
        for (std::string_view s : {"+", "-"}) replace_all(out.emplace_back(element), "\\pm", s);
      }
      return out;
    };
    const std::vector<std::string> side_a = members(a, elements_a, set_a), side_b = members(b, elements_b, set_b);
    // 2,5 may be a decimal number.
    if (side_a.size() == 2 && side_b.size() == 1 && is_decimal_comma(a))
      return compare_answers(side_a[0] + "." + side_a[1], b, depth - 1);
    if (side_a.size() == 1 && side_b.size() == 2 && is_decimal_comma(b))
      return compare_answers(a, side_b[0] + "." + side_b[1], depth - 1);
    return compare_in_any_order(side_a, side_b, depth - 1);
  }

  const auto interval_a = interval_of(a), interval_b = interval_of(b);
  if (interval_a && interval_b) return compare_answers(*interval_a, *interval_b, depth - 1);

  const auto relation_a = relation_of(a), relation_b = relation_of(b);
  if (relation_a && relation_b && a.find('=') == std::string_view::npos && b.find('=') == std::string_view::npos)
    return compare_relations(*relation_a, *relation_b);
  const auto ratio_a = cut(a, ":"), ratio_b = cut(b, ":");
  if (ratio_a.size() > 1 && ratio_b.size() > 1 && !relation_a && !relation_b)
    return compare_in_order(ratio_a, ratio_b, depth - 1);

  const auto sides_a = cut(a, "="), sides_b = cut(b, "=");
  if (sides_a.size() > 1 || sides_b.size() > 1) {
    if (sides_a.size() > 1 && sides_b.size() > 1) {
      if (is_name(sides_a[0]) && sides_a[0] == sides_b[0])
        return compare_answers(sides_a.back(), sides_b.back(), depth - 1);
      if (relation_a && relation_b) return compare_relations(*relation_a, *relation_b);
      return comparison::undecided;
    }
    // x = 3 gives 3 and so do x = 1 + 2 = 3 and 1 + 2 = 3, but 1 = 3 is false and x + y = 3 an equation.
    const auto& sides = sides_a.size() > 1 ? sides_a : sides_b;
    if (!is_name(sides[0]) && !is_name(sides[sides.size() - 2])) {
      std::vector<math_expression> values;
      for (std::string_view side : sides) {
        std::optional<math_expression> f = parsed(side);
        if (!f || f->has(operation::variable)) return comparison::undecided;
        values.push_back(*std::move(f));
      }
      for (const math_expression& value : values)
        if (const comparison one = compare(value, values.back()); one != comparison::equal) return one;
    }
    return sides_a.size() > 1 ? compare_answers(sides.back(), b, depth - 1)
                              : compare_answers(a, sides.back(), depth - 1);
  }
  if (interval_a || interval_b) return comparison::undecided;
  return compare_single(a, b);
}

}  // namespace detail

/// Whether two mathematical answers in LaTeX or plain notation are equal.
///
/// Exactly decided: integers; decimals, fractions, mixed numbers and percents of up to 600 digits, and what + - * /
/// and whole powers make of them. By their values at fixed points: expressions with roots, powers, functions,
/// constants and variables (see detail::compare), and equations as multiples of each other. By their elements:
/// tuples and intervals (with their brackets), sets and lists (as sets: neither order nor repetition counts),
/// unions, matrices, ratios, a \pm b. Words are compared without letter case and punctuation. Inequalities around one
/// name or its absolute value are intervals, others are compared as equations are. Decimal commas count as points
/// where the other side is one number; what stands behind \approx does not count. An equation between numbers is its
/// value where it is true, and differs from every number where it is false. Units, degrees, dollar signs,
/// thousands commas, the base of a number and the name in "x = 3" are optional. 0.3333333 is 1/3 to six digits; 50% is
/// 50 and 1/2. Sums and products whose bounds are integers are written out.
///
/// undecided: integrals, limits, sums with other bounds, piecewise functions, arithmetic of matrices, equations and
/// inequalities that would have to be solved, and whatever else the parser does not know; values that are not finite;
/// answers of more than 4,000 bytes that are not the same text; nesting beyond 48 levels (6 of lists). Linear. Throws
/// std::bad_alloc.
inline detail::comparison math_equal(std::string_view a, std::string_view b) {
  if (a == b && !a.empty()) return detail::comparison::equal;
  constexpr std::size_t longest = 4000;
  if (a.size() > longest || b.size() > longest) return detail::comparison::undecided;
  const std::string x = detail::math_normalized(a), y = detail::math_normalized(b);
  // In a fixed order, so that malformed answers too get the same verdict either way round.
  return x < y ? detail::compare_answers(x, y, 6) : detail::compare_answers(y, x, 6);
}

}  // namespace rlvr
