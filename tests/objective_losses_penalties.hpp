#pragma once
/// Penalties, which add to coefficients.

#include <algorithm>
#include <cmath>
#include <string>
#include <utility>
#include <vector>

#include <rlvr/objective/entropy_bonus.hpp>
#include <rlvr/objective/kl_penalty.hpp>

#include "objective_case.hpp"

namespace rlvr::testing {

/// The value of a KL estimator with its clamps.
inline double kl_estimate(kl_estimator e, double q, double input, double output) {
  const double x = std::clamp(q, -input, input);
  const double v = e == kl_estimator::k1         ? x
                   : e == kl_estimator::absolute ? std::fabs(x)
                   : e == kl_estimator::k2       ? x * x / 2
                                                 : std::exp(-x) - 1 + x;
  return std::clamp(v, -output, output);
}

inline void add_penalties(std::vector<objective_case>& out) {
  for (kl_estimator e : {kl_estimator::k1, kl_estimator::absolute, kl_estimator::k2, kl_estimator::k3})
    for (kl_ratio ratio : {kl_ratio::none, kl_ratio::one, kl_ratio::old, kl_ratio::sampled})
      for (kl_gradient gradient : {kl_gradient::itself, kl_gradient::k2})
        for (const std::pair<double, kl_clamp>& clamps :
             {std::pair{infinity, kl_clamp::estimate}, std::pair{0.7, kl_clamp::estimate},
              std::pair{0.7, kl_clamp::weighted}}) {
          const double input = clamps.first, output = clamps.first / 2;
          const bool outside = clamps.second == kl_clamp::weighted;
          out.push_back(
              {"kl_penalty",
               concat("kl_penalty, estimator ", static_cast<int>(e), ", ratio ", static_cast<int>(ratio), ", gradient ",
                      static_cast<int>(gradient), ", limit ", input, outside ? ", weighted" : ""),
               run_added(kl_penalty{.coefficient = 0.3,
                                    .estimator = e,
                                    .ratio = ratio,
                                    .gradient = gradient,
                                    .input_limit = input,
                                    .output_limit = output,
                                    .clamp = clamps.second}),
               token_loss([=](const world<double>& w, double, std::size_t t, double x, double sg) {
                 const double q = x - w.reference_log_probs[t], q0 = sg - w.reference_log_probs[t];
                 const double within = outside ? infinity : output;
                 double v = kl_estimate(e, q, input, within);
                 if (gradient == kl_gradient::k2) v = (q * q - q0 * q0) / 2 + kl_estimate(e, q0, input, within);
                 const double denominator = ratio == kl_ratio::old       ? w.old_log_probs[t]
                                            : ratio == kl_ratio::sampled ? w.sampled_log_probs[t]
                                                                         : sg;
                 const double rho = ratio == kl_ratio::none ? 1.0 : std::exp(x - denominator);
                 if (outside && std::fabs(q0) > input) return 0.0;  // the ratio is detached too
                 return 0.3 * (outside ? std::clamp(rho * v, -output, output) : rho * v);
               })});
        }
  // The sampled surrogate: the loss whose gradient it is.
  for (entropy_baseline baseline : {entropy_baseline::none, entropy_baseline::entropy}) {
    const bool with_entropy = baseline == entropy_baseline::entropy;
    out.push_back({"entropy_bonus", with_entropy ? "entropy_bonus" : "entropy_bonus, no baseline",
                   run_added(entropy_bonus{.coefficient = 0.4, .baseline = baseline}),
                   token_loss([=](const world<double>& w, double, std::size_t t, double x, double sg) {
                     return 0.4 * (sg + (with_entropy ? w.entropies[t] : 0.0)) * x;
                   })});
  }
}

}  // namespace rlvr::testing
