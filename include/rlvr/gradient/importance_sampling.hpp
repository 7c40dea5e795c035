#pragma once
/// Drawing prompts in proportion to their gradients, without bias.

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include <rlvr/core/error.hpp>
#include <rlvr/core/random.hpp>

namespace rlvr {

/// P_i = tau g_i / sum g + (1 - tau) / N for N gradient norms g_i.
///
/// tau = 0 is uniform. Without noise and with current norms tau = 1 has the least variance of all sampling
/// distributions, but then a prompt of norm 0 is never drawn again, and a stale small norm gets a huge weight: the
/// weights of tau <= 1 - 1/w are at most w. A prompt without a norm yet counts as 0, as in the source. All norms zero:
/// uniform. Throws std::invalid_argument for no norms, one that is negative or not finite, and tau outside [0, 1].
/// O(N).
/// Source: PA&DA (Lu et al., CVPR 2023), whose code lets tau grow linearly from 0 to 1 over the epochs and averages the
/// norm of each visit with the old one.
inline std::vector<double> importance_probabilities(std::span<const double> norms, double tau) {
  require(!norms.empty(), "importance_probabilities: there are no norms");
  require(tau >= 0 && tau <= 1, "importance_probabilities: tau is ", tau);
  double largest = 0, sum = 0;
  for (std::size_t i = 0; i < norms.size(); ++i) {
    require(norms[i] >= 0 && is_finite(norms[i]), "importance_probabilities: norm ", i, " is ", norms[i]);
    largest = std::max(largest, norms[i]);
  }
  if (largest > 0)
    for (const double g : norms) sum += g / largest;  // cannot overflow
  const double uniform = 1 / static_cast<double>(norms.size());
  std::vector<double> probabilities(norms.size(), uniform);
  if (largest > 0)
    for (std::size_t i = 0; i < norms.size(); ++i)
      probabilities[i] = tau * (norms[i] / largest / sum) + (1 - tau) * uniform;
  return probabilities;
}

/// Prompts drawn with replacement, and what to multiply the gradient of each draw with.
struct importance_sample {
  std::vector<std::size_t> ids;
  std::vector<double> weights;  ///< 1 / (N P_id)
};

/// `count` independent draws from P, with the weights that make their mean unbiased:
///
///     E[ 1/count sum_j weights_j f(ids_j) ] = 1/N sum_i f(i)     for every f that is 0 where P_i = 0.
///
/// The source leaves the weights out, so that what it descends is not the mean loss. A pure function: draw j is the
/// same however many are asked for. An id of probability 0 is never drawn. Throws std::invalid_argument for no
/// probabilities, one that is negative or not finite, or a sum that is not 1 within 1e-9. O(N + count log N).
/// Source: importance sampling; Katharopoulos and Fleuret 2018 (arXiv 1803.00942), section 3.
inline importance_sample draw_with_replacement(std::span<const double> probabilities, std::size_t count,
                                               random_key key) {
  const std::size_t n = probabilities.size();
  require(n > 0, "draw_with_replacement: there are no probabilities");
  std::vector<double> cumulative(n);
  double sum = 0;
  for (std::size_t i = 0; i < n; ++i) {
    require(probabilities[i] >= 0 && is_finite(probabilities[i]), "draw_with_replacement: probability ", i, " is ",
            probabilities[i]);
    cumulative[i] = sum += probabilities[i];
  }
  require(sum > 1 - 1e-9 && sum < 1 + 1e-9, "draw_with_replacement: probabilities sum to ", sum);
  importance_sample out;
  out.ids.reserve(count);
  out.weights.reserve(count);
  for (std::size_t j = 0; j < count; ++j) {
    // The product may round up to the sum itself; the last id with a probability is then the first to reach it.
    const double u = key.uniform(j) * sum;
    auto found = std::upper_bound(cumulative.begin(), cumulative.end(), u);
    if (found == cumulative.end()) found = std::lower_bound(cumulative.begin(), cumulative.end(), sum);
    const auto id = static_cast<std::size_t>(found - cumulative.begin());
    out.ids.push_back(id);
    out.weights.push_back(1 / (static_cast<double>(n) * probabilities[id]));
  }
  return out;
}

}  // namespace rlvr
