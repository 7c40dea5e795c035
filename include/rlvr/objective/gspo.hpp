#pragma once
/// Objectives with one importance ratio for the whole sequence.

#include <cmath>
#include <cstddef>
#include <limits>

#include <rlvr/core/exponential.hpp>
#include <rlvr/objective/objective.hpp>

namespace rlvr {

/// How the ratios of a sequence's tokens become one: their geometric mean, or their product.
enum class sequence_ratio { geometric_mean, product };

/// Which losses a sequence's ratio stands in: one whose gradient goes through the ratio, so that tokens share their
/// advantages' mean; or one per token, s = sg(s) pi / sg(pi), in which each token keeps its own advantage. The same
/// when advantages are per sequence.
enum class gspo_form { sequence, token };

/// With D = log_probs - old_log_probs, s = exp(mean_t D) (or exp(sum_t D)) over the n active tokens:
///
///     loss_t = -min(s A_t, clamp(s, 1 - low, 1 + high) A_t)
///     token:    kappa_t = A_t s open_t         sequence: kappa_t = s mean_u(A_u open_u)
///     open_t = 1 where A_t > 0 and s <= 1 + high, or A_t < 0 and s >= 1 - low;  0 elsewhere
///
/// The geometric mean belongs with sequence_mean_of_token_mean (the paper); the product is TRL's RLOO, whose loss is
/// counted once per sequence: sequence_mean_of_token_sum, low = high = 0.2.
/// Branches as for ppo_clip; saturated: log s above log_ratio_limit, kappa 0 (a clamp from above only, as in verl,
/// 10; TRL, OpenRLHF and NeMo-RL have none: infinity). A ratio that overflows then is an error, not a NaN. `epsilon` is
/// added to n in the means (NeMo-RL 1e-8).
/// Throws std::invalid_argument for low, high or epsilon negative, log_ratio_limit <= 0, or one of them NaN. One
/// pass over memory; the sum over D is in double. Source: Zheng et al. 2025, arXiv 2507.18071; low 3e-4, high 4e-4.
struct gspo {
  double low = 3e-4;
  double high = 4e-4;
  gspo_form form = gspo_form::token;
  sequence_ratio ratio = sequence_ratio::geometric_mean;
  double log_ratio_limit = 10;
  double epsilon = 0;

  template <class Real>
  void operator()(const token_batch<Real>& b, weights_of<Real> weights, coefficients_of<Real> coefficients,
                  std::span<branch> branches = {}) const {
    require(low >= 0, "gspo: low is ", low);
    require(high >= 0, "gspo: high is ", high);
    require(epsilon >= 0, "gspo: epsilon is ", epsilon);
    require(log_ratio_limit > 0, "gspo: log_ratio_limit is ", log_ratio_limit);
    const Real floor = static_cast<Real>(1 - low), ceiling = static_cast<Real>(1 + high);
    detail::each_token<detail::combine::assign>(
        "gspo", b, detail::advantage_use::needed, weights, coefficients, branches, detail::now_and_old(b),
        [&](std::size_t i) {
          const double length = static_cast<double>(detail::active_length(b, i));
          const double n = ratio == sequence_ratio::product ? 1.0 : length + epsilon;
          const double sum = detail::sum_active(
              b, i,
              [now = b.log_probs.data(), old = b.old_log_probs.data()](std::size_t t) { return now[t] - old[t]; });
          const double log_s = length > 0 ? sum / n : 0.0;
          // d log s / d log pi is 1 / n for one loss per token; weights take care of the number of losses.
          const double share = ratio == sequence_ratio::product || length == 0 ? 1.0 : length / n;
          const double exact = std::exp(log_s) * (form == gspo_form::sequence ? share : 1.0);
          const Real s = static_cast<Real>(std::exp(log_s)), slope = static_cast<Real>(exact);
          const bool out = log_s > log_ratio_limit, low_side = (s < floor), high_side = (s > ceiling);
          const bool shared = form == gspo_form::sequence && b.advantages.empty();
          Real mean = 0;
          if (shared && length > 0) {
            const auto open = [&](std::size_t t) {
              const Real a = b.token_advantages[t];
              return (a > 0 && high_side) || (a < 0 && low_side) ? Real(0) : a;
            };
            mean = static_cast<Real>(detail::sum_active(b, i, open) / length);
          }
          return [slope, out, low_side, high_side, shared, mean](Real a, Real, Real) {
            const bool up = (a > 0) & high_side, down = (a < 0) & low_side;
            const auto code = detail::wide_branch<Real>(branch::active)
                                  .or_if(out, branch::saturated)
                                  .or_if(down, branch::clipped_low)
                                  .or_if(up, branch::clipped_high);
            const bool drop = ((up | down) & !shared) | out;
            return detail::token_value<Real>{(shared ? mean : a) * detail::select(drop, Real(0), slope), code};
          };
        });
  }
};

}  // namespace rlvr
