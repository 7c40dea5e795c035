#pragma once
/// The laws of text_verifier and rollout_verifier.

#include <chrono>
#include <cmath>
#include <cstddef>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include <rlvr/core/error.hpp>
#include <rlvr/core/random.hpp>
#include <rlvr/core/rollout_verifier.hpp>
#include <rlvr/core/rollouts.hpp>
#include <rlvr/laws/report.hpp>
#include <rlvr/verify/verifier.hpp>

namespace rlvr::laws {

struct text_verifier_options {
  std::size_t longest = std::size_t{1} << 18;  ///< bytes of the longest texts tried
  /// How slow a linear verifier may be. The texts grow in steps of 4 from 4 KB, so that one that is quadratic
  /// at 1 ns a step is caught in less than a second, and a linear one under a sanitizer is not.
  double nanoseconds_per_byte = 10'000;
};

namespace detail {

/// Texts that have broken parsers: what brackets, commands, numbers and bytes look like when nothing ends.
inline constexpr std::string_view text_pieces[] = {
    "(", "\\boxed{", "}", "1,", "9", "-", ".", "=", " ", "\n", "\\frac{1}{", "####", "<answer>", "\xf0\x9f", "^",
    "0/",
};

inline std::string repeated(std::string_view piece, std::size_t length) {
  std::string out;
  out.reserve(length + piece.size());
  while (out.size() < length) out += piece;
  out.resize(length);
  return out;
}

inline std::string random_bytes(std::size_t length, random_key key) {
  std::string out(length, '\0');
  for (std::size_t i = 0; i < length; ++i) out[i] = static_cast<char>(key.below(256, i));
  return out;
}

/// As much of a text as a message can hold.
inline std::string shown(std::string_view text) {
  std::string out = "\"";
  for (char c : text.substr(0, 24)) out += c >= ' ' && c <= '~' ? c : '?';
  return out + (text.size() > 24 ? concat("...\" of ", text.size(), " bytes") : "\"");
}

}  // namespace detail

/// Tries what text_verifier promises: a verdict for any bytes, pure, finite, from the two texts and nothing
/// beside them, in linear time.
///
/// `answer` is one that the verifier can judge, `right` a completion that it finds right, `wrong` one without
/// an answer. Up to half a second for a verifier that reads a gigabyte in a second or two.
template <text_verifier V>
violations text_verifier_laws(const V& v, std::string_view answer, std::string_view right,
                              std::string_view wrong, const text_verifier_options& options = {}) {
  report out({});
  const verdict best = v(right, answer), worst = v(wrong, answer);
  out.check(best.scored && best.reward > 0, "right: a right completion is scored, with a positive reward");
  out.check(worst.scored, "wrong: a completion without an answer is scored");
  out.check(!worst.scored || worst.reward == 0, "wrong: a completion without an answer has reward 0");

  // Total and pure, on pieces of the three texts, on what breaks parsers, and on noise.
  std::vector<std::string> texts{"", std::string(1, '\0'), std::string(right), std::string(wrong),
                                 std::string(answer)};
  for (const std::string_view piece : detail::text_pieces) {
    texts.emplace_back(piece);
    texts.push_back(detail::repeated(piece, 300));
    texts.push_back(std::string(right) + std::string(piece));
    texts.push_back(std::string(piece) + std::string(right));
  }
  for (std::size_t cut = 0; cut < right.size(); ++cut) texts.emplace_back(right.substr(0, cut));
  for (std::size_t i = 0; i < 64; ++i) texts.push_back(detail::random_bytes(i, random_key(i)));
  const auto judge = [&](const std::string& text, std::size_t side) {
    return side == 0 ? v(text, answer) : v(right, text);
  };
  std::vector<verdict> first;
  for (std::size_t side = 0; side < 2; ++side)
    for (const std::string& text : texts) {
      first.push_back(judge(text, side));
      if (!std::isfinite(first.back().reward))
        out.fail(concat("finite: the reward of ", detail::shown(text), " is ", first.back().reward));
    }
  for (std::size_t i = first.size(); i-- > 0;) {
    const std::string& text = texts[i % texts.size()];
    if (!std::isfinite(first[i].reward) || judge(text, i / texts.size()) == first[i]) continue;
    out.fail(concat("pure: another verdict on ", detail::shown(text)));
    break;
  }

  // A view is not followed by a NUL, nor by anything that belongs to it.
  for (const std::string_view behind : {"7", "}", "x", " "}) {
    const std::string longer = std::string(right) + std::string(behind);
    const std::string longer_answer = std::string(answer) + std::string(behind);
    out.check(v(std::string_view(longer).substr(0, right.size()),
                std::string_view(longer_answer).substr(0, answer.size())) == best,
              "view: what stands behind the end of a text does not count");
  }

  // Linear.
  using clock = std::chrono::steady_clock;
  for (const std::string_view piece : detail::text_pieces)
    for (std::size_t side = 0; side < 2; ++side)
      for (std::size_t length = 4096; length <= options.longest; length *= 4) {
        const std::string text = detail::repeated(piece, length);
        const clock::time_point begin = clock::now();
        (void)judge(text, side);
        const double spent = std::chrono::duration<double, std::nano>(clock::now() - begin).count();
        if (!(spent <= options.nanoseconds_per_byte * static_cast<double>(length))) {
          out.fail(concat("linear: ", detail::shown(text), " took ", spent / 1e9, " s"));
          return out.take();
        }
      }
  return out.take();
}

/// Tries what rollout_verifier promises on these rollouts: the same verdict in any order and wherever the
/// completion lies, and finite rewards. The verdicts in r are not read.
template <rollout_verifier V>
violations rollout_verifier_laws(const V& v, const rollouts& r) {
  report out({});
  std::vector<verdict> forward;
  for (std::size_t i = 0; i < r.size(); ++i) forward.push_back(v(r.prompts[i], r.completion(i)));
  for (std::size_t i = r.size(); i-- > 0;) {
    const verdict expected = forward[i];
    if (expected.scored && !std::isfinite(expected.reward)) {
      out.fail(concat("finite: the reward of rollout ", i, " is ", expected.reward));
      continue;
    }
    const std::span<const token> completion = r.completion(i);
    const std::vector<token> alone(completion.begin(), completion.end());
    const verdict again = v(r.prompts[i], alone);
    if (again.scored != expected.scored || (again.scored && again.reward != expected.reward))
      out.fail(concat("pure: another verdict on rollout ", i, " of prompt ", r.prompts[i]));
  }
  return out.take();
}

}  // namespace rlvr::laws
