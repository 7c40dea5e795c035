#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <span>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <rlvr/advantage/centred.hpp>
#include <rlvr/advantage/group_normalized.hpp>
#include <rlvr/backend/tabular/policy.hpp>
#include <rlvr/diagnose/distinct_ngrams.hpp>
#include <rlvr/optimize/adamw.hpp>
#include <rlvr/optimize/sgd.hpp>
#include <rlvr/select/dopr.hpp>
#include <rlvr/select/predicted_rates.hpp>
#include <rlvr/select/published.hpp>
#include <rlvr/train/dopr.hpp>
#include <rlvr/train/grpo.hpp>
#include <rlvr/train/visit_measures.hpp>

#include "../examples/dopr_pools.hpp"
#include "../examples/dopr_statistics.hpp"
#include "archetypes.hpp"
#include "catch.hpp"

namespace {

using namespace rlvr;

constexpr std::size_t rows = 12, columns = 5;
constexpr double infinity = std::numeric_limits<double>::infinity();

std::vector<double> base_logits() {
  std::vector<double> logits(rows * columns);
  for (std::size_t i = 0; i < logits.size(); ++i) logits[i] = random_key(4).uniform(i);
  return logits;
}

ragged<token> prompts(std::size_t count) {
  ragged<token> out;
  for (std::size_t p = 0; p < count; ++p) out.push_back(std::vector<token>{static_cast<token>(p % rows)});
  return out;
}

/// The first `learnable` prompts reward one completion of five, the rest all or none.
struct judge {
  std::size_t learnable = rows;
  verdict operator()(std::size_t p, std::span<const token> completion) const {
    if (p >= learnable) return {p % 2 == 0 ? 1.0 : 0.0};
    return {static_cast<std::size_t>(completion[0]) == p % columns ? 1.0 : 0.0};
  }
};
using set = prompt_set<judge>;

/// Takes the ids of a script in turn and remembers what it is told.
struct scripted {
  static constexpr std::string_view state_name = "scripted";
  static constexpr std::uint32_t state_version = 1;
  struct diary {
    std::vector<std::pair<prompt_id, outcome>> seen;
    std::vector<std::vector<prompt_id>> candidates;
  };
  std::shared_ptr<diary> log = std::make_shared<diary>();
  std::uint64_t learned = 0;
  bool keeps = true;

  std::size_t size() const { return rows; }
  void select(std::span<prompt_id> out, random_key) const {
    for (std::size_t i = 0; i < out.size(); ++i) out[i] = static_cast<prompt_id>((learned + i) % rows);
  }
  void select(std::span<prompt_id> out, random_key, std::span<const prompt_id> candidates) const {
    log->candidates.emplace_back(candidates.begin(), candidates.end());
    std::copy_n(candidates.begin(), out.size(), out.begin());
  }
  void observe(prompt_id id, const outcome& o) {
    check_observation(id, o, rows);
    log->seen.emplace_back(id, o);
    ++learned;
  }
  bool keep(const outcome& o) const { return keeps && o.rollouts > 0; }
  template <class Self, class Visit>
  static void visit_state(Self& self, Visit&& visit) {
    visit(self.learned, "learned");
  }
};
static_assert(selector<scripted>);

/// The same, but told everything.
struct measuring : scripted {};

/// Does not know the log-prob of the first token.
struct blind : tabular::policy {
  using tabular::policy::policy;
  token_scores score(const ragged<token>& prompts, const rollouts& r, double t) const {
    token_scores out = tabular::policy::score(prompts, r, t);
    out.log_probs[0] = std::numeric_limits<double>::quiet_NaN();
    return out;
  }
};

}  // namespace

template <>
inline constexpr bool rlvr::learns_from_divergence<measuring> = true;
template <>
inline constexpr bool rlvr::learns_from_diversity<measuring> = true;

namespace {

template <class S>
constexpr std::pair<bool, bool> learns{learns_from_divergence<S>, learns_from_diversity<S>};
static_assert(learns<spo_selector> == std::pair(true, false) && learns<mmr1_selector> == std::pair(false, true));
static_assert(learns<thompson_selector<>> == std::pair(false, false) && learns<scripted> == std::pair(false, false));
static_assert(learns<decltype(make_dopr_selector(moving_reward_tracker(1)))> == std::pair(false, false));

const dopr_options small{.steps = 40,
                         .group_size = 8,
                         .candidates = 0,
                         .max_step_kl = infinity,
                         .evaluate_every = 10,
                         .evaluation_group = 4,
                         .seed = 3};
const sgd_options fast{.learning_rate = 2, .momentum = 0.5};

template <class P, class S>
dopr_result train(P& policy, S& selector, const dopr_options& o = small, const judge& verify = {}) {
  sgd optimizer(policy.space(), fast);
  return dopr(policy, set{prompts(rows), verify}, set{prompts(rows), {}}, selector, centred{}, optimizer, o);
}

double right(const tabular::policy& policy, std::size_t row) {
  return policy.distribution(row)[row % columns];
}

}  // namespace

TEST_CASE("dopr: with the epoch's prompts as they come it is grpo, bit for bit", "[dopr]") {
  tabular::policy a(base_logits(), columns), b(base_logits(), columns);
  sgd first(a.space(), fast), second(b.space(), fast);
  const set pool{prompts(rows), {}};
  const grpo_result expected = grpo(
      a, pool, pool, centred{}, first,
      {.steps = 12, .batch_prompts = 5, .group_size = 4, .max_gradient_norm = 0.1, .evaluate_every = 5, .seed = 3});
  scripted any;
  const dopr_result result = dopr(b, pool, pool, any, centred{}, second,
                                  {.steps = 12,
                                   .step_prompts = 5,
                                   .group_size = 4,
                                   .explore_steps = 12,
                                   .max_gradient_norm = 0.1,
                                   .evaluate_every = 5,
                                   .evaluation_group = 4,
                                   .seed = 3});
  CHECK(a.parameters() == b.parameters());
  CHECK(a.parameters() != base_logits());
  CHECK(result.status == dopr_status::finished);
  REQUIRE(result.history.size() == expected.history.size());
  for (std::size_t i = 0; i < 12; ++i) {
    CHECK(result.history[i].reward == expected.history[i].reward);
    CHECK(result.history[i].gradient_norm == expected.history[i].gradient_norm);
    CHECK(result.history[i].rollouts == expected.history[i].rollouts);
    CHECK(result.history[i].held_out == expected.history[i].held_out);
    CHECK(result.history[i].share == 1);
  }
  CHECK(result.held_out->moved == expected.held_out->moved);
}

