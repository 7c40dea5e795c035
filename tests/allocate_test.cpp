/// Allocators: against brute force, at their edges, and the properties that they all share.

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <string>
#include <vector>

#include <rlvr/allocate/capability.hpp>
#include <rlvr/allocate/gradient_variance.hpp>
#include <rlvr/allocate/knapsack.hpp>
#include <rlvr/allocate/uniform.hpp>
#include <rlvr/core/random.hpp>
#include <rlvr/core/saved_state.hpp>
#include <rlvr/laws/allocator.hpp>

#include "catch.hpp"

using namespace rlvr;
using counts_t = std::vector<std::uint32_t>;

namespace {

constexpr double not_a_number = std::numeric_limits<double>::quiet_NaN();
constexpr double infinity = std::numeric_limits<double>::infinity();

static_assert(allocator<uniform_allocation> && allocator<knapsack_allocation> && allocator<capability_allocation> &&
              allocator<gradient_variance_allocation>);
struct near_miss {  // counts of another type
  std::vector<int> operator()(std::span<const prompt_belief>, std::size_t, std::span<const count_range>) const;
};
static_assert(!allocator<near_miss>);

std::size_t total(const counts_t& counts) {
  return std::accumulate(counts.begin(), counts.end(), std::size_t{0});
}

std::vector<prompt_belief> beliefs_of(const std::vector<double>& rates) {
  std::vector<prompt_belief> out;
  for (double p : rates) out.push_back({p, 16, 1});
  return out;
}

/// The largest sum of value(i, n_i) over all counts within the ranges that sum to the budget.
template <class Value>
double best_value(const std::vector<count_range>& ranges, std::size_t budget, const Value& value, std::size_t i = 0) {
  if (i == ranges.size()) return budget == 0 ? 0 : -infinity;
  double best = -infinity;
  for (std::uint32_t n = ranges[i].lower; n <= ranges[i].upper && n <= budget; ++n)
    best = std::max(best, value(i, n) + best_value(ranges, budget - n, value, i + 1));
  return best;
}

template <class Value>
double value_of(const counts_t& counts, const Value& value) {
  double sum = 0;
  for (std::size_t i = 0; i < counts.size(); ++i) sum += value(i, counts[i]);
  return sum;
}

/// A random small problem: up to five prompts with ranges of their own, rates that include 0 and 1.
struct problem {
  std::vector<prompt_belief> beliefs;
  std::vector<count_range> ranges;
  std::size_t budget = 0;
};

problem make_problem(std::uint64_t seed, std::uint32_t least, bool with_extremes) {
  const random_key key = random_key(seed).fold(71);
  problem out;
  const std::size_t n = 1 + key.below(5, 0);
  std::size_t low = 0, high = 0;
  for (std::size_t i = 0; i < n; ++i) {
    double p = key.uniform(i);
    if (with_extremes && key.below(4, 100 + i) == 0) p = key.below(2, 200 + i) == 0 ? 0.0 : 1.0;
    out.beliefs.push_back({p, 16, 3 * key.uniform(i, 1)});
    const auto lower = static_cast<std::uint32_t>(least + key.below(3, 300 + i));
    out.ranges.push_back({lower, lower + static_cast<std::uint32_t>(key.below(7, 400 + i))});
    low += out.ranges[i].lower;
    high += out.ranges[i].upper;
  }
  out.budget = low + key.below(high - low + 1, 500);
  return out;
}

/// All allocators, with whatever state they have.
template <class F>
void for_each_allocator(const F& f) {
  f(uniform_allocation{}, "uniform");
  f(knapsack_allocation{}, "knapsack");
  f(knapsack_allocation{.confidence = 1}, "knapsack, all to the objective");
  f(capability_allocation{}, "capability");
  capability_allocation failing;
  failing.window.add(0.9);
  f(failing, "capability, failing");
  f(gradient_variance_allocation{}, "gradient variance");
}

}  // namespace

