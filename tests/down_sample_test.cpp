/// Down-sampling: against all subsets, ties, unscored rollouts, and the token mask.

#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>
#include <vector>

#include <rlvr/core/moments.hpp>
#include <rlvr/core/random.hpp>
#include <rlvr/core/slice.hpp>
#include <rlvr/select/down_sample.hpp>

#include "catch.hpp"

using namespace rlvr;
using indices_t = std::vector<std::size_t>;

namespace {

constexpr double not_a_number = std::numeric_limits<double>::quiet_NaN();

double variance_at(const std::vector<double>& values, const indices_t& indices) {
  std::vector<double> kept;
  for (std::size_t i : indices) kept.push_back(values[i]);
  return moments_of(kept).variance(0);
}

/// The largest variance of any m of the values for which allowed[i].
double best_variance(const std::vector<double>& values, std::size_t m, std::uint32_t allowed = ~0u) {
  double best = -1;
  for (std::uint32_t set = 0; set < (1u << values.size()); ++set) {
    if (static_cast<std::size_t>(std::popcount(set)) != m || (set & ~allowed) != 0) continue;
    indices_t members;
    for (std::size_t i = 0; i < values.size(); ++i)
      if (set >> i & 1) members.push_back(i);
    best = std::max(best, variance_at(values, members));
  }
  return best;
}

std::vector<verdict> verdicts_of(const std::vector<double>& rewards) {
  std::vector<verdict> out;
  for (double r : rewards) out.push_back({r, true});
  return out;
}

}  // namespace

TEST_CASE("max_variance_subset is the best of all subsets") {
  for (std::uint64_t seed = 0; seed < 120; ++seed) {
    const random_key key(seed);
    const std::size_t n = 1 + key.below(9, 0);
    std::vector<double> values;
    for (std::size_t i = 0; i < n; ++i) {
      const double u = key.uniform(i);
      // continuous, binary, few levels, and far from zero
      values.push_back(seed % 4 == 0 ? u : seed % 4 == 1 ? std::round(u) : seed % 4 == 2 ? std::floor(4 * u) : 1e6 + u);
    }
    for (std::size_t m = 1; m <= n; ++m) {
      const indices_t kept = max_variance_subset(values, m);
      REQUIRE(kept.size() == m);
      CHECK(std::is_sorted(kept.begin(), kept.end()));
      CHECK(std::adjacent_find(kept.begin(), kept.end()) == kept.end());
      CHECK(kept.back() < n);
      CHECK(variance_at(values, kept) == Approx(best_variance(values, m)).epsilon(1e-9).margin(1e-12));
    }
  }
}

TEST_CASE("max_variance_subset: ties have a rule") {
  CHECK(max_variance_subset(std::vector<double>{2, 2, 2, 2}, 2) == indices_t{0, 1});  // all equal: the first
  CHECK(max_variance_subset(std::vector<double>{0, 1, 0, 1, 0, 1}, 4) == indices_t{1, 2, 3, 4});
  CHECK(max_variance_subset(std::vector<double>{0, 0, 0, 0, 1}, 4) == indices_t{0, 1, 2, 4});
  // Both splits of three have the same variance: the longer prefix of 1, 3, 0, 2.
  CHECK(max_variance_subset(std::vector<double>{0, 1, 0, 1}, 3) == indices_t{0, 1, 3});
  CHECK(max_variance_subset(std::vector<double>{3, 9, 5}, 1) == indices_t{1});  // no variance: the largest
  CHECK(max_variance_subset(std::vector<double>{5, 1, 3}, 3) == indices_t{0, 1, 2});
  // Shifted and scaled values keep their choice when this is exact.
  CHECK(max_variance_subset(std::vector<double>{64, 65, 64, 65, 64, 65}, 4) == indices_t{1, 2, 3, 4});
}

