#pragma once
/// How many steps and rollouts take the objective from one gap to a smaller one, when the gradient is large enough.

#include <cmath>
#include <cstddef>
#include <limits>
#include <span>

#include <rlvr/core/error.hpp>

namespace rlvr {

/// What the bound is made of. J is the expected reward, J* its supremum where the run is, Delta = J* - J the gap.
struct local_ascent {
  double gradient_domination = 0;  ///< c > 0 of the local Polyak-Lojasiewicz condition |grad J|^2 >= c Delta. Where it
                                   ///< is written |grad J|^2 >= 2 mu Delta, c = 2 mu
  double smoothness = 0;           ///< L: grad J is L-Lipschitz along the run; c <= 2 L necessarily
  double step = 0;                 ///< eta of theta + eta g, in (0, 2 / L)
  double gradient_noise = 0;       ///< E |g - grad J|^2 of one step's unbiased estimate g, e.g. noise_trace / rollouts
};

/// Steps and rollouts that suffice.
struct [[nodiscard]] sample_bound {
  double rate = 0;         ///< x = c eta (1 - eta L / 2) in (0, 1]: a step takes E Delta to 1 - x of it, plus noise
  double noise_floor = 0;  ///< L eta^2 noise / (2 x): where E Delta stops falling
  double steps = 0;        ///< whole; infinite when the target is not above the noise floor
  double log_bound = 0;    ///< ln((gap - floor) / (target - floor)) / x >= steps - 1, the form of the theorem
  double rollouts = 0;     ///< steps times rollouts per step
};

/// From a gap to `target`, in expectation. Ascent with an L-smooth J gives
///
///     E Delta_{t+1} <= Delta_t - eta (1 - eta L / 2) |grad J|^2 + L eta^2 noise / 2
///                   <= (1 - x) Delta_t + L eta^2 noise / 2,
///
/// so steps = ceil( ln((gap - floor) / (target - floor)) / -ln(1 - x) ) suffice. 0 when gap <= target. Without noise
/// eta = 1 / L is best: x = c / (2 L).
///
/// What it does not say. Which prompt to take: the right side knows prompts only through the noise and L. That so many
/// are needed: it is an upper bound, and the "N >= O(ln(eps / eps'))" of the source is to be read that way. Anything
/// outside the region where c and L hold: a policy gradient's c falls with the probability of the best completion, so a
/// c taken late in a run promises too much for its start, and the best reachable J* may be below 1. With noise the
/// logarithm holds only above the floor; below it eta has to fall, and steps grow like 1 / target.
///
/// Throws std::invalid_argument for numbers out of range, naming them. O(1).
/// Source: DoPR (arXiv 2602.00815, theorem 3.1); the argument is Polyak 1963, and Karimi, Nutini, Schmidt 2016 (arXiv
/// 1608.04636, theorems 1 and 4).
inline sample_bound samples_to_gap(const local_ascent& a, double gap, double target, std::size_t rollouts_per_step) {
  require(a.smoothness > 0 && is_finite(a.smoothness), "samples_to_gap: smoothness is ", a.smoothness);
  require(a.gradient_domination > 0 && a.gradient_domination <= 2 * a.smoothness,
          "samples_to_gap: gradient_domination is ", a.gradient_domination,
          ", outside (0, 2 smoothness = ", 2 * a.smoothness, "]");
  require(a.step > 0 && a.step * a.smoothness < 2, "samples_to_gap: step is ", a.step,
          ", outside (0, 2 / smoothness = ", 2 / a.smoothness, ")");
  require(a.gradient_noise >= 0 && is_finite(a.gradient_noise), "samples_to_gap: gradient_noise is ", a.gradient_noise);
  require(gap >= 0 && is_finite(gap), "samples_to_gap: gap is ", gap);
  require(target > 0 && is_finite(target), "samples_to_gap: target is ", target);
  require(rollouts_per_step > 0, "samples_to_gap: rollouts_per_step is 0");
  sample_bound out;
  out.rate = std::fmin(a.gradient_domination * a.step * (1 - a.step * a.smoothness / 2), 1.0);
  out.noise_floor = a.smoothness * a.step * a.step * a.gradient_noise / (2 * out.rate);
  if (gap <= target) return out;
  if (target <= out.noise_floor) {
    out.steps = out.log_bound = out.rollouts = std::numeric_limits<double>::infinity();
    return out;
  }
  const double distance = std::log((gap - out.noise_floor) / (target - out.noise_floor));
  out.log_bound = distance / out.rate;
  out.steps = out.rate < 1 ? std::ceil(distance / -std::log1p(-out.rate)) : 1;
  out.rollouts = out.steps * static_cast<double>(rollouts_per_step);
  return out;
}

/// One point of a run: its gap, the squared norm of the gradient estimate, and what the estimate's noise adds to it.
struct gap_and_gradient {
  double gap = 0;           ///< J* - J > 0
  double squared_norm = 0;  ///< |g|^2, or an estimate of |grad J|^2
  double noise = 0;         ///< E |g - grad J|^2; 0 when squared_norm is already unbiased, as subset_agreement's is
};

/// c as a run shows it.
struct [[nodiscard]] domination_estimate {
  double mean = 0;      ///< sum (|g|^2 - noise) / sum gap: unbiased for the gap-weighted mean of |grad J|^2 / gap
  double smallest = 0;  ///< the smallest (|g|^2 - noise) / gap: what the condition asks for, too low by the noise
};

/// Estimates c of |grad J|^2 >= c Delta from points of a run.
///
/// As E |g|^2 = |grad J|^2 + E |g - grad J|^2, noise left in makes c too large, and a bound built on it too small.
/// `smallest` holds for the whole run when gradients are exact; with noisy ones it is the minimum of noisy numbers, and
/// means over neighbouring points should be handed in. Neither is positive when noise is all there is: nothing can then
/// be said. A wrong J* biases both. Throws std::invalid_argument for no points, a gap that is not positive and finite,
/// a squared norm that is not finite, or a noise that is negative or not finite. O(n).
inline domination_estimate estimate_domination(std::span<const gap_and_gradient> run) {
  require(!run.empty(), "estimate_domination: the run is empty");
  double squares = 0, gaps = 0;
  domination_estimate out{.mean = 0, .smallest = std::numeric_limits<double>::infinity()};
  for (std::size_t i = 0; i < run.size(); ++i) {
    const gap_and_gradient& point = run[i];
    require(point.gap > 0 && is_finite(point.gap), "estimate_domination: gap ", i, " is ", point.gap);
    require(is_finite(point.squared_norm), "estimate_domination: squared_norm ", i, " is ", point.squared_norm);
    require(point.noise >= 0 && is_finite(point.noise), "estimate_domination: noise ", i, " is ", point.noise);
    const double squared = point.squared_norm - point.noise;
    squares += squared;
    gaps += point.gap;
    out.smallest = std::fmin(out.smallest, squared / point.gap);
  }
  out.mean = squares / gaps;
  return out;
}

}  // namespace rlvr
