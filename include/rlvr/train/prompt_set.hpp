#pragma once
/// Prompts, and who judges what is said to them.

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include <rlvr/core/error.hpp>
#include <rlvr/core/policy.hpp>
#include <rlvr/core/rollouts.hpp>
#include <rlvr/core/slice.hpp>
#include <rlvr/core/validate.hpp>
#include <rlvr/verify/verifier.hpp>

namespace rlvr {

/// Prompts and the verifier of their completions: verify(i, completion) judges a completion of prompts[i].
template <class V>
struct prompt_set {
  static_assert(rollout_verifier<V>,
                "a prompt_set's verifier is called as `verdict operator()(std::size_t prompt, std::span<const token> "
                "completion) const`; one of text goes into a decoded_verifier");

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

/// The order in which a pool's prompts come: an epoch is all of them in an order of its own, cut into batches. The
/// order of one epoch is kept, 4 bytes per prompt, so that only its first batch costs O(pool).
class epoch_order {
 public:
  epoch_order(std::size_t pool, random_key key) : pool_(pool), key_(key) {}

  /// `count` rollouts of each of the `prompts` prompts of batch number `step`, of the pool / prompts batches of an
  /// epoch; what is left over at its end waits for another epoch's order. Depends on nothing that was asked before.
  /// Throws std::invalid_argument unless 0 < prompts <= pool. O(prompts) in the epoch that was asked for last, else
  /// O(pool).
  std::vector<sample_request> requests(std::size_t prompts, std::uint32_t count, std::size_t step) {
    require(prompts > 0 && prompts <= pool_, "epoch_order: batches of ", prompts, " prompts from a pool of ", pool_);
    const std::size_t batches = pool_ / prompts, epoch = step / batches;
    if (order_.empty() || epoch != epoch_) {
      order_.resize(pool_);
      for (std::size_t i = 0; i < pool_; ++i) order_[i] = static_cast<std::uint32_t>(i);
      shuffle(order_, key_.fold(epoch));
      epoch_ = epoch;
    }
    std::vector<sample_request> out(prompts);
    for (std::size_t i = 0; i < prompts; ++i) out[i] = {order_[step % batches * prompts + i], count, 0};
    return out;
  }

 private:
  std::size_t pool_, epoch_ = 0;
  random_key key_;
  std::vector<std::uint32_t> order_;
};

/// One batch of epoch_order. O(pool).
inline std::vector<sample_request> epoch_requests(std::size_t prompts, std::uint32_t count, std::size_t step,
                                                  std::size_t pool, random_key key) {
  return epoch_order(pool, key).requests(prompts, count, step);
}

/// policy.sample in slices, so that progress shows; the same draws as in one call. Throws what the policy throws, and
/// std::invalid_argument when it returns anything but what it was asked for (validate).
template <sampler P, class Progress>
rollouts sample_in_slices(P& policy, const ragged<token>& prompts, std::span<const sample_request> requests,
                          const sampling_options& options, random_key key, Progress&& progress) {
  const std::size_t share = requests.size() / 8 + 1;
  rollouts out;
  for (std::size_t begin = 0; begin < requests.size(); begin += share) {
    progress(begin, requests.size());
    const auto part = requests.subspan(begin, std::min(share, requests.size() - begin));
    const rollouts drawn = policy.sample(prompts, part, options, key);
    validate(drawn, prompts.size(), part);
    append(out, drawn);
  }
  progress(requests.size(), requests.size());
  return out;
}

}  // namespace rlvr
