#include <algorithm>
#include <cmath>
#include <cstddef>
#include <limits>
#include <numeric>
#include <set>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include <rlvr/advantage/centred.hpp>
#include <rlvr/advantage/group_normalized.hpp>
#include <rlvr/backend/tabular/policy.hpp>
#include <rlvr/core/norm.hpp>
#include <rlvr/optimize/adamw.hpp>
#include <rlvr/optimize/sgd.hpp>
#include <rlvr/train/grpo.hpp>

#include "archetypes.hpp"
#include "catch.hpp"

namespace {

using namespace rlvr;

constexpr std::size_t rows = 4, columns = 5;
constexpr double infinity = std::numeric_limits<double>::infinity();

/// 4 rows of 5 completions; the right completion of row i is i, and the base finds it sometimes.
std::vector<double> base_logits() {
  std::vector<double> logits(rows * columns);
  for (std::size_t i = 0; i < logits.size(); ++i) logits[i] = random_key(4).uniform(i);
  return logits;
}

/// Prompt p stands at row p % 4.
ragged<token> prompts(std::size_t count) {
  ragged<token> out;
  for (std::size_t p = 0; p < count; ++p) out.push_back(std::vector<token>{static_cast<token>(p % rows)});
  return out;
}

/// Rewards completion p % 4 of prompt p; `constant` rewards everything alike.
struct judge {
  bool constant = false;
  verdict operator()(std::size_t p, std::span<const token> completion) const {
    return {constant || static_cast<std::size_t>(completion[0]) == p % rows ? 1.0 : 0.0};
  }
};
using set = prompt_set<judge>;

std::vector<double> exact_weights() {
  std::vector<double> w(rows * columns, 0.0);
  for (std::size_t row = 0; row < rows; ++row) w[row * columns + row] = 1.0 / rows;
  return w;
}

const grpo_options small{.steps = 12,
                         .batch_prompts = 8,
                         .group_size = 4,
                         .max_gradient_norm = 0.1,
                         .warmup_steps = 3,
                         .last_factor = 0.1,
                         .evaluate_every = 5,
                         .seed = 3};
const sgd_options fast{.learning_rate = 2, .momentum = 0.5};

template <class P>
grpo_result train(P& policy, const grpo_options& o = small, const judge& verify = {}) {
  sgd optimizer(policy.space(), fast);
  return grpo(policy, set{prompts(20), verify}, set{prompts(12), {}}, centred{}, optimizer, o);
}

}  // namespace

