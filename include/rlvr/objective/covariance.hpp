#pragma once
/// Clip-Cov and KL-Cov: keep entropy up by sparing the few tokens whose log-probability and advantage move together.

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <utility>
#include <vector>

#include <rlvr/core/exponential.hpp>
#include <rlvr/core/random.hpp>
#include <rlvr/objective/objective.hpp>
#include <rlvr/objective/ppo_clip.hpp>

namespace rlvr {

/// cov_t = (A_t - mean A)(log pi_t - mean log pi), the means over all active tokens of the batch, in double; 0 outside
/// the mask. [T]. Throws as objectives do, and std::invalid_argument for one that overflows. O(T).
/// Source: Cui et al. 2025, arXiv 2505.22617.
template <class Real>
std::vector<Real> token_covariances(const token_batch<Real>& b) {
  validate(b, "token_covariances");
  std::vector<Real> cov(b.tokens());
  const auto advantage = [&](std::size_t i, std::size_t t) {
    return static_cast<double>(b.advantages.empty() ? b.token_advantages[t] : b.advantages[i]);
  };
  // First the check of every input, as the pass over tokens does it.
  detail::each_token<detail::combine::assign>(
      "token_covariances", b, detail::advantage_use::needed, {}, cov, {},
      std::array<detail::token_array<Real>, 1>{{{"log_probs", b.log_probs}}},
      [](std::size_t) { return [](Real, Real) { return detail::token_value<Real>{Real(0)}; }; });
  double n = 0, a = 0, l = 0;
  for (std::size_t i = 0; i < b.size(); ++i) {
    n += static_cast<double>(detail::active_length(b, i));
    a += detail::sum_active(b, i, [&](std::size_t t) { return advantage(i, t); });
    l += detail::sum_active(b, i, [&](std::size_t t) { return b.log_probs[t]; });
  }
  if (n == 0) return cov;
  for (std::size_t i = 0; i < b.size(); ++i)
    for (std::size_t t = b.begin(i); t < b.end(i); ++t)
      if (b.active(t)) {
        cov[t] = static_cast<Real>((advantage(i, t) - a / n) * (static_cast<double>(b.log_probs[t]) - l / n));
        require(is_finite(cov[t]), "token_covariances: the covariance of token ", b.offsets.front() + t, " is ", cov[t],
                ", not a finite number");
      }
  return cov;
}

namespace detail {
template <class Real>
std::size_t active_tokens(const token_batch<Real>& b) {
  std::size_t n = 0;
  for (std::size_t i = 0; i < b.size(); ++i) n += active_length(b, i);
  return n;
}
}  // namespace detail

/// PPO-clip with a few tokens of high covariance dropped:
///
///     kappa = 0 on max(floor(share N), 1) tokens drawn without replacement by `key` from those with
///     low_covariance < cov_t < high_covariance that ppo_clip has not clipped;  ppo_clip's elsewhere
///
/// N the active tokens. All tokens with such a covariance when there are fewer. Branch of the dropped: rejected.
/// The draw is a pure function of the key and of which tokens are candidates (verl draws from torch's global
/// generator: a run there cannot be repeated token by token). cov is over the whole batch that is given.
/// Throws std::invalid_argument for a share outside (0, 1]. O(T). verl has no clamp on log r here, and no dual clip.
/// Source: Cui et al. 2025, arXiv 2505.22617; verl's clip_cov.
struct clip_cov {
  random_key key{0};
  double share = 2e-4;
  double low_covariance = 1;
  double high_covariance = 5;
  ppo_clip clip = {.log_ratio_limit = std::numeric_limits<double>::infinity()};
  using whole_batch = void;

