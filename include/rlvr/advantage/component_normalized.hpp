#pragma once
/// Several rewards per rollout, each normalised by itself before they are added.

#include <cmath>
#include <cstddef>
#include <span>
#include <utility>
#include <vector>

#include <rlvr/advantage/advantage_estimator.hpp>
#include <rlvr/advantage/group_normalized.hpp>
#include <rlvr/advantage/whitening.hpp>

namespace rlvr {

/// A_i = whiten(sum_k weight_k Base(R_k)_i): the advantages of each reward component (correctness, format, length, ...)
/// by themselves, their weighted sum, and its whitening over the batch.
///
/// Adding rewards first lets the component with the largest spread decide; combinations of rewards with the same sum
/// become the same advantage. components[k] holds the B verdicts of component k; a rollout that a component could not
/// score gets nothing from it, and one that none could score gets 0 and is left out of the whitening. No weights means
/// 1 each. Whitening moves rollouts of constant groups like all others.
///
///  - `a(components, groups)`: whitened over rollouts. `over_batch` is TRL's {1, 1e-4}; NeMo-RL has epsilon 0.
///  - `a(components, groups, token_counts)`: whitened over tokens, as in verl ({.epsilon = 1e-8, .place =
///    epsilon_place::beside_variance}; Base with lone_rollout::reward).
///
/// Throws what Base throws, and std::invalid_argument for no components, components of different sizes, a weight too
/// few or many or not finite, and as whiten does. O(K B).
/// Source: GDPO (Liu et al. 2026, arXiv 2601.05242); verl compute_gdpo_outcome_advantage; TRL normalize_then_sum;
/// NeMo-RL.
template <advantage_estimator Base = group_normalized>
struct component_normalized {
  Base base = {};
  std::vector<double> weights = {};
  deviation over_batch = {.epsilon = 1e-4};

  std::vector<double> operator()(std::span<const std::span<const verdict>> components, const groups& g) const {
    auto [out, counts] = sum(components, g, {});
    whiten(std::span<double>(out), std::span<const std::size_t>(counts), over_batch);
    return out;
  }

  std::vector<double> operator()(std::span<const std::span<const verdict>> components, const groups& g,
                                 std::span<const std::size_t> token_counts) const {
    require(components.empty() || token_counts.size() == components[0].size(),
            "component_normalized: ", token_counts.size(), " token counts for ",
            components.empty() ? 0 : components[0].size(), " rollouts");
    auto [out, counts] = sum(components, g, token_counts);
    whiten(std::span<double>(out), std::span<const std::size_t>(counts), over_batch);
    return out;
  }

 private:
  std::pair<std::vector<double>, std::vector<std::size_t>> sum(std::span<const std::span<const verdict>> components,
                                                               const groups& g,
                                                               std::span<const std::size_t> token_counts) const {
    require(!components.empty(), "component_normalized: there are no components");
    require(weights.empty() || weights.size() == components.size(), "component_normalized: ", weights.size(),
            " weights for ", components.size(), " components");
    detail::check_groups(components[0].size(), g);
    std::vector<double> out(g.total());
    std::vector<std::size_t> counts(g.total());
    for (std::size_t k = 0; k < components.size(); ++k) {
      const double weight = weights.empty() ? 1.0 : weights[k];
      require(std::isfinite(weight), "component_normalized: weight ", k, " is ", weight);
      const std::vector<double> part = base(components[k], g);
      for (std::size_t i = 0; i < out.size(); ++i) {
        out[i] += weight * part[i];
        if (components[k][i].scored) counts[i] = token_counts.empty() ? 1 : token_counts[i];
      }
    }
    return {std::move(out), std::move(counts)};
  }
};

}  // namespace rlvr
