#pragma once
/// Factors on the plain policy gradient.

#include <algorithm>
#include <cmath>
#include <string>
#include <vector>

#include <rlvr/objective/high_entropy.hpp>
#include <rlvr/objective/importance.hpp>
#include <rlvr/objective/normalized_importance.hpp>
#include <rlvr/objective/rejection.hpp>

#include "objective_case.hpp"

namespace rlvr::testing {

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

}  // namespace rlvr::testing
