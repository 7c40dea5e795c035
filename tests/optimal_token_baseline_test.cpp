/// optimal_token_baseline: against its definition, its laws, and what makes it optimal.

#include <cmath>
#include <stdexcept>
#include <string>
#include <vector>

#include <rlvr/advantage/centred.hpp>
#include <rlvr/advantage/optimal_token_baseline.hpp>
#include <rlvr/laws/advantage_estimator.hpp>

#include "advantage_worlds.hpp"
#include "catch.hpp"

using namespace rlvr;
using namespace advantage_worlds;

namespace {

/// Groups of 1 to 5 rollouts of 0 to 6 tokens, some masked, distributions of four tokens at each; masked entries NaN.
struct otb_world {
  std::vector<std::size_t> offsets{0};
  std::vector<std::uint8_t> mask;
  std::vector<double> rewards, log_probs, squared_sums, importance;
  rlvr::groups g;

  explicit otb_world(std::uint64_t seed) {
    const random_key key = random_key(seed).fold(11);
    for (std::size_t group = 0; group < 6; ++group) {
      const std::size_t size = 1 + key.below(5, group);
      for (std::size_t i = 0; i < size; ++i) offsets.push_back(offsets.back() + key.below(7, 100 * group + i + 50));
      g.offsets.push_back(offsets.size() - 1);
    }
    for (std::size_t t = 0; t < offsets.back(); ++t) {
      mask.push_back(key.uniform(t, 1) < 0.75);
      double p[4], total = 0, squares = 0;
      for (std::size_t v = 0; v < 4; ++v) total += p[v] = std::exp(3 * key.uniform(4 * t + v, 2));
      for (double& x : p) x /= total, squares += x * x;
      rewards.push_back(mask[t] ? key.uniform(t, 3) - 0.3 : not_a_number);
      log_probs.push_back(mask[t] ? std::log(p[0]) : not_a_number);
      squared_sums.push_back(mask[t] ? squares : not_a_number);
      importance.push_back(mask[t] ? 0.5 + key.uniform(t, 4) : not_a_number);
    }
  }
  token_layout layout() const { return {offsets, mask}; }
  std::size_t begin(std::size_t i) const { return offsets[i]; }
  std::size_t end(std::size_t i) const { return offsets[i + 1]; }

  /// Of rollout i, its active tokens in order.
  std::vector<std::size_t> active(std::size_t i) const {
    std::vector<std::size_t> out;
    for (std::size_t t = begin(i); t < end(i); ++t)
      if (mask[t]) out.push_back(t);
    return out;
  }
  /// The return and the cumulative weight at the p-th active token of rollout i.
  double value(std::size_t i, std::size_t p) const {
    const auto tokens = active(i);
    double sum = 0;
    for (std::size_t q = p; q < tokens.size(); ++q) sum += rewards[tokens[q]];
    return sum;
  }
  double weight(std::size_t i, std::size_t p, bool corrected) const {
    const auto tokens = active(i);
    double sum = 0;
    for (std::size_t q = 0; q <= p; ++q) {
      const std::size_t t = tokens[q];
      sum += (1 - 2 * std::exp(log_probs[t]) + squared_sums[t]) * (corrected ? importance[t] * importance[t] : 1);
    }
    return sum;
  }
};

/// Every rollout has three tokens; the verdict stands at the last one, probabilities depend on the reward alone.
struct three_tokens {
  optimal_token_baseline a;
  std::vector<double> operator()(std::span<const verdict> verdicts, const groups& g) const {
    check_verdicts(verdicts, g);
    std::vector<std::size_t> offsets{0};
    std::vector<double> log_probs, sums;
    for (const verdict& v : verdicts) {
      offsets.push_back(offsets.back() + 3);
      for (double p : {0.5, v.scored ? 0.6 + 0.3 / (1 + std::exp(-std::remainder(v.reward, 1))) : 0.1, 0.7})
        log_probs.push_back(std::log(p)), sums.push_back(p * p + (1 - p) * (1 - p));
    }
    const std::vector<std::uint8_t> mask = scored_mask(verdicts, {offsets});
    const token_layout layout{offsets, mask};
    const std::vector<double> all = a(token_rewards(verdicts, layout), layout, g, log_probs, sums).advantages;
    std::vector<double> out;
    for (std::size_t i = 0; i < verdicts.size(); ++i) out.push_back(all[3 * i + 1]);
    return out;
  }
};
static_assert(advantage_estimator<three_tokens>);

}  // namespace

