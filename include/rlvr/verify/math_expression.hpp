#pragma once
/// Expressions in a subset of LaTeX: the syntax tree and its values.

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <numbers>
#include <optional>
#include <utility>
#include <vector>

#include <rlvr/verify/complex_number.hpp>
#include <rlvr/verify/rational.hpp>

namespace rlvr::detail {

enum class operation : std::uint8_t {
  number,
  variable,
  pi,
  euler,
  imaginary,
  infinity,
  add,
  subtract,
  multiply,
  divide,
  raise,
  root,
  log_base,
  binomial,
  negate,
  factorial,
  absolute,
  floor,
  ceiling,
  sqrt,
  exp,
  log,
  log10,
  sin,
  cos,
  tan,
  cot,
  sec,
  csc,
  arcsin,
  arccos,
  arctan,
  sinh,
  cosh,
  tanh
};

/// A syntax tree of at most `most_nodes` nodes; children stand before their parents, so that every evaluation is
/// one loop.
class math_expression {
 public:
  static constexpr std::size_t most_nodes = 400;

  struct node {
    operation op;
    std::uint32_t left = 0, right = 0;  ///< children; of a number, left is its place in the list of numbers
    std::uint64_t name = 0;             ///< of a variable
  };

  /// Adds a node and gives its place; most_nodes when the tree is full.
  std::uint32_t add(operation op, std::uint32_t left = 0, std::uint32_t right = 0, std::uint64_t name = 0) {
    if (nodes_.size() == most_nodes) return static_cast<std::uint32_t>(most_nodes);
    nodes_.push_back({op, left, right, name});
    return static_cast<std::uint32_t>(nodes_.size() - 1);
  }
  std::uint32_t add_number(rational value) {
    numbers_.push_back(std::move(value));
    return add(operation::number, static_cast<std::uint32_t>(numbers_.size() - 1));
  }

  bool full() const { return nodes_.size() == most_nodes; }
  const std::vector<node>& nodes() const { return nodes_; }
  bool has(operation op) const {
    for (const node& n : nodes_)
      if (n.op == op) return true;
    return false;
  }
  /// Whether a number was written with a decimal point, and so may be rounded.
  bool has_decimals = false;

  /// The value, when it is a fraction and follows by + - * / and whole powers from numbers.
  std::optional<rational> exact() const {
    std::vector<rational> values;
    values.reserve(nodes_.size());
    for (const node& n : nodes_) {
      const auto left = [&]() -> const rational& { return values[n.left]; };
      const auto right = [&]() -> const rational& { return values[n.right]; };
      switch (n.op) {
        case operation::number:
          values.push_back(numbers_[n.left]);
          break;
        case operation::add:
          values.push_back(left() + right());
          break;
        case operation::subtract:
          values.push_back(left() - right());
          break;
        case operation::multiply:
          values.push_back(left() * right());
          break;
        case operation::divide:
          values.push_back(left() / right());
          break;
        case operation::negate:
          values.push_back(-left());
          break;
        case operation::raise:
          values.push_back(whole_power(left(), right()));
          break;
        default:
          return std::nullopt;
      }
      if (values.back().undefined()) return std::nullopt;
    }
    if (values.empty()) return std::nullopt;
    return values.back();
  }

  /// The value with value(name) for the variables; not finite where it has none.
  template <class Value>
  complex_number at(const Value& value) const {
    std::vector<complex_number> values(nodes_.size());
    for (std::size_t k = 0; k < nodes_.size(); ++k)
      values[k] =
          apply(nodes_[k], values[nodes_[k].left % nodes_.size()], values[nodes_[k].right % nodes_.size()], value);
    return values.empty() ? not_a_number() : values.back();
  }

 private:
  static rational whole_power(rational base, const rational& exponent) {
    const double e = exponent.to_double();
    const rational undefined{1, 0};
    if (!exponent.is_integer() || std::abs(e) > 4096) return undefined;
    rational out = 1;
    for (auto n = static_cast<int>(std::abs(e)); n > 0 && !out.undefined(); n /= 2) {
      if (n % 2) out = out * base;
      if (n > 1) base = base * base;
    }
    return e < 0 ? rational(1) / out : out;
  }

