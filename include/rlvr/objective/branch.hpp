#pragma once
/// Which case of its formula an objective took at a token, and how often it took each.

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

namespace rlvr {

/// Where a token's coefficient comes from. Written by objectives on request, so that clip fractions are counted from
/// what happened.
enum class branch : std::uint8_t {
  masked,        ///< outside the mask: coefficient 0
  active,        ///< the plain formula
  clipped_high,  ///< the upper bound holds: no gradient, or for truncated weights a constant weight
  clipped_low,   ///< the lower bound holds, likewise
  dual,          ///< dual clip: advantage < 0 and the ratio above its cap
  saturated,     ///< a log-ratio outside its documented clamp
  rejected,      ///< dropped by importance masking, off-policy masking, covariance or entropy selection
  penalised,     ///< selected for a further term that the other tokens do not have (KL-Cov)
  unpaired,      ///< of a sequence that its loss compares with no other (in no pair, alone in its group): coefficient 0
};

inline constexpr std::size_t branch_count = 9;

/// How many tokens took each branch. Adds up over parts of a batch.
struct branch_counts {
  std::array<std::size_t, branch_count> count{};

  std::size_t operator[](branch b) const { return count[static_cast<std::size_t>(b)]; }

  /// Tokens inside the mask.
  std::size_t unmasked() const {
    std::size_t n = 0;
    for (std::size_t b = 1; b < branch_count; ++b) n += count[b];
    return n;
  }

  /// The share of a branch among the tokens inside the mask; 0 when there are none.
  double share(branch b) const {
    const std::size_t n = unmasked();
    return n == 0 ? 0.0 : static_cast<double>((*this)[b]) / static_cast<double>(n);
  }

  branch_counts& operator+=(const branch_counts& other) {
    for (std::size_t b = 0; b < branch_count; ++b) count[b] += other.count[b];
    return *this;
  }
};

/// O(T).
inline branch_counts count_branches(std::span<const branch> branches) {
  branch_counts out;
  for (branch b : branches) ++out.count[static_cast<std::size_t>(b)];
  return out;
}

}  // namespace rlvr
