#pragma once
/// One-shot RLVR: one batch of rollouts, one direction, one line search.

#include <cmath>
#include <cstddef>
#include <functional>
#include <span>
#include <utility>
#include <vector>

#include <rlvr/advantage/advantage_estimator.hpp>
#include <rlvr/core/norm.hpp>
#include <rlvr/core/policy.hpp>
#include <rlvr/core/slice.hpp>
#include <rlvr/core/validate.hpp>
#include <rlvr/diagnose/entropy.hpp>
#include <rlvr/diagnose/informative.hpp>
#include <rlvr/diagnose/part_cosine.hpp>
#include <rlvr/gradient/subset_gradients.hpp>
#include <rlvr/objective/reinforce.hpp>
#include <rlvr/search/policy_line.hpp>
#include <rlvr/train/one_shot_report.hpp>
#include <rlvr/train/prompt_set.hpp>

namespace rlvr {

/// Samples N rollouts from the base policy, verifies them, takes one policy gradient
///
///     g = 1/N sum_i A_i grad log pi(y_i | x_i),
///
/// and searches theta + alpha g for the alpha with the best sampled accuracy on validation prompts, all alphas under
/// common random numbers; the winner is compared with the base once more on confirmation prompts, which had no part in
/// the choice. With steps = k > 1 the N rollouts are spent on k small plain steps of predicted KL step_kl each, and the
/// search is along their displacement theta_k - theta_0, in which alpha = 1 is the run itself; a batch without signal
/// takes no step, and a gradient that is not finite ends the run with status nonfinite_direction.
///
/// The training prompts are taken as they come, the first N / G of them (grpo and dopr shuffle theirs): of prompts
/// sorted by topic or difficulty these are a biased part, so shuffle them first.
///
/// The policy moves to theta + alpha direction when the status is `improved`; otherwise, and when anything throws, its
/// parameters are as they were, bit for bit.
///
/// Throws std::invalid_argument for options out of range, empty prompt sets, fewer training prompts than N / G, rollouts
/// that are not what was asked for (validate) and log-probs of the base policy that validate_log_probs refuses; whatever
/// policy, verifier and progress throw.
template <policy P, rollout_verifier V, advantage_estimator A, class Progress = ignore_stages>
one_shot_result<parameters_t<P>> one_shot(P& policy, const prompt_set<V>& train, const prompt_set<V>& validation,
                                          const prompt_set<V>& confirmation, const A& advantage,
                                          const one_shot_options& o, Progress&& progress = {}) {
  require(o.group_size > 0 && o.rollouts > 0 && o.rollouts % o.group_size == 0, "one_shot: ", o.rollouts,
          " rollouts are not a multiple of the group size ", o.group_size);
  const std::size_t groups = o.rollouts / o.group_size;
  require(groups <= train.prompts.size(), "one_shot: ", o.rollouts, " rollouts in groups of ", o.group_size, " need ",
          groups, " prompts, but there are ", train.prompts.size());
  require(o.steps > 0 && o.steps <= groups, "one_shot: ", o.steps, " steps for ", groups, " groups");
  require(o.step_kl > 0 && is_finite(o.step_kl), "one_shot: step_kl is ", o.step_kl);
  require(!validation.prompts.empty(), "one_shot: there are no validation prompts");
  require(!confirmation.prompts.empty(), "one_shot: there are no confirmation prompts");
  require(o.evaluation_group > 0, "one_shot: evaluation_group is 0");
  require(o.calibration_rollouts > 0, "one_shot: calibration_rollouts is 0");
  require(o.collapsed_fraction >= 0 && o.collapsed_fraction <= 1, "one_shot: collapsed_fraction is ",
          o.collapsed_fraction);
  validate(o.search);

  using stage = one_shot_stage;
  const auto& space = policy.space();
  const random_key key(o.seed);
  one_shot_result<parameters_t<P>> result;
  scoped_parameters origin(policy);
  subset_gradients<space_t<P>> subsets(space, o.subsets);
  auto position = space.zero(), gradient = space.zero();
  space.assign(position, origin.origin());
  rollouts base_rollouts;
  bool finite = true;

  for (std::size_t step = 0; step < o.steps; ++step) {
    const std::size_t first = step * groups / o.steps, last = (step + 1) * groups / o.steps;
    rollouts batch = sample_in_slices(
        policy, train.prompts, requests_for(last - first, o.group_size, first), o.sampling,
        key.fold(purpose::rollout).fold(step),
        [&](std::size_t done, std::size_t total) { progress(stage::sample, done, total); });
    if (step == 0) validate_log_probs(batch);

    progress(stage::verify, 0, batch.size());
    verify(train.verify, batch);
    progress(stage::verify, batch.size(), batch.size());

    const rlvr::groups by_prompt = groups_of(batch.prompts);
    const std::vector<double> advantages = advantage(batch.verdicts, by_prompt);
    const std::vector<double> coefficients =
        reinforce_coefficients(batch, advantages, 1.0 / static_cast<double>(batch.size()));
    progress(stage::gradient, 0, batch.size());
    if (step == 0) {
      subsets.add(policy, train.prompts, batch, coefficients, o.sampling.temperature,
                  [&](std::size_t done, std::size_t total) { progress(stage::gradient, done, total); });
      gradient = subsets.total(space);
      base_rollouts = head(batch, o.calibration_rollouts);
      result.sampled = mean_interval(prompt_means(batch.verdicts, by_prompt));
      result.informative = informative_share(batch.verdicts, by_prompt);
    } else {
      space.scale(0, gradient);
      policy.accumulate_score(train.prompts, batch, coefficients, o.sampling.temperature, gradient);
      progress(stage::gradient, batch.size(), batch.size());
    }
    if (o.steps == 1) break;
    finite = is_finite(norm(space, gradient));
    if (!finite) break;
    const auto scale =
        calibrate_kl(policy, train.prompts, head(batch, o.calibration_rollouts), o.sampling.temperature, gradient);
    if (!scale) continue;  // no signal in this batch
    space.axpy(scale->alpha_for(o.step_kl), gradient, position);
    policy.assign(position);
    ++result.steps;
  }
  origin.restore();

  result.agreement = agreement_of(space, subsets);
  if (subsets.has_parts())
    result.correct_incorrect_cosine = part_cosine(space, subsets.correct(), subsets.incorrect());
  auto direction = subsets.total(space);
  if (!finite) {
    space.assign(direction, gradient);
  } else if (result.steps > 0) {
    space.axpy(-1.0, origin.origin(), position);
    result.gradient_cosine = cosine(space, position, direction);
    space.assign(direction, position);
  }

  const std::vector<sample_request> validation_requests = requests_for(validation.prompts, o.evaluation_group);
  policy_line line(policy, validation.prompts, validation_requests, o.sampling, key.fold(purpose::validation),
                   std::cref(validation.verify), direction);
  const line_point base = line(0);
  const bool unscored = std::isnan(base.value) && line.at(0).finite;  // then no alpha can be compared with the base
  direction_search_result found{.line = {.base = base, .points = {base}}, .calibration = {}};
  if (!unscored)
    found = search_direction(policy, train.prompts, base_rollouts, o.sampling.temperature, direction, line, o.search,
                             [&](search_progress p) { progress(stage::search, p.done, p.budget); });
  result.calibration = found.calibration;
  bool accuracies = true;  // one kind of interval for all alphas, so that they can be compared
  for (const policy_evaluation& e : line.evaluations()) accuracies = accuracies && are_accuracies(e.prompt_values);
  for (const line_point& point : found.line.points) {
    const std::vector<double>& values = line.at(point.alpha).prompt_values;
    result.landscape.push_back({point, accuracies ? accuracy_interval(values) : mean_interval(values),
                                collapsed(point.entropy, found.line.base.entropy, point.value, found.line.base.value,
                                          o.collapsed_fraction)});
  }
  result.base = result.landscape.front();
  result.alpha = found.line.alpha;
  result.status = detail::status_of(found.line.status, result.informative);
  if (unscored || (result.status == one_shot_status::no_signal && std::isnan(result.sampled.mean)))
    result.status = one_shot_status::nothing_scored;
  if (result.status != one_shot_status::no_signal && result.status != one_shot_status::nothing_scored)
    result.direction = std::move(direction);
  if (result.alpha == 0) return result;

  const std::vector<sample_request> requests = requests_for(confirmation.prompts, o.evaluation_group);
  progress(stage::confirm, 0, 2);
  result.confirmation = compare(policy, confirmation, requests, o.sampling, key.fold(purpose::confirmation),
                                *result.direction, result.alpha);
  progress(stage::confirm, 2, 2);
  if (result.status != one_shot_status::improved) return result;
  if (!(result.confirmation->difference.low > 0)) {
    result.status = one_shot_status::not_confirmed;
    return result;
  }
  origin.move_along(result.alpha, *result.direction);
  origin.keep();
  return result;
}

}  // namespace rlvr
