#pragma once
/// The verifier of mathematical answers.

#include <cstddef>
#include <optional>
#include <string>
#include <string_view>

#include <rlvr/verify/characters.hpp>
#include <rlvr/verify/math_answer.hpp>
#include <rlvr/verify/math_equal.hpp>
#include <rlvr/verify/tags.hpp>
#include <rlvr/verify/verifier.hpp>

namespace rlvr {

/// Reward 1 when the completion's answer and the reference are math_equal, else 0: undecided counts as wrong
/// (ask math_equal which it was). Models text_verifier.
///
/// The default takes the last formula or number of a completion that marks no answer, though it be one of an unfinished
/// thought; math_source::anchored and math_source::boxed do not.
/// The reference may stand in \boxed{}, between dollar signs or, in a whole solution, behind "answer is". Unscored when
/// it is nothing that could be compared: neither an expression, nor a list of such, nor a single word or \text{}.
/// Linear.
struct math_verifier {
  math_source source = math_source::anywhere;

  verdict operator()(std::string_view completion, std::string_view answer) const noexcept {
    return detail::unless_out_of_memory([&]() -> verdict {
      std::string gold = detail::last_boxes(answer).value_or(std::string(answer));
      if (!comparable(gold)) {
        const std::optional<std::string_view> sentence = detail::behind_answer_phrase(answer);
        gold = sentence ? std::string(detail::spoken_answer(*sentence)) : std::string();
        if (!comparable(gold)) return {.reward = 0, .scored = false};
      }
      const std::optional<std::string> given = math_answer(completion, source);
      return {.reward = given && math_equal(*given, gold) == detail::comparison::equal ? 1.0 : 0.0};
    });
  }

 private:
  /// Sentences are not: an answer that no completion could meet must not look like a hard question.
  static bool comparable(std::string_view gold) {
    gold = detail::trimmed(gold);
    while (gold.size() > 1 && gold.front() == '$' && gold.back() == '$') {
      gold.remove_prefix(1);
      gold.remove_suffix(1);
    }
    if (gold.empty()) return false;
    if (detail::unwrapped_text(gold)) return true;
    return detail::word_count(gold) < 2 || detail::is_digit(gold.front()) || gold.front() == '\\';
  }
};

}  // namespace rlvr
