#include <cmath>
#include <stdexcept>
#include <string>
#include <vector>

#include <rlvr/advantage/centred.hpp>
#include <rlvr/advantage/group_normalized.hpp>
#include <rlvr/backend/tabular/policy.hpp>
#include <rlvr/core/norm.hpp>
#include <rlvr/train/one_shot.hpp>

#include "archetypes.hpp"
#include "catch.hpp"
#include "four_rows.hpp"

namespace {

using namespace rlvr;
using four_rows::base_logits;
using four_rows::prompts_of;

/// Rewards completion (p + shift) % 4 of prompt p; `constant` rewards everything alike; `fail_at` throws there.
struct judge {
  std::size_t shift = 0;
  bool constant = false;
  std::size_t fail_at = static_cast<std::size_t>(-1);
  verdict operator()(std::size_t p, std::span<const token> completion) const {
    if (p == fail_at) throw std::runtime_error("the judge is ill");
    return {constant || static_cast<std::size_t>(completion[0]) == (p + shift) % 4 ? 1.0 : 0.0};
  }
};

using set = prompt_set<judge>;

const one_shot_options small{.rollouts = 2048, .group_size = 16, .seed = 7};

auto run(tabular::policy& policy, const one_shot_options& o = small, const set& validation = {prompts_of(64), {}},
         const set& confirmation = {prompts_of(64), {}}, const set& train = {prompts_of(128), {}}) {
  return one_shot(policy, train, validation, confirmation, centred{}, o);
}

}  // namespace

TEST_CASE("one_shot: moves to the best confirmed step and says what it did", "[one_shot]") {
  tabular::policy policy(base_logits(), 5);
  const auto result = run(policy);
  REQUIRE(result.status == one_shot_status::improved);
  REQUIRE(result.alpha > 0);
  tabular::policy expected(base_logits(), 5);
  expected.assign(base_logits(), result.alpha, *result.direction);
  CHECK(policy.parameters() == expected.parameters());

  // The report against exact expectations.
  std::vector<double> rewards(20);
  for (std::size_t row = 0; row < 4; ++row) rewards[row * 5 + row] = 0.25;
  const tabular::policy base(base_logits(), 5);
  const double before = base.expectation(rewards), after = policy.expectation(rewards);
  CHECK(after > before + 0.5);
  CHECK(std::fabs(result.base.accuracy.mean - before) < 0.1);
  REQUIRE(result.confirmation);
  CHECK(std::fabs(result.confirmation->moved.mean - after) < 0.1);
  CHECK(result.confirmation->difference.mean ==
        Approx(result.confirmation->moved.mean - result.confirmation->base.mean));
  CHECK(result.confirmation->difference.low > 0);
  CHECK(result.confirmation->difference.low <= result.confirmation->difference.high);

  REQUIRE(result.landscape.size() > 3);
  CHECK(result.landscape.front().point.alpha == 0);
  CHECK(result.landscape.front().point.kl == 0);
  double best = 0;
  for (std::size_t i = 0; i < result.landscape.size(); ++i) {
    const landscape_point& p = result.landscape[i];
    if (i > 0) CHECK(p.point.alpha > result.landscape[i - 1].point.alpha);
    CHECK(p.accuracy.mean == Approx(p.point.value));
    CHECK(!p.collapsed);
    best = std::max(best, p.point.value);
    if (p.point.alpha == result.alpha) CHECK(p.point.value > result.base.point.value);
  }
  CHECK(result.landscape.front().point.value < best);

  // The direction is the policy gradient: its exact value is known.
  const std::vector<double> exact = base.expectation_gradient(rewards);
  CHECK(cosine(policy.space(), *result.direction, exact) > 0.97);
  double scale = 0, size = 0;
  for (std::size_t i = 0; i < exact.size(); ++i) {
    scale += (*result.direction)[i] * exact[i];
    size += exact[i] * exact[i];
  }
  CHECK(scale / size == Approx(15.0 / 16).margin(0.1));  // the group's own mean as baseline: (G - 1) / G
  CHECK(result.agreement.subsets == 8);
  CHECK(result.agreement.rollouts == 2048);
  CHECK(result.correct_incorrect_cosine < -0.9);
  CHECK(result.gradient_cosine == 1);
  CHECK(result.informative > 0.5);
  CHECK(std::fabs(result.sampled.mean - before) < 0.05);
}

