#pragma once
/// Losses with the ratio of a whole sequence.

#include <algorithm>
#include <cmath>
#include <span>
#include <string>
#include <vector>

#include <rlvr/objective/cispo.hpp>
#include <rlvr/objective/dro.hpp>
#include <rlvr/objective/gmpo.hpp>
#include <rlvr/objective/gspo.hpp>
#include <rlvr/objective/ppo_clip.hpp>
#include <rlvr/objective/sequence_level.hpp>
#include <rlvr/objective/topr.hpp>
#include <rlvr/objective/vespo.hpp>

#include "objective_case.hpp"

namespace rlvr::testing {

inline void add_sequence_ratios(std::vector<objective_case>& out) {
  for (sequence_ratio ratio : {sequence_ratio::geometric_mean, sequence_ratio::product})
    for (double limit : {0.3, infinity})
      for (gspo_form form : {gspo_form::sequence, gspo_form::token}) {
        const bool mean = ratio == sequence_ratio::geometric_mean, own = form == gspo_form::token;
        const gspo o{.low = 0.15, .high = 0.2, .form = form, .ratio = ratio, .log_ratio_limit = limit};
        out.push_back(
            {"gspo", concat("gspo, ", own ? "token" : "sequence", mean ? ", mean" : ", product", ", limit ", limit),
             run_of(o),
             sequence_loss([=](const world<double>& w, std::size_t i, const values& x, const values& frozen) {
               const double n = w.length(i), count = mean ? n : 1.0;
               const auto log_s = [&](const values& y) {
                 return sum_sequence(w, i, [&](std::size_t t) { return y[t] - w.old_log_probs[t]; }) / count;
               };
               // Through the product, the n tokens' losses would each move with every token: a sequence counts once.
               const double share = !own && !mean ? 1 / n : 1.0;
               return sum_sequence(w, i, [&](std::size_t t) {
                 const double s = std::exp(std::min(own ? log_s(frozen) + (x[t] - frozen[t]) : log_s(x), limit));
                 return -share * clipped_surrogate(s, w.advantage(i, t), 0.15, 0.2);
               });
             }),
             limit < infinity ? with(clipped, branch::saturated) : clipped, 0.6});
        out.back().code = [=](const world<double>& w, std::size_t i, std::size_t t) {
          const double d = sum_sequence(w, i, [&](std::size_t u) { return moved(w, u); }) / (mean ? w.length(i) : 1.0);
          return or_saturated(clipped_side(std::exp(d), w.advantage(i, t), 0.15, 0.2), d > limit);
        };
      }
  // Any objective at the mean log-ratio: each token moves its own loss only.
  const auto at_mean = [](auto token) {
    return sequence_loss([token](const world<double>& w, std::size_t i, const values& x, const values& sg) {
      const double mean =
          sum_sequence(w, i, [&](std::size_t t) { return sg[t] - w.old_log_probs[t]; }) / std::max(w.length(i), 1.0);
      return sum_sequence(w, i, [&](std::size_t t) { return token(w.advantage(i, t), mean + x[t] - sg[t], mean); });
    });
  };
  out.push_back({"sequence_level", "sequence_level<ppo_clip>",
                 run_of(sequence_level<ppo_clip>{{.low = 0.1, .high = 0.15, .dual = 1.5}}),
                 at_mean([](double a, double d, double) {
                   const double surrogate = clipped_surrogate(std::exp(d), a, 0.1, 0.15);
                   return -(a < 0 ? std::max(surrogate, 1.5 * a) : surrogate);
                 }),
                 with(clipped, branch::dual)});
  const auto mean_ratio = [](const world<double>& w, std::size_t i) {
    return std::exp(sum_sequence(w, i, [&](std::size_t t) { return moved(w, t); }) / w.length(i));
  };
  out.back().code = [=](const world<double>& w, std::size_t i, std::size_t t) {
    return clipped_side(mean_ratio(w, i), w.advantage(i, t), 0.1, 0.15, 1.5);
  };
  out.push_back({"sequence_level", "sequence_level<cispo>", run_of(sequence_level<cispo>{{.min = 0.8, .max = 1.2}}),
                 at_mean([](double a, double d, double sg) { return -std::clamp(std::exp(sg), 0.8, 1.2) * a * d; }),
                 clipped});
  out.back().code = [=](const world<double>& w, std::size_t i, std::size_t) {
    return outside(mean_ratio(w, i), 0.8, 1.2);
  };
  for (double epsilon : {0.0, 0.1}) {
    out.push_back({"gmpo", concat("gmpo, epsilon ", epsilon), run_of(gmpo{.low = 0.3, .epsilon = epsilon}),
                   sequence_loss([=](const world<double>& w, std::size_t i, const values& x, const values&) {
                     const double length = w.length(i), n = length + epsilon;
                     if (length == 0) return 0.0;
                     const double z = sum_sequence(w, i, [&](std::size_t t) {
                       const double a = w.advantage(i, t), sign = static_cast<double>((a > 0) - (a < 0));
                       const double d = x[t] - w.old_log_probs[t];
                       return sign * std::min(sign * d, sign * std::clamp(d, -0.3, 0.4));
                     });
                     const double a = sum_sequence(w, i, [&](std::size_t t) { return w.advantage(i, t); }) / n;
                     return -length * a * std::exp(z / n);  // weights divide by the length
                   }),
                   clipped});
    out.back().code = [](const world<double>& w, std::size_t i, std::size_t t) {
      const double a = w.advantage(i, t), d = moved(w, t);
      return a > 0 && d > 0.4 ? branch::clipped_high : a < 0 && d < -0.3 ? branch::clipped_low : branch::active;
    };
  }
  for (importance_level level : {importance_level::token, importance_level::sequence}) {
    out.push_back({"topr", level == importance_level::token ? "topr, token" : "topr",
                   run_of(topr{.min = 0.3, .level = level}),
                   sequence_loss([=](const world<double>& w, std::size_t i, const values& x, const values& sg) {
                     const double sum = sum_sequence(w, i, [&](std::size_t t) { return sg[t] - w.old_log_probs[t]; });
                     return sum_sequence(w, i, [&](std::size_t t) {
                       const double a = w.advantage(i, t);
                       const double d = level == importance_level::token ? sg[t] - w.old_log_probs[t] : sum;
                       return -(a >= 0 ? 1.0 : std::clamp(std::exp(d), 0.3, 1.0)) * a * x[t];
                     });
                   }),
                   clipped});
    out.back().code = [=](const world<double>& w, std::size_t i, std::size_t t) {
      const double sum = sum_sequence(w, i, [&](std::size_t u) { return moved(w, u); });
      const double ratio = std::exp(level == importance_level::token ? moved(w, t) : sum);
      return w.advantage(i, t) < 0 ? outside(ratio, 0.3, 1) : branch::active;
    };
  }
  for (bool shifted : {false, true}) {
    const auto shift = [=](std::size_t i) { return shifted ? 0.1 * static_cast<double>(i % 7) - 0.3 : 0.0; };
    out.push_back(
        {.header = "vespo",
         .name = shifted ? "vespo, shifts" : "vespo",
         .run =
             [=](const world<double>& w, const values& weights, std::span<double> c, std::span<branch> codes) {
               values shifts;
               for (std::size_t i = 0; i < w.size(); ++i) shifts.push_back(shift(i));
               vespo{}(w.view(), weights, c, codes, shifted ? shifts : values{});
             },
         .loss = sequence_loss([=](const world<double>& w, std::size_t i, const values& x, const values& sg) {
           const double sum = shift(i) + sum_sequence(w, i, [&](std::size_t t) {
                                return std::clamp(sg[t] - w.old_log_probs[t], -20.0, 20.0);
                              });
           const double log_w = std::clamp(sum, std::log(1e-8), 20.0);
           return sum_sequence(w, i, [&](std::size_t t) {
             const double a = w.advantage(i, t), k = a >= 0 ? 2 : 3, lambda = a >= 0 ? 3 : 2;
             return -std::exp(lambda + k * log_w - lambda * std::exp(log_w)) * a * x[t];
           });
         }),
         .taken = {branch::active, branch::saturated},
         // Beyond the clamps: tokens of 25 in one sequence, of -24.5 in another, of both in a third.
         .prepare =
             [](world<double>& w) {
               for (std::size_t i = 0; i < w.size(); ++i)
                 for (std::size_t t = w.offsets[i]; t < w.offsets[i + 1]; ++t)
                   if (w.active(t) && i % 6 < 3)
                     w.old_log_probs[t] = w.log_probs[t] + (i % 6 == 0 || (i % 6 == 2 && t % 2 == 0) ? 25 : -24.5);
             }});
    out.back().code = [=](const world<double>& w, std::size_t i, std::size_t) {
      const double sum =
          shift(i) + sum_sequence(w, i, [&](std::size_t t) { return std::clamp(moved(w, t), -20.0, 20.0); });
      return or_saturated(branch::active, sum > 20 || sum < std::log(1e-8));
    };
  }
  for (importance_level level : {importance_level::token, importance_level::sequence})
    out.push_back({"dro", level == importance_level::token ? "dro" : "dro, sequence",
                   run_of(dro{.beta = 0.3, .level = level}),
                   sequence_loss([=](const world<double>& w, std::size_t i, const values& x, const values&) {
                     const auto d = [&](std::size_t t) { return x[t] - w.old_log_probs[t]; };
                     const double sum = sum_sequence(w, i, d);
                     const double squares = sum_sequence(w, i, [&](std::size_t t) { return d(t) * d(t); });
                     return sum_sequence(w, i, [&](std::size_t t) { return -w.advantage(i, t) * x[t]; }) +
                            0.15 * (level == importance_level::token ? squares : sum * sum);
                   })});
  // Kimi's form of the same: (1 / 2 beta) (A - beta sum D)^2.
  out.push_back({.header = "dro",
                 .name = "dro, Kimi",
                 .run = run_of(dro{.beta = 0.3, .level = importance_level::sequence}),
                 .loss = sequence_loss([](const world<double>& w, std::size_t i, const values& x, const values&) {
                   const double d = sum_sequence(w, i, [&](std::size_t t) { return x[t] - w.old_log_probs[t]; });
                   return std::pow(w.advantages[i] - 0.3 * d, 2) / (2 * 0.3);
                 }),
                 .per = advantages_per::sequence});
}

}  // namespace rlvr::testing