TEST_CASE("dopr: one prompt a step, the one with the largest score", "[dopr]") {
  tabular::policy policy(base_logits(), columns);
  auto selector = make_dopr_selector(moving_reward_tracker(rows));
  auto replay = selector;
  const dopr_result result = train(policy, selector, small, {.learnable = 3});
  REQUIRE(result.history.size() == 40);
  CHECK(result.rollouts == 40 * 8);
  CHECK(result.visits == 40);
  CHECK(result.held_out_rollouts == (4 + 1) * rows * 4);

  // What it observed, from the draws, decides what it takes next.
  tabular::policy other(base_logits(), columns);
  sgd optimizer(other.space(), fast);
  std::vector<double> theta = base_logits();
  const random_key key(3);
  std::size_t rejected = 0;
  for (const dopr_step& s : result.history) {
    CAPTURE(s.step);
    REQUIRE(s.prompts.size() == 1);
    const prompt_id id = s.prompts[0];
    double best = -infinity;
    for (prompt_id i = 0; i < rows; ++i) best = std::max(best, replay.score(i, key));
    CHECK(replay.score(id, key) == best);
    const std::vector<sample_request> request{{id, 8, 0}};
    rollouts r = other.sample(prompts(rows), request, {}, key.fold(purpose::rollout).fold(s.step));
    verify(judge{3}, r);
    std::vector<double> rewards, g(theta.size());
    for (const verdict& v : r.verdicts) rewards.push_back(v.reward);
    outcome o = outcome_of(rewards, s.step);
    o.entropy = answer_entropy<>{}(r, 0, 8);
    CHECK(s.reward == Approx(o.mean));
    CHECK(s.entropy == Approx(o.entropy));
    CHECK(s.kept == (o.variance > 0));
    replay.observe(id, o);
    rejected += o.variance == 0;
    if (o.variance == 0) {
      CHECK(s.share == 0);
      continue;
    }
    other.accumulate_score(prompts(rows), r,
                           reinforce_coefficients(r, centred{}(r.verdicts, groups_of(r.prompts)), 0.125), 1, g);
    CHECK(s.gradient_norm == Approx(norm(other.space(), g)));
    clip_norm(other.space(), g, 1);
    optimizer.step(other.space(), theta, g);
    other.assign(theta);
  }
  for (std::size_t i = 0; i < theta.size(); ++i) CHECK(policy.parameters()[i] == Approx(theta[i]).margin(1e-12));
  CHECK(result.rejected == rejected);
  CHECK(rejected > 0);
  CHECK(save_state(selector) == save_state(replay));
}

TEST_CASE("dopr: finds the few prompts that can teach, and learns them", "[dopr]") {
  const auto visits_of = [](const dopr_result& r) {
    std::map<bool, std::size_t> out;
    for (const dopr_step& s : r.history)
      for (prompt_id id : s.prompts) ++out[id < 3];
    return out;
  };
  dopr_options o = small;
  o.steps = 150;
  o.explore_steps = GENERATE(0, 20);
  tabular::policy chosen(base_logits(), columns), random(base_logits(), columns);
  auto selector = make_dopr_selector(moving_reward_tracker(rows)), unused = selector;
  const sgd_options slow{.learning_rate = 0.5};
  sgd first(chosen.space(), slow), second(random.space(), slow);
  const set pool{prompts(rows), {.learnable = 3}};
  const dopr_result a = dopr(chosen, pool, pool, selector, centred{}, first, o);
  o.explore_steps = o.steps;
  const dopr_result b = dopr(random, pool, pool, unused, centred{}, second, o);
  CHECK(a.rollouts == b.rollouts);
  CHECK(visits_of(a)[true] > 2 * visits_of(b)[true]);
  CHECK(a.rejected < b.rejected);
  double with = 0, without = 0, before = 0;
  for (std::size_t row = 0; row < 3; ++row) {
    with += right(chosen, row) / 3;
    without += right(random, row) / 3;
    before += right(tabular::policy(base_logits(), columns), row) / 3;
  }
  CHECK(with > without + 0.05);
  CHECK(without > before + 0.05);
  std::set<prompt_id> seen;
  for (const dopr_step& s : a.history) seen.insert(s.prompts.begin(), s.prompts.end());
  CHECK(seen.size() == rows);  // the bonus looks everywhere
}

TEST_CASE("dopr: the warm-up is charged and visits every prompt before any twice", "[dopr]") {
  tabular::policy policy(base_logits(), columns);
  auto selector = make_dopr_selector(moving_reward_tracker(rows), {.bonus = {.scale = 0}});
  dopr_options o = small;
  o.explore_steps = rows;
  const dopr_result result = train(policy, selector, o, {.learnable = 2});
  std::set<prompt_id> warm, later;
  for (const dopr_step& s : result.history) (s.step < rows ? warm : later).insert(s.prompts[0]);
  CHECK(warm.size() == rows);
  CHECK(result.history[rows].rollouts == rows * 8);
  for (prompt_id id : later) CHECK(id < 2);  // volatility alone never looks at the others again
}

TEST_CASE("dopr: every group is charged and observed, those not kept give no update", "[dopr]") {
  tabular::policy policy(base_logits(), columns);
  struct counting {
    std::size_t calls = 0;
    void step(const tabular::space& space, std::vector<double>& theta, const std::vector<double>& g, double) {
      ++calls;
      space.axpy(1, g, theta);
    }
  } optimizer;
  const set pool{prompts(rows), {.learnable = 0}};
  auto selector = make_dopr_selector(moving_reward_tracker(rows));
  const dopr_result constant = dopr(policy, pool, pool, selector, centred{}, optimizer, small);
  CHECK(constant.status == dopr_status::no_signal);
  CHECK(constant.rollouts == 40 * 8);
  CHECK(constant.rejected == 40);
  CHECK(selector.tracker().clock().visits == 40);
  CHECK(optimizer.calls == 0);
  CHECK(policy.parameters() == base_logits());

  scripted stubborn;
  stubborn.keeps = false;
  const set learnable{prompts(rows), {}};
  const dopr_result rejected = dopr(policy, learnable, learnable, stubborn, centred{}, optimizer, small);
  CHECK(rejected.status == dopr_status::no_signal);
  CHECK(rejected.rollouts == 40 * 8);
  CHECK(stubborn.log->seen.size() == 40);
  CHECK(stubborn.learned == 40);
  CHECK(optimizer.calls == 0);

  scripted eager;  // updates without a gradient are no signal
  const dopr_result kept = dopr(policy, pool, pool, eager, centred{}, optimizer, small);
  CHECK(kept.status == dopr_status::no_signal);
  CHECK(optimizer.calls == 40);
  CHECK(policy.parameters() == base_logits());

  // Of three groups the constant one is dropped from the mean: the gradient is that of the other two.
  tabular::policy other(base_logits(), columns);
  auto mixed = make_dopr_selector(moving_reward_tracker(rows));
  dopr_options o = small;
  o.steps = 1;
  o.step_prompts = rows;
  o.group_size = 64;
  counting once;
  const dopr_result one = dopr(other, set{prompts(rows), {.learnable = 2}}, learnable, mixed, centred{}, once, o);
  CHECK(one.visits == rows);
  CHECK(one.rejected == rows - 2);
  CHECK(one.history[0].kept == 2);
  CHECK(once.calls == 1);
  std::vector<double> exact(rows * columns, 0.0);
  for (std::size_t row = 0; row < 2; ++row) exact[row * columns + row] = 0.5;
  const std::vector<double> g = other.expectation_gradient(exact);
  tabular::policy start(base_logits(), columns);
  CHECK(one.history[0].gradient_norm == Approx(norm(start.space(), start.expectation_gradient(exact))).epsilon(0.4));
}

