#pragma once
/// Partial credit for the example task: which steps of a chain follow from the steps before them.

#include <cstddef>
#include <string_view>

#include <rlvr/verify/steps.hpp>

#include "task.hpp"

namespace chain {

/// Counts the steps of a completion that are right, given the prompt. Models rlvr::step_counter.
///
/// Step i repeats sign i of the prompt and shows a sum, units digit first; it is valid when that sum follows from
/// the sum that stands before it, right or wrong: a wrong step costs one step, not all that come after it. The
/// last step is = with the final sum. The number of steps is that of the prompt's terms, however many the
/// completion has: missing steps, and everything from the first malformed one on, are invalid, and a completion
/// with text behind its answer has no valid answer. Zero of zero for a text that is no prompt.
struct count_steps {
  rlvr::step_count operator()(std::string_view completion, std::string_view prompt) const noexcept {
    while (!prompt.empty() && prompt.back() == '=') prompt.remove_suffix(1);
    if (prompt.size() < 5 || prompt.size() % 3 != 2) return {};
    rlvr::step_count n{.valid = 0, .total = (prompt.size() + 1) / 3};
    int sum = number(prompt.substr(0, 2));
    for (std::size_t at = 2; at < prompt.size(); at += 3) {
      const term t{prompt[at], number(prompt.substr(at + 1, 2))};
      if (sum < 0 || t.value < 0 || (t.sign != '+' && t.sign != '-')) return {};
      if (completion.size() < 3 || completion[0] != t.sign) return n;
      const int shown = number(completion.substr(1, 2));
      if (shown < 0) return n;
      const int value = shown % 10 * 10 + shown / 10;
      n.valid += value == apply(sum, t);
      sum = value;
      completion.remove_prefix(3);
    }
    n.valid += completion.size() == 3 && completion[0] == '=' && number(completion.substr(1)) == sum;
    return n;
  }

 private:
  /// Two digits; -1 for anything else.
  static int number(std::string_view text) noexcept {
    if (text.size() != 2) return -1;
    for (char c : text)
      if (c < '0' || c > '9') return -1;
    return 10 * (text[0] - '0') + (text[1] - '0');
  }
};

/// The share of valid steps, the answer among them. The reference is the prompt.
using step_verifier = rlvr::step_verifier<count_steps>;

}  // namespace chain