TEST_CASE("max_variance_subset names what is wrong") {
  const std::vector<double> values{1, 2};
  CHECK_THROWS_WITH(max_variance_subset(values, 0), Catch::Contains("0 of 2 values"));
  CHECK_THROWS_WITH(max_variance_subset(values, 3), Catch::Contains("3 of 2 values"));
  CHECK_THROWS_WITH(max_variance_subset({}, 1), Catch::Contains("1 of 0 values"));
  CHECK_THROWS_WITH(max_variance_subset(std::vector<double>{1, not_a_number}, 1), Catch::Contains("value 1 is"));
}

TEST_CASE("pods keeps the most varied rollouts of every group") {
  const std::vector<double> rewards{0, 0, 0, 1, 1, 1, 1, 0, .5, .25, 1, .5};
  const groups g{{0, 4, 8, 12}};
  // the success and the first failure; the first success and the failure; the largest and the smallest
  CHECK(pods(verdicts_of(rewards), g, 2) == indices_t{0, 3, 4, 7, 9, 10});
  CHECK(pods(verdicts_of(rewards), g, 4).size() == 12);
  CHECK(pods({}, groups{}, 3).empty());

  // The same as one group after another by brute force, some unscored.
  for (std::uint64_t seed = 0; seed < 60; ++seed) {
    const random_key key(seed);
    std::vector<verdict> verdicts;
    std::vector<double> values;
    std::uint32_t scored = 0;
    for (std::size_t i = 0; i < 8; ++i) {
      values.push_back(std::floor(5 * key.uniform(i)));
      verdicts.push_back({values[i], key.below(4, i) > 0});
      if (verdicts[i].scored)
        scored |= 1u << i;
      else
        verdicts[i].reward = not_a_number;  // not read
    }
    const indices_t kept = pods(verdicts, groups{{0, 8}}, 4);
    const auto available = static_cast<std::size_t>(std::popcount(scored));
    REQUIRE(kept.size() == std::min<std::size_t>(4, available));
    for (std::size_t i : kept) CHECK(verdicts[i].scored);
    if (!kept.empty())
      CHECK(variance_at(values, kept) == Approx(best_variance(values, kept.size(), scored)).margin(1e-12));
  }
}

TEST_CASE("pods: nothing scored, all equal, bad input") {
  std::vector<verdict> verdicts(6, verdict{1, true});
  const groups g{{0, 3, 6}};
  CHECK(pods(verdicts, g, 2) == indices_t{0, 1, 3, 4});
  for (std::size_t i = 0; i < 3; ++i) verdicts[i].scored = false;
  CHECK(pods(verdicts, g, 2) == indices_t{3, 4});
  CHECK_THROWS_WITH(pods(verdicts, g, 0), Catch::Contains("m is 0"));
  CHECK_THROWS_WITH(pods(verdicts, g, 4), Catch::Contains("4 rollouts wanted of group 0, which has 3"));
  CHECK_THROWS_WITH(pods(verdicts, groups{{0, 3}}, 2), Catch::Contains("groups of 3 rollouts for 6 verdicts"));
  verdicts[4].reward = not_a_number;
  CHECK_THROWS_WITH(pods(verdicts, g, 2), Catch::Contains("reward 4 is"));
}

TEST_CASE("take gives the kept rollouts with all that belongs to them") {
  rollouts r;
  r.offsets = {0, 2, 2, 5};
  r.tokens = {1, 2, 3, 4, 5};
  r.log_probs = {-1, -2, -3, -4, -5};
  r.entropies = {.1, .2, .3, .4, .5};
  r.prompts = {7, 7, 9};
  r.finished = {1, 0, 1};
  r.verdicts = {{1, true}, {0, false}, {.5, true}};
  const rollouts kept = take(r, std::vector<std::size_t>{2, 0});
  CHECK(kept.offsets == std::vector<std::size_t>{0, 3, 5});
  CHECK(kept.tokens == std::vector<token>{3, 4, 5, 1, 2});
  CHECK(kept.log_probs == std::vector<double>{-3, -4, -5, -1, -2});
  CHECK(kept.entropies == std::vector<double>{.3, .4, .5, .1, .2});
  CHECK(kept.prompts == std::vector<std::uint32_t>{9, 7});
  CHECK(kept.finished == std::vector<std::uint8_t>{1, 1});
  CHECK(kept.verdicts == std::vector<verdict>{{.5, true}, {1, true}});
  CHECK(take(r, {}).empty());
  CHECK(take(r, std::vector<std::size_t>{1}).offsets == std::vector<std::size_t>{0, 0});
  CHECK_THROWS_WITH(take(r, std::vector<std::size_t>{3}), Catch::Contains("rollout 3 of 3"));
}

