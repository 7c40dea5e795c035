#pragma once
/// Rollouts until an accuracy is reached, when some runs never reach it: a run that ended without is counted with the
/// rollouts it had, never left out.

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <limits>
#include <optional>
#include <span>
#include <stdexcept>
#include <string>
#include <vector>

#include <rlvr/core/error.hpp>
#include <rlvr/diagnose/interval.hpp>

namespace report {

/// One look at held-out prompts in a run.
struct look {
  double rollouts = 0;
  double accuracy = 0;
};

/// The rollouts at which a run first has the accuracy, on the straight line between two looks; nothing when it never
/// has. Requires looks by increasing rollouts.
inline std::optional<double> first_reach(std::span<const look> run, double accuracy) {
  for (std::size_t i = 0; i < run.size(); ++i) {
    if (!(run[i].accuracy >= accuracy)) continue;
    if (i == 0) return run[0].rollouts;
    const double share = (accuracy - run[i - 1].accuracy) / (run[i].accuracy - run[i - 1].accuracy);
    return run[i - 1].rollouts + share * (run[i].rollouts - run[i - 1].rollouts);
  }
  return std::nullopt;
}

/// Whether a number is what it says, or a bound because of runs that ended before they reached the accuracy.
enum class bound { exact, at_least, at_most, unknown };

inline std::string to_string(bound b) {
  switch (b) {
    case bound::exact: return "exact";
    case bound::at_least: return "at_least";
    case bound::at_most: return "at_most";
    case bound::unknown: return "unknown";
  }
  return "";
}

/// The mean over runs of a share of right answers, and Student's 95% interval of it as far as it lies in [0, 1].
inline rlvr::interval accuracy_interval(std::span<const double> runs) {
  const rlvr::interval i = rlvr::mean_interval(runs);
  return {i.mean, std::max(i.low, 0.0), std::min(i.high, 1.0)};
}

/// The restricted mean: over runs, of min(rollouts, horizon), and Student's 95% interval of it as far as it lies in
/// [0, horizon]. As all runs that are censored end at the horizon, it is the area under the Kaplan-Meier curve. With
/// a censored run it is a lower bound of the mean; the interval is that of the restricted mean, and says nothing of how
/// far beyond the horizon the mean may be.
struct time_to_accuracy {
  double accuracy = 0;
  std::size_t runs = 0, reached = 0;
  rlvr::interval rollouts;
  bound kind = bound::exact;
};

/// times: one per run, nothing where the accuracy was not reached. Throws std::invalid_argument without runs.
inline time_to_accuracy time_to(double accuracy, std::span<const std::optional<double>> times, double horizon) {
  rlvr::require(!times.empty(), "time_to: no runs");
  time_to_accuracy out{accuracy, times.size(), 0, {}, bound::exact};
  std::vector<double> restricted;
  for (const std::optional<double>& t : times) {
    out.reached += t.has_value();
    restricted.push_back(std::min(t.value_or(horizon), horizon));
  }
  out.rollouts = rlvr::mean_interval(restricted);
  out.rollouts.low = std::max(out.rollouts.low, 0.0);
  out.rollouts.high = std::min(out.rollouts.high, horizon);
  if (out.reached < out.runs) out.kind = bound::at_least;
  return out;
}

/// How many times fewer rollouts `other` needs than `base`: exp of the mean over seeds of the difference of logarithms,
/// with Student's 95% interval of that mean; both lists in the order of the seeds. A time below one rollout, of a base
/// that has the accuracy already, counts as one. A censored time stands at the horizon, also in the interval: where
/// only base is censored the factor is a lower bound, where only other is an upper bound; where a seed has both, or
/// both kinds occur, nothing can be said of which side it errs to.
struct factor_saved {
  rlvr::interval factor;
  bound kind = bound::exact;
};

/// Throws std::invalid_argument for lists of different sizes or without runs.
inline factor_saved saved(std::span<const std::optional<double>> base, std::span<const std::optional<double>> other,
                          double horizon) {
  rlvr::require(!base.empty() && base.size() == other.size(), "saved: ", base.size(), " and ", other.size(), " runs");
  std::vector<double> logs;
  bool low = false, high = false;
  const auto restricted = [&](const std::optional<double>& t) { return std::clamp(t.value_or(horizon), 1.0, horizon); };
  for (std::size_t i = 0; i < base.size(); ++i) {
    low = low || !base[i];
    high = high || !other[i];
    logs.push_back(std::log(restricted(base[i]) / restricted(other[i])));
  }
  const rlvr::interval mean = rlvr::mean_interval(logs);
  return {{std::exp(mean.mean), std::exp(mean.low), std::exp(mean.high)},
          low && high ? bound::unknown
          : low       ? bound::at_least
          : high      ? bound::at_most
                      : bound::exact};
}

}  // namespace report
