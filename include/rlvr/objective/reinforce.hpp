#pragma once
/// The plain policy gradient: every token of a rollout gets the rollout's advantage.

#include <cmath>
#include <cstddef>
#include <span>
#include <vector>

#include <rlvr/core/error.hpp>
#include <rlvr/core/rollouts.hpp>
#include <rlvr/core/validate.hpp>

namespace rlvr {

/// The coefficients c_t = weight * A_i for every token t of rollout i, so that
///
///     sum_t c_t grad log pi(y_t | y_<t) = weight sum_i A_i grad log pi(y_i | x_i).
///
/// kappa, what the objective multiplies grad log pi with, is A_i; `weight` is the aggregation. weight = 1/B
/// is the mean over rollouts of the sum over tokens, the gradient of the expected reward. It does not depend
/// on how the batch is cut, so that parts of a batch add up to the whole. Returns T coefficients for [B]
/// advantages. Throws std::invalid_argument when sizes differ, for r's as validate_offsets does, or the weight, an
/// advantage or their product is not finite. O(T). Source: REINFORCE (Williams 1992).
inline std::vector<double> reinforce_coefficients(const rollouts& r, std::span<const double> advantages,
                                                  double weight) {
  validate_offsets(r);
  require(advantages.size() == r.size(), "reinforce_coefficients: ", advantages.size(), " advantages for ",
          r.size(), " rollouts");
  require(std::isfinite(weight), "reinforce_coefficients: weight is ", weight);
  std::vector<double> coefficients;
  coefficients.reserve(r.tokens.size());
  for (std::size_t i = 0; i < r.size(); ++i) {
    require(std::isfinite(advantages[i]), "reinforce_coefficients: advantage ", i, " is ", advantages[i]);
    const double c = weight * advantages[i];
    require(std::isfinite(c), "reinforce_coefficients: the coefficient of rollout ", i, " is ", c);
    coefficients.insert(coefficients.end(), r.length(i), c);
  }
  return coefficients;
}

}  // namespace rlvr
