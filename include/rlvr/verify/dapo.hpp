#pragma once
/// The verifier of DAPO: the text behind the last "Answer:", normalised as by Minerva.

#include <cstddef>
#include <optional>
#include <string>
#include <string_view>

#include <rlvr/verify/characters.hpp>
#include <rlvr/verify/verifier.hpp>

namespace rlvr {

namespace detail {

/// One pass over the lines of a text: f(line) gives the text that replaces it.
template <class F>
std::string map_lines(std::string_view text, const F& f) {
  std::string out;
  for (;;) {
    const std::size_t end = text.find('\n');
    f(text.substr(0, end), out);
    if (end == std::string_view::npos) return out;
    out += '\n';
    text.remove_prefix(end + 1);
  }
}

/// Replaces `open`...} by what stands between, up to the next closing brace of the same line.
inline void unwrap(std::string& text, std::string_view open) {
  text = map_lines(text, [&](std::string_view line, std::string& out) {
    for (std::size_t at = line.find(open); at != std::string_view::npos; at = line.find(open)) {
      const std::size_t close = line.find('}', at + open.size());
      if (close == std::string_view::npos) break;
      out.append(line.substr(0, at)).append(line.substr(at + open.size(), close - at - open.size()));
      line.remove_prefix(close + 1);
    }
    out.append(line);
  });
}

/// The last match of the regular expression (?i)answer\s*:\s*([^\n]+).
inline std::optional<std::string_view> behind_answer_colon(std::string_view text) {
  constexpr std::string_view word = "answer";
  std::optional<std::string_view> last;
  for (std::size_t i = 0; i + word.size() < text.size(); ++i) {
    std::size_t at = 0;
    while (at < word.size() && lower(text[i + at]) == word[at]) ++at;
    if (at < word.size()) continue;
    at += i;
    while (at < text.size() && is_blank(text[at])) ++at;
    if (at == text.size() || text[at] != ':') continue;
    const std::size_t colon = at++;
    while (at < text.size() && is_blank(text[at])) ++at;
    // With nothing but blanks to the end, the expression gives one of them back if it can.
    if (at == text.size())
      while (at > colon + 1 && (at == text.size() || text[at] == '\n')) --at;
    if (at == text.size() || text[at] == '\n') continue;
    last = text.substr(at, text.find('\n', at) - at);
    i = at + last->size() - 1;
  }
  return last;
}

}  // namespace detail

/// The normal form of an answer by the rules of Minerva's appendix as DAPO uses them: the text behind the last
/// =, without articles ("a " and "an ", inside words too), spaces, dollar signs, 41 words and commands of units
/// and layout, and \text{}, \textbf{}, \overline{} and \boxed{} around their contents; only the first $...$ when
/// there is one; braces around the arguments of frac and sqrt; no commas in a number. Linear.
/// normalize_final_answer of verl, math_dapo.py.
inline std::string minerva_normalized(std::string_view answer) {
  using namespace std::string_view_literals;
  struct substitution {
    std::string_view from, to;
  };
  constexpr substitution substitutions[] = {
      {"an ", ""}, {"a ", ""},       {".$", "$"},           {"\\$", ""},          {"\\ ", ""},
      {" ", ""},   {"mbox", "text"}, {",\\text{and}", ","}, {"\\text{and}", ","}, {"\\text{m}", "\\text{}"}};
  constexpr std::string_view removed[] = {"square",     "ways",       "integers",  "dollars",      "mph",
                                          "inches",     "hours",      "km",        "units",        "\\ldots",
                                          "sue",        "points",     "feet",      "minutes",      "digits",
                                          "cents",      "degrees",    "cm",        "gm",           "pounds",
                                          "meters",     "meals",      "edges",     "students",     "childrentickets",
                                          "multiples",  "\\text{s}",  "\\text{.}", "\\text{\ns}",  "\\text{}^2",
                                          "\\text{}^3", "\\text{\n}", "\\text{}",  "\\mathrm{th}", "^\\circ",
                                          "^{\\circ}",  "\\;",        ",\\!",      "{,}",          "\"",
                                          "\\dots"};

  if (const std::size_t equals = answer.rfind('='); equals != std::string_view::npos) answer.remove_prefix(equals + 1);
  std::string text(answer);
  for (const substitution& s : substitutions) detail::replace_all(text, s.from, s.to);
  for (std::string_view part : removed) detail::replace_all(text, part, "");

  text = detail::map_lines(text, [](std::string_view line, std::string& out) {
    const std::size_t open = line.find('$');
    const std::size_t close = open == std::string_view::npos ? open : line.find('$', open + 1);
    out.append(close == std::string_view::npos ? line : line.substr(open, close - open + 1));
  });
  detail::unwrap(text, "\\text{");
  detail::unwrap(text, "\\textbf{");
  detail::unwrap(text, "\\overline{");
  text = detail::map_lines(text, [](std::string_view line, std::string& out) {
    constexpr std::string_view box = "\\boxed{";
    const std::size_t open = line.find(box), close = line.rfind('}');
    if (open == std::string_view::npos || close == std::string_view::npos || close < open + box.size()) {
      out.append(line);
      return;
    }
    out.append(line.substr(0, open)).append(line.substr(open + box.size(), close - open - box.size()));
    out.append(line.substr(close + 1));
  });

  const auto brace = [&](std::string_view command, std::size_t arguments) {
    std::string out;
    std::string_view rest = text;
    for (std::size_t at = rest.find(command); at != std::string_view::npos; at = rest.find(command)) {
      out.append(rest.substr(0, at)).append(command);
      rest.remove_prefix(at + command.size());
      if (rest.empty() || rest.front() == '{') continue;
      const std::size_t first = detail::first_character(rest);
      if (arguments == 2 && (first == rest.size() || rest[first] == '\n')) continue;
      for (std::size_t k = 0; k < arguments; ++k) {
        const std::size_t length = detail::first_character(rest);
        out.append("{").append(rest.substr(0, length)).append("}");
        rest.remove_prefix(length);
      }
    }
    text = out.append(rest);
  };
  brace("frac", 2);
  brace("sqrt", 1);
  detail::replace_all(text, "$", "");

  bool digit = false, only_digits_and_commas = true;
  for (char c : text) {
    digit = digit || detail::is_digit(c);
    only_digits_and_commas = only_digits_and_commas && (detail::is_digit(c) || c == ',');
  }
  if (digit && only_digits_and_commas) detail::replace_all(text, ",", "");
  return std::string(detail::trimmed(text));
}

/// How dapo_verifier finds the answer.
enum class dapo_rule {
  minerva,    ///< behind the last "Answer:" of the last 300 characters, both sides minerva_normalized
  strict_box  ///< the contents of the last \boxed{} of the last 100 characters, as they stand
};

/// Reward 1 when the completion's answer is the answer, else `wrong_reward`. Models text_verifier.
///
/// The rewards of DAPO are 1 and -1; 0 is the default here so that a mean reward is an accuracy. Linear in the
/// answer and in 300 characters. verl, math_dapo.py (compute_score).
struct dapo_verifier {
  dapo_rule rule = dapo_rule::minerva;
  double wrong_reward = 0;

  verdict operator()(std::string_view completion, std::string_view answer) const noexcept {
    return detail::unless_out_of_memory(
        [&]() -> verdict { return {.reward = right(completion, answer) ? 1.0 : wrong_reward}; });
  }

 private:
  bool right(std::string_view completion, std::string_view answer) const {
    if (rule == dapo_rule::minerva) {
      const auto given = detail::behind_answer_colon(detail::last_characters(completion, 300));
      return minerva_normalized(given.value_or("[INVALID]")) == minerva_normalized(answer);
    }
    const std::string_view text = detail::last_characters(completion, 100);
    constexpr std::string_view box = "\\boxed{";
    const std::size_t at = text.rfind(box);
    if (at == std::string_view::npos) return false;
    std::size_t open = 1;
    for (std::size_t i = at + box.size(); i < text.size(); ++i) {
      if (text[i] == '{') ++open;
      if (text[i] == '}' && --open == 0) return text.substr(at + box.size(), i - at - box.size()) == answer;
    }
    return false;
  }
};

}  // namespace rlvr
