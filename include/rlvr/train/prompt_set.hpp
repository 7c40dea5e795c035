#pragma once
/// Prompts, and who judges what is said to them.

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include <rlvr/core/policy.hpp>
#include <rlvr/core/rollouts.hpp>
#include <rlvr/verify/verifier.hpp>

namespace rlvr {

/// Prompts and the verifier of their completions: verify(i, completion) judges a completion of prompts[i].
template <rollout_verifier V>
struct prompt_set {
  ragged<token> prompts;
  V verify;
};
template <class V>
prompt_set(ragged<token>, V) -> prompt_set<V>;  // clang deduces aggregates from version 17 on

/// `count` rollouts of each of `prompts` prompts from `first` on, wrapping around after `pool` of them.
inline std::vector<sample_request> requests_for(std::size_t prompts, std::uint32_t count, std::size_t first,
                                                std::size_t pool) {
  std::vector<sample_request> out(prompts);
  for (std::size_t i = 0; i < prompts; ++i)
    out[i] = {static_cast<std::uint32_t>((first + i) % pool), count, 0};
  return out;
}

/// `count` rollouts of every prompt.
inline std::vector<sample_request> requests_for(const ragged<token>& prompts, std::uint32_t count) {
  return requests_for(prompts.size(), count, 0, prompts.size());
}

/// policy.sample in slices, so that progress shows; the same draws as in one call.
template <sampler P, class Progress>
rollouts sample_in_slices(P& policy, const ragged<token>& prompts, std::span<const sample_request> requests,
                          const sampling_options& options, random_key key, Progress&& progress) {
  const std::size_t slice = requests.size() / 8 + 1;
  rollouts out;
  for (std::size_t begin = 0; begin < requests.size(); begin += slice) {
    progress(begin, requests.size());
    out.append(policy.sample(prompts, requests.subspan(begin, std::min(slice, requests.size() - begin)), options, key));
  }
  progress(requests.size(), requests.size());
  return out;
}

}  // namespace rlvr
