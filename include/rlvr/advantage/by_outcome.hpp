#pragma once
/// Groups treated by how they came out: some right, all right, all wrong; and advantages by their sign.

#include <cmath>
#include <cstddef>
#include <span>
#include <type_traits>
#include <vector>

#include <rlvr/advantage/advantage_estimator.hpp>
#include <rlvr/advantage/group_normalized.hpp>
#include <rlvr/advantage/rank_based.hpp>

namespace rlvr {

/// The same advantage for every scored rollout: 0 leaves a kind of groups out. Models advantage_estimator; for other
/// values than 0 without its promises for equal rewards and lone rollouts. Throws std::invalid_argument also for a
/// value that is not finite. O(B).
struct constant_advantage {
  double value = 0.0;

  std::vector<double> operator()(std::span<const verdict> verdicts, const groups& g) const {
    require(std::isfinite(value), "constant_advantage: value is ", value);
    return detail::by_group(verdicts, g, [&](const detail::scored_group&, std::span<double> out) {
      for (double& a : out) a = value;
    });
  }
};

/// Three estimators, each for the groups of one outcome: `all_right` where every scored reward is above
/// `correct_above`, `all_wrong` where none is, `mixed` for the rest. Models advantage_estimator.
///
/// Each sees its groups alone, as a batch of their own: an estimator with statistics over the batch takes them over the
/// groups of that outcome. What is promised is what the three promise; a shift of rewards may move a group to another
/// outcome. The defaults normalise mixed groups, leave out what is solved, and rank graded failures below their best.
/// Throws what the three throw, and std::invalid_argument for a threshold that is NaN. O(B) besides the three.
///
/// Uses: all-wrong groups get virtual_reward (NGRPO), rank_based ("less wrong") or constant_advantage{-1} (NSR).
template <advantage_estimator Mixed = group_normalized, advantage_estimator AllRight = constant_advantage,
          advantage_estimator AllWrong = rank_based>
struct by_outcome {
  Mixed mixed = {};
  AllRight all_right = {};
  AllWrong all_wrong = failures();
  double correct_above = 0.5;

  std::vector<double> operator()(std::span<const verdict> verdicts, const groups& g) const {
    require(!std::isnan(correct_above), "by_outcome: correct_above is ", correct_above);
    check_verdicts(verdicts, g);
    struct part {
      std::vector<verdict> verdicts;
      rlvr::groups groups;
      std::vector<std::size_t> from;
    } parts[3];
    for (std::size_t group = 0; group < g.size(); ++group) {
      std::size_t scored = 0, right = 0;
      for (std::size_t i = g.begin(group); i < g.end(group); ++i) {
        scored += verdicts[i].scored;
        right += verdicts[i].scored && verdicts[i].reward > correct_above;
      }
      part& p = parts[right == 0 ? 2 : right == scored ? 1 : 0];
      for (std::size_t i = g.begin(group); i < g.end(group); ++i) {
        p.verdicts.push_back(verdicts[i]);
        p.from.push_back(i);
      }
      p.groups.offsets.push_back(p.verdicts.size());
    }
    std::vector<double> out(verdicts.size());
    const auto add = [&](const part& p, const std::vector<double>& advantages) {
      for (std::size_t i = 0; i < p.from.size(); ++i) out[p.from[i]] = advantages[i];
    };
    add(parts[0], mixed(parts[0].verdicts, parts[0].groups));
    add(parts[1], all_right(parts[1].verdicts, parts[1].groups));
    add(parts[2], all_wrong(parts[2].verdicts, parts[2].groups));
    return out;
  }

 private:
  static AllWrong failures() {
    if constexpr (std::is_same_v<AllWrong, rank_based>)
      return rank_based{.zero = rank_zero::best};
    else
      return AllWrong{};
  }
};

/// Another estimator's advantages, the positive ones times `positive`, the negative ones times `negative`. Models
/// advantage_estimator; promises what Base promises but for the zero sum.
///
/// positive < negative holds back what already succeeds and keeps entropy up; {0, 1} learns from failures only. Throws
/// what Base throws, and std::invalid_argument for a weight that is negative or not finite. O(B).
/// Source: W-REINFORCE (Zhu et al. 2025, arXiv 2506.01347; positive = 0.1); A-GRAE (Yu et al. 2026, arXiv 2602.05548)
/// varies the weight over training.
template <advantage_estimator Base = group_normalized>
struct sign_weighted {
  Base base = {};
  double positive = 1.0;
  double negative = 1.0;

  std::vector<double> operator()(std::span<const verdict> verdicts, const groups& g) const {
    require(positive >= 0 && std::isfinite(positive), "sign_weighted: positive is ", positive);
    require(negative >= 0 && std::isfinite(negative), "sign_weighted: negative is ", negative);
    std::vector<double> out = base(verdicts, g);
    for (double& a : out) a *= a > 0 ? positive : negative;
    detail::check_finite("sign_weighted", "advantage", out);
    return out;
  }
};

/// A_i = R_i - max(mean(R), least_correct): failures are never reinforced, however much better than the rest of their
/// group. Models advantage_estimator.
///
/// `least_correct` is the smallest reward of a right answer. While the group's mean is below it, the baseline is that
/// quality threshold, so that no promise about shifts, equal rewards or sums holds, and lone rollouts are compared with
/// it too; above, it is `centred`. Throws std::invalid_argument also for a threshold that is not finite. O(B).
/// Source: CoRPO (Garg et al. 2025, arXiv 2511.04439).
struct correctness_relative {
  double least_correct = 1.0;

  std::vector<double> operator()(std::span<const verdict> verdicts, const groups& g) const {
    require(std::isfinite(least_correct), "correctness_relative: least_correct is ", least_correct);
    return detail::by_group(verdicts, g, [&](const detail::scored_group& one, std::span<double> out) {
      const double mean = moments_of(one.rewards).mean;
      const double base = mean < least_correct ? least_correct : mean;
      for (std::size_t i = 0; i < out.size(); ++i) out[i] = one.rewards[i] - base;
    });
  }
};

}  // namespace rlvr
