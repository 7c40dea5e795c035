#pragma once
/// The errors of two gradient estimators, from their subset gradients: what mixing_weight needs.

#include <cmath>
#include <concepts>
#include <cstddef>
#include <span>
#include <vector>

#include <rlvr/core/error.hpp>
#include <rlvr/core/vector_space.hpp>
#include <rlvr/gradient/mixing.hpp>

namespace rlvr {

/// Which estimator has the true gradient as its expectation. The other's bias can then be estimated.
enum class unbiased_estimator { both, first, second };

/// Second moments of the errors of two full gradients X = sum_m x_m and Y = sum_m y_m, from the inner products of the
/// subset gradients alone: x_m is what the first and y_m what the second estimator says of subset m.
///
/// gram: [2M, 2M] row-major, of x_1 ... x_M, y_1 ... y_M. counts: [M] how many independent units (prompts) subset m
/// has, the same for both estimators; N their sum. Subsets are independent of each other and expectations are
/// proportional to n_m; x_m may depend on y_m. Then
///
///     V_xy = N / (M - 1) (sum_m <x_m, y_m> / n_m - <X, Y> / N)
///
/// is an unbiased estimate of tr Cov(X, Y) for any n_m, and with V_xx and V_yy that of a covariance matrix (no
/// variance is negative, no correlation above 1). |X - Y|^2 - (V_xx + V_yy - 2 V_xy) is one of |E X - E Y|^2, the
/// squared bias of the estimator that is not unbiased; it is taken as 0 when it comes out negative. With both
/// unbiased, the weight is that of least variance. Subsets of no units are left out.
///
/// A weight from the gradients that it then mixes depends on them: a X + (1 - a) Y of two unbiased estimators stays
/// unbiased only when a comes from other data, such as the step before.
/// Throws std::invalid_argument when gram is not [2M, 2M] or not finite, and when fewer than two subsets have units.
/// O(M^2).
inline estimator_errors estimator_errors_of(std::span<const double> gram, std::span<const std::size_t> counts,
                                            unbiased_estimator truth) {
  const std::size_t M = counts.size();
  require(gram.size() == 4 * M * M, "estimator_errors_of: a Gram matrix of ", gram.size(), " entries for ", M,
          " counts, expected ", 4 * M * M);
  for (std::size_t i = 0; i < gram.size(); ++i)
    require(is_finite(gram[i]), "estimator_errors_of: entry ", i, " of the Gram matrix is ", gram[i]);
  double units = 0, present = 0;
  for (const std::size_t n : counts) {
    units += static_cast<double>(n);
    present += n > 0;
  }
  require(present > 1, "estimator_errors_of: ", present, " subsets with units, expected two or more");

  struct estimate {
    double dot, covariance;
  };
  // Of the estimators x and y, 0 the first and 1 the second.
  const auto of = [&](std::size_t x, std::size_t y) {
    double all = 0, within = 0;
    for (std::size_t i = 0; i < M; ++i)
      for (std::size_t j = 0; j < M; ++j) {
        if (counts[i] == 0 || counts[j] == 0) continue;
        const double product = gram[(x * M + i) * 2 * M + y * M + j];
        all += product;
        if (i == j) within += product / static_cast<double>(counts[i]);
      }
    return estimate{all, (units * within - all) / (present - 1)};
  };
  const estimate first = of(0, 0), second = of(1, 1), both = of(0, 1);
  // Rounding may take a variance below 0 and a correlation above 1.
  const double first_variance = first.covariance > 0 ? first.covariance : 0.0;
  const double second_variance = second.covariance > 0 ? second.covariance : 0.0;
  const double most = std::sqrt(first_variance) * std::sqrt(second_variance);
  const double cross = both.covariance > most ? most : both.covariance < -most ? -most : both.covariance;
  const double apart = (first.dot - first_variance) + (second.dot - second_variance) - 2 * (both.dot - cross);
  const double bias = apart > 0 ? apart : 0.0;
  return {.first = second_moment(first_variance, truth == unbiased_estimator::second ? bias : 0.0),
          .second = second_moment(second_variance, truth == unbiased_estimator::first ? bias : 0.0),
          .cross = cross};
}

/// A function of m < M that gives the m-th subset gradient.
template <class F, class S>
concept subset_gradient_at = requires(const F& at, std::size_t m) {
  { at(m) } -> std::convertible_to<const vector_t<S>&>;
};

/// The same from the gradients themselves: first_at(m) and second_at(m) of subset m < M. M (2M + 1) dots and no new
/// vector.
template <vector_space S, subset_gradient_at<S> First, subset_gradient_at<S> Second>
estimator_errors estimator_errors_of(const S& space, const First& first_at, const Second& second_at,
                                     std::span<const std::size_t> counts, unbiased_estimator truth) {
  const std::size_t M = counts.size();
  const auto at = [&](std::size_t i) -> const vector_t<S>& { return i < M ? first_at(i) : second_at(i - M); };
  std::vector<double> gram(4 * M * M);
  for (std::size_t i = 0; i < 2 * M; ++i)
    for (std::size_t j = i; j < 2 * M; ++j) gram[i * 2 * M + j] = gram[j * 2 * M + i] = space.dot(at(i), at(j));
  return estimator_errors_of(gram, counts, truth);
}

}  // namespace rlvr