TEST_CASE("spend is optimal for concave values, whatever the start") {
  for (std::uint64_t seed = 0; seed < 300; ++seed) {
    const problem x = make_problem(seed, 0, false);
    // Random concave values: sorted random differences, some of them equal and some negative.
    const random_key key(seed);
    std::vector<std::vector<double>> gains(x.beliefs.size());
    for (std::size_t i = 0; i < gains.size(); ++i) {
      for (std::uint32_t n = 0; n < 16; ++n) gains[i].push_back(std::floor(6 * key.uniform(i, n)) - 1);
      std::sort(gains[i].rbegin(), gains[i].rend());
    }
    const auto value = [&](std::size_t i, std::uint32_t n) {
      return std::accumulate(gains[i].begin(), gains[i].begin() + n, 0.0);
    };
    counts_t counts, caps;
    std::size_t start = 0;
    for (const count_range& r : x.ranges) {
      counts.push_back(r.lower);
      caps.push_back(r.upper);
      start += r.lower;
    }
    const std::size_t left =
        spend(x.budget - start, counts, caps, [&](std::size_t i, std::uint32_t n) { return gains[i][n]; });
    CHECK(left == 0);
    CHECK(total(counts) == x.budget);
    CHECK(value_of(counts, value) == best_value(x.ranges, x.budget, value));
  }
}

TEST_CASE("spend: ties, caps, and what it refuses") {
  const auto flat = [](std::size_t, std::uint32_t) { return 1.0; };
  counts_t counts{3, 0, 1, 0}, caps{9, 9, 9, 1};
  CHECK(spend(4, counts, caps, flat) == 0);
  CHECK(counts == counts_t{3, 2, 2, 1});  // the fewest first, then the first; the last is at its cap
  CHECK(spend(1, counts, caps, flat) == 0);
  CHECK(counts == counts_t{3, 3, 2, 1});
  CHECK(spend(100, counts, caps, flat) == 100 - (6 + 6 + 7));
  CHECK(counts == counts_t{9, 9, 9, 1});
  counts = {5};
  caps = {3};  // above its cap: left alone
  CHECK(spend(1, counts, caps, flat) == 1);
  CHECK(counts == counts_t{5});
  counts = {0, 0};
  caps = {4, 4};
  CHECK(spend(0, counts, caps, [](std::size_t, std::uint32_t) { return not_a_number; }) == 0);
  CHECK_THROWS_WITH(spend(1, counts, caps, [](std::size_t i, std::uint32_t) { return i == 1 ? not_a_number : 0; }),
                    Catch::Contains("gain of prompt 1 at 0 rollouts is NaN"));
  caps = {4};
  CHECK_THROWS_WITH(spend(1, counts, caps, flat), Catch::Contains("2 counts and 1 caps"));
}

TEST_CASE("every allocator spends the budget within the ranges") {
  for_each_allocator([](const auto& allocate, const std::string& name) {
    for (std::uint64_t seed = 0; seed < 400; ++seed) {
      problem x = make_problem(seed, 0, true);
      if (seed % 3 == 0) x.beliefs[0].evidence = 0;
      if (seed % 5 == 0) x.beliefs.back().evidence = 3;  // some history, too little for knapsack
      INFO(name << ", seed " << seed);
      const counts_t counts = allocate(x.beliefs, x.budget, x.ranges);
      REQUIRE(counts.size() == x.beliefs.size());
      CHECK(total(counts) == x.budget);
      for (std::size_t i = 0; i < counts.size(); ++i) {
        CHECK(counts[i] >= x.ranges[i].lower);
        CHECK(counts[i] <= x.ranges[i].upper);
      }
      CHECK(allocate(x.beliefs, x.budget, x.ranges) == counts);
    }
  });
}