TEST_CASE("dopr: batches of an epoch are its prompts, each once, whatever was asked for before", "[dopr]") {
  const random_key key = random_key(5).fold(purpose::shuffle);
  for (const std::size_t pool : {1, 2, 3, 7, 64, 100, 1000}) {
    epoch_order epochs(pool, key);
    for (const std::size_t batch : {std::size_t{1}, pool / 3 + 1, pool}) {
      const std::size_t batches = pool / batch;
      CAPTURE(pool, batch);
      for (const std::size_t epoch : {0, 1, 5, 1}) {
        std::vector<std::uint32_t> expected(pool);
        for (std::size_t i = 0; i < pool; ++i) expected[i] = static_cast<std::uint32_t>(i);
        shuffle(expected, key.fold(epoch));
        std::set<prompt_id> seen;
        bool same = true;
        for (std::size_t b = batches; b-- > 0;)
          for (std::size_t i = 0; const sample_request& q : epochs.requests(batch, 3, epoch * batches + b)) {
            same = same && q.prompt == expected[b * batch + i++] && q.count == 3;
            seen.insert(q.prompt);
          }
        CHECK(same);
        CHECK(seen.size() == batches * batch);
      }
    }
  }
}

TEST_CASE("dopr: a parameter vector more when KL is bound, and none for each step", "[dopr]") {
  struct counted_space : tabular::space {
    mutable std::size_t vectors = 0;
    explicit counted_space(std::size_t n) : tabular::space(n) {}
    std::vector<double> zero() const { return ++vectors, tabular::space::zero(); }
  };
  struct counted : tabular::policy {
    counted_space own{rows * columns};
    counted() : tabular::policy(base_logits(), columns) {}
    const counted_space& space() const { return own; }
  };
  const auto vectors_of = [](double most, std::size_t steps) {
    counted policy;
    scripted selector;
    sgd<counted_space> optimizer(policy.space(), {.learning_rate = 2});
    const std::size_t before = policy.own.vectors;
    dopr_options o = small;
    o.steps = steps;
    o.max_step_kl = most;
    const set pool{prompts(rows), {}};
    (void)dopr(policy, pool, pool, selector, centred{}, optimizer, o);
    return policy.own.vectors - before;
  };
  const std::size_t free = vectors_of(infinity, 3);
  CHECK(vectors_of(0.1, 3) == free + 1);
  CHECK(vectors_of(infinity, 30) == free);
  CHECK(vectors_of(0.1, 30) == free + 1);
}

TEST_CASE("dopr: what a selector is told", "[dopr]") {
  tabular::policy policy(base_logits(), columns);
  scripted selector;
  dopr_options o = small;
  o.step_prompts = 2;
  o.candidates = 2;  // for each of the two
  o.first_step = 100;
  (void)train(policy, selector, o);
  const auto& log = *selector.log;
  REQUIRE(log.candidates.size() == 40);
  REQUIRE(log.seen.size() == 80);
  for (std::size_t step = 0; step < 40; ++step) {
    const auto batch = epoch_requests(4, 1, 100 + step, rows, random_key(3).fold(purpose::shuffle));
    REQUIRE(log.candidates[step].size() == 4);
    for (std::size_t i = 0; i < 4; ++i) CHECK(log.candidates[step][i] == batch[i].prompt);
    for (std::size_t i = 0; i < 2; ++i) {
      const auto& [id, seen] = log.seen[2 * step + i];
      CHECK(id == batch[i].prompt);
      CHECK(seen.rollouts == 8);
      CHECK(seen.step == 100 + step);
      CHECK(seen.variance == Approx(seen.mean * (1 - seen.mean)).margin(1e-12));
      CHECK(seen.entropy >= 0);
      CHECK(seen.entropy <= 1);
    }
  }
}

TEST_CASE("dopr: distinct n-grams of a group", "[dopr]") {
  rollouts r;
  const auto add = [&](const std::vector<token>& completion) {
    r.tokens.insert(r.tokens.end(), completion.begin(), completion.end());
    r.offsets.push_back(r.tokens.size());
  };
  for (const std::vector<token>& y : {std::vector<token>{1, 2, 3, 4}, {1, 2, 3}, {7}, {7}, {}, {1, 2}}) add(y);
  CHECK(distinct_ngrams(r, 0, 2) == Approx(2 / 3.0));  // 123 234 123
  CHECK(distinct_ngrams(r, 2, 4) == 0.5);              // 7 7
  CHECK(distinct_ngrams(r, 1, 3) == 1);
  CHECK(distinct_ngrams(r, 0, 6) == Approx(5 / 7.0));  // an empty completion and 12 are n-grams too
  CHECK(distinct_ngrams(r, 0, 2, 1) == Approx(4 / 7.0));
  CHECK(distinct_ngrams(r, 0, 2, 9) == 1);
  CHECK(distinct_ngrams(r, 3, 3) == 0);
  CHECK_THROWS_WITH(distinct_ngrams(r, 0, 2, 0), "distinct_ngrams: n is 0");
  CHECK_THROWS_WITH(distinct_ngrams(r, 0, 7), "distinct_ngrams: rollouts [0, 7) of 6");
  CHECK_THROWS_WITH(distinct_ngrams(r, 4, 2), "distinct_ngrams: rollouts [4, 2) of 6");
  for (std::uint64_t k = 0; k < 20; ++k) {
    std::vector<token> y;
    for (std::uint64_t t = 0; t < k; ++t) y.push_back(static_cast<token>(random_key(k).below(3, t)));
    add(y);
  }
  for (const std::size_t n : {1, 2, 4}) {
    std::set<std::vector<token>> distinct;
    std::size_t all = 0;
    for (std::size_t i = 0; i < r.size(); ++i) {
      const auto y = r.completion(i);
      for (std::size_t t = 0; t == 0 || t + n <= y.size(); ++t, ++all) {
        const auto gram = y.subspan(t, std::min(n, y.size()));
        distinct.emplace(gram.begin(), gram.end());
      }
    }
    CHECK(distinct_ngrams(r, 0, r.size(), n) == static_cast<double>(distinct.size()) / static_cast<double>(all));
  }
}

