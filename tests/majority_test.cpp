/// maj@k against enumeration of every subset, avg@k, and their intervals.

#include <algorithm>
#include <bit>
#include <cmath>
#include <vector>

#include <rlvr/core/random.hpp>
#include <rlvr/diagnose/average.hpp>
#include <rlvr/diagnose/majority.hpp>
#include <rlvr/diagnose/pass_at_k.hpp>

#include "catch.hpp"

using namespace rlvr;

namespace {

/// Every k-subset, counted by hand.
double by_enumeration(const std::vector<std::uint32_t>& answers, const std::vector<double>& values, std::size_t k,
                      vote_tie tie) {
  double sum = 0, subsets = 0;
  for (unsigned subset = 0; subset < (1u << answers.size()); ++subset) {
    if (std::popcount(subset) != static_cast<int>(k)) continue;
    ++subsets;
    std::vector<std::uint32_t> seen;  // in the order of their first votes
    std::vector<std::size_t> votes;
    for (std::size_t i = 0; i < answers.size(); ++i) {
      if (!(subset >> i & 1) || answers[i] == no_answer) continue;
      const auto at = std::find(seen.begin(), seen.end(), answers[i]) - seen.begin();
      if (at == static_cast<std::ptrdiff_t>(seen.size())) seen.push_back(answers[i]), votes.push_back(0);
      ++votes[static_cast<std::size_t>(at)];
    }
    if (seen.empty()) continue;
    const std::size_t most = *std::max_element(votes.begin(), votes.end());
    std::vector<double> winners;
    for (std::size_t a = 0; a < seen.size(); ++a)
      if (votes[a] == most)
        winners.push_back(
            values[static_cast<std::size_t>(std::find(answers.begin(), answers.end(), seen[a]) - answers.begin())]);
    if (tie == vote_tie::first) sum += winners[0];
    if (tie == vote_tie::lost) sum += winners.size() == 1 ? winners[0] : 0;
    if (tie == vote_tie::shared)
      for (double w : winners) sum += w / static_cast<double>(winners.size());
  }
  return sum / subsets;
}

constexpr vote_tie all_ties[] = {vote_tie::shared, vote_tie::first, vote_tie::lost};

}  // namespace

TEST_CASE("majority_at_k equals the enumeration of every subset", "[diagnose]") {
  for (std::uint64_t seed = 0; seed < 120; ++seed) {
    const random_key key(seed);
    const std::size_t n = 1 + key.below(11, 0), k = 1 + key.below(n, 1);
    std::vector<std::uint32_t> answers(n);
    std::vector<double> values(n);
    for (std::size_t i = 0; i < n; ++i) {
      answers[i] = static_cast<std::uint32_t>(key.below(5, 10 + i));
      if (answers[i] == 4 && seed % 2) answers[i] = no_answer;
      values[i] = seed % 3 ? (answers[i] == 1 ? 1.0 : 0.0) : key.uniform(i) - 0.5;
    }
    for (vote_tie tie : all_ties) {
      CAPTURE(seed, n, k, static_cast<int>(tie));
      CHECK(majority_at_k(answers, values, k, tie) == Approx(by_enumeration(answers, values, k, tie)).margin(1e-13));
    }
  }
}

