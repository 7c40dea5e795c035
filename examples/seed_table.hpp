#pragma once
/// What several seeds of one experiment reached, against the rollouts it took.

#include <cstddef>
#include <cstdio>
#include <map>
#include <vector>

#include <rlvr/diagnose/interval.hpp>

class seed_table {
 public:
  /// Seeds are added one after the other.
  void add(std::size_t rollouts, double value) { rows_[rollouts].push_back(value); }

  /// A Markdown table: every seed's value, and their mean with the 95% interval of Student's t over seeds.
  void print() const {
    const std::size_t seeds = rows_.empty() ? 0 : rows_.begin()->second.size();
    std::printf("| rollouts | each of %zu seeds | mean [95%% interval over seeds] |\n|---|---|---|\n", seeds);
    for (const auto& [rollouts, values] : rows_) {
      std::printf("| %zu |", rollouts);
      for (const double v : values) std::printf(" %.3f", v);
      const rlvr::interval mean = rlvr::mean_interval(values);  // of one seed: infinitely wide
      std::printf(" | %.3f [%.3f, %.3f] |\n", mean.mean, mean.low, mean.high);
    }
  }

 private:
  std::map<std::size_t, std::vector<double>> rows_;
};
