#pragma once
/// Group filters: which groups, once rolled out, are worth training on.

#include <algorithm>
#include <span>
#include <vector>

#include <rlvr/core/error.hpp>
#include <rlvr/select/draw.hpp>
#include <rlvr/select/outcome.hpp>

namespace rlvr {

/// Every group that has a scored rollout.
struct keep_all {
  bool operator()(const outcome& o) const { return o.rollouts > 0; }
};

/// Groups whose rewards differ: the others have no advantage and hence no gradient. Source: DAPO's dynamic sampling
/// (arXiv 2503.14476, equation 11) and SPEED's screen (arXiv 2506.09016). verl also keeps groups of one; here a group
/// of one has no advantage and is not kept.
struct keep_mixed {
  bool operator()(const outcome& o) const { return o.variance > 0; }
};

/// Groups whose mean reward is within [low, high]. Source: balanced online difficulty filtering (arXiv 2504.03380),
/// whose published runs are balanced around 1/2; the bounds are to be chosen.
struct keep_window {
  double low = 0.25;
  double high = 0.75;

  bool operator()(const outcome& o) const { return o.rollouts > 0 && o.mean >= low && o.mean <= high; }
};

/// Throws std::invalid_argument for a candidate outside the pool or given twice. O(m log m).
inline void check_candidates(std::span<const prompt_id> candidates, std::size_t pool) {
  std::vector<prompt_id> sorted(candidates.begin(), candidates.end());
  std::sort(sorted.begin(), sorted.end());
  for (std::size_t j = 0; j < sorted.size(); ++j) {
    require(sorted[j] < pool, "select: candidate ", sorted[j], " in a pool of ", pool);
    require(j == 0 || sorted[j] != sorted[j - 1], "select: candidate ", sorted[j], " is given twice");
  }
}

/// Throws std::invalid_argument for an id outside the pool or an impossible outcome.
inline void check_observation(prompt_id id, const outcome& o, std::size_t pool) {
  require(id < pool, "observe: prompt ", id, " in a pool of ", pool);
  require(o.step < (std::uint64_t{1} << 31), "observe: step ", o.step, " does not fit into 31 bits");
  check_outcome(o);
}

}  // namespace rlvr
