#pragma once
/// How spread out a policy's rollouts are, and when that is lost.

#include <cstddef>
#include <limits>

#include <rlvr/core/error.hpp>
#include <rlvr/core/offsets.hpp>
#include <rlvr/core/rollouts.hpp>

namespace rlvr {

/// Entropies of the next-token distributions along the rollouts, in nats.
struct entropy_summary {
  double per_token = 0;  ///< mean over all tokens
  double per_sequence =
      0;  ///< mean over rollouts of the sum: an unbiased estimate of the policy's sequence entropy
  double first_token = 0;  ///< mean over rollouts at the first position
  double last_token = 0;   ///< mean over rollouts at the last position
};

/// Rollouts without tokens count in per_sequence only. NaN where nothing is to be averaged. Throws
/// std::invalid_argument for damaged offsets and when there is not one entropy per token. O(T).
inline entropy_summary summarize_entropy(const rollouts& r) {
  detail::check_offsets(r.offsets, "summarize_entropy");
  require(r.entropies.size() == r.offsets.back(), "summarize_entropy: ", r.entropies.size(),
          " entropies for ", r.offsets.back(), " tokens");
  double sum = 0, first = 0, last = 0;
  std::size_t filled = 0;
  for (double h : r.entropies) sum += h;
  for (std::size_t i = 0; i < r.size(); ++i) {
    if (r.length(i) == 0) continue;
    ++filled;
    first += r.entropies[r.offsets[i]];
    last += r.entropies[r.offsets[i + 1] - 1];
  }
  const auto mean = [](double total, std::size_t n) {
    return n > 0 ? total / static_cast<double>(n) : std::numeric_limits<double>::quiet_NaN();
  };
  return {mean(sum, r.entropies.size()), mean(sum, r.size()), mean(first, filled), mean(last, filled)};
}

/// Whether a policy has collapsed: its entropy fell below `fraction` of the base policy's *and* its accuracy
/// below the base's. Entropy alone does not tell: it falls straight through the best step. False when an
/// argument is NaN. Throws std::invalid_argument for a fraction outside [0, 1]. O(1).
inline bool collapsed(double entropy, double base_entropy, double accuracy, double base_accuracy,
                      double fraction = 0.5) {
  require(fraction >= 0 && fraction <= 1, "collapsed: fraction is ", fraction);
  return entropy < fraction * base_entropy && accuracy < base_accuracy;
}

}  // namespace rlvr
