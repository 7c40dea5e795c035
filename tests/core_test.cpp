/// Random streams, moments, rollouts, and the tabular policy's exact expectations.

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <numeric>
#include <set>
#include <string>

#include <rlvr/backend/tabular/policy.hpp>
#include <rlvr/core/moments.hpp>
#include <rlvr/core/random.hpp>
#include <rlvr/core/rewards.hpp>
#include <rlvr/core/rollouts.hpp>
#include <rlvr/core/slice.hpp>
#include <rlvr/core/validate.hpp>

#include "catch.hpp"

using namespace rlvr;

namespace {

/// P(a chi-square variable of n degrees exceeds this) is below 1e-10: Wilson-Hilferty with z = 6.4.
double chi_square_bound(double n) {
  const double a = 2 / (9 * n);
  return n * std::pow(1 - a + 6.4 * std::sqrt(a), 3);
}

template <class F>
std::string message_of(const F& f) {
  try {
    f();
  } catch (const std::invalid_argument& e) {
    return e.what();
  }
  return "nothing was thrown";
}

bool contains(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

}  // namespace

TEST_CASE("Philox 4x32-10 gives the published known answers", "[core]") {
  // Random123, tests/kat_vectors
  CHECK(philox4x32_10({0, 0, 0, 0}, {0, 0}) == philox_block{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8});
  CHECK(philox4x32_10({0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff}, {0xffffffff, 0xffffffff}) ==
        philox_block{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd});
  CHECK(philox4x32_10({0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344}, {0xa4093822, 0x299f31d0}) ==
        philox_block{0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1});
  static_assert(philox4x32_10({0, 0, 0, 0}, {0, 0})[0] == 0x6627e8d5, "usable in constant expressions");
}

TEST_CASE("random_key: keys fold without collisions and in order", "[core]") {
  const random_key key(7);
  CHECK(key.fold(1).fold(2) != key.fold(2).fold(1));
  CHECK(key.fold(1) == random_key(7).fold(1));
  CHECK(key.fold(purpose::rollout) == key.fold(std::uint64_t{1}));
  std::set<std::uint64_t> seen{key.bits()};
  for (std::uint64_t i = 0; i < 10000; ++i) seen.insert(key.fold(i).bits());
  CHECK(seen.size() == 10001);
  CHECK(seen.insert(key.fold(std::uint64_t{1} << 32).bits()).second);
}

TEST_CASE("random_key::uniform is uniform within a key and across folds", "[core]") {
  constexpr std::size_t bins = 64, draws = 64000;
  const auto chi_square = [&](auto draw) {
    std::array<std::size_t, bins> count{};
    for (std::uint32_t i = 0; i < draws; ++i) {
      const double u = draw(i);
      if (!(u > 0 && u < 1)) FAIL("draw " << i << " is " << u);
      ++count[static_cast<std::size_t>(u * bins)];
    }
    const double expected = static_cast<double>(draws) / bins;
    double sum = 0;
    for (std::size_t c : count) sum += std::pow(static_cast<double>(c) - expected, 2) / expected;
    return sum;
  };
  const random_key key(2024);
  const double bound = chi_square_bound(bins - 1);
  CHECK(chi_square([&](std::uint32_t i) { return key.uniform(i); }) < bound);
  CHECK(chi_square([&](std::uint32_t i) { return key.uniform(3, i); }) < bound);
  CHECK(chi_square([&](std::uint32_t i) { return key.uniform(3, 1, i); }) < bound);
  CHECK(chi_square([&](std::uint32_t i) { return key.fold(i).uniform(0); }) < bound);
  CHECK(chi_square([&](std::uint32_t i) { return random_key(i).uniform(0); }) < bound);
  // Two keys that differ in one fold, and neighbouring positions: the difference modulo 1 is uniform when
  // the draws are independent.
  const auto difference = [](double a, double b) {
    return a > b ? a - b : std::fmin(a - b + 1, 1 - 0x1p-53);
  };
  const random_key a = key.fold(purpose::rollout).fold(std::uint64_t{0}),
                   b = key.fold(purpose::rollout).fold(std::uint64_t{1});
  const random_key c = key.fold(purpose::validation).fold(std::uint64_t{0});
  CHECK(chi_square([&](std::uint32_t i) { return difference(a.uniform(i) + 0x1p-54, b.uniform(i)); }) <
        bound);
  CHECK(chi_square([&](std::uint32_t i) { return difference(a.uniform(i) + 0x1p-54, c.uniform(i)); }) <
        bound);
  CHECK(chi_square([&](std::uint32_t i) { return difference(a.uniform(i, 0) + 0x1p-54, a.uniform(i, 1)); }) <
        bound);
  CHECK(chi_square([&](std::uint32_t i) {
          return difference(a.uniform(i, 0, 0) + 0x1p-54, a.uniform(i, 0, 1));
        }) < bound);
  // The test can fail: a stream that repeats is not uniform in differences.
  CHECK(chi_square([&](std::uint32_t i) { return difference(a.uniform(i) + 0x1p-54, a.uniform(i)); }) >
        bound);
}

TEST_CASE("random_key::below and shuffle", "[core]") {
  const random_key key(5);
  std::array<std::size_t, 7> count{};
  for (std::uint64_t i = 0; i < 70000; ++i) ++count[static_cast<std::size_t>(key.below(7, i))];
  double sum = 0;
  for (std::size_t c : count) sum += std::pow(static_cast<double>(c) - 10000, 2) / 10000;
  CHECK(sum < chi_square_bound(6));
  CHECK(key.below(1, 3) == 0);
  CHECK(key.below(std::numeric_limits<std::uint64_t>::max(), 3) < std::numeric_limits<std::uint64_t>::max());

  for (std::size_t n : {0u, 1u, 2u, 3u, 100u}) {
    std::vector<std::size_t> values(n), expected(n);
    std::iota(values.begin(), values.end(), std::size_t{0});
    std::iota(expected.begin(), expected.end(), std::size_t{0});
    shuffle(values, key);
    std::vector<std::size_t> again = expected;
    shuffle(again, key);
    CHECK(values == again);
    if (n == 100) CHECK(values != expected);
    std::sort(values.begin(), values.end());
    CHECK(values == expected);
  }
  // All 6 orders of three elements are equally likely.
  std::array<std::size_t, 6> orders{};
  for (std::uint64_t i = 0; i < 60000; ++i) {
    std::array<std::size_t, 3> v{0, 1, 2};
    shuffle(v, key.fold(i));
    ++orders[v[0] * 2 + (v[1] > v[2])];
  }
  sum = 0;
  for (std::size_t c : orders) sum += std::pow(static_cast<double>(c) - 10000, 2) / 10000;
  CHECK(sum < chi_square_bound(5));
}

TEST_CASE("moments survive a large offset and merge like the whole", "[core]") {
  const random_key key(11);
  for (double offset : {0.0, 1e9, -1e9}) {
    std::vector<double> values(1000);
    for (std::size_t i = 0; i < values.size(); ++i) values[i] = offset + key.uniform(i);
    long double mean = 0, squares = 0;
    for (double x : values) mean += x;
    mean /= static_cast<long double>(values.size());
    long double rest = 0;  // of the mean's rounding, where long double is double
    for (double x : values) {
      squares += (x - mean) * (x - mean);
      rest += x - mean;
    }
    squares -= rest * rest / static_cast<long double>(values.size());

    const moments two_pass = moments_of(values);
    moments welford, left, right;
    for (std::size_t i = 0; i < values.size(); ++i) {
      welford.add(values[i]);
      (i < 137 ? left : right).add(values[i]);
    }
    left.merge(right);
    left.merge(moments{});
    moments from_empty;
    from_empty.merge(left);
    CHECK(from_empty.squares == left.squares);
    // Two passes round each term once; the running forms also round the mean, to 1e-7 at an offset of 1e9.
    CHECK(two_pass.squares == Approx(static_cast<double>(squares)).epsilon(1e-12));
    for (const moments& m : {welford, left}) {
      CHECK(m.count == 1000);
      CHECK(m.mean == Approx(static_cast<double>(mean)).epsilon(1e-14));
      CHECK(m.squares == Approx(static_cast<double>(squares)).epsilon(offset == 0 ? 1e-12 : 1e-6));
    }
    CHECK(two_pass.variance() == Approx(static_cast<double>(squares) / 999).epsilon(1e-12));
    CHECK(two_pass.variance(0) == Approx(static_cast<double>(squares) / 1000).epsilon(1e-12));
  }
}

TEST_CASE("moments: equal values have exactly no variance, few values have none", "[core]") {
  for (double x : {0.1, 1e9 + 0.1, -3.7e-300}) {
    const std::vector<double> equal(17, x);
    const moments m = moments_of(equal);
    CHECK(m.mean == x);
    CHECK(m.squares == 0);
  }
  CHECK(moments_of({}).count == 0);
  CHECK(moments{}.variance() == 0);
  moments one;
  one.add(3);
  CHECK(one.variance() == 0);
  CHECK(one.variance(0) == 0);
  CHECK(one.mean == 3);
}

TEST_CASE("groups_of finds runs of equal prompts", "[core]") {
  CHECK(groups_of({}).size() == 0);
  const std::vector<std::uint32_t> prompts{4, 4, 4, 1, 0, 0, 7};
  const groups g = groups_of(prompts);
  CHECK(g.offsets == std::vector<std::size_t>{0, 3, 4, 6, 7});
  CHECK(g.total() == 7);
  CHECK(g.size(2) == 2);
}

TEST_CASE("rewards in rows: verdicts and groups of one size", "[core]") {
  const double nan = std::numeric_limits<double>::quiet_NaN();
  const std::vector<double> rewards{1, nan, -0.5, 0, 2, 1e300};
  const std::vector<verdict> verdicts = verdicts_of(rewards);
  CHECK(verdicts == std::vector<verdict>{{1}, {0, false}, {-0.5}, {0}, {2}, {1e300}});
  CHECK(verdicts_of(std::vector<double>{}).empty());
  CHECK_THROWS_WITH(verdicts_of(std::vector<double>{0, -1 / 0.0}), "verdicts_of: reward 1 is -inf");

  CHECK(groups_of_size(3, 6).offsets == std::vector<std::size_t>{0, 3, 6});
  CHECK(groups_of_size(6, 6).size() == 1);
  CHECK(groups_of_size(1, 2).offsets == std::vector<std::size_t>{0, 1, 2});
  CHECK(groups_of_size(4, 0).size() == 0);
  CHECK_THROWS_WITH(groups_of_size(4, 6), "groups_of_size: 6 rollouts in groups of 4");
  CHECK_THROWS_WITH(groups_of_size(6, 3), "groups_of_size: 3 rollouts in groups of 6");
  CHECK_THROWS_WITH(groups_of_size(0, 6), "groups_of_size: 6 rollouts in groups of 0");
}

TEST_CASE("groups_of refuses a prompt that comes back", "[core]") {
  CHECK_THROWS_WITH(groups_of(std::vector<std::uint32_t>{0, 1, 0, 1}),
                    "groups_of: prompt 0 of rollout 2 comes back after another; rollouts of one prompt must stand side "
                    "by side");
  CHECK_THROWS_WITH(groups_of(std::vector<std::uint32_t>{4, 4, 1, 0, 0, 4, 4}),
                    Catch::Contains("prompt 4 of rollout 5 comes back"));
  CHECK_NOTHROW(groups_of(std::vector<std::uint32_t>{4, 0xffffffffu, 0, 3, 3, 2}));
}

TEST_CASE("rollouts append and validate", "[core]") {
  tabular::policy policy({0, 1, 2, 3, 4, 5}, 3);
  const ragged<token> prompts = policy.prompts();
  const std::vector<sample_request> requests{{0, 3, 0}, {1, 2, 0}};
  const rollouts whole = policy.sample(prompts, requests, {}, random_key(1));
  CHECK_NOTHROW(validate(whole, 2));
  CHECK_NOTHROW(validate(rollouts{}, 0));

  rollouts joined = policy.sample(prompts, std::span(requests).first(1), {}, random_key(1));
  append(joined, policy.sample(prompts, std::span(requests).last(1), {}, random_key(1)));
  CHECK(joined.offsets == whole.offsets);
  CHECK(joined.tokens == whole.tokens);
  CHECK(joined.prompts == whole.prompts);
  append(joined, rollouts{});
  CHECK(joined.size() == 5);

  rollouts judged = whole;
  judged.verdicts.assign(5, verdict{});
  CHECK_THROWS_AS(append(judged, whole), std::invalid_argument);
  CHECK(judged.size() == 5);
  CHECK(judged.tokens.size() == 5);
  const auto only_one_has = [&](auto drop) {
    rollouts r = whole, other = whole;
    drop(other);
    const std::string message = message_of([&] { append(r, other); });
    CHECK(r.offsets == whole.offsets);
    CHECK(r.tokens == whole.tokens);
    return message;
  };
  CHECK(contains(only_one_has([](rollouts& r) { r.log_probs.clear(); }), "log_probs"));
  CHECK(contains(only_one_has([](rollouts& r) { r.entropies.clear(); }), "entropies"));
  CHECK(contains(only_one_has([](rollouts& r) { r.finished.clear(); }), "finished"));
  CHECK(contains(only_one_has([](rollouts& r) { r.prompts.clear(); }), "prompts"));
  rollouts twice = judged;
  append(twice, twice);
  rollouts copied = judged;
  append(copied, judged);
  CHECK(twice.offsets == copied.offsets);
  CHECK(twice.tokens == copied.tokens);
  CHECK(twice.prompts == copied.prompts);
  CHECK(twice.verdicts == copied.verdicts);
  rollouts empty;
  append(empty, judged);
  CHECK(empty.verdicts.size() == 5);

  const auto complaint = [&](auto damage) {
    rollouts r = judged;
    damage(r);
    return message_of([&] { validate(r, 2); });
  };
  CHECK(contains(complaint([](rollouts& r) { r.offsets[0] = 1; }), "begin with 0"));
  CHECK(contains(complaint([](rollouts& r) { r.offsets[2] = 4; }), "offsets[3] = 3"));
  CHECK(contains(complaint([](rollouts& r) { r.tokens.pop_back(); }), "4 tokens"));
  CHECK(contains(complaint([](rollouts& r) { r.log_probs.pop_back(); }), "4 log_probs"));
  CHECK(contains(complaint([](rollouts& r) { r.entropies.pop_back(); }), "4 entropies"));
  CHECK(contains(complaint([](rollouts& r) { r.prompts.pop_back(); }), "4 prompts"));
  CHECK(contains(complaint([](rollouts& r) { r.finished.pop_back(); }), "4 finished"));
  CHECK(contains(complaint([](rollouts& r) { r.verdicts.pop_back(); }), "4 verdicts"));
  CHECK(contains(complaint([](rollouts& r) { r.prompts[3] = 2; }), "prompts[3] = 2"));
  CHECK(contains(complaint([](rollouts& r) { r.verdicts[4].reward = std::nan(""); }), "reward 4 is nan"));
  CHECK(complaint([](rollouts& r) { r.verdicts[4] = {std::nan(""), false}; }) == "nothing was thrown");
}

TEST_CASE("rollouts are what was asked for", "[core]") {
  const tabular::policy policy({0, 1, 2, 3, 4, 5}, 3);
  const std::vector<sample_request> requests{{1, 3, 0}, {0, 0, 0}, {0, 2, 4}};
  const rollouts r = policy.sample(policy.prompts(), requests, {}, random_key(1));
  CHECK_NOTHROW(validate(r, 2, requests));
  CHECK_NOTHROW(validate(rollouts{}, 2, {}));
  CHECK_THROWS_WITH(validate(slice(r, 0, 4), 2, requests), "rollouts: 4 rollouts, but 5 were asked for");
  CHECK_THROWS_WITH(validate(r, 2, std::span(requests).first(1)), "rollouts: 5 rollouts, but 3 were asked for");
  CHECK_THROWS_WITH(validate(r, 2, std::vector<sample_request>{{0, 2, 4}, {1, 3, 0}}),
                    "rollouts: prompts[0] = 1, but a rollout of prompt 0 was asked for");
  CHECK_THROWS_WITH(validate(r, 1, requests), "rollouts: prompts[0] = 1, but there are 1 prompts");

  rollouts odd = r;
  CHECK_NOTHROW(validate_log_probs(odd));
  odd.log_probs[2] = -std::numeric_limits<double>::quiet_NaN();
  CHECK_THROWS_WITH(validate_log_probs(odd), "rollouts: log_probs[2] is nan");
  odd.log_probs[2] = 0.13;
  CHECK_THROWS_WITH(validate_log_probs(odd), "rollouts: log_probs[2] is 0.13, above 0");
  odd.log_probs[2] = 0.12;
  CHECK_NOTHROW(validate_log_probs(odd));
}

TEST_CASE("rollouts are cut where they can be", "[core]") {
  const tabular::policy policy({0, 1, 2, 3, 4, 5}, 3);
  const std::vector<sample_request> requests{{0, 3, 0}, {1, 2, 0}};
  rollouts r = policy.sample(policy.prompts(), requests, {}, random_key(1));
  r.verdicts.assign(5, verdict{});
  CHECK(slice(r, 2, 5).prompts == std::vector<std::uint32_t>{0, 1, 1});
  CHECK(slice(r, 5, 5).empty());
  CHECK(head(r, 9).size() == 5);
  CHECK_THROWS_WITH(slice(r, 2, 6), "slice: rollouts [2, 6) of 5");
  CHECK_THROWS_WITH(slice(r, 3, 2), "slice: rollouts [3, 2) of 5");
  CHECK_THROWS_WITH(take(r, std::vector<std::size_t>{0, 5}), "take: rollout 5 of 5");
  rollouts moved;
  moved.offsets.clear();
  CHECK_THROWS_WITH(slice(moved, 0, 0), "slice: offsets is empty");
  CHECK_THROWS_WITH(head(moved, 1), "slice: offsets is empty");
  CHECK_THROWS_WITH(take(moved, std::vector<std::size_t>{0}), "take: offsets is empty");

  const auto complaint = [&](auto damage) {
    rollouts damaged = r;
    damage(damaged);
    const std::string cut = message_of([&] { slice(damaged, 1, 3); });
    CHECK(message_of([&] { take(damaged, std::vector<std::size_t>{1, 2}); }) == "take" + cut.substr(5));
    return cut;
  };
  CHECK(complaint([](rollouts& x) { x.tokens.pop_back(); }) == "slice: 4 tokens, but offsets end at 5");
  CHECK(complaint([](rollouts& x) { x.log_probs.pop_back(); }) == "slice: 4 log_probs for 5 tokens");
  CHECK(complaint([](rollouts& x) { x.entropies.pop_back(); }) == "slice: 4 entropies for 5 tokens");
  CHECK(complaint([](rollouts& x) { x.prompts.pop_back(); }) == "slice: 4 prompts for 5 rollouts");
  CHECK(complaint([](rollouts& x) { x.finished.pop_back(); }) == "slice: 4 finished flags for 5 rollouts");
  CHECK(complaint([](rollouts& x) { x.verdicts.pop_back(); }) == "slice: 4 verdicts for 5 rollouts");
  CHECK(complaint([](rollouts& x) { x.offsets[2] = 0; }) == "slice: offsets[2] = 0 is below offsets[1] = 1");
  const auto refused = [&](auto damage) {
    rollouts damaged = r, to = r;
    damage(damaged);
    const std::string why = message_of([&] { append(to, damaged); });
    CHECK(to.offsets == r.offsets);
    CHECK(to.tokens == r.tokens);
    if (damaged.offsets.empty() || damaged.offsets.back() != damaged.tokens.size())
      CHECK(message_of([&] { append(damaged, to); }) == why);
    return why;
  };
  CHECK(refused([](rollouts& x) { x.offsets.clear(); }) == "append: offsets is empty");
  CHECK(refused([](rollouts& x) { x.offsets[2] = 0; }) == "append: offsets[2] = 0 is below offsets[1] = 1");
  CHECK(refused([](rollouts& x) { x.offsets[0] = 1; }) == "append: offsets[0] = 1, but offsets must begin with 0");
  CHECK(refused([](rollouts& x) { x.tokens.pop_back(); }) == "append: 4 tokens, but offsets end at 5");
  CHECK(refused([](rollouts& x) { x.log_probs.pop_back(); }) == "append: 4 log_probs for 5 tokens");
  CHECK(refused([](rollouts& x) { x.prompts.pop_back(); }) == "append: 4 prompts for 5 rollouts");
  r.offsets[2] = 7;
  CHECK_THROWS_WITH(slice(r, 1, 2), "slice: offsets[2] = 7, but offsets end at 5");
  CHECK_THROWS_WITH(slice(r, 1, 3), "slice: offsets[3] = 3 is below offsets[2] = 7");
  CHECK_THROWS_WITH(take(r, std::vector<std::size_t>{1}), "take: offsets[2] = 7, but offsets end at 5");
}

TEST_CASE("tabular policy: exact expectations and their gradients", "[core][tabular]") {
  const std::vector<double> logits{0.3, -1.2, 0.8, 2.0, 0.1, -0.4, 0.0, 0.7};
  const std::vector<double> weights{1, 0, 0.5, -2, 0.25, 3, 0, 1};
  for (double temperature : {1.0, 0.6, 2.5}) {
    tabular::policy policy(logits, 4);
    const std::vector<double> gradient = policy.expectation_gradient(weights, temperature);
    for (std::size_t i = 0; i < logits.size(); ++i) {
      const double h = 1e-5;
      std::vector<double> unit(logits.size(), 0.0);
      unit[i] = 1;
      policy.assign(logits, h, unit);
      const double up = policy.expectation(weights, temperature);
      policy.assign(logits, -h, unit);
      const double down = policy.expectation(weights, temperature);
      CHECK(gradient[i] == Approx((up - down) / (2 * h)).margin(1e-9));
    }
    policy.assign(logits);

    // Enumerated: sum_k pi(k) grad log pi(k) = 0, and sum_k pi(k) w(k) grad log pi(k) is the gradient.
    rollouts all;
    std::vector<double> probability, weighted;
    for (std::uint32_t row = 0; row < 2; ++row)
      for (token k = 0; k < 4; ++k) {
        all.tokens.push_back(k);
        all.offsets.push_back(all.tokens.size());
        all.prompts.push_back(row);
        probability.push_back(policy.distribution(row, temperature)[static_cast<std::size_t>(k)]);
        weighted.push_back(probability.back() * weights[row * 4 + static_cast<std::size_t>(k)]);
      }
    std::vector<double> zero = policy.space().zero(), exact = policy.space().zero();
    policy.accumulate_score(policy.prompts(), all, probability, temperature, zero);
    policy.accumulate_score(policy.prompts(), all, weighted, temperature, exact);
    for (std::size_t i = 0; i < logits.size(); ++i) {
      CHECK(zero[i] == Approx(0).margin(1e-15));
      CHECK(exact[i] == Approx(gradient[i]).margin(1e-14));
    }
  }
}

TEST_CASE("tabular policy: samples follow the distribution", "[core][tabular]") {
  const tabular::policy policy({0.3, -1.2, 0.8, 2.0}, 4);
  const std::uint32_t n = 40000;
  const sample_request request{0, n, 0};
  const rollouts r = policy.sample(policy.prompts(), {&request, 1}, {.temperature = 0.7}, random_key(3));
  const std::vector<double> p = policy.distribution(0, 0.7);
  std::array<double, 4> count{};
  for (token k : r.tokens) ++count[static_cast<std::size_t>(k)];
  double sum = 0;
  for (std::size_t k = 0; k < 4; ++k) sum += std::pow(count[k] - n * p[k], 2) / (n * p[k]);
  CHECK(sum < chi_square_bound(3));
}

TEST_CASE("tabular policy rejects what it cannot read", "[core][tabular]") {
  CHECK_THROWS_AS(tabular::policy({1, 2, 3}, 2), std::invalid_argument);
  CHECK_THROWS_AS(tabular::policy({}, 2), std::invalid_argument);
  CHECK_THROWS_AS(tabular::policy({1}, 0), std::invalid_argument);
  CHECK_THROWS_AS(tabular::space({tensor_slot{"a", {2}, 1}}), std::invalid_argument);
  const tabular::policy policy({1, 2}, 2);
  CHECK_THROWS_AS(policy.expectation(std::vector<double>(3)), std::invalid_argument);
  CHECK_THROWS_AS(policy.expectation_gradient(std::vector<double>(3)), std::invalid_argument);
}

TEST_CASE("policies refuse damaged offsets and vectors of another size", "[core]") {
  tabular::policy policy(std::vector<double>(6), 3);
  const ragged<token> prompts = policy.prompts();
  rollouts r;
  r.tokens = {0, 1};
  r.prompts = {0};
  r.offsets = {1, 2};
  CHECK_THROWS_WITH(policy.score(prompts, r, 1.0), "rollouts: offsets[0] = 1, but offsets must begin with 0");
  r.offsets = {0, 2, 1};
  CHECK_THROWS_WITH(policy.score(prompts, r, 1.0), Catch::Contains("offsets[2] = 1 is below offsets[1] = 2"));
  r.offsets = {};
  CHECK_THROWS_WITH(policy.score(prompts, r, 1.0), "rollouts: offsets is empty");
  CHECK_THROWS_WITH(policy.assign(std::vector<double>(5)), Catch::Contains("5 coordinates, expected 6"));
  CHECK_THROWS_AS(policy.assign(policy.parameters(), 1.0, std::vector<double>(5)), std::invalid_argument);
  // The last rollout indices there are.
  const rollouts last = policy.sample(prompts, std::vector<sample_request>{{0, 4, 0xfffffffcu}}, {}, random_key(1));
  CHECK(last.size() == 4);
}

TEST_CASE("uniform draws are strictly inside (0, 1)", "[core]") {
  STATIC_REQUIRE(random_key::unit(0, 0) == 0x1p-54);
  STATIC_REQUIRE(random_key::unit(0xffffffffu, 0xffffffffu) == 1 - 0x1p-53);
  STATIC_REQUIRE(random_key::unit(0x80000000u, 0) == 0.5);
}