TEST_CASE("one_shot: intervals of accuracies end at 0 and 1, those of other rewards need not", "[one_shot]") {
  tabular::policy policy(base_logits(), 5);
  struct scale {
    double wrong, right;
    verdict operator()(std::size_t p, std::span<const token> completion) const {
      return {static_cast<std::size_t>(completion[0]) == p % 4 ? right : wrong};
    }
  };
  const auto landscape_of = [&](double wrong, double right) {
    policy.assign(base_logits());
    const prompt_set<scale> s{prompts_of(128), {wrong, right}};
    return one_shot(policy, s, s, s, centred{}, small).landscape;
  };
  const auto accuracies = landscape_of(0, 1), signs = landscape_of(-1, 1);
  REQUIRE(accuracies.size() > 3);
  REQUIRE(signs.size() > 3);
  for (const landscape_point& p : accuracies) {
    INFO(p.point.alpha);
    CHECK(0 <= p.accuracy.low);
    CHECK(p.accuracy.low < p.accuracy.high);
    CHECK(p.accuracy.high <= 1);
  }
  CHECK(signs.front().accuracy.low < 0);
  CHECK(signs.front().accuracy.high - signs.front().accuracy.mean ==
        Approx(signs.front().accuracy.mean - signs.front().accuracy.low));
  // All right: the intervals are mean_interval's at every alpha, or they could not be compared.
  CHECK(signs.back().accuracy.mean - signs.back().accuracy.low ==
        Approx(signs.back().accuracy.high - signs.back().accuracy.mean));
  const interval never = landscape_of(0, 0).front().accuracy;
  CHECK((never.mean == 0 && never.low == 0));
  CHECK(never.high > 0.01);
}

TEST_CASE("one_shot: the same seed gives the same run", "[one_shot]") {
  tabular::policy a(base_logits(), 5), b(base_logits(), 5), c(base_logits(), 5);
  const auto first = run(a), second = run(b);
  CHECK(a.parameters() == b.parameters());
  CHECK(first.landscape.size() == second.landscape.size());
  one_shot_options other = small;
  other.seed = 8;
  (void)run(c, other);
  CHECK(a.parameters() != c.parameters());
}

TEST_CASE("one_shot: the displacement of small steps is a direction like any other", "[one_shot]") {
  tabular::policy policy(base_logits(), 5);
  one_shot_options o = small;
  o.steps = 4;
  const auto result = run(policy, o);
  REQUIRE(result.status == one_shot_status::improved);
  CHECK(result.gradient_cosine > 0.5);
  CHECK(result.gradient_cosine < 1);
  CHECK(result.agreement.rollouts == 512);  // the base policy's batch
  tabular::policy expected(base_logits(), 5);
  expected.assign(base_logits(), result.alpha, *result.direction);
  CHECK(policy.parameters() == expected.parameters());
}

TEST_CASE("one_shot: outcomes that are not improvements leave the policy alone", "[one_shot]") {
  tabular::policy policy(base_logits(), 5);
  SECTION("all rollouts alike") {
    const auto result = run(policy, small, {prompts_of(64), {}}, {prompts_of(64), {}}, {prompts_of(128), {.constant = true}});
    CHECK(result.status == one_shot_status::no_signal);
    CHECK(result.informative == 0);
    CHECK(!result.direction);
    CHECK(result.alpha == 0);
    CHECK(result.landscape.size() == 1);
    CHECK(!result.confirmation);
  }
  SECTION("validation asks for something else") {
    const auto result = run(policy, small, {prompts_of(64), {.shift = 1}});
    CHECK(result.status == one_shot_status::no_improvement);
    CHECK(result.alpha == 0);
    CHECK(result.direction);
  }
  SECTION("confirmation asks for something else") {
    const auto result = run(policy, small, {prompts_of(64), {}}, {prompts_of(64), {.shift = 1}});
    CHECK(result.status == one_shot_status::not_confirmed);
    CHECK(result.alpha > 0);
    CHECK(result.confirmation->difference.mean < 0);
  }
  SECTION("the budget ends while accuracy rises") {
    one_shot_options o = small;
    o.search.line.max_evaluations = 3;
    const auto result = run(policy, o);
    CHECK(result.status == one_shot_status::budget_spent);
    CHECK(result.alpha > 0);
  }
  CHECK(policy.parameters() == base_logits());
}

TEST_CASE("one_shot: a failure anywhere restores the policy", "[one_shot]") {
  tabular::policy policy(base_logits(), 5);
  one_shot_options o = small;
  o.steps = 3;
  CHECK_THROWS_AS(run(policy, o, {prompts_of(64), {}}, {prompts_of(64), {}}, {prompts_of(128), {.fail_at = 100}}),
                  std::runtime_error);  // in the last of the small steps
  CHECK(policy.parameters() == base_logits());
  CHECK_THROWS_AS(run(policy, small, {prompts_of(64), {.fail_at = 3}}), std::runtime_error);
  CHECK(policy.parameters() == base_logits());
  CHECK_THROWS_AS(run(policy, small, {prompts_of(64), {}}, {prompts_of(64), {.fail_at = 3}}), std::runtime_error);
  CHECK(policy.parameters() == base_logits());
}

TEST_CASE("one_shot: a gradient that is not finite is an outcome", "[one_shot]") {
  struct broken : tabular::policy {
    using tabular::policy::policy;
    void accumulate_score(const ragged<token>&, const rollouts&, std::span<const double>, double,
                          std::vector<double>& g) const {
      g[3] = std::nan("");
    }
  } policy(base_logits(), 5);
  const set s{prompts_of(128), {}};
  const auto result = one_shot(policy, s, s, s, centred{}, small);
  CHECK(result.status == one_shot_status::nonfinite_direction);
  CHECK(policy.parameters() == base_logits());
}

