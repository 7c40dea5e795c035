#pragma once
/// Losses in which a token has a bounded weight or a gate in place of the ratio.

#include <algorithm>
#include <cmath>
#include <vector>

#include <rlvr/objective/cispo.hpp>
#include <rlvr/objective/dppo.hpp>
#include <rlvr/objective/mini_rl.hpp>
#include <rlvr/objective/sapo.hpp>

#include "objective_case.hpp"

namespace rlvr::testing {

inline void add_weighted(std::vector<objective_case>& out) {
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
}

}  // namespace rlvr::testing
