#pragma once
/// Correct against incorrect: a test of the code, not of the direction.

#include <rlvr/core/norm.hpp>
#include <rlvr/core/vector_space.hpp>

namespace rlvr {

/// cos(C, I) of C = the sum of grad log pi over correct rollouts and I = the sum over incorrect ones, both
/// without advantages; NaN when either is zero.
///
/// About -1 on-policy whatever the direction is worth: E[grad log pi] = 0, so that C + I is sampling noise,
/// of length sqrt(N) where C and I grow like N. A value away from -1 for many rollouts means that the
/// rollouts were not drawn from the distribution that is differentiated: another temperature, top-p, a stale
/// policy, a mean over length in place of a sum, a wrong mask. A value at -1 says nothing for the direction.
template <vector_space S>
double part_cosine(const S& space, const vector_t<S>& correct, const vector_t<S>& incorrect) {
  return cosine(space, correct, incorrect);
}

}  // namespace rlvr
