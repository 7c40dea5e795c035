#pragma once
/// Bundles of prompts judged by value at risk.

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <span>
#include <utility>
#include <vector>

#include <rlvr/advantage/advantage_estimator.hpp>
#include <rlvr/advantage/deviation.hpp>

namespace rlvr {

/// The quantile of sorted values at `level` in [0, 1], linear between order statistics (NumPy's and PyTorch's default).
/// Throws std::invalid_argument without values or for a level outside [0, 1]. O(1).
inline double sorted_quantile(std::span<const double> sorted, double level) {
  require(!sorted.empty(), "sorted_quantile: there are no values");
  require(level >= 0 && level <= 1, "sorted_quantile: level is ", level);
  const double place = level * static_cast<double>(sorted.size() - 1);
  const auto below = static_cast<std::size_t>(place);
  if (below + 1 >= sorted.size()) return sorted.back();
  return sorted[below] + (place - static_cast<double>(below)) * (sorted[below + 1] - sorted[below]);
}

/// Quantiles followed from batch to batch: q <- q + rate (level - share of scores below q); the first batch sets them
/// to its own. A value: copying it saves it. Source: RTkenny/RiskPO (rate 0.1).
struct tracked_quantiles {
  std::vector<double> levels;  ///< in [0, 1]
  double rate = 0.1;
  std::vector<double> values = {};  ///< empty before the first batch