TEST_CASE("grpo: the parameters are those of the formulas, step by step", "[grpo]") {
  tabular::policy policy(base_logits(), columns);
  const grpo_result result = train(policy);
  REQUIRE(result.status == grpo_status::finished);
  REQUIRE(result.steps == 12);
  REQUIRE(result.history.size() == 12);
  CHECK(result.rollouts == 12 * 8 * 4);

  // The same run written out: gradients from the definition of the softmax, momentum and clipping by hand.
  tabular::policy other(base_logits(), columns);
  std::vector<double> theta = base_logits(), velocity(theta.size(), 0.0);
  const random_key key(3);
  for (std::size_t step = 0; step < 12; ++step) {
    std::vector<std::uint32_t> order(20);
    std::iota(order.begin(), order.end(), 0u);
    shuffle(order, key.fold(purpose::shuffle).fold(step / 2));  // 20 prompts are two batches of 8
    std::vector<double> g(theta.size(), 0.0);
    double reward = 0;
    for (std::size_t j = 0; j < 8; ++j) {
      const std::uint32_t prompt = order[step % 2 * 8 + j];
      const std::size_t row = prompt % rows;
      const std::vector<double> p = other.distribution(row);
      std::vector<std::size_t> drawn;
      double mean = 0;
      for (std::uint32_t r = 0; r < 4; ++r) {
        double left = key.fold(purpose::rollout).fold(step).uniform(prompt, r, 0);
        std::size_t k = 0;
        while (k + 1 < columns && left >= p[k]) left -= p[k++];
        drawn.push_back(k);
        mean += k == row ? 0.25 : 0;
      }
      for (std::size_t k : drawn) {
        const double c = ((k == row ? 1.0 : 0.0) - mean) / 32;
        for (std::size_t i = 0; i < columns; ++i) g[row * columns + i] += c * ((i == k) - p[i]);
      }
      reward += mean / 8;
    }
    double length = 0;
    for (double v : g) length += v * v;
    length = std::sqrt(length);
    const double clip = std::min(1.0, 0.1 / (length + 1e-6));
    const double factor = step < 3
                              ? static_cast<double>(step + 1) / 3
                              : 0.1 + 0.9 * 0.5 * (1 + std::cos(3.141592653589793 * static_cast<double>(step - 3) / 9));
    for (std::size_t i = 0; i < theta.size(); ++i) {
      velocity[i] = 0.5 * velocity[i] + clip * g[i];
      theta[i] += 2 * factor * velocity[i];
    }
    other.assign(theta);
    CAPTURE(step);
    const grpo_step& s = result.history[step];
    CHECK(s.step == step);
    CHECK(s.rollouts == step * 32);
    CHECK(s.reward == Approx(reward));
    CHECK(s.gradient_norm == Approx(length));
    CHECK(s.learning_rate_factor == Approx(factor));
    CHECK(s.length == 1);
    CHECK(s.held_out.has_value() == (step % 5 == 0));
  }
  for (std::size_t i = 0; i < theta.size(); ++i) CHECK(policy.parameters()[i] == Approx(theta[i]).margin(1e-12));
  CHECK(std::any_of(result.history.begin(), result.history.end(), [](const auto& s) { return s.gradient_norm > 0.1; }));
  CHECK(std::any_of(result.history.begin(), result.history.end(), [](const auto& s) { return s.gradient_norm < 0.1; }));
}

TEST_CASE("grpo: a large batch's gradient is the exact one, and many steps reach the optimum", "[grpo]") {
  tabular::policy policy(base_logits(), columns);
  const std::vector<double> w = exact_weights(), exact = policy.expectation_gradient(w);
  adamw optimizer(policy.space(), {.learning_rate = 0.1, .weight_decay = 0});
  const grpo_options o{.steps = 60, .batch_prompts = 400, .group_size = 16, .max_gradient_norm = infinity, .seed = 1};
  const set many{prompts(400), {}};
  const double before = policy.expectation(w);
  const grpo_result result = grpo(policy, many, many, centred{}, optimizer, o);
  REQUIRE(result.status == grpo_status::finished);

  // 6400 rollouts: the norm's standard error is about 0.005, here it may miss by 8 of them.
  CHECK(result.history[0].gradient_norm ==
        Approx(15.0 / 16 * norm(policy.space(), exact)).margin(0.04));  // the group's own mean: (G - 1) / G
  CHECK(std::fabs(result.history[0].reward - before) < 0.05);
  CHECK(std::fabs(result.held_out->base.mean - before) < 0.1);
  CHECK(policy.expectation(w) > 0.97);
  CHECK(std::fabs(result.held_out->moved.mean - policy.expectation(w)) < 0.05);
  CHECK(result.held_out->difference.mean == Approx(result.held_out->moved.mean - result.held_out->base.mean));
  CHECK(result.held_out->difference.low > 0.5);

  // Entropy of the base policy, exactly.
  double entropy = 0;
  const tabular::policy base(base_logits(), columns);
  for (std::size_t row = 0; row < rows; ++row)
    for (double p : base.distribution(row)) entropy -= p * std::log(p) / rows;
  CHECK(result.history.front().entropy == Approx(entropy));
  CHECK(result.history.back().entropy < 0.5);
  CHECK(result.history.back().informative < result.history.front().informative);
}

