#pragma once
/// DoPR: at every step the single most informative prompt. And every other selector, by the same recipe.

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <optional>
#include <span>
#include <utility>
#include <vector>

#include <rlvr/advantage/advantage_estimator.hpp>
#include <rlvr/core/mixed_precision.hpp>
#include <rlvr/core/norm.hpp>
#include <rlvr/core/policy.hpp>
#include <rlvr/core/validate.hpp>
#include <rlvr/diagnose/distinct_ngrams.hpp>
#include <rlvr/diagnose/group_entropy.hpp>
#include <rlvr/objective/reinforce.hpp>
#include <rlvr/optimize/clip_norm.hpp>
#include <rlvr/optimize/optimizer.hpp>
#include <rlvr/search/policy_line.hpp>
#include <rlvr/search/sequence_kl.hpp>
#include <rlvr/select/selector.hpp>
#include <rlvr/train/dopr_report.hpp>
#include <rlvr/train/prompt_set.hpp>
#include <rlvr/train/visit_measures.hpp>

namespace rlvr {

namespace detail {

/// What was taken of a step, and the KL of it.
struct bounded_step {
  double share = 1;
  double kl = 0;
};

/// The policy <- before + s (theta - before), with s the first of 1, and shares guessed from KL as a quadratic in s,
/// whose KL(pi_before || pi_s) on the rollouts of pi_before is at most `most`; s = 0 when six guesses were too long.
/// Where the policy rounds, KL is that of the parameters as they are, and costs a scoring pass more. The policy stands at
/// `before`; theta is where it then stands.
template <policy P>
bounded_step take_step(P& policy, const ragged<token>& prompts, const rollouts& batch, double temperature,
                       const parameters_t<P>& before, parameters_t<P>& theta, double most) {
  const auto& space = policy.space();
  const std::vector<double> old = sampled_log_probs(policy, prompts, batch, temperature);
  const auto kl_now = [&] {
    return sequence_kl(batch.offsets, old, score_precisely(policy, prompts, batch, temperature).log_probs);
  };
  policy.assign(theta);
  bounded_step taken{1, kl_now()};
  if (taken.kl <= most) return taken;
  space.axpy(-1, before, theta);
  for (int guess = 0; guess < 6 && !(taken.kl <= most); ++guess) {
    const double ratio = std::isfinite(taken.kl) ? 0.9 * std::sqrt(most / taken.kl) : 0.0;
    taken.share *= std::clamp(ratio, 0.1, 0.9);
    policy.assign(before, taken.share, theta);
    taken.kl = kl_now();
  }
  if (!(taken.kl <= most)) {
    taken = {0, 0};
    policy.assign(before);
  }
  space.assign(theta, policy.parameters());
  return taken;
}

}  // namespace detail

/// Takes o.steps steps. Each
///
///  1. asks the selector for the k = step_prompts prompts that are worth most, among the epoch's next k `candidates` or
///     the whole pool; with k = 1 and a dopr_selector, argmax_i S_i = sigma_i + U_i;
///  2. rolls out these and no others, G times each, and verifies;
///  3. lets the selector observe every group, and drops those it does not keep;
///  4. gives the optimizer the gradient 1/B sum_i A_i grad log pi(y_i | x_i) over the B rollouts that are left,
///     shortened to max_gradient_norm, and takes its step, or the share of it that keeps KL(pi_before || pi_after) on
///     the step's rollouts within max_step_kl. With nothing left there is no update, and the optimizer's state rests.
///
/// What one prompt's gradient needs to be stable is in 4: averaging over steps by the optimizer's momentum, clipping,
/// and the bound on KL. With a learning rate that is too long for every step the bound is a step size from a KL target.
/// A selector that may choose among all prompts can return to the same few until the policy is worse everywhere else;
/// with `candidates` it meets each prompt once in an epoch of pool / (k candidates) steps.
///
/// Charged is every rollout: of the explore_steps, and of groups that teach the selector only. Held-out prompts are
/// looked at as in grpo, always with the same draws, and counted apart. `record` is called with each dopr_step.
///
/// The selector is taken by reference and has learned when the run returns; selector and optimizer can go on in another
/// run, also from disk (save_state, state()), with first_step where this one ended: two runs of n and m steps are one
/// of n + m. All draws are functions of o.seed and the step's number. `entropy` measures how undecided a group is, for
/// the selectors that ask. For one that learns_from_divergence a step also scores the last response to each of its
/// prompts (last_responses, from visits with scored rollouts; a run knows only its own, so there two runs are not one),
/// and one that learns_from_diversity is told the group's distinct_ngrams. Others see 0 for these two.
///
/// When a gradient or the next parameters are not finite, the run stops at its last parameters, which were finite. When
/// anything throws, the policy's parameters and the selector are as before the run, bit for bit; the optimizer's state
/// has advanced.
///
/// Memory: two parameter vectors besides the optimizer's and the gradient (three when KL is bound), a copy of the
/// selector, with candidates or explore_steps 4 bytes per prompt, and where divergence is measured a rollout per prompt
/// visited. Per step, besides the rollouts, what the selector takes: with candidates O(candidates log candidates), and
/// O(pool) once per epoch. Throws std::invalid_argument for options out of range, a selector of another pool size, a
/// reward that is not finite or outside o.rewards, no held-out prompts though evaluate_every > 0, and rollouts that are
/// not what was asked for (validate, and where KL is bound validate_log_probs on the first step); whatever policy, verifier, selector, optimizer and record throw.
/// Source: Zhang et al., "DoPR", arXiv 2602.00815; the recipe around S = sigma + U is ours.
template <policy P, rollout_verifier V, selector S, advantage_estimator A, optimizer<space_t<P>> O,
          class Record = ignore_dopr_steps, group_entropy E = answer_entropy<>>
dopr_result dopr(P& policy, const prompt_set<V>& train, const prompt_set<V>& held_out, S& selector, const A& advantage,
                 O& optimizer, const dopr_options& o, Record&& record = {}, const E& entropy = {}) {
  const std::size_t pool = train.prompts.size(), k = o.step_prompts;
  require(o.steps > 0, "dopr: steps is 0");
  require(selector.size() == pool, "dopr: a selector of ", selector.size(), " prompts for a training set of ", pool);
  require(k > 0 && k <= pool, "dopr: steps of ", k, " prompts from ", pool);
  require(o.group_size > 0, "dopr: group_size is 0");
  require(o.max_gradient_norm > 0, "dopr: max_gradient_norm is ", o.max_gradient_norm);
  require(o.max_step_kl > 0, "dopr: max_step_kl is ", o.max_step_kl);
  require(o.rewards.low < o.rewards.high && is_finite(o.rewards.high - o.rewards.low), "dopr: rewards from ",
          o.rewards.low, " to ", o.rewards.high);
  require(o.evaluate_every == 0 || !held_out.prompts.empty(), "dopr: there are no held-out prompts");
  require(o.evaluate_every == 0 || o.evaluation_group > 0, "dopr: evaluation_group is 0");

  const auto& space = policy.space();
  const random_key key(o.seed);
  epoch_order epochs(pool, key.fold(purpose::shuffle));
  const std::vector<sample_request> held_out_requests = requests_for(held_out.prompts, o.evaluation_group);
  dopr_result result;
  const auto evaluate = [&] {
    for (const sample_request& q : held_out_requests) result.held_out_rollouts += q.count;
    const random_key same = key.fold(purpose::validation);
    return evaluate_policy(policy, held_out.prompts, held_out_requests, o.sampling, same, held_out.verify)
        .prompt_values;
  };
  const auto choose = [&](const S& by, std::size_t step) {
    if (step < o.explore_steps) return epochs.requests(k, o.group_size, step);
    std::vector<prompt_id> chosen(k);
    const random_key draw = key.fold(purpose::selection).fold(step);
    if (o.candidates == 0) {
      by.select(std::span(chosen), draw);
    } else {
      std::vector<prompt_id> candidates;
      const std::size_t among = std::min(pool, k * std::min(pool, o.candidates));
      for (const sample_request& q : epochs.requests(among, 1, step)) candidates.push_back(q.prompt);
      by.select(std::span(chosen), draw, std::span<const prompt_id>(candidates));
    }
    std::vector<sample_request> requests;
    for (const prompt_id id : chosen) requests.push_back({id, o.group_size, 0});
    return requests;
  };

  S learned = selector;
  scoped_parameters origin(policy);
  auto theta = space.zero(), gradient = space.zero();
  space.assign(theta, origin.origin());
  std::optional<parameters_t<P>> before;
  if (!std::isinf(o.max_step_kl)) before = space.zero();
  std::vector<double> first, rewards;
  last_responses responses;
  bool signal = false, moved = false;

  for (; result.steps < o.steps; ++result.steps) {
    dopr_step now{.step = o.first_step + result.steps, .rollouts = result.rollouts};
    if (o.evaluate_every > 0 && (result.steps == 0 || now.step % o.evaluate_every == 0)) {
      const std::vector<double> values = evaluate();
      now.held_out = mean_interval(values);
      if (result.steps == 0) first = values;
    }

    const std::vector<sample_request> requests = choose(learned, now.step);
    const random_key draws = key.fold(purpose::rollout).fold(now.step);
    rollouts batch = policy.sample(train.prompts, requests, o.sampling, draws);
    validate(batch, pool, requests);
    if (before && result.steps == 0) validate_log_probs(batch);  // KL is measured with them
    verify(train.verify, batch);
    result.rollouts += batch.size();

    const groups by_prompt = groups_of(batch.prompts);
    now.reward = mean_interval(prompt_means(batch.verdicts, by_prompt)).mean;
    for (std::size_t g = 0; g < by_prompt.size(); ++g) now.prompts.push_back(batch.prompts[by_prompt.begin(g)]);
    std::vector<double> divergences;
    if constexpr (learns_from_divergence<S>)
      divergences = responses.divergences(policy, train.prompts, now.prompts, o.sampling.temperature);
    std::size_t left = 0;
    for (std::size_t g = 0; g < by_prompt.size(); ++g) {
      const std::size_t begin = by_prompt.begin(g), end = by_prompt.end(g);
      rewards.clear();
      for (std::size_t i = begin; i < end; ++i) {
        if (!batch.verdicts[i].scored) continue;
        const double reward = batch.verdicts[i].reward;
        require(reward >= o.rewards.low && reward <= o.rewards.high, "dopr: a rollout of prompt ", batch.prompts[i],
                " has reward ", reward, ", but dopr_options::rewards is from ", o.rewards.low, " to ", o.rewards.high);
        rewards.push_back(reward);
      }
      outcome seen = outcome_of(rewards, now.step, o.rewards);
      seen.entropy = entropy(batch, begin, end);
      if constexpr (learns_from_divergence<S>) {
        seen.divergence = divergences[g];
        // A visit without scored rollouts fades nothing: the next one is measured from the same response.
        if (seen.rollouts > 0) responses.remember(batch, end - 1);
      }
      if constexpr (learns_from_diversity<S>) seen.diversity = distinct_ngrams(batch, begin, end);
      now.entropy += seen.entropy / static_cast<double>(by_prompt.size());
      learned.observe(batch.prompts[begin], seen);
      if (learned.keep(seen)) {
        ++now.kept;
        left += end - begin;
      } else {
        for (std::size_t i = begin; i < end; ++i) batch.verdicts[i].scored = false;  // advantage 0
      }
    }
    result.visits += by_prompt.size();
    result.rejected += by_prompt.size() - now.kept;

    bool finite = true;
    if (now.kept > 0) {
      const std::vector<double> coefficients =
          reinforce_coefficients(batch, advantage(batch.verdicts, by_prompt), 1.0 / static_cast<double>(left));
      space.scale(0, gradient);
      policy.accumulate_score(train.prompts, batch, coefficients, o.sampling.temperature, gradient);
      now.gradient_norm = clip_norm(space, gradient, o.max_gradient_norm);
      finite = std::isfinite(now.gradient_norm);
      if (!finite) result.status = dopr_status::nonfinite_gradient;
    }
    if (now.kept > 0 && finite) {
      signal = signal || now.gradient_norm > 0;
      if (before) space.assign(*before, theta);
      optimizer.step(space, theta, gradient, 1.0);
      finite = std::isfinite(norm(space, theta));
      if (!finite) {
        result.status = dopr_status::nonfinite_parameters;
      } else if (before) {
        const auto taken =
            detail::take_step(policy, train.prompts, batch, o.sampling.temperature, *before, theta, o.max_step_kl);
        now.share = taken.share;
        now.kl = taken.kl;
      } else {
        policy.assign(theta);
        now.share = 1;
      }
      moved = moved || now.share > 0;
    }
    record(std::as_const(now));
    result.history.push_back(std::move(now));
    if (!finite) break;
  }

  if (result.status == dopr_status::finished && !(signal && moved))
    result.status = signal ? dopr_status::no_step_within_kl : dopr_status::no_signal;
  if (o.evaluate_every > 0) {
    const std::vector<double> last = evaluate();
    result.held_out = comparison{mean_interval(first), mean_interval(last), difference_interval(first, last)};
  }
  selector = std::move(learned);
  origin.keep();
  return result;
}

}  // namespace rlvr
