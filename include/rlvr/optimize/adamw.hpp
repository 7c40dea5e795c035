#pragma once
/// AdamW over any elementwise space.

#include <cmath>
#include <cstddef>
#include <utility>

#include <rlvr/core/error.hpp>
#include <rlvr/core/vector_space.hpp>

namespace rlvr {

struct adamw_options {
  double learning_rate = 1e-3;
  double beta1 = 0.9;           ///< decay of the mean of gradients; in [0, 1)
  double beta2 = 0.999;         ///< decay of the mean of squared gradients; in [0, 1)
  double epsilon = 1e-8;        ///< added to the root; > 0
  double weight_decay = 0.01;   ///< decoupled: theta shrinks by learning_rate * weight_decay per step
};

/// What an adamw knows besides its options: a run that goes on needs it. The vectors are saved and read as parameters
/// are, by the means of their space.
template <vector_space S>
struct adamw_state {
  vector_t<S> mean;       ///< m
  vector_t<S> square;     ///< v
  std::size_t steps = 0;  ///< t, steps taken
};

namespace detail {

/// y <- beta y + (1 - beta) x
struct decay_towards {
  double beta;
  template <class T>
  T operator()(T y, T x) const {
    return static_cast<T>(beta) * y + static_cast<T>(1 - beta) * x;
  }
};

/// y <- beta y + (1 - beta) x^2
struct decay_towards_square {
  double beta;
  template <class T>
  T operator()(T y, T x) const {
    return static_cast<T>(beta) * y + static_cast<T>(1 - beta) * x * x;
  }
};

/// y <- keep y + rate m / (sqrt(v) / root_correction + epsilon)
struct adamw_update {
  double keep, rate, root_correction, epsilon;
  template <class T>
  T operator()(T y, T m, T v) const {
    using std::sqrt;
    return static_cast<T>(keep) * y +
           static_cast<T>(rate) * m / (sqrt(v) / static_cast<T>(root_correction) + static_cast<T>(epsilon));
  }
};

}  // namespace detail

/// Adam with decoupled weight decay, for ascent: the gradient points to where the objective grows.
///
///   m <- beta1 m + (1 - beta1) g,   v <- beta2 v + (1 - beta2) g^2
///   theta <- (1 - lr wd) theta + lr (m / (1 - beta1^t)) / (sqrt(v / (1 - beta2^t)) + epsilon)
///
/// State: two vectors and t, an adamw_state. Models optimizer. The first step is lr sign(g) wherever |g| is far above
/// epsilon.
/// Source: Loshchilov and Hutter, "Decoupled Weight Decay Regularization" (ICLR 2019), algorithm 2; order of
/// operations as torch.optim.AdamW (PyTorch 2) with maximize=True.
template <elementwise S>
class adamw {
 public:
  /// Throws std::invalid_argument when an option is out of its range.
  explicit adamw(const S& space, adamw_options options = {})
      : adamw(space, options, {space.zero(), space.zero(), 0}) {}

  /// Goes on where another one with these options stood; the vectors of its state are of this space. Throws as the
  /// other constructor.
  adamw(const S&, adamw_options options, adamw_state<S> state) : options_(options), state_(std::move(state)) {
    require(std::isfinite(options.learning_rate) && options.learning_rate >= 0, "adamw: learning_rate ",
            options.learning_rate, " is not a number >= 0");
    require(options.beta1 >= 0 && options.beta1 < 1, "adamw: beta1 ", options.beta1, " is not in [0, 1)");
    require(options.beta2 >= 0 && options.beta2 < 1, "adamw: beta2 ", options.beta2, " is not in [0, 1)");
    require(options.epsilon > 0 && std::isfinite(options.epsilon), "adamw: epsilon ", options.epsilon,
            " is not positive");
    require(std::isfinite(options.weight_decay) && options.weight_decay >= 0, "adamw: weight_decay ",
            options.weight_decay, " is not a number >= 0");
  }

  /// One step. `space` is the one given at construction, or its equal. `factor` scales the learning rate, for
  /// schedules. NaN and infinity in the gradient enter the state: check norm(space, gradient) first. Throws
  /// std::invalid_argument when factor is negative or not finite. O(dimension).
  void step(const S& space, vector_t<S>& theta, const vector_t<S>& gradient, double factor = 1.0) {
    require(factor >= 0 && is_finite(factor), "adamw: factor is ", factor);
    auto& [mean, square, steps] = state_;
    const double t = static_cast<double>(++steps), rate = options_.learning_rate * factor;
    space.map(detail::decay_towards{options_.beta1}, mean, gradient);
    space.map(detail::decay_towards_square{options_.beta2}, square, gradient);
    space.map(detail::adamw_update{1 - rate * options_.weight_decay, rate / (1 - std::pow(options_.beta1, t)),
                                   std::sqrt(1 - std::pow(options_.beta2, t)), options_.epsilon},
              theta, mean, square);
  }

  const adamw_state<S>& state() const& { return state_; }
  adamw_state<S> state() && { return std::move(state_); }

 private:
  adamw_options options_;
  adamw_state<S> state_;
};

}  // namespace rlvr
