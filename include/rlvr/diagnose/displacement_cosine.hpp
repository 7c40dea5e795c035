#pragma once
/// A direction against the way a real run went.

#include <rlvr/core/norm.hpp>
#include <rlvr/core/vector_space.hpp>

namespace rlvr {

/// Where a run began and where it ended, for displacement_cosine.
template <vector_space S>
struct run_ends {
  const vector_t<S>& from;
  const vector_t<S>& to;
};

/// cos(direction, to - from): how a direction agrees with the way of a run, as
/// `displacement_cosine(space, gradient, {.from = base, .to = trained})`; NaN when either is zero. The direction is one
/// at `from`. One vector of memory.
///
/// Necessary, not sufficient: in the prototype a displacement with cosine .97 to the gradient reached .98
/// accuracy where the line along the gradient itself peaked at .77.
template <vector_space S>
double displacement_cosine(const S& space, const vector_t<S>& direction, const run_ends<S>& run) {
  vector_t<S> displacement = space.zero();
  space.assign(displacement, run.to);
  space.axpy(-1.0, run.from, displacement);
  return cosine(space, displacement, direction);
}

}  // namespace rlvr