  /// Takes the scores of one batch; no scores change nothing. Throws std::invalid_argument for a score, a level or a
  /// rate that is out of range, values that do not fit the levels, and a quantile that overflows, with nothing changed.
  /// O(n log n).
  void observe(std::span<const double> scores) {
    require(rate > 0 && std::isfinite(rate), "tracked_quantiles: rate is ", rate);
    for (std::size_t i = 0; i < levels.size(); ++i)
      require(levels[i] >= 0 && levels[i] <= 1, "tracked_quantiles: level ", i, " is ", levels[i]);
    require(values.empty() || values.size() == levels.size(), "tracked_quantiles: ", values.size(), " values for ",
            levels.size(), " levels");
    for (std::size_t i = 0; i < scores.size(); ++i)
      require(std::isfinite(scores[i]), "tracked_quantiles: score ", i, " is ", scores[i]);
    if (scores.empty()) return;
    std::vector<double> sorted(scores.begin(), scores.end());
    std::sort(sorted.begin(), sorted.end());
    std::vector<double> next(levels.size());
    for (std::size_t i = 0; i < levels.size(); ++i) {
      if (values.empty()) {
        next[i] = sorted_quantile(sorted, levels[i]);
      } else {
        const auto below = std::lower_bound(sorted.begin(), sorted.end(), values[i]) - sorted.begin();
        next[i] = values[i] + rate * (levels[i] - static_cast<double>(below) / static_cast<double>(sorted.size()));
      }
      require(std::isfinite(next[i]), "tracked_quantiles: quantile ", i, " is ", next[i], ", not a finite number");
    }
    values = std::move(next);
  }
};

/// How a bundle's advantage is shared among its rollouts:
enum class bundle_credit {
  uniform,       ///< each gets it whole
  by_reward,     ///< half of it with a reward above 0, one and a half of it otherwise
  by_deviation,  ///< over the deviation of its prompt's rewards (1 when that is at most 1e-3)
  by_excess      ///< in proportion to its reward minus its prompt's mean; equal shares when those sum to nearly
                 ///< 0, and shares of either sign and any size when they almost do
};

/// Whether the middle part of the advantage has q_low - q_high added, which makes it at most 0.
enum class risk_baseline { none, range };

/// A_S = (w CVaR(S) + RVaR(S)) / (w + 1) for the total reward S of a bundle of rollouts, one of each of its prompts:
///
///     RVaR(S) = [(S - q_low)+ - (S - q_high)+ (+ q_low - q_high)] / (high - low + epsilon)
///     CVaR(S) = -(q_low - S)+ / (low + epsilon)
///
/// q_low and q_high the quantiles of such totals at levels low and high: tracked ones, or else those of the bundle's
/// own totals. Failures of the hard tail weigh w times; totals above q_high gain nothing more.
struct risk_options {
  double low = 0.2, high = 0.8;  ///< 0 < low < high < 1
  double tail_weight = 1.5;      ///< w >= 0
  risk_baseline baseline = risk_baseline::none;
  bundle_credit credit = bundle_credit::by_excess;
  scaling scaled = scaling::none;  ///< by the deviation of the bundle's totals (+ epsilon; one total has deviation 1)
  double epsilon = 1e-6;           ///< > 0
};

struct risk_advantages_result {
  std::vector<double> advantages;  ///< [B]
  std::vector<double> totals;      ///< of all bundles, in order: what tracked_quantiles observes next
};

/// The advantages of one batch, [B]. `bundles` holds groups as groups hold rollouts: bundle b is the groups
/// [bundles.offsets[b], bundles.offsets[b+1]), five in the original. Its j-th total adds the j-th scored rollout of
/// each of its groups; there are as many totals as its smallest group has scored rollouts, and rollouts beyond get 0,
/// as do unscored ones. `tracked` is {q_low, q_high}, the values of tracked_quantiles with the levels {low, high}, or
/// empty for the bundle's own.
///
/// Equal rewards do not give zeros, and what a rollout gets depends on which rollouts share its place. Throws
/// std::invalid_argument for groups or bundles that do not fit, options out of range, tracked quantiles that are not
/// two or not finite, and a scored reward that is not finite or a total or advantage that overflows, naming its index.
/// O(B log B).
/// Source: RiskPO (Ren et al. 2025, arXiv 2510.00911), RTkenny/RiskPO
/// compute_grpo_bundle_rvar_outcome_advantage_quantile_tracking with the values of its training scripts (its code
/// defaults to risk_baseline::range and bundle_credit::uniform).
inline risk_advantages_result risk_advantages(std::span<const verdict> verdicts, const groups& g, const groups& bundles,
                                              std::span<const double> tracked = {}, const risk_options& o = {}) {
  check_verdicts(verdicts, g);
  require(o.low > 0 && o.low < o.high && o.high < 1, "risk_advantages: levels ", o.low, " and ", o.high);
  require(o.tail_weight >= 0 && std::isfinite(o.tail_weight), "risk_advantages: tail_weight is ", o.tail_weight);
  require(o.epsilon > 0 && std::isfinite(o.epsilon), "risk_advantages: epsilon is ", o.epsilon);
  require(tracked.empty() || tracked.size() == 2, "risk_advantages: ", tracked.size(),
          " tracked quantiles, expected 2");
  for (std::size_t q = 0; q < tracked.size(); ++q)
    require(std::isfinite(tracked[q]), "risk_advantages: tracked quantile ", q, " is ", tracked[q]);
  require(!bundles.offsets.empty(), "risk_advantages: the offsets of bundles are empty");
  require(bundles.offsets.front() == 0, "risk_advantages: bundles begin at ", bundles.offsets.front(), ", expected 0");
  for (std::size_t b = 0; b < bundles.size(); ++b)
    require(bundles.begin(b) < bundles.end(b), "risk_advantages: bundle ", b, " is [", bundles.begin(b), ", ",
            bundles.end(b), "), which is empty");
  require(bundles.total() == g.size(), "risk_advantages: bundles of ", bundles.total(), " groups for ", g.size());

  risk_advantages_result out{std::vector<double>(verdicts.size()), {}};
  std::vector<std::vector<std::size_t>> scored;  // of each group of the bundle
  std::vector<moments> of_group;
  for (std::size_t b = 0; b < bundles.size(); ++b) {
    scored.assign(bundles.size(b), {});
    of_group.assign(bundles.size(b), {});
    std::size_t papers = verdicts.size();
    for (std::size_t k = 0; k < bundles.size(b); ++k) {
      std::vector<double> rewards;
      for (std::size_t i = g.begin(bundles.begin(b) + k); i < g.end(bundles.begin(b) + k); ++i)
        if (verdicts[i].scored) {
          scored[k].push_back(i);
          rewards.push_back(verdicts[i].reward);
        }
      of_group[k] = moments_of(rewards);
      papers = std::min(papers, rewards.size());
    }
    if (papers == 0) continue;
    std::vector<double> totals(papers);
    for (std::size_t j = 0; j < papers; ++j)
      for (const std::vector<std::size_t>& rollouts : scored) totals[j] += verdicts[rollouts[j]].reward;
    out.totals.insert(out.totals.end(), totals.begin(), totals.end());

    std::vector<double> sorted = totals;
    std::sort(sorted.begin(), sorted.end());
    const double low = !tracked.empty() ? tracked[0] : sorted_quantile(sorted, o.low);
    const double high = !tracked.empty() ? tracked[1] : sorted_quantile(sorted, o.high);
    const bool divide = o.scaled == scaling::deviation;
    const deviation d{.epsilon = o.epsilon};
    const double factor = !divide ? 1.0 : papers == 1 ? d.factor(1.0) : d.factor(moments_of(totals));
    for (std::size_t j = 0; j < papers; ++j) {
      double middle = std::max(totals[j] - low, 0.0) - std::max(totals[j] - high, 0.0);
      if (o.baseline == risk_baseline::range) middle += low - high;
      const double tail = -std::max(low - totals[j], 0.0) / (o.low + o.epsilon);
      const double whole =
          factor * (o.tail_weight * tail + middle / (o.high - o.low + o.epsilon)) / (o.tail_weight + 1);
      double excess = 0;
      for (std::size_t k = 0; k < scored.size(); ++k) excess += verdicts[scored[k][j]].reward - of_group[k].mean;
      for (std::size_t k = 0; k < scored.size(); ++k) {
        const double reward = verdicts[scored[k][j]].reward, spread = of_group[k].deviation();
        double share = 1;
        if (o.credit == bundle_credit::by_reward) share = reward > 0 ? 0.5 : 1.5;
        if (o.credit == bundle_credit::by_deviation) share = 1 / ((spread > 1e-3 ? spread : 1.0) + o.epsilon);
        if (o.credit == bundle_credit::by_excess)
          share =
              std::fabs(excess) > 1e-6 ? (reward - of_group[k].mean) / excess : 1 / static_cast<double>(scored.size());
        out.advantages[scored[k][j]] = whole * share;
      }
    }
  }
  detail::check_finite("risk_advantages", "total", out.totals);
  detail::check_finite("risk_advantages", "advantage", out.advantages);
  return out;
}

}  // namespace rlvr
