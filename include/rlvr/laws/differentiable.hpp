#pragma once
/// The laws of parameterised and differentiable.

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <span>
#include <string_view>
#include <vector>

#include <rlvr/core/error.hpp>
#include <rlvr/core/mixed_precision.hpp>
#include <rlvr/core/norm.hpp>
#include <rlvr/core/policy.hpp>
#include <rlvr/core/random.hpp>
#include <rlvr/core/slice.hpp>
#include <rlvr/laws/report.hpp>
#include <rlvr/laws/sampler.hpp>

namespace rlvr::laws {

/// Tries assignment and its restoration. `fill` as for vector_space_laws. The parameters are what they were
/// when the function returns, if the policy keeps its promises.
template <parameterised P, class Fill>
violations parameterised_laws(P& policy, const Fill& fill, const law_options& options = {}) {
  report out(options);
  const auto space = [&]() -> decltype(auto) { return policy.space(); };
  using S = space_t<P>;
  const vector_t<S> origin = copy_of(space(), policy.parameters());
  vector_t<S> x = space().zero(), d = space().zero();
  fill(x, 0);
  fill(d, 1);
  const vector_t<S>* const address = &policy.parameters();

  policy.assign(x);
  out.same(space(), policy.parameters(), x, "assign: parameters <- theta, bit for bit");
  for (double alpha : {0.0, 0.5, -2.0}) {
    vector_t<S> expected = copy_of(space(), x);
    space().axpy(alpha, d, expected);
    policy.assign(x, alpha, d);
    out.near(space(), policy.parameters(), expected, norm(space(), x) + norm(space(), d),
             "assign: parameters <- theta + alpha direction");
  }
  policy.assign(x, 0.0, d);
  out.same(space(), policy.parameters(), x, "assign: alpha = 0 gives theta, bit for bit");
  out.check(&policy.parameters() == address, "parameters: the reference stays valid");

  policy.assign(origin);
  {
    scoped_parameters<P> scope(policy);
    scope.move_along(1.0, d);
  }
  out.same(space(), policy.parameters(), origin, "scoped_parameters: puts the parameters back, bit for bit");
  return out.take();
}

/// The defaults are for backends that compute in double. For floats begin with `{.tolerance = 1e-5, .step_tolerance =
/// 2e-3}`, for bfloat16 with 0.1 for both.
struct differentiable_options {
  double tolerance = 1e-10;  ///< for results that are equal in exact arithmetic
  /// h of the first finite difference: along gradients the length of the step, along other vectors that of a coordinate
  /// (root mean square). Where the difference does not agree, h / 4 is tried, down to h / 256: too long a step is wrong
  /// by terms of order h^4, too short a one by rounding / h.
  double step = 1e-2;
  double step_tolerance = 1e-6;  ///< for it, relative to |g| |d|, along other vectors to |g| |d| / sqrt(dimension)
};

namespace detail {

/// Numbers in [-1, 1) that a test multiplies log-probabilities with.
inline std::vector<double> random_coefficients(std::size_t size, std::uint64_t which) {
  std::vector<double> c(size);
  for (std::size_t t = 0; t < size; ++t) c[t] = 2 * random_key(which).uniform(t) - 1;
  return c;
}

/// What a gradient is compared at: g = grad sum_t c_t log pi_t(origin).
template <class P>
struct gradient_case {
  const ragged<token>& prompts;
  const rollouts& r;
  const std::vector<double>& c;
  double temperature;
  const parameters_t<P>& origin;
  const parameters_t<P>& g;
};

/// Whether <g, d> / |d| is what five-point finite differences with steps of `longest` and less say, within `allowed`.
/// Leaves the parameters where the last difference was taken.
template <class P>
void check_slope(report& out, P& policy, const gradient_case<P>& at, const parameters_t<P>& d, double longest,
                 double allowed, std::string_view along) {
  const double length = norm(policy.space(), d);
  const double expected = policy.space().dot(at.g, d) / length;
  const auto objective = [&](double h) {
    policy.assign(at.origin, h / length, d);
    const token_scores scores = score_precisely(policy, at.prompts, at.r, at.temperature);
    require(scores.log_probs.size() == at.c.size(), "score: ", scores.log_probs.size(), " log-probs for ", at.c.size(),
            " tokens");
    double sum = 0;
    for (std::size_t t = 0; t < at.c.size(); ++t) sum += at.c[t] * scores.log_probs[t];
    return sum;
  };
  double nearest = std::numeric_limits<double>::quiet_NaN(), step = longest;
  for (double h = longest; h >= longest / 256; h /= 4) {
    const double slope = (8 * (objective(h) - objective(-h)) - (objective(2 * h) - objective(-2 * h))) / (12 * h);
    if (std::fabs(slope - expected) <= allowed) return;
    if (std::fabs(slope - expected) < std::fabs(nearest - expected) || std::isnan(nearest)) {
      nearest = slope;
      step = h;
    }
  }
  out.fail(concat("gradient: finite difference of the log-probs along ", along),
           concat(" is ", report::text(nearest), " with step ", report::text(step), ", <g, d> is ",
                  report::text(expected), "; no step from ", report::text(longest), " to ",
                  report::text(longest / 256), " comes nearer, ", report::text(allowed), " is allowed"));
}

}  // namespace detail

/// Tries what differentiable promises, on rollouts r of at least two rollouts (they need not be the policy's
/// own): adds to g, twice adds twice, linear in the coefficients, zero coefficients give exactly nothing, any
/// split of the batch gives the same, what else the rollouts hold than tokens and prompts does not matter, and the
/// gradient of sum_t c_t log pi_t is what five-point finite differences of `score` say it is: along gradients, and
/// along test vectors 0, 1 and 2 of `fill` (as for vector_space_laws), whose coordinates should be random numbers. A
/// tensor or a coordinate that the gradient leaves out shows only along the latter. The parameters are what they were
/// when the function returns.
///
/// A few short rollouts are enough, ten or twenty, of different lengths and of several prompts of different lengths:
/// what goes wrong at the end of a shorter prompt or completion shows only there. All splits in two are tried up to 16
/// rollouts, 17 splits beyond, each about two passes over r; then each rollout is passed alone. At temperature 1 a
/// gradient that forgets the temperature passes. Throws std::invalid_argument for fewer than two rollouts, and for
/// rollouts that are malformed or of prompts that do not exist.
template <class P, class Fill>
requires differentiable<P> && scorer<P> violations
differentiable_laws(P& policy, const Fill& fill, const ragged<token>& prompts, const rollouts& r,
                    double temperature = 0.8, const differentiable_options& options = {}) {
  using S = space_t<P>;
  detail::check_rollouts(r, prompts, "differentiable_laws");
  require(r.size() >= 2, "differentiable_laws: ", r.size(), " rollouts, two are needed");
  report out({options.tolerance});
  const auto space = [&]() -> decltype(auto) { return policy.space(); };
  const vector_t<S> origin = copy_of(space(), policy.parameters());
  const std::size_t T = r.tokens.size();

  const auto score_sum = [&](const rollouts& batch, std::span<const double> c) {
    vector_t<S> g = space().zero();
    policy.accumulate_score(prompts, batch, c, temperature, g);
    return g;
  };
  const std::vector<double> c1 = detail::random_coefficients(T, 1), c2 = detail::random_coefficients(T, 2);
  const vector_t<S> s1 = score_sum(r, c1), s2 = score_sum(r, c2);
  const double n1 = norm(space(), s1), n2 = norm(space(), s2);
  if (!(n1 > 0 && n2 > 0)) {
    out.fail(concat("gradient: is not zero for random coefficients: its norm is ", n1, " and ", n2));
    return out.take();
  }

  {
    vector_t<S> g = copy_of(space(), s2), expected = copy_of(space(), s2);
    policy.accumulate_score(prompts, r, c1, temperature, g);
    space().axpy(1.0, s1, expected);
    out.near(space(), g, expected, n1 + n2, "accumulate: adds to g");
  }
  {
    vector_t<S> g = copy_of(space(), s1), expected = copy_of(space(), s1);
    policy.accumulate_score(prompts, r, c1, temperature, g);
    space().scale(2.0, expected);
    out.near(space(), g, expected, n1, "accumulate: calling twice gives 2 g");
  }
  {
    std::vector<double> c(T);
    for (std::size_t t = 0; t < T; ++t) c[t] = 3 * c1[t] - 0.5 * c2[t];
    vector_t<S> expected = copy_of(space(), s1);
    space().scale(3.0, expected);
    space().axpy(-0.5, s2, expected);
    out.near(space(), score_sum(r, c), expected, 3 * n1 + n2, "linear: 3 c - c'/2 gives 3 g - g'/2");
  }
  {
    vector_t<S> g = copy_of(space(), s1);
    policy.accumulate_score(prompts, r, std::vector<double>(T, 0.0), temperature, g);
    out.same(space(), g, s1, "zero coefficients: contribute exactly nothing");
  }
  {
    rollouts other = r;
    other.log_probs.assign(T, -3.0);
    other.entropies.assign(T, 1.0);
    other.finished.assign(r.size(), 0);
    other.verdicts.assign(r.size(), verdict{.reward = 7});
    out.near(space(), score_sum(other, c1), s1, n1,
             "rollouts: other log-probs, entropies, flags and verdicts change nothing");
  }
  const std::size_t before = out.count();
  for (std::size_t k = 0; k <= std::min<std::size_t>(r.size(), 16) && out.count() == before; ++k) {
    const std::size_t cut = r.size() <= 16 ? k : random_key(3).below(r.size() + 1, k);
    const std::size_t at = r.offsets[cut];
    vector_t<S> g = space().zero();
    policy.accumulate_score(prompts, slice(r, 0, cut), std::span(c1).first(at), temperature, g);
    const vector_t<S> head = copy_of(space(), g);
    policy.accumulate_score(prompts, slice(r, cut, r.size()), std::span(c1).subspan(at), temperature, g);
    out.near(space(), g, s1, n1, concat("sum: batch cut before rollout ", cut));

    std::vector<double> masked = c1;
    for (std::size_t t = at; t < T; ++t) masked[t] = 0;
    out.near(space(), score_sum(r, masked), head, n1,
             concat("zero coefficients: rollouts from ", cut, " on masked instead of left out"));
  }
  {
    vector_t<S> g = space().zero();
    for (std::size_t i = r.size(); i-- > 0;)
      policy.accumulate_score(prompts, slice(r, i, i + 1), std::span(c1).subspan(r.offsets[i], r.length(i)),
                              temperature, g);
    out.near(space(), g, s1, n1, "sum: one rollout at a time, backwards");
  }
  out.same(space(), policy.parameters(), origin, "parameters: accumulate_score leaves them alone");
  {
    const detail::gradient_case<P> at{prompts, r, c1, temperature, origin, s1};
    vector_t<S> d = copy_of(space(), s1);
    space().scale(1 / n1, d);
    space().axpy(1 / n2, s2, d);
    detail::check_slope(out, policy, at, d, options.step, options.step_tolerance * n1, "gradients");
    const double root = std::sqrt(static_cast<double>(space().dimension()));
    for (std::size_t index = 0; index < 3; ++index) {
      vector_t<S> x = space().zero();
      fill(x, index);
      if (space().dot(x, x) > 0)
        detail::check_slope(out, policy, at, x, options.step * root, options.step_tolerance * n1 / root,
                            concat("test vector ", index));
    }
    policy.assign(origin);
    out.same(space(), policy.parameters(), origin, "parameters: restored after assignment");
  }

  // Errors leave g as it is.
  vector_t<S> g = copy_of(space(), s1);
  const auto rejects = [&](const std::vector<double>& c, std::string_view law) {
    out.rejects([&] { policy.accumulate_score(prompts, r, c, temperature, g); }, law);
    out.same(space(), g, s1, concat(law, ": leaves g as it is"));
  };
  rejects(std::vector<double>(T + 1, 1.0), "errors: a coefficient too many");
  rejects(std::vector<double>(T - 1, 1.0), "errors: a coefficient too few");
  for (double bad : {std::numeric_limits<double>::quiet_NaN(), std::numeric_limits<double>::infinity()}) {
    std::vector<double> c = c1;
    c.back() = bad;
    rejects(c, "errors: a coefficient that is not finite");
  }
  return out.take();
}

/// The same with the parameters themselves instead of test vectors, where there is no way to write one. It sees no
/// tensor left out that is zero, nor one whose scale the log-probabilities do not depend on, as before a norm.
template <class P>
requires differentiable<P> && scorer<P> violations
differentiable_laws(P& policy, const ragged<token>& prompts, const rollouts& r, double temperature = 0.8,
                    const differentiable_options& options = {}) {
  const parameters_t<P> origin = copy_of(policy.space(), policy.parameters());
  const auto fill = [&](parameters_t<P>& v, std::size_t index) {
    if (index == 0) policy.space().assign(v, origin);
  };
  return differentiable_laws(policy, fill, prompts, r, temperature, options);
}

/// Test vectors out of the policy's own gradients, for spaces that the host cannot write to: a `fill` for
/// vector_space_laws and parameterised_laws. The rollouts need tokens enough that their scores are
/// independent.
template <differentiable P>
auto score_fill(P& policy, const ragged<token>& prompts, const rollouts& r, double temperature = 1.0) {
  return [&policy, &prompts, &r, temperature](parameters_t<P>& v, std::size_t index) {
    policy.accumulate_score(prompts, r, detail::random_coefficients(r.tokens.size(), 100 + index), temperature, v);
  };
}

}  // namespace rlvr::laws
