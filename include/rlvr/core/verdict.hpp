#pragma once
/// What is judged, and what is said of it.

#include <cstdint>

namespace rlvr {

inline namespace aliases {  // directly in rlvr, gcc's -Wshadow takes every enumerator `token` for a second one
using token = std::int32_t;
}

/// What a verifier says of one rollout. Unscored is not zero: an unscored rollout enters no statistic and
/// gets advantage 0.
struct verdict {
  double reward = 0;
  bool scored = true;
  friend bool operator==(const verdict&, const verdict&) = default;
};

}  // namespace rlvr
