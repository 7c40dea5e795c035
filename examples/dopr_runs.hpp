#pragma once
/// One run of one way to choose prompts, over any policy: what the program dopr compares.

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <iterator>
#include <limits>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include <rlvr/advantage/group_normalized.hpp>
#include <rlvr/backend/decoder/chat_template.hpp>
#include <rlvr/backend/decoder/prompts.hpp>
#include <rlvr/core/policy.hpp>
#include <rlvr/diagnose/subset_cosine.hpp>
#include <rlvr/gradient/subset_gradients.hpp>
#include <rlvr/objective/reinforce.hpp>
#include <rlvr/optimize/adamw.hpp>
#include <rlvr/select/dopr.hpp>
#include <rlvr/select/rate_utility.hpp>
#include <rlvr/tokenizer/folder.hpp>
#include <rlvr/train/dopr.hpp>

#include "dopr_pools.hpp"
#include "dopr_report.hpp"

namespace dopr_runs {

inline constexpr std::uint32_t group_size = 16;
inline constexpr std::size_t look_every = 1024;  // rollouts between two looks at the test prompts

// What keeps a single-prompt step safe. Free to choose among the whole pool, a selector returns to the same few prompts
// until the policy has changed on them and got worse elsewhere, wrong labels or not; among the next 16 of the epoch it
// can take a prompt once in 256 / 16 steps. The KL of a step bounds what one prompt can do. GRPO's batches need no
// bound and would be held back by it: on the balanced pool it then took 1.7 times the rollouts to 0.70. Steps of one or
// 8 prompts are not: without it they came there as fast.
inline constexpr std::size_t candidates = 16;  // for each prompt that a selector chooses
inline constexpr double step_kl = 0.03;        // nats per sequence
inline constexpr double unbounded = std::numeric_limits<double>::infinity();

using judge = std::function<rlvr::verdict(std::size_t, std::span<const rlvr::token>)>;
using prompt_set = rlvr::prompt_set<judge>;

/// The model and the prompts that every run reads, and where its policies compute.
template <class Device>
struct workshop {
  Device device;
  decltype(rlvr::tokenizer::load_model("")) model;
  rlvr::decoder::prompt_file train, validation, test;
  std::vector<double> base_rates;  ///< of the training prompts

  auto policy(std::size_t threads = 1) const { return device.load(model.cfg, model.parameters, threads); }
  std::string text(std::span<const rlvr::token> completion) const { return model.tokenizer.decode(completion); }