TEST_CASE("dopr: selectors that learn from divergence and diversity are told them", "[dopr]") {
  tabular::policy policy(base_logits(), columns), other(base_logits(), columns), then(base_logits(), columns);
  measuring selector;
  scripted plain;
  dopr_options o = small;
  o.evaluate_every = 0;
  o.step_prompts = 2;
  o.max_gradient_norm = infinity;
  o.sampling.temperature = 0.7;
  sgd first(policy.space(), fast), second(other.space(), fast);
  struct forgetful_judge {  // scores all but every fifth group
    mutable std::size_t calls = 0;
    verdict operator()(std::size_t p, std::span<const token> completion) const {
      return {judge{}(p, completion).reward, calls++ / 8 % 5 != 4};
    }
  };
  const prompt_set<forgetful_judge> pool{prompts(rows), {}}, same{prompts(rows), {}};
  const random_key draws = random_key(3).fold(purpose::rollout);
  std::map<prompt_id, std::pair<std::size_t, double>> last;  // its last response of a scored visit, and log pi then
  std::size_t again = 0;
  const auto log_p_of = [&](prompt_id id, std::size_t y) {  // as sampled, by `then`
    double sum = 0;
    for (const double p : then.distribution(id)) sum += std::pow(p, 1 / 0.7);
    return std::log(then.distribution(id)[y]) / 0.7 - std::log(sum);
  };
  const auto record = [&](const dopr_step& s) {
    // `then` is the policy that sampled this step.
    const std::vector<sample_request> requests{{s.prompts[0], 8, 0}, {s.prompts[1], 8, 0}};
    const rollouts r = then.sample(pool.prompts, requests, o.sampling, draws.fold(s.step));
    for (std::size_t k = 0; k < 2; ++k) {
      const prompt_id id = s.prompts[k];
      const outcome& seen = selector.log->seen[2 * s.step + k].second;
      CAPTURE(s.step, id);
      double expected = 0;
      if (last.contains(id)) {
        const auto [y, log_p] = last[id];
        expected = std::fabs(log_p - log_p_of(id, y));
        ++again;
      }
      CHECK(seen.divergence == Approx(expected).margin(1e-12));
      std::set<token> distinct;
      for (std::size_t i = 8 * k; i < 8 * k + 8; ++i) distinct.insert(r.completion(i)[0]);
      CHECK(seen.diversity == static_cast<double>(distinct.size()) / 8);
      CHECK((seen.rollouts == 0) == ((2 * s.step + k) % 5 == 4));
      const auto y = static_cast<std::size_t>(r.completion(8 * k + 7)[0]);
      if (seen.rollouts > 0) last[id] = {y, log_p_of(id, y)};
    }
    then.assign(policy.parameters());
  };
  (void)dopr(policy, pool, pool, selector, centred{}, first, o, record);
  (void)dopr(other, same, same, plain, centred{}, second, o);
  CHECK(again > 40);
  CHECK(policy.parameters() == other.parameters());  // measuring moves nothing
  double most = 0;
  for (const auto& [id, seen] : selector.log->seen) most = std::max(most, seen.divergence);
  CHECK(most > 0.1);
  for (const auto& [id, seen] : plain.log->seen) CHECK((seen.divergence == 0 && seen.diversity == 0));
}

TEST_CASE("dopr: SPO forgets what the policy has moved away from, MMR1 sees diversity", "[dopr]") {
  const auto weight_after = [](double learning_rate) {
    tabular::policy policy(base_logits(), columns);
    spo_selector selector = make_spo(rows);
    sgd optimizer(policy.space(), {.learning_rate = learning_rate});
    dopr_options o = small;
    o.steps = 120;
    const set pool{prompts(rows), {}};
    (void)dopr(policy, pool, pool, selector, centred{}, optimizer, o);
    double sum = 0;
    for (prompt_id i = 0; i < rows; ++i) sum += selector.tracker()[i].weight();
    return sum;
  };
  CHECK(weight_after(2) < 0.9 * weight_after(1e-9));

  tabular::policy policy(base_logits(), columns);
  mmr1_selector selector = make_mmr1(rows);
  const set constant{prompts(rows), {.learnable = 0}};  // no variance: what is left of the score is diversity
  sgd optimizer(policy.space(), fast);
  dopr_options o = small;
  o.explore_steps = rows;
  o.steps = rows;
  (void)dopr(policy, constant, constant, selector, centred{}, optimizer, o);
  for (prompt_id i = 0; i < rows; ++i) CHECK(selector.tracker()[i] >= 0.2 * 1 / 8 - 1e-6);
}

TEST_CASE("dopr: divergence is the mean over the tokens of the last response", "[dopr]") {
  struct uneven : tabular::policy {
    using tabular::policy::policy;
    token_scores score(const ragged<token>&, const rollouts& r, double temperature) const {
      token_scores out{r.log_probs, std::vector<double>(r.tokens.size())};
      for (std::size_t t = 0; t < r.tokens.size(); ++t) out.log_probs[t] += temperature * (t % 2 == 0 ? 0.1 : -0.4);
      return out;
    }
  };
  uneven policy(base_logits(), columns);
  rollouts r;
  r.offsets = {0, 1, 3, 6};
  r.tokens = {0, 1, 2, 3, 4, 0};
  r.log_probs = {-1, -2, -1, -3, -1, -2};
  r.entropies.resize(6);
  r.prompts = {8, 3, 8};
  r.finished = {1, 1, 1};
  last_responses responses;
  for (std::size_t i = 0; i < 3; ++i) responses.remember(r, i);
  const std::vector<prompt_id> ids{8, 1, 3};
  const std::vector<double> found = responses.divergences(policy, prompts(rows), ids, 2);
  CHECK(found[0] == Approx(2 * (0.1 + 0.4 + 0.1) / 3));
  CHECK(found[1] == 0);
  CHECK(found[2] == Approx(2 * (0.4 + 0.1) / 2));
}

TEST_CASE("dopr: a divergence that is not finite is the largest", "[dopr]") {
  blind policy(base_logits(), columns);
  const rollouts r = policy.sample(prompts(rows), std::vector<sample_request>{{4, 3, 0}, {2, 1, 0}}, {}, random_key(1));
  last_responses responses;
  const std::vector<prompt_id> ids{7, 4, 2};
  CHECK(responses.divergences(policy, prompts(rows), ids, 1) == std::vector<double>{0, 0, 0});
  responses.remember(r, 2);
  responses.remember(r, 3);
  const std::vector<double> found = responses.divergences(policy, prompts(rows), ids, 1);
  CHECK(found[0] == 0);
  CHECK(found[1] == std::numeric_limits<double>::max());
  CHECK(found[2] == Approx(0).margin(1e-12));
  check_outcome({.divergence = found[1]});
}

TEST_CASE("dopr: rewards of another range reach the selector in [0, 1]", "[dopr]") {
  struct signs {
    verdict operator()(std::size_t p, std::span<const token> completion) const {
      return {2 * judge{}(p, completion).reward - 1};
    }
  };
  tabular::policy a(base_logits(), columns), b(base_logits(), columns);
  scripted plain, mapped;
  sgd first(a.space(), fast), second(b.space(), {.learning_rate = 1, .momentum = 0.5});
  dopr_options o = small;
  o.max_gradient_norm = infinity;
  o.evaluate_every = 0;
  (void)dopr(a, set{prompts(rows), {}}, set{}, plain, centred{}, first, o);
  const prompt_set<signs> pool{prompts(rows), {}};
  CHECK_THROWS_WITH(dopr(b, pool, pool, mapped, centred{}, second, o),
                    Catch::Contains("has reward -1, but dopr_options::rewards is from 0 to 1"));
  mapped.log->seen.clear();
  o.rewards = {-1, 1};
  (void)dopr(b, pool, pool, mapped, centred{}, second, o);
  REQUIRE(mapped.log->seen.size() == 40);
  for (std::size_t i = 0; i < 40; ++i) CHECK(mapped.log->seen[i].second.mean == Approx(plain.log->seen[i].second.mean));
}

