#pragma once
/// The law that a sampler inverts the cumulative distribution which the same policy scores with.

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include <rlvr/core/error.hpp>
#include <rlvr/core/policy.hpp>
#include <rlvr/core/random.hpp>
#include <rlvr/core/validate.hpp>
#include <rlvr/laws/report.hpp>

namespace rlvr::laws {

struct inversion_options {
  double tolerance = 1e-10;                          ///< of log-probabilities, entropies and their sums
  std::size_t scored_tokens = std::size_t{1} << 14;  ///< as many are scored at most; an eighth for one draw
};

namespace detail {

/// A token drawn, and what scores a part of the distribution it came from: a rollout for each token id from 0 on.
struct probed_draw {
  std::size_t rollout, position;  ///< in the rollouts sampled
  std::uint32_t index;            ///< of the rollout among its prompt's
  std::size_t first, tokens;      ///< rollouts [first, first + tokens) of the probe end in tokens 0, 1, ...
};

/// inversion_laws on rollouts r that were sampled as requested.
template <scorer P>
void check_inversion(report& out, P& policy, const ragged<token>& prompts, std::span<const sample_request> requests,
                     const rollouts& r, const sampling_options& sampling, random_key key,
                     const inversion_options& options) {
  std::vector<probed_draw> draws;
  std::size_t i = 0;
  for (const sample_request& request : requests)
    for (std::uint32_t k = 0; k < request.count; ++k, ++i)
      for (std::size_t t = 0; t < r.length(i); ++t) draws.push_back({i, t, request.first + k, 0, 0});
  shuffle(draws, random_key(4));

  // No id above those drawn is scored: it might be outside the vocabulary.
  const auto ids = static_cast<std::size_t>(*std::max_element(r.tokens.begin(), r.tokens.end())) + 1;
  rollouts probe;
  std::vector<probed_draw> probed;
  for (probed_draw d : draws) {
    const std::span<const token> completion = r.completion(d.rollout);
    const std::size_t room =
        std::min(options.scored_tokens / 8, options.scored_tokens - probe.tokens.size()) / (d.position + 1);
    d.first = probe.size();
    d.tokens = ids <= room ? ids : static_cast<std::size_t>(completion[d.position]) + 1;
    if (d.tokens > room) continue;
    for (std::size_t v = 0; v < d.tokens; ++v) {
      probe.tokens.insert(probe.tokens.end(), completion.begin(), completion.begin() + d.position);
      probe.tokens.push_back(static_cast<token>(v));
      probe.offsets.push_back(probe.tokens.size());
      probe.prompts.push_back(r.prompts[d.rollout]);
    }
    probed.push_back(d);
  }
  if (probed.empty()) return;
  const token_scores scores = policy.score(prompts, probe, sampling.temperature);
  if (scores.log_probs.size() != probe.tokens.size() || scores.entropies.size() != probe.tokens.size()) return;

  for (const probed_draw& d : probed) {
    const auto y = static_cast<std::size_t>(r.completion(d.rollout)[d.position]);
    double below = 0, at = 0, sum = 0, entropy = 0;
    for (std::size_t v = 0; v < d.tokens; ++v) {
      const double log_p = scores.log_probs[probe.offsets[d.first + v + 1] - 1], p = std::exp(log_p);
      if (v < y) below += p;
      if (v == y) at = p;
      sum += p;
      if (p > 0) entropy -= p * log_p;
    }
    const double said = scores.entropies[probe.offsets[d.first + 1] - 1];
    // A log-prob that is off by tolerance (1 + |log p|) moves p by tolerance p (1 + |log p|).
    const double slack = 4 * options.tolerance * (1 + entropy);
    const double u = key.uniform(r.prompts[d.rollout], d.index, static_cast<std::uint32_t>(d.position));
    if (!(u >= below - slack && u <= below + at + slack))
      out.fail("inversion: the cumulative distribution that is scored, inverted at key.uniform, gives another token",
               concat(": rollout ", d.index, " of prompt ", r.prompts[d.rollout], " has token ", y, " at position ",
                      d.position, ", which is [", report::text(below), ", ", report::text(below + at),
                      ") of the distribution, where key.uniform is ", report::text(u)));
    if (!(sum <= 1 + slack))
      out.fail("score: probabilities sum to 1",
               concat(": those of tokens 0 to ", d.tokens - 1, " at position ", d.position, " of a rollout of prompt ",
                      r.prompts[d.rollout], " to ", report::text(sum)));
    // What is missing of 1 adds at most a few dozen times itself to the entropy.
    if (std::fabs(sum - 1) <= slack && !(std::fabs(said - entropy) <= 40 * slack))
      out.fail("score: the entropy is that of the probabilities",
               concat(": got ", report::text(said), ", expected ", report::text(entropy)));
  }
}

}  // namespace detail

/// Tries where a policy's sampler draws: every token y is the one with CDF(y - 1) <= key.uniform < CDF(y), the
/// distribution being the one that the policy scores, whose entropy must be the one reported. Sharper than any
/// statistic: one draw of another token is enough.
///
/// Scores the tokens with ids up to the one drawn, or all where they are few, of draws chosen at random until
/// options.scored_tokens are spent; with a vocabulary of 150,000 only draws of small ids can be paid for unless it is
/// raised. A sampler that has random numbers of its own, such as an inference engine elsewhere, breaks this law: then
/// policies at nearby parameters no longer draw with common random numbers, and no other backend draws the same.
template <class P>
requires sampler<P> && scorer<P> violations
inversion_laws(P& policy, const ragged<token>& prompts, std::span<const sample_request> requests,
               const sampling_options& sampling, random_key key, const inversion_options& options = {}) {
  report out({options.tolerance});
  const rollouts r = policy.sample(prompts, requests, sampling, key);
  validate(r, prompts.size(), requests);
  require(!r.tokens.empty() && *std::min_element(r.tokens.begin(), r.tokens.end()) >= 0,
          "inversion_laws: no tokens were drawn, or negative ones");
  detail::check_inversion(out, policy, prompts, requests, r, sampling, key, options);
  return out.take();
}

}  // namespace rlvr::laws
