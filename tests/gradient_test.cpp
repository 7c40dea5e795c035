/// Accumulators: sums, subsets by prompt, correct and incorrect parts.

#include <cmath>
#include <limits>
#include <stdexcept>

#include <rlvr/backend/tabular/policy.hpp>
#include <rlvr/core/norm.hpp>
#include <rlvr/core/slice.hpp>
#include <rlvr/gradient/subset_gradients.hpp>
#include <rlvr/gradient/sum_accumulator.hpp>
#include <rlvr/laws/sampler.hpp>

#include "archetypes.hpp"
#include "catch.hpp"

using namespace rlvr;

namespace {

constexpr std::size_t prompt_count = 7, completions = 4;

std::vector<double> logits() {
  std::vector<double> out(prompt_count * completions);
  for (std::size_t i = 0; i < out.size(); ++i) out[i] = 3 * random_key(1).uniform(i);
  return out;
}

/// Rollouts of all prompts, uneven groups, verdicts with one unscored rollout, and coefficients.
struct batch {
  ragged<token> prompts;
  rollouts r;
  std::vector<double> coefficients;
};

batch make_batch() {
  const tabular::policy policy(logits(), completions);
  batch b;
  b.prompts = policy.prompts();
  std::vector<sample_request> requests;
  for (std::uint32_t i = 0; i < prompt_count; ++i) requests.push_back({i, 3 + i, 0});
  b.r = policy.sample(b.prompts, requests, {}, random_key(2));
  for (std::size_t i = 0; i < b.r.size(); ++i) {
    b.r.verdicts.push_back({b.r.tokens[i] < 2 ? 1.0 : 0.0, i != 4});
    b.coefficients.push_back(i == 4 ? 0.0 : 2 * random_key(3).uniform(i) - 1);
  }
  return b;
}

/// Counts calls, and can fail at one of them.
struct watched_policy : tabular::policy {
  using tabular::policy::policy;
  void accumulate_score(const ragged<token>& prompts, const rollouts& r, std::span<const double> c,
                        double temperature, std::vector<double>& g) {
    if (++calls == fail_at) throw std::runtime_error("device lost");
    for (std::size_t t = 0; t < c.size(); ++t) work += c[t] != 0;
    tabular::policy::accumulate_score(prompts, r, c, temperature, g);
  }
  std::size_t calls = 0, fail_at = 0, work = 0;
};
static_assert(differentiable<watched_policy>);

void check_near(const std::vector<double>& got, const std::vector<double>& expected) {
  REQUIRE(got.size() == expected.size());
  for (std::size_t i = 0; i < got.size(); ++i) CHECK(got[i] == Approx(expected[i]).margin(1e-13));
}

}  // namespace

TEST_CASE("sum_accumulator adds and merges", "[gradient]") {
  tabular::policy policy(logits(), completions);
  const batch b = make_batch();
  const tabular::space& space = policy.space();
  std::vector<double> expected = space.zero();
  policy.accumulate_score(b.prompts, b.r, b.coefficients, 1.0, expected);

  for (std::size_t cut = 0; cut <= b.r.size(); ++cut) {
    sum_accumulator<tabular::space> left(space), right(space);
    const std::span<const double> c(b.coefficients);
    left.add(policy, b.prompts, slice(b.r, 0, cut), c.first(cut), 1.0, cut);
    right.add(policy, b.prompts, slice(b.r, cut, b.r.size()), c.subspan(cut), 1.0, b.r.size() - cut);
    left.merge(space, right);
    check_near(left.sum(), expected);
    CHECK(left.count() == b.r.size());
  }
  sum_accumulator<tabular::space> once(space);
  once.add(policy, b.prompts, b.r, b.coefficients, 1.0, 3);
  CHECK(once.sum() == expected);
  sum_accumulator<tabular::space> copy = once;  // a value, where vectors are
  copy.add(policy, b.prompts, b.r, b.coefficients, 1.0, 3);
  CHECK(once.sum() == expected);
  CHECK(copy.count() == 6);
  const sum_accumulator<tabular::space> loaded(once.sum(), once.count());
  CHECK(loaded.sum() == expected);
  CHECK_THROWS_AS(once.merge(space, once), std::invalid_argument);
  CHECK_THROWS_AS(once.add(policy, b.prompts, b.r, {}, 1.0, 1), std::invalid_argument);
  CHECK(once.sum() == expected);
  CHECK(once.count() == 3);
}