TEST_CASE("every allocator keeps the laws, and the laws catch those that do not") {
  for_each_allocator([](const auto& allocate, const std::string& name) {
    INFO(name);
    CHECK(laws::allocator_laws(allocate) == laws::violations{});
  });
  const auto first = [](const laws::violations& broken) { return broken.empty() ? std::string("kept") : broken[0]; };
  using beliefs_t = std::span<const prompt_belief>;
  using ranges_t = std::span<const count_range>;
  const uniform_allocation good;
  CHECK_THAT(first(laws::allocator_laws([&](beliefs_t b, std::size_t n, ranges_t r) {
               counts_t counts = good(b, n, r);
               if (n % 3 == 0) --*std::max_element(counts.begin(), counts.end());
               return counts;
             })),
             Catch::Contains("spending"));
  CHECK_THAT(first(laws::allocator_laws([&](beliefs_t b, std::size_t n, ranges_t) {
               const std::vector<count_range> free{{0, 1000}};
               return good(b, n, free);
             })),
             Catch::Contains("ranges"));
  int calls = 0;
  CHECK_THAT(first(laws::allocator_laws([&](beliefs_t b, std::size_t n, ranges_t r) {
               counts_t counts = good(b, n, r);
               if (++calls % 2 == 0 && counts[0] > r[0].lower && counts[1] < r[1].upper) --counts[0], ++counts[1];
               return counts;
             })),
             Catch::Contains("pure"));
  CHECK_THAT(first(laws::allocator_laws([&](beliefs_t b, std::size_t n, ranges_t r) {
               counts_t counts = good(b, n, r);  // the last takes what it can from the first
               for (; counts[0] > range_of(r, 0).lower && counts.back() < range_of(r, b.size() - 1).upper; --counts[0])
                 ++counts.back();
               return counts;
             })),
             Catch::Contains("order"));
  CHECK_THAT(first(laws::allocator_laws([&](beliefs_t b, std::size_t n, ranges_t r) {
               return good(b, clamp_budget(n, b.size(), r), r);  // clamps in silence
             })),
             Catch::Contains("a budget below the lower bounds") || Catch::Contains("a budget above the upper bounds"));
  CHECK_THAT(first(laws::allocator_laws([&](beliefs_t b, std::size_t n, ranges_t r) {
               return good(std::vector<prompt_belief>(b.size()), n, r);  // checks no belief
             })),
             Catch::Contains("a pass rate outside [0, 1]"));
  CHECK_THAT(first(laws::allocator_laws([&](beliefs_t b, std::size_t n, ranges_t r) {
               counts_t counts = good(b, n, r);
               counts.push_back(0);
               return counts;
             })),
             Catch::Contains("shapes"));
}

TEST_CASE("every allocator: one range for all, no prompts, one prompt") {
  for_each_allocator([](const auto& allocate, const std::string& name) {
    INFO(name);
    const auto beliefs = beliefs_of({0.2, 0.5, 0.9, 0.01});
    const std::vector<count_range> one{{2, 20}}, each(4, count_range{2, 20});
    CHECK(allocate(beliefs, 33, one) == allocate(beliefs, 33, each));
    CHECK(allocate({}, 0, one).empty());
    CHECK(allocate({}, 0, {}).empty());
    CHECK(allocate(beliefs_of({0.3}), 7, one) == counts_t{7});
    CHECK(allocate(beliefs, 8, one) == counts_t{2, 2, 2, 2});
    CHECK(allocate(beliefs, 80, one) == counts_t{20, 20, 20, 20});
  });
}

TEST_CASE("every allocator follows a permutation of prompts without ties") {
  for_each_allocator([](const auto& allocate, const std::string& name) {
    if (name == "uniform") return;  // all prompts are tied
    for (std::uint64_t seed = 0; seed < 200; ++seed) {
      INFO(name << ", seed " << seed);
      const problem x = make_problem(seed, 1, false);
      std::vector<std::size_t> order(x.beliefs.size());
      std::iota(order.begin(), order.end(), std::size_t{0});
      shuffle(order, random_key(seed));
      problem y{{}, {}, x.budget};
      for (std::size_t i : order) {
        y.beliefs.push_back(x.beliefs[i]);
        y.ranges.push_back(x.ranges[i]);
      }
      // A surplus has nobody to go to here, so no tie is broken by position.
      const counts_t a = allocate(x.beliefs, x.budget, x.ranges), b = allocate(y.beliefs, y.budget, y.ranges);
      for (std::size_t k = 0; k < order.size(); ++k) CHECK(b[k] == a[order[k]]);
    }
  });
}

