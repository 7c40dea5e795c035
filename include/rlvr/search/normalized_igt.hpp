#pragma once
/// Normalised policy gradient with implicit gradient transport.

#include <cmath>
#include <cstddef>
#include <utility>

#include <rlvr/core/error.hpp>
#include <rlvr/core/norm.hpp>
#include <rlvr/core/policy.hpp>
#include <rlvr/core/vector_space.hpp>

namespace rlvr {

struct normalized_igt_options {
  double momentum = 0.1;       ///< eta in (0, 1]: the weight of the new gradient; 1 is plain normalised ascent
  double learning_rate = 0.1;  ///< gamma > 0: the length of every step
  double decay = 0;            ///< >= 0: of eta, which is momentum (2 / (t + 2))^decay at step t = 1, 2, ...
};

enum class igt_status {
  moved,
  no_direction  ///< theta stays: the averaged direction is zero, or the gradient is not finite and was not averaged
};

/// Ascent by steps of a fixed length along an average of gradients, each taken at an extrapolated point so that the
/// average is one of gradients at the current parameters (exactly so for a quadratic objective):
///
///     x = theta + ((1 - eta) / eta) (theta - theta_previous),   d <- (1 - eta) d + eta g(x),
///     theta <- theta + gamma d / |d|
///
/// Per step: `point` gives x, the caller samples and differentiates there (coefficients are those of any objective;
/// at_evaluation_point puts a policy there), `step` moves theta. The first step, t = 0, has x = theta and d = g: eta is
/// 1, as in the published schedule, which is {.momentum = 1, .decay = 0.8}. Has the shape of an optimizer and keeps its
/// laws, but a recipe that takes gradients at theta makes plain normalised momentum of it. State: two vectors.
/// Source: N-PG-IGT, Fatkhullin et al. 2023, arXiv 2302.01734; NIGT, Cutkosky and Mehta 2020, arXiv 2002.03305.
template <vector_space S>
class normalized_igt {
 public:
  /// Throws std::invalid_argument when an option is out of its range.
  explicit normalized_igt(const S& space, normalized_igt_options options = {})
      : options_(options), direction_(space.zero()), previous_(space.zero()) {
    require(options.momentum > 0 && options.momentum <= 1, "normalized_igt: momentum is ", options.momentum);
    require(options.learning_rate > 0 && is_finite(options.learning_rate), "normalized_igt: learning_rate is ",
            options.learning_rate);
    require(options.decay >= 0 && is_finite(options.decay), "normalized_igt: decay is ", options.decay);
  }

  /// eta of the next step.
  double eta() const {
    if (steps_ == 0) return 1.0;
    return options_.momentum * std::pow(2 / (static_cast<double>(steps_) + 2), options_.decay);
  }

  /// x <- where the next gradient is to be taken. x and theta are different objects. O(dimension).
  void point(const S& space, const vector_t<S>& theta, vector_t<S>& x) const {
    if (steps_ == 0) return space.assign(x, theta);
    // The difference first: it is small, and exact where theta has moved little.
    space.assign(x, previous_);
    space.scale(-1.0, x);
    space.axpy(1.0, theta, x);
    space.scale((1 - eta()) / eta(), x);
    space.axpy(1.0, theta, x);
  }

  /// One step from theta, with the gradient at point(). `space` is the one given at construction, or its equal.
  /// `factor` scales the step's length, for schedules. Throws std::invalid_argument when it is negative or not finite,
  /// with nothing changed. O(dimension).
  [[nodiscard]] igt_status step(const S& space, vector_t<S>& theta, const vector_t<S>& gradient, double factor = 1.0) {
    require(factor >= 0 && is_finite(factor), "normalized_igt: factor is ", factor);
    if (!is_finite(norm(space, gradient))) return igt_status::no_direction;
    const double e = eta();
    ++steps_;
    space.assign(previous_, theta);
    space.scale(1 - e, direction_);
    space.axpy(e, gradient, direction_);
    const double length = norm(space, direction_);
    if (!(length > 0)) return igt_status::no_direction;
    space.axpy(options_.learning_rate * factor / length, direction_, theta);
    return igt_status::moved;
  }

  /// Gradients averaged.
  std::size_t steps() const { return steps_; }

 private:
  normalized_igt_options options_;
  vector_t<S> direction_, previous_;
  std::size_t steps_ = 0;
};

/// f() with the policy's parameters at o.point(), where it is to sample and differentiate; returns what f returns. The
/// parameters are what they were afterwards, bit for bit, also when f throws. Two vectors more while it runs.
template <parameterised P, class F>
decltype(auto) at_evaluation_point(P& policy, const normalized_igt<space_t<P>>& o, F&& f) {
  scoped_parameters<P> theta(policy);
  auto x = policy.space().zero();
  o.point(policy.space(), theta.origin(), x);
  policy.assign(x);
  return std::forward<F>(f)();
}

}  // namespace rlvr
