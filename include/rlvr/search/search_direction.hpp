#pragma once
/// From a direction to a step: check it, calibrate it, search along it.

#include <cmath>
#include <optional>

#include <rlvr/core/norm.hpp>
#include <rlvr/core/policy.hpp>
#include <rlvr/search/calibrate.hpp>
#include <rlvr/search/line_search.hpp>

namespace rlvr {

/// What the first alpha is measured by.
enum class step_scale {
  predicted_kl,  ///< predicted KL(pi_alpha || pi_0) = direction_search_options::kl; two scoring passes or a few more
  displacement,  ///< |alpha d| / |theta| = direction_search_options::displacement
  given          ///< direction_search_options::alpha_base
};

/// Which alphas are tried.
enum class step_grid {
  geometric,  ///< geometric_search from the first alpha: finds its own ends, then refines
  classical   ///< {0.5, 1, 2, 5, 10} times the first alpha
};

struct direction_search_options {
  step_scale scale = step_scale::predicted_kl;
  step_grid grid = step_grid::geometric;
  double kl = 0.003;            ///< nats per sequence; > 0. For the classical grid take about 0.1
  double displacement = 1e-4;   ///< > 0
  double alpha_base = 1;        ///< > 0
  calibration_options calibration{};
  line_search_options line{};   ///< the classical grid uses its guards only
};

/// Throws std::invalid_argument, naming the option, when one is out of its range.
inline void validate(const direction_search_options& options) {
  detail::require_step(options.kl, "direction_search_options: kl");
  detail::require_step(options.displacement, "direction_search_options: displacement");
  detail::require_step(options.alpha_base, "direction_search_options: alpha_base");
  validate(options.calibration);
  validate(options.line);
}

/// The landscape along a direction, and what scaled it.
struct [[nodiscard]] direction_search_result {
  line_search_result line;
  std::optional<kl_calibration> calibration;  ///< when predicted KL was asked for and the direction can be used
};

/// Searches along a direction: a gradient, a displacement theta_k - theta_0, a user's own.
///
/// `line` is the objective along `direction` from the policy's parameters, for instance a policy_line; `r` are rollouts
/// of the policy as it is, at `temperature` (see calibrate_kl; read only for step_scale::predicted_kl). When the
/// direction's norm is zero or not finite, or it moves no log-probability of r, only the base is evaluated and the
/// status says why.
/// The policy is left at its parameters: the caller applies alpha.
/// Throws std::invalid_argument for an option out of its range, and what calibrate_kl and the searches throw.
template <parameterised_scorer P, class F, class Progress = ignore_progress>
  requires line_objective<std::remove_reference_t<F>>
direction_search_result search_direction(P& policy, const ragged<token>& prompts, const rollouts& r,
                                         double temperature, const parameters_t<P>& direction, F&& line,
                                         const direction_search_options& options = {}, Progress&& progress = {}) {
  validate(options);
  const double length = norm(policy.space(), direction);
  std::optional<kl_calibration> calibration;
  std::optional<double> alpha;
  if (length > 0 && std::isfinite(length)) switch (options.scale) {
      case step_scale::predicted_kl:
        calibration = calibrate_kl(policy, prompts, r, temperature, direction, options.calibration);
        if (calibration) alpha = calibration->alpha_for(options.kl);
        break;
      case step_scale::displacement:
        alpha = alpha_for_displacement(policy.space(), policy.parameters(), direction, options.displacement);
        break;
      case step_scale::given: alpha = options.alpha_base; break;
    }
  if (!alpha) {
    detail::line_walk walk(line, options.line.guards, 1, progress);
    return {walk.finish(std::isfinite(length) ? line_status::zero_direction : line_status::nonfinite_direction),
            std::nullopt};
  }
  if (options.grid == step_grid::classical)
    return {grid_search(line, classical_grid(*alpha), options.line.guards, progress), calibration};
  return {geometric_search(line, *alpha, options.line, progress), calibration};
}

}  // namespace rlvr
