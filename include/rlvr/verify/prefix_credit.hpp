#pragma once
/// Partial credit for a right beginning.

#include <cstddef>
#include <string_view>

#include <rlvr/verify/verifier.hpp>

namespace rlvr {

/// When a completion earns the credit of the end of the sequence.
enum class end_credit {
  answer,  ///< when it is the answer and nothing else
  prefix,  ///< when it is any beginning of the answer but the empty one (as verl does)
  none     ///< never
};

/// Credit for every right character before the first wrong one: (m + e) / (n + 1), where n is the length of the
/// answer in bytes, m the length of the common prefix of completion and answer, and e = 1 when the completion
/// ends where `end` says, else 0. Models text_verifier.
///
/// The reward is 1 for the answer itself; with end_credit::none it is n / (n + 1), whatever follows the answer.
/// The sum over the tokens of the dense reward of the digit completion task in verl's end-to-end tests is that
/// of end_credit::prefix for a completion that ended, and of end_credit::none for one that was cut off. O(m).
struct prefix_credit {
  end_credit end = end_credit::answer;

  constexpr verdict operator()(std::string_view completion, std::string_view answer) const noexcept {
    const std::size_t n = answer.size();
    std::size_t m = 0;
    while (m < completion.size() && m < n && completion[m] == answer[m]) ++m;
    const bool ends =
        m == completion.size() && (end == end_credit::answer ? m == n : end == end_credit::prefix && (m > 0 || n == 0));
    return {.reward = static_cast<double>(m + ends) / static_cast<double>(n + 1)};
  }
};

}  // namespace rlvr
