#pragma once
/// What an allocator is: from beliefs about prompts and a budget to a number of rollouts for each.

#include <concepts>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include <rlvr/core/error.hpp>

namespace rlvr {

/// What is believed of a prompt when its rollouts are counted out. From a tracker, a posterior or a screening pass.
struct prompt_belief {
  double pass_rate = 0.5;  ///< p in [0, 1]; not read when evidence is 0
  double evidence = 0;     ///< scored rollouts that p rests on, a fraction when old ones decay; 0: no history
  double score_norm = 1;   ///< mean |grad log pi(y | x)| of correct rollouts; read by gradient_variance_allocation only
};

/// lower <= n_i <= upper. The default is the published one of Knapsack RL and CoBA-RL.
struct count_range {
  std::uint32_t lower = 2;
  std::uint32_t upper = 128;
};

/// From beliefs to counts.
///
///  - `a(beliefs, budget, ranges)`: one count per prompt, each within its range, that sum to the budget exactly. ranges
///    has one entry per prompt, or a single one for all. Pure: what an allocator remembers is its own members.
///  - Counts follow their prompts when prompts are permuted, up to prompts that are tied: then the prompt with fewer
///    rollouts so far gets the next one, and among those the first.
///  - Throws std::invalid_argument for a budget below the sum of the lower or above the sum of the upper bounds, naming
///    both numbers: it is neither overdrawn nor left unspent in silence. clamp_budget gives the nearest that can be
///    spent. Throws it also for sizes that differ, crossed bounds, a rate outside [0, 1] and evidence that is negative
///    or not finite.
template <class A>
concept allocator = requires(const A& a, std::span<const prompt_belief> beliefs, std::size_t budget,
                             std::span<const count_range> ranges) {
  { a(beliefs, budget, ranges) } -> std::same_as<std::vector<std::uint32_t>>;
};

/// The range of prompt i.
inline count_range range_of(std::span<const count_range> ranges, std::size_t i) {
  return ranges[ranges.size() == 1 ? 0 : i];
}

/// The budget nearest to `budget` that `prompts` prompts can spend within their ranges. Throws std::invalid_argument
/// when there are neither one range nor one per prompt, or bounds are crossed. O(prompts).
inline std::size_t clamp_budget(std::size_t budget, std::size_t prompts, std::span<const count_range> ranges) {
  require(ranges.size() == prompts || ranges.size() == 1, "allocate: ", ranges.size(), " ranges for ", prompts,
          " prompts");
  std::size_t least = 0, most = 0;
  for (std::size_t i = 0; i < prompts; ++i) {
    const count_range r = range_of(ranges, i);
    require(r.lower <= r.upper, "allocate: range ", ranges.size() == 1 ? 0 : i, " is [", r.lower, ", ", r.upper, "]");
    least += r.lower;
    most += r.upper;
  }
  return budget < least ? least : budget > most ? most : budget;
}

namespace detail {

/// Every prompt at its lower bound, and what is left of the budget.
struct allocation {
  std::vector<std::uint32_t> counts;
  std::vector<std::uint32_t> caps;  ///< upper bounds
  std::size_t left = 0;
};

/// Checks the arguments of an allocator. O(n).
inline allocation begin_allocation(std::span<const prompt_belief> beliefs, std::size_t budget,
                                   std::span<const count_range> ranges) {
  const std::size_t n = beliefs.size(), nearest = clamp_budget(budget, n, ranges);
  require(budget == nearest, "allocate: a budget of ", budget, " rollouts for ", n, " prompts, whose bounds allow ",
          budget < nearest ? "no less" : "no more", " than ", nearest);
  allocation out{std::vector<std::uint32_t>(n), std::vector<std::uint32_t>(n), budget};
  for (std::size_t i = 0; i < n; ++i) {
    const prompt_belief& b = beliefs[i];
    require(b.evidence >= 0 && is_finite(b.evidence), "allocate: evidence of prompt ", i, " is ", b.evidence);
    require(b.evidence == 0 || (b.pass_rate >= 0 && b.pass_rate <= 1), "allocate: pass_rate of prompt ", i, " is ",
            b.pass_rate, ", outside [0, 1]");
    const count_range r = range_of(ranges, i);
    out.counts[i] = r.lower;
    out.caps[i] = r.upper;
    out.left -= r.lower;
  }
  return out;
}

}  // namespace detail

}  // namespace rlvr
