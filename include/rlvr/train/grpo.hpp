#pragma once
/// GRPO: many steps, each on a fresh batch of rollouts. The standard that one_shot is held against.

#include <cmath>
#include <cstddef>
#include <utility>
#include <vector>

#include <rlvr/advantage/advantage_estimator.hpp>
#include <rlvr/core/norm.hpp>
#include <rlvr/core/policy.hpp>
#include <rlvr/core/validate.hpp>
#include <rlvr/diagnose/entropy.hpp>
#include <rlvr/diagnose/informative.hpp>
#include <rlvr/objective/reinforce.hpp>
#include <rlvr/optimize/clip_norm.hpp>
#include <rlvr/optimize/optimizer.hpp>
#include <rlvr/optimize/schedule.hpp>
#include <rlvr/search/policy_line.hpp>
#include <rlvr/train/grpo_report.hpp>
#include <rlvr/train/prompt_set.hpp>

namespace rlvr {

/// What learning from its own rollouts needs of a policy.
template <class P>
concept learner = sampler<P> && differentiable<P>;

/// Takes o.steps steps. Each samples G rollouts for each of the next batch of prompts from the policy as it is,
/// verifies them, and gives the optimizer the gradient
///
///     g = 1/B sum_i A_i grad log pi(y_i | x_i)      over the B = batch_prompts G rollouts of the step,
///
/// shortened to max_gradient_norm. One update per batch, so all importance ratios pi_theta / pi_old are 1, where PPO's
/// clipped surrogate has this very gradient; clipping enters with ratios other than 1, when a batch is used for several
/// updates or the rollouts come from older parameters, and is not done here. The sum over the tokens of a rollout is
/// not divided by its length, a bias of the original (Liu et al. 2025, section 3.1). The advantage decides the variant:
/// group_normalized is GRPO, centred is Dr. GRPO.
///
/// Every evaluate_every steps, and after the last, held-out prompts are sampled, always with the same draws: their
/// rewards are comparable from step to step, and the first and the last are compared prompt by prompt. `record` is
/// called with each grpo_step before the optimizer's step. Epochs of shuffled prompts and all draws are functions of
/// o.seed and the step's number: with first_step where a run ended, the same schedule_steps and its optimizer (whose
/// state() can be saved), two runs of n and m steps are one of n + m.
///
/// When a gradient or the next parameters are not finite, the run stops and the policy stays at its last parameters,
/// which were finite: what was learned so far is not lost. When anything throws, the policy's parameters are as they
/// were before the run, bit for bit. The optimizer's state has advanced either way; with one that has, a run goes on
/// from it.
///
/// Memory: two parameter vectors besides the optimizer's and the gradient. Throws std::invalid_argument for options out
/// of range, a batch larger than the training set, no held-out prompts though evaluate_every > 0, and rollouts that are
/// not what was asked for (validate); whatever policy, verifier, optimizer and record throw.
/// Source: Shao et al. 2024, arXiv 2402.03300, algorithm 1, with one update per batch and without the KL term.
template <learner P, rollout_verifier V, advantage_estimator A, optimizer<space_t<P>> O, class Record = ignore_steps>
grpo_result grpo(P& policy, const prompt_set<V>& train, const prompt_set<V>& held_out, const A& advantage, O& optimizer,
                 const grpo_options& o, Record&& record = {}) {
  require(o.steps > 0, "grpo: steps is 0");
  require(o.batch_prompts > 0 && o.batch_prompts <= train.prompts.size(), "grpo: batches of ", o.batch_prompts,
          " prompts from ", train.prompts.size());
  require(o.group_size > 0, "grpo: group_size is 0");
  require(o.max_gradient_norm > 0, "grpo: max_gradient_norm is ", o.max_gradient_norm);
  require(o.last_factor >= 0 && o.last_factor <= 1, "grpo: last_factor is ", o.last_factor);
  require(o.evaluate_every == 0 || !held_out.prompts.empty(), "grpo: there are no held-out prompts");
  require(o.evaluate_every == 0 || o.evaluation_group > 0, "grpo: evaluation_group is 0");

  const auto& space = policy.space();
  const random_key key(o.seed);
  epoch_order epochs(train.prompts.size(), key.fold(purpose::shuffle));
  const std::vector<sample_request> held_out_requests = requests_for(held_out.prompts, o.evaluation_group);
  const auto evaluate = [&] {
    const random_key same = key.fold(purpose::validation);
    return evaluate_policy(policy, held_out.prompts, held_out_requests, o.sampling, same, held_out.verify)
        .prompt_values;
  };
  const std::size_t schedule_end = o.schedule_steps > 0 ? o.schedule_steps : o.first_step + o.steps;
  grpo_result result;
  scoped_parameters origin(policy);
  auto theta = space.zero(), gradient = space.zero();
  space.assign(theta, origin.origin());
  std::vector<double> first;
  bool signal = false;

  for (; result.steps < o.steps; ++result.steps) {
    grpo_step now{.step = o.first_step + result.steps, .rollouts = result.rollouts};
    if (o.evaluate_every > 0 && (result.steps == 0 || now.step % o.evaluate_every == 0)) {
      const std::vector<double> values = evaluate();
      now.held_out = mean_interval(values);
      if (result.steps == 0) first = values;
    }

    const std::vector<sample_request> requests = epochs.requests(o.batch_prompts, o.group_size, now.step);
    rollouts batch = policy.sample(train.prompts, requests, o.sampling, key.fold(purpose::rollout).fold(now.step));
    validate(batch, train.prompts.size(), requests);
    verify(train.verify, batch);
    const groups by_prompt = groups_of(batch.prompts);
    const double size = static_cast<double>(batch.size());
    const std::vector<double> coefficients =
        reinforce_coefficients(batch, advantage(batch.verdicts, by_prompt), 1.0 / size);
    space.scale(0, gradient);
    policy.accumulate_score(train.prompts, batch, coefficients, o.sampling.temperature, gradient);
    result.rollouts += batch.size();

    now.reward = mean_interval(prompt_means(batch.verdicts, by_prompt)).mean;
    now.entropy = summarize_entropy(batch).per_token;
    now.length = static_cast<double>(batch.tokens.size()) / size;
    now.informative = informative_share(batch.verdicts, by_prompt);
    now.gradient_norm = clip_norm(space, gradient, o.max_gradient_norm);
    now.learning_rate_factor = warmup_cosine(now.step, o.warmup_steps, schedule_end, o.last_factor);
    result.history.push_back(now);
    record(std::as_const(now));

    if (!std::isfinite(now.gradient_norm)) {
      result.status = grpo_status::nonfinite_gradient;
      break;
    }
    signal = signal || now.informative > 0;
    optimizer.step(space, theta, gradient, now.learning_rate_factor);
    if (!std::isfinite(norm(space, theta))) {
      result.status = grpo_status::nonfinite_parameters;
      break;
    }
    policy.assign(theta);
  }

  if (result.status == grpo_status::finished && !signal) result.status = grpo_status::no_signal;
  if (o.evaluate_every > 0) {
    const std::vector<double> last = evaluate();
    result.held_out = comparison{mean_interval(first), mean_interval(last), difference_interval(first, last)};
  }
  origin.keep();
  return result;
}

}  // namespace rlvr
