#pragma once
/// What an advantage estimator is, and the walk over groups that all of them share.

#include <algorithm>
#include <cmath>
#include <concepts>
#include <cstddef>
#include <span>
#include <type_traits>
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
///    is not finite, naming its index: check_verdicts does. A result is never NaN.
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
  require(!g.offsets.empty(), "advantages: the offsets of groups are empty");
  require(g.offsets.front() == 0, "advantages: groups begin at ", g.offsets.front(), ", expected 0");
  for (std::size_t i = 0; i < g.size(); ++i)
    require(g.begin(i) < g.end(i), "advantages: group ", i, " is [", g.begin(i), ", ", g.end(i), "), which is empty");
  require(g.total() == count, "advantages: groups of ", g.total(), " rollouts for ", count, " verdicts");
}

}  // namespace detail

/// Checks the arguments of an advantage estimator: what one of your own begins with. Throws std::invalid_argument for
/// groups that do not begin at 0 or do not cover the verdicts, an empty group, and a scored reward that is not finite,
/// with index and value. O(B).
inline void check_verdicts(std::span<const verdict> verdicts, const groups& g) {
  detail::check_groups(verdicts.size(), g);
  for (std::size_t i = 0; i < verdicts.size(); ++i)
    require(!verdicts[i].scored || std::isfinite(verdicts[i].reward), "advantages: reward ", i, " is ",
            verdicts[i].reward);
}