TEST_CASE("dopr: two runs are one, and the same seed gives the same run", "[dopr]") {
  tabular::policy whole(base_logits(), columns), parts(base_logits(), columns), other(base_logits(), columns);
  auto one = make_dopr_selector(moving_reward_tracker(rows)), two = one, three = one;
  dopr_options o = small;
  o.max_step_kl = 0.05;
  (void)train(whole, one, o);
  sgd optimizer(parts.space(), fast);
  const set pool{prompts(rows), {}};
  o.steps = 17;
  o.evaluate_every = 0;  // looking changes nothing
  const dopr_result first = dopr(parts, pool, pool, two, centred{}, optimizer, o);
  CHECK(!first.held_out);
  CHECK(first.held_out_rollouts == 0);
  auto restored = make_dopr_selector(moving_reward_tracker(rows));
  restore_state(restored, save_state(two));
  o.steps = 23;
  o.first_step = 17;
  o.evaluate_every = 10;
  const dopr_result second = dopr(parts, pool, pool, restored, centred{}, optimizer, o);
  CHECK(second.history.front().held_out == second.held_out->base);  // a run looks at its first policy
  CHECK(second.held_out_rollouts == 4 * rows * 4);                  // 17, 20, 30 and after 39
  CHECK(second.history.front().step == 17);
  CHECK(parts.parameters() == whole.parameters());
  CHECK(save_state(restored) == save_state(one));

  o = small;
  o.max_step_kl = 0.05;
  o.seed = 4;
  (void)train(other, three, o);
  CHECK(other.parameters() != whole.parameters());
}

TEST_CASE("dopr: k prompts a step are distinct", "[dopr]") {
  tabular::policy policy(base_logits(), columns);
  auto selector = make_dopr_selector(moving_reward_tracker(rows));
  dopr_options o = small;
  o.step_prompts = GENERATE(3, 12);
  const dopr_result result = train(policy, selector, o);
  CHECK(result.rollouts == 40 * o.step_prompts * 8);
  CHECK(result.visits == 40 * o.step_prompts);
  for (const dopr_step& s : result.history)
    CHECK(std::set<prompt_id>(s.prompts.begin(), s.prompts.end()).size() == o.step_prompts);
}

TEST_CASE("dopr: a step stays within its KL", "[dopr]") {
  // 512 rollouts: the estimate is within a fifth of the exact KL of the prompt that was rolled out.
  tabular::policy policy(base_logits(), columns);
  auto selector = make_dopr_selector(moving_reward_tracker(rows));
  sgd optimizer(policy.space(), {.learning_rate = 50});
  const set pool{prompts(rows), {}};
  dopr_options o = small;
  o.group_size = 512;
  o.max_step_kl = 0.02;
  tabular::policy before(base_logits(), columns);
  std::size_t bound = 0;
  const dopr_result result = dopr(policy, pool, pool, selector, centred{}, optimizer, o, [&](const dopr_step& s) {
    CAPTURE(s.step);
    CHECK(s.kl <= 0.02);
    const std::vector<double> p = before.distribution(s.prompts[0]), q = policy.distribution(s.prompts[0]);
    double kl = 0;
    for (std::size_t k = 0; k < columns; ++k) kl += p[k] * std::log(p[k] / q[k]);
    CHECK(kl == Approx(s.kl).epsilon(0.2).margin(1e-4));
    bound += s.share < 1 && s.share > 0;
    if (s.share < 1 && s.share > 0) CHECK(s.kl > 0.01);  // a step size from a KL target
    before.assign(policy.parameters());
  });
  CHECK(result.status == dopr_status::finished);
  CHECK(bound > 10);

  // A bound that never binds changes no bit.
  tabular::policy loose(base_logits(), columns), without(base_logits(), columns);
  auto a = make_dopr_selector(moving_reward_tracker(rows)), b = a;
  o = small;
  (void)train(without, b, o);
  o.max_step_kl = 1e6;
  const dopr_result free = train(loose, a, o);
  CHECK(loose.parameters() == without.parameters());
  CHECK(std::any_of(free.history.begin(), free.history.end(), [](const auto& s) { return s.kl > 0; }));
}

TEST_CASE("dopr: the default options meet each prompt once in an epoch and keep every step short", "[dopr]") {
  // Volatility alone, which in the whole pool returns to what it has seen vary.
  constexpr std::size_t pool = 48;
  tabular::policy policy(base_logits(), columns);
  auto selector = make_dopr_selector(moving_reward_tracker(pool), {.bonus = {.scale = 0}});
  sgd optimizer(policy.space(), {.learning_rate = 50});
  const set all{prompts(pool), {}};
  const dopr_options defaults;
  dopr_options o{.steps = 30, .evaluate_every = 0};
  const dopr_result result = dopr(policy, all, all, selector, centred{}, optimizer, o);
  std::size_t bound = 0;
  for (std::size_t epoch = 0; epoch < 10; ++epoch) {
    std::set<prompt_id> seen;
    for (std::size_t step = 3 * epoch; step < 3 * epoch + 3; ++step) {
      seen.insert(result.history[step].prompts[0]);
      CHECK(result.history[step].kl <= defaults.max_step_kl);
      bound += result.history[step].share > 0 && result.history[step].share < 1;
    }
    CHECK(seen.size() == 3);
  }
  CHECK(bound > 10);
  // They suit any pool and any k.
  for (const std::size_t k : {1, 2, 12}) {
    scripted little;
    o = {.steps = 3, .step_prompts = k, .evaluate_every = 0};
    (void)train(policy, little, o);
    for (const auto& candidates : little.log->candidates) CHECK(candidates.size() == rows);
  }
}

TEST_CASE("dopr: a step that no share brings within its KL is not taken", "[dopr]") {
  blind policy(base_logits(), columns);
  scripted selector;
  dopr_options o = small;
  o.max_step_kl = 0.1;
  const dopr_result result = train(policy, selector, o);
  CHECK(result.status == dopr_status::no_step_within_kl);
  CHECK(to_string(result.status) == "no_step_within_kl");
  CHECK(result.rollouts == 40 * 8);
  for (const dopr_step& s : result.history) CHECK(s.share == 0);
  CHECK(policy.parameters() == base_logits());
}

