#pragma once
/// Answers in words, compared without letter case, punctuation and articles.

#include <algorithm>
#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

#include <rlvr/verify/characters.hpp>
#include <rlvr/verify/tags.hpp>
#include <rlvr/verify/verifier.hpp>

namespace rlvr {

enum class words_rule {
  equal,    ///< 1 when the words are the same in the same order, else 0 (open-instruct, PuzzleMatcherVerifier)
  letters,  ///< 1 when the letters and digits are the same in the same order, else 0 (NeMo-RL, exact alphanumeric)
  f1        ///< 2 common / (words of both), in any order (SQuAD; open-instruct, F1Verifier)
};

/// Compares the words of the completion behind its last </think>, <answer> tags removed, with those of the
/// answer. Models text_verifier.
///
/// letters: tags are kept; use in_answer_tags. Words stand between ASCII white space, in lower case, without ASCII
/// punctuation; a, an and the are dropped. Unscored only when memory runs out. Linear; f1: O(n log n).
struct words_verifier {
  words_rule rule = words_rule::equal;

  verdict operator()(std::string_view completion, std::string_view answer) const noexcept {
    return detail::unless_out_of_memory([&]() -> verdict {
      if (rule == words_rule::letters) {
        const std::string_view given = behind_last(completion, "</think>").value_or(completion);
        return {.reward = letters_of(given) == letters_of(answer) ? 1.0 : 0.0};
      }
      const std::string given_text = plain(behind_last(completion, "</think>").value_or(completion));
      const std::string wanted_text = plain(answer);
      std::vector<std::string_view> given = words(given_text), wanted = words(wanted_text);
      if (rule == words_rule::equal) return {.reward = given == wanted ? 1.0 : 0.0};
      std::sort(given.begin(), given.end());
      std::sort(wanted.begin(), wanted.end());
      std::size_t common = 0;
      for (std::size_t i = 0, j = 0; i < given.size() && j < wanted.size();) {
        const int order = given[i].compare(wanted[j]);
        common += order == 0;
        i += order <= 0;
        j += order >= 0;
      }
      if (common == 0) return {.reward = 0};
      return {.reward = 2 * static_cast<double>(common) / static_cast<double>(given.size() + wanted.size())};
    });
  }

 private:
  /// ASCII letters in lower case, digits, and whatever is not ASCII.
  static std::string letters_of(std::string_view text) {
    std::string out;
    for (char c : text)
      if (detail::is_letter(c) || detail::is_digit(c) || static_cast<unsigned char>(c) >= 0x80) out += detail::lower(c);
    return out;
  }
  static std::string plain(std::string_view from) {
    std::string text(from);
    detail::replace_all(text, "<answer>", "");
    detail::replace_all(text, "</answer>", "");
    std::string out;
    for (char c : text) {
      const bool punctuation = c > ' ' && c < 0x7f && !detail::is_letter(c) && !detail::is_digit(c);
      if (!punctuation) out += detail::lower(c);
    }
    return out;
  }
  static std::vector<std::string_view> words(std::string_view text) {
    std::vector<std::string_view> out;
    for (std::size_t i = 0; i < text.size();) {
      const std::size_t begin = i;
      while (i < text.size() && !detail::is_blank(text[i])) ++i;
      const std::string_view word = text.substr(begin, i - begin);
      if (!word.empty() && word != "a" && word != "an" && word != "the") out.push_back(word);
      ++i;
    }
    return out;
  }
};

}  // namespace rlvr
