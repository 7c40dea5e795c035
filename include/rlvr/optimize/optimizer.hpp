#pragma once
/// What an optimizer is.

#include <rlvr/core/vector_space.hpp>

namespace rlvr {

/// From gradients to steps, for vectors of the space S.
///
///  - `o.step(space, theta, gradient, factor)`: moves theta uphill, with the learning rate times `factor` (a
///    schedule's value for this step, >= 0). `gradient` is that of the objective to be maximised, and is not
///    changed. Deterministic: theta and the state of o afterwards are functions of both before and the arguments.
///  - `space` is the space that o was made for, or its equal. A zero gradient is a step like any other (momentum
///    and weight decay go on).
///  - o keeps only values of its own: no reference to theta, gradient or space outlives a call.
/// Neither copies nor moves are asked for. Models: sgd over every vector_space, adamw where it is elementwise.
template <class O, class S>
concept optimizer =
    vector_space<S> && requires(O& o, const S& space, vector_t<S>& theta, const vector_t<S>& gradient,
                                double factor) { o.step(space, theta, gradient, factor); };

}  // namespace rlvr