TEST_CASE("every allocator: tied prompts differ by one rollout at most, the first ahead") {
  for_each_allocator([](const auto& allocate, const std::string& name) {
    INFO(name);
    for (double p : {0.0, 0.3, 1.0}) {
      const std::vector<count_range> ranges{{2, 20}};
      CHECK(allocate(beliefs_of({p, p, p, p}), 22, ranges) == counts_t{6, 6, 5, 5});
    }
    const std::vector<prompt_belief> unseen(3, prompt_belief{not_a_number, 0, not_a_number});
    const std::vector<count_range> ranges{{0, 20}};
    CHECK(allocate(unseen, 8, ranges) == counts_t{3, 3, 2});
  });
}

TEST_CASE("every allocator: a larger budget takes no rollout from anybody") {
  for_each_allocator([](const auto& allocate, const std::string& name) {
    const auto beliefs = beliefs_of({0.03, 0.2, 0.5, 0.7, 0.95});
    const std::vector<count_range> ranges{{1, 24}};
    counts_t before = allocate(beliefs, 5, ranges);
    for (std::size_t budget = 6; budget <= 120; ++budget) {
      INFO(name << ", budget " << budget);
      const counts_t now = allocate(beliefs, budget, ranges);
      for (std::size_t i = 0; i < now.size(); ++i) CHECK(now[i] >= before[i]);
      before = now;
    }
  });
}

TEST_CASE("every allocator names what is wrong with its arguments") {
  for_each_allocator([](const auto& allocate, const std::string& name) {
    INFO(name);
    auto beliefs = beliefs_of({0.2, 0.5});
    const std::vector<count_range> ranges{{2, 20}};
    CHECK_THROWS_WITH(allocate(beliefs, 3, ranges),
                      Catch::Contains("a budget of 3 rollouts for 2 prompts") && Catch::Contains("no less than 4"));
    CHECK_THROWS_WITH(allocate(beliefs, 41, ranges),
                      Catch::Contains("a budget of 41 rollouts for 2 prompts") && Catch::Contains("no more than 40"));
    CHECK_THROWS_WITH(allocate({}, 1, ranges), Catch::Contains("a budget of 1 rollouts for 0 prompts"));
    const std::vector<count_range> three(3), crossed{{2, 20}, {5, 4}};
    CHECK_THROWS_WITH(allocate(beliefs, 10, three), Catch::Contains("3 ranges for 2 prompts"));
    CHECK_THROWS_WITH(allocate(beliefs, 10, {}), Catch::Contains("0 ranges for 2 prompts"));
    CHECK_THROWS_WITH(allocate(beliefs, 10, crossed), Catch::Contains("range 1 is [5, 4]"));
    for (double bad : {not_a_number, -0.01, 1.01, infinity}) {
      beliefs[1].pass_rate = bad;
      CHECK_THROWS_WITH(allocate(beliefs, 10, ranges), Catch::Contains("pass_rate of prompt 1 is"));
    }
    beliefs[1].evidence = 0;  // not read then
    CHECK(total(allocate(beliefs, 10, ranges)) == 10);
    for (double bad : {not_a_number, -1.0, infinity}) {
      beliefs[0].evidence = bad;
      CHECK_THROWS_WITH(allocate(beliefs, 10, ranges), Catch::Contains("evidence of prompt 0 is"));
    }
  });
}

