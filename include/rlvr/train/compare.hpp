#pragma once
/// A policy before and after a step, on prompts that had no part in choosing it.

#include <span>

#include <rlvr/core/policy.hpp>
#include <rlvr/diagnose/interval.hpp>
#include <rlvr/search/policy_line.hpp>
#include <rlvr/train/prompt_set.hpp>

namespace rlvr {

/// An accuracy before and after on the same prompts and draws, and the difference paired by prompt.
struct comparison {
  interval base, moved, difference;
};

/// Samples theta and theta + alpha direction with the same key. The parameters are theta again afterwards, bit for
/// bit, also when sampler or verifier throw. Throws what evaluate_policy throws.
template <class P, rollout_verifier V>
  requires parameterised<P> && sampler<P>
comparison compare(P& policy, const prompt_set<V>& set, std::span<const sample_request> requests,
                   const sampling_options& sampling, random_key key, const parameters_t<P>& direction, double alpha) {
  scoped_parameters origin(policy);
  const policy_evaluation base = evaluate_policy(policy, set.prompts, requests, sampling, key, set.verify);
  origin.move_along(alpha, direction);
  const policy_evaluation moved = evaluate_policy(policy, set.prompts, requests, sampling, key, set.verify);
  return {mean_interval(base.prompt_values), mean_interval(moved.prompt_values),
          difference_interval(base.prompt_values, moved.prompt_values)};
}

}  // namespace rlvr
