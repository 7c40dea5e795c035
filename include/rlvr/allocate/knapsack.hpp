#pragma once
/// Rollouts where a group of them most probably has both outcomes, and a success moves the pass rate.

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include <rlvr/allocate/allocator.hpp>
#include <rlvr/allocate/spend.hpp>
#include <rlvr/core/error.hpp>

namespace rlvr {

/// Maximises sum_i V(n_i, p_i) with
///
///     V(n, p) = (1 - p^n - (1-p)^n) p (1-p)^2,     V(n+1, p) - V(n, p) = p (1-p)^2 [p^n (1-p) + (1-p)^n p]:
///
/// the probability that n rollouts are not all alike, times the pass rate's expected gain. The difference falls with n,
/// so the greedy allocation is exact. Models allocator. O(n + budget log n).
///
///  - A prompt with less than min_evidence rollouts of history first gets an even share of the budget.
///  - p = 0 and p = 1 are worth nothing and stay at their lower bounds, unless there is a surplus: what the prompts
///    with 0 < p < 1 need for both outcomes with probability `confidence` is estimated as
///    sum_i floor(min(upper_i, ln(1 - confidence) / ln(max(p_i, 1-p_i)))) beyond the lower bounds; what the budget has
///    above this goes evenly to the prompts with p = 0, and when there are none, to those with p = 1 or too little
///    history. confidence = 1 leaves everything to the objective. What no such prompt can take, the objective gets.
///  - A lower bound of 0: V(0, p) = -p (1-p)^2 as the formula has it, so that the first rollout is worth most, though
///    a lone rollout has no advantage. Use lower bounds of 2 or more for prompts that are to learn.
///
/// Throws std::invalid_argument also for min_evidence that is not a number >= 0 or a confidence outside [0, 1].
/// Source: Knapsack RL (arXiv 2509.25849) and its code (liziniu/KnapsackRL, exploration_utils.py), with the authors'
/// defaults; differing from that code: solved greedily, which is exact (its dynamic program values no extra rollout as
/// 0 instead of V(lower), and is not), upper bounds hold also for a surplus, and prompts without history are not
/// mistaken for p = 0. Its rates are means of the last 16 rewards across visits.
struct knapsack_allocation {
  double min_evidence = 8;  ///< rollouts of history below which p is not trusted
  double confidence = 0.9;

  static double value(double p, std::uint32_t n) {
    const double q = 1 - p;
    return (1 - std::pow(p, n) - std::pow(q, n)) * p * q * q;
  }
  /// value(p, n + 1) - value(p, n), without cancellation.
  static double gain(double p, std::uint32_t n) {
    const double q = 1 - p;
    return p * q * q * (std::pow(p, n) * q + std::pow(q, n) * p);
  }

  std::vector<std::uint32_t> operator()(std::span<const prompt_belief> beliefs, std::size_t budget,
                                        std::span<const count_range> ranges) const {
    require(min_evidence >= 0 && is_finite(min_evidence), "knapsack_allocation: min_evidence is ", min_evidence);
    require(confidence >= 0 && confidence <= 1, "knapsack_allocation: confidence is ", confidence);
    detail::allocation a = detail::begin_allocation(beliefs, budget, ranges);
    const auto known = [&](std::size_t i) { return beliefs[i].evidence > 0 && beliefs[i].evidence >= min_evidence; };
    const auto informative = [&](std::size_t i) {
      return known(i) && beliefs[i].pass_rate > 0 && beliefs[i].pass_rate < 1;
    };
    const auto hopeless = [&](std::size_t i) { return known(i) && beliefs[i].pass_rate == 0; };
    const auto worth = [&](std::size_t i, std::uint32_t n) { return gain(beliefs[i].pass_rate, n); };
    const auto unknown = [&](std::size_t i) { return !known(i); };

    detail::give_even_share(a, budget, unknown);
    std::size_t needed = 0, hopeless_count = 0;
    for (std::size_t i = 0; i < beliefs.size(); ++i) {
      hopeless_count += hopeless(i);
      if (!informative(i)) continue;
      const double p = beliefs[i].pass_rate, cost = std::log1p(-confidence) / std::log1p(-std::min(p, 1 - p));
      needed += static_cast<std::size_t>(std::min(cost, static_cast<double>(a.caps[i])));
    }
    detail::spend_among(a, std::min(a.left, needed), informative, worth);
    const auto surplus = [&](std::size_t i) { return hopeless_count > 0 ? hopeless(i) : !informative(i); };
    detail::spend_among(a, a.left, surplus, detail::no_gain);
    detail::spend_among(a, a.left, informative, worth);
    detail::spend_among(
        a, a.left, [](std::size_t) { return true; }, detail::no_gain);
    return a.counts;
  }
};

}  // namespace rlvr