  template <class Real>
  void operator()(const token_batch<Real>& b, weights_of<Real> weights, coefficients_of<Real> coefficients,
                  std::span<branch> branches = {}) const {
    require(share > 0 && share <= 1, "clip_cov: share is ", share);
    validate(b, "clip_cov");
    std::vector<branch> own(branches.empty() ? b.tokens() : 0);
    const std::span<branch> codes = branches.empty() ? std::span<branch>(own) : branches;
    clip(b, weights, coefficients, codes);
    const std::vector<Real> cov = token_covariances(b);
    std::vector<std::size_t> candidates;
    for (std::size_t t = 0; t < cov.size(); ++t) {
      const bool clipped =
          codes[t] == branch::masked || codes[t] == branch::clipped_high || codes[t] == branch::clipped_low;
      if (!clipped && static_cast<double>(cov[t]) > low_covariance && static_cast<double>(cov[t]) < high_covariance)
        candidates.push_back(t);
    }
    const double wanted = share * static_cast<double>(detail::active_tokens(b));
    const std::size_t count = std::min(std::max<std::size_t>(static_cast<std::size_t>(wanted), 1), candidates.size());
    for (std::size_t k = 0; k < count; ++k) {  // the first steps of a Fisher-Yates shuffle
      std::swap(candidates[k], candidates[k + key.below(candidates.size() - k, k)]);
      coefficients[candidates[k]] = 0;
      codes[candidates[k]] = branch::rejected;
    }
  }
};

/// The unclipped surrogate with a KL penalty on the tokens of highest covariance, D = log_probs - old_log_probs:
///
///     loss = -A exp(D)  (+ coefficient |D| on the k tokens of highest cov_t, k = max(floor(share N), 1))
///     kappa = A exp(D) - coefficient sign(D)  there,  A exp(D)  elsewhere
///
/// Inert while log_probs equals old_log_probs: the sign of 0 is 0. Ties in cov_t go to the earlier token. `share` is a
/// fraction: the paper's 0.2 is percent, verl's kl_cov_ratio is 2e-4, SkyRL's kl_cov_frac 0.2 is a fifth of all tokens.
/// Branches: penalised, active. A ratio that overflows is an error.
/// Throws std::invalid_argument for a share outside (0, 1] or a coefficient that is not finite. Expected O(T).
/// Source: Cui et al. 2025, arXiv 2505.22617; verl's kl_cov (ppo_kl_coef 0.1, the paper's scripts 1).
struct kl_cov {
  double share = 2e-4;
  double coefficient = 1;
  using whole_batch = void;

  template <class Real>
  void operator()(const token_batch<Real>& b, weights_of<Real> weights, coefficients_of<Real> coefficients,
                  std::span<branch> branches = {}) const {
    require(share > 0 && share <= 1, "kl_cov: share is ", share);
    require(is_finite(coefficient), "kl_cov: coefficient is ", coefficient);
    detail::each_token<detail::combine::assign>("kl_cov", b, detail::advantage_use::needed, weights, coefficients,
                                                branches, detail::now_and_old(b), [](std::size_t) {
                                                  return [](Real a, Real now, Real old) {
                                                    return detail::token_value<Real>{a * vector_exp(now - old)};
                                                  };
                                                });
    const std::vector<Real> cov = token_covariances(b);
    std::vector<std::size_t> order;
    std::vector<std::uint8_t> chosen(cov.size());
    for (std::size_t t = 0; t < cov.size(); ++t)
      if (b.active(t)) order.push_back(t);
    const double wanted = share * static_cast<double>(order.size());
    const std::size_t count = std::min(std::max<std::size_t>(static_cast<std::size_t>(wanted), 1), order.size());
    std::nth_element(order.begin(), order.begin() + static_cast<std::ptrdiff_t>(count), order.end(),
                     [&](std::size_t x, std::size_t y) { return cov[x] != cov[y] ? cov[x] > cov[y] : x < y; });
    for (std::size_t k = 0; k < count; ++k) chosen[order[k]] = 1;
    for (std::size_t i = 0; i < b.size(); ++i)
      for (std::size_t t = b.begin(i); t < b.end(i); ++t) {
        if (chosen[t] == 0) continue;
        const Real d = b.log_probs[t] - b.old_log_probs[t];
        const Real sign = static_cast<Real>((d > 0) - (d < 0));
        coefficients[t] -= (weights.empty() ? Real(1) : weights[i]) * static_cast<Real>(coefficient) * sign;
        require(is_finite(coefficients[t]), "kl_cov: the coefficient of token ", b.offsets.front() + t, " is ",
                coefficients[t], ", not a finite number");
        if (!branches.empty()) branches[t] = branch::penalised;
      }
  }
};

}  // namespace rlvr
