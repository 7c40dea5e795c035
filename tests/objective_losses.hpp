#pragma once
/// Every objective with its loss, written out by hand with its stop-gradients: what coefficients are checked against,
/// on random numbers and through policies.

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include <rlvr/objective/cispo.hpp>
#include <rlvr/objective/contrastive.hpp>
#include <rlvr/objective/covariance.hpp>
#include <rlvr/objective/dppo.hpp>
#include <rlvr/objective/dro.hpp>
#include <rlvr/objective/entropy_bonus.hpp>
#include <rlvr/objective/f_divergence.hpp>
#include <rlvr/objective/gmpo.hpp>
#include <rlvr/objective/gspo.hpp>
#include <rlvr/objective/high_entropy.hpp>
#include <rlvr/objective/importance.hpp>
#include <rlvr/objective/kl_penalty.hpp>
#include <rlvr/objective/mini_rl.hpp>
#include <rlvr/objective/normalized_importance.hpp>
#include <rlvr/objective/policy_gradient.hpp>
#include <rlvr/objective/ppo_clip.hpp>
#include <rlvr/objective/preference.hpp>
#include <rlvr/objective/ratio_normalized_clip.hpp>
#include <rlvr/objective/reinforce.hpp>
#include <rlvr/objective/rejection.hpp>
#include <rlvr/objective/sapo.hpp>
#include <rlvr/objective/sequence_level.hpp>
#include <rlvr/objective/supervised.hpp>
#include <rlvr/objective/topr.hpp>
#include <rlvr/objective/unified.hpp>
#include <rlvr/objective/vespo.hpp>

#include "objective_world.hpp"