TEST_CASE("grpo: the same seed gives the same run", "[grpo]") {
  tabular::policy a(base_logits(), columns), b(base_logits(), columns), c(base_logits(), columns);
  grpo_options o = small;
  (void)train(a, o);
  o.evaluate_every = 0;  // looking changes nothing
  const grpo_result blind = train(b, o);
  CHECK(a.parameters() == b.parameters());
  CHECK(!blind.held_out);
  o.seed = 4;
  (void)train(c, o);
  CHECK(a.parameters() != c.parameters());
}

TEST_CASE("grpo: two runs are one", "[grpo]") {
  tabular::policy whole(base_logits(), columns), parts(base_logits(), columns), again(base_logits(), columns);
  const grpo_result one = train(whole);
  const set pool{prompts(20), {}}, held_out{prompts(12), {}};
  grpo_options o = small;
  o.schedule_steps = 12;
  o.steps = 7;
  sgd early(parts.space(), fast);
  (void)grpo(parts, pool, held_out, centred{}, early, o);
  again.assign(parts.parameters());
  o.first_step = 7;
  o.steps = 5;
  sgd late(parts.space(), fast, early.state());
  const grpo_result two = grpo(parts, pool, held_out, centred{}, late, o);
  CHECK(parts.parameters() == whole.parameters());
  REQUIRE(two.history.size() == 5);
  CHECK(two.steps == 5);
  for (std::size_t i = 0; i < 5; ++i) {
    const grpo_step &a = one.history[7 + i], &b = two.history[i];
    CHECK(b.step == 7 + i);
    CHECK(b.reward == a.reward);
    CHECK(b.learning_rate_factor == a.learning_rate_factor);
    CHECK(b.held_out.has_value() == (i == 0 || b.step == 10));  // a run looks at its first policy
  }
  CHECK(two.history.front().held_out == two.held_out->base);
  CHECK(two.held_out->moved == one.held_out->moved);

  // Without schedule_steps the cosine of a run ends with it.
  o.schedule_steps = 0;
  sgd other(again.space(), fast, early.state());
  o.steps = 4;
  const grpo_result shorter = grpo(again, pool, held_out, centred{}, other, o);
  CHECK(shorter.history.back().learning_rate_factor == warmup_cosine(10, 3, 11, 0.1));
}

TEST_CASE("grpo: an epoch shows prompts once, and no two epochs are alike", "[grpo]") {
  const auto order_of = [](std::size_t epoch) {
    std::vector<std::uint32_t> out;
    for (std::size_t step = 0; step < 3; ++step)
      for (const sample_request& r : epoch_requests(6, 5, 3 * epoch + step, 20, random_key(1))) {
        CHECK(r.count == 5);
        CHECK(r.first == 0);
        out.push_back(r.prompt);
      }
    return out;
  };
  std::set<std::uint32_t> all;
  for (std::size_t epoch = 0; epoch < 12; ++epoch) {
    const std::vector<std::uint32_t> order = order_of(epoch);
    const std::set<std::uint32_t> once(order.begin(), order.end());
    CHECK(once.size() == 18);
    CHECK(*once.rbegin() < 20);
    CHECK(order != order_of(epoch + 1));
    all.insert(once.begin(), once.end());
  }
  CHECK(all.size() == 20);  // those left over are others each time
  CHECK(epoch_requests(7, 1, 5, 7, random_key(1)).size() == 7);
  CHECK_THROWS_WITH(epoch_requests(8, 1, 5, 7, random_key(1)), "epoch_order: batches of 8 prompts from a pool of 7");
  CHECK_THROWS_WITH(epoch_requests(0, 1, 0, 7, random_key(1)), "epoch_order: batches of 0 prompts from a pool of 7");
  CHECK_THROWS_WITH(epoch_requests(1, 1, 0, 0, random_key(1)), "epoch_order: batches of 1 prompts from a pool of 0");
}

