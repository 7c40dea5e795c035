#pragma once
/// From a subset of LaTeX, and from plain notation, to a math_expression.

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string_view>
#include <utility>

#include <rlvr/verify/characters.hpp>
#include <rlvr/verify/math_expression.hpp>
#include <rlvr/verify/math_names.hpp>

namespace rlvr::detail {

/// Recursive descent, at most 48 levels deep. Everything that it does not know makes it fail.
class math_parser {
 public:
  explicit math_parser(std::string_view text) : text_(text) {}

  std::optional<math_expression> parse() {
    sum();
    skip();
    if (failed_ || out_.full() || at_ != text_.size()) return std::nullopt;
    return std::move(out_);
  }

 private:
  using place = std::uint32_t;
  static constexpr int deepest = 48;

  place fail() {
    failed_ = true;
    at_ = text_.size();
    return 0;
  }
  place add(operation op, place left = 0, place right = 0, std::uint64_t name = 0) {
    const place p = out_.add(op, left, right, name);
    return p == math_expression::most_nodes ? fail() : p;
  }
  void skip() {
    while (at_ < text_.size() && is_blank(text_[at_])) ++at_;
  }
  char peek() {
    skip();
    return at_ < text_.size() ? text_[at_] : '\0';
  }
  bool take(char c) {
    if (peek() != c || c == '\0') return false;
    ++at_;
    return true;
  }
  /// The name of the command at the cursor, behind its backslash, or of the word there.
  std::string_view name_at(std::size_t at) const {
    std::size_t end = at;
    while (end < text_.size() && is_letter(text_[end])) ++end;
    return text_.substr(at, end - at);
  }
  bool take_command(std::string_view name) {
    if (peek() != '\\' || name_at(at_ + 1) != name) return false;
    at_ += 1 + name.size();
    return true;
  }

  place sum() {
    if (++depth_ > deepest) return fail();
    place left = product();
    while (!failed_) {
      if (take('+'))
        left = binary(operation::add, left, product());
      else if (take('-'))
        left = binary(operation::subtract, left, product());
      else
        break;
    }
    --depth_;
    return left;
  }
  place binary(operation op, place left, place right) { return failed_ ? 0 : add(op, left, right); }

  place product() {
    place left = signed_factor();
    while (!failed_) {
      if (take('*') || take_command("cdot") || take_command("times"))
        left = binary(operation::multiply, left, signed_factor());
      else if (take('/') || take_command("div"))
        left = binary(operation::divide, left, signed_factor());
      else if (begins_factor() && !is_digit(peek()))
        left = binary(operation::multiply, left, factor());
      else
        break;
    }
    return left;
  }
  place signed_factor() {
    bool negative = false;
    for (;;) {
      if (take('-'))
        negative = !negative;
      else if (!take('+'))
        break;
    }
    const place f = factor();
    return negative && !failed_ ? add(operation::negate, f) : f;
  }
  bool begins_factor() {
    const char c = peek();
    if (c == '|') return bars_ == 0;
    if (c != '\\') return is_digit(c) || is_letter(c) || c == '(' || c == '{' || c == '[' || c == '.';
    const std::string_view name = name_at(at_ + 1);
    return !name.empty() && name != "rfloor" && name != "rceil";
  }

  /// A primary with its factorials and powers.
  place factor() {
    if (++depth_ > deepest) return fail();
    place p = primary();
    while (!failed_) {
      if (take('!'))
        p = add(operation::factorial, p);
      else if (take('^'))
        p = binary(operation::raise, p, exponent());
      else if (peek() == '*' && at_ + 1 < text_.size() && text_[at_ + 1] == '*') {
        at_ += 2;
        p = binary(operation::raise, p, exponent());
      } else
        break;
    }
    --depth_;
    return p;
  }
  place exponent() {
    const bool negative = take('-');
    const place e = exponent_value();
    return negative && !failed_ ? add(operation::negate, e) : e;
  }
  place exponent_value() {
    if (++depth_ > deepest) return fail();
    // Models write x^10 for the tenth power.
    const place e = is_digit(peek()) ? number() : primary();
    --depth_;
    return e;
  }

