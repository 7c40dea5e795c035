#pragma once
/// What a search along a line needs: a function of alpha.

#include <concepts>
#include <type_traits>

namespace rlvr {

/// What is known of one alpha. Only `value` is maximised; the rest is watched, or guarded when the caller
/// says so. An objective that does not know one of the others leaves it as it is.
struct line_point {
  double alpha = 0;  ///< step along the direction; filled in by the search
  double value =
      0;  ///< what is maximised, for instance accuracy; NaN or infinite when alpha cannot be evaluated
  double kl = 0;       ///< KL(pi_alpha || pi_0), nats per sequence
  double entropy = 0;  ///< of the next token, nats, mean over tokens
  double length = 0;   ///< tokens per rollout
  /// Cosine between the step and what the policy's rounding made of it (step_cosine): below 1 where small steps
  /// are swallowed, NaN where the step is not finite.
  double survival = 1;
};

/// A function of alpha >= 0 that returns a line_point, or only its value as a number.
///
///  - `f(0)` is the base that the other alphas are compared with; its value is finite.
///  - The same alpha gives the same value. A noisy objective should use the same random numbers for every
///  alpha, so
///    that the noise of a difference is smaller than that of its terms.
///  - A failure is an exception, which the search lets pass; an alpha that is only too wild has value NaN.
template <class F>
concept line_objective = requires(F& f, double alpha) {
  requires std::same_as<std::remove_cvref_t<decltype(f(alpha))>, line_point> ||
      std::convertible_to<decltype(f(alpha)), double>;
};

/// f at alpha, with alpha filled in.
template <line_objective F>
line_point evaluate_at(F& f, double alpha) {
  line_point point;
  if constexpr (std::same_as<std::remove_cvref_t<decltype(f(alpha))>, line_point>)
    point = f(alpha);
  else
    point.value = static_cast<double>(f(alpha));
  point.alpha = alpha;
  return point;
}

}  // namespace rlvr
