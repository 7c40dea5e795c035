#pragma once
/// Losses on pairs, groups and whole sequences, which take one weight for all.

#include <algorithm>
#include <cmath>
#include <span>
#include <string>
#include <vector>

#include <rlvr/objective/contrastive.hpp>
#include <rlvr/objective/f_divergence.hpp>
#include <rlvr/objective/preference.hpp>

#include "objective_case.hpp"

namespace rlvr::testing {

/// f(x), x = pi / p, of a divergence of pi from p that is sum_y p(y) f(x(y)).
inline double f_of(f_divergence d, double x) {
  switch (d) {
    case f_divergence::forward_kl:
      return -std::log(x);
    case f_divergence::reverse_kl:
      return x * std::log(x);
    case f_divergence::jensen_shannon:
      return x * std::log(2 * x / (1 + x)) + std::log(2 / (1 + x));
    case f_divergence::total_variation:
      return std::fabs(x - 1) / 2;
    case f_divergence::chi2_forward:
      return (1 - x) * (1 - x) / x;
    case f_divergence::chi2_reverse:
      break;
  }
  return (x - 1) * (x - 1);
}

/// Pairs for the preference losses: a sequence in two of them, sequences in none.
inline const std::vector<preference_pair>& some_pairs() {
  static const std::vector<preference_pair> pairs{{0, 1}, {2, 3}, {0, 4}, {5, 6}, {8, 7}};
  return pairs;
}

inline void add_sequence_losses(std::vector<objective_case>& out) {
  const std::vector<branch> pairs{branch::active, branch::unpaired};
  const auto in_pairs = [](const world<double>&, std::size_t i, std::size_t) {
    for (const preference_pair& p : some_pairs())
      if (p.chosen == i || p.rejected == i) return branch::active;
    return branch::unpaired;
  };
  for (sequence_score score : {sequence_score::sum, sequence_score::mean}) {
    const std::string name = score == sequence_score::mean ? ", mean" : "";
    // l(m) summed over the pairs.
    const auto margins = [score](auto l) {
      return [score, l](const world<double>& w, const values&) -> loss_function {
        return [&w, score, l](const values& x, const values&) {
          const auto of = [&](std::size_t i) {
            const double n = score == sequence_score::mean ? std::max(w.length(i), 1.0) : 1.0;
            return sum_sequence(w, i, [&](std::size_t t) { return x[t] - w.reference_log_probs[t]; }) / n;
          };
          double sum = 0;
          for (const preference_pair& p : some_pairs()) sum += 0.2 * l(of(p.chosen) - of(p.rejected));
          return sum;
        };
      };
    };
    out.push_back(
        {"preference", "dpo" + name,
         [score](const world<double>& w, const values&, std::span<double> c, std::span<branch> codes) {
           dpo{.beta = 0.5, .smoothing = 0.1, .score = score}(w.view(), some_pairs(), 0.2, c, codes);
         },
         margins([](double m) { return 0.9 * std::log1p(std::exp(-0.5 * m)) + 0.1 * std::log1p(std::exp(0.5 * m)); }),
         pairs});
    out.back().code = in_pairs;
    out.push_back({"preference", "ipo" + name,
                   [score](const world<double>& w, const values&, std::span<double> c, std::span<branch> codes) {
                     ipo{.beta = 0.5, .score = score}(w.view(), some_pairs(), 0.2, c, codes);
                   },
                   margins([](double m) { return (m - 1) * (m - 1); }), pairs});
    out.back().code = in_pairs;
  }
  out.push_back(
      {.header = "contrastive",
       .name = "contrastive_policy_gradient",
       .run = [](const world<double>& w, const values&, std::span<double> c,
                 std::span<branch> codes) { contrastive_policy_gradient{.beta = 0.4}(w.view(), 0.25, c, codes); },
       .loss = [](const world<double>& w, const values&) -> loss_function {
         return [&w](const values& x, const values&) {
           const auto reward = [&](std::size_t i) {
             return w.advantages[i] -
                    0.4 * sum_sequence(w, i, [&](std::size_t t) { return x[t] - w.reference_log_probs[t]; });
           };
           double sum = 0;
           for (std::size_t g = 0; g + 1 < w.groups.size(); ++g)
             for (std::size_t i = w.groups[g]; i < w.groups[g + 1]; ++i)
               for (std::size_t j = i + 1; j < w.groups[g + 1]; ++j)
                 sum += 0.25 * std::pow(reward(i) - reward(j), 2) /
                        (0.8 * static_cast<double>(w.groups[g + 1] - w.groups[g] - 1));
           return sum;
         };
       },
       .taken = pairs,
       .per = advantages_per::sequence,
       .code =
           [](const world<double>& w, std::size_t i, std::size_t) {
             for (std::size_t g = 0; g + 1 < w.groups.size(); ++g)
               if (w.groups[g] == i && w.groups[g + 1] == i + 1) return branch::unpaired;
             return branch::active;
           }});
  // One sample y ~ q of D_f = E_q (p / q) f(pi / p), and of the baseline's E_q pi / q, whose gradient is 0.
  for (f_divergence d : {f_divergence::forward_kl, f_divergence::reverse_kl, f_divergence::jensen_shannon,
                         f_divergence::total_variation, f_divergence::chi2_forward, f_divergence::chi2_reverse})
    for (double limit : {infinity, 0.2}) {
      const auto target = [](const world<double>& w, std::size_t i) {
        return sum_sequence(w, i, [&](std::size_t t) { return w.reference_log_probs[t]; });
      };
      out.push_back({"f_divergence", concat("f_dpg, divergence ", static_cast<int>(d), ", limit ", limit),
                     [=](const world<double>& w, const values&, std::span<double> c, std::span<branch> codes) {
                       values targets;
                       for (std::size_t i = 0; i < w.size(); ++i) targets.push_back(target(w, i));
                       f_dpg{.divergence = d, .baseline = 0.3, .max_log_ratio = limit}(w.view(), targets, 0.2, c,
                                                                                       codes);
                     },
                     [=](const world<double>& w, const values&) -> loss_function {
                       return [=, &w](const values& x, const values& sg) {
                         double sum = 0;
                         for (std::size_t i = 0; i < w.size(); ++i) {
                           const auto of = [&](const values& v) {
                             return sum_sequence(w, i, [&](std::size_t t) { return v[t]; });
                           };
                           const double p = target(w, i), q = of(w.sampled_log_probs), now = of(x);
                           const double free = std::exp(p - q) * f_of(d, std::exp(now - p)) + 0.3 * std::exp(now - q);
                           // Where the clamp holds, the ratio in front of the rest is e^limit.
                           sum += 0.2 * free * std::exp(std::min(of(sg) - q, limit) - (of(sg) - q));
                         }
                         return sum;
                       };
                     },
                     limit < infinity ? std::vector<branch>{branch::active, branch::saturated}
                                      : std::vector<branch>{branch::active},
                     0.6});
      out.back().code = [=](const world<double>& w, std::size_t i, std::size_t) {
        const double d = sum_sequence(w, i, [&](std::size_t t) { return w.log_probs[t] - w.sampled_log_probs[t]; });
        return or_saturated(branch::active, d > limit);
      };
    }
}

}  // namespace rlvr::testing
