#pragma once
/// From one score per candidate to k distinct candidates: the last part of a selector.

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <span>
#include <vector>

#include <rlvr/core/error.hpp>
#include <rlvr/core/random.hpp>

namespace rlvr {

using prompt_id = std::uint32_t;

/// The prompts that may be selected: the whole pool, or a list of distinct ids.
class candidate_list {
 public:
  explicit candidate_list(std::size_t pool) : size_(pool) {}
  explicit candidate_list(std::span<const prompt_id> ids) : ids_(ids.data()), size_(ids.size()) {}
  std::size_t size() const { return size_; }
  bool whole() const { return ids_ == nullptr; }
  prompt_id operator[](std::size_t j) const { return ids_ != nullptr ? ids_[j] : static_cast<prompt_id>(j); }

 private:
  const prompt_id* ids_ = nullptr;
  std::size_t size_;
};

namespace detail {

struct ranked {
  double priority;
  std::uint64_t tie;
  prompt_id id;
  friend bool operator>(const ranked& a, const ranked& b) {
    if (a.priority != b.priority) return a.priority > b.priority;
    return a.tie != b.tie ? a.tie > b.tie : a.id < b.id;
  }
};

/// A hash of (key, id), a bijection of id for every key. It decides between equal priorities, of which there may be
/// millions: Philox would cost five times as much. Source: the finaliser of SplitMix64 (Steele, Lea, Flood 2014).
inline std::uint64_t tie_of(random_key key, prompt_id id) {
  std::uint64_t x = key.bits() + 0x9e3779b97f4a7c15u * (std::uint64_t{id} + 1);
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
  x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
  return x ^ (x >> 31);
}

}  // namespace detail

/// The priority itself, for keep_largest without a bound.
struct given_priority {
  double operator()(prompt_id, double priority) const { return priority; }
};

/// Fills `out` with the candidates of the out.size() largest priorities, largest first; equal priorities stand in a
/// random order. `priority(id)` is called once per candidate, in blocks that the compiler can turn into vector
/// instructions when it is straight-line code; -infinity is allowed and comes last. With `exact` it may be a cheap upper
/// bound: exact(id, bound) is then the priority, asked for only where the bound reaches the k largest so far. Throws
/// std::invalid_argument for a priority that is NaN and for too few candidates. O(n + k log k log(n/k)) expected for n
/// candidates in random order, O(k) memory.
template <class Priority, class Exact = given_priority>
void keep_largest(const candidate_list& candidates, Priority&& priority, std::span<prompt_id> out, random_key key,
                  Exact&& exact = {}) {
  require(out.size() <= candidates.size(), "select: ", out.size(), " prompts wanted of ", candidates.size());
  if (out.empty()) return;
  const auto better = [](const detail::ranked& a, const detail::ranked& b) { return a > b; };
  std::vector<detail::ranked> heap;  // the smallest of those kept in front
  heap.reserve(out.size());
  double threshold = -std::numeric_limits<double>::infinity();
  constexpr std::size_t block = 256;
  double p[block];
  for (std::size_t begin = 0; begin < candidates.size(); begin += block) {
    const std::size_t size = std::min(block, candidates.size() - begin);
    if (candidates.whole())
      for (std::size_t j = 0; j < size; ++j) p[j] = priority(static_cast<prompt_id>(begin + j));
    else
      for (std::size_t j = 0; j < size; ++j) p[j] = priority(candidates[begin + j]);
    std::uint64_t enough = 0;
    for (std::size_t j = 0; j < size; ++j) enough += !(p[j] < threshold);
    if (enough == 0) continue;
    for (std::size_t j = 0; j < size; ++j) {
      if (p[j] < threshold) continue;
      const prompt_id id = candidates[begin + j];
      const double value = exact(id, p[j]);
      require(value == value, "select: the score of prompt ", id, " is NaN");
      if (value < threshold) continue;
      const detail::ranked entry{value, detail::tie_of(key, id), id};
      if (heap.size() < out.size()) {
        heap.push_back(entry);
        std::push_heap(heap.begin(), heap.end(), better);
      } else if (entry > heap.front()) {
        std::pop_heap(heap.begin(), heap.end(), better);
        heap.back() = entry;
        std::push_heap(heap.begin(), heap.end(), better);
      }
      if (heap.size() == out.size()) threshold = heap.front().priority;
    }
  }
  std::sort_heap(heap.begin(), heap.end(), better);
  for (std::size_t k = 0; k < out.size(); ++k) out[k] = heap[k].id;
}

/// A way to choose among scored candidates.
///
///  - `d(candidates, score, out, key)`: fills out with distinct candidates; a pure function. score(id) is pure
///    and gives a double, +infinity for "before all others".
///  - Throws std::invalid_argument for more prompts than candidates, and for a score that the draw cannot use, naming
///    the prompt.
template <class D>
concept draw = requires(const D& d, const candidate_list& candidates, double (*score)(prompt_id),
                        std::span<prompt_id> out, random_key key) { d(candidates, score, out, key); };

/// The largest scores; equal ones in random order.
struct draw_top {
  template <class Score>
  void operator()(const candidate_list& candidates, Score&& score, std::span<prompt_id> out, random_key key) const {
    keep_largest(candidates, score, out, key);
  }
};

/// Prompts one after another without replacement, each with probability proportional to its score among those left.
/// Scores are weights: not negative; weight 0 is drawn, uniformly, only when nothing else is left; infinite weights
/// come first. Source: exponential clocks E / w (Efraimidis and Spirakis 2006), the same as Gumbel top-k on log w.
/// ln u <= u - 1 spares most candidates the logarithm.
struct draw_proportional {
  template <class Score>
  void operator()(const candidate_list& candidates, Score&& score, std::span<prompt_id> out, random_key key) const {
    const random_key clocks = key.fold(1);
    keep_largest(
        candidates,
        [&](prompt_id id) {
          const double w = score(id);
          return (clocks.uniform(id) - 1) / (w >= 0 ? w : std::numeric_limits<double>::quiet_NaN());
        },
        out, key, [&](prompt_id id, double) {
          const double w = score(id);
          require(w >= 0, "select: the weight of prompt ", id, " is ", w);
          return std::log(clocks.uniform(id)) / w;
        });
  }
};

/// As draw_proportional with weights exp(score / temperature), by Gumbel top-k: no overflow whatever the scores.
struct draw_softmax {
  double temperature = 1;

