#pragma once
/// The game of countdown: an arithmetic expression of given numbers that reaches a target.

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string_view>
#include <utility>
#include <vector>

#include <rlvr/verify/characters.hpp>
#include <rlvr/verify/rational.hpp>
#include <rlvr/verify/tags.hpp>
#include <rlvr/verify/verifier.hpp>

namespace rlvr {

namespace detail {

/// The value of an expression of integers, + - * /, signs and parentheses, exactly; nothing when it is none.
/// `used` receives its numbers. At most 64 parentheses deep; the numbers have at most 18 digits, no leading zeros.
/// The value of an expression of more than `most` numbers is undefined, and costs no arithmetic.
class arithmetic_parser {
 public:
  arithmetic_parser(std::string_view text, std::size_t most) : text_(text), most_(most) {}

  std::optional<rational> value(std::vector<std::int64_t>& used) {
    used_ = &used;
    rational sum = expression(0);
    skip();
    if (failed_ || at_ != text_.size()) return std::nullopt;
    return sum;
  }

 private:
  static constexpr int deepest = 64;

  void skip() {
    while (at_ < text_.size() && is_blank(text_[at_])) ++at_;
  }
  bool take(char c) {
    skip();
    if (at_ == text_.size() || text_[at_] != c) return false;
    ++at_;
    return true;
  }
  rational expression(int depth) {
    rational sum = product(depth);
    while (!failed_) {
      if (take('+'))
        sum = sum + product(depth);
      else if (take('-'))
        sum = sum - product(depth);
      else
        break;
    }
    return sum;
  }
  rational product(int depth) {
    rational out = factor(depth);
    while (!failed_) {
      if (take('*'))
        out = out * factor(depth);
      else if (take('/'))
        out = out / factor(depth);
      else
        break;
    }
    return out;
  }
  rational factor(int depth) {
    bool negative = false;
    for (;;) {
      if (take('-'))
        negative = !negative;
      else if (!take('+'))
        break;
    }
    rational out;
    if (take('(')) {
      failed_ = failed_ || depth == deepest;
      if (!failed_) out = expression(depth + 1);
      failed_ = failed_ || !take(')');
    } else {
      out = number();
    }
    return negative ? -out : out;
  }
  rational number() {
    const std::size_t begin = at_;
    std::int64_t value = 0;
    while (at_ < text_.size() && is_digit(text_[at_])) {
      if (at_ - begin == 18) failed_ = true;
      if (failed_) return {};
      value = 10 * value + (text_[at_++] - '0');
    }
    failed_ = failed_ || at_ == begin || (text_[begin] == '0' && at_ - begin > 1);
    used_->push_back(value);
    if (used_->size() > most_) return {1, 0};
    return value;
  }

  std::string_view text_;
  std::size_t most_;
  std::vector<std::int64_t>* used_ = nullptr;
  std::size_t at_ = 0;
  bool failed_ = false;
};

/// All runs of digits, with a minus directly before them; those of more than 18 digits are left out.
inline std::vector<std::int64_t> integers_of(std::string_view text) {
  std::vector<std::int64_t> out;
  for (std::size_t i = 0; i < text.size();) {
    const std::size_t begin = i;
    std::int64_t value = 0;
    while (i < text.size() && is_digit(text[i])) {
      if (i - begin < 18) value = 10 * value + (text[i] - '0');
      ++i;
    }
    if (i == begin)
      ++i;
    else if (i - begin <= 18)
      out.push_back(begin > 0 && text[begin - 1] == '-' ? -value : value);
  }
  return out;
}

}  // namespace detail

/// How a countdown_verifier finds the expression, and what it gives for a wrong one.
enum class countdown_rule {
  /// In the last <answer> of the last line: 1; 0.1 for one that is wrong or no expression; 0 without tags
  /// (TinyZero).
  tinyzero,
  /// In the last <answer>, or the whole text without tags: 1; 0.05 for a wrong one; 0.01 for none
  /// (reasoning-gym).
  reasoning_gym
};

/// Reward 1 when the completion is an expression that uses each given number exactly once and has the target
/// as its value; else a smaller reward. Models text_verifier.
///
/// The answer lists the target first, then the numbers, with anything but digits between them: "47: 44 3".
/// Unscored when it has fewer than two integers. An expression has integers, + - * /, signs and parentheses (at
/// most 64 deep) and is evaluated with exact fractions; decimals, ** and //, which TinyZero hands to Python's
/// eval, are no expressions here, and the target must be met exactly, not to 1e-5. TinyZero's search for
/// "Assistant:" concerns the prompt, which is not part of a completion. An expression of more numbers than are
/// given, or than 64, is wrong and not evaluated. Linear, but for sorting the numbers.
struct countdown_verifier {
  countdown_rule rule = countdown_rule::tinyzero;

  verdict operator()(std::string_view completion, std::string_view answer) const noexcept {
    return detail::unless_out_of_memory([&]() -> verdict {
      std::vector<std::int64_t> numbers = detail::integers_of(answer);
      if (numbers.size() < 2) return {.reward = 0, .scored = false};
      const std::int64_t target = numbers.front();
      numbers.erase(numbers.begin());
      std::sort(numbers.begin(), numbers.end());

      const bool tinyzero = rule == countdown_rule::tinyzero;
      if (tinyzero)
        if (const std::size_t line = completion.rfind('\n'); line != std::string_view::npos)
          completion.remove_prefix(line + 1);
      const std::optional<std::string_view> tagged = last_between(completion, "<answer>", "</answer>");
      if (tinyzero && !tagged) return {.reward = 0};
      const std::string_view text = detail::trimmed(tagged.value_or(completion));
      const double malformed = tinyzero ? 0.1 : 0.01, wrong = tinyzero ? 0.1 : 0.05;
      if (text.empty()) return {.reward = tinyzero ? 0 : malformed};

      std::vector<std::int64_t> used;
      const std::size_t most = std::min<std::size_t>(numbers.size(), 64);
      const std::optional<detail::rational> value = detail::arithmetic_parser(text, most).value(used);
      if (!value) return {.reward = malformed};
      std::sort(used.begin(), used.end());
      return {.reward = used == numbers && *value == detail::rational(target) ? 1.0 : wrong};
    });
  }
};

}  // namespace rlvr
