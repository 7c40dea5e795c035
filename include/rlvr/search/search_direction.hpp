#pragma once
/// From a direction to a step: check it, calibrate it, search along it.

#include <cmath>
#include <optional>

#include <rlvr/core/policy.hpp>
#include <rlvr/search/calibrate.hpp>
#include <rlvr/search/line_search.hpp>

namespace rlvr {

struct direction_search_options {
  double first_kl = 0.003;  ///< predicted KL of the first alpha, nats per sequence; > 0
  calibration_options calibration{};
  line_search_options line{};
};

/// The landscape along a direction, and the prediction that scaled it.
struct [[nodiscard]] direction_search_result {
  line_search_result line;
  std::optional<kl_calibration> calibration;  ///< absent when the direction cannot be used
};

/// geometric_search along a direction (a gradient, a displacement, a user's own), from the alpha whose
/// predicted KL is first_kl.
///
/// `line` is the objective along `direction` from the policy's parameters, for instance a policy_line; `r`
/// are rollouts of the policy as it is, at `temperature` (see calibrate_kl). When the direction's norm is
/// zero or not finite, or it moves no log-probability of r, only the base is evaluated and the status says
/// why. The policy is left at its parameters: the caller applies alpha. Throws what calibrate_kl and
/// geometric_search throw.
template <movable_scorer P, line_objective F, class Progress = ignore_progress>
direction_search_result search_direction(P& policy, const ragged<token>& prompts, const rollouts& r,
                                         double temperature, const parameters_t<P>& direction, F&& line,
                                         const direction_search_options& options = {},
                                         Progress&& progress = {}) {
  require(options.first_kl > 0 && std::isfinite(options.first_kl), "direction_search_options: first_kl is ",
          options.first_kl);
  const auto calibration = calibrate_kl(policy, prompts, r, temperature, direction, options.calibration);
  if (calibration)
    return {geometric_search(line, calibration->alpha_for(options.first_kl), options.line, progress),
            calibration};
  const bool finite = std::isfinite(norm(policy.space(), direction));
  detail::line_walk walk(line, options.line.guards, 1, progress);
  return {walk.finish(finite ? line_status::zero_direction : line_status::nonfinite_direction), std::nullopt};
}

}  // namespace rlvr
