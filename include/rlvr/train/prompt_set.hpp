#pragma once
/// Prompts, and who judges what is said to them.

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include <rlvr/core/policy.hpp>
#include <rlvr/core/rollouts.hpp>
#include <rlvr/core/slice.hpp>
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

/// `count` rollouts of each of `prompts` prompts from `first` on.
inline std::vector<sample_request> requests_for(std::size_t prompts, std::uint32_t count, std::size_t first) {
  std::vector<sample_request> out(prompts);
  for (std::size_t i = 0; i < prompts; ++i)
    out[i] = {static_cast<std::uint32_t>(first + i), count, 0};
  return out;
}

/// `count` rollouts of every prompt.
inline std::vector<sample_request> requests_for(const ragged<token>& prompts, std::uint32_t count) {
  return requests_for(prompts.size(), count, 0);
}

/// `count` rollouts of each of the `prompts` prompts of batch number `step`. An epoch is all `pool` prompts in an order
/// of its own, cut into pool / prompts batches; what is left over at its end waits for another epoch's order. A pure
/// function. Requires 0 < prompts <= pool. O(pool).
inline std::vector<sample_request> epoch_requests(std::size_t prompts, std::uint32_t count, std::size_t step,
                                                  std::size_t pool, random_key key) {
  const std::size_t batches = pool / prompts;
  std::vector<std::uint32_t> order(pool);
  for (std::size_t i = 0; i < pool; ++i) order[i] = static_cast<std::uint32_t>(i);
  shuffle(order, key.fold(step / batches));
  std::vector<sample_request> out(prompts);
  for (std::size_t i = 0; i < prompts; ++i) out[i] = {order[step % batches * prompts + i], count, 0};
  return out;
}

/// policy.sample in slices, so that progress shows; the same draws as in one call.
template <sampler P, class Progress>
rollouts sample_in_slices(P& policy, const ragged<token>& prompts, std::span<const sample_request> requests,
                          const sampling_options& options, random_key key, Progress&& progress) {
  const std::size_t share = requests.size() / 8 + 1;
  rollouts out;
  for (std::size_t begin = 0; begin < requests.size(); begin += share) {
    progress(begin, requests.size());
    append(out,
           policy.sample(prompts, requests.subspan(begin, std::min(share, requests.size() - begin)), options, key));
  }
  progress(requests.size(), requests.size());
  return out;
}

}  // namespace rlvr
