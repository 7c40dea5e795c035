#pragma once
/// The laws of policy: those of its parts, and that the parts have the same parameters.

#include <cmath>
#include <cstddef>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <rlvr/core/error.hpp>
#include <rlvr/core/norm.hpp>
#include <rlvr/core/policy.hpp>
#include <rlvr/core/random.hpp>
#include <rlvr/core/slice.hpp>
#include <rlvr/core/validate.hpp>
#include <rlvr/laws/differentiable.hpp>
#include <rlvr/laws/report.hpp>
#include <rlvr/laws/sampler.hpp>
#include <rlvr/laws/vector_space.hpp>

namespace rlvr::laws {

/// Tries that sampler, scorer and gradient follow both forms of `assign`, there and back: a policy that computes with a
/// copy of its parameters, or samples with an engine of its own, may forget to refresh it. The way is long enough to
/// move log-probabilities by tenths. `fill` as for differentiable_laws. The parameters are what they were when the
/// function returns. 5 times the sampling, 6 gradients, 11 to 27 passes of scoring. Throws std::invalid_argument for
/// requests that cannot be tried.
template <policy P, class Fill>
violations assignment_laws(P& policy, const Fill& fill, const ragged<token>& prompts,
                           std::span<const sample_request> requests, const sampling_options& sampling, random_key key,
                           const differentiable_options& options = {}) {
  using S = space_t<P>;
  detail::check_requests(requests, prompts, sampling, "assignment_laws");
  report out({options.tolerance});
  const auto space = [&]() -> decltype(auto) { return policy.space(); };
  scoped_parameters<P> scope(policy);
  const vector_t<S>& origin = scope.origin();

  const rollouts base = policy.sample(prompts, requests, sampling, key);
  validate(base, prompts.size(), requests);
  const std::vector<double> c = detail::random_coefficients(base.tokens.size(), 1);
  struct view {
    std::vector<double> log_probs;  // of base
    vector_t<S> gradient;           // of sum_t c_t log pi_t(base)
  };
  const auto log_probs_of = [&](const rollouts& r) {
    token_scores scores = policy.score(prompts, r, sampling.temperature);
    require(scores.log_probs.size() == r.tokens.size(), "score: ", scores.log_probs.size(), " log-probs for ",
            r.tokens.size(), " tokens");
    return std::move(scores.log_probs);
  };
  const auto look = [&] {
    view v{log_probs_of(base), space().zero()};
    policy.accumulate_score(prompts, base, c, sampling.temperature, v.gradient);
    return v;
  };
  const auto same_log_probs = [&](const std::vector<double>& got, const std::vector<double>& expected,
                                  std::string_view law) {
    for (std::size_t t = 0; t < expected.size(); ++t)
      if (got[t] != expected[t])  // equal where both are -infinity: a token that is cut off
        out.near(got[t], expected[t], 1 + std::fabs(expected[t]), law);
  };
  const auto compare = [&](const view& expected, std::string_view after) {
    const view got = look();
    same_log_probs(got.log_probs, expected.log_probs, concat(after, ": the scorer has the new parameters"));
    out.near(space(), got.gradient, expected.gradient, norm(space(), expected.gradient),
             concat(after, ": the gradient is at the new parameters"));
  };
  const auto sample_there = [&](std::string_view after) {
    rollouts there = policy.sample(prompts, requests, sampling, key);
    validate(there, prompts.size(), requests);
    same_log_probs(log_probs_of(there), there.log_probs,
                   concat(after, ": the sampler has the scorer's parameters"));
    return there;
  };

  const view here = look();
  const double size = norm(space(), here.gradient);
  if (!(size > 0)) {
    out.fail(concat("gradient: is not zero for random coefficients: its norm is ", size));
    return out.take();
  }
  vector_t<S> d = space().zero();
  fill(d, 0);
  space().scale(1 / norm(space(), d), d);
  space().axpy(1 / size, here.gradient, d);
  space().scale(0.3 * static_cast<double>(base.tokens.size()) / size / norm(space(), d), d);
  vector_t<S> moved = copy_of(space(), origin);
  space().axpy(1.0, d, moved);

  policy.assign(origin, 1.0, d);
  const view there = look();
  double most = 0;
  for (std::size_t t = 0; t < c.size(); ++t)
    most = std::fmax(most, std::fabs(there.log_probs[t] - here.log_probs[t]));
  out.check(most > 0, "assign(theta, alpha, d): the scorer has the new parameters: no log-prob has changed");
  {
    const rollouts r = sample_there("assign(theta, alpha, d)");
    const std::vector<double> of_r = detail::random_coefficients(r.tokens.size(), 1);
    vector_t<S> g = space().zero();
    policy.accumulate_score(prompts, r, of_r, sampling.temperature, g);
    detail::check_slope<P>(out, policy, {prompts, r, of_r, sampling.temperature, moved, g}, d, options.step,
                           options.step_tolerance * norm(space(), g), "a step, after assign(theta, alpha, d)");
  }

  policy.assign(origin);
  compare(here, "assign(theta)");
  detail::check_same_rollouts(out, policy.sample(prompts, requests, sampling, key), base,
                              "assign(theta): the sampler has the new parameters");
  policy.assign(moved);
  compare(there, "assign(theta)");
  (void)sample_there("assign(theta)");
  policy.assign(origin, 0.0, d);
  compare(here, "assign(theta, 0, d)");
  detail::check_same_rollouts(out, policy.sample(prompts, requests, sampling, key), base,
                              "assign(theta, 0, d): the sampler has the new parameters");
  return out.take();
}

/// Tries everything that `policy` promises, in one call: the laws of its space (but for elementwise_laws, where it can
/// map), of parameterised, sampler with inversion_laws, scorer and differentiable, and assignment_laws.
///
/// `fill(v, index)` writes test vector `index` into v, which comes from space().zero(): random numbers, others for each
/// index. `requests` are about a hundred short rollouts of several prompts of different lengths, at a temperature other
/// than 1 and parameters that are not all alike. A suite that throws is reported, and the others go on. The parameters
/// are what they were when the function returns. Throws std::invalid_argument for requests that cannot be tried.
template <policy P, class Fill>
violations policy_laws(P& policy, const Fill& fill, const ragged<token>& prompts,
                       std::span<const sample_request> requests, const sampling_options& sampling, random_key key,
                       const differentiable_options& options = {}) {
  detail::check_requests(requests, prompts, sampling, "policy_laws");
  const law_options near{options.tolerance};
  violations out;
  const auto add = [&](std::string_view name, const auto& suite) {
    for (std::string& broken : tried(name, suite)) out.push_back(std::move(broken));
  };
  add("vector_space_laws", [&] { return vector_space_laws(policy.space(), fill, near); });
  if constexpr (tensor_layout<space_t<P>>)
    add("tensor_layout_laws", [&] { return tensor_layout_laws(policy.space()); });
  add("parameterised_laws", [&] { return parameterised_laws(policy, fill, near); });
  add("sampler_laws", [&] { return sampler_laws(policy, prompts, requests, sampling, key, near); });
  const auto sampled = [&] { return policy.sample(prompts, requests, sampling, key); };
  add("scorer_laws", [&] { return scorer_laws(policy, prompts, sampled(), sampling.temperature, near); });
  add("differentiable_laws", [&] {
    const rollouts r = sampled();
    std::vector<std::size_t> some;  // of every request, where they are few
    for (std::size_t i = 0; i < r.size(); i += 1 + r.size() / 16) some.push_back(i);
    return differentiable_laws(policy, fill, prompts, take(r, some), sampling.temperature, options);
  });
  add("assignment_laws", [&] { return assignment_laws(policy, fill, prompts, requests, sampling, key, options); });
  return out;
}

}  // namespace rlvr::laws