TEST_CASE("dopr: momentum that moves the policy is a step, though the group had no gradient", "[dopr]") {
  tabular::policy policy(base_logits(), columns);
  pool_selector<predicted_rates, near_target, draw_uniform, keep_all> selector{predicted_rates(rows)};
  sgd optimizer(policy.space(), {.learning_rate = 1e6, .momentum = 0.3});
  const set all{prompts(rows), {}};
  dopr_options o = small;
  o.max_step_kl = 1e-4;
  const dopr_result result = dopr(policy, all, all, selector, centred{}, optimizer, o);
  bool by_momentum = false, by_gradient = false;
  for (const dopr_step& s : result.history) (s.gradient_norm > 0 ? by_gradient : by_momentum) |= s.share > 0;
  CHECK(policy.parameters() != base_logits());
  CHECK(by_momentum);
  CHECK_FALSE(by_gradient);  // 1e6 is too long for each of them
  CHECK(result.status == dopr_status::finished);
}

TEST_CASE("dopr: a sampler of negative log-likelihoods is refused before it is trained", "[dopr]") {
  struct flipped : tabular::policy {
    using tabular::policy::policy;
    rollouts sample(const ragged<token>& p, std::span<const sample_request> requests, const sampling_options& options,
                    random_key key) const {
      rollouts r = tabular::policy::sample(p, requests, options, key);
      for (double& x : r.log_probs) x = -x;
      return r;
    }
  };
  flipped policy(base_logits(), columns);
  scripted selector;
  dopr_options o = small;
  o.max_step_kl = 0.1;
  CHECK_THROWS_WITH(train(policy, selector, o), Catch::Contains("log_probs[") && Catch::Contains("above 0"));
  CHECK(policy.parameters() == base_logits());
}

TEST_CASE("dopr: a failure anywhere restores policy and selector", "[dopr]") {
  tabular::policy policy(base_logits(), columns);
  auto selector = make_dopr_selector(moving_reward_tracker(rows));
  const auto untouched = save_state(selector);
  sgd optimizer(policy.space(), fast);
  const auto same = [&] { return policy.parameters() == base_logits() && save_state(selector) == untouched; };

  struct failing_judge {
    std::size_t last;
    double reward = infinity;  // what it says at last, unless it throws
    mutable std::size_t calls = 0;
    verdict operator()(std::size_t p, std::span<const token> completion) const {
      if (++calls <= last) return judge{}(p, completion);
      if (std::isinf(reward)) throw std::runtime_error("the judge is ill");
      return {reward};
    }
  };
  const prompt_set<failing_judge> never{prompts(rows), {1u << 20}};
  const prompt_set<failing_judge> ill{prompts(rows), {8 * 7}};
  CHECK_THROWS_WITH(dopr(policy, ill, never, selector, centred{}, optimizer, small), "the judge is ill");
  CHECK(ill.verify.calls == 8 * 7 + 1);
  CHECK(same());
  const prompt_set<failing_judge> nan{prompts(rows), {8 * 7, std::numeric_limits<double>::quiet_NaN()}};
  CHECK_THROWS_AS(dopr(policy, nan, never, selector, centred{}, optimizer, small), std::invalid_argument);
  CHECK(same());
  const prompt_set<failing_judge> two{prompts(rows), {8 * 7 + 2, 2.0}};
  CHECK_THROWS_WITH(dopr(policy, two, never, selector, centred{}, optimizer, small),
                    "dopr: a rollout of prompt 9 has reward 2, but dopr_options::rewards is from 0 to 1");
  CHECK(same());
  const prompt_set<failing_judge> ill_at_the_end{prompts(rows), {rows * 4 * 4}};
  CHECK_THROWS_AS(dopr(policy, never, ill_at_the_end, selector, centred{}, optimizer, small), std::runtime_error);
  CHECK(same());

  struct failing_policy : tabular::policy {
    using tabular::policy::policy;
    mutable int left = 9;
    void accumulate_score(const ragged<token>& prompts, const rollouts& r, std::span<const double> c, double t,
                          std::vector<double>& g) const {
      if (--left == 0) throw std::runtime_error("out of memory");
      tabular::policy::accumulate_score(prompts, r, c, t, g);
    }
  } weak(base_logits(), columns);
  CHECK_THROWS_WITH(train(weak, selector), "out of memory");
  CHECK(weak.parameters() == base_logits());
  CHECK(same());

  struct failing_scorer : tabular::policy {
    using tabular::policy::policy;
    mutable int left = 9;
    token_scores score(const ragged<token>& prompts, const rollouts& r, double t) const {
      if (--left == 0) throw std::runtime_error("out of memory");
      return tabular::policy::score(prompts, r, t);
    }
  } unmeasured(base_logits(), columns);
  spo_selector spo = make_spo(rows);
  CHECK_THROWS_WITH(train(unmeasured, spo), "out of memory");
  CHECK(unmeasured.left == 0);
  CHECK(unmeasured.parameters() == base_logits());
  CHECK(save_state(spo) == save_state(make_spo(rows)));

  const set pool{prompts(rows), {}};
  CHECK_THROWS_AS(dopr(policy, pool, pool, selector, centred{}, optimizer, small,
                       [](const dopr_step& s) {
                         if (s.step == 6) throw std::runtime_error("enough");
                       }),
                  std::runtime_error);
  CHECK(same());
}

TEST_CASE("dopr: what is not finite ends the run at the last finite parameters", "[dopr]") {
  struct broken : tabular::policy {
    using tabular::policy::policy;
    mutable std::size_t calls = 0;
    void accumulate_score(const ragged<token>& prompts, const rollouts& r, std::span<const double> c, double t,
                          std::vector<double>& g) const {
      tabular::policy::accumulate_score(prompts, r, c, t, g);
      if (++calls == 5) g[7] = std::numeric_limits<double>::quiet_NaN();
    }
  } policy(base_logits(), columns);
  scripted selector;
  const dopr_result result = train(policy, selector);
  CHECK(result.status == dopr_status::nonfinite_gradient);
  CHECK(result.steps == 4);
  CHECK(result.history.size() == 5);
  CHECK(result.rollouts == 5 * 8);
  CHECK(selector.learned == 5);
  for (double v : policy.parameters()) CHECK(std::isfinite(v));

  struct runaway {
    int steps = 0;
    void step(const tabular::space& space, std::vector<double>& theta, const std::vector<double>& g, double) {
      space.axpy(++steps == 3 ? infinity : 1, g, theta);
    }
  } optimizer;
  tabular::policy other(base_logits(), columns);
  const set pool{prompts(rows), {}};
  const dopr_result run = dopr(other, pool, pool, selector, centred{}, optimizer, small);
  CHECK(run.status == dopr_status::nonfinite_parameters);
  for (double v : other.parameters()) CHECK(std::isfinite(v));
  CHECK(other.parameters() != base_logits());
}