namespace detail {

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

/// Throws std::invalid_argument that names the first value that is not finite: `who`, ": ", `what`, its index. O(n).
inline void check_finite(const char* who, const char* what, std::span<const double> values) {
  if (all_finite(values)) return;
  for (std::size_t i = 0; i < values.size(); ++i)
    require(std::isfinite(values[i]), who, ": ", what, " ", i, " overflows: it is ", values[i]);
}

/// The scored rewards of one group, side by side.
struct scored_group {
  std::size_t index = 0;            ///< of the group
  std::span<const double> rewards;  ///< of its scored rollouts, at least one
  bool differ = false;              ///< max != min
};

/// Writes the advantages of group `group` by f(scored_group, out), see by_group. `rewards` and `part` are scratch.
template <class F>
void one_group(std::span<const verdict> verdicts, const groups& g, std::size_t group, std::vector<double>& rewards,
               std::vector<double>& part, std::vector<double>& advantages, F& f) {
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
  if (scored == 0) return;
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

/// Calls f(scored_group, out) for each group with scored rollouts; f writes one advantage per scored rollout to out,
/// which holds zeros. Unscored rollouts get 0. Throws as advantage_estimator says, and std::invalid_argument that names
/// the group when its rewards are so large that an advantage overflows. O(B).
template <class F>
std::vector<double> by_group(std::span<const verdict> verdicts, const groups& g, F f) {
  check_groups(verdicts.size(), g);
  std::vector<double> advantages(verdicts.size());
  std::vector<double> rewards, part;
  for (std::size_t group = 0; group < g.size(); ++group) one_group(verdicts, g, group, rewards, part, advantages, f);
  return advantages;
}

inline constexpr std::size_t group_lanes = 32;

/// The moments of group_lanes groups of n scored rollouts that stand one behind the other, each as moments_of computes
/// them, in vector code: one group alone is a chain of additions. x[j, k] <- reward j of group k. False when a reward is
/// unscored or a square not finite. Size is std::size_t or an integral_constant: with a size that the compiler knows,
/// vector code takes half the time.
template <class Size>
bool lane_moments(const verdict* verdicts, Size size, double* x, double* mean, double* squares) {
  const std::size_t n = size;
  bool scored = true;
  for (std::size_t k = 0; k < group_lanes; ++k)
    for (std::size_t j = 0; j < n; ++j) {
      scored &= verdicts[k * n + j].scored;
      x[j * group_lanes + k] = verdicts[k * n + j].reward;
    }
  if (!scored) return false;
  const double count = static_cast<double>(n);
  double sum[group_lanes] = {}, residue[group_lanes] = {}, nothing = 0;
  for (std::size_t j = 0; j < n; ++j)
    for (std::size_t k = 0; k < group_lanes; ++k) sum[k] += x[j * group_lanes + k] - x[k];
  for (std::size_t k = 0; k < group_lanes; ++k) mean[k] = x[k] + sum[k] / count;
  for (std::size_t k = 0; k < group_lanes; ++k) squares[k] = 0;
  for (std::size_t j = 0; j < n; ++j)
    for (std::size_t k = 0; k < group_lanes; ++k) {
      const double d = x[j * group_lanes + k] - mean[k];
      squares[k] += d * d;
      residue[k] += d;
    }
  for (std::size_t k = 0; k < group_lanes; ++k) {
    squares[k] -= residue[k] * residue[k] / count;
    if (squares[k] < 0) squares[k] = 0;
    nothing += 0 * squares[k];
  }
  return nothing == 0;
}

/// The factor of one group's moments, and of group_lanes groups of n rewards at once.
template <class F>
struct scale_of {
  F f;
  double operator()(const moments& m) const { return f(m); }
  void operator()(std::size_t n, const double* mean, const double* squares, double* factor) const {
    for (std::size_t k = 0; k < group_lanes; ++k) factor[k] = f(moments{n, mean[k], squares[k]});
  }
};
template <class F>
scale_of(F) -> scale_of<F>;

/// The advantages `scale(m) * (reward - m.mean)` with m the moments of the group's scored rewards; the two degenerate
/// groups are treated as the concept says. `lone(reward)` is the advantage of a lone rollout. `scale` has the calls of
/// scale_of; a factor that is not finite sends its groups to the call for one. O(B).
template <class Scale, class Lone>
std::vector<double> centred_advantages(std::span<const verdict> verdicts, const groups& g, const Scale& scale,
                                       Lone lone) {
  check_groups(verdicts.size(), g);
  std::vector<double> advantages(verdicts.size());
  std::vector<double> rewards, part, x;
  const auto alone = [&](const scored_group& one, std::span<double> out) {
    if (one.rewards.size() == 1) {
      out[0] = lone(one.rewards[0]);
      return;
    }
    if (!one.differ) {
      std::fill(out.begin(), out.end(), 0.0);
      return;
    }
    const moments m = moments_of(one.rewards);
    const double factor = scale(m);
    for (std::size_t i = 0; i < out.size(); ++i) out[i] = factor * (one.rewards[i] - m.mean);
  };
  const auto lanes = [&](std::size_t begin, auto size) {
    const std::size_t n = size;
    double mean[group_lanes], squares[group_lanes], factor[group_lanes];
    x.resize(n * group_lanes);
    if (!lane_moments(verdicts.data() + begin, size, x.data(), mean, squares)) return false;
    scale(n, mean, squares, factor);
    double nothing = 0;
    for (std::size_t k = 0; k < group_lanes; ++k) nothing += 0 * factor[k];
    double* out = advantages.data() + begin;
    for (std::size_t k = 0; k < group_lanes; ++k)
      for (std::size_t j = 0; j < n; ++j) out[k * n + j] = factor[k] * (x[j * group_lanes + k] - mean[k]);
    return nothing == 0;
  };
  const auto side_by_side = [&](std::size_t begin, std::size_t n) {
    if (n == 8) return lanes(begin, std::integral_constant<std::size_t, 8>{});
    if (n == 16) return lanes(begin, std::integral_constant<std::size_t, 16>{});
    return lanes(begin, n);
  };
  for (std::size_t group = 0; group < g.size();) {
    const std::size_t n = g.size(group);
    std::size_t same = 1;
    while (same < group_lanes && group + same < g.size() && g.size(group + same) == n) ++same;
    if (same == group_lanes && n > 1 && side_by_side(g.begin(group), n)) {
      group += group_lanes;
      continue;
    }
    for (const std::size_t end = group + same; group < end; ++group)
      one_group(verdicts, g, group, rewards, part, advantages, alone);
  }
  return advantages;
}

}  // namespace detail

}  // namespace rlvr
