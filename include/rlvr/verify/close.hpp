#pragma once
/// Numbers compared up to a tolerance, and with credit for the text of the answer.

#include <charconv>
#include <cmath>
#include <cstddef>
#include <optional>
#include <string_view>
#include <system_error>

#include <rlvr/verify/characters.hpp>
#include <rlvr/verify/numeric.hpp>
#include <rlvr/verify/verifier.hpp>

namespace rlvr {

namespace detail {

/// A text that is one finite number, as Python's float reads it but for inf, nan and _.
inline std::optional<double> number_of(std::string_view text) {
  text = trimmed(text);
  if (!text.empty() && text.front() == '+') {
    text.remove_prefix(1);
    if (!text.empty() && text.front() == '-') return std::nullopt;
  }
  double value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (text.empty() || error != std::errc{} || end != text.data() + text.size() || !std::isfinite(value))
    return std::nullopt;
  return value;
}

/// A text that is one decimal number with commas anywhere.
constexpr decimal decimal_of(std::string_view text) {
  text = trimmed(text);
  std::string_view rest = text;
  if (!rest.empty() && (rest.front() == '-' || rest.front() == '+')) rest.remove_prefix(1);
  decimal out;
  out.negative = !text.empty() && text.front() == '-';
  const std::size_t point = rest.find('.');
  out.whole = rest.substr(0, point);
  if (point != std::string_view::npos) out.fraction = rest.substr(point + 1);
  for (std::string_view part : {out.whole, out.fraction})
    for (char c : part) {
      if (!is_digit(c) && c != ',') return {};
      out.found = out.found || is_digit(c);
    }
  while (!out.whole.empty() && (out.whole.front() == '0' || out.whole.front() == ',')) out.whole.remove_prefix(1);
  while (!out.fraction.empty() && (out.fraction.back() == '0' || out.fraction.back() == ','))
    out.fraction.remove_suffix(1);
  if (out.whole.empty() && out.fraction.empty()) out.negative = false;
  return out;
}

}  // namespace detail

/// Reward 1 when completion and answer are numbers with |x - y| <= max(relative max(|x|, |y|), absolute), else 0;
/// unscored when the answer is no number. Models text_verifier.
///
/// Each text must be one number (with exponent if need be) and nothing else. Linear. float_match of reasoning-gym;
/// Python's math.isclose.
struct close_verifier {
  double relative = 0.01;
  double absolute = 0.01;

  verdict operator()(std::string_view completion, std::string_view answer) const noexcept {
    const std::optional<double> wanted = detail::number_of(answer);
    if (!wanted) return {.reward = 0, .scored = false};
    const std::optional<double> given = detail::number_of(completion);
    if (!given) return {.reward = 0};
    const double size = std::fmax(std::abs(*given), std::abs(*wanted));
    return {.reward = std::abs(*given - *wanted) <= std::fmax(relative * size, absolute) ? 1.0 : 0.0};
  }
};

/// Reward 1 when the completion is the decimal number of the answer (commas do not count); else, when the answer
/// stands in it as text, length of the answer / length of the completion; else 0. Models text_verifier.
///
/// Lengths in characters. An answer of more than 64 bytes is not looked for, so that the search is linear.
/// compute_decimal_reward of reasoning-gym.
struct decimal_credit {
  constexpr verdict operator()(std::string_view completion, std::string_view answer) const noexcept {
    const detail::decimal given = detail::decimal_of(completion), wanted = detail::decimal_of(answer);
    if (given.found && wanted.found && given.negative == wanted.negative &&
        detail::equal_but_for_commas(given.whole, wanted.whole) &&
        detail::equal_but_for_commas(given.fraction, wanted.fraction))
      return {.reward = 1};
    if (completion.empty() || answer.empty() || answer.size() > longest ||
        completion.find(answer) == std::string_view::npos)
      return {.reward = 0};
    return {.reward = static_cast<double>(detail::character_count(answer)) /
                      static_cast<double>(detail::character_count(completion))};
  }

 private:
  static constexpr std::size_t longest = 64;  // of an answer that is looked for, so that the search stays linear
};

}  // namespace rlvr