TEST_CASE("subset_gradients: subsets are disjoint by prompt and add up to the gradient", "[gradient]") {
  tabular::policy policy(logits(), completions);
  const batch b = make_batch();
  std::vector<double> full = policy.space().zero();
  policy.accumulate_score(b.prompts, b.r, b.coefficients, 0.8, full);

  for (std::size_t M : {1u, 2u, 3u, 7u, 10u}) {
    subset_gradients<tabular::space> parts(policy.space(), {.subsets = M});
    parts.add(policy, b.prompts, b.r, b.coefficients, 0.8);
    check_near(parts.total(policy.space()), full);
    std::size_t rollouts = 0;
    for (std::size_t m = 0; m < M; ++m) {
      std::size_t expected = 0;
      for (std::size_t i = 0; i < b.r.size(); ++i)
        expected += b.r.prompts[i] % M == m && b.r.verdicts[i].scored;
      CHECK(parts.rollouts_in(m) == expected);
      rollouts += expected;
      // Each prompt has its own rows of parameters: a subset touches those of its prompts only.
      for (std::size_t x = 0; x < full.size(); ++x)
        CHECK(parts.subset(m)[x] ==
              (x / completions % M == m ? Approx(full[x]).margin(1e-13) : Approx(0).margin(0)));
    }
    CHECK(parts.rollouts_in_total() == rollouts);
    CHECK(rollouts == b.r.size() - 1);
    CHECK_THROWS_AS(parts.subset(M), std::invalid_argument);
    CHECK_THROWS_AS(parts.rollouts_in(M), std::invalid_argument);
  }
}

TEST_CASE("subset_gradients: parts are sums of scores without advantages", "[gradient]") {
  tabular::policy policy(logits(), completions);
  const batch b = make_batch();
  subset_gradients<tabular::space> parts(policy.space(), {.subsets = 2});
  parts.add(policy, b.prompts, b.r, b.coefficients, 1.0);

  std::vector<double> correct(b.r.size()), incorrect(b.r.size());
  std::size_t correct_count = 0, incorrect_count = 0;
  for (std::size_t i = 0; i < b.r.size(); ++i) {
    if (!b.r.verdicts[i].scored) continue;
    const bool right = b.r.verdicts[i].reward > 0.5;
    (right ? correct : incorrect)[i] = 1;
    ++(right ? correct_count : incorrect_count);
  }
  std::vector<double> g = policy.space().zero();
  policy.accumulate_score(b.prompts, b.r, correct, 1.0, g);
  CHECK(parts.correct() == g);
  g = policy.space().zero();
  policy.accumulate_score(b.prompts, b.r, incorrect, 1.0, g);
  CHECK(parts.incorrect() == g);
  CHECK(parts.correct_count() == correct_count);
  CHECK(parts.incorrect_count() == incorrect_count);
  CHECK(correct_count + incorrect_count == b.r.size() - 1);

  subset_gradients<tabular::space> strict(policy.space(), {.subsets = 2, .correct_above = 1.0});
  strict.add(policy, b.prompts, b.r, b.coefficients, 1.0);
  CHECK(strict.correct_count() == 0);
  CHECK(strict.correct() == policy.space().zero());

  subset_gradients<tabular::space> bare(policy.space(), {.subsets = 2, .parts = gradient_parts::none});
  rollouts unjudged = b.r;
  unjudged.verdicts.clear();
  bare.add(policy, b.prompts, unjudged, b.coefficients, 1.0);
  check_near(bare.total(policy.space()), parts.total(policy.space()));
  CHECK(bare.rollouts_in_total() == b.r.size());
  CHECK_THROWS_AS(bare.correct(), std::invalid_argument);
  CHECK_THROWS_AS(bare.incorrect_count(), std::invalid_argument);
}

TEST_CASE("subset_gradients: merging workers and cutting batches changes nothing", "[gradient]") {
  tabular::policy policy(logits(), completions);
  const batch b = make_batch();
  using accumulator = subset_gradients<tabular::space>;
  accumulator whole(policy.space(), {.subsets = 3});
  whole.add(policy, b.prompts, b.r, b.coefficients, 1.0);
  for (std::size_t cut : {std::size_t{0}, std::size_t{1}, std::size_t{10}, b.r.size()}) {
    const std::span<const double> c(b.coefficients);
    const rollouts head = slice(b.r, 0, cut), tail = slice(b.r, cut, b.r.size());
    accumulator left(policy.space(), {.subsets = 3}), right(policy.space(), {.subsets = 3}), one = left;
    left.add(policy, b.prompts, head, c.first(cut), 1.0);
    right.add(policy, b.prompts, tail, c.subspan(cut), 1.0);
    left.merge(policy.space(), right);
    one.add(policy, b.prompts, head, c.first(cut), 1.0);
    one.add(policy, b.prompts, tail, c.subspan(cut), 1.0);
    for (const accumulator* got : {&left, &one}) {
      for (std::size_t m = 0; m < 3; ++m) {
        check_near(got->subset(m), whole.subset(m));
        CHECK(got->rollouts_in(m) == whole.rollouts_in(m));
      }
      check_near(got->correct(), whole.correct());
      check_near(got->incorrect(), whole.incorrect());
      CHECK(got->correct_count() == whole.correct_count());
    }
  }
  CHECK_THROWS_AS(whole.merge(policy.space(), accumulator(policy.space(), {.subsets = 2})),
                  std::invalid_argument);
  CHECK_THROWS_AS(
      whole.merge(policy.space(), accumulator(policy.space(), {.subsets = 3, .parts = gradient_parts::none})),
      std::invalid_argument);
  CHECK_THROWS_AS(
      whole.merge(policy.space(), accumulator(policy.space(), {.subsets = 3, .correct_above = 0})),
      std::invalid_argument);
  CHECK_THROWS_AS(whole.merge(policy.space(), whole), std::invalid_argument);
}

