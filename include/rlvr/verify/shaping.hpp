#pragma once
/// Rewards for length and against repetition, to be added to those for the answer.

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <numbers>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <rlvr/verify/characters.hpp>
#include <rlvr/verify/verifier.hpp>

namespace rlvr {

/// Soft punishment of overlong completions: 0 up to longest - cache, then linearly down to -1 at `longest`,
/// and -1 beyond. Models rollout_verifier (lengths in tokens) and text_verifier (in characters).
///
///     0 | ((longest - cache) - length) / cache | -1
///
/// DAPO, eq. 13 (cache: L_cache); TRL, get_soft_overlong_punishment.
struct overlong_penalty {
  std::size_t longest = 4096;
  std::size_t cache = 512;  ///< at most `longest`

  constexpr double at(std::size_t length) const noexcept {
    const std::size_t free = longest > cache ? longest - cache : 0;
    if (length <= free) return 0;
    if (length > longest || cache == 0) return -1;
    return -static_cast<double>(length - free) / static_cast<double>(cache);
  }

  constexpr verdict operator()(std::size_t, std::span<const token> completion) const noexcept {
    return {.reward = at(completion.size())};
  }
  constexpr verdict operator()(std::string_view completion, std::string_view) const noexcept {
    return {.reward = at(detail::character_count(completion))};
  }
};

/// What becomes of cosine_shaping beyond its greatest length.
enum class cosine_end {
  clamped,  ///< the reward of the greatest length (TRL)
  periodic  ///< the cosine goes on (open-r1)
};

/// The curve of a reward that falls with the length for right completions and rises for wrong ones.
///
///     low + (high - low) (1 + cos(pi length / longest)) / 2
///
/// where low, high are longest_right, shortest_right for a right completion and longest_wrong, shortest_wrong for
/// a wrong one. Yeo et al. 2025, "Demystifying long chain-of-thought"; open-r1 and TRL, get_cosine_scaled_reward.
struct cosine_curve {
  double shortest_right = 1;    ///< max_value_correct
  double longest_right = 0.5;   ///< min_value_correct
  double shortest_wrong = -1;   ///< min_value_wrong
  double longest_wrong = -0.5;  ///< max_value_wrong
  std::size_t longest = 1000;   ///< at least 1
  cosine_end end = cosine_end::clamped;

  double at(bool right, std::size_t length) const noexcept {
    double progress = static_cast<double>(length) / static_cast<double>(std::max<std::size_t>(longest, 1));
    if (end == cosine_end::clamped) progress = std::min(progress, 1.0);
    const double low = right ? longest_right : longest_wrong, high = right ? shortest_right : shortest_wrong;
    return low + 0.5 * (high - low) * (1 + std::cos(std::numbers::pi * progress));
  }
};

/// Replaces the reward of a verifier by the cosine_curve at the completion's length in characters; right is a
/// reward of 1 or more. Unscored where the verifier is. Models text_verifier.
template <text_verifier V>
struct cosine_shaped {
  V verifier = {};
  cosine_curve curve = {};

  verdict operator()(std::string_view completion, std::string_view answer) const noexcept {
    const verdict v = verifier(completion, answer);
    return v.scored ? verdict{.reward = curve.at(v.reward >= 1, detail::character_count(completion))} : v;
  }
};

/// A penalty for repeated n-grams: greatest (1 - different / all); 0 when there is no n-gram.
///
/// Models rollout_verifier (n-grams of tokens: TRL, get_repetition_penalty_reward) and text_verifier (of words
/// between white space, letter case ignored: open-r1). Unscored only when memory runs out.
/// O(n w log w) for w words or tokens.
struct repetition_penalty {
  std::size_t n = 3;     ///< at least 1
  double greatest = -1;  ///< max_penalty, not positive

  verdict operator()(std::size_t, std::span<const token> completion) const noexcept {
    return detail::unless_out_of_memory([&] {
      std::vector<std::uint32_t> ids;
      ids.reserve(completion.size());
      for (token t : completion) ids.push_back(static_cast<std::uint32_t>(t));
      return of(std::move(ids));
    });
  }

  verdict operator()(std::string_view completion, std::string_view) const noexcept {
    return detail::unless_out_of_memory([&] {
      std::string text(completion);
      for (char& c : text) c = detail::lower(c);
      std::vector<std::pair<std::string_view, std::uint32_t>> words;
      for (std::size_t i = 0; i < text.size();) {
        const std::size_t begin = i;
        while (i < text.size() && !detail::is_blank(text[i])) ++i;
        if (i > begin)
          words.emplace_back(std::string_view(text).substr(begin, i - begin), static_cast<std::uint32_t>(words.size()));
        else
          ++i;
      }
      std::sort(words.begin(), words.end());
      std::vector<std::uint32_t> ids(words.size());
      std::uint32_t id = 0;
      for (std::size_t k = 0; k < words.size(); ++k) {
        id += k > 0 && words[k].first != words[k - 1].first;
        ids[words[k].second] = id;
      }
      return of(std::move(ids));
    });
  }

 private:
  /// Numbers the 2-grams, the 3-grams and so on, equal ones alike: no hash that could collide.
  verdict of(std::vector<std::uint32_t> units) const {
    if (n == 0 || units.size() < n) return {.reward = 0};
    std::vector<std::uint32_t> grams = units;
    std::vector<std::pair<std::uint64_t, std::uint32_t>> sorted;
    std::size_t different = 0;
    for (std::size_t length = 1; length <= n; ++length) {
      // Here grams[i] is the number of the (length - 1)-gram at i, but for the first pass.
      const std::size_t count = units.size() - length + 1;
      sorted.clear();
      for (std::size_t i = 0; i < count; ++i)
        sorted.emplace_back(length == 1 ? units[i] : std::uint64_t{grams[i]} << 32 | units[i + length - 1],
                            static_cast<std::uint32_t>(i));
      std::sort(sorted.begin(), sorted.end());
      different = 0;
      for (std::size_t k = 0; k < count; ++k) {
        different += k == 0 || sorted[k].first != sorted[k - 1].first;
        grams[sorted[k].second] = static_cast<std::uint32_t>(different);
      }
    }
    const auto all = static_cast<double>(units.size() - n + 1);
    return {.reward = greatest * (1 - static_cast<double>(different) / all)};
  }
};

}  // namespace rlvr
