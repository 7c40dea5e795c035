#pragma once
/// Which of the rollouts that were generated to train on: few, and as different in reward as possible.

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include <rlvr/core/error.hpp>
#include <rlvr/core/offsets.hpp>
#include <rlvr/core/rollouts.hpp>

namespace rlvr {

namespace detail {

/// Leaves in `indices` those m (all, when there are fewer) whose values have the largest variance, ascending.
inline void keep_max_variance(std::span<const double> values, std::vector<std::size_t>& indices, std::size_t m) {
  const std::size_t n = indices.size();
  if (m >= n) return;
  std::sort(indices.begin(), indices.end(),
            [&](std::size_t a, std::size_t b) { return values[a] != values[b] ? values[a] > values[b] : a < b; });
  // m^2 times the variance, from sums about one of the values: exact for equal values and for 0 and 1.
  const double origin = values[indices.back()];
  double sum = 0, squares = 0;
  const auto add = [&](std::size_t rank, double sign) {
    const double x = values[indices[rank]] - origin;
    sum += sign * x;
    squares += sign * x * x;
  };
  const auto spread = [&] { return static_cast<double>(m) * squares - sum * sum; };
  for (std::size_t rank = 0; rank < m; ++rank) add(rank, 1);
  std::size_t tail = 0;
  double best = spread();
  for (std::size_t k = 1; k < m; ++k) {  // the k smallest instead of the k smallest of the m largest
    add(m - k, -1);
    add(n - k, 1);
    if (const double s = spread(); s > best) {
      best = s;
      tail = k;
    }
  }
  std::copy(indices.end() - static_cast<std::ptrdiff_t>(tail), indices.end(),
            indices.begin() + static_cast<std::ptrdiff_t>(m - tail));
  indices.resize(m);
  std::sort(indices.begin(), indices.end());
}

inline void check_down_sample(std::span<const verdict> verdicts, const groups& g) {
  check_cover(g, verdicts.size(), "down_sample");
  for (std::size_t i = 0; i < verdicts.size(); ++i)
    require(!verdicts[i].scored || is_finite(verdicts[i].reward), "down_sample: reward ", i, " is ",
            verdicts[i].reward);
}

/// In every group the m scored rollouts of largest variance, ascending.
inline std::vector<std::size_t> max_variance_in_groups(std::span<const double> values,
                                                       std::span<const verdict> verdicts, const groups& g,
                                                       std::size_t m) {
  std::vector<std::size_t> kept, members;
  for (std::size_t group = 0; group < g.size(); ++group) {
    require(m <= g.size(group), "down_sample: ", m, " rollouts wanted of group ", group, ", which has ", g.size(group));
    members.clear();
    for (std::size_t i = g.begin(group); i < g.end(group); ++i)
      if (verdicts[i].scored) members.push_back(i);
    keep_max_variance(values, members, m);
    kept.insert(kept.end(), members.begin(), members.end());
  }
  return kept;
}

}  // namespace detail

/// The indices, ascending, of the m values with the largest variance among all choices of m.
///
/// Such a choice is always some of the largest and the rest of the smallest (the variance is convex in each value), so
/// that m candidates are to be compared. Ties: values are ranked from the largest, equal ones in their order, and
/// among equal variances the longer prefix of this ranking wins; so all equal gives the first m.
///
/// Throws std::invalid_argument for m = 0, m above the number of values, or a value that is not finite. O(n log n).
/// Source: PODS (Xu et al. 2025, arXiv 2504.13818), whose code computes each candidate anew.
inline std::vector<std::size_t> max_variance_subset(std::span<const double> values, std::size_t m) {
  require(m > 0 && m <= values.size(), "max_variance_subset: ", m, " of ", values.size(), " values");
  for (std::size_t i = 0; i < values.size(); ++i)
    require(is_finite(values[i]), "max_variance_subset: value ", i, " is ", values[i]);
  std::vector<std::size_t> indices(values.size());
  for (std::size_t i = 0; i < indices.size(); ++i) indices[i] = i;
  detail::keep_max_variance(values, indices, m);
  return indices;
}

/// PODS: of every group the m scored rollouts with the largest variance of rewards (max_variance_subset). Returns
/// their indices, ascending.
///
/// Advantages are to be computed anew from what is kept: take(rollouts, kept), groups_of its prompts, and an advantage
/// estimator. Unscored rollouts are never kept; a group with fewer scored ones than m gives them all. A group of equal
/// rewards gives its first m, whose advantages are zero. Throws std::invalid_argument for m = 0, a group with fewer
/// than m rollouts, groups that do not cover the verdicts, or a scored reward that is not finite. O(B log G).
/// Source: Xu et al. 2025, arXiv 2504.13818; theirs keep 32 of 128 (and advantages with epsilon 1e-4).
inline std::vector<std::size_t> pods(std::span<const verdict> verdicts, const groups& g, std::size_t m) {
  require(m > 0, "pods: m is 0");
  detail::check_down_sample(verdicts, g);
  std::vector<double> rewards(verdicts.size());
  for (std::size_t i = 0; i < verdicts.size(); ++i) rewards[i] = verdicts[i].reward;
  return detail::max_variance_in_groups(rewards, verdicts, g, m);
}

/// How much D3S keeps. Its schedule goes linearly from one of these to another; its numbers are not published.
struct d3s_size {
  double rollouts = 1;  ///< N, of the whole batch; rounded to the nearest
  double tokens = 1;    ///< K, the share of the kept rollouts' tokens, in (0, 1]
};

/// (1 - progress) first + progress last. Throws std::invalid_argument for a progress outside [0, 1].
inline d3s_size d3s_schedule(const d3s_size& first, const d3s_size& last, double progress) {
  require(progress >= 0 && progress <= 1, "d3s: progress is ", progress);
  const auto mix = [&](double a, double b) { return (1 - progress) * a + progress * b; };
  return {mix(first.rollouts, last.rollouts), mix(first.tokens, last.tokens)};
}

/// The sample half of D3S: of every group the `per_group` scored rollouts with the largest variance of advantages, and
/// of these the N with the largest variance over the whole batch. Returns their indices, ascending.
///
/// advantages: [B], normalised within whole groups, and not anew afterwards. Groups of equal rewards have advantage 0,
/// stand in the middle and go first. Ties as in max_variance_subset. N above what the first stage leaves keeps it all;
/// unscored rollouts are never kept. per_group equal to the group size leaves out the first stage. Throws
/// std::invalid_argument for sizes that differ, an advantage of a scored rollout that is not finite, per_group 0 or
/// above a group's size, N that rounds to 0 or is above B. O(B log B).
/// Source: D3S (arXiv 2509.22115), as three independent summaries describe it.
inline std::vector<std::size_t> d3s_rollouts(std::span<const double> advantages, std::span<const verdict> verdicts,
                                             const groups& g, std::size_t per_group, const d3s_size& keep) {
  require(advantages.size() == verdicts.size(), "d3s: ", advantages.size(), " advantages for ", verdicts.size(),
          " verdicts");
  require(per_group > 0, "d3s: per_group is 0");
  require(keep.rollouts >= 0.5 && std::round(keep.rollouts) <= static_cast<double>(verdicts.size()),
          "d3s: ", keep.rollouts, " rollouts wanted of ", verdicts.size());
  detail::check_down_sample(verdicts, g);
  for (std::size_t i = 0; i < advantages.size(); ++i)
    require(!verdicts[i].scored || is_finite(advantages[i]), "d3s: advantage ", i, " is ", advantages[i]);
  std::vector<std::size_t> kept = detail::max_variance_in_groups(advantages, verdicts, g, per_group);
  detail::keep_max_variance(advantages, kept, static_cast<std::size_t>(std::round(keep.rollouts)));
  return kept;
}

/// The token half of D3S: a mask, [T] of 0 and 1, of the K T' tokens (rounded, at least one) with the largest
/// |A_i| H_{i,t} among the T' tokens of the kept rollouts; of equal ones the first. Coefficients of tokens outside the
/// mask are to be set to zero.
///
/// r.entropies are those of the full distribution. Throws std::invalid_argument for sizes that differ, a kept index out
/// of range, not ascending, or whose advantage or entropies are not finite, or K outside (0, 1]. O(T) on average.
inline std::vector<std::uint8_t> d3s_token_mask(const rollouts& r, std::span<const double> advantages,
                                                std::span<const std::size_t> kept, const d3s_size& keep) {
  detail::check_offsets(r.offsets, "d3s");
  require(advantages.size() == r.size(), "d3s: ", advantages.size(), " advantages for ", r.size(), " rollouts");
  require(r.entropies.size() == r.offsets.back(), "d3s: ", r.entropies.size(), " entropies for ", r.offsets.back(),
          " tokens");
  require(keep.tokens > 0 && keep.tokens <= 1, "d3s: a share of ", keep.tokens, " of the tokens");
  struct scored_token {
    double score;
    std::size_t index;
  };
  std::vector<scored_token> tokens;
  for (std::size_t k = 0; k < kept.size(); ++k) {
    const std::size_t i = kept[k];
    require(i < r.size() && (k == 0 || kept[k - 1] < i), "d3s: kept[", k, "] is ", i, ", not an ascending index below ",
            r.size());
    for (std::size_t t = r.offsets[i]; t < r.offsets[i + 1]; ++t) {
      const double score = std::fabs(advantages[i]) * r.entropies[t];
      require(is_finite(score), "d3s: rollout ", i, " has advantage ", advantages[i], " and entropy ", r.entropies[t]);
      tokens.push_back({score, t});
    }
  }
  std::vector<std::uint8_t> mask(r.offsets.back());
  const double wanted = std::fmax(std::round(keep.tokens * static_cast<double>(tokens.size())), 1);
  const std::size_t n = std::min(tokens.size(), static_cast<std::size_t>(wanted));
  if (n < tokens.size())
    std::nth_element(tokens.begin(), tokens.begin() + static_cast<std::ptrdiff_t>(n), tokens.end(),
                     [](const scored_token& a, const scored_token& b) {
                       return a.score != b.score ? a.score > b.score : a.index < b.index;
                     });
  for (std::size_t k = 0; k < n; ++k) mask[tokens[k].index] = 1;
  return mask;
}

}  // namespace rlvr