TEST_CASE("optimal_token_baseline is its definition", "[advantage]") {
  std::size_t lone = 0, tails = 0, compared = 0;
  for (std::uint64_t seed = 0; seed < 40; ++seed)
    for (bool corrected : {false, true})
      for (bool keeps : {false, true})
        for (double epsilon : {0.0, 0.5}) {
          const otb_world w(seed);
          const lone_rollout single = keeps ? lone_rollout::reward : lone_rollout::zero;
          const lone_rollout other = keeps ? lone_rollout::zero : lone_rollout::reward;
          const optimal_token_baseline a{.lone = single, .tail = other, .epsilon = epsilon};
          const auto got = a(w.rewards, w.layout(), w.g, w.log_probs, w.squared_sums,
                             corrected ? std::span<const double>(w.importance) : std::span<const double>());
          std::vector<double> expected(w.mask.size()), returns(w.mask.size());
          for (std::size_t group = 0; group < w.g.size(); ++group)
            for (std::size_t i = w.g.begin(group); i < w.g.end(group); ++i) {
              const auto tokens = w.active(i);
              for (std::size_t p = 0; p < tokens.size(); ++p) {
                double total = epsilon, weighted = 0;
                std::size_t count = 0;
                for (std::size_t j = w.g.begin(group); j < w.g.end(group); ++j)
                  if (p < w.active(j).size()) {
                    total += w.weight(j, p, corrected);
                    weighted += w.weight(j, p, corrected) * w.value(j, p);
                    ++count;
                  }
                returns[tokens[p]] = w.value(i, p);
                std::size_t speaking = 0;
                for (std::size_t j = w.g.begin(group); j < w.g.end(group); ++j) speaking += !w.active(j).empty();
                if (count > 1)
                  expected[tokens[p]] = w.value(i, p) - weighted / total, ++compared;
                else if (speaking == 1)
                  expected[tokens[p]] = keeps ? w.value(i, p) : 0, ++lone;
                else
                  expected[tokens[p]] = keeps ? 0 : w.value(i, p), ++tails;
              }
            }
          for (std::size_t t = 0; t < expected.size(); ++t) {
            CHECK(got.advantages[t] == near(expected[t]).margin(1e-13));
            CHECK(got.returns[t] == near(returns[t]).margin(1e-13));
          }
        }
  CHECK(lone > 100);
  CHECK(tails > 100);
  CHECK(compared > 1000);
}

TEST_CASE("optimal_token_baseline keeps the laws of advantages", "[advantage][laws]") {
  CHECK(laws::advantage_estimator_laws(three_tokens{}, {.local = laws::promised::yes}) == laws::violations{});
  CHECK(laws::advantage_estimator_laws(three_tokens{{.lone = lone_rollout::reward}},
                                       {.lone = lone_rollout::reward, .local = laws::promised::yes}) ==
        laws::violations{});
  // epsilon moves equal rewards off zero, and the suite says so.
  const laws::violations moved =
      laws::advantage_estimator_laws(three_tokens{{.epsilon = 0.1}}, {.local = laws::promised::yes});
  CHECK(joined(moved).find("equal") != std::string::npos);
}

TEST_CASE("optimal_token_baseline makes the weighted squares least", "[advantage]") {
  for (std::uint64_t seed = 0; seed < 20; ++seed) {
    const otb_world w(seed);
    const auto got = optimal_token_baseline{}(w.rewards, w.layout(), w.g, w.log_probs, w.squared_sums);
    for (std::size_t group = 0; group < w.g.size(); ++group)
      for (std::size_t p = 0; p < 6; ++p) {
        double slope = 0, size = 0;
        std::size_t count = 0;
        for (std::size_t i = w.g.begin(group); i < w.g.end(group); ++i)
          if (p < w.active(i).size()) {
            slope += w.weight(i, p, false) * got.advantages[w.active(i)[p]];
            size += std::fabs(w.weight(i, p, false) * got.advantages[w.active(i)[p]]);
            ++count;
          }
        if (count > 1) CHECK(std::fabs(slope) <= 1e-12 * (1 + size));
      }
  }
  // Equal weights: the mean. No weight at all, the policy being certain: the mean, too.
  const std::vector<std::size_t> offsets{0, 1, 2, 3};
  const std::vector<double> rewards{1, 0, 0.5};
  for (double p : {0.25, 1.0}) {
    const std::vector<double> log_probs(3, std::log(p)), sums(3, p * p + (1 - p) * (1 - p));
    const auto got = optimal_token_baseline{}(rewards, {offsets}, groups_with({3}), log_probs, sums);
    const auto mean = centred{}(verdicts_of(rewards), groups_with({3}));
    for (std::size_t t = 0; t < 3; ++t) CHECK(got.advantages[t] == near(mean[t]).margin(1e-15));
  }
  // A scorer's rounding leaves no weight below 0: here they would be -5e-4 and 0.
  const std::vector<double> above{5e-4, 0}, squares{1 + 5e-4, 1};
  const auto got = optimal_token_baseline{}(std::span(rewards).first(2), {std::span(offsets).first(3)},
                                            groups_with({2}), above, squares);
  CHECK(got.advantages == std::vector<double>{0.5, -0.5});
}

