/// A sampler, a scorer or a verifier that does not keep its contract: an error that names array and index, or a
/// documented outcome, and the policy's parameters are what they were, bit for bit.

#include <cmath>
#include <cstddef>
#include <functional>
#include <limits>
#include <span>
#include <stdexcept>
#include <string>
#include <vector>

#include <rlvr/advantage/centred.hpp>
#include <rlvr/backend/tabular/policy.hpp>
#include <rlvr/core/slice.hpp>
#include <rlvr/objective/reinforce.hpp>
#include <rlvr/optimize/sgd.hpp>
#include <rlvr/search/policy_line.hpp>
#include <rlvr/select/dopr.hpp>
#include <rlvr/select/reward_trackers.hpp>
#include <rlvr/train/dopr.hpp>
#include <rlvr/train/grpo.hpp>
#include <rlvr/train/one_shot.hpp>
#include <rlvr/train/visit_measures.hpp>
#include <rlvr/verify/verifier.hpp>

#include "catch.hpp"
#include "four_rows.hpp"

namespace {

using namespace rlvr;
using four_rows::base_logits;
using four_rows::prompts_of;

struct judge {
  bool scores = true;
  verdict operator()(std::size_t p, std::span<const token> completion) const {
    return {static_cast<std::size_t>(completion[0]) == p % 4 ? 1.0 : 0.0, scores};
  }
};
using set = prompt_set<judge>;
const set good{prompts_of(32), {}}, mute{prompts_of(32), {.scores = false}};

/// A tabular policy whose `call`-th batch is damaged.
struct careless : tabular::policy {
  careless(std::function<void(rollouts&)> how, std::size_t which)
      : tabular::policy(base_logits(), 5), damage(std::move(how)), call(which) {}
  std::function<void(rollouts&)> damage;
  std::size_t call, sampled = 0;

  rollouts sample(const ragged<token>& prompts, std::span<const sample_request> requests,
                  const sampling_options& options, random_key key) {
    rollouts r = tabular::policy::sample(prompts, requests, options, key);
    if (sampled++ == call) damage(r);
    return r;
  }
};
static_assert(policy<careless>);

struct defect {
  const char* message;  ///< a part of it
  std::function<void(rollouts&)> damage;
};

const std::vector<defect> defects{
    {"tokens, but offsets end at ",
     [](rollouts& r) {
       for (std::size_t i = 0; i < r.offsets.size(); ++i) r.offsets[i] = 3 * i;
     }},
    {"rollouts: 0 tokens, but offsets end at ", [](rollouts& r) { r.tokens.clear(); }},
    {"tokens, but offsets end at ", [](rollouts& r) { r.offsets.back() += 5; }},
    {"rollouts: offsets[3] = 1 is below offsets[2] = 2", [](rollouts& r) { r.offsets[3] = 1; }},
    {"rollouts: offsets[0] = 1", [](rollouts& r) { r.offsets[0] = 1; }},
    {"rollouts: offsets is empty", [](rollouts& r) { r.offsets.clear(); }},
    {"tokens, but offsets end at ", [](rollouts& r) { r.offsets.pop_back(); }},
    {" prompts for ", [](rollouts& r) { r.offsets.erase(r.offsets.begin() + 1); }},
    {"rollouts: 0 rollouts, but ", [](rollouts& r) { r = {}; }},
    {" were asked for", [](rollouts& r) { r = head(r, r.size() - 1); }},
    {" were asked for", [](rollouts& r) { append(r, slice(r, 0, 1)); }},
    {"rollouts: prompts[1] = 1000000, but there are 32 prompts", [](rollouts& r) { r.prompts[1] = 1000000; }},
    {", but a rollout of prompt ", [](rollouts& r) { r.prompts[1] = (r.prompts[1] + 1) % 32; }},
    {" log_probs for ", [](rollouts& r) { r.log_probs.pop_back(); }},
    {" entropies for ", [](rollouts& r) { r.entropies.clear(); }},
    {" finished flags for ", [](rollouts& r) { r.finished.clear(); }},
    {" verdicts for ", [](rollouts& r) { r.verdicts.resize(1); }},
};

/// Every batch that run(policy) asks for is damaged once, in every way.
template <class Run>
void check_every_batch(Run run, std::size_t at_least) {
  for (const defect& d : defects) {
    INFO(d.message);
    std::size_t call = 0;
    for (;; ++call) {
      INFO("batch " << call);
      careless policy(d.damage, call);
      std::string message = "no error";
      try {
        run(policy);
      } catch (const std::invalid_argument& e) {
        message = e.what();
      }
      if (policy.sampled <= call) break;
      CHECK_THAT(message, Catch::Contains(d.message));
      CHECK(policy.parameters() == base_logits());
    }
    CHECK(call >= at_least);
  }
}

}  // namespace

TEST_CASE("bad sampler: one_shot names what is wrong with a batch", "[bad_sampler][one_shot]") {
  for (const std::size_t steps : {1u, 3u})
    check_every_batch(
        [&](careless& policy) {
          (void)one_shot(policy, good, good, good, centred{},
                         {.rollouts = 256, .group_size = 8, .steps = steps, .seed = 7});
        },
        10);
}

TEST_CASE("bad sampler: grpo names what is wrong with a batch", "[bad_sampler][grpo]") {
  check_every_batch(
      [](careless& policy) {
        sgd optimizer(policy.space());
        (void)grpo(policy, good, good, centred{}, optimizer,
                   {.steps = 3, .batch_prompts = 8, .group_size = 4, .evaluate_every = 2});
      },
      6);
}

