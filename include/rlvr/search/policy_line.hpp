#pragma once
/// A policy, a direction and a verifier as a line objective.

#include <cmath>
#include <cstddef>
#include <limits>
#include <span>
#include <stdexcept>
#include <type_traits>
#include <utility>
#include <vector>

#include <rlvr/core/error.hpp>
#include <rlvr/core/mixed_precision.hpp>
#include <rlvr/core/policy.hpp>
#include <rlvr/core/rollout_verifier.hpp>
#include <rlvr/core/rollouts.hpp>
#include <rlvr/core/validate.hpp>
#include <rlvr/search/line_objective.hpp>
#include <rlvr/search/sequence_kl.hpp>

namespace rlvr {

/// What sampling a policy on some prompts showed.
struct policy_evaluation {
  line_point point;
  /// [prompts.size()] mean reward of each prompt's scored rollouts; NaN for a prompt without any. One value
  /// per prompt: what clustered intervals, and differences paired by prompt, are made of.
  std::vector<double> prompt_values;
  bool finite = true;  ///< whether all log-probabilities are; otherwise nothing was verified
};

/// A policy that can be sampled elsewhere and scored where it was.
template <class P>
concept line_policy = parameterised<P> && sampler<P> && scorer<P>;

namespace detail {

template <rollout_verifier V>
policy_evaluation summarise(const rollouts& r, std::size_t prompt_count, const V& verify) {
  constexpr double nan = std::numeric_limits<double>::quiet_NaN();
  policy_evaluation out{{}, std::vector<double>(prompt_count, nan)};
  double entropy = 0, sum = 0;
  std::size_t judged = 0;
  bool finite = true;
  for (std::size_t t = 0; t < r.tokens.size(); ++t) {
    finite = finite && std::isfinite(r.log_probs[t]);
    entropy += r.entropies[t];
  }
  if (!r.tokens.empty()) out.point.entropy = entropy / static_cast<double>(r.tokens.size());
  out.point.length = static_cast<double>(r.tokens.size()) / static_cast<double>(r.size());
  out.point.value = nan;
  out.finite = finite;
  if (!finite) return out;

  std::vector<std::size_t> counts(prompt_count);
  for (std::size_t i = 0; i < r.size(); ++i) {
    const std::size_t prompt = r.prompts[i];
    const verdict v = verify(prompt, r.completion(i));
    if (!v.scored) continue;
    require(std::isfinite(v.reward), "verify: the reward of rollout ", i, " of prompt ", prompt, " is ",
            v.reward);
    double& total = out.prompt_values[prompt];
    total = counts[prompt]++ == 0 ? v.reward : total + v.reward;
  }
  for (std::size_t i = 0; i < prompt_count; ++i) {
    if (counts[i] == 0) continue;
    sum += out.prompt_values[i] /= static_cast<double>(counts[i]);
    ++judged;
  }
  if (judged > 0) out.point.value = sum / static_cast<double>(judged);
  return out;
}

}  // namespace detail

/// Samples, verifies and averages: the accuracy of a policy as it is.
///
/// value: mean over prompts of the mean reward of the prompt's scored rollouts (NaN when a log-probability is
/// not finite or nothing was scored); entropy: nats, mean over tokens; length: tokens, mean over rollouts;
/// alpha and kl 0. Throws std::invalid_argument when there are no requests, a reward is not finite or the
/// rollouts are not what was asked for (validate); whatever sampler and verifier throw.
template <sampler P, rollout_verifier V>
policy_evaluation evaluate_policy(P& policy, const ragged<token>& prompts,
                                  std::span<const sample_request> requests, const sampling_options& sampling,
                                  random_key key, const V& verify) {
  const rollouts r = policy.sample(prompts, requests, sampling, key);
  validate(r, prompts.size(), requests);
  require(!r.empty(), "evaluate_policy: no rollouts were requested");
  return detail::summarise(r, prompts.size(), verify);
}

/// The accuracy of a policy along theta + alpha d: a model of line_objective.
///
/// Every alpha samples with the same key (common random numbers), so differences between alphas are much less
/// noisy than the values. kl is KL(pi_alpha || pi_0) per sequence (sequence_kl) from the rollouts of pi_alpha
/// scored under pi_0, mean over rollouts; exactly 0 at alpha = 0. Where the policy rounds (mixed_precision), it is
/// that of the parameters as they are, from two precise scoring passes: sampler and scorer round differently, and
/// their noise would be taken for KL; survival says how much of the step the policy that was sampled has made.
/// An alpha whose log-probabilities are not finite gets value and kl NaN.
///
/// The policy stands at theta when a call begins, and is put back there, bit for bit, before the call returns
/// or throws; do not change theta between calls. Policy, prompts, requests and direction are referred to, not
/// copied. An alpha is evaluated once and remembered. One sampling and one scoring pass each, two where the policy
/// rounds.
template <line_policy P, rollout_verifier V>
class policy_line {
 public:
  policy_line(P& policy, const ragged<token>& prompts, std::span<const sample_request> requests,
              const sampling_options& sampling, random_key key, V verify, const parameters_t<P>& direction)
      : policy_(policy),
        prompts_(prompts),
        requests_(requests),
        sampling_(sampling),
        key_(key),
        verify_(std::move(verify)),
        direction_(direction) {}

  /// Throws what evaluate_policy, the scorer and the allocation of one parameter vector throw.
  line_point operator()(double alpha) {
    for (const policy_evaluation& known : evaluations_)
      if (known.point.alpha == alpha) return known.point;
    evaluations_.push_back(alpha == 0
                               ? evaluate_policy(policy_, prompts_, requests_, sampling_, key_, verify_)
                               : evaluate_moved(alpha));
    return evaluations_.back().point;
  }

  /// Everything evaluated, in the order of evaluation.
  std::span<const policy_evaluation> evaluations() const { return evaluations_; }

  /// The evaluation of an alpha. Throws std::invalid_argument when it has not been evaluated.
  const policy_evaluation& at(double alpha) const {
    for (const policy_evaluation& known : evaluations_)
      if (known.point.alpha == alpha) return known;
    throw std::invalid_argument(concat("policy_line::at: alpha = ", alpha, " has not been evaluated"));
  }

 private:
  policy_evaluation evaluate_moved(double alpha) {
    scoped_parameters moved(policy_);
    const double survived = step_cosine(policy_, alpha, direction_);
    moved.move_along(alpha, direction_);
    const rollouts r = policy_.sample(prompts_, requests_, sampling_, key_);
    validate(r, prompts_.size(), requests_);
    require(!r.empty(), "policy_line: no rollouts were requested");
    policy_evaluation out = detail::summarise(r, prompts_.size(), verify_);
    out.point.alpha = alpha;
    out.point.survival = survived;
    if (std::isnan(out.point.value)) {
      out.point.kl = out.point.value;
      return out;
    }
    const std::vector<double> there = sampled_log_probs(policy_, prompts_, r, sampling_.temperature);
    moved.restore();
    out.point.kl =
        sequence_kl(r.offsets, there, score_precisely(policy_, prompts_, r, sampling_.temperature).log_probs);
    return out;
  }

  P& policy_;
  const ragged<token>& prompts_;
  std::span<const sample_request> requests_;
  sampling_options sampling_;
  random_key key_;
  V verify_;
  const parameters_t<P>& direction_;
  std::vector<policy_evaluation> evaluations_;
};

}  // namespace rlvr
