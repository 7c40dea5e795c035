#pragma once
/// Means with confidence intervals whose unit is the prompt, not the rollout.

#include <cmath>
#include <cstddef>
#include <limits>
#include <span>
#include <vector>

#include <rlvr/core/error.hpp>
#include <rlvr/core/groups.hpp>
#include <rlvr/core/moments.hpp>
#include <rlvr/core/verdict.hpp>
#include <rlvr/diagnose/student_t.hpp>

namespace rlvr {

/// A mean and its confidence interval [low, high].
struct interval {
  double mean = 0;
  double low = 0;
  double high = 0;
  friend bool operator==(const interval&, const interval&) = default;
};

/// The mean reward of each group, one group per prompt; NaN for a group without scored rollouts. Throws
/// std::invalid_argument when groups do not cover the verdicts or a scored reward is not finite. O(B).
inline std::vector<double> prompt_means(std::span<const verdict> verdicts, const groups& g) {
  detail::check_cover(g, verdicts.size(), "prompt_means");
  std::vector<double> means;
  means.reserve(g.size());
  for (std::size_t group = 0; group < g.size(); ++group) {
    moments m;
    for (std::size_t i = g.begin(group); i < g.end(group); ++i) {
      if (!verdicts[i].scored) continue;
      require(std::isfinite(verdicts[i].reward), "prompt_means: reward ", i, " is ", verdicts[i].reward);
      m.add(verdicts[i].reward);
    }
    means.push_back(m.count > 0 ? m.mean : std::numeric_limits<double>::quiet_NaN());
  }
  return means;
}

/// mean +- t s / sqrt(n) over the n per-prompt values, s with n - 1, t the Student quantile of n - 1 degrees.
///
/// Rollouts of a prompt are not independent of each other, prompts are: so each prompt is one observation,
/// and every prompt weighs the same however many rollouts it has. NaN stands for a prompt that could not be
/// scored and is left out. One value has an interval from -infinity to infinity (nothing is known of the
/// spread); without any value all three are NaN; equal values have width 0. Throws std::invalid_argument for
/// an infinite value or a confidence outside (0, 1). O(n).
inline interval mean_interval(std::span<const double> per_prompt, double confidence = 0.95) {
  require(confidence > 0 && confidence < 1, "mean_interval: confidence is ", confidence);
  std::vector<double> known;
  known.reserve(per_prompt.size());
  for (std::size_t i = 0; i < per_prompt.size(); ++i) {
    require(!std::isinf(per_prompt[i]), "mean_interval: value ", i, " is infinite");
    if (!std::isnan(per_prompt[i])) known.push_back(per_prompt[i]);
  }
  constexpr double nan = std::numeric_limits<double>::quiet_NaN();
  constexpr double infinity = std::numeric_limits<double>::infinity();
  if (known.empty()) return {nan, nan, nan};
  const moments m = moments_of(known);
  if (known.size() == 1) return {m.mean, -infinity, infinity};
  const double n = static_cast<double>(known.size());
  const double half = student_t_quantile(known.size() - 1, confidence) * m.deviation() / std::sqrt(n);
  return {m.mean, m.mean - half, m.mean + half};
}

/// Whether all values but NaN lie in [0, 1]. O(n).
inline bool are_accuracies(std::span<const double> per_prompt) {
  for (double value : per_prompt)
    if (value < 0 || value > 1) return false;
  return true;
}

/// The interval of a mean of accuracies, values in [0, 1]: inside [0, 1], and never of width 0. Wilson's,
///
///     all p with (p - mean)^2 <= t^2 p (1 - p) / n_eff,   n_eff = n mean (1 - mean) / s^2,
///
/// over the n per-prompt values, s and t as in mean_interval: n_eff independent rollouts have the standard error
/// s / sqrt(n) that the prompts show. mean +- t s / sqrt(n) reaches below 0 where few prompts are right and has no
/// width where none is. Equal values show nothing of how the rollouts of a prompt depend on each other: n_eff is
/// then n, each prompt as good as one rollout.
///
/// NaN is left out as in mean_interval. One value has the interval [0, 1], without any all three are NaN. Throws
/// std::invalid_argument for values outside [0, 1] or a confidence outside (0, 1). O(n).
/// Source: Wilson 1927; with an effective sample size: Franco, Little, Louis and Slud 2019, Journal of Survey
/// Statistics and Methodology 7.
inline interval accuracy_interval(std::span<const double> per_prompt, double confidence = 0.95) {
  require(confidence > 0 && confidence < 1, "accuracy_interval: confidence is ", confidence);
  moments m;
  for (std::size_t i = 0; i < per_prompt.size(); ++i) {
    require(!(per_prompt[i] < 0) && !(per_prompt[i] > 1), "accuracy_interval: value ", i, " is ", per_prompt[i]);
    if (!std::isnan(per_prompt[i])) m.add(per_prompt[i]);
  }
  constexpr double nan = std::numeric_limits<double>::quiet_NaN();
  if (m.count == 0) return {nan, nan, nan};
  if (m.count == 1) return {m.mean, 0, 1};
  const double n = static_cast<double>(m.count), s = m.deviation(), spread = m.mean * (1 - m.mean);
  const double t = student_t_quantile(m.count - 1, confidence);
  const double w = t * t / (s > 0 ? n * spread / (s * s) : n);
  // The roots of (1 + w) p^2 - (2 mean + w) p + mean^2, without the difference that cancels.
  const double half = w / 2 + std::sqrt(w * (w / 4 + spread));
  return {m.mean, m.mean * m.mean / (m.mean + half), 1 - (1 - m.mean) * (1 - m.mean) / (1 - m.mean + half)};
}

/// The interval of the mean of after[i] - before[i], prompt by prompt. Far narrower than the difference of
/// two intervals when both used the same prompts, and narrower still with common random numbers. A prompt
/// that is NaN on either side is left out. Throws std::invalid_argument when sizes differ, and as
/// mean_interval does. O(n).
inline interval difference_interval(std::span<const double> before, std::span<const double> after,
                                    double confidence = 0.95) {
  require(before.size() == after.size(), "difference_interval: ", before.size(), " values before, ",
          after.size(), " after");
  std::vector<double> differences(before.size());
  for (std::size_t i = 0; i < before.size(); ++i) {
    require(!std::isinf(before[i]) && !std::isinf(after[i]), "difference_interval: value ", i,
            " is infinite");
    differences[i] = after[i] - before[i];
  }
  return mean_interval(differences, confidence);
}

}  // namespace rlvr
