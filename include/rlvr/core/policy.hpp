#pragma once
/// What an algorithm may ask of a policy. A backend models as many of these as it can; each algorithm names
/// what it needs.

#include <concepts>
#include <cstdint>
#include <exception>
#include <span>
#include <type_traits>
#include <utility>
#include <vector>

#include <rlvr/core/ragged.hpp>
#include <rlvr/core/random.hpp>
#include <rlvr/core/rollouts.hpp>
#include <rlvr/core/vector_space.hpp>

namespace rlvr {

/// log pi(y_t | y_<t) and the entropy of the next-token distribution, one per completion token, in nats.
struct token_scores {
  std::vector<double> log_probs;
  std::vector<double> entropies;
};

/// A policy that draws rollouts.
///
///  - `p.sample(prompts, requests, options, key)`: the rollouts asked for, request by request in order, so that a
///    request's rollouts stand side by side; without verdicts. A pure function of (parameters, prompts, requests,
///    options, key): rollout r of prompt i depends on nothing but the parameters, prompt i, options, key, i and r,
///    and draws its token at position t by inverting the cumulative distribution, tokens in the order of their ids,
///    at `key.uniform(i, r, t)`. So every backend draws the same token, but where rounding moves a bound past that
///    number.
///  - Throws std::invalid_argument for a prompt index out of range, an empty prompt, a token outside the
///    vocabulary, temperature not positive and finite, or max_tokens 0.
template <class P>
concept sampler = requires(P& p, const ragged<token>& prompts, std::span<const sample_request> requests,
                           const sampling_options& options, random_key key) {
  { p.sample(prompts, requests, options, key) } -> std::same_as<rollouts>;
};

/// A policy that scores rollouts, its own or anybody's.
///
///  - `p.score(prompts, r, temperature)`: log-probabilities and entropies of the distribution at that temperature,
///    in the order of r.tokens. Only r.offsets, r.tokens and r.prompts are read.
///  - For rollouts that `p` sampled with the same parameters and temperature the result equals r.log_probs and
///    r.entropies up to rounding.
template <class P>
concept scorer = requires(P& p, const ragged<token>& prompts, const rollouts& r, double temperature) {
  { p.score(prompts, r, temperature) } -> std::same_as<token_scores>;
};

/// A policy whose parameters are a vector that can be read and replaced.
///
///  - `p.space()`: the vector space of the parameters and their gradients.
///  - `p.parameters()`: the current parameters theta; the reference stays valid while p lives.
///  - `p.assign(theta)`: parameters <- theta. For a vector of the right space it fails only when the device does.
///  - `p.assign(theta, alpha, direction)`: parameters <- theta + alpha direction, in one pass where the backend
///    can; neither argument is p.parameters() itself.
template <class P>
concept parameterised = requires(P& p, const P& c) {
  { c.space() };
  requires vector_space<std::remove_cvref_t<decltype(c.space())>>;
  { c.parameters() } -> std::same_as<const vector_t<std::remove_cvref_t<decltype(c.space())>>&>;
  p.assign(c.parameters());
  p.assign(c.parameters(), 1.0, c.parameters());
};

/// The space of a policy's parameters, and its vectors.
template <parameterised P>
using space_t = std::remove_cvref_t<decltype(std::declval<const P&>().space())>;
template <parameterised P>
using parameters_t = vector_t<space_t<P>>;

/// A policy that can do the one thing every objective needs: g += sum_t c_t grad log pi(y_t | y_<t).
///
///  - `p.accumulate_score(prompts, r, coefficients, temperature, g)`: adds to g, never overwrites it. One
///    coefficient per token, in the order of r.tokens. Sum, never mean: splitting r in any way changes the result
///    by rounding only, calling twice adds twice, and the result is linear in the coefficients. Rollouts whose
///    coefficients are all zero contribute exactly nothing (and should cost nothing). The log-probabilities are
///    those at `temperature`. Only r.offsets, r.tokens and r.prompts are read.
///  - The gradient is of log-probabilities in nats with respect to p.parameters(); positive coefficients make
///    tokens more likely when g is added to the parameters.
///  - Throws std::invalid_argument when sizes differ or a coefficient is not finite; g is then unchanged. After any
///    other failure part of the sum may have been added to g, which is then to be thrown away.
template <class P>
concept differentiable =
    parameterised<P> && requires(P& p, const ragged<token>& prompts, const rollouts& r,
                                 std::span<const double> coefficients, double temperature, parameters_t<P>& g) {
      p.accumulate_score(prompts, r, coefficients, temperature, g);
    };

/// What the recipes in train/ need.
template <class P>
concept policy = sampler<P> && scorer<P> && differentiable<P>;

/// Remembers a policy's parameters and puts them back, bit for bit, when it goes out of scope, unless kept. Where that
/// fails, it throws what `assign` threw; while another exception is on its way (a device that is lost), that one goes on
/// and the parameters stay as they are.
template <parameterised P>
class scoped_parameters {
 public:
  explicit scoped_parameters(P& policy) : policy_(policy), origin_(policy.space().zero()) {
    policy.space().assign(origin_, policy.parameters());
  }
  scoped_parameters(const scoped_parameters&) = delete;
  scoped_parameters& operator=(const scoped_parameters&) = delete;
  ~scoped_parameters() noexcept(false) {
    if (kept_) return;
    try {
      policy_.assign(origin_);
    } catch (...) {
      if (std::uncaught_exceptions() == exceptions_) throw;
    }
  }

  /// The parameters to return to.
  const parameters_t<P>& origin() const { return origin_; }

  /// parameters <- origin + alpha direction
  void move_along(double alpha, const parameters_t<P>& direction) { policy_.assign(origin_, alpha, direction); }

  /// parameters <- origin
  void restore() { policy_.assign(origin_); }

  /// Leaves the parameters as they are now.
  void keep() { kept_ = true; }

 private:
  P& policy_;
  parameters_t<P> origin_;
  int exceptions_ = std::uncaught_exceptions();
  bool kept_ = false;
};

}  // namespace rlvr
