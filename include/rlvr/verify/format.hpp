#pragma once
/// Rewards for the layout of a completion, whatever its answer.

#include <cstddef>
#include <string>
#include <string_view>

#include <rlvr/verify/numeric.hpp>
#include <rlvr/verify/tags.hpp>
#include <rlvr/verify/verifier.hpp>

namespace rlvr {

/// Which layout a format_verifier asks for.
enum class format_rule {
  /// <think>...</think> and whatever follows: begins with <think>, has no second one, and a </think> (TRL,
  /// think_format_reward).
  trl_think,
  /// As trl_think, but white space may stand before, there is exactly one </think>, and something follows it
  /// (the ThinkParser of PrimeIntellect's verifiers).
  one_think,
  /// <think>, </think>, <answer> and </answer>, each on a line of its own, and in this order; the text begins
  /// with the first. Lines may follow the last (open-r1, format_reward).
  think_answer,
};

namespace detail {

constexpr std::size_t occurrences(std::string_view text, std::string_view part) {
  std::size_t count = 0;
  for (std::size_t at = text.find(part); at != std::string_view::npos; at = text.find(part, at + part.size())) ++count;
  return count;
}

/// Where the lines of the answer begin in the layout think_answer; npos when it does not come to them.
constexpr std::size_t begin_of_answer_lines(std::string_view text) {
  constexpr std::string_view open = "<think>\n", middle = "\n</think>\n<answer>\n";
  if (text.substr(0, open.size()) != open) return std::string_view::npos;
  const std::size_t at = text.find(middle, open.size());
  return at == std::string_view::npos ? at : at + middle.size();
}

/// Whether a line "</answer>" begins behind a line end at or after `from`.
constexpr bool answer_lines_end(std::string_view text, std::size_t from) {
  constexpr std::string_view close = "\n</answer>";
  for (std::size_t at = text.find(close, from); at != std::string_view::npos; at = text.find(close, at + close.size()))
    if (at + close.size() == text.size() || text[at + close.size()] == '\n') return true;
  return false;
}

}  // namespace detail

/// Reward 1 when the completion has the layout, else 0. Models text_verifier. Linear; allocates nothing.
struct format_verifier {
  format_rule rule = format_rule::trl_think;

  constexpr verdict operator()(std::string_view completion, std::string_view) const noexcept {
    return {.reward = matches(completion) ? 1.0 : 0.0};
  }

 private:
  constexpr bool matches(std::string_view text) const noexcept {
    constexpr std::string_view open = "<think>", close = "</think>";
    if (rule == format_rule::think_answer) {
      const std::size_t answer = detail::begin_of_answer_lines(text);
      return answer != std::string_view::npos && detail::answer_lines_end(text, answer);
    }
    if (rule == format_rule::one_think) {
      text = detail::trimmed(text);
      if (detail::occurrences(text, close) != 1 || behind_last(text, close)->empty()) return false;
    }
    return text.substr(0, open.size()) == open && text.find(open, open.size()) == std::string_view::npos &&
           text.find(close, open.size()) != std::string_view::npos;
  }
};

/// Reward 1 for the layout think_answer with a fenced block of code of the language between the answer's tags,
/// else 0. Models text_verifier. Linear; allocates nothing. open-r1, get_code_format_reward.
struct code_format_verifier {
  std::string fence = "```python";  ///< how the block begins

  verdict operator()(std::string_view completion, std::string_view) const noexcept {
    const std::size_t answer = detail::begin_of_answer_lines(completion);
    if (answer == std::string_view::npos) return {.reward = 0};
    const std::size_t begin = completion.find(fence, answer);
    if (begin == std::string_view::npos) return {.reward = 0};
    const std::size_t end = completion.find("```", begin + fence.size());
    if (end == std::string_view::npos) return {.reward = 0};
    return {.reward = detail::answer_lines_end(completion, end + 3) ? 1.0 : 0.0};
  }
};

/// A quarter for each of "<think>\n", "\n</think>\n", "\n<answer>\n" and "\n</answer>" that stands in the
/// completion exactly once. Models text_verifier. Linear; allocates nothing. open-r1, tag_count_reward.
struct tag_count_verifier {
  constexpr verdict operator()(std::string_view completion, std::string_view) const noexcept {
    double reward = 0;
    for (std::string_view tag : {"<think>\n", "\n</think>\n", "\n<answer>\n", "\n</answer>"})
      if (detail::occurrences(completion, tag) == 1) reward += 0.25;
    return {.reward = reward};
  }
};

/// A weight for a pair of thinking tags plus a weight for a pair of answer tags, anywhere. Models text_verifier.
/// Linear; allocates nothing. NeMo-RL, format_reward.
struct tag_pair_verifier {
  std::string think = "think";
  std::string answer = "answer";
  double think_weight = 0.25;
  double answer_weight = 0.75;

  verdict operator()(std::string_view completion, std::string_view) const noexcept {
    return {.reward =
                (has_pair(completion, think) ? think_weight : 0) + (has_pair(completion, answer) ? answer_weight : 0)};
  }

 private:
  static bool has_pair(std::string_view text, std::string_view name) noexcept {
    const std::size_t at = find_tag(text, "<", name, 0);
    return at != std::string_view::npos && find_tag(text, "</", name, at + name.size() + 2) != std::string_view::npos;
  }

  /// The first `bracket`name> at or after `from`.
  static std::size_t find_tag(std::string_view text, std::string_view bracket, std::string_view name,
                              std::size_t from) noexcept {
    for (std::size_t at = text.find(bracket, from); at != std::string_view::npos; at = text.find(bracket, at + 1))
      if (text.substr(at + bracket.size(), name.size()) == name &&
          text.substr(at + bracket.size() + name.size(), 1) == ">")
        return at;
    return std::string_view::npos;
  }
};

/// One third, at most 1, for each sign of a step: "Step 1:", a line that begins with - or *, "First,",
/// "Second,", "Next,", "Finally,", and a number with a point at the very beginning. Models text_verifier.
/// Linear; allocates nothing. open-r1, reasoning_steps_reward.
struct reasoning_steps_verifier {
  constexpr verdict operator()(std::string_view completion, std::string_view) const noexcept {
    std::size_t count = 0;
    for (std::string_view sign : {"\n-", "\n*", "First,", "Second,", "Next,", "Finally,"})
      count += detail::occurrences(completion, sign);
    const auto behind_digits = [&](std::size_t at) {
      while (at < completion.size() && detail::is_digit(completion[at])) ++at;
      return at;
    };
    const auto is_at = [&](std::size_t at, char c) { return at < completion.size() && completion[at] == c; };
    if (const std::size_t end = behind_digits(0); end > 0 && is_at(end, '.')) ++count;
    for (std::size_t at = completion.find("Step "); at != std::string_view::npos; at = completion.find("Step ", at)) {
      at += 5;
      if (const std::size_t end = behind_digits(at); end > at && is_at(end, ':')) ++count;
    }
    return {.reward = count < 3 ? static_cast<double>(count) / 3 : 1.0};
  }
};

}  // namespace rlvr