TEST_CASE("grpo: a failure anywhere restores the policy", "[grpo]") {
  tabular::policy policy(base_logits(), columns);
  const set pool{prompts(20), {}};
  sgd optimizer(policy.space(), fast);

  struct failing_judge {
    mutable std::size_t calls = 0;
    std::size_t last;
    verdict operator()(std::size_t p, std::span<const token> completion) const {
      if (++calls > last) throw std::runtime_error("the judge is ill");
      return judge{}(p, completion);
    }
  };
  const prompt_set<failing_judge> ill{prompts(20), {0, 32 * 7}};
  CHECK_THROWS_WITH(
      grpo(policy, ill, prompt_set<failing_judge>{prompts(4), {0, 1u << 20}}, centred{}, optimizer, small),
      "the judge is ill");
  CHECK(ill.verify.calls == 32 * 7 + 1);
  CHECK(policy.parameters() == base_logits());

  std::size_t seen = 0;
  CHECK_THROWS_AS(grpo(policy, pool, pool, centred{}, optimizer, small,
                       [&](const grpo_step& s) {
                         seen = s.step;
                         if (s.step == 6) throw std::runtime_error("enough");
                       }),
                  std::runtime_error);
  CHECK(seen == 6);
  CHECK(policy.parameters() == base_logits());

  struct failing_optimizer {
    int left = 3;
    void step(const tabular::space& space, std::vector<double>& theta, const std::vector<double>& g, double) {
      space.axpy(1, g, theta);
      if (--left == 0) throw std::runtime_error("out of memory");
    }
  } broken;
  CHECK_THROWS_AS(grpo(policy, pool, pool, centred{}, broken, small), std::runtime_error);
  CHECK(policy.parameters() == base_logits());

  const prompt_set<failing_judge> ill_at_the_end{prompts(12), {0, 12 * 4 * 3}};  // looks at 0, 5, 10, and after 12
  const prompt_set<failing_judge> well{prompts(20), {0, 1u << 20}};
  CHECK_THROWS_AS(grpo(policy, well, ill_at_the_end, centred{}, optimizer, small), std::runtime_error);
  CHECK(policy.parameters() == base_logits());
}

TEST_CASE("grpo: a gradient that is not finite ends the run at the last finite parameters", "[grpo]") {
  struct broken : tabular::policy {
    using tabular::policy::policy;
    mutable std::size_t calls = 0;
    std::size_t bad = 5;
    void accumulate_score(const ragged<token>& prompts, const rollouts& r, std::span<const double> c, double t,
                          std::vector<double>& g) const {
      tabular::policy::accumulate_score(prompts, r, c, t, g);
      if (++calls == bad) g[7] = std::numeric_limits<double>::quiet_NaN();
    }
  };
  const std::size_t bad = GENERATE(1, 6);
  broken policy(base_logits(), columns);
  policy.bad = bad;
  grpo_options o = small;
  o.last_factor = 1;
  const grpo_result result = train(policy, o);
  CHECK(result.status == grpo_status::nonfinite_gradient);
  CHECK(result.steps == bad - 1);
  REQUIRE(result.history.size() == bad);
  CHECK(std::isnan(result.history.back().gradient_norm));
  CHECK(result.rollouts == bad * 32);
  REQUIRE(result.held_out);
  CHECK((result.held_out->difference == interval{}) == (bad == 1));

  tabular::policy expected(base_logits(), columns);
  if (bad > 1) {
    o.steps = bad - 1;
    (void)train(expected, o);
  }
  CHECK(policy.parameters() == expected.parameters());
}

TEST_CASE("grpo: a step that is too long ends the run at the last finite parameters", "[grpo]") {
  struct runaway {
    int steps = 0;
    void step(const tabular::space& space, std::vector<double>& theta, const std::vector<double>& g, double) {
      space.axpy(++steps == 3 ? infinity : 1, g, theta);
    }
  } optimizer;
  tabular::policy policy(base_logits(), columns);
  const set pool{prompts(20), {}};
  const grpo_result result = grpo(policy, pool, pool, centred{}, optimizer, small);
  CHECK(result.status == grpo_status::nonfinite_parameters);
  CHECK(result.steps == 2);
  for (double v : policy.parameters()) CHECK(std::isfinite(v));
  CHECK(policy.parameters() != base_logits());
}

