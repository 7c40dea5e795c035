#pragma once
/// How long a step is, before it is taken: KL as a quadratic in alpha, or the relative displacement of the
/// parameters. The best step differs by orders of magnitude between models, so alpha is measured, never
/// guessed.

#include <cmath>
#include <cstddef>
#include <limits>
#include <optional>
#include <vector>

#include <rlvr/core/error.hpp>
#include <rlvr/core/mixed_precision.hpp>
#include <rlvr/core/norm.hpp>
#include <rlvr/core/policy.hpp>
#include <rlvr/core/rollouts.hpp>

namespace rlvr {

/// Predicts KL(pi_alpha || pi_0) = curvature alpha^2, nats per sequence.
struct kl_calibration {
  double curvature = 0;  ///< half of d' F d, F the Fisher information of a sequence; > 0
  double epsilon = 0;    ///< the alpha of the central difference it was measured with

  double predicted_kl(double alpha) const { return curvature * alpha * alpha; }
  double alpha_for(double kl) const { return std::sqrt(kl / curvature); }
};

struct calibration_options {
  double displacement = 1e-3;  ///< first |epsilon d| / |theta| (|epsilon d| when theta is 0); > 0
  /// Predicted KL at epsilon, nats per sequence. At the lower end the log-probabilities move by about 1e-3,
  /// far above float32 rounding; at the upper end by about 0.1, where they are still nearly linear in alpha.
  double min_kl = 1e-6;
  double max_kl = 1e-2;
  std::size_t max_rounds = 8;  ///< values of epsilon tried, two scoring passes each; >= 1
};

/// Throws std::invalid_argument, naming the option, when one is out of its range.
inline void validate(const calibration_options& options) {
  require(options.displacement > 0 && std::isfinite(options.displacement), "calibration_options: displacement is ",
          options.displacement);
  require(options.min_kl > 0 && options.max_kl > options.min_kl, "calibration_options: min_kl is ", options.min_kl,
          " and max_kl is ", options.max_kl);
  require(options.max_rounds > 0, "calibration_options: max_rounds is 0");
}

/// A policy whose log-probabilities can be differentiated along a direction, by moving it and scoring.
template <class P>
concept parameterised_scorer = parameterised<P> && scorer<P>;

/// Measures the curvature of KL along a direction from rollouts of the policy as it is.
///
///   curvature = 1/2 mean_i sum_t (d log pi(y_t | y_<t) / d alpha)^2 at alpha = 0,
///
/// the derivative by a central difference: two scoring passes at theta -+ epsilon d (score_precisely). To second
/// order KL is half the expected square of the whole sequence's derivative; the cross terms of the tokens are left
/// out because they vanish: for s < t the expectation of the derivative at t, given y_<t, is 0 under pi. So the
/// rollouts must be on-policy, and `temperature` the one they were sampled at. epsilon is adapted until the
/// predicted KL at epsilon lies in [min_kl, max_kl]. A few hundred rollouts suffice.
///
/// Returns nothing when the direction is zero or not finite, or when no epsilon was found: the direction does not move
/// these log-probabilities, or the policy is not finite. Of a policy that keeps only the most likely tokens, those of
/// the rollouts that are not among them at just one end, or as it is scored now, count nothing. The parameters are
/// restored bit for bit, also when the scorer throws. Throws std::invalid_argument when there are no rollouts or an
/// option is out of its range.
template <parameterised_scorer P>
std::optional<kl_calibration> calibrate_kl(P& policy, const ragged<token>& prompts, const rollouts& r,
                                           double temperature, const parameters_t<P>& direction,
                                           const calibration_options& options = {}) {
  require(!r.empty(), "calibrate_kl: no rollouts");
  validate(options);
  const double length = norm(policy.space(), direction);
  if (!(length > 0) || !std::isfinite(length)) return std::nullopt;

  const double size = norm(policy.space(), policy.parameters());
  double epsilon = options.displacement * (size > 0 ? size : 1.0) / length;
  const double target = std::sqrt(options.min_kl) * std::sqrt(options.max_kl);
  constexpr double never = -std::numeric_limits<double>::infinity();
  const std::vector<double> old = sampled_log_probs(policy, prompts, r, temperature);
  scoped_parameters moved(policy);
  for (std::size_t round = 0; round < options.max_rounds && epsilon > 0 && std::isfinite(epsilon); ++round) {
    moved.move_along(epsilon, direction);
    const std::vector<double> ahead = score_precisely(policy, prompts, r, temperature).log_probs;
    moved.move_along(-epsilon, direction);
    const std::vector<double> behind = score_precisely(policy, prompts, r, temperature).log_probs;
    require(ahead.size() == r.tokens.size() && behind.size() == r.tokens.size(),
            "calibrate_kl: the scorer returned ", ahead.size(), " and ", behind.size(), " log_probs for ",
            r.tokens.size(), " tokens");
    double squares = 0;
    for (std::size_t t = 0; t < ahead.size(); ++t) {
      if ((ahead[t] == never) != (behind[t] == never) || (t < old.size() && old[t] == never)) continue;
      const double change = (ahead[t] - behind[t]) / 2;
      squares += change * change;
    }
    const double kl = squares / (2 * static_cast<double>(r.size()));
    if (kl >= options.min_kl && kl <= options.max_kl)
      return kl_calibration{kl / (epsilon * epsilon), epsilon};
    const double ratio = std::isfinite(kl) ? std::sqrt(target / kl) : 0.0;
    epsilon *= ratio < 1e-3 ? 1e-3 : ratio > 1e3 ? 1e3 : ratio;
  }
  return std::nullopt;
}

/// The alpha with |alpha d| / |theta| = ratio; nothing when theta or d is zero or not finite.
/// Throws std::invalid_argument when ratio is not positive and finite.
template <vector_space S>
std::optional<double> alpha_for_displacement(const S& space, const vector_t<S>& theta,
                                             const vector_t<S>& direction, double ratio) {
  require(ratio > 0 && std::isfinite(ratio), "alpha_for_displacement: ratio is ", ratio);
  const double alpha = ratio * norm(space, theta) / norm(space, direction);
  if (!(alpha > 0) || !std::isfinite(alpha)) return std::nullopt;
  return alpha;
}

}  // namespace rlvr