TEST_CASE("optimal_token_baseline names what does not fit", "[advantage]") {
  const std::vector<std::size_t> offsets{0, 1, 3};
  const groups g = groups_with({2});
  const std::vector<double> rewards{0, 0, 1}, log_probs{-1, -2, -0.5}, sums{0.3, 0.2, 0.5}, few(2);
  const optimal_token_baseline a;
  const auto with = [](std::vector<double> x, std::size_t t, double value) {
    x[t] = value;
    return x;
  };
  CHECK_THROWS_WITH(a(few, {offsets}, g, log_probs, sums), "optimal_token_baseline: 2 rewards for 3 tokens");
  CHECK_THROWS_WITH(a(rewards, {offsets}, g, few, sums), "optimal_token_baseline: 2 log_probs for 3 tokens");
  CHECK_THROWS_WITH(a(rewards, {offsets}, g, log_probs, few), "optimal_token_baseline: 2 squared_sums for 3 tokens");
  CHECK_THROWS_WITH(a(rewards, {offsets}, g, log_probs, sums, few),
                    "optimal_token_baseline: 2 importance_weights for 3 tokens");
  CHECK_THROWS_WITH(a(with(rewards, 1, not_a_number), {offsets}, g, log_probs, sums),
                    "optimal_token_baseline: reward 1 is nan");
  CHECK_THROWS_WITH(a(rewards, {offsets}, g, with(log_probs, 2, 0.5), sums),
                    "optimal_token_baseline: log-prob 2 is 0.5");
  CHECK_THROWS_WITH(a(rewards, {offsets}, g, with(log_probs, 2, -infinity), sums),
                    "optimal_token_baseline: log-prob 2 is -inf");
  for (double bad : {-0.1, 1.1, not_a_number})
    CHECK_THROWS_WITH(a(rewards, {offsets}, g, log_probs, with(sums, 0, bad)),
                      Catch::Contains("optimal_token_baseline: squared sum 0 is"));
  CHECK_THROWS_WITH(a(rewards, {offsets}, g, log_probs, sums, with(rewards, 0, infinity)),
                    "optimal_token_baseline: importance weight 0 is inf");
  CHECK_THROWS_WITH((optimal_token_baseline{.epsilon = -1}(rewards, {offsets}, g, log_probs, sums)),
                    "optimal_token_baseline: epsilon is -1");
  CHECK_THROWS_WITH(a(rewards, {offsets}, groups_with({1}), log_probs, sums),
                    "advantages: groups of 1 rollouts for 2 verdicts");
  CHECK_THROWS_WITH(a(with(with(rewards, 1, 1.5e308), 2, 1.5e308), {offsets}, g, log_probs, sums),
                    Catch::Contains(" overflows: it is "));
  CHECK(a({}, {std::span(offsets).first(1)}, groups{}, {}, {}).advantages.empty());
}

TEST_CASE("optimal_token_baseline: any numbers give finite advantages or an error", "[advantage][fuzz]") {
  const double odd[]{not_a_number, infinity, -infinity, 1e308, -1e308, 1e-308, 0.0, -0.0, 1.0, 2.0};
  std::size_t returned = 0, refused = 0;
  for (std::uint64_t seed = 0; seed < 4000; ++seed) {
    otb_world w(seed % 50);
    const random_key key = random_key(seed).fold(12);
    for (auto* values : {&w.rewards, &w.log_probs, &w.squared_sums, &w.importance})
      if (!values->empty() && key.uniform(values->size(), 5) < 0.4)
        (*values)[key.below(values->size(), 6)] = odd[key.below(10, 7)];
    if (key.uniform(0, 8) < 0.1) w.rewards.resize(key.below(9, 9));
    try {
      const auto got = optimal_token_baseline{}(w.rewards, w.layout(), w.g, w.log_probs, w.squared_sums, w.importance);
      for (std::size_t t = 0; t < got.advantages.size(); ++t)
        REQUIRE((std::isfinite(got.advantages[t]) && std::isfinite(got.returns[t])));
      ++returned;
    } catch (const std::invalid_argument&) {
      ++refused;
    }
  }
  CHECK(returned > 500);
  CHECK(refused > 500);
}