TEST_CASE("majority_at_k: cases known without counting", "[diagnose]") {
  const std::vector<std::uint32_t> answers{7, 7, 3, 3, 3, 9};
  const std::vector<double> values{1, 1, 0, 0, 0, 0};
  for (vote_tie tie : all_ties) {
    CHECK(majority_at_k(answers, values, 1, tie) == Approx(2.0 / 6));          // k = 1: the mean
    CHECK(majority_at_k(answers, values, 6, tie) == Approx(0).margin(1e-14));  // k = n: the majority of all
    CHECK(majority_at_k(answers, std::vector<double>(6, 0.0), 3, tie) == 0);
  }
  // Every value 1 gives the chance of a winner: all of it, but for ties that are lost.
  CHECK(majority_at_k(answers, std::vector<double>(6, 1.0), 2) == Approx(1).epsilon(1e-13));
  CHECK(majority_at_k(answers, std::vector<double>(6, 1.0), 2, vote_tie::first) == Approx(1).epsilon(1e-13));
  // Two votes agree in 1 + 3 of 15 pairs.
  CHECK(majority_at_k(answers, std::vector<double>(6, 1.0), 2, vote_tie::lost) == Approx(4.0 / 15).epsilon(1e-13));
  // A tie of two: shared, the first's, nobody's.
  const std::vector<std::uint32_t> two{0, 1};
  const std::vector<double> right{0, 1};
  CHECK(majority_at_k(two, right, 2) == Approx(0.5));
  CHECK(majority_at_k(two, right, 2, vote_tie::first) == Approx(0).margin(1e-15));
  CHECK(majority_at_k(two, right, 2, vote_tie::lost) == Approx(0).margin(1e-15));
  // Silence is no vote, and all silent is wrong.
  CHECK(majority_at_k(std::vector<std::uint32_t>{no_answer, 1, no_answer}, std::vector<double>{1, 1, 1}, 3) ==
        Approx(1));
  CHECK(majority_at_k(std::vector<std::uint32_t>(3, no_answer), std::vector<double>(3, 1.0), 2) == 0);
  // Large counts do not overflow: of 2000 rollouts 1200 right and agreed, the majority of 1001 always is.
  std::vector<std::uint32_t> many(2000, 1);
  std::vector<double> worth(2000, 0.0);
  for (std::size_t i = 0; i < 1200; ++i) many[i] = 0, worth[i] = 1;
  CHECK(majority_at_k(many, worth, 1) == Approx(0.6).epsilon(1e-10));
  CHECK(majority_at_k(many, worth, 101) == Approx(0.98).margin(0.01));
}

TEST_CASE("majority_at_k: bad input is named", "[diagnose]") {
  const std::vector<std::uint32_t> answers{1, 2};
  CHECK_THROWS_WITH(majority_at_k(answers, std::vector<double>{1}, 1), "majority_at_k: 1 values for 2 answers");
  CHECK_THROWS_WITH(majority_at_k(answers, std::vector<double>{1, 0}, 0), "majority_at_k: k is 0 for 2 rollouts");
  CHECK_THROWS_WITH(majority_at_k(answers, std::vector<double>{1, 0}, 3), "majority_at_k: k is 3 for 2 rollouts");
  CHECK_THROWS_WITH(majority_at_k(answers, std::vector<double>{1, std::nan("")}, 1), "majority_at_k: value 1 is nan");
}

TEST_CASE("majority_at_k, average_at_k: means over prompts with intervals by prompt", "[diagnose]") {
  // Three prompts; the second has an unscored rollout with an answer that would win.
  const std::vector<verdict> v{{1}, {1}, {0}, {0}, {5, false}, {1}, {0}, {0}, {0}};
  const std::vector<std::uint32_t> answers{4, 4, 2, 1, 1, 8, 1, 1, 2};
  const groups g{{0, 3, 6, 9}};
  const interval i = majority_at_k(v, answers, g, 2);
  const std::vector<double> per_prompt{
      majority_at_k(std::vector<std::uint32_t>{4, 4, 2}, std::vector<double>{1, 1, 0}, 2), 0.5, 0};
  CHECK(per_prompt[0] == Approx(2.0 / 3));
  const interval expected = mean_interval(per_prompt);
  CHECK(i.mean == Approx(expected.mean));
  CHECK(i.low == Approx(expected.low));
  CHECK(i.high == Approx(expected.high));
  CHECK_THROWS_WITH(majority_at_k(v, answers, g, 3), "majority_at_k: k is 3, but group 1 has 2 scored rollouts");
  CHECK_THROWS_WITH(majority_at_k(v, answers, groups{{0, 3}}, 1), "majority_at_k: groups of 3 rollouts for 9 verdicts");
  CHECK_THROWS_WITH(majority_at_k(v, std::vector<std::uint32_t>{1}, g, 1), "majority_at_k: 1 answers for 9 verdicts");

  const interval average = average_at_k(v, g);
  CHECK(average.mean == Approx((2.0 / 3 + 0.5 + 0) / 3));
  CHECK(average == mean_interval(prompt_means(v, g)));
  CHECK(average.mean == Approx(pass_at_k(v, g, 1).mean));
}