TEST_CASE("d3s: within groups, then over the batch") {
  // Two groups with signal, one without: its zeros stand in the middle and go first.
  const std::vector<double> advantages{1.5, -.5, -.5, -.5, 0, 0, 0, 0, 1, 1, -1, -1};
  const std::vector<verdict> verdicts(12);
  const groups g{{0, 4, 8, 12}};
  // First stage: {0, 1}, {4, 5}, {8, 11}; of these the four most varied.
  CHECK(d3s_rollouts(advantages, verdicts, g, 2, {4, 1}) == indices_t{0, 1, 8, 11});
  CHECK(d3s_rollouts(advantages, verdicts, g, 2, {2, 1}) == indices_t{0, 11});
  CHECK(d3s_rollouts(advantages, verdicts, g, 2, {12, 1}) == indices_t{0, 1, 4, 5, 8, 11});  // all that is left
  CHECK(d3s_rollouts(advantages, verdicts, g, 4, {2.4, 1}) == indices_t{0, 11});
  CHECK(d3s_rollouts(advantages, verdicts, g, 4, {2.6, 1}).size() == 3);

  // The second stage alone is the best of the whole batch.
  for (std::uint64_t seed = 0; seed < 40; ++seed) {
    std::vector<double> a;
    for (std::size_t i = 0; i < 12; ++i) a.push_back(2 * random_key(seed).uniform(i) - 1);
    const indices_t kept = d3s_rollouts(a, verdicts, g, 4, {5, 1});
    CHECK(variance_at(a, kept) == Approx(best_variance(a, 5)).epsilon(1e-9));
  }

  std::vector<verdict> partly(12);
  partly[0] = {not_a_number, false};
  auto unread = advantages;
  unread[0] = not_a_number;
  CHECK(d3s_rollouts(unread, partly, g, 2, {2, 1}) == indices_t{8, 11});
}

TEST_CASE("d3s: the schedule is linear") {
  const d3s_size first{64, 0.2}, last{128, 1};
  CHECK(d3s_schedule(first, last, 0).rollouts == 64);
  CHECK(d3s_schedule(first, last, 1).tokens == 1);
  CHECK(d3s_schedule(first, last, 0.25).rollouts == Approx(80));
  CHECK(d3s_schedule(first, last, 0.25).tokens == Approx(0.4));
  for (double bad : {-0.1, 1.1, not_a_number})
    CHECK_THROWS_WITH(d3s_schedule(first, last, bad), Catch::Contains("progress is"));
}

