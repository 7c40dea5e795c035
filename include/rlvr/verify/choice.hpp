#pragma once
/// Multiple choice: the letter that a completion settles on.

#include <cstddef>
#include <optional>
#include <string>
#include <string_view>

#include <rlvr/verify/boxed.hpp>
#include <rlvr/verify/characters.hpp>
#include <rlvr/verify/verifier.hpp>

namespace rlvr {

namespace detail {

constexpr bool in_word(char c) {
  return is_letter(c) || is_digit(c) || c == '_' || static_cast<unsigned char>(c) >= 0x80;
}

/// The upper-case form of one of the letters; 0 for any other character.
constexpr char choice_letter(char c, std::string_view letters) {
  for (char letter : letters)
    if (lower(letter) == lower(c)) return letter;
  return 0;
}

/// What may follow the letter.
enum class choice_end { any, punctuation };

/// The letter at the front, behind blanks, opening brackets, emphasis and \text{ or \boxed{; 0 when a longer
/// word or anything else stands there.
constexpr char choice_at_front(std::string_view text, std::string_view letters, choice_end end = choice_end::any) {
  for (;;) {
    if (text.empty()) return 0;
    bool command = false;
    for (std::string_view open : {"\\text{", "\\textbf{", "\\mathrm{", "\\mathbf{", "\\boxed{"})
      if (text.substr(0, open.size()) == open) {
        text.remove_prefix(open.size());
        command = true;
        break;
      }
    if (command) continue;
    const char c = text.front();
    if (!is_blank(c) && c != '(' && c != '[' && c != '{' && c != '*' && c != '$' && c != ':' && c != '"' && c != '\'')
      break;
    text.remove_prefix(1);
  }
  const char letter = choice_letter(text.front(), letters);
  if (text.size() == 1) return letter;
  return (end == choice_end::any ? !in_word(text[1]) : std::string_view(".):,*]}\n").find(text[1]) < 8) ? letter : 0;
}

}  // namespace detail

/// The letter that a text chooses among `letters` (upper case), or nothing. The first of these that there is:
///
///  1. the letter in the last \boxed{};
///  2. the letter behind the last "answer is" or "answer:" that one follows ("for sure" or "option" between them);
///  3. the letter at the beginning of the text, when nothing or punctuation follows it;
///  4. the last letter that stands alone, in upper case.
///
/// Brackets, emphasis (**B**) and \text{} around the letter are skipped. Linear; allocates nothing.
constexpr std::optional<char> last_choice(std::string_view text, std::string_view letters) {
  using namespace detail;
  if (const std::optional<std::string_view> box = last_boxed(text))
    if (const char letter = choice_at_front(*box, letters)) return letter;
  constexpr std::string_view word = "answer";
  for (std::size_t i = text.size(); i-- > 0;) {
    if (lower(text[i]) != 'a' || i + word.size() > text.size()) continue;
    std::size_t k = 1;
    while (k < word.size() && lower(text[i + k]) == word[k]) ++k;
    if (k < word.size()) continue;
    std::string_view rest = text.substr(i + word.size());
    std::size_t skipped = 0;  // bounded: a megabyte of "answer" followed by blanks must not be read again and again
    while (!rest.empty() && skipped < 8 && (is_blank(rest.front()) || rest.front() == '*')) {
      rest.remove_prefix(1);
      ++skipped;
    }
    const bool is = rest.size() > 2 && lower(rest[0]) == 'i' && lower(rest[1]) == 's' && !in_word(rest[2]);
    if (!is && (rest.empty() || rest.front() != ':')) continue;
    rest = trimmed(rest.substr(is ? 2 : 1, 64));
    for (std::string_view filler : {"for sure ", "definitely ", "certainly ", "clearly ", "option ", "choice "})
      if (rest.substr(0, filler.size()) == filler) rest.remove_prefix(filler.size());
    if (const char letter = choice_at_front(rest, letters)) return letter;
  }
  if (const char letter = choice_at_front(text, letters, choice_end::punctuation)) return letter;
  for (std::size_t i = text.size(); i-- > 0;)
    for (char letter : letters)
      if (text[i] == letter && (i == 0 || !in_word(text[i - 1])) && (i + 1 == text.size() || !in_word(text[i + 1])))
        return letter;
  return std::nullopt;
}

/// Reward 1 when the completion's last_choice is the answer's, else 0; unscored when the answer has none. Models
/// text_verifier. O(length times number of letters).
struct choice_verifier {
  std::string letters = "ABCDEFGHIJ";  ///< upper case

  verdict operator()(std::string_view completion, std::string_view answer) const noexcept {
    const std::optional<char> wanted = last_choice(answer, letters);
    if (!wanted) return {.reward = 0, .scored = false};
    return {.reward = last_choice(completion, letters) == wanted ? 1.0 : 0.0};
  }
};

}  // namespace rlvr