  prompt_set set_of(std::vector<chain::task_prompt> tasks) const {
    prompt_set out;
    for (const chain::task_prompt& t : tasks)
      out.prompts.push_back(model.tokenizer.encode_prompt(rlvr::decoder::chat_template::none, t.prompt));
    out.verify = [this, tasks = std::move(tasks)](std::size_t i, std::span<const rlvr::token> completion) {
      return rlvr::verdict{.reward = chain::is_right(tasks[i], text(completion)) ? 1.0 : 0.0};
    };
    return out;
  }
  prompt_set first(const rlvr::decoder::prompt_file& file, std::size_t count) const {
    std::vector<chain::task_prompt> tasks;
    for (std::size_t i = 0; i < std::min(count, file.size()); ++i) tasks.push_back({file.prompts[i], file.answers[i]});
    return set_of(std::move(tasks));
  }
};

inline const rlvr::sampling_options sampling{.temperature = 1, .max_tokens = chain::longest_completion};

/// Pass rates of the model as it is.
template <rlvr::policy P>
std::vector<double> pass_rates(P& policy, const prompt_set& set, std::uint64_t seed) {
  const rlvr::random_key key = rlvr::random_key(seed).fold(rlvr::purpose::initialise);
  return rlvr::evaluate_policy(policy, set.prompts, rlvr::requests_for(set.prompts, group_size), sampling, key,
                               set.verify)
      .prompt_values;
}

/// The gradient's noise scale at the model as it is, in rollouts: what a batch far above it has too many of.
template <rlvr::policy P>
double noise_scale(P& policy, const prompt_set& pool, std::uint64_t seed) {
  using namespace rlvr;
  const random_key key = random_key(seed).fold(purpose::initialise).fold(1);
  rollouts batch = policy.sample(pool.prompts, requests_for(pool.prompts, group_size), sampling, key);
  verify(pool.verify, batch);
  const std::vector<double> coefficients =
      reinforce_coefficients(batch, group_normalized{}(batch.verdicts, groups_of(batch.prompts)), 1.0);
  subset_gradients<space_t<P>> subsets(policy.space(), {.subsets = 8, .parts = gradient_parts::none});
  subsets.add(policy, pool.prompts, batch, coefficients, sampling.temperature, [](std::size_t, std::size_t) {});
  return agreement_of(policy.space(), subsets).noise_scale;
}

enum class rule { random, volatility, bonus, dopr, thompson, answer_entropy };

struct method {
  const char* name;
  rule by;
  std::size_t step_prompts;
  double max_step_kl = step_kl;
};

/// The first is what the others are compared with; DoPR's factor is split at `single`.
inline constexpr method methods[] = {{"GRPO, 64 prompts", rule::random, 64, unbounded},
                                     {"random, 8 prompts", rule::random, 8},
                                     {"random, 1 prompt", rule::random, 1},
                                     {"volatility", rule::volatility, 1},
                                     {"bonus", rule::bonus, 1},
                                     {"DoPR", rule::dopr, 1},
                                     {"DoPR, 4 prompts", rule::dopr, 4},
                                     {"Thompson p(1-p)", rule::thompson, 1},
                                     {"answer entropy", rule::answer_entropy, 1}};
inline constexpr std::size_t method_count = std::size(methods), single = 2, dopr_method = 5;

/// The entropy at a prompt's last visit; 1 before.
struct last_entropy {
  double operator()(const rlvr::visit_belief& b, const rlvr::pool_clock&) const { return b.entropy; }
};

/// Calls run(selector, explore_steps) with a fresh selector. Random prompts are those of the epochs, as they come.
/// Volatility has no bonus to make it look at a prompt: it begins with a quarter of the pool at random, and hardly ever
/// sees the rest.
template <class Run>
auto with_selector(rule by, std::size_t pool, Run run) {
  using namespace rlvr;
  const moving_reward_tracker rewards(pool);
  switch (by) {
    case rule::volatility:
      return run(make_dopr_selector(rewards, {.bonus = {.scale = 0}}), pool / 4);
    case rule::bonus:
      return run(make_dopr_selector(rewards, {.weight = 0}), 0);
    case rule::dopr:
      return run(make_dopr_selector(rewards), 0);
    case rule::thompson:
      return run(pool_selector<beta_tracker<>, sampled<rate_variance>, draw_top, keep_mixed>(
                     beta_tracker<>(pool, {.keep = {0.5}, .fade = 0.999})),
                 0);
    case rule::answer_entropy:
      return run(pool_selector<visit_counter, last_entropy, draw_top, keep_mixed>(visit_counter(pool)), 0);
    case rule::random:
      break;
  }
  return run(make_dopr_selector(rewards), static_cast<std::size_t>(-1));
}

struct run_result {
  std::vector<report::look> looks;
  double kept = 0;  ///< share of the groups that could teach anything
};

/// One run of a method from the base model.
template <class Device>
run_result train(const workshop<Device>& shop, const method& m, const prompt_set& pool,
                 const std::vector<chain::task_prompt>& tasks, const prompt_set& held_out, std::size_t rollouts,
                 double learning_rate, std::uint64_t seed) {
  auto policy = shop.policy();
  rlvr::adamw optimizer(policy.space(), {.learning_rate = learning_rate, .weight_decay = 0});
  rlvr::dopr_options o;
  o.step_prompts = m.step_prompts;
  o.group_size = group_size;
  o.steps = rollouts / (m.step_prompts * group_size);
  o.candidates = candidates;
  o.max_step_kl = m.max_step_kl;
  o.evaluate_every = std::max<std::size_t>(1, look_every / (m.step_prompts * group_size));
  o.sampling = sampling;
  o.seed = seed;
  // Answers as the prompt's grading tells them apart.
  const auto entropy = [&](const rlvr::rollouts& r, std::size_t begin, std::size_t end) {
    std::vector<std::string> answers;
    for (std::size_t i = begin; i < end; ++i)
      answers.push_back(chain::graded_answer(tasks[r.prompts[begin]], shop.text(r.completion(i))));
    return rlvr::normalized_entropy(std::move(answers));
  };
  run_result out;
  const auto record = [&](const rlvr::dopr_step& s) {
    if (s.held_out) out.looks.push_back({static_cast<double>(s.rollouts), s.held_out->mean});
  };
  const rlvr::dopr_result result = with_selector(m.by, pool.prompts.size(), [&](auto selector, std::size_t explore) {
    o.explore_steps = explore;
    return rlvr::dopr(policy, pool, held_out, selector, rlvr::group_normalized{}, optimizer, o, record, entropy);
  });
  out.looks.push_back({static_cast<double>(result.rollouts), result.held_out->moved.mean});
  out.kept = 1 - static_cast<double>(result.rejected) / static_cast<double>(result.visits);
  return out;
}

}  // namespace dopr_runs