  place primary() {
    const char c = peek();
    if (is_digit(c) || c == '.') return number();
    if (take('(')) return closed(')');
    if (take('{')) return closed('}');
    if (take('[')) return closed(']');
    if (c == '|') {
      ++at_;
      ++bars_;
      const place inside = sum();
      --bars_;
      return take('|') && !failed_ ? add(operation::absolute, inside) : fail();
    }
    if (c == '\\') {
      const std::string_view name = name_at(at_ + 1);
      at_ += 1 + name.size();
      return command(name);
    }
    if (is_letter(c)) return word();
    return fail();
  }
  place closed(char close) {
    const int bars = std::exchange(bars_, 0);
    const place inside = sum();
    bars_ = bars;
    return take(close) ? inside : fail();
  }
  /// The argument of a command: a group, or one digit or letter or command.
  place argument() {
    const char c = peek();
    if (c == '{' || c == '\\' || c == '(') return primary();
    if (is_digit(c)) {
      ++at_;
      return out_.full() ? fail() : out_.add_number(rational(c - '0'));
    }
    if (is_letter(c)) {
      ++at_;
      return letter(c);
    }
    return fail();
  }

  place command(std::string_view name) {
    if (name == "frac" || name == "dfrac" || name == "tfrac" || name == "cfrac" || name == "binom") {
      const place above = argument();
      if (failed_) return 0;
      const place below = argument();
      return binary(name == "binom" ? operation::binomial : operation::divide, above, below);
    }
    if (name == "sqrt" && take('[')) {
      const place degree = closed(']');
      if (failed_) return 0;
      const place inside = argument();
      return binary(operation::root, inside, degree);
    }
    if (name == "sqrt") {
      const place inside = argument();
      return failed_ ? 0 : add(operation::sqrt, inside);
    }
    if (name == "lfloor" || name == "lceil") {
      const bool floor = name == "lfloor";
      const place inside = sum();
      if (failed_ || !take_command(floor ? "rfloor" : "rceil")) return fail();
      return add(floor ? operation::floor : operation::ceiling, inside);
    }
    if (name == "sum") return series(operation::add);
    if (name == "prod") return series(operation::multiply);
    for (const named_operation& c : math_constants)
      if (name == c.name) return add(c.op);
    for (const named_operation& f : math_functions)
      if (name == f.name) return function(f.op);
    for (std::string_view l : math_letters)
      if (name == l) return variable(name);
    for (std::string_view upright : {"mathrm", "text", "mathit", "mathbf", "operatorname"})
      if (name == upright && take('{')) {
        // One letter, or the name of a function or constant.
        const std::string_view inside = name_at(at_);
        at_ += inside.size();
        if (!take('}')) return fail();
        return inside.size() == 1 ? letter(inside[0]) : command(inside);
      }
    return fail();
  }

  /// \sum_{k=1}^{9} or \prod of the product that follows, written out; only one at a time.
  place series(operation op) {
    const auto bound = [&]() -> std::optional<int> {
      const bool negative = take('-');
      skip();
      const std::string_view text = digits();
      if (text.empty() || text.size() > 4) return std::nullopt;
      int value = 0;
      for (char c : text) value = 10 * value + (c - '0');
      return negative ? -value : value;
    };
    if (index_ != '\0' || !take('_') || !take('{') || !is_letter(peek())) return fail();
    const char index = text_[at_++];
    if (!take('=')) return fail();
    const std::optional<int> first = bound();
    if (!first || !take('}') || !take('^')) return fail();
    const bool group = take('{');
    const std::optional<int> last = bound();
    if (!last || (group && !take('}')) || *last < *first) return fail();
    const std::size_t begin = at_;
    place total = 0;
    for (int k = *first; k <= *last && !failed_; ++k) {
      at_ = begin;
      index_ = index;
      index_value_ = k;
      const place term = product();
      total = k == *first ? term : binary(op, total, term);
    }
    index_ = '\0';
    return total;
  }

  /// A function with its power (\sin^2 x), base (\log_2 x) and argument: a group, or factors without another
  /// function (\sin 2x).
  place function(operation op) {
    place base = 0, raised = 0;
    bool has_base = false, has_power = false;
    for (;;) {
      if (op == operation::log10 && !has_base && take('_')) {
        base = argument();
        has_base = true;
      } else if (!has_power && take('^')) {
        if (peek() == '-' || (peek() == '{' && text_.substr(at_ + 1, 1) == "-")) return fail();  // the inverse, perhaps
        raised = exponent();
        has_power = true;
      } else {
        break;
      }
      if (failed_) return 0;
    }
    place inside;
    if (peek() == '(' || peek() == '{' || peek() == '[') {
      inside = primary();
    } else {
      inside = factor();
      while (!failed_ && begins_factor() && peek() != '(' && !at_function())
        inside = binary(operation::multiply, inside, factor());
    }
    if (failed_) return 0;
    const place value = has_base ? add(operation::log_base, inside, base) : add(op, inside);
    return has_power ? binary(operation::raise, value, raised) : value;
  }
  bool at_function() {
    const std::string_view name = name_at(at_ + (peek() == '\\'));
    for (const named_operation& f : math_functions)
      if (name == f.name) return true;
    return false;
  }