TEST_CASE("clamp_budget gives the nearest budget that can be spent") {
  const std::vector<count_range> one{{2, 8}}, each{{2, 8}, {0, 3}};
  CHECK(clamp_budget(0, 3, one) == 6);
  CHECK(clamp_budget(6, 3, one) == 6);
  CHECK(clamp_budget(17, 3, one) == 17);
  CHECK(clamp_budget(25, 3, one) == 24);
  CHECK(clamp_budget(1, 2, each) == 2);
  CHECK(clamp_budget(12, 2, each) == 11);
  CHECK(clamp_budget(12, 0, {}) == 0);
  // Bounds whose sum does not fit in 32 bits.
  const std::vector<count_range> huge{{0, std::numeric_limits<std::uint32_t>::max()}};
  CHECK(clamp_budget(6'000'000'000, 2, huge) == 6'000'000'000);
}

TEST_CASE("uniform: equal within the ranges") {
  const uniform_allocation allocate;
  const auto beliefs = beliefs_of({0, 1, 0.5, 0.2});
  const std::vector<count_range> ranges{{0, 3}, {2, 9}, {8, 9}, {0, 9}};
  CHECK(allocate(beliefs, 20, ranges) == counts_t{3, 5, 8, 4});
}

TEST_CASE("knapsack: its gain is the difference of its values, and falls") {
  for (double p : {1e-9, 0.01, 0.3, 0.5, 0.9, 1 - 1e-9})
    for (std::uint32_t n = 0; n < 40; ++n) {
      const double gain = knapsack_allocation::gain(p, n);
      CHECK(gain == Approx(knapsack_allocation::value(p, n + 1) - knapsack_allocation::value(p, n)).margin(1e-15));
      CHECK(gain >= knapsack_allocation::gain(p, n + 1));
    }
  for (double p : {0.0, 1.0})
    for (std::uint32_t n = 0; n < 5; ++n) {
      CHECK(knapsack_allocation::value(p, n) == 0);
      CHECK(knapsack_allocation::gain(p, n) == 0);
    }
  CHECK(knapsack_allocation::value(0.5, 2) == Approx(0.0625));  // half of all pairs differ, times 1/8
}

TEST_CASE("knapsack: greedy is exact") {
  const knapsack_allocation allocate{.confidence = 1};
  for (std::uint64_t seed = 0; seed < 400; ++seed) {
    const problem x = make_problem(seed, seed % 2 == 0 ? 0 : 2, true);
    const auto value = [&](std::size_t i, std::uint32_t n) {
      return knapsack_allocation::value(x.beliefs[i].pass_rate, n);
    };
    const counts_t counts = allocate(x.beliefs, x.budget, x.ranges);
    CHECK(value_of(counts, value) == Approx(best_value(x.ranges, x.budget, value)).epsilon(1e-12).margin(1e-15));
  }
}

TEST_CASE("knapsack: who gets what beside the objective") {
  const knapsack_allocation allocate;
  const std::vector<count_range> ranges{{2, 128}};
  // ln(0.1) / ln(0.5) = 3.32: one prompt with p = 1/2 needs 3 beyond its 2, the rest goes to those with p = 0.
  auto beliefs = beliefs_of({0.5, 0, 0, 1});
  CHECK(allocate(beliefs, 32, ranges) == counts_t{5, 13, 12, 2});
  CHECK(allocate(beliefs, 11, ranges) == counts_t{5, 2, 2, 2});
  CHECK(allocate(beliefs, 10, ranges) == counts_t{4, 2, 2, 2});
  CHECK(knapsack_allocation{.confidence = 1}(beliefs, 32, ranges) == counts_t{26, 2, 2, 2});
  CHECK(knapsack_allocation{.confidence = 0}(beliefs, 32, ranges) == counts_t{2, 14, 14, 2});
  // Nobody with p = 0: to p = 1 and those without history, until they are as many as these.
  beliefs = beliefs_of({0.5, 1, 1, 0.3});
  beliefs[3].evidence = 7;  // below 8: gets 33 / 4 first
  CHECK(allocate(beliefs, 33, ranges) == counts_t{5, 10, 9, 9});
  beliefs[3].evidence = 8;
  const counts_t enough = allocate(beliefs, 33, ranges);  // p = 0.3 needs ln(0.1) / ln(0.7) = 6.5
  CHECK(enough[0] + enough[3] == (2 + 3) + (2 + 6));
  CHECK(enough[1] == 10);
  CHECK(enough[2] == 10);
  beliefs[3] = {0, 0, 1};  // never seen, which is not p = 0
  CHECK(knapsack_allocation{.min_evidence = 0}(beliefs, 33, ranges) == counts_t{5, 10, 9, 9});
  // Nothing informative: even among p = 0, even among all when there is none.
  CHECK(allocate(beliefs_of({0, 1, 0}), 32, ranges) == counts_t{15, 2, 15});
  CHECK(allocate(beliefs_of({1, 1, 1}), 32, ranges) == counts_t{11, 11, 10});
  // Everybody who could take the surplus is full: the objective gets it, and last whoever has room.
  const std::vector<count_range> tight{{2, 9}, {2, 3}, {2, 4}};
  CHECK(allocate(beliefs_of({0.5, 0, 1}), 14, tight) == counts_t{9, 3, 2});
  CHECK(allocate(beliefs_of({0.5, 0, 1}), 16, tight) == counts_t{9, 3, 4});
  // The even share of unknown prompts stops at what the budget has.
  const std::vector<count_range> high{{0, 20}, {9, 20}, {0, 20}};
  auto unknown = beliefs_of({0.5, 0.5, 0.5});
  unknown[0].evidence = unknown[2].evidence = 0;
  CHECK(allocate(unknown, 12, high) == counts_t{2, 9, 1});
  // Rates so close to 0 and 1 that 1 - p rounds: they need more than there is.
  CHECK(allocate(beliefs_of({1e-300, 1e-300, 0}), 30, ranges) == counts_t{14, 14, 2});
  CHECK(total(allocate(beliefs_of({1e-300, 1 - 1e-16, 0.5}), 60, ranges)) == 60);
}

TEST_CASE("knapsack: options out of range") {
  const auto beliefs = beliefs_of({0.5});
  const std::vector<count_range> ranges{{0, 9}};
  CHECK_THROWS_WITH(knapsack_allocation{.min_evidence = not_a_number}(beliefs, 3, ranges),
                    Catch::Contains("min_evidence is"));
  CHECK_THROWS_WITH(knapsack_allocation{.min_evidence = -1}(beliefs, 3, ranges), Catch::Contains("min_evidence is -1"));
  CHECK_THROWS_WITH(knapsack_allocation{.confidence = 1.5}(beliefs, 3, ranges), Catch::Contains("confidence is 1.5"));
  CHECK_THROWS_WITH(knapsack_allocation{.confidence = not_a_number}(beliefs, 3, ranges),
                    Catch::Contains("confidence is"));
}

TEST_CASE("capability: the shape follows the failures of the window") {
  capability_allocation a;
  CHECK(a.beta_shape().alpha == 9);  // kappa - 2 before the first step
  CHECK(a.beta_shape().beta == 2);
  a.window = failure_window(2);
  a.window.add(0.8);
  CHECK(a.beta_shape().alpha == Approx(1 + 9 * 0.8));
  a.window.add(0.6);
  CHECK(a.beta_shape().alpha == Approx(1 + 9 * 0.7));
  a.window.add(0.1);  // 0.8 has left: mean 0.35, sigmoid(-1.5)
  CHECK(a.beta_shape().alpha == Approx(1 + 9 / (1 + std::exp(1.5))));
  CHECK(a.beta_shape().beta == Approx(11 - a.beta_shape().alpha));
  a.window.add(0.9);  // exactly 1/2 is not above it: sigmoid(0)
  CHECK(a.beta_shape().alpha == Approx(5.5));
  a.window = failure_window(1);
  a.window.add(1);
  CHECK(a.beta_shape().alpha == 10);
  CHECK(a.beta_shape().beta == 1);

  CHECK_THROWS_WITH(failure_window(0), Catch::Contains("length is 0"));
  failure_window window;
  for (double bad : {not_a_number, -0.1, 1.1}) CHECK_THROWS_WITH(window.add(bad), Catch::Contains("a failure rate of"));
  CHECK(window.rates().empty());
}

TEST_CASE("capability: the window is saved and restored") {
  failure_window window(3), other(3), shorter(2);
  for (double rate : {0.9, 0.8, 0.7, 0.2}) window.add(rate);
  const auto bytes = save_state(window);
  restore_state(other, bytes);
  for (failure_window* w : {&window, &other}) w->add(0.6);
  CHECK(capability_allocation{.window = window}.beta_shape().alpha ==
        capability_allocation{.window = other}.beta_shape().alpha);
  CHECK(std::equal(window.rates().begin(), window.rates().end(), other.rates().begin(), other.rates().end()));
  CHECK_THROWS_AS(restore_state(shorter, bytes), state_error);
  auto flipped = bytes;
  flipped[flipped.size() / 2] ^= std::byte{4};
  CHECK_THROWS_AS(restore_state(other, flipped), state_error);
}

TEST_CASE("capability: greedy is exact") {
  for (std::uint64_t seed = 0; seed < 300; ++seed) {
    const problem x = make_problem(seed, 0, true);
    capability_allocation allocate;
    if (seed % 3 > 0) allocate.window.add(random_key(seed).uniform(9));
    const auto [alpha, beta] = allocate.beta_shape();
    double mean = 0, variance = 0;
    for (const prompt_belief& b : x.beliefs) mean += b.pass_rate / static_cast<double>(x.beliefs.size());
    for (const prompt_belief& b : x.beliefs)
      variance += (b.pass_rate - mean) * (b.pass_rate - mean) / static_cast<double>(x.beliefs.size());
    const double temperature = 3 + 9 * std::min(variance / 0.16666666666666666, 1.0);
    const double log_constant = std::lgamma(alpha + beta) - std::lgamma(alpha) - std::lgamma(beta);
    const auto value = [&, alpha = alpha, beta = beta](std::size_t i, std::uint32_t n) {
      const double p = std::clamp(x.beliefs[i].pass_rate, 0.01, 0.99);
      return (1 - std::exp(-n * p * (1 - p) / temperature)) *
             std::exp(log_constant + (alpha - 1) * std::log(p) + (beta - 1) * std::log(1 - p));
    };
    const counts_t counts = allocate(x.beliefs, x.budget, x.ranges);
    CHECK(value_of(counts, value) == Approx(best_value(x.ranges, x.budget, value)).epsilon(1e-11).margin(1e-15));
  }
}

TEST_CASE("capability: two prompts, every budget") {
  const std::vector<double> rates{0.2, 0.75};
  const std::vector<count_range> ranges{{0, 150}};
  capability_allocation allocate;
  allocate.window.add(0.5);
  const auto [alpha, beta] = allocate.beta_shape();
  const double temperature = 3 + 9 * (0.275 * 0.275 * 6);  // the variance over both, divided by 2
  const auto value = [&, alpha = alpha, beta = beta](std::size_t i, std::size_t n) {
    const double p = rates[i];
    return (1 - std::exp(-static_cast<double>(n) * p * (1 - p) / temperature)) * std::pow(p, alpha - 1) *
           std::pow(1 - p, beta - 1);
  };
  for (std::size_t budget = 0; budget <= 150; ++budget) {
    double best = 0;
    for (std::size_t n = 0; n <= budget; ++n) best = std::max(best, value(0, n) + value(1, budget - n));
    const counts_t counts = allocate(beliefs_of(rates), budget, ranges);
    CHECK(value(0, counts[0]) + value(1, counts[1]) == Approx(best).epsilon(1e-13));
  }
}

TEST_CASE("capability: failing exploits, succeeding explores, no history is 1/2") {
  const std::vector<count_range> ranges{{2, 128}};
  const auto beliefs = beliefs_of({0.15, 0.5, 0.85});
  capability_allocation failing, succeeding;
  failing.window.add(0.9);
  succeeding.window.add(0.05);
  const counts_t easy = failing(beliefs, 60, ranges), hard = succeeding(beliefs, 60, ranges);
  CHECK(easy[2] > easy[0]);
  CHECK(hard[0] > hard[2]);
  auto unknown = beliefs;
  unknown[1] = {not_a_number, 0, 1};
  capability_allocation balanced;
  balanced.window.add(0.5);  // alpha = beta
  const std::vector<count_range> wide{{0, 400}};
  for (const auto& allocate : {failing, succeeding, balanced})
    CHECK(allocate(unknown, 400, wide) == allocate(beliefs, 400, wide));
  const counts_t middle = balanced(beliefs, 60, ranges);
  CHECK(middle[1] > middle[0]);
  CHECK(middle[0] == middle[2]);
  // A concentration that would underflow the density.
  capability_allocation sharp{.concentration = 5000};
  sharp.window.add(0.9);
  CHECK(sharp(beliefs, 60, ranges) == counts_t{2, 2, 56});
}

TEST_CASE("capability: options out of range") {
  const auto beliefs = beliefs_of({0.5});
  const std::vector<count_range> ranges{{0, 9}};
  CHECK_THROWS_WITH(capability_allocation{.concentration = 2}(beliefs, 3, ranges),
                    Catch::Contains("concentration is 2"));
  CHECK_THROWS_WITH(capability_allocation{.min_temperature = 0}(beliefs, 3, ranges),
                    Catch::Contains("temperatures from 0"));
  CHECK_THROWS_WITH((capability_allocation{.min_temperature = 5, .max_temperature = 4}(beliefs, 3, ranges)),
                    Catch::Contains("temperatures from 5 to 4"));
  CHECK_THROWS_WITH(capability_allocation{.min_rate = 0.5}(beliefs, 3, ranges), Catch::Contains("min_rate is 0.5"));
  CHECK_THROWS_WITH(capability_allocation{.min_rate = not_a_number}(beliefs, 3, ranges),
                    Catch::Contains("min_rate is"));
}

TEST_CASE("gradient variance: in proportion to the weights, rounded") {
  using allocation = gradient_variance_allocation;
  CHECK(allocation::weight(0.25, 3, 0, 2) == 6);
  CHECK(allocation::weight(0.5, 1, 1e-3, 2) == Approx(1 / std::sqrt(0.502)));
  CHECK(allocation::weight(0, 3, 1e-3, 2) == 0);
  CHECK(allocation::weight(0.5, 0, 1e-3, 2) == 0);

  const allocation allocate{.a = 0};
  const std::vector<count_range> ranges{{0, 1000}};
  std::vector<prompt_belief> beliefs{{1, 8, 1}, {0.25, 8, 1}, {0.25, 8, 2}, {0, 8, 5}};  // weights 1 2 4 0
  CHECK(allocate(beliefs, 70, ranges) == counts_t{10, 20, 40, 0});
  CHECK(allocate(beliefs, 1, ranges) == counts_t{0, 0, 1, 0});
  const std::vector<count_range> tight{{2, 5}, {2, 5}, {2, 5}, {2, 90}};
  CHECK(allocate(beliefs, 17, tight) == counts_t{5, 5, 5, 2});  // p = 0 only when the others are full
  CHECK(allocate(beliefs, 20, tight) == counts_t{5, 5, 5, 5});
  beliefs[3].evidence = 0;  // no history: an even share first
  CHECK(allocate(beliefs, 40, ranges) == counts_t{4, 9, 17, 10});
}

TEST_CASE("gradient variance: nearest to the proportional share") {
  // Webster's counts are the whole numbers that minimise sum (n_i - q_i)^2 / q_i for the quotas q_i.
  for (std::uint64_t seed = 0; seed < 300; ++seed) {
    problem x = make_problem(seed, 0, false);
    x.budget = std::min<std::size_t>(x.budget, 8);
    for (count_range& r : x.ranges) r = {0, 8};
    x.budget = clamp_budget(x.budget, x.ranges.size(), x.ranges);
    double sum = 0;
    std::vector<double> quotas;
    for (const prompt_belief& b : x.beliefs)
      sum += quotas.emplace_back(gradient_variance_allocation::weight(b.pass_rate, b.score_norm, 1e-3, 2));
    for (double& q : quotas) q *= static_cast<double>(x.budget) / sum;
    if (x.budget == 0) continue;
    const auto value = [&](std::size_t i, std::uint32_t n) { return -(n - quotas[i]) * (n - quotas[i]) / quotas[i]; };
    const counts_t counts = gradient_variance_allocation{}(x.beliefs, x.budget, x.ranges);
    CHECK(value_of(counts, value) == Approx(best_value(x.ranges, x.budget, value)).epsilon(1e-10).margin(1e-12));
  }
}

TEST_CASE("gradient variance: bad numbers") {
  std::vector<prompt_belief> beliefs{{0.5, 8, 1}, {0.5, 8, 1}};
  const std::vector<count_range> ranges{{0, 9}};
  for (double bad : {not_a_number, -1.0, infinity}) {
    beliefs[1].score_norm = bad;
    CHECK_THROWS_WITH(gradient_variance_allocation{}(beliefs, 3, ranges), Catch::Contains("score_norm of prompt 1 is"));
  }
  beliefs[1].score_norm = 1;
  CHECK_THROWS_WITH(gradient_variance_allocation{.a = -1}(beliefs, 3, ranges), Catch::Contains("a is -1"));
  CHECK_THROWS_WITH(gradient_variance_allocation{.b = not_a_number}(beliefs, 3, ranges), Catch::Contains("b is"));
}
