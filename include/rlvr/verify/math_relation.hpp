#pragma once
/// Equations and inequalities between mathematical expressions.

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include <rlvr/verify/math_expression.hpp>
#include <rlvr/verify/math_parser.hpp>
#include <rlvr/verify/math_text.hpp>

namespace rlvr::detail {

inline std::optional<math_expression> parsed(std::string_view text) {
  return math_parser(text).parse();
}

/// Whether a text is a variable, or a function of variables, as on the left of x = 3 and f(x) = 3; e and i are such
/// letters there, other numbers are not.
inline bool is_name(std::string_view text) {
  text = trimmed(text);
  if (text.empty() || text.size() > 12 || (!is_letter(text[0]) && text[0] != '\\')) return false;
  bool letters = true;
  for (char c : text.substr(1))
    if (!is_letter(c) && c != '_' && c != '{' && c != '}' && c != '(' && c != ')' && !is_digit(c) && c != ',' &&
        c != ' ')
      letters = false;
  if (!letters || text.substr(0, 5) == "\\frac" || text.substr(0, 5) == "\\sqrt") return false;
  const std::optional<math_expression> f = parsed(text);
  return text.size() == 1 || !f || f->has(operation::variable);
}

/// Whether a text names a quantity, or several, whose value an equation gives: (p,q), AB, |AB|, A:B, V_{1}:V_{2},
/// \\frac{NO}{BO}. Capital letters only, or they would be expressions.
inline bool is_quantity(std::string_view text) {
  text = trimmed(text);
  if (is_name(text)) return true;
  if (const auto around = brackets_around(text); around && around->open == "(") {
    for (std::string_view part : cut(around->inside, ","))
      if (!is_name(part)) return false;
    return true;
  }
  if (text.size() > 40) return false;
  bool capital = false;
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (text[i] == '\\') {
      std::size_t end = i + 1;
      while (end < text.size() && is_letter(text[end])) ++end;
      const std::string_view command = text.substr(i + 1, end - i - 1);
      if (command != "frac" && command != "angle" && command != "triangle" && command != "overline") return false;
      i = end - 1;
    } else if (text[i] >= 'A' && text[i] <= 'Z') {
      capital = true;
    } else if (is_digit(text[i])) {
      if (i == 0 || (text[i - 1] != '_' && text[i - 1] != '{' && !is_digit(text[i - 1]))) return false;
    } else if (std::string_view(" :|{}_").find(text[i]) == std::string_view::npos) {
      return false;
    }
  }
  return capital;
}

/// An interval as text: (l,u], from a chain of inequalities around a name or from one with a name on one side; of
/// the absolute value of a name, both intervals.
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
  const auto interval = [](const std::string& low, bool low_closed, const std::string& high, bool high_closed) {
    return (low_closed ? "[" : "(") + low + "," + high + (high_closed ? "]" : ")");
  };
  const auto absolute = [](std::string_view part) {
    return part.size() > 2 && part.front() == '|' && part.back() == '|' && is_name(part.substr(1, part.size() - 2));
  };
  const auto minus = [](const std::string& bound) { return "-(" + bound + ")"; };
  if (between.size() == 2 && between[0].less == between[1].less && (is_name(parts[1]) || absolute(parts[1]))) {
    const bool up = between[0].less;
    const std::string low(parts[up ? 0 : 2]), high(parts[up ? 2 : 0]);
    const bool low_closed = between[up ? 0 : 1].closed, high_closed = between[up ? 1 : 0].closed;
    const std::string positive = interval(low, low_closed, high, high_closed);
    if (is_name(parts[1])) return positive;
    return interval(minus(high), high_closed, minus(low), low_closed) + "\\cup " + positive;
  }
  if (between.size() != 1) return std::nullopt;
  const bool absolute_left = absolute(parts[0]), absolute_right = absolute(parts[1]);
  const bool name_left = absolute_left || is_name(parts[0]), name_right = absolute_right || is_name(parts[1]);
  if (name_left == name_right) return std::nullopt;
  const bool below = between[0].less == name_left;  // the name is below the bound
  const std::string bound(parts[name_left ? 1 : 0]);
  const bool closed = between[0].closed;
  if (absolute_left || absolute_right)
    return below ? interval(minus(bound), closed, bound, closed)
                 : interval("-\\infty", false, minus(bound), closed) + "\\cup " +
                       interval(bound, closed, "\\infty", false);
  return below ? interval("-\\infty", false, bound, closed) : interval(bound, closed, "\\infty", false);
}

/// Two sides and what stands between them; > and \\ge with their sides exchanged.
struct relation {
  enum class kind { equal, not_equal, less, less_equal } between;
  std::string_view left, right;
};
/// The only relation of a text; nothing where there is none or several.
inline std::optional<relation> relation_of(std::string_view text) {
  using enum relation::kind;
  struct sign {
    std::string_view symbol;
    relation::kind between;
    bool exchanged;
  };
  static constexpr sign signs[] = {{"\\ne ", not_equal, false}, {"\\le ", less_equal, false},
                                   {"\\ge ", less_equal, true}, {"<", less, false},
                                   {">", less, true},           {"=", equal, false}};
  std::optional<relation> out;
  for (const sign& s : signs) {
    const auto sides = cut(text, s.symbol);
    if (sides.size() == 1) continue;
    if (out || sides.size() > 2) return std::nullopt;
    out = s.exchanged ? relation{s.between, sides[1], sides[0]} : relation{s.between, sides[0], sides[1]};
  }
  return out;
}

/// Relations of one kind are the same when their differences left - right are proportional; of inequalities, with a
/// positive factor.
inline comparison compare_relations(const relation& a, const relation& b) {
  if (a.between != b.between) return comparison::different;
  const auto difference = [](const relation& r) {
    return parsed("(" + std::string(r.left) + ")-(" + std::string(r.right) + ")");
  };
  const std::optional<math_expression> f = difference(a), g = difference(b);
  if (!f || !g || !f->has(operation::variable) || !g->has(operation::variable)) return comparison::undecided;
  const auto somewhere = [](std::uint64_t name) -> complex_number {
    return {0.75 + static_cast<double>((name * 0x9e3779b97f4a7c15u) >> 11) * 0x1p-53, 0};
  };
  const complex_number ratio = f->at(somewhere) / g->at(somewhere);
  if (!ratio.is_finite() || magnitude(ratio) < 1e-12) return comparison::undecided;
  const bool inequality = a.between == relation::kind::less || a.between == relation::kind::less_equal;
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
    const double size = magnitude(x) > magnitude(y) ? magnitude(x) : magnitude(y);
    if (magnitude(x - y) > 1e-8 * (size > 1e-3 ? size : 1e-3)) return comparison::different;
  }
  if (finite < 2) return comparison::undecided;
  return inequality && !(ratio.re > 0) ? comparison::different : comparison::equal;
}

}  // namespace rlvr::detail