namespace rlvr::testing {

using values = std::vector<double>;
inline constexpr double infinity = std::numeric_limits<double>::infinity();

/// An objective and its loss.
struct objective_case {
  std::string header;  ///< in include/rlvr/objective/
  std::string name;
  /// Coefficients and branches of a world with [B] weights.
  std::function<void(const world<double>&, const values& weights, std::span<double>, std::span<branch>)> run;
  /// The loss of that world.
  std::function<loss_function(const world<double>&, const values& weights)> loss;
  /// Branches that must come up in random worlds, and no others.
  std::vector<branch> taken = {branch::active};
  double spread = 1.6;                                         ///< of log-ratios
  std::optional<advantages_per> per = {};                      ///< empty: both
  std::optional<masks> mask = {};                              ///< empty: both
  std::function<void(world<double>&)> prepare = [](auto&) {};  ///< what random worlds do not have
  /// The branch of an active token by the docstring; not needed where only one is taken.
  std::function<branch(const world<double>&, std::size_t i, std::size_t t)> code = {};
};

/// Sum over the active tokens of a sequence.
template <class F>
double sum_sequence(const world<double>& w, std::size_t i, F f) {
  double sum = 0;
  for (std::size_t t = w.offsets[i]; t < w.offsets[i + 1]; ++t) sum += w.active(t) ? f(t) : 0.0;
  return sum;
}

/// The loss sum_i w_i sum_t l(world, A, t, x_t, frozen_t) of a per-token l.
template <class Token>
auto token_loss(Token token) {
  return [token](const world<double>& w, const values& weights) -> loss_function {
    return [&w, weights, token](const values& x, const values& frozen) {
      return sum_tokens(w, weights,
                        [&](std::size_t i, std::size_t t) { return token(w, w.advantage(i, t), t, x[t], frozen[t]); });
    };
  };
}

/// The loss sum_i w_i l(world, i, x, frozen) of an l per sequence.
template <class Sequence>
auto sequence_loss(Sequence sequence) {
  return [sequence](const world<double>& w, const values& weights) -> loss_function {
    return [&w, weights, sequence](const values& x, const values& frozen) {
      double sum = 0;
      for (std::size_t i = 0; i < w.size(); ++i) sum += weights[i] * sequence(w, i, x, frozen);
      return sum;
    };
  };
}

inline double clipped_surrogate(double r, double a, double low, double high) {
  return std::min(r * a, std::clamp(r, 1 - low, 1 + high) * a);
}

/// The side of that minimum which holds.
inline branch clipped_side(double r, double a, double low, double high, double dual = infinity) {
  if (a > 0) return r > 1 + high ? branch::clipped_high : branch::active;
  if (a < 0 && r < 1 - low) return branch::clipped_low;
  return a < 0 && r > dual ? branch::dual : branch::active;
}

/// The side of [min, max] that r is on.
inline branch outside(double r, double min, double max) {
  return r > max ? branch::clipped_high : r < min ? branch::clipped_low : branch::active;
}

/// Saturated where nothing else holds.
inline branch or_saturated(branch b, bool beyond) {
  return b == branch::active && beyond ? branch::saturated : b;
}

/// The log-ratio of a token.
inline double moved(const world<double>& w, std::size_t t) {
  return w.log_probs[t] - w.old_log_probs[t];
}

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

/// The value of a KL estimator with its clamps.
inline double kl_estimate(kl_estimator e, double q, double input, double output) {
  const double x = std::clamp(q, -input, input);
  const double v = e == kl_estimator::k1         ? x
                   : e == kl_estimator::absolute ? std::fabs(x)
                   : e == kl_estimator::k2       ? x * x / 2
                                                 : std::exp(-x) - 1 + x;
  return std::clamp(v, -output, output);
}

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

/// Makes a case's `run` of an objective.
template <class O>
auto run_of(const O& o) {
  return [o](const world<double>& w, const values& weights, std::span<double> c, std::span<branch> codes) {
    o(w.view(), weights, c, codes);
  };
}

/// ... of a correction, after the plain policy gradient,
template <class F>
auto run_after(const F& f) {
  return [f](const world<double>& w, const values& weights, std::span<double> c, std::span<branch> codes) {
    policy_gradient{}(w.view(), weights, c, codes);
    f(w.view(), c, codes);
  };
}

/// ... and of a penalty, which adds to coefficients.
template <class F>
auto run_added(const F& f) {
  return [f](const world<double>& w, const values& weights, std::span<double> c, std::span<branch> codes) {
    policy_gradient{}(w.view(), weights, c, codes);
    std::fill(c.begin(), c.end(), 5.0);
    f(w.view(), weights, c);
    for (std::size_t t = 0; t < c.size(); ++t) c[t] -= 5;
  };
}

inline void add_ratio_objectives(std::vector<objective_case>& out) {
  const std::vector<branch> clipped{branch::active, branch::clipped_high, branch::clipped_low};
  const auto with = [](std::vector<branch> a, branch b) {
    a.push_back(b);
    return a;
  };
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

  const auto weighted = [](double min, double max, double limit) {
    return token_loss([=](const world<double>& w, double a, std::size_t t, double x, double sg) {
      return -std::clamp(std::exp(std::clamp(sg - w.old_log_probs[t], -limit, limit)), min, max) * a * x;
    });
  };
  out.push_back({"cispo", "cispo", run_of(cispo{.min = 0.7, .max = 1.5}), weighted(0.7, 1.5, 20), clipped});
  out.back().code = [](const world<double>& w, std::size_t, std::size_t t) {
    return outside(std::exp(moved(w, t)), 0.7, 1.5);
  };
  out.push_back({"cispo", "cispo, limit", run_of(cispo{.min = 0.3, .max = 1.9, .log_ratio_limit = 0.5}),
                 weighted(0.3, 1.9, 0.5), with(clipped, branch::saturated)});
  out.back().code = [](const world<double>& w, std::size_t, std::size_t t) {
    const double d = moved(w, t);
    return or_saturated(outside(std::exp(d), 0.3, 1.9), std::fabs(d) > 0.5);
  };
  out.push_back({"cispo", "masked_ratio", run_of(masked_ratio{.low = 0.3, .high = 0.5}),
                 token_loss([](const world<double>& w, double a, std::size_t t, double x, double sg) {
                   const double r = std::exp(sg - w.old_log_probs[t]);
                   return r > 0.7 && r < 1.5 ? -r * a * x : 0.0;
                 }),
                 clipped});
  out.back().code = [](const world<double>& w, std::size_t, std::size_t t) {
    return outside(std::exp(moved(w, t)), 0.7, 1.5);
  };
  out.push_back({"sapo",
                 "sapo",
                 run_of(sapo{.tau_positive = 1.0, .tau_negative = 1.4, .log_ratio_limit = 1.2}),
                 token_loss([](const world<double>& w, double a, std::size_t t, double x, double) {
                   const double r = std::exp(std::clamp(x - w.old_log_probs[t], -1.2, 1.2)), tau = a > 0 ? 1.0 : 1.4;
                   return -4 / tau / (1 + std::exp(-tau * (r - 1))) * a;
                 }),
                 {branch::active, branch::saturated}});
  out.back().code = [](const world<double>& w, std::size_t, std::size_t t) {
    return or_saturated(branch::active, std::fabs(moved(w, t)) > 1.2);
  };
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
  out.push_back({"mini_rl", "mini_rl", run_of(mini_rl{.cap = 2}),
                 token_loss([](const world<double>& w, double a, std::size_t t, double x, double sg) {
                   const double r = std::exp(sg - w.old_log_probs[t]), v = std::exp(sg - w.sampled_log_probs[t]);
                   const bool open = a > 0 ? r <= 1.27 : a < 0 ? r >= 0.8 : true;
                   return open ? -std::min(v, 2.0) * a * x : 0.0;
                 }),
                 clipped});
  out.back().code = [](const world<double>& w, std::size_t i, std::size_t t) {
    return clipped_side(std::exp(moved(w, t)), w.advantage(i, t), 0.2, 0.27);
  };
  for (binary_divergence divergence : {binary_divergence::total_variation, binary_divergence::kl}) {
    const bool by_kl = divergence == binary_divergence::kl;
    const double low = by_kl ? 0.1 : 0.05, high = by_kl ? 0.12 : 0.06;
    const double cap = by_kl ? 1.5 : 3;  // above e^0.5 the clamp of the log-ratio is what holds
    out.push_back(
        {.header = "dppo",
         .name = by_kl ? "dppo, kl" : "dppo",
         .run = run_of(dppo{.low = low, .high = high, .cap = cap, .log_ratio_limit = 0.5, .divergence = divergence}),
         .loss = token_loss([=](const world<double>& w, double a, std::size_t t, double x, double sg) {
           const double p = std::exp(sg), q = std::exp(w.old_log_probs[t]);
           const double kl = q * (w.old_log_probs[t] - sg) + (1 - q) * std::log((1 - q + 1e-8) / (1 - p + 1e-8));
           bool valid = false;
           if (by_kl)
             valid = a > 0 ? kl <= high || p <= q : kl <= low || p >= q;
           else
             valid = a > 0 ? p - q <= high : p - q >= -low;
           return valid ? -std::min(std::exp(std::clamp(sg - w.old_log_probs[t], -0.5, 0.5)), cap) * a * x : 0.0;
         }),
         .taken = clipped,
         .prepare = [](world<double>& w) {  // a probability is below 1
           for (std::size_t t = 0; t < w.tokens(); ++t)
             if (w.active(t)) w.old_log_probs[t] = std::min(w.old_log_probs[t], -0.01);
         }});
    out.back().code = [=](const world<double>& w, std::size_t i, std::size_t t) {
      const double p = std::exp(w.log_probs[t]), q = std::exp(w.old_log_probs[t]);
      const double kl = q * std::log(q / p) + (1 - q) * std::log((1 - q + 1e-8) / (1 - p + 1e-8));
      const double d = by_kl ? kl : std::fabs(p - q);
      if (w.advantage(i, t) > 0) return p > q && d > high ? branch::clipped_high : branch::active;
      return p < q && d > low ? branch::clipped_low : branch::active;
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

inline void add_corrections(std::vector<objective_case>& out) {
  // factor(w, i, t) multiplies the plain policy gradient; no gradient goes through it.
  const auto scaled = [](auto factor) {
    return [factor](const world<double>& w, const values& weights) -> loss_function {
      values factors(w.tokens());
      for (std::size_t i = 0; i < w.size(); ++i)
        for (std::size_t t = w.offsets[i]; t < w.offsets[i + 1]; ++t) factors[t] = w.active(t) ? factor(w, i, t) : 0.0;
      return [&w, weights, factors](const values& x, const values&) {
        return sum_tokens(w, weights,
                          [&](std::size_t i, std::size_t t) { return -factors[t] * w.advantage(i, t) * x[t]; });
      };
    };
  };
  enum class drops { no, yes };
  const auto add = [&](const char* header, const std::string& name, const auto& correction, auto factor,
                       drops what = drops::yes) {
    std::vector<branch> taken{branch::active};
    if (what == drops::yes) taken.push_back(branch::rejected);
    out.push_back({header, name, run_after(correction), scaled(factor), taken});
    out.back().code = [factor](const world<double>& w, std::size_t i, std::size_t t) {
      return factor(w, i, t) == 0 ? branch::rejected : branch::active;
    };
  };
  const auto weight = [](const world<double>& w, std::size_t i, std::size_t t, importance_over over,
                         importance_bound bound) {
    const auto e = [&](std::size_t u) { return w.old_log_probs[u] - w.sampled_log_probs[u]; };
    double log_v = over == importance_over::token ? e(t) : sum_sequence(w, i, e);
    if (over == importance_over::sequence_geometric_mean) log_v /= w.length(i);
    const double v = std::exp(std::clamp(log_v, -3.0, 3.0));
    const bool inside = v >= 0.6 && v <= 1.5;
    return bound == importance_bound::truncate ? std::clamp(v, 0.6, 1.5)
           : bound == importance_bound::zero   ? (inside ? v : 0.0)
                                               : (inside ? 1.0 : 0.0);
  };
  for (importance_over over :
       {importance_over::token, importance_over::sequence_product, importance_over::sequence_geometric_mean})
    for (importance_bound bound : {importance_bound::truncate, importance_bound::zero, importance_bound::reject}) {
      const importance_correction correct{.over = over, .bound = bound, .min = 0.6, .max = 1.5, .log_ratio_limit = 3};
      const std::string name = concat(", over ", static_cast<int>(over), ", bound ", static_cast<int>(bound));
      const drops what = bound == importance_bound::truncate ? drops::no : drops::yes;
      add(
          "importance", "importance_correction" + name, correct,
          [=](const world<double>& w, std::size_t i, std::size_t t) { return weight(w, i, t, over, bound); }, what);
      add(
          "normalized_importance", "normalized_importance" + name, normalized_importance{correct},
          [=](const world<double>& w, std::size_t i, std::size_t t) {
            double sum = 0, count = 0;
            for (std::size_t j = 0; j < w.size(); ++j) {
              if (w.length(j) == 0) continue;
              const double n = over == importance_over::token ? 1.0 : w.length(j);
              sum += sum_sequence(w, j, [&](std::size_t u) { return weight(w, j, u, over, bound); }) / n;
              count += w.length(j) / n;
            }
            return sum > 0 ? weight(w, i, t, over, bound) * count / sum : weight(w, i, t, over, bound);
          },
          what);
    }
  add("importance", "off_policy_mask", off_policy_mask{.threshold = 0.1},
      [](const world<double>& w, std::size_t i, std::size_t t) {
        const double left =
            sum_sequence(w, i, [&](std::size_t u) { return w.old_log_probs[u] - w.log_probs[u]; }) / w.length(i);
        return w.advantage(i, t) < 0 && left > 0.1 ? 0.0 : 1.0;
      });
  add("high_entropy", "high_entropy_only", high_entropy_only{1.5},
      [](const world<double>& w, std::size_t, std::size_t t) { return w.entropies[t] < 1.5 ? 0.0 : 1.0; });
  for (sampler_divergence divergence : {sampler_divergence::k1, sampler_divergence::k2, sampler_divergence::k3,
                                        sampler_divergence::binary_kl, sampler_divergence::total_variation})
    for (rejection_over over : {rejection_over::token, rejection_over::sequence_sum, rejection_over::sequence_mean,
                                rejection_over::sequence_max}) {
      const rejection reject{.divergence = divergence, .over = over, .min = -0.3, .max = 0.2, .log_ratio_limit = 1};
      add("rejection",
          concat("rejection, divergence ", static_cast<int>(divergence), ", over ", static_cast<int>(over)), reject,
          [=](const world<double>& w, std::size_t i, std::size_t t) {
            const auto of = [&](std::size_t u) {
              const double e = std::clamp(w.old_log_probs[u] - w.sampled_log_probs[u], -1.0, 1.0);
              const double p = std::clamp(std::exp(w.sampled_log_probs[u]), 1e-6, 1 - 1e-6);
              const double q = std::clamp(std::exp(w.old_log_probs[u]), 1e-6, 1 - 1e-6);
              switch (divergence) {
                case sampler_divergence::k1:
                  return -e;
                case sampler_divergence::k2:
                  return e * e / 2;
                case sampler_divergence::k3:
                  return std::exp(e) - 1 - e;
                case sampler_divergence::binary_kl:
                  return p * std::log(p / q) + (1 - p) * std::log((1 - p) / (1 - q));
                case sampler_divergence::total_variation:
                  break;
              }
              return std::fabs(p - q);
            };
            double statistic = of(t), most = -infinity;
            for (std::size_t u = w.offsets[i]; u < w.offsets[i + 1]; ++u)
              if (w.active(u)) most = std::max(most, of(u));
            if (over == rejection_over::sequence_sum) statistic = sum_sequence(w, i, of);
            if (over == rejection_over::sequence_mean) statistic = sum_sequence(w, i, of) / w.length(i);
            if (over == rejection_over::sequence_max) statistic = most;
            return statistic >= -0.3 && statistic <= 0.2 ? 1.0 : 0.0;
          });
    }
}

inline void add_penalties(std::vector<objective_case>& out) {
  for (kl_estimator e : {kl_estimator::k1, kl_estimator::absolute, kl_estimator::k2, kl_estimator::k3})
    for (kl_ratio ratio : {kl_ratio::none, kl_ratio::one, kl_ratio::old, kl_ratio::sampled})
      for (kl_gradient gradient : {kl_gradient::itself, kl_gradient::k2})
        for (const std::pair<double, kl_clamp>& clamps :
             {std::pair{infinity, kl_clamp::estimate}, std::pair{0.7, kl_clamp::estimate},
              std::pair{0.7, kl_clamp::weighted}}) {
          const double input = clamps.first, output = clamps.first / 2;
          const bool outside = clamps.second == kl_clamp::weighted;
          out.push_back(
              {"kl_penalty",
               concat("kl_penalty, estimator ", static_cast<int>(e), ", ratio ", static_cast<int>(ratio), ", gradient ",
                      static_cast<int>(gradient), ", limit ", input, outside ? ", weighted" : ""),
               run_added(kl_penalty{.coefficient = 0.3,
                                    .estimator = e,
                                    .ratio = ratio,
                                    .gradient = gradient,
                                    .input_limit = input,
                                    .output_limit = output,
                                    .clamp = clamps.second}),
               token_loss([=](const world<double>& w, double, std::size_t t, double x, double sg) {
                 const double q = x - w.reference_log_probs[t], q0 = sg - w.reference_log_probs[t];
                 const double within = outside ? infinity : output;
                 double v = kl_estimate(e, q, input, within);
                 if (gradient == kl_gradient::k2) v = (q * q - q0 * q0) / 2 + kl_estimate(e, q0, input, within);
                 const double denominator = ratio == kl_ratio::old       ? w.old_log_probs[t]
                                            : ratio == kl_ratio::sampled ? w.sampled_log_probs[t]
                                                                         : sg;
                 const double rho = ratio == kl_ratio::none ? 1.0 : std::exp(x - denominator);
                 if (outside && std::fabs(q0) > input) return 0.0;  // the ratio is detached too
                 return 0.3 * (outside ? std::clamp(rho * v, -output, output) : rho * v);
               })});
        }
  // The sampled surrogate: the loss whose gradient it is.
  for (entropy_baseline baseline : {entropy_baseline::none, entropy_baseline::entropy}) {
    const bool with_entropy = baseline == entropy_baseline::entropy;
    out.push_back({"entropy_bonus", with_entropy ? "entropy_bonus" : "entropy_bonus, no baseline",
                   run_added(entropy_bonus{.coefficient = 0.4, .baseline = baseline}),
                   token_loss([=](const world<double>& w, double, std::size_t t, double x, double sg) {
                     return 0.4 * (sg + (with_entropy ? w.entropies[t] : 0.0)) * x;
                   })});
  }
}

/// Losses on pairs, groups and whole sequences, which take one weight for all.
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

/// All of them.
inline std::vector<objective_case> objective_cases() {
  std::vector<objective_case> out;
  add_ratio_objectives(out);
  add_corrections(out);
  add_penalties(out);
  add_sequence_losses(out);
  return out;
}

}  // namespace rlvr::testing