TEST_CASE("subset_gradients: one sweep, progress, and what failures leave", "[gradient]") {
  watched_policy policy(logits(), completions);
  const batch b = make_batch();
  const std::size_t B = b.r.size();
  subset_gradients<tabular::space> parts(policy.space(), {.subsets = 3});
  std::vector<std::pair<std::size_t, std::size_t>> seen;
  parts.add(policy, b.prompts, b.r, b.coefficients, 1.0,
            [&](std::size_t done, std::size_t total) { seen.emplace_back(done, total); });
  CHECK(policy.calls == 5);
  CHECK(policy.work == 2 * (B - 1));  // each scored rollout once with its coefficient and once for its part
  REQUIRE(seen.size() == 6);
  for (std::size_t i = 0; i < seen.size(); ++i) {
    CHECK(seen[i].second == 2 * B);
    if (i > 0) CHECK(seen[i].first > seen[i - 1].first);
  }
  CHECK(seen[4].first == 2 * B - 1);  // the unscored rollout is in no part
  CHECK(seen[5].first == 2 * B);

  const std::vector<double> theta = policy.parameters();
  const std::vector<double> before = parts.total(policy.space()), correct = parts.correct();
  const std::size_t count = parts.rollouts_in_total();
  const auto unchanged = [&] {
    CHECK(parts.total(policy.space()) == before);
    CHECK(parts.correct() == correct);
    CHECK(parts.rollouts_in_total() == count);
    CHECK(policy.parameters() == theta);
  };
  const auto add = [&](const rollouts& r, const std::vector<double>& c, double temperature) {
    parts.add(policy, b.prompts, r, c, temperature);
  };
  std::vector<double> bad = b.coefficients;
  bad.back() = std::numeric_limits<double>::quiet_NaN();
  CHECK_THROWS_WITH(add(b.r, bad, 1.0), "subset_gradients: coefficient 41 is nan");
  bad.pop_back();
  CHECK_THROWS_AS(add(b.r, bad, 1.0), std::invalid_argument);
  CHECK_THROWS_AS(add(b.r, b.coefficients, 0.0), std::invalid_argument);
  rollouts odd = b.r;
  odd.offsets[2] = 1000;
  CHECK_THROWS_WITH(add(odd, b.coefficients, 1.0),
                    "rollouts: offsets[3] = " + std::to_string(b.r.offsets[3]) + " is below offsets[2] = 1000");
  odd.offsets = {};
  CHECK_THROWS_WITH(add(odd, b.coefficients, 1.0), "rollouts: offsets is empty");
  odd = b.r;
  odd.verdicts.clear();
  CHECK_THROWS_AS(add(odd, b.coefficients, 1.0), std::invalid_argument);
  odd = b.r;
  odd.verdicts.pop_back();
  CHECK_THROWS_AS(add(odd, b.coefficients, 1.0), std::invalid_argument);
  odd = b.r;
  odd.prompts.back() = prompt_count;
  CHECK_THROWS_AS(add(odd, b.coefficients, 1.0), std::invalid_argument);
  odd = b.r;
  odd.prompts.pop_back();
  CHECK_THROWS_AS(add(odd, b.coefficients, 1.0), std::invalid_argument);
  unchanged();
  policy.fail_at = policy.calls + 1;
  CHECK_THROWS_AS(add(b.r, b.coefficients, 1.0), std::runtime_error);
  unchanged();
  policy.fail_at = policy.calls + 3;  // in the middle: the sums are spoilt, the policy is not
  CHECK_THROWS_AS(add(b.r, b.coefficients, 1.0), std::runtime_error);
  CHECK(policy.parameters() == theta);

  subset_gradients<tabular::space> nothing(policy.space());
  nothing.add(policy, b.prompts, rollouts{}, {}, 1.0);
  CHECK(nothing.rollouts_in_total() == 0);
  CHECK_THROWS_AS(subset_gradients<tabular::space>(policy.space(), {.subsets = 0}), std::invalid_argument);
  CHECK_THROWS_AS(subset_gradients<tabular::space>(policy.space(), {.correct_above = std::nan("")}),
                  std::invalid_argument);
}

TEST_CASE("accumulators run on the archetype of a policy", "[gradient][concepts]") {
  tabular::policy plain(logits(), completions);
  archetype::policy opaque(logits(), completions);
  const batch b = make_batch();
  subset_gradients<tabular::space> expected(plain.space(), {.subsets = 3});
  expected.add(plain, b.prompts, b.r, b.coefficients, 1.0);
  subset_gradients<archetype::space> parts(opaque.space(), {.subsets = 3});
  parts.add(opaque, b.prompts, b.r, b.coefficients, 1.0);
  subset_gradients<archetype::space> more(opaque.space(), {.subsets = 3});
  more.merge(opaque.space(), parts);

  const archetype::space space = opaque.space();
  archetype::vector difference = more.total(space);
  space.axpy(-1.0, space.from_host(expected.total(plain.space())), difference);
  CHECK(norm(space, difference) == Approx(0).margin(1e-14));
}
