#pragma once
/// What an advantage estimator is, and the walk over groups that they share.

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
///  - `a(verdicts, groups)`: B advantages for B verdicts; pure. Groups may differ in size. Unscored rollouts
///  enter
///    no statistic and get exactly 0. A group whose scored rewards are all equal (max == min) gives exact
///    zeros. A group with one scored rollout gives 0 unless the estimator was asked otherwise.
///  - Advantages do not change when a constant is added to all rewards of a group (up to rounding), and
///  follow
///    their rollouts when a group is permuted.
///  - Throws std::invalid_argument for groups that do not cover the verdicts, an empty group, and a scored
///  reward
///    that is not finite, naming its index.
template <class A>
concept advantage_estimator = requires(const A& a, std::span<const verdict> verdicts, const groups& g) {
  { a(verdicts, g) } -> std::same_as<std::vector<double>>;
};

/// What a group with one scored rollout gets: nothing to compare with, so zero; or its reward, as some
/// trainers do (verl's loop versions of GRPO and RLOO).
enum class lone_rollout { zero, reward };

namespace detail {

/// Checks the arguments of an advantage estimator.
inline void check_verdicts(std::span<const verdict> verdicts, const groups& g) {
  require(!g.offsets.empty() && g.offsets.front() == 0, "advantages: groups must begin at 0");
  for (std::size_t i = 0; i < g.size(); ++i)
    require(g.begin(i) < g.end(i), "advantages: group ", i, " is [", g.begin(i), ", ", g.end(i),
            "), which is empty");
  require(g.total() == verdicts.size(), "advantages: groups of ", g.total(), " rollouts for ",
          verdicts.size(), " verdicts");
  for (std::size_t i = 0; i < verdicts.size(); ++i)
    require(!verdicts[i].scored || std::isfinite(verdicts[i].reward), "advantages: reward ", i, " is ",
            verdicts[i].reward);
}

/// The advantages `scale(m) * (reward - m.mean)` with m the moments of the group's scored rewards; the two
/// degenerate groups are treated as the concept says. `lone(reward)` is the advantage of a lone rollout.
/// O(B).
template <class Scale, class Lone>
std::vector<double> centred_advantages(std::span<const verdict> verdicts, const groups& g, Scale scale,
                                       Lone lone) {
  check_verdicts(verdicts, g);
  std::vector<double> advantages(verdicts.size(), 0.0);
  std::vector<double> rewards;
  for (std::size_t group = 0; group < g.size(); ++group) {
    rewards.clear();
    bool differ = false;
    for (std::size_t i = g.begin(group); i < g.end(group); ++i) {
      if (!verdicts[i].scored) continue;
      rewards.push_back(verdicts[i].reward);
      differ = differ || rewards.back() != rewards.front();
    }
    if (!differ && rewards.size() != 1) continue;
    const moments m = moments_of(rewards);
    const double factor = differ ? scale(m) : 0.0;
    for (std::size_t i = g.begin(group); i < g.end(group); ++i)
      if (verdicts[i].scored)
        advantages[i] = differ ? factor * (verdicts[i].reward - m.mean) : lone(verdicts[i].reward);
  }
  return advantages;
}

}  // namespace detail

}  // namespace rlvr