TEST_CASE("bad sampler: dopr names what is wrong with a batch", "[bad_sampler][dopr]") {
  check_every_batch(
      [](careless& policy) {
        sgd optimizer(policy.space());
        auto selector = make_dopr_selector(moving_reward_tracker(32));
        (void)dopr(policy, good, good, selector, centred{}, optimizer,
                   {.steps = 3, .step_prompts = 2, .group_size = 4, .evaluate_every = 2});
      },
      6);
}

TEST_CASE("bad sampler: evaluate_policy names what is wrong with a batch", "[bad_sampler]") {
  check_every_batch(
      [](careless& policy) {
        (void)evaluate_policy(policy, good.prompts, requests_for(good.prompts, 2), {}, random_key(1), good.verify);
      },
      1);
}

TEST_CASE("bad sampler: log-probs of the base policy that are not finite are named", "[bad_sampler][one_shot]") {
  for (const double bad : {std::nan(""), std::numeric_limits<double>::infinity()}) {
    careless policy([bad](rollouts& r) { r.log_probs[3] = bad; }, 0);
    CHECK_THROWS_WITH(
        one_shot(policy, good, good, good, centred{}, {.rollouts = 256, .group_size = 8}),
        "rollouts: log_probs[3] is " + concat(bad));
    CHECK(policy.parameters() == base_logits());
  }
}

TEST_CASE("bad sampler: what reads rollouts by offset checks them", "[bad_sampler]") {
  rollouts r;
  r.offsets = {0, 2, 5};
  r.tokens = {1, 2, 3};
  r.prompts = {0, 1};
  CHECK_THROWS_WITH(reinforce_coefficients(r, std::vector<double>(2, 1.0), 1.0),
                    "rollouts: 3 tokens, but offsets end at 5");
  CHECK_THROWS_WITH(verify(judge{}, r), "rollouts: 3 tokens, but offsets end at 5");
  CHECK(r.verdicts.empty());
  r.offsets = {0, 3, 2};
  r.tokens = {1, 2};
  CHECK_THROWS_WITH(verify(judge{}, r), "rollouts: offsets[2] = 2 is below offsets[1] = 3");
  CHECK_THROWS_WITH(reinforce_coefficients(r, std::vector<double>(2, 1.0), 1.0),
                    "rollouts: offsets[2] = 2 is below offsets[1] = 3");
  r.offsets = {0, 1, 2};
  r.prompts = {0};
  CHECK_THROWS_WITH(verify(judge{}, r), "rollouts: 1 prompts for 2 rollouts");
}

TEST_CASE("bad sampler: the last responses are whole, and scored as many as they are", "[bad_sampler][dopr]") {
  struct forgetful : tabular::policy {
    using tabular::policy::policy;
    token_scores score(const ragged<token>&, const rollouts&, double) const { return {}; }
  } policy(base_logits(), 5);
  const rollouts r = policy.sample(good.prompts, requests_for(good.prompts, 2), {}, random_key(1));
  last_responses responses;
  responses.remember(r, 5);
  const std::vector<prompt_id> ids{r.prompts[5]};
  CHECK_THROWS_WITH(responses.divergences(policy, good.prompts, ids, 1.0),
                    "last_responses: the scorer returned 0 log_probs for 1 tokens");
  CHECK_THROWS_WITH(responses.remember(r, 64), "slice: rollouts [64, 65) of 64");
  rollouts bare;
  bare.offsets = r.offsets;
  bare.tokens = r.tokens;
  CHECK_THROWS_WITH(responses.remember(bare, 0), "last_responses: rollouts without prompts or log_probs");
}

TEST_CASE("bad sampler: nothing scored is an outcome", "[bad_sampler][one_shot]") {
  for (const std::size_t steps : {1u, 4u}) {
    const one_shot_options o{.rollouts = 512, .group_size = 16, .steps = steps, .seed = 7};
    const auto run = [&](const set& train, const set& validation, const set& confirmation) {
      tabular::policy policy(base_logits(), 5);
      const auto result = one_shot(policy, train, validation, confirmation, centred{}, o);
      CHECK(policy.parameters() == base_logits());
      return result;
    };
    for (const auto& result : {run(mute, mute, mute), run(good, mute, good)}) {
      CHECK(result.status == one_shot_status::nothing_scored);
      CHECK(to_string(result.status) == "nothing_scored");
      CHECK(result.alpha == 0);
      CHECK(!result.direction);
      CHECK(!result.confirmation);
      REQUIRE(result.landscape.size() == 1);
      CHECK(std::isnan(result.base.accuracy.mean));
      CHECK(result.base.point.entropy > 0);
    }
    CHECK(!std::isnan(run(good, mute, good).sampled.mean));
    const auto untaught = run(mute, good, good);
    CHECK(untaught.status == one_shot_status::nothing_scored);
    CHECK(std::isnan(untaught.sampled.mean));
    CHECK(untaught.base.accuracy.mean > 0);
    CHECK(run(good, good, mute).status == one_shot_status::not_confirmed);
  }
  tabular::policy policy(base_logits(), 5);
  sgd optimizer(policy.space());
  CHECK(grpo(policy, mute, mute, centred{}, optimizer, {.steps = 2, .batch_prompts = 8}).status ==
        grpo_status::no_signal);
  auto selector = make_dopr_selector(moving_reward_tracker(32));
  CHECK(dopr(policy, mute, mute, selector, centred{}, optimizer, {.steps = 2}).status == dopr_status::no_signal);
  CHECK(policy.parameters() == base_logits());
}
