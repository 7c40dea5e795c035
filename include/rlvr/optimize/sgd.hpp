#pragma once
/// Gradient ascent with momentum over any vector space.

#include <cmath>
#include <optional>

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

/// Stochastic gradient descent with momentum, for ascent:
///
///   d = g - wd theta,   u <- momentum u + d   (u = 0 at first)
///   heavy_ball: theta <- theta + lr u      nesterov: theta <- theta + lr (d + momentum u)
///
/// State: one vector, and none without momentum. Models optimizer; needs no elementwise operations.
/// Source: torch.optim.SGD (PyTorch 2) with maximize=True and dampening=0: equal up to rounding, as this takes
/// fewer passes: weight decay is folded into the sums.
template <vector_space S>
class sgd {
 public:
  /// Throws std::invalid_argument when an option is out of its range.
  explicit sgd(const S& space, sgd_options options = {}) : options_(options) {
    require(std::isfinite(options.learning_rate) && options.learning_rate >= 0, "sgd: learning_rate ",
            options.learning_rate, " is not a number >= 0");
    require(options.momentum >= 0 && options.momentum < 1, "sgd: momentum ", options.momentum, " is not in [0, 1)");
    require(std::isfinite(options.weight_decay) && options.weight_decay >= 0, "sgd: weight_decay ",
            options.weight_decay, " is not a number >= 0");
    if (options.momentum > 0) velocity_.emplace(space.zero());
  }

  /// One step. `factor` scales the learning rate, for schedules. NaN and infinity in the gradient enter the state:
  /// check norm(space, gradient) first. Throws std::invalid_argument when factor is negative or not finite.
  /// O(dimension).
  void step(const S& space, vector_t<S>& theta, const vector_t<S>& gradient, double factor = 1.0) {
    require(factor >= 0 && is_finite(factor), "sgd: factor is ", factor);
    const double rate = options_.learning_rate * factor, decay = options_.weight_decay;
    if (velocity_) {
      space.scale(options_.momentum, *velocity_);
      space.axpy(1.0, gradient, *velocity_);
      if (decay > 0) space.axpy(-decay, theta, *velocity_);
    }
    const bool direct = !velocity_ || options_.form == momentum_form::nesterov;
    if (direct && decay > 0) space.scale(1 - rate * decay, theta);
    if (direct) space.axpy(rate, gradient, theta);
    if (velocity_) space.axpy(direct ? rate * options_.momentum : rate, *velocity_, theta);
  }

 private:
  sgd_options options_;
  std::optional<vector_t<S>> velocity_;
};

}  // namespace rlvr