  template <class Value>
  complex_number apply(const node& n, complex_number a, complex_number b, const Value& value) const {
    const complex_number one{1, 0};
    const auto real = [&](double f) { return a.im == 0 ? complex_number{f, 0} : not_a_number(); };
    switch (n.op) {
      case operation::number:
        return {numbers_[n.left].to_double(), 0};
      case operation::variable:
        return value(n.name);
      case operation::pi:
        return {std::numbers::pi, 0};
      case operation::euler:
        return {std::numbers::e, 0};
      case operation::imaginary:
        return {0, 1};
      case operation::infinity:
        return {std::numeric_limits<double>::infinity(), 0};
      case operation::add:
        return a + b;
      case operation::subtract:
        return a - b;
      case operation::multiply:
        return a * b;
      case operation::divide:
        return a / b;
      case operation::raise:
        return power(a, b);
      case operation::root:
        // An odd root of a negative number is negative here, as in school.
        if (a.im == 0 && b.im == 0 && a.re < 0 && std::fmod(b.re, 2) == 1) return {-std::pow(-a.re, 1 / b.re), 0};
        return power(a, one / b);
      case operation::log_base:
        return logarithm(a) / logarithm(b);
      case operation::binomial:
        return choose(a, b);
      case operation::negate:
        return -a;
      case operation::factorial:
        return real(a.re >= 0 && std::floor(a.re) == a.re ? std::round(std::tgamma(a.re + 1)) : std::tgamma(a.re + 1));
      case operation::absolute:
        return {magnitude(a), 0};
      case operation::floor:
        return real(std::floor(a.re));
      case operation::ceiling:
        return real(std::ceil(a.re));
      case operation::sqrt:
        return square_root(a);
      case operation::exp:
        return exponential(a);
      case operation::log:
        return logarithm(a);
      case operation::log10:
        return logarithm(a) / complex_number{std::numbers::ln10, 0};
      case operation::sin:
        return sine(a);
      case operation::cos:
        return cosine(a);
      case operation::tan:
        return sine(a) / cosine(a);
      case operation::cot:
        return cosine(a) / sine(a);
      case operation::sec:
        return one / cosine(a);
      case operation::csc:
        return one / sine(a);
      case operation::arcsin:
        return real(std::asin(a.re));
      case operation::arccos:
        return real(std::acos(a.re));
      case operation::arctan:
        return real(std::atan(a.re));
      case operation::sinh:
        return real(std::sinh(a.re));
      case operation::cosh:
        return real(std::cosh(a.re));
      case operation::tanh:
        return real(std::tanh(a.re));
    }
    return not_a_number();
  }

  static complex_number choose(complex_number n, complex_number k) {
    if (n.im != 0 || k.im != 0 || k.re != std::floor(k.re) || k.re < 0 || k.re > 1000) return not_a_number();
    double out = 1;
    for (double i = 1; i <= k.re; ++i) out *= (n.re - k.re + i) / i;
    return {out, 0};
  }

  std::vector<node> nodes_;
  std::vector<rational> numbers_;
};

/// How two answers compare.
enum class comparison { equal, different, undecided };

/// Compares by exact fractions where both are fractions, else by values at four fixed points: equal when all
/// finite ones agree to 1e-9 of their size (1e-6 when exactly one side has decimals), different when two differ;
/// undecided with less than two points at which both are finite (one, without variables).
inline comparison compare(const math_expression& a, const math_expression& b) {
  const bool rounded = a.has_decimals != b.has_decimals;
  if (const std::optional<rational> x = a.exact(), y = b.exact(); x && y) {
    if (*x == *y) return comparison::equal;
    if (!rounded) return comparison::different;
  }
  const int points = a.has(operation::variable) || b.has(operation::variable) ? 4 : 1;
  // \\sqrt[3]{x} is real for negative x where x^{1/3} is not: neither is wrong.
  const bool roots = a.has(operation::root) || b.has(operation::root);
  int finite = 0;
  for (int point = 0; point < points; ++point) {
    const auto value = [&](std::uint64_t name) -> complex_number {
      // splitmix64 of name and point: reals in (0.5, 2.5), negative at every second point.
      std::uint64_t z = (name + 1) * 0x9e3779b97f4a7c15u + static_cast<std::uint64_t>(point) * 0xd1342543de82ef95u;
      z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
      z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
      z ^= z >> 31;
      const double u = 0.5 + static_cast<double>(z >> 11) * 0x1p-52;
      return {point % 2 && !roots ? -u : u, 0};
    };
    const complex_number x = a.at(value), y = b.at(value);
    if (points == 1) {
      // Infinity is a value where it is written, and an overflow or a pole elsewhere.
      const bool infinite_x = a.has(operation::infinity) && std::isinf(x.re) && x.im == 0;
      const bool infinite_y = b.has(operation::infinity) && std::isinf(y.re) && y.im == 0;
      if (infinite_x && infinite_y) return x.re == y.re ? comparison::equal : comparison::different;
      if ((infinite_x && y.is_finite()) || (infinite_y && x.is_finite())) return comparison::different;
    }
    if (!x.is_finite() || !y.is_finite()) continue;
    ++finite;
    const double size = std::fmax(std::fmax(magnitude(x), magnitude(y)), rounded ? 1e-3 : 1e-6);
    if (magnitude(x - y) > (rounded ? 1e-6 : 1e-9) * size) return comparison::different;
  }
  return finite >= (points == 1 ? 1 : 2) ? comparison::equal : comparison::undecided;
}

}  // namespace rlvr::detail