TEST_CASE("dopr: needs nothing of its arguments beyond their concepts", "[dopr]") {
  struct plain_ascent {
    plain_ascent() = default;
    plain_ascent(const plain_ascent&) = delete;
    void step(const archetype::space& space, archetype::vector& theta, const archetype::vector& g, double factor) {
      space.axpy(2 * factor, g, theta);
    }
  } ascent;
  archetype::policy opaque(base_logits(), columns);
  tabular::policy open(base_logits(), columns);
  scripted a, b;
  const set pool{prompts(rows), {}};
  sgd same(open.space(), {.learning_rate = 2});
  dopr_options o = small;
  o.max_step_kl = 0.1;
  const dopr_result first = dopr(opaque, pool, pool, a, group_normalized{}, ascent, o);
  const dopr_result second = dopr(open, pool, pool, b, group_normalized{}, same, o);
  CHECK(first.held_out->moved == second.held_out->moved);
  const prompt_set<archetype::rollout_verifier> weak{prompts(rows), {}};
  CHECK(dopr(opaque, weak, weak, a, archetype::advantage_estimator{}, ascent, small).steps == 40);
}

TEST_CASE("dopr: bad options are named", "[dopr]") {
  tabular::policy policy(base_logits(), columns);
  const auto message = [&](auto change, std::size_t pool = rows, std::size_t held_out = 4) {
    dopr_options o = small;
    change(o);
    sgd optimizer(policy.space());
    scripted selector;
    try {
      (void)dopr(policy, set{prompts(pool), {}}, set{prompts(held_out), {}}, selector, centred{}, optimizer, o);
    } catch (const std::invalid_argument& e) {
      return std::string(e.what());
    }
    return std::string("no error");
  };
  const auto nothing = [](auto&) {};
  CHECK(message(nothing) == "no error");
  CHECK(message([](auto& o) { o.steps = 0; }) == "dopr: steps is 0");
  CHECK(message(nothing, 11) == "dopr: a selector of 12 prompts for a training set of 11");
  CHECK(message([](auto& o) { o.step_prompts = 13; }) == "dopr: steps of 13 prompts from 12");
  CHECK(message([](auto& o) { o.step_prompts = 0; }) == "dopr: steps of 0 prompts from 12");
  CHECK(message([](auto& o) { o.candidates = static_cast<std::size_t>(-1); }) == "no error");  // means the whole pool
  CHECK(message([](auto& o) { o.group_size = 0; }) == "dopr: group_size is 0");
  CHECK(message([](auto& o) { o.max_gradient_norm = 0; }) == "dopr: max_gradient_norm is 0");
  CHECK(message([](auto& o) { o.max_step_kl = 0; }) == "dopr: max_step_kl is 0");
  CHECK(message([](auto& o) { o.rewards = {1, 1}; }) == "dopr: rewards from 1 to 1");
  CHECK(message([](auto& o) { o.rewards.high = infinity; }) == "dopr: rewards from 0 to inf");
  CHECK(message([](auto& o) { o.rewards = {-1, 0.5}; }).ends_with(
      " has reward 1, but dopr_options::rewards is from -1 to 0.5"));
  CHECK(message([](auto& o) { o.evaluation_group = 0; }) == "dopr: evaluation_group is 0");
  CHECK(message(nothing, rows, 0) == "dopr: there are no held-out prompts");
  CHECK(message([](auto& o) { o.evaluate_every = 0; }, rows, 0) == "no error");
  CHECK(policy.parameters() != base_logits());
}

TEST_CASE("group entropy: distinct answers and tokens", "[dopr]") {
  CHECK(normalized_entropy(std::vector<int>{}) == 1);
  CHECK(normalized_entropy(std::vector<int>{3}) == 1);
  CHECK(normalized_entropy(std::vector<int>{3, 3, 3, 3}) == 0);
  CHECK(normalized_entropy(std::vector<int>{4, 1, 3, 2}) == Approx(1));
  CHECK(normalized_entropy(std::vector<int>{1, 2, 1, 2}) == Approx(std::log(2) / std::log(4)));
  CHECK(normalized_entropy(std::vector<std::string>{"b", "a", "b", "b"}) ==
        Approx(-(0.25 * std::log(0.25) + 0.75 * std::log(0.75)) / std::log(4)));

  rollouts r;
  r.offsets = {0, 2, 4, 6, 6};
  r.tokens = {1, 9, 1, 8, 2, 9};
  r.entropies = {0.5, 0.1, 0.3, 0.1, 0.2, 0.6};
  CHECK(answer_entropy<>{}(r, 0, 3) == Approx(1));
  CHECK(answer_entropy<>{}(r, 0, 1) == 1);
  const auto last = [](std::span<const token> c) { return c.empty() ? token{-1} : c.back(); };
  CHECK(answer_entropy<decltype(last)>{last}(r, 0, 3) ==
        Approx(-(std::log(1. / 3) / 3 + 2 * std::log(2. / 3) / 3) / std::log(3)));
  CHECK(token_entropy{4}(r, 1, 3) == Approx(0.3 / std::log(4)));
  CHECK(token_entropy{2}(r, 0, 1) == Approx(0.3 / std::log(2)));
  CHECK(token_entropy{2}(r, 3, 4) == 1);
  CHECK_THROWS_WITH(token_entropy{1}(r, 0, 1), "token_entropy: vocabulary is 1");
  CHECK(no_entropy{}(r, 0, 4) == 1);
}

TEST_CASE("group entropy: what cannot be read by rollout is refused", "[dopr]") {
  rollouts r;
  r.offsets = {0, 2, 4, 6, 6};
  r.tokens = {1, 9, 1, 8, 2, 9};
  r.entropies = {0.5, 0.1, 0.3, 0.1, 0.2, 0.6};
  const auto refuses = [](const rollouts& bad, std::size_t begin, std::size_t end, const std::string& why) {
    CHECK_THROWS_WITH(answer_entropy<>{}(bad, begin, end), "answer_entropy: " + why);
    CHECK_THROWS_WITH(token_entropy{4}(bad, begin, end), "token_entropy: " + why);
    CHECK_THROWS_WITH(distinct_ngrams(bad, begin, end), "distinct_ngrams: " + why);
  };
  refuses(r, 0, 5, "rollouts [0, 5) of 4");
  refuses(r, 3, 2, "rollouts [3, 2) of 4");
  rollouts bad = r;
  bad.offsets[1] = 5;
  refuses(bad, 0, 2, "offsets[2] = 4 is below offsets[1] = 5");
  CHECK(token_entropy{4}(bad, 2, 3) == token_entropy{4}(r, 2, 3));  // the rollouts asked for, and no others
  bad.offsets[1] = 1000;
  refuses(bad, 0, 1, "offsets[1] = 1000, but offsets end at 6");
  bad.offsets = {};
  refuses(bad, 0, 1, "offsets is empty");
  bad = r;
  bad.tokens = {1, 9};
  refuses(bad, 0, 1, "2 tokens, but offsets end at 6");
  bad.tokens = {};
  CHECK_THROWS_WITH(answer_entropy<>{}(bad, 0, 1), "answer_entropy: 0 tokens, but offsets end at 6");
  CHECK_THROWS_WITH(distinct_ngrams(bad, 0, 1), "distinct_ngrams: 0 tokens, but offsets end at 6");
  CHECK(token_entropy{4}(bad, 0, 4) == token_entropy{4}(r, 0, 4));  // reads no tokens
  bad.entropies = {};
  CHECK_THROWS_WITH(token_entropy{4}(bad, 0, 1), "token_entropy: 0 entropies for 6 tokens");
}

