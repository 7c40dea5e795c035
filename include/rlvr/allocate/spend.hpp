#pragma once
/// The greedy step that all allocators share: one rollout at a time to where it is worth most.

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include <rlvr/allocate/allocator.hpp>
#include <rlvr/core/error.hpp>

namespace rlvr {

namespace detail {

struct next_rollout {
  double gain;
  std::uint32_t count;  ///< rollouts of the prompt so far
  std::uint32_t prompt;
  /// The worth of a is below that of b; no two are equal.
  friend bool operator<(const next_rollout& a, const next_rollout& b) {
    if (a.gain != b.gain) return a.gain < b.gain;
    return a.count != b.count ? a.count > b.count : a.prompt > b.prompt;
  }
};

/// Makes a heap whose front alone may be out of place a heap again.
inline void sift_front(std::vector<next_rollout>& heap) {
  const next_rollout moved = heap.front();
  std::size_t hole = 0;
  for (std::size_t child; (child = 2 * hole + 1) < heap.size(); hole = child) {
    if (child + 1 < heap.size() && heap[child] < heap[child + 1]) ++child;
    if (!(moved < heap[child])) break;
    heap[hole] = heap[child];
  }
  heap[hole] = moved;
}

}  // namespace detail

/// Adds `amount` rollouts to counts, each to the prompt with the largest gain(i, counts[i]) among those below their
/// caps; among equal gains to the one with the fewest rollouts, and then to the first. Returns what is left when every
/// prompt is at its cap.
///
/// gain(i, n) = V_i(n + 1) - V_i(n). When it does not increase with n (V_i is concave), the result maximises
/// sum_i V_i(n_i) over all counts with this sum between the ones given and the caps: any other one can be changed into
/// it by moving single rollouts to gains no smaller. A prompt at or above its cap is left alone. Throws
/// std::invalid_argument when sizes differ or a gain is NaN; counts are then to be thrown away. O(n + amount log n),
/// amount + n gains, 16 n bytes.
/// Source: marginal allocation, Fox 1966; Proposition 2.2 of CoBA-RL (arXiv 2602.03048).
template <class Gain>
[[nodiscard]] std::size_t spend(std::size_t amount, std::span<std::uint32_t> counts,
                                std::span<const std::uint32_t> caps, const Gain& gain) {
  require(counts.size() == caps.size(), "spend: ", counts.size(), " counts and ", caps.size(), " caps");
  const auto next = [&](std::size_t i) {
    const double g = gain(i, counts[i]);
    require(g == g, "spend: the gain of prompt ", i, " at ", counts[i], " rollouts is NaN");
    return detail::next_rollout{g, counts[i], static_cast<std::uint32_t>(i)};
  };
  std::vector<detail::next_rollout> heap;
  if (amount > 0)
    for (std::size_t i = 0; i < counts.size(); ++i)
      if (counts[i] < caps[i]) heap.push_back(next(i));
  std::make_heap(heap.begin(), heap.end());
  for (; amount > 0 && !heap.empty(); --amount) {
    const std::uint32_t i = heap.front().prompt;
    if (++counts[i] < caps[i]) {
      heap.front() = next(i);
    } else {
      heap.front() = heap.back();
      heap.pop_back();
    }
    if (!heap.empty()) detail::sift_front(heap);
  }
  return amount;
}

namespace detail {

/// spend among the prompts for which member(i); the others keep their counts.
template <class Member, class Gain>
void spend_among(allocation& a, std::size_t amount, const Member& member, const Gain& gain) {
  std::vector<std::uint32_t> caps(a.counts);
  for (std::size_t i = 0; i < caps.size(); ++i)
    if (member(i)) caps[i] = a.caps[i];
  a.left -= amount - spend(amount, a.counts, caps, gain);
}

/// All rollouts are worth the same: they go to the prompts with the fewest.
inline double no_gain(std::size_t, std::uint32_t) {
  return 0;
}

/// Raises the prompts for which member(i) to an even share of the budget, as far as their ranges and the budget go.
template <class Member>
void give_even_share(allocation& a, std::size_t budget, const Member& member) {
  std::vector<std::uint32_t> caps(a.counts);
  for (std::size_t i = 0; i < caps.size(); ++i)
    if (member(i)) caps[i] = static_cast<std::uint32_t>(std::min<std::size_t>(a.caps[i], budget / caps.size()));
  a.left = spend(a.left, a.counts, caps, no_gain);
}

}  // namespace detail

}  // namespace rlvr
