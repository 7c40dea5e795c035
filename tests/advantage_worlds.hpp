#pragma once
/// What the tests of advantages share.

#include <cstddef>
#include <limits>
#include <span>
#include <string>
#include <vector>

#include <rlvr/core/random.hpp>
#include <rlvr/core/rollouts.hpp>

#include "catch.hpp"

namespace advantage_worlds {

inline constexpr double not_a_number = std::numeric_limits<double>::quiet_NaN();
inline constexpr double infinity = std::numeric_limits<double>::infinity();

inline std::vector<rlvr::verdict> verdicts_of(const std::vector<double>& rewards) {
  std::vector<rlvr::verdict> out;
  for (double r : rewards) out.push_back({r, true});
  return out;
}

inline rlvr::groups groups_with(const std::vector<std::size_t>& sizes) {
  rlvr::groups g;
  for (std::size_t n : sizes) g.offsets.push_back(g.total() + n);
  return g;
}

/// Equal but for the rounding of a few operations; epsilons of 1e-6 are far from that.
inline Approx near(double x) {
  return Approx(x).epsilon(1e-11);
}

template <class A>
std::vector<double> one_group(const A& a, const std::vector<double>& rewards) {
  return a(verdicts_of(rewards), groups_with({rewards.size()}));
}

/// Groups of 1 to 9 rollouts, rewards of few values (ties) or many in [0, 1], some rollouts unscored with rewards that
/// would show.
struct world {
  std::vector<rlvr::verdict> verdicts;
  rlvr::groups groups;
  std::vector<std::size_t> token_counts;

  explicit world(std::uint64_t seed, std::size_t group_count = 7) {
    const rlvr::random_key key = rlvr::random_key(seed).fold(77);
    for (std::size_t g = 0; g < group_count; ++g) {
      const std::size_t size = 1 + key.below(9, 2 * g);
      for (std::size_t i = 0; i < size; ++i) {
        const std::size_t at = 1000 * g + i;
        const double u = key.uniform(at, 1);
        const bool scored = key.uniform(at, 2) < 0.85;
        const double reward = g % 3 == 0 ? (u < 0.4 ? 1.0 : 0.0) : g % 3 == 1 ? u : (u < 0.5 ? 0.25 : 0.75);
        verdicts.push_back({scored ? reward : (i % 2 ? not_a_number : 1e6), scored});
        token_counts.push_back(key.below(6, 100000 + at));
      }
      groups.offsets.push_back(verdicts.size());
    }
  }

  /// The scored rewards of a group.
  std::vector<double> rewards(std::size_t group) const {
    std::vector<double> out;
    for (std::size_t i = groups.begin(group); i < groups.end(group); ++i)
      if (verdicts[i].scored) out.push_back(verdicts[i].reward);
    return out;
  }
};

inline double mean(const std::vector<double>& x) {
  long double sum = 0;
  for (double v : x) sum += v;
  return static_cast<double>(sum / static_cast<long double>(x.size()));
}

/// Variance over n - ddof, 0 when there are no more than ddof values.
inline double variance(const std::vector<double>& x, std::size_t ddof = 1) {
  if (x.size() <= ddof) return 0;
  const long double m = mean(x);
  long double sum = 0;
  for (double v : x) sum += (v - m) * (v - m);
  return static_cast<double>(sum / static_cast<long double>(x.size() - ddof));
}

inline std::vector<double> without(std::vector<double> x, std::size_t i) {
  x.erase(x.begin() + static_cast<std::ptrdiff_t>(i));
  return x;
}

inline std::string joined(const std::vector<std::string>& broken) {
  std::string out;
  for (const std::string& law : broken) out += law + "\n";
  return out;
}

}  // namespace advantage_worlds
