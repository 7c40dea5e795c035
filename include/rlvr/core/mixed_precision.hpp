#pragma once
/// What algorithms that compare nearby parameters ask of a policy whose compute is coarser than its parameters.

#include <concepts>
#include <vector>

#include <rlvr/core/policy.hpp>
#include <rlvr/core/ragged.hpp>
#include <rlvr/core/rollouts.hpp>

namespace rlvr {

/// A policy that may compute with rounded parameters, such as float masters whose weights are bfloat16. A step that is
/// small beside the rounding is swallowed by some weights and made too long by others: log-probabilities then change by
/// the rounding's noise. Optional: of a policy that does not model it, everything is taken to be exact.
///
///  - `p.rounds()`: whether it computes with rounded parameters.
///  - `p.score_precisely(prompts, r, temperature)`: as `score`, but of the parameters as they are.
///  - `p.survival(alpha, direction).cosine()`: the cosine between alpha direction, a step from the current parameters,
///    and the step that the numbers which p computes with would make; 0 when none of them changes, 1 for no step.
template <class P>
concept mixed_precision = parameterised<P> && scorer<P> &&
                          requires(P& p, const P& c, const ragged<token>& prompts, const rollouts& r, double number) {
                            { c.rounds() } -> std::same_as<bool>;
                            { p.score_precisely(prompts, r, number) } -> std::same_as<token_scores>;
                            { c.survival(number, c.parameters()).cosine() } -> std::same_as<double>;
                          };

/// Scores that may be subtracted from those of nearby parameters.
template <scorer P>
token_scores score_precisely(P& policy, const ragged<token>& prompts, const rollouts& r, double temperature) {
  if constexpr (mixed_precision<P>)
    return policy.score_precisely(prompts, r, temperature);
  else
    return policy.score(prompts, r, temperature);
}

/// The same of rollouts that the policy sampled as it is: what the sampler wrote, where nothing was rounded.
template <scorer P>
std::vector<double> sampled_log_probs(P& policy, const ragged<token>& prompts, const rollouts& r, double temperature) {
  if constexpr (mixed_precision<P>)
    if (policy.rounds()) return policy.score_precisely(prompts, r, temperature).log_probs;
  return r.log_probs;
}

/// The cosine between a step from the current parameters and what the policy's rounding makes of it.
template <parameterised P>
double step_cosine(const P& policy, double alpha, const parameters_t<P>& direction) {
  if constexpr (mixed_precision<P>)
    return policy.survival(alpha, direction).cosine();
  else
    return 1;
}

}  // namespace rlvr
