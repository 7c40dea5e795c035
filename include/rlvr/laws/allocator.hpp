#pragma once
/// The laws of allocator.

#include <cstddef>
#include <cstdint>
#include <limits>
#include <span>
#include <string_view>
#include <vector>

#include <rlvr/allocate/allocator.hpp>
#include <rlvr/core/error.hpp>
#include <rlvr/core/random.hpp>
#include <rlvr/laws/report.hpp>

namespace rlvr::laws {

/// Tries what allocator promises on problems of its own: pass rates that include 0 and 1, prompts without history,
/// ranges that differ, every budget that fits and the first ones that do not. `a` has whatever options it was made
/// with.
template <allocator A>
violations allocator_laws(const A& a) {
  report out(law_options{});
  constexpr double nan = std::numeric_limits<double>::quiet_NaN();
  using counts_t = std::vector<std::uint32_t>;

  for (std::uint64_t seed = 0; seed < 8; ++seed) {
    const random_key key(seed);
    std::vector<prompt_belief> beliefs;
    std::vector<count_range> ranges;
    std::size_t least = 0, most = 0;
    for (std::size_t i = 0; i < 7; ++i) {
      const double p = i == 1 ? 0.0 : i == 2 ? 1.0 : key.uniform(i);
      beliefs.push_back({p, i == 3 ? 0.0 : 16.0, 1 + key.uniform(i, 1)});
      const auto lower = static_cast<std::uint32_t>(key.below(4, i));
      ranges.push_back({lower, lower + static_cast<std::uint32_t>(key.below(9, 100 + i))});
      least += lower;
      most += ranges[i].upper;
    }
    beliefs[3].pass_rate = nan;

    for (std::size_t budget = least; budget <= most; ++budget) {
      const counts_t counts = a(beliefs, budget, ranges);
      if (counts.size() != beliefs.size()) {
        out.fail(concat("shapes: ", counts.size(), " counts for ", beliefs.size(), " prompts"));
        return out.take();
      }
      std::size_t sum = 0;
      bool within = true;
      for (std::size_t i = 0; i < counts.size(); ++i) {
        sum += counts[i];
        within = within && counts[i] >= ranges[i].lower && counts[i] <= ranges[i].upper;
      }
      out.check(sum == budget, concat("spending: ", sum, " rollouts for a budget of ", budget));
      out.check(within, concat("ranges: a count is outside its range for a budget of ", budget));
      out.check(a(beliefs, budget, ranges) == counts, "pure: the same arguments again");

      const std::vector<prompt_belief> turned(beliefs.rbegin(), beliefs.rend());
      const std::vector<count_range> turned_ranges(ranges.rbegin(), ranges.rend());
      const counts_t other = a(turned, budget, turned_ranges);
      bool follows = other.size() == counts.size();
      for (std::size_t i = 0; follows && i < counts.size(); ++i) {
        const std::uint32_t x = counts[i], y = other[counts.size() - 1 - i];
        follows = x <= y + 1 && y <= x + 1;  // ties differ by one
      }
      out.check(follows, concat("order: counts do not follow their prompts for a budget of ", budget));
      if (out.count() > 0) return out.take();
    }

    const std::vector<count_range> one{{1, 9}}, each(beliefs.size(), one[0]);
    out.check(a(beliefs, 30, one) == a(beliefs, 30, each), "ranges: one for all is the same for each");
    out.check(a({}, 0, one).empty(), "no prompts: no counts");
    if (least > 0) out.rejects([&] { a(beliefs, least - 1, ranges); }, "a budget below the lower bounds");
    out.rejects([&] { a(beliefs, most + 1, ranges); }, "a budget above the upper bounds");
    const std::vector<count_range> fewer(beliefs.size() - 1, one[0]), crossed{{9, 1}};
    out.rejects([&] { a(beliefs, 30, fewer); }, "fewer ranges than prompts");
    out.rejects([&] { a(beliefs, 30, crossed); }, "crossed bounds");
    for (const double bad : {nan, -0.1, 1.1}) {
      std::vector<prompt_belief> broken = beliefs;
      broken[0].pass_rate = bad;
      out.rejects([&] { a(broken, 30, one); }, "a pass rate outside [0, 1]");
      broken[0] = {0.5, bad < 1 ? bad : std::numeric_limits<double>::infinity(), 1};
      out.rejects([&] { a(broken, 30, one); }, "evidence that is negative or not finite");
    }
  }
  return out.take();
}

}  // namespace rlvr::laws