TEST_CASE("grpo: without differing rewards there is no signal", "[grpo]") {
  tabular::policy policy(base_logits(), columns);
  const grpo_result result = train(policy, small, {.constant = true});
  CHECK(result.status == grpo_status::no_signal);
  CHECK(result.steps == 12);
  for (const grpo_step& s : result.history) {
    CHECK(s.informative == 0);
    CHECK(s.gradient_norm == 0);
    CHECK(s.reward == 1);
  }
  CHECK(policy.parameters() == base_logits());
}

TEST_CASE("grpo: unscored rollouts teach nothing", "[grpo]") {
  struct silent {
    verdict operator()(std::size_t, std::span<const token>) const { return {0, false}; }
  };
  tabular::policy policy(base_logits(), columns);
  sgd optimizer(policy.space(), fast);
  const prompt_set<silent> pool{prompts(20), {}};
  const grpo_result result = grpo(policy, pool, pool, group_normalized{}, optimizer, small);
  CHECK(result.status == grpo_status::no_signal);
  CHECK(std::isnan(result.history.front().reward));
  CHECK(policy.parameters() == base_logits());
}

TEST_CASE("grpo: needs nothing of its arguments beyond their concepts", "[grpo]") {
  struct plain_ascent {
    plain_ascent() = default;
    plain_ascent(const plain_ascent&) = delete;
    void step(const archetype::space& space, archetype::vector& theta, const archetype::vector& g, double factor) {
      space.axpy(2 * factor, g, theta);
    }
  } ascent;
  archetype::policy opaque(base_logits(), columns);
  tabular::policy open(base_logits(), columns);
  const set pool{prompts(20), {}};
  sgd same(open.space(), {.learning_rate = 2});
  const grpo_result a = grpo(opaque, pool, pool, group_normalized{}, ascent, small);
  const grpo_result b = grpo(open, pool, pool, group_normalized{}, same, small);
  CHECK(a.held_out->moved == b.held_out->moved);
  const archetype::space space(open.space().dimension());
  archetype::vector difference = space.from_host(open.parameters());
  space.axpy(-1, opaque.parameters(), difference);
  CHECK(norm(space, difference) == 0);

  const prompt_set<archetype::rollout_verifier> weak{prompts(20), {}};
  const archetype::advantage_estimator zeros;
  sgd momentum(space, fast);
  CHECK(grpo(opaque, weak, weak, zeros, momentum, small).steps == 12);
}

TEST_CASE("grpo: bad options are named", "[grpo]") {
  tabular::policy policy(base_logits(), columns);
  const auto message = [&](grpo_options o, std::size_t held_out = 4) {
    sgd optimizer(policy.space());
    try {
      (void)grpo(policy, set{prompts(20), {}}, set{prompts(held_out), {}}, centred{}, optimizer, o);
    } catch (const std::invalid_argument& e) {
      return std::string(e.what());
    }
    return std::string("no error");
  };
  const auto with = [](auto change) {
    grpo_options o = small;
    change(o);
    return o;
  };
  CHECK(message(with([](auto& o) { o.steps = 0; })) == "grpo: steps is 0");
  CHECK(message(with([](auto& o) { o.batch_prompts = 21; })) == "grpo: batches of 21 prompts from 20");
  CHECK(message(with([](auto& o) { o.batch_prompts = 0; })) == "grpo: batches of 0 prompts from 20");
  CHECK(message(with([](auto& o) { o.group_size = 0; })) == "grpo: group_size is 0");
  CHECK(message(with([](auto& o) { o.max_gradient_norm = 0; })) == "grpo: max_gradient_norm is 0");
  CHECK(message(with([](auto& o) { o.last_factor = 2; })) == "grpo: last_factor is 2");
  CHECK(message(with([](auto& o) { o.evaluation_group = 0; })) == "grpo: evaluation_group is 0");
  CHECK(message(small, 0) == "grpo: there are no held-out prompts");
  CHECK(message(with([](auto& o) { o.evaluate_every = 0; }), 0) == "no error");
}