  /// A run of letters: a function or constant by name, else its first letter as a variable.
  place word() {
    const std::string_view name = name_at(at_);
    for (const named_operation& f : math_functions)
      if (name == f.name) return at_ += name.size(), function(f.op);
    for (const named_operation& c : math_constants)
      if (name == c.name) return at_ += name.size(), add(c.op);
    return letter(text_[at_++]);
  }
  place letter(char c) {
    if (c == index_) return out_.full() ? fail() : out_.add_number(rational(index_value_));
    if (peek() != '_') {
      if (c == 'e') return add(operation::euler);
      if (c == 'i') return add(operation::imaginary);
    }
    return variable({&c, 1});
  }
  /// A variable with its subscript, if it has one, as part of the name.
  place variable(std::string_view name) {
    std::uint64_t hash = 0xcbf29ce484222325u;
    const auto append = [&](char c) { hash = (hash ^ static_cast<unsigned char>(c)) * 0x100000001b3u; };
    for (char c : name) append(c);
    if (take('_')) {
      append('_');
      const bool group = take('{');
      for (std::size_t length = 0; at_ < text_.size(); ++length) {
        if (group ? text_[at_] == '}' : length == 1) break;
        if ((!is_letter(text_[at_]) && !is_digit(text_[at_])) || text_[at_] == index_) return fail();
        append(text_[at_++]);
      }
      if (group && !take('}')) return fail();
    }
    return add(operation::variable, 0, 0, hash);
  }

  std::string_view digits() {
    const std::size_t begin = at_;
    while (at_ < text_.size() && is_digit(text_[at_])) ++at_;
    return text_.substr(begin, at_ - begin);
  }
  /// A number; a whole one directly before \frac of two numbers, or before a space and a/b, is mixed with it.
  place number() {
    if (out_.full()) return fail();
    skip();
    const std::string_view whole = digits();
    std::string_view fraction;
    const bool point = at_ < text_.size() && text_[at_] == '.';
    if (point) {
      ++at_;
      fraction = digits();
      out_.has_decimals = out_.has_decimals || !fraction.empty();
    }
    if (whole.empty() && fraction.empty()) return fail();
    rational value = rational::of_decimal(whole, fraction);
    if (value.undefined()) return fail();
    if (!point) {
      if (const std::optional<rational> part = mixed_part()) value = value + *part;
    }
    return out_.add_number(std::move(value));
  }
  std::optional<rational> mixed_part() {
    const std::size_t begin = at_;
    const bool space = at_ < text_.size() && is_blank(text_[at_]);
    skip();
    for (std::string_view command : {"\\frac", "\\dfrac", "\\tfrac"}) {
      if (text_.substr(at_, command.size()) != command) continue;
      at_ += command.size();
      const std::optional<rational> above = plain_argument(), below = above ? plain_argument() : std::nullopt;
      if (below && !(*above / *below).undefined()) return *above / *below;
      break;
    }
    if (space && is_digit(peek())) {
      const std::string_view above = digits();
      if (take('/'))
        if (const std::string_view below = digits(); !below.empty()) {
          const rational part = rational::of_decimal(above, {}) / rational::of_decimal(below, {});
          if (!part.undefined()) return part;
        }
    }
    at_ = begin;
    return std::nullopt;
  }
  /// {digits} or one digit.
  std::optional<rational> plain_argument() {
    if (is_digit(peek())) return rational(text_[at_++] - '0');
    if (!take('{')) return std::nullopt;
    skip();
    const std::string_view inside = digits();
    if (inside.empty() || !take('}')) return std::nullopt;
    return rational::of_decimal(inside, {});
  }

  std::string_view text_;
  std::size_t at_ = 0;
  int depth_ = 0;
  int bars_ = 0;
  char index_ = '\0';  // of the series that is written out
  int index_value_ = 0;
  bool failed_ = false;
  math_expression out_;
};

}  // namespace rlvr::detail
