#pragma once
/// Gradient ascent with momentum over any vector space.

#include <cmath>
#include <optional>
#include <utility>

#include <rlvr/core/error.hpp>
#include <rlvr/core/vector_space.hpp>

namespace rlvr {

/// Where the gradient of a step stands: in the velocity only, or once more in front of it.
enum class momentum_form { heavy_ball, nesterov };

struct sgd_options {
  double learning_rate = 1e-2;
  double momentum = 0;  ///< of the velocity; in [0, 1)
  momentum_form form = momentum_form::heavy_ball;
  double weight_decay = 0;  ///< coupled: added to the gradient as -weight_decay * theta
};

/// What an sgd knows besides its options, as adamw_state.
template <vector_space S>
struct sgd_state {
  std::optional<vector_t<S>> velocity;  ///< u; none without momentum
};

/// Stochastic gradient descent with momentum, for ascent:
///
///   d = g - wd theta,   u <- momentum u + d   (u = 0 at first)
///   heavy_ball: theta <- theta + lr u      nesterov: theta <- theta + lr (d + momentum u)
///
/// State: one vector and none without momentum, an sgd_state. Models optimizer; needs no elementwise operations.
/// Source: torch.optim.SGD (PyTorch 2) with maximize=True and dampening=0: equal up to rounding, as this takes
/// fewer passes: weight decay is folded into the sums.
template <vector_space S>
class sgd {
 public:
  /// Throws std::invalid_argument when an option is out of its range.
  explicit sgd(const S& space, sgd_options options = {}) : sgd(space, options, fresh(space, options)) {}

  /// Goes on where another one with these options stood; the velocity is of this space. Throws std::invalid_argument
  /// also when there is one without momentum, or momentum without one.
  sgd(const S&, sgd_options options, sgd_state<S> state) : options_(options), state_(std::move(state)) {
    require(std::isfinite(options.learning_rate) && options.learning_rate >= 0, "sgd: learning_rate ",
            options.learning_rate, " is not a number >= 0");
    require(options.momentum >= 0 && options.momentum < 1, "sgd: momentum ", options.momentum, " is not in [0, 1)");
    require(std::isfinite(options.weight_decay) && options.weight_decay >= 0, "sgd: weight_decay ",
            options.weight_decay, " is not a number >= 0");
    require(state_.velocity.has_value() == (options.momentum > 0), "sgd: a state with", state_.velocity ? "" : "out",
            " velocity for momentum ", options.momentum);
  }

  /// One step. `factor` scales the learning rate, for schedules. NaN and infinity in the gradient enter the state:
  /// check norm(space, gradient) first. Throws std::invalid_argument when factor is negative or not finite.
  /// O(dimension).
  void step(const S& space, vector_t<S>& theta, const vector_t<S>& gradient, double factor = 1.0) {
    require(factor >= 0 && is_finite(factor), "sgd: factor is ", factor);
    const double rate = options_.learning_rate * factor, decay = options_.weight_decay;
    std::optional<vector_t<S>>& velocity = state_.velocity;
    if (velocity) {
      space.scale(options_.momentum, *velocity);
      space.axpy(1.0, gradient, *velocity);
      if (decay > 0) space.axpy(-decay, theta, *velocity);
    }
    const bool direct = !velocity || options_.form == momentum_form::nesterov;
    if (direct && decay > 0) space.scale(1 - rate * decay, theta);
    if (direct) space.axpy(rate, gradient, theta);
    if (velocity) space.axpy(direct ? rate * options_.momentum : rate, *velocity, theta);
  }

  const sgd_state<S>& state() const& { return state_; }
  sgd_state<S> state() && { return std::move(state_); }

 private:
  static sgd_state<S> fresh(const S& space, const sgd_options& options) {
    sgd_state<S> out;
    if (options.momentum > 0) out.velocity.emplace(space.zero());
    return out;
  }

  sgd_options options_;
  sgd_state<S> state_;
};

}  // namespace rlvr
