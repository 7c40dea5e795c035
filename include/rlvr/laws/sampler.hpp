#pragma once
/// The laws of sampler and scorer.

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <span>
#include <stdexcept>
#include <string_view>
#include <type_traits>
#include <vector>

#include <rlvr/core/error.hpp>
#include <rlvr/core/policy.hpp>
#include <rlvr/core/slice.hpp>
#include <rlvr/core/validate.hpp>
#include <rlvr/laws/inversion.hpp>
#include <rlvr/laws/report.hpp>

namespace rlvr::laws {

namespace detail {

/// Throws std::invalid_argument, naming the suite, unless there are tokens, and rollouts of prompts that exist.
inline void check_rollouts(const rollouts& r, const ragged<token>& prompts, std::string_view suite) {
  validate_offsets(r);
  require(!r.tokens.empty(), suite, ": there are no tokens");
  for (std::size_t i = 0; i < r.size(); ++i)
    require(r.prompts[i] < prompts.size(), suite, ": rollout ", i, " is of prompt ", r.prompts[i], ", but there are ",
            prompts.size());
}

/// The same unless these requests can be tried.
inline void check_requests(std::span<const sample_request> requests, const ragged<token>& prompts,
                           const sampling_options& sampling, std::string_view suite) {
  std::uint32_t most = 0;
  for (std::size_t q = 0; q < requests.size(); ++q) {
    require(requests[q].prompt < prompts.size(), suite, ": request ", q, " is of prompt ", requests[q].prompt,
            ", but there are ", prompts.size());
    most = std::max(most, requests[q].count);
  }
  require(most >= 2, suite, ": ", requests.size(), " requests, of at most ", most,
          " rollouts each; one of two rollouts is needed");
  require(sampling.temperature > 0 && is_finite(sampling.temperature), suite, ": temperature is ",
          sampling.temperature);
  require(sampling.max_tokens > 0, suite, ": max_tokens is 0");
}

inline void check_same_rollouts(report& out, const rollouts& got, const rollouts& expected,
                                std::string_view law) {
  if (got.offsets != expected.offsets || got.tokens != expected.tokens || got.prompts != expected.prompts ||
      got.finished != expected.finished)
    return out.fail(concat(law, ": other rollouts"));
  for (std::size_t t = 0; t < expected.tokens.size(); ++t)
    if (!(std::fabs(got.log_probs[t] - expected.log_probs[t]) <=
          out.tolerance() * (1 + std::fabs(expected.log_probs[t]))) ||
        !(std::fabs(got.entropies[t] - expected.entropies[t]) <=
          out.tolerance() * (1 + expected.entropies[t])))
      return out.fail(concat(law, ": log-prob or entropy of token ", t, " differs: ",
                             report::text(got.log_probs[t]), ", ", report::text(expected.log_probs[t])));
}

/// The rollouts that a sampler gives where max_tokens is `longest`, of what it gives where it is more.
inline rollouts cut_rollouts(const rollouts& r, std::size_t longest) {
  rollouts out;
  for (std::size_t i = 0; i < r.size(); ++i) {
    for (std::size_t t = r.offsets[i]; t < std::min(r.offsets[i] + longest, r.offsets[i + 1]); ++t) {
      out.tokens.push_back(r.tokens[t]);
      out.log_probs.push_back(r.log_probs[t]);
      out.entropies.push_back(r.entropies[t]);
    }
    out.offsets.push_back(out.tokens.size());
    out.prompts.push_back(r.prompts[i]);
    out.finished.push_back(r.length(i) > longest ? std::uint8_t{0} : r.finished[i]);
  }
  return out;
}

}  // namespace detail

/// Tries what sampler promises: a pure function of (parameters, prompts, requests, options, key) that draws where the
/// concept says, whatever else is asked for and in which order, whose shapes and flags are right, and whose
/// log-probabilities are those of the distribution it draws from.
///
/// Needs at least one request of two rollouts; requests worth some hundred tokens make the statistical laws sharp,
/// unless all tokens are equally likely, as where parameters are zero; and the laws that two keys, or two rollouts of a
/// prompt, differ are tried when the rollouts have 50 nats of entropy in all. At temperature 1 a sampler that forgets
/// the temperature passes: choose another, such as 0.8. About twice the sampling of `requests` per cut. A policy that
/// is also a scorer is tried by inversion_laws, too. Throws std::invalid_argument for requests that cannot be tried.
template <sampler P>
violations sampler_laws(P& policy, const ragged<token>& prompts, std::span<const sample_request> requests,
                        const sampling_options& sampling, random_key key, const law_options& options = {}) {
  detail::check_requests(requests, prompts, sampling, "sampler_laws");
  report out(options);
  const auto draw = [&](std::span<const sample_request> what) {
    return policy.sample(prompts, what, sampling, key);
  };
  const rollouts whole = draw(requests);

  // Shapes.
  try {
    validate(whole, prompts.size());
  } catch (const std::invalid_argument& e) {
    out.fail(concat("shapes: ", std::string_view(e.what())));
    return out.take();
  }
  out.check(whole.verdicts.empty(), "shapes: a sampler gives no verdicts");
  std::size_t next = 0;
  for (const sample_request& request : requests)
    for (std::uint32_t k = 0; k < request.count; ++k, ++next)
      if (next >= whole.size() || whole.prompts[next] != request.prompt) {
        out.fail(concat("shapes: rollout ", next, " does not belong to prompt ", request.prompt));
        return out.take();
      }
  if (next != whole.size()) {
    out.fail(concat("shapes: ", whole.size(), " rollouts, asked for ", next));
    return out.take();
  }
  for (std::size_t i = 0; i < whole.size(); ++i) {
    if (whole.length(i) < 1 || whole.length(i) > sampling.max_tokens) {
      out.fail(concat("shapes: rollout ", i, " has ", whole.length(i), " tokens, max_tokens is ",
                      sampling.max_tokens));
      break;
    }
    if (whole.finished[i] != 1 && (whole.finished[i] != 0 || whole.length(i) < sampling.max_tokens)) {
      out.fail(concat("finished: is ", whole.finished[i], " for rollout ", i, " of ", whole.length(i),
                      " tokens, expected 1 where fewer than max_tokens = ", sampling.max_tokens,
                      " were drawn, else 1 or 0"));
      break;
    }
  }

  const bool can_be_scored = out.count() == 0;

  // Log-probabilities: valid, and of the distribution drawn from. d_t = -log pi(y_t) - H_t has mean 0 given
  // the past, so that sum d / sqrt(sum d^2) is about standard normal; 7 has a false-alarm probability below
  // 1e-11. So has e_t = d_t d_(t-1): one random number for two tokens gives it another mean.
  double drift = 0, spread = 0, entropy = 0, both = 0, both_spread = 0, before = 0;
  std::size_t rollout = 0;
  for (std::size_t t = 0; t < whole.tokens.size(); ++t) {
    if (whole.tokens[t] < 0) {
      out.fail(concat("shapes: token ", t, " is ", whole.tokens[t]));
      return out.take();
    }
    if (!(whole.log_probs[t] <= out.tolerance()) || !(whole.entropies[t] >= -out.tolerance()) ||
        !std::isfinite(whole.entropies[t])) {
      out.fail(concat("log_probs: token ", t, " has log-prob ", report::text(whole.log_probs[t]),
                      " and entropy ", report::text(whole.entropies[t])));
      return out.take();
    }
    const double d = -whole.log_probs[t] - whole.entropies[t];
    while (t == whole.offsets[rollout]) {
      before = 0;
      ++rollout;
    }
    both += d * before;
    both_spread += d * before * d * before;
    before = d;
    drift += d;
    spread += d * d;
    entropy += whole.entropies[t];
  }
  if (std::fabs(drift) > 7 * std::sqrt(spread) + out.tolerance() * static_cast<double>(whole.tokens.size()))
    out.fail(concat("log_probs: surprise and entropy differ by ", report::text(drift / std::sqrt(spread)),
                    " standard errors: the log-probs are not those of the distribution drawn from"));
  if (std::fabs(both) > 7 * std::sqrt(both_spread) + out.tolerance() * static_cast<double>(whole.tokens.size()))
    out.fail(concat("draws: the surprises of neighbouring tokens go together by ",
                    report::text(both / std::sqrt(both_spread)),
                    " standard errors: tokens of a rollout are not drawn independently"));

  // Purity.
  detail::check_same_rollouts(out, draw(requests), whole, "pure: the same arguments again");
  std::size_t begin = 0;
  std::vector<sample_request> reversed;
  for (const sample_request& request : requests) {
    const std::size_t end = begin + request.count;
    const rollouts expected = slice(whole, begin, end);
    const std::uint32_t half = request.count / 2;
    const sample_request head{request.prompt, half, request.first};
    const sample_request tail{request.prompt, request.count - half, request.first + half};
    detail::check_same_rollouts(out, draw({&request, 1}), expected, "pure: a request alone");
    rollouts parts = draw({&head, 1});
    append(parts, draw({&tail, 1}));
    detail::check_same_rollouts(out, parts, expected, "first: a request cut in two");
    reversed.insert(reversed.begin(), request);
    begin = end;
  }
  rollouts backwards;
  for (std::size_t q = requests.size(), end = whole.size(); q-- > 0;) {
    append(backwards, slice(whole, end - requests[q].count, end));
    end -= requests[q].count;
  }
  detail::check_same_rollouts(out, draw(reversed), backwards, "pure: requests in reverse order");
  std::size_t longest = 0;
  for (std::size_t i = 0; i < whole.size(); ++i) longest = std::max(longest, whole.length(i));
  if (longest > 1) {
    const auto half = static_cast<std::uint32_t>(longest / 2);
    detail::check_same_rollouts(out, policy.sample(prompts, requests, {sampling.temperature, half}, key),
                                detail::cut_rollouts(whole, half),
                                concat("max_tokens: ", half, " instead of ", sampling.max_tokens,
                                       " cuts the same rollouts, and those cut have finished = 0"));
  }

  // Where two rollouts of a prompt part, they draw from one distribution: the larger token has the larger number. One
  // drawn with other numbers passes half of the pairs.
  const auto check_numbers = [&] {
    std::size_t i = 0;
    for (const sample_request& request : requests)
      for (std::uint32_t k = 0; k < request.count; ++k, ++i) {
        if (k == 0) continue;
        const std::span<const token> a = whole.completion(i - 1), b = whole.completion(i);
        std::size_t t = 0;
        while (t < a.size() && t < b.size() && a[t] == b[t]) ++t;
        if (t == a.size() || t == b.size()) continue;
        const std::uint32_t r = request.first + k, position = static_cast<std::uint32_t>(t);
        const double u = key.uniform(request.prompt, r - 1, position), v = key.uniform(request.prompt, r, position);
        if ((a[t] < b[t]) == (u < v)) continue;
        return out.fail(concat("inversion: rollouts ", r - 1, " and ", r, " of prompt ", request.prompt,
                               " have the tokens ", a[t], " and ", b[t], " at position ", t, ", where key.uniform is ",
                               report::text(u), " and ", report::text(v),
                               ": not the inverse of the cumulative distribution there"));
      }
  };
  check_numbers();
  if constexpr (scorer<P>)
    if (can_be_scored)
      detail::check_inversion(out, policy, prompts, requests, whole, sampling, key, {.tolerance = options.tolerance});

  // Different draws.
  if (entropy > 50) {
    const rollouts other = policy.sample(prompts, requests, sampling, random_key(~key.bits()));
    out.check(other.tokens != whole.tokens, "key: another key gives other rollouts");
    bool differ = false;
    for (std::size_t i = 1; i < whole.size(); ++i)
      if (whole.prompts[i] == whole.prompts[i - 1]) {
        const std::span<const token> a = whole.completion(i - 1), b = whole.completion(i);
        differ = differ || !std::equal(a.begin(), a.end(), b.begin(), b.end());
      }
    out.check(differ, "rollout: rollouts of one prompt have draws of their own");
  }

  // Errors.
  const auto rejects = [&](const sample_request& request, const sampling_options& how,
                           const ragged<token>& from, std::string_view law) {
    out.rejects([&] { (void)policy.sample(from, std::span(&request, 1), how, key); }, law);
  };
  sample_request bad = requests.front();
  bad.prompt = static_cast<std::uint32_t>(prompts.size());
  rejects(bad, sampling, prompts, "errors: a prompt index out of range");
  for (double temperature :
       {0.0, -1.0, std::numeric_limits<double>::infinity(), std::numeric_limits<double>::quiet_NaN()})
    rejects(requests.front(), {temperature, sampling.max_tokens}, prompts,
            "errors: a temperature that is not positive and finite");
  rejects(requests.front(), {sampling.temperature, 0}, prompts, "errors: max_tokens 0");
  ragged<token> odd;
  odd.push_back(std::vector<token>{});
  rejects({0, 1, 0}, sampling, odd, "errors: an empty prompt");
  for (token outside : {token{-1}, std::numeric_limits<token>::max()}) {
    ragged<token> strange;
    strange.push_back(std::vector<token>{outside});
    rejects({0, 1, 0}, sampling, strange, "errors: a token outside the vocabulary");
  }
  return out.take();
}

/// Tries what scorer promises on rollouts r that the policy sampled at this temperature with its present
/// parameters: the sampler's log-probabilities and entropies, whatever else stands in the batch. At temperature 1 a
/// scorer that forgets the temperature passes. Throws std::invalid_argument for rollouts that are malformed or none.
template <scorer P>
violations scorer_laws(P& policy, const ragged<token>& prompts, const rollouts& r, double temperature,
                       const law_options& options = {}) {
  validate(r, prompts.size());
  detail::check_rollouts(r, prompts, "scorer_laws");
  report out(options);
  rollouts bare;  // what a scorer may read
  bare.offsets = r.offsets;
  bare.tokens = r.tokens;
  bare.prompts = r.prompts;
  const token_scores whole = policy.score(prompts, bare, temperature);
  if (whole.log_probs.size() != r.tokens.size() || whole.entropies.size() != r.tokens.size()) {
    out.fail(concat("score: ", whole.log_probs.size(), " log-probs and ", whole.entropies.size(),
                    " entropies for ", r.tokens.size(), " tokens"));
    return out.take();
  }
  const auto compare = [&](const token_scores& got, std::size_t t, double log_prob, double entropy,
                           std::size_t at, std::string_view law) {
    const std::size_t before = out.count();
    out.near(got.log_probs[t], log_prob, 1 + std::fabs(log_prob), concat(law, ", log-prob of token ", at));
    out.near(got.entropies[t], entropy, 1 + std::fabs(entropy), concat(law, ", entropy at token ", at));
    return out.count() == before;
  };
  for (std::size_t t = 0; t < r.tokens.size(); ++t)
    if (!compare(whole, t, r.log_probs[t], r.entropies[t], t, "score: equals the sampler's")) break;
  for (std::size_t i = 0; i < r.size(); ++i) {
    const token_scores alone = policy.score(prompts, slice(bare, i, i + 1), temperature);
    for (std::size_t t = 0; t < r.length(i); ++t) {
      const std::size_t at = r.offsets[i] + t;
      if (!compare(alone, t, whole.log_probs[at], whole.entropies[at], at,
                   "score: a rollout alone and in the batch"))
        return out.take();
    }
  }
  return out.take();
}

}  // namespace rlvr::laws