TEST_CASE("statistics: rollouts until an accuracy is reached, runs that never do included", "[dopr]") {
  using report::bound;
  const std::vector<report::look> run{{0, 0.4}, {100, 0.6}, {200, 0.5}, {300, 0.9}};
  CHECK(*report::first_reach(run, 0.3) == 0);
  CHECK(*report::first_reach(run, 0.5) == Approx(50));
  CHECK(*report::first_reach(run, 0.6) == Approx(100));
  CHECK(*report::first_reach(run, 0.7) == Approx(250));
  CHECK(!report::first_reach(run, 0.95));
  CHECK(!report::first_reach({}, 0.1));

  const std::optional<double> never;
  const std::vector<std::optional<double>> all{100., 200., 300.}, some{100., never, never}, none{never, never, never},
      twice{200., 400., 600.};
  const auto complete = report::time_to(0.5, all, 1000);
  CHECK(complete.rollouts.mean == Approx(200));
  CHECK(complete.reached == 3);
  CHECK(complete.kind == bound::exact);
  const auto censored = report::time_to(0.5, some, 1000);
  CHECK(censored.rollouts.mean == Approx(700));
  CHECK(censored.reached == 1);
  CHECK(censored.runs == 3);
  CHECK(censored.kind == bound::at_least);
  CHECK(report::time_to(0.5, none, 1000).rollouts == interval{1000, 1000, 1000});
  CHECK(censored.rollouts.low == 0);  // the restricted mean is between 0 and the horizon
  CHECK(censored.rollouts.high == 1000);
  CHECK(complete.rollouts.low == 0);
  CHECK(complete.rollouts.high == Approx(200 + 4.302652730 * 100 / std::sqrt(3)));
  const std::vector<double> high{0.9, 1.0}, alone{0.5};
  CHECK(report::accuracy_interval(high).mean == Approx(0.95));
  CHECK(report::accuracy_interval(high).high == 1);
  CHECK(report::accuracy_interval(std::vector<double>{0.1, 0.0}).low == 0);
  CHECK(report::accuracy_interval(alone) == interval{0.5, 0, 1});
  CHECK_THROWS_AS(report::time_to(0.5, {}, 1000), std::invalid_argument);

  const auto half = report::saved(twice, all, 1000);
  CHECK(half.factor.mean == Approx(2));
  CHECK(half.factor.low == Approx(2));  // paired by seed: the same factor in every one
  CHECK(half.kind == bound::exact);
  const auto least = report::saved(some, all, 1000);
  CHECK(least.factor.mean == Approx(std::cbrt(1 * 5 * (10. / 3))));
  CHECK(least.kind == bound::at_least);
  CHECK(report::saved(all, some, 1000).kind == bound::at_most);
  CHECK(report::saved(all, some, 1000).factor.mean == Approx(1 / least.factor.mean));
  CHECK(report::saved(some, none, 1000).kind == bound::unknown);
  // A base that has the accuracy already needs no rollouts.
  const std::vector<std::optional<double>> at_once{0., 0., 0.};
  CHECK(report::saved(at_once, at_once, 1000).factor == interval{1, 1, 1});
  CHECK(report::saved(at_once, all, 1000).factor.mean == Approx(1 / std::cbrt(100. * 200 * 300)));
  CHECK_THROWS_AS(report::saved(all, std::span(some).first(2), 1000), std::invalid_argument);
}

TEST_CASE("pools: kinds of prompts by what the base can do", "[dopr]") {
  std::vector<std::string> texts, answers;
  std::vector<double> rates;
  for (const chain::problem& p : chain::draw_problems(chain::split::train, 600, random_key(1))) {
    texts.push_back(chain::prompt_text(p));
    answers.push_back(chain::answer_text(p));
    rates.push_back(random_key(2).uniform(rates.size()));
    CHECK((chain::plain_sum(texts.back()) % 100 + 100) % 100 == std::stoi(answers.back()));
  }
  CHECK(chain::plain_sum("47+85-09=======") == 123);
  CHECK(chain::plain_sum("07-85=========") == -78);
  CHECK(chain::answer_of("+23=51") == "51");
  CHECK(chain::answer_of("+23") == "");
  const chain::task_prompt any{"07-85=========", "22", chain::grading::form}, one{"07-85=========", "22"};
  CHECK(chain::graded_answer(any, "-22=13") == chain::graded_answer(any, "-22=22"));
  CHECK(chain::graded_answer(any, "-22=1") == "1");
  CHECK(chain::graded_answer(one, "-22=13") == "13");

  const auto rate_of = [&](const chain::task_prompt& t) {
    return rates[static_cast<std::size_t>(std::find(texts.begin(), texts.end(), t.prompt) - texts.begin())];
  };
  const auto realistic =
      chain::make_pool({.kind = chain::pool_kind::realistic, .size = 100, .seed = 1}, texts, answers, rates);
  REQUIRE(realistic.size() == 100);
  std::set<std::string> distinct;
  std::size_t form = 0, beyond = 0;
  for (const chain::task_prompt& t : realistic) {
    distinct.insert(t.prompt);
    form += t.by == chain::grading::form;
    if (t.by == chain::grading::form) {
      CHECK(chain::is_right(t, "+11=00"));
      CHECK(!chain::is_right(t, "+11=0"));
      CHECK(!chain::is_right(t, "+11"));
      CHECK(!chain::is_right(t, "=0+"));
      continue;
    }
    CHECK(chain::is_right(t, "=" + t.answer));
    if (t.answer.size() > 2) {
      ++beyond;
      CHECK(t.answer == std::to_string(chain::plain_sum(t.prompt)));
    } else if (chain::plain_sum(t.prompt) >= 0) {
      CHECK(rate_of(t) >= 0.2);
      CHECK(rate_of(t) <= 0.8);
    }
  }
  CHECK(distinct.size() == 100);
  CHECK(form == 45);
  CHECK(beyond >= 30);  // "-7" has two characters

  const auto wrong = chain::make_pool({.kind = chain::pool_kind::mislabelled, .size = 100, .wrong = 0.3, .seed = 1},
                                      texts, answers, rates);
  std::size_t changed = 0;
  std::map<int, int> quarters;
  for (const chain::task_prompt& t : wrong) {
    const int gold = (chain::plain_sum(t.prompt) % 100 + 100) % 100;
    CHECK(t.wrong == (std::stoi(t.answer) != gold));
    changed += t.wrong;
    ++quarters[static_cast<int>(4 * rate_of(t))];
  }
  CHECK(changed == 30);
  for (int q = 0; q < 4; ++q) CHECK(quarters[q] == 25);
  CHECK_THROWS_WITH(chain::make_pool({.kind = chain::pool_kind::balanced, .size = 1000}, texts, answers, rates),
                    Catch::Contains("prompts are missing for the balanced pool"));
  CHECK_THROWS_AS(chain::make_pool({.wrong = 1.5}, texts, answers, rates), std::invalid_argument);
}
