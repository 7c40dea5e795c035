#pragma once
/// What a verifier is, and the verdicts of whole batches.

#include <concepts>
#include <cstddef>
#include <span>
#include <string_view>
#include <utility>
#include <vector>

#include <rlvr/core/error.hpp>
#include <rlvr/core/rollout_verifier.hpp>
#include <rlvr/core/rollouts.hpp>
#include <rlvr/core/validate.hpp>

namespace rlvr {

/// A verifier of text against a reference answer.
///
///  - `v(completion, answer)`: total (a verdict for any bytes, and never an exception), pure, and linear in
///  the
///    two lengths. A reward is finite. What cannot be judged, for instance because the answer itself is not
///    of the verifier's kind, is unscored; a completion without an answer is wrong: scored, reward 0.
template <class V>
concept text_verifier = requires(const V& v, std::string_view completion, std::string_view answer) {
  { v(completion, answer) }
  noexcept->std::same_as<verdict>;
};

/// Judges every rollout: r.verdicts[i] = v(r.prompts[i], r.completion(i)).
/// Throws what v throws, and std::invalid_argument when r's tokens cannot be read by rollout (validate_offsets) or a
/// scored reward is not finite; r is then unchanged.
template <rollout_verifier V>
void verify(const V& v, rollouts& r) {
  validate_offsets(r);
  std::vector<verdict> verdicts;
  verdicts.reserve(r.size());
  for (std::size_t i = 0; i < r.size(); ++i) {
    verdicts.push_back(v(r.prompts[i], r.completion(i)));
    require(!verdicts[i].scored || is_finite(verdicts[i].reward), "verify: the verifier gave rollout ", i,
            " of prompt ", r.prompts[i], " the reward ", verdicts[i].reward);
  }
  r.verdicts = std::move(verdicts);
}

}  // namespace rlvr
