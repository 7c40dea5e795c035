#pragma once
/// Entropy-modulated policy gradients: confident steps of an agent weigh more, and steps that lead to clarity are
/// rewarded.

#include <cmath>
#include <cstddef>
#include <span>
#include <vector>

#include <rlvr/core/error.hpp>
#include <rlvr/core/offsets.hpp>

namespace rlvr {

/// Per-step advantages from per-trajectory ones. H_s is the mean token entropy of step s, over all S steps of the batch
/// H~ = (H - min) / (max - min + epsilon):
///
///     g(s) = exp(-k H~_s) / (mean exp(-k H~) + epsilon),    f(s) = exp(-k_future H~_s)
///     A_s  = A g(s) + zeta f(s + 1)  (the last step of a trajectory has no bonus),  less the mean of all A_s
///
/// Spread the result over the steps' tokens as token_advantages of any objective.
/// step_entropies: [S]; trajectories: [B+1], the steps of trajectory i are [trajectories[i], trajectories[i+1]);
/// advantages: [B]. Returns [S]. Throws std::invalid_argument for sizes that differ, values that are not finite,
/// epsilon not positive, and for what overflows. A trajectory without steps is allowed. O(S). In double.
/// Source: Wang et al. 2025, arXiv 2509.09265; epsilon in g as in ARLArena's port, its k = k_future = 1, zeta 0.05.
struct empg {
  double k = 1;
  double k_future = 1;
  double zeta = 0.05;
  double epsilon = 1e-8;

  std::vector<double> operator()(std::span<const double> step_entropies, std::span<const std::size_t> trajectories,
                                 std::span<const double> advantages) const {
    const std::size_t steps = step_entropies.size();
    for (double x : {k, k_future, zeta}) require(is_finite(x), "empg: an option is ", x);
    require(epsilon > 0 && is_finite(epsilon), "empg: epsilon is ", epsilon);
    require(trajectories.size() == advantages.size() + 1, "empg: ", advantages.size(), " advantages for ",
            trajectories.size(), " bounds of trajectories");
    require(trajectories.front() == 0 && trajectories.back() == steps, "empg: trajectories are [", trajectories.front(),
            ", ", trajectories.back(), "), but there are ", steps, " steps");
    detail::check_nondecreasing(trajectories, "empg", "trajectories");
    for (std::size_t i = 0; i < advantages.size(); ++i)
      require(is_finite(advantages[i]), "empg: advantage ", i, " is ", advantages[i]);
    if (steps == 0) return {};
    double low = step_entropies[0], high = step_entropies[0];
    for (std::size_t s = 0; s < steps; ++s) {
      require(is_finite(step_entropies[s]), "empg: step_entropies[", s, "] is ", step_entropies[s]);
      low = step_entropies[s] < low ? step_entropies[s] : low;
      high = step_entropies[s] > high ? step_entropies[s] : high;
    }
    const auto scaled = [&](std::size_t s) { return (step_entropies[s] - low) / (high - low + epsilon); };
    double mean = 0;
    for (std::size_t s = 0; s < steps; ++s) mean += std::exp(-k * scaled(s));
    mean = mean / static_cast<double>(steps) + epsilon;
    std::vector<double> out(steps);
    double total = 0;
    for (std::size_t i = 0; i < advantages.size(); ++i)
      for (std::size_t s = trajectories[i]; s < trajectories[i + 1]; ++s) {
        out[s] = advantages[i] * std::exp(-k * scaled(s)) / mean;
        if (s + 1 < trajectories[i + 1]) out[s] += zeta * std::exp(-k_future * scaled(s + 1));
        total += out[s];
      }
    for (std::size_t s = 0; s < steps; ++s) {
      out[s] -= total / static_cast<double>(steps);
      require(is_finite(out[s]), "empg: the advantage of step ", s, " is ", out[s], ", not a finite number");
    }
    return out;
  }
};

}  // namespace rlvr
