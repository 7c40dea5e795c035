#pragma once
/// What an optimizer is.

#include <rlvr/core/vector_space.hpp>

namespace rlvr {

/// From gradients to steps, for vectors of the space S.
///
///  - `o.step(space, theta, gradient, factor)`: moves theta uphill, with the learning rate times `factor` (a
///    schedule's value for this step). `gradient` is that of the objective to be maximised, and is not changed.
///    Deterministic: theta and the state of o afterwards are functions of both before and the arguments.
///  - The first step from theta = 0 is proportional to factor and leads uphill; factor 0 leaves theta as it is, bit for
///    bit, though not the state. A zero gradient is a step like any other (momentum and weight decay go on).
///  - `space` is the space that o was made for, or its equal.
///  - Throws std::invalid_argument when factor is negative or not finite; theta and o are then unchanged. A gradient
///    that is not finite makes theta and o so, and is not looked at: clip_norm says whether it is.
///  - o keeps only values of its own: no reference to theta, gradient or space outlives a call.
/// Neither copies nor moves are asked for. Models: sgd over every vector_space, adamw where it is elementwise.
template <class O, class S>
concept optimizer =
    vector_space<S> && requires(O& o, const S& space, vector_t<S>& theta, const vector_t<S>& gradient,
                                double factor) { o.step(space, theta, gradient, factor); };

}  // namespace rlvr
