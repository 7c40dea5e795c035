#pragma once
/// A text verifier chosen by name, for command lines and configuration files.

#include <stdexcept>
#include <string_view>
#include <utility>
#include <variant>

#include <rlvr/core/error.hpp>
#include <rlvr/verify/choice.hpp>
#include <rlvr/verify/close.hpp>
#include <rlvr/verify/countdown.hpp>
#include <rlvr/verify/dapo.hpp>
#include <rlvr/verify/exact.hpp>
#include <rlvr/verify/format.hpp>
#include <rlvr/verify/gsm8k.hpp>
#include <rlvr/verify/hendrycks.hpp>
#include <rlvr/verify/math.hpp>
#include <rlvr/verify/numeric.hpp>
#include <rlvr/verify/prefix_credit.hpp>
#include <rlvr/verify/prm800k.hpp>
#include <rlvr/verify/shaping.hpp>
#include <rlvr/verify/tags.hpp>
#include <rlvr/verify/words.hpp>

namespace rlvr {

/// The names that named_verifier knows.
inline constexpr std::string_view verifier_names =
    "exact, exact_after_equals, exact_in_answer_tags, numeric, gsm8k, gsm8k_flexible, boxed, dapo, "
    "dapo_strict_box, math, math_anchored, math_boxed, math_after_thinking, math_in_answer_tags, choice, countdown, "
    "countdown_reasoning_gym, prefix_credit, prefix_credit_verl, think_format, one_think_format, "
    "think_answer_format, code_format, tag_count, tag_pairs, reasoning_steps, repetition, overlong, math_cosine, "
    "words, words_f1, words_letters, prm800k, close, decimal_credit, exact_ignoring_case";

/// The verifier of a name, with its default options unless the table says otherwise. Models text_verifier.
///
/// | name | verifier |
/// |---|---|
/// | exact | exact_verifier{} |
/// | exact_after_equals | exact_verifier{.marker = "="} |
/// | exact_in_answer_tags | in_answer_tags<exact_verifier> |
/// | numeric | numeric_verifier{} |
/// | gsm8k, gsm8k_flexible | gsm8k_verifier of each rule |
/// | boxed | boxed_verifier{} |
/// | dapo, dapo_strict_box | dapo_verifier of each rule |
/// | math, math_anchored, math_boxed | math_verifier of each source (math: anywhere) |
/// | math_after_thinking | after_thinking<math_verifier> |
/// | math_in_answer_tags | in_answer_tags<math_verifier>, the contents being the answer |
/// | choice | choice_verifier{} |
/// | countdown, countdown_reasoning_gym | countdown_verifier of each rule |
/// | prefix_credit, prefix_credit_verl | prefix_credit with end_credit::answer, end_credit::prefix |
/// | think_format, one_think_format, think_answer_format | format_verifier of each rule |
/// | code_format | code_format_verifier{} |
/// | tag_count, tag_pairs | tag_count_verifier{}, tag_pair_verifier{} |
/// | reasoning_steps | reasoning_steps_verifier{} |
/// | repetition | repetition_penalty{} |
/// | overlong | overlong_penalty{} |
/// | math_cosine | cosine_shaped<math_verifier>{} |
/// | words, words_f1, words_letters | words_verifier of each rule |
/// | prm800k | prm800k_verifier{} |
/// | close | close_verifier{} |
/// | decimal_credit | decimal_credit{} |
/// | exact_ignoring_case | exact_verifier{.letters = letter_case::ignored} |
///
/// Programs are not run by a name alone: see with_verifier of verify/sandbox/code.hpp.
class named_verifier {
 public:
  /// Throws std::invalid_argument that lists the names when there is none of that name.
  explicit named_verifier(std::string_view name) : verifier_(find(name)) {}

  verdict operator()(std::string_view completion, std::string_view answer) const noexcept {
    return std::visit([&](const auto& v) { return v(completion, answer); }, verifier_);
  }

 private:
  using any = std::variant<exact_verifier, in_answer_tags<exact_verifier>, numeric_verifier, gsm8k_verifier,
                           boxed_verifier, dapo_verifier, math_verifier, after_thinking<math_verifier>,
                           in_answer_tags<math_verifier>, choice_verifier, countdown_verifier, prefix_credit,
                           format_verifier, code_format_verifier, tag_count_verifier, tag_pair_verifier,
                           reasoning_steps_verifier, repetition_penalty, overlong_penalty, cosine_shaped<math_verifier>,
                           words_verifier, prm800k_verifier, close_verifier, decimal_credit>;

  static any find(std::string_view name) {
    if (name == "exact") return exact_verifier{};
    if (name == "exact_after_equals") return exact_verifier{.marker = "="};
    if (name == "exact_in_answer_tags") return in_answer_tags<exact_verifier>{};
    if (name == "numeric") return numeric_verifier{};
    if (name == "gsm8k") return gsm8k_verifier{};
    if (name == "gsm8k_flexible") return gsm8k_verifier{.rule = gsm8k_rule::flexible};
    if (name == "boxed") return boxed_verifier{};
    if (name == "dapo") return dapo_verifier{};
    if (name == "dapo_strict_box") return dapo_verifier{.rule = dapo_rule::strict_box};
    if (name == "math") return math_verifier{};
    if (name == "math_anchored") return math_verifier{.source = math_source::anchored};
    if (name == "math_boxed") return math_verifier{.source = math_source::boxed};
    if (name == "math_after_thinking") return after_thinking<math_verifier>{};
    if (name == "math_in_answer_tags") return in_answer_tags<math_verifier>{.verifier = {math_source::whole}};
    if (name == "choice") return choice_verifier{};
    if (name == "countdown") return countdown_verifier{};
    if (name == "countdown_reasoning_gym") return countdown_verifier{.rule = countdown_rule::reasoning_gym};
    if (name == "prefix_credit") return prefix_credit{};
    if (name == "prefix_credit_verl") return prefix_credit{.end = end_credit::prefix};
    if (name == "think_format") return format_verifier{.rule = format_rule::trl_think};
    if (name == "one_think_format") return format_verifier{.rule = format_rule::one_think};
    if (name == "think_answer_format") return format_verifier{.rule = format_rule::think_answer};
    if (name == "code_format") return code_format_verifier{};
    if (name == "tag_count") return tag_count_verifier{};
    if (name == "tag_pairs") return tag_pair_verifier{};
    if (name == "reasoning_steps") return reasoning_steps_verifier{};
    if (name == "repetition") return repetition_penalty{};
    if (name == "overlong") return overlong_penalty{};
    if (name == "math_cosine") return cosine_shaped<math_verifier>{};
    if (name == "words") return words_verifier{};
    if (name == "words_f1") return words_verifier{.rule = words_rule::f1};
    if (name == "words_letters") return words_verifier{.rule = words_rule::letters};
    if (name == "prm800k") return prm800k_verifier{};
    if (name == "close") return close_verifier{};
    if (name == "decimal_credit") return decimal_credit{};
    if (name == "exact_ignoring_case") return exact_verifier{.letters = letter_case::ignored};
    throw std::invalid_argument(concat("unknown verifier \"", name, "\"; known are ", verifier_names));
  }

  any verifier_;
};

/// Calls f with the verifier of that name and returns what it returns. Throws as named_verifier does.
template <class F>
decltype(auto) with_verifier(std::string_view name, F&& f) {
  return std::forward<F>(f)(named_verifier(name));
}

}  // namespace rlvr