  template <class Score>
  void operator()(const candidate_list& candidates, Score&& score, std::span<prompt_id> out, random_key key) const {
    require(temperature > 0 && std::isfinite(temperature), "draw_softmax: temperature is ", temperature);
    const random_key gumbels = key.fold(1);
    keep_largest(
        candidates,
        [&](prompt_id id) { return score(id) / temperature - std::log(-std::log(gumbels.uniform(id))); }, out, key);
  }
};

/// All candidates alike.
struct draw_uniform {
  template <class Score>
  void operator()(const candidate_list& candidates, Score&&, std::span<prompt_id> out, random_key key) const {
    keep_largest(candidates, [](prompt_id) { return 0.0; }, out, key);
  }
};

/// share k prompts by `preferred`, the rest uniformly from the others: the epsilon mix with epsilon = 1 - share. Of what
/// share k has behind the point a prompt is made with that probability, so that k = 1 is epsilon-greedy.
/// Source: MMR1 (arXiv 2509.21268, algorithm 1, which rounds down), without replacement.
template <draw Preferred>
struct draw_mixed {
  double share = 0.5;
  Preferred preferred = {};

  template <class Score>
  void operator()(const candidate_list& candidates, Score&& score, std::span<prompt_id> out, random_key key) const {
    require(share >= 0 && share <= 1, "draw_mixed: share is ", share);
    require(out.size() <= candidates.size(), "select: ", out.size(), " prompts wanted of ", candidates.size());
    const double wanted = std::floor(share * static_cast<double>(out.size()) + key.uniform(0));
    const std::size_t first = std::min(static_cast<std::size_t>(wanted), out.size());
    preferred(candidates, score, out.first(first), key.fold(2));
    std::vector<prompt_id> taken(out.begin(), out.begin() + static_cast<std::ptrdiff_t>(first));
    std::sort(taken.begin(), taken.end());
    constexpr double never = -std::numeric_limits<double>::infinity();
    keep_largest(
        candidates,
        [&](prompt_id id) { return std::binary_search(taken.begin(), taken.end(), id) ? never : 0.0; },
        out.subspan(first), key.fold(3));
  }
};

}  // namespace rlvr
