#pragma once
/// What an advantage estimator is, and the walk over groups that all of them share.

#include <cmath>
#include <concepts>
#include <cstddef>
#include <span>
#include <vector>

#include <rlvr/core/error.hpp>
#include <rlvr/core/moments.hpp>
#include <rlvr/core/rollouts.hpp>

namespace rlvr {

/// From verdicts to one advantage per rollout.
///
///  - `a(verdicts, groups)`: B advantages for B verdicts; pure. Groups may differ in size. Unscored rollouts enter no
///    statistic and get exactly 0. Advantages follow their rollouts when rollouts are permuted inside a group, and
///    groups inside the batch (up to rounding).
///  - Throws std::invalid_argument for groups that do not cover the verdicts, an empty group, and a scored reward that
///    is not finite, naming its index. A result is never NaN.
///
/// Promised by estimators unless their docstring says otherwise: a constant added to all rewards of a group changes
/// nothing (up to rounding); a group whose scored rewards are all equal (max == min) gives exact zeros; a group with
/// one scored rollout gives 0 unless the estimator was asked otherwise. Some promise more: advantages of a group that
/// sum to zero, independence of the rewards' scale, groups that do not know of each other. laws/ tries each.
template <class A>
concept advantage_estimator = requires(const A& a, std::span<const verdict> verdicts, const groups& g) {
  { a(verdicts, g) } -> std::same_as<std::vector<double>>;
};

/// What a group with one scored rollout gets: nothing to compare with, so zero; or its reward, as some trainers do
/// (verl's loop versions of GRPO and RLOO).
enum class lone_rollout { zero, reward };

namespace detail {

/// Checks that groups cover `count` rollouts and that none is empty.
inline void check_groups(std::size_t count, const groups& g) {
  require(!g.offsets.empty() && g.offsets.front() == 0, "advantages: groups must begin at 0");
  for (std::size_t i = 0; i < g.size(); ++i)
    require(g.begin(i) < g.end(i), "advantages: group ", i, " is [", g.begin(i), ", ", g.end(i), "), which is empty");
  require(g.total() == count, "advantages: groups of ", g.total(), " rollouts for ", count, " verdicts");
}

/// Checks the arguments of an advantage estimator.
inline void check_verdicts(std::span<const verdict> verdicts, const groups& g) {
  check_groups(verdicts.size(), g);
  for (std::size_t i = 0; i < verdicts.size(); ++i)
    require(!verdicts[i].scored || std::isfinite(verdicts[i].reward), "advantages: reward ", i, " is ",
            verdicts[i].reward);
}

/// Whether no value is infinite or NaN. Four chains of additions, without a branch per value. O(n).
inline bool all_finite(std::span<const double> values) {
  double a = 0, b = 0, c = 0, d = 0;  // 0, or NaN
  std::size_t i = 0;
  for (; i + 4 <= values.size(); i += 4) {
    a += values[i] * 0;
    b += values[i + 1] * 0;
    c += values[i + 2] * 0;
    d += values[i + 3] * 0;
  }
  for (; i < values.size(); ++i) a += values[i] * 0;
  return (a + b) + (c + d) == 0;
}

/// The scored rewards of one group, side by side.
struct scored_group {
  std::size_t index = 0;            ///< of the group
  std::span<const double> rewards;  ///< of its scored rollouts, at least one
  bool differ = false;              ///< max != min
};

/// Calls f(scored_group, out) for each group with scored rollouts; f writes one advantage per scored rollout to out,
/// which holds zeros. Unscored rollouts get 0. Throws as advantage_estimator says, and std::invalid_argument that names
/// the group when its rewards are so large that an advantage overflows. O(B).
template <class F>
std::vector<double> by_group(std::span<const verdict> verdicts, const groups& g, F f) {
  check_groups(verdicts.size(), g);
  std::vector<double> advantages(verdicts.size());
  std::vector<double> rewards, part;
  for (std::size_t group = 0; group < g.size(); ++group) {
    const std::size_t begin = g.begin(group), size = g.size(group);
    if (rewards.size() < size) rewards.resize(size);
    std::size_t scored = 0;
    for (std::size_t i = 0; i < size; ++i) {
      rewards[scored] = verdicts[begin + i].reward;
      scored += verdicts[begin + i].scored;
    }
    const std::span<const double> known = std::span<const double>(rewards).first(scored);
    if (!all_finite(known))
      for (std::size_t i = begin; i < begin + size; ++i)
        require(!verdicts[i].scored || std::isfinite(verdicts[i].reward), "advantages: reward ", i, " is ",
                verdicts[i].reward);
    if (scored == 0) continue;
    bool differ = false;
    for (std::size_t i = 1; i < scored; ++i) differ |= rewards[i] != rewards[0];
    const scored_group one{group, known, differ};
    std::span<double> out = std::span<double>(advantages).subspan(begin, size);
    if (scored < size) {
      part.assign(scored, 0.0);
      out = part;
    }
    f(one, out);
    require(all_finite(out), "advantages: the rewards of group ", group, " overflow");
    if (scored < size)
      for (std::size_t i = 0, next = 0; i < size; ++i)
        if (verdicts[begin + i].scored) advantages[begin + i] = part[next++];
  }
  return advantages;
}

/// The advantages `scale(m) * (reward - m.mean)` with m the moments of the group's scored rewards; the two degenerate
/// groups are treated as the concept says. `lone(reward)` is the advantage of a lone rollout. O(B).
template <class Scale, class Lone>
std::vector<double> centred_advantages(std::span<const verdict> verdicts, const groups& g, Scale scale, Lone lone) {
  return by_group(verdicts, g, [&](const scored_group& one, std::span<double> out) {
    if (one.rewards.size() == 1) {
      out[0] = lone(one.rewards[0]);
      return;
    }
    if (!one.differ) return;
    const moments m = moments_of(one.rewards);
    const double factor = scale(m);
    for (std::size_t i = 0; i < out.size(); ++i) out[i] = factor * (one.rewards[i] - m.mean);
  });
}

}  // namespace detail

}  // namespace rlvr
