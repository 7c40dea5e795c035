#pragma once
/// How far gradients of disjoint prompt subsets agree, and what that says of the full gradient.

#include <cmath>
#include <concepts>
#include <cstddef>
#include <limits>
#include <span>
#include <type_traits>
#include <vector>

#include <rlvr/core/error.hpp>
#include <rlvr/core/vector_space.hpp>

namespace rlvr {

/// A space with `gram`, all inner products of several vectors in one pass over each, [M, M] row-major.
template <class S>
concept gram_space = vector_space<S> && requires(const S& space, std::span<const vector_t<S>* const> x) {
  { space.gram(x) } -> std::same_as<std::vector<double>>;
};

/// m -> the m-th vector, by reference.
template <class F, class S>
concept vectors_of =
    vector_space<S> && std::same_as<std::invoke_result_t<const F&, std::size_t>, const vector_t<S>&>;

/// All inner products of M vectors, vector_at(m) being the m-th: [M, M] row-major, symmetric. M (M + 1) / 2
/// dots, or the space's own `gram`.
template <vector_space S, vectors_of<S> VectorAt>
std::vector<double> gram_matrix(const S& space, std::size_t M, const VectorAt& vector_at) {
  if constexpr (gram_space<S>) {
    std::vector<const vector_t<S>*> all;
    for (std::size_t m = 0; m < M; ++m) all.push_back(&vector_at(m));
    return space.gram(all);
  } else {
    std::vector<double> gram(M * M);
    for (std::size_t i = 0; i < M; ++i)
      for (std::size_t j = i; j < M; ++j)
        gram[i * M + j] = gram[j * M + i] = space.dot(vector_at(i), vector_at(j));
    return gram;
  }
}

/// What M subset gradients say of each other and of their sum.
struct subset_agreement {
  std::size_t subsets = 0;      ///< M
  std::size_t rollouts = 0;     ///< N, in all subsets
  std::vector<double> cosines;  ///< [M, M] row-major; NaN beside a subset whose gradient is zero
  double mean_cosine = 0;       ///< mean of the cosines off the diagonal that are not NaN; NaN without any
  double squared_norm = 0;  ///< unbiased estimate of |G|^2, G the true gradient per rollout; may be negative
  double noise_trace = 0;   ///< unbiased estimate of V = tr(Sigma), the gradient's variance per rollout
  double noise_scale = 0;   ///< V / |G|^2 in rollouts; infinite when the |G|^2 estimate is not positive
  double implied_cosine = 0;  ///< 1 / sqrt(1 + noise_scale / N): of the full gradient with G
};

/// From the Gram matrix of the sums s_m of subset m and the number of rollouts n_m in each.
///
/// With x_m = s_m / n_m, E<x_i, x_j> = |G|^2 for i != j (disjoint prompts are independent) and
/// E<x_m, x_m> = |G|^2 + V / n_m, hence the unbiased estimates
///
///     |G|^2 = sum_{i != j} <s_i, s_j> / sum_{i != j} n_i n_j
///     V     = mean_m (|s_m|^2 / n_m - n_m |G|^2)
///
/// for any sizes n_m. A common factor in all coefficients changes |G|^2 and V but not the noise scale. V
/// counts the rollouts as they were drawn: with groups of G rollouts a prompt it includes what prompts add.
/// Subsets without rollouts are left out; with fewer than two others nothing can be said, and all estimates
/// are NaN, as they are when the Gram matrix is not finite. Throws std::invalid_argument when gram is not [M,
/// M] for the M counts. O(M^2). Source: McCandlish et al. 2018 (arXiv 1812.06162), appendix A.1, for M
/// batches of any sizes.
inline subset_agreement agreement_of(std::span<const double> gram, std::span<const std::size_t> counts) {
  const std::size_t M = counts.size();
  require(gram.size() == M * M, "agreement_of: a Gram matrix of ", gram.size(), " entries for ", M,
          " counts");
  constexpr double nan = std::numeric_limits<double>::quiet_NaN();
  constexpr double infinity = std::numeric_limits<double>::infinity();
  subset_agreement out;
  out.subsets = M;
  out.cosines.assign(M * M, nan);

  double cosine_sum = 0, dots = 0, weights = 0;
  std::size_t cosine_count = 0, present = 0;
  for (std::size_t i = 0; i < M; ++i) {
    out.rollouts += counts[i];
    present += counts[i] > 0;
    for (std::size_t j = 0; j < M; ++j) {
      const double scale = std::sqrt(gram[i * M + i]) * std::sqrt(gram[j * M + j]);
      if (scale > 0 && std::isfinite(scale)) {
        const double c = gram[i * M + j] / scale;
        out.cosines[i * M + j] = i == j || c > 1 ? 1.0 : c < -1 ? -1.0 : c;
      }
      if (i == j || counts[i] == 0 || counts[j] == 0) continue;
      dots += gram[i * M + j];
      weights += static_cast<double>(counts[i]) * static_cast<double>(counts[j]);
      if (std::isnan(out.cosines[i * M + j])) continue;
      cosine_sum += out.cosines[i * M + j];
      ++cosine_count;
    }
  }
  out.mean_cosine = cosine_count > 0 ? cosine_sum / static_cast<double>(cosine_count) : nan;

  out.squared_norm = present > 1 ? dots / weights : nan;
  double trace = 0;
  for (std::size_t m = 0; m < M; ++m) {
    const double n = static_cast<double>(counts[m]);
    if (n > 0) trace += gram[m * M + m] / n - n * out.squared_norm;
  }
  out.noise_trace = present > 1 ? trace / static_cast<double>(present) : nan;
  if (!std::isfinite(out.squared_norm) || !std::isfinite(out.noise_trace)) {
    out.squared_norm = out.noise_trace = out.noise_scale = out.implied_cosine = nan;
  } else if (!(out.squared_norm > 0)) {
    out.noise_scale = infinity;
    out.implied_cosine = 0;
  } else {
    out.noise_scale = out.noise_trace > 0 ? out.noise_trace / out.squared_norm : 0.0;
    out.implied_cosine = 1 / std::sqrt(1 + out.noise_scale / static_cast<double>(out.rollouts));
  }
  return out;
}

/// The same for anything that keeps subset sums as subset_gradients does: `sums.subsets()`, `sums.subset(m)`
/// and `sums.rollouts_in(m)`. M (M + 1) / 2 dots.
template <vector_space S, class SubsetSums>
requires requires(const SubsetSums& sums, std::size_t m) {
  { sums.subsets() } -> std::convertible_to<std::size_t>;
  { sums.subset(m) } -> std::same_as<const vector_t<S>&>;
  { sums.rollouts_in(m) } -> std::convertible_to<std::size_t>;
}
subset_agreement agreement_of(const S& space, const SubsetSums& sums) {
  std::vector<std::size_t> counts;
  for (std::size_t m = 0; m < sums.subsets(); ++m) counts.push_back(sums.rollouts_in(m));
  return agreement_of(
      gram_matrix(space, counts.size(), [&](std::size_t m) -> const vector_t<S>& { return sums.subset(m); }),
      counts);
}

}  // namespace rlvr