TEST_CASE("one_shot: needs nothing of a policy, a verifier or an estimator beyond their concepts", "[one_shot]") {
  archetype::policy opaque(base_logits(), 5);
  tabular::policy open(base_logits(), 5);
  const prompt_set<judge> s{prompts_of(128), {}};
  const auto a = one_shot(opaque, s, s, s, group_normalized{}, small);
  const auto b = one_shot(open, s, s, s, group_normalized{}, small);
  CHECK(a.status == one_shot_status::improved);
  CHECK(a.alpha == b.alpha);
  CHECK(a.confirmation->difference.mean == b.confirmation->difference.mean);

  const prompt_set<archetype::rollout_verifier> weak{prompts_of(128), {}};
  const archetype::advantage_estimator zeros;
  CHECK(one_shot(opaque, weak, weak, weak, zeros, small).status != one_shot_status::improved);
}

TEST_CASE("one_shot: progress goes forward in every stage", "[one_shot]") {
  tabular::policy policy(base_logits(), 5);
  const set s{prompts_of(128), {}};
  std::vector<std::size_t> last(5, 0);
  std::vector<std::size_t> calls(5, 0);
  (void)one_shot(policy, s, s, s, centred{}, small, [&](one_shot_stage stage, std::size_t done, std::size_t total) {
    const auto i = static_cast<std::size_t>(stage);
    CHECK(done >= last[i]);
    CHECK(done <= total);
    last[i] = done;
    ++calls[i];
  });
  for (std::size_t n : calls) CHECK(n >= 2);
}

TEST_CASE("one_shot: bad options are named", "[one_shot]") {
  tabular::policy policy(base_logits(), 5);
  const auto message = [&](one_shot_options o, const set& validation = {prompts_of(4), {}},
                           const set& confirmation = {prompts_of(4), {}}) {
    try {
      (void)run(policy, o, validation, confirmation);
    } catch (const std::invalid_argument& e) {
      return std::string(e.what());
    }
    return std::string("no error");
  };
  CHECK(message({.rollouts = 100, .group_size = 16}) == "one_shot: 100 rollouts are not a multiple of the group size 16");
  CHECK(message({.rollouts = 10240, .group_size = 16}) ==
        "one_shot: 10240 rollouts in groups of 16 need 640 prompts, but there are 128");
  CHECK(message({.rollouts = 160, .group_size = 16, .steps = 11}) == "one_shot: 11 steps for 10 groups");
  CHECK(message({.rollouts = 160, .group_size = 16}, {{}, {}}) == "one_shot: there are no validation prompts");
  CHECK(message({.rollouts = 160, .group_size = 16}, {prompts_of(4), {}}, {{}, {}}) ==
        "one_shot: there are no confirmation prompts");
  CHECK(policy.parameters() == base_logits());
}

TEST_CASE("one_shot: a batch without signal does not end the small steps", "[one_shot]") {
  // Prompts 32 to 63, the second of four batches, are rewarded whatever is said.
  struct half_dull {
    mutable std::size_t judged = 0;
    verdict operator()(std::size_t p, std::span<const token> c) const {
      ++judged;
      return {(p >= 32 && p < 64) || static_cast<std::size_t>(c[0]) == p % 4 ? 1.0 : 0.0};
    }
  };
  tabular::policy policy(base_logits(), 5);
  const prompt_set<half_dull> s{prompts_of(128), {}};
  one_shot_options o = small;
  o.steps = 4;
  (void)one_shot(policy, s, prompt_set<half_dull>{prompts_of(4), {}}, prompt_set<half_dull>{prompts_of(4), {}}, centred{}, o);
  CHECK(s.verify.judged == o.rollouts);
}

TEST_CASE("one_shot: every option is checked before anything is sampled", "[one_shot]") {
  struct counting : tabular::policy {
    using tabular::policy::policy;
    mutable int samples = 0;
    rollouts sample(const ragged<token>& p, std::span<const sample_request> q, const sampling_options& o,
                    random_key k) const {
      ++samples;
      return tabular::policy::sample(p, q, o, k);
    }
  } policy(base_logits(), 5);
  const set s{prompts_of(128), {}};
  const auto refused = [&](auto change) {
    one_shot_options o = small;
    change(o);
    CHECK_THROWS_AS(one_shot(policy, s, s, s, centred{}, o), std::invalid_argument);
    CHECK(policy.samples == 0);
  };
  refused([](auto& o) { o.collapsed_fraction = 2; });
  refused([](auto& o) { o.search.line.factor = 0.5; });
  refused([](auto& o) { o.search.line.guards.max_kl = -1; });
  refused([](auto& o) { o.search.calibration.max_rounds = 0; });
  refused([](auto& o) { o.search.kl = std::nan(""); });
  refused([](auto& o) { o.step_kl = 0; });
}
