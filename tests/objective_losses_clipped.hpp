#pragma once
/// The plain policy gradient, and losses that clip the ratio of a token.

#include <algorithm>
#include <cmath>
#include <span>
#include <string>
#include <vector>

#include <rlvr/objective/covariance.hpp>
#include <rlvr/objective/policy_gradient.hpp>
#include <rlvr/objective/ppo_clip.hpp>
#include <rlvr/objective/ratio_normalized_clip.hpp>
#include <rlvr/objective/reinforce.hpp>
#include <rlvr/objective/supervised.hpp>
#include <rlvr/objective/unified.hpp>

#include "objective_case.hpp"

namespace rlvr::testing {

/// cov_t over the batch, by definition.
inline values covariances(const world<double>& w, const values& log_probs) {
  double n = 0, a = 0, l = 0;
  for (std::size_t i = 0; i < w.size(); ++i)
    for (std::size_t t = w.offsets[i]; t < w.offsets[i + 1]; ++t)
      if (w.active(t)) n += 1, a += w.advantage(i, t), l += log_probs[t];
  values cov(w.tokens());
  for (std::size_t i = 0; i < w.size(); ++i)
    for (std::size_t t = w.offsets[i]; t < w.offsets[i + 1]; ++t)
      if (w.active(t)) cov[t] = (w.advantage(i, t) - a / n) * (log_probs[t] - l / n);
  return cov;
}

inline void add_clipped(std::vector<objective_case>& out) {
  const auto plain = [](const auto&, double a, std::size_t, double x, double) { return -a * x; };
  out.push_back({"policy_gradient", "policy_gradient", run_of(policy_gradient{}), token_loss(plain)});
  out.push_back({.header = "reinforce",
                 .name = "reinforce_coefficients",
                 .run =
                     [](const world<double>& w, const values&, std::span<double> c, std::span<branch> codes) {
                       rollouts r;
                       r.offsets = w.offsets;
                       r.tokens.resize(w.tokens());
                       r.prompts.resize(w.size());
                       const values own = reinforce_coefficients(r, w.advantages, 0.25);
                       std::copy(own.begin(), own.end(), c.begin());
                       std::fill(codes.begin(), codes.end(), branch::active);
                     },
                 .loss = [](const world<double>& w, const values&) -> loss_function {
                   return [&w](const values& x, const values&) {
                     return 0.25 *
                            sum_tokens(w, {}, [&](std::size_t i, std::size_t t) { return -w.advantages[i] * x[t]; });
                   };
                 },
                 .per = advantages_per::sequence,
                 .mask = masks::none});
  out.push_back({.header = "supervised",
                 .name = "imitated",
                 .run =
                     [](const world<double>& w, const values& weights, std::span<double> c, std::span<branch> codes) {
                       std::vector<verdict> verdicts;
                       for (double a : w.advantages) verdicts.push_back({a > 0.5 ? 1.0 : 0.0});
                       const values a = imitated(verdicts);
                       token_batch<double> b = w.view();
                       b.advantages = a;
                       policy_gradient{}(b, weights, c, codes);
                     },
                 .loss = token_loss([](const auto&, double a, std::size_t, double x, double) {
                   return a > 0.5 ? -x : 0.0;  // minus the log-likelihood of what is right
                 }),
                 .per = advantages_per::sequence});
  const auto ppo = [](double low, double high, double dual, double limit) {
    return token_loss([=](const world<double>& w, double a, std::size_t t, double x, double) {
      const double r = std::exp(std::clamp(x - w.old_log_probs[t], -limit, limit));
      const double surrogate = clipped_surrogate(r, a, low, high);
      return -(a < 0 ? std::max(surrogate, dual * a) : surrogate);
    });
  };
  out.push_back({"ppo_clip", "ppo_clip", run_of(ppo_clip{.high = 0.28, .log_ratio_limit = 1.3}),
                 ppo(0.2, 0.28, 1e300, 1.3), with(clipped, branch::saturated)});
  out.back().code = [](const world<double>& w, std::size_t i, std::size_t t) {
    const double d = moved(w, t);
    return or_saturated(clipped_side(std::exp(d), w.advantage(i, t), 0.2, 0.28), std::fabs(d) > 1.3);
  };
  const ppo_clip dual{.high = 0.28, .dual = 3, .log_ratio_limit = infinity};
  const auto dual_side = [](const world<double>& w, std::size_t i, std::size_t t) {
    return clipped_side(std::exp(moved(w, t)), w.advantage(i, t), 0.2, 0.28, 3);
  };
  out.push_back({"ppo_clip", "ppo_clip, dual", run_of(dual), ppo(0.2, 0.28, 3, infinity), with(clipped, branch::dual)});
  out.back().code = dual_side;
  // TRL's delta: min(min(r, delta) A, clamp(r) A) has the same gradient for delta above the clip range.
  out.push_back({"ppo_clip", "ppo_clip, delta", run_of(dual),
                 token_loss([](const world<double>& w, double a, std::size_t t, double x, double) {
                   const double r = std::exp(x - w.old_log_probs[t]);
                   return -std::min(std::min(r, 3.0) * a, std::clamp(r, 0.8, 1.28) * a);
                 }),
                 with(clipped, branch::dual)});
  out.back().code = dual_side;
  out.push_back({"ratio_normalized_clip", "ratio_normalized_clip",
                 run_of(ratio_normalized_clip{.low = 0.1, .high = 0.2, .scale = 0.5, .step = 0.25}),
                 token_loss([](const world<double>& w, double a, std::size_t t, double x, double) {
                   return -clipped_surrogate(std::exp(0.5 * (x - w.old_log_probs[t])), a, 0.1, 0.2) / 0.25;
                 }),
                 clipped});
  out.back().code = [](const world<double>& w, std::size_t i, std::size_t t) {
    return clipped_side(std::exp(0.5 * moved(w, t)), w.advantage(i, t), 0.1, 0.2);
  };
  // The unified estimator: -1_stable A pi / sg(pi_ref).
  for (reference_policy over :
       {reference_policy::current, reference_policy::old, reference_policy::sampled, reference_policy::one}) {
    std::vector<branch> taken = clipped;
    if (over == reference_policy::current) taken = {branch::active};                   // the ratio is 1
    if (over == reference_policy::one) taken = {branch::active, branch::clipped_low};  // never above 1
    const auto base = [=](const world<double>& w, std::size_t t) {
      return over == reference_policy::current   ? w.log_probs[t]
             : over == reference_policy::old     ? w.old_log_probs[t]
             : over == reference_policy::sampled ? w.sampled_log_probs[t]
                                                 : 0.0;
    };
    out.push_back({"unified", concat("unified_gradient, reference ", static_cast<int>(over)),
                   run_of(unified_gradient{.over = over, .low = 0.2, .high = 0.3}),
                   token_loss([=](const world<double>& w, double a, std::size_t t, double x, double sg) {
                     const double below = base(w, t);
                     const double at = std::exp(sg - below);
                     const bool stable = !(a > 0 && at > 1.3) && !(a < 0 && at < 0.8);
                     return stable ? -a * std::exp(x - below) : 0.0;
                   }),
                   taken});
    out.back().code = [=](const world<double>& w, std::size_t i, std::size_t t) {
      return clipped_side(std::exp(w.log_probs[t] - base(w, t)), w.advantage(i, t), 0.2, 0.3);
    };
  }
  out.push_back({"unified", "shaped_imitation", run_of(shaped_imitation{}),
                 token_loss([](const auto&, double a, std::size_t, double x, double) {
                   return -a * std::exp(x) / (std::exp(x) + 0.1);
                 })});
}

inline void add_covariances(std::vector<objective_case>& out) {
  // Which candidates are drawn is tested elsewhere; they are out of the loss.
  const clip_cov drawn{.key = random_key(7), .share = 0.1, .low_covariance = 0.1, .high_covariance = 2};
  out.push_back({"covariance", "clip_cov", run_of(drawn),
                 [drawn](const world<double>& w, const values& weights) -> loss_function {
                   values c(w.tokens());
                   std::vector<branch> codes(w.tokens());
                   drawn(w.view(), weights, std::span<double>(c), codes);
                   return [&w, weights, codes](const values& x, const values&) {
                     return sum_tokens(w, weights, [&](std::size_t i, std::size_t t) {
                       const double r = std::exp(x[t] - w.old_log_probs[t]);
                       return codes[t] == branch::rejected ? 0.0 : -clipped_surrogate(r, w.advantage(i, t), 0.2, 0.2);
                     });
                   };
                 },
                 with(clipped, branch::rejected)});
  const double share = 0.15, coefficient = 0.7;
  // The share-th largest covariance.
  const auto least_penalised = [=](const world<double>& w, const values& cov) {
    values sorted;
    for (std::size_t t = 0; t < w.tokens(); ++t)
      if (w.active(t)) sorted.push_back(cov[t]);
    std::sort(sorted.rbegin(), sorted.rend());
    return sorted[std::max<std::size_t>(1, static_cast<std::size_t>(share * static_cast<double>(sorted.size()))) - 1];
  };
  out.push_back({"covariance",
                 "kl_cov",
                 run_of(kl_cov{.share = share, .coefficient = coefficient}),
                 [=](const world<double>& w, const values& weights) -> loss_function {
                   const values cov = covariances(w, w.log_probs);
                   const double least = least_penalised(w, cov);
                   return [=, &w](const values& x, const values&) {
                     return sum_tokens(w, weights, [&](std::size_t i, std::size_t t) {
                       const double d = x[t] - w.old_log_probs[t];
                       return -w.advantage(i, t) * std::exp(d) + (cov[t] >= least ? coefficient * std::fabs(d) : 0.0);
                     });
                   };
                 },
                 {branch::active, branch::penalised}});
  out.back().code = [=](const world<double>& w, std::size_t, std::size_t t) {
    const values cov = covariances(w, w.log_probs);
    return cov[t] >= least_penalised(w, cov) ? branch::penalised : branch::active;
  };
}

}  // namespace rlvr::testing
