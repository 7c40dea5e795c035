#pragma once
/// PPO's clipped surrogate, clip-higher and dual clip.

#include <algorithm>
#include <limits>

#include <rlvr/core/exponential.hpp>
#include <rlvr/objective/objective.hpp>

namespace rlvr {

/// What a minimum of two equal terms passes on at r == dual: half of the gradient as torch.minimum does (verl), or all
/// of it as an inclusive clamp does (TRL's delta).
enum class tie { half, whole };

/// With r = exp(log_probs - old_log_probs):
///
///     loss  = -min(r A, clamp(r, 1 - low, 1 + high) A),  for A < 0 not more than -dual A
///     kappa = A r  where A > 0 and r <= 1 + high, or A < 0 and 1 - low <= r < dual;  0 elsewhere
///
/// Branches: clipped_high, clipped_low, dual (r > dual), saturated (|log r| > log_ratio_limit: kappa 0, the gradient
/// of a clamped log-ratio), active. Bounds are inclusive, as torch.clamp's gradient is. Without a log_ratio_limit a
/// ratio that overflows and is not clipped is an error.
/// Throws std::invalid_argument for low or high negative, dual <= 1, log_ratio_limit <= 0, or one of them NaN.
/// Source: Schulman et al. 2017 (arXiv 1707.06347) eq. 7; high > low is clip-higher (DAPO, arXiv 2503.14476, low 0.2,
/// high 0.28); dual clip is Ye et al. 2020 (arXiv 1912.09729). verl always has dual = 3; TRL, OpenRLHF and
/// NeMo-RL have none unless asked. log_ratio_limit is 20 in verl and OpenRLHF, infinite in TRL and NeMo-RL.
struct ppo_clip {
  double low = 0.2;
  double high = 0.2;
  double dual = std::numeric_limits<double>::infinity();
  double log_ratio_limit = 20;
  tie at_dual = tie::half;

  template <class Real>
  void operator()(const token_batch<Real>& b, weights_of<Real> weights, coefficients_of<Real> coefficients,
                  std::span<branch> branches = {}) const {
    require(low >= 0, "ppo_clip: low is ", low);
    require(high >= 0, "ppo_clip: high is ", high);
    require(dual > 1, "ppo_clip: dual is ", dual);
    require(log_ratio_limit > 0, "ppo_clip: log_ratio_limit is ", log_ratio_limit);
    // The clamp of log r as bounds of r, so that each sign of A has one interval [from, to].
    const Real limit = static_cast<Real>(log_ratio_limit), top = vector_exp(limit), bottom = vector_exp(-limit);
    const Real floor = static_cast<Real>(1 - low), ceiling = static_cast<Real>(1 + high);
    const Real cap = static_cast<Real>(dual);
    const auto kernel =
        [=, gain_to = std::min(ceiling, top), loss_from = std::max(floor, bottom), loss_to = std::min(cap, top),
         at_cap = at_dual == tie::half && cap <= top ? Real(0.5) : Real(1)](Real a, Real now, Real old) {
          const Real r = vector_exp(now - old);
          const bool gain = a > 0, loss = a < 0;
          const Real from = detail::select(gain, bottom, loss_from), to = detail::select(gain, gain_to, loss_to);
          const Real at_to = detail::select(gain, Real(1), at_cap);
          const bool open = (r >= from) & (r <= to);
          const Real share = detail::select(r == to, at_to, Real(1));
          const auto code = detail::wide_branch<Real>(branch::active)
                                .or_if((r > top) | (r < bottom), branch::saturated)
                                .or_if(loss & (r > cap), branch::dual)
                                .or_if(loss & (r < floor), branch::clipped_low)
                                .or_if(gain & (r > ceiling), branch::clipped_high);
          return detail::token_value<Real>{a * detail::select(open, r * share, Real(0)), code};
        };
    detail::each_token<detail::combine::assign>("ppo_clip", b, detail::advantage_use::needed, weights, coefficients,
                                                branches, detail::now_and_old(b), [&](std::size_t) { return kernel; });
  }
};

}  // namespace rlvr