TEST_CASE("d3s: the token mask has the largest |A| H of the kept rollouts") {
  rollouts r;
  r.offsets = {0, 3, 5, 5, 8};
  r.tokens.assign(8, 0);
  r.prompts = {0, 0, 1, 1};
  r.entropies = {.1, .9, .5, 2, 3, .6, .3, .5};
  const std::vector<double> advantages{1, 5, 1, -2};  // scores: .1 .9 .5 | 10 15 | | 1.2 .6 1.0
  const indices_t kept{0, 2, 3};
  using mask_t = std::vector<std::uint8_t>;
  CHECK(d3s_token_mask(r, advantages, kept, {1, 1}) == mask_t{1, 1, 1, 0, 0, 1, 1, 1});
  CHECK(d3s_token_mask(r, advantages, kept, {1, 0.5}) == mask_t{0, 1, 0, 0, 0, 1, 0, 1});
  CHECK(d3s_token_mask(r, advantages, kept, {1, 0.45}) == mask_t{0, 1, 0, 0, 0, 1, 0, 1});  // 2.7 of 6
  CHECK(d3s_token_mask(r, advantages, kept, {1, 0.01}) == mask_t{0, 0, 0, 0, 0, 1, 0, 0});  // at least one
  CHECK(d3s_token_mask(r, advantages, {}, {1, 0.5}) == mask_t(8, 0));
  // Ties: the first.
  CHECK(d3s_token_mask(r, std::vector<double>{0, 0, 0, 0}, kept, {1, 0.5}) == mask_t{1, 1, 1, 0, 0, 0, 0, 0});

  CHECK_THROWS_WITH(d3s_token_mask(r, std::vector<double>(3), kept, {1, 1}), Catch::Contains("3 advantages for 4"));
  CHECK_THROWS_WITH(d3s_token_mask(r, advantages, indices_t{4}, {1, 1}), Catch::Contains("kept[0] is 4"));
  CHECK_THROWS_WITH(d3s_token_mask(r, advantages, indices_t{1, 1}, {1, 1}), Catch::Contains("kept[1] is 1"));
  for (double bad : {0.0, 1.5, not_a_number})
    CHECK_THROWS_WITH(d3s_token_mask(r, advantages, kept, {1, bad}), Catch::Contains("a share of"));
  CHECK_THROWS_WITH(d3s_token_mask(r, std::vector<double>{not_a_number, 0, 0, 0}, kept, {1, 1}),
                    Catch::Contains("rollout 0 has advantage"));
  rollouts bad = r;
  bad.offsets[3] = 1000;
  CHECK_THROWS_WITH(d3s_token_mask(bad, advantages, kept, {1, 1}), "d3s: offsets[4] = 8 is below offsets[3] = 1000");
  bad.offsets = {};
  CHECK_THROWS_WITH(d3s_token_mask(bad, advantages, kept, {1, 1}), "d3s: offsets is empty");
  r.entropies.pop_back();
  CHECK_THROWS_WITH(d3s_token_mask(r, advantages, kept, {1, 1}), Catch::Contains("7 entropies for 8 tokens"));
}

TEST_CASE("d3s names what is wrong") {
  const std::vector<verdict> verdicts(4);
  const groups g{{0, 2, 4}};
  std::vector<double> a{1, -1, 1, -1};
  CHECK_THROWS_WITH(d3s_rollouts(a, std::vector<verdict>(3), g, 2, {1, 1}), Catch::Contains("4 advantages for 3"));
  CHECK_THROWS_WITH(d3s_rollouts(a, verdicts, g, 0, {1, 1}), Catch::Contains("per_group is 0"));
  const std::string backwards = "down_sample: groups.offsets[2] = 4 is below groups.offsets[1] = 1000";
  CHECK_THROWS_WITH(d3s_rollouts(a, verdicts, groups{{0, 1000, 4}}, 2, {1, 1}), backwards);
  CHECK_THROWS_WITH(pods(verdicts, groups{{0, 1000, 4}}, 2), backwards);
  CHECK_THROWS_WITH(d3s_rollouts(a, verdicts, g, 3, {1, 1}), Catch::Contains("3 rollouts wanted of group 0"));
  CHECK_THROWS_WITH(d3s_rollouts(a, verdicts, g, 2, {5, 1}), Catch::Contains("5 rollouts wanted of 4"));
  for (double bad : {0.0, 0.4, not_a_number, -1.0})
    CHECK_THROWS_WITH(d3s_rollouts(a, verdicts, g, 2, {bad, 1}), Catch::Contains("rollouts wanted of 4"));
  a[2] = not_a_number;
  CHECK_THROWS_WITH(d3s_rollouts(a, verdicts, g, 2, {2, 1}), Catch::Contains("advantage 2 is"));
}
