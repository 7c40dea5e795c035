#pragma once
/// Entropy in the objective.

#include <array>
#include <cstddef>

#include <rlvr/objective/objective.hpp>

namespace rlvr {

/// What is subtracted from -log pi in the sampled surrogate; neither changes its expectation.
enum class entropy_baseline { none, entropy };

/// Adds the sampled surrogate of the gradient of coefficient sum_t w_t H_t to coefficients:
///
///     kappa = -coefficient (log pi(y_t) + H_t),  or with entropy_baseline::none  -coefficient log pi(y_t)
///
/// Its expectation over y_t ~ pi is the exact gradient: grad H = -E[(log pi + H) grad log pi]. With the baseline it is
/// 0 for a deterministic token and has the smaller variance; it reads `entropies`.
///
/// The exact gradient through a backend that can do sum_t c_t grad log pi(y_t): for every prefix append each token v of
/// the vocabulary in turn as a completion whose last token has c = -coefficient w_t pi(v) (log pi(v) + H_t) and whose
/// other tokens have 0. That is V completions per token: for small vocabularies and for tests. (A backend with logits
/// at hand adds dH/dz_j = -p_j (log p_j + H) directly.)
///
/// EPO as published (loss -lambda (mean H - beta mean P), P a smoothing penalty) is this bonus with coefficient
/// lambda: in its code P comes out of torch.where of constants and has no gradient. epo_penalty below is that value.
///
/// Call after corrections, with the objective's weights (verl) or token_mean's (TRL). Branches are not touched.
/// Throws std::invalid_argument for a coefficient that is not finite. O(T).
/// Source: Williams and Peng 1991, "Function optimization using connectionist reinforcement learning algorithms".
struct entropy_bonus {
  double coefficient = 0.001;
  entropy_baseline baseline = entropy_baseline::entropy;

  template <class Real>
  void operator()(const token_batch<Real>& b, weights_of<Real> weights, coefficients_of<Real> coefficients) const {
    require(is_finite(coefficient), "entropy_bonus: coefficient is ", coefficient);
    const Real scale = static_cast<Real>(-coefficient);
    if (baseline == entropy_baseline::none)
      detail::each_token<detail::combine::add>(
          "entropy_bonus", b, detail::advantage_use::unused, weights, coefficients, {},
          std::array<detail::token_array<Real>, 1>{{{"log_probs", b.log_probs}}},
          [scale](std::size_t) { return [scale](Real, Real now) { return detail::token_value<Real>{scale * now}; }; });
    else
      detail::each_token<detail::combine::add>(
          "entropy_bonus", b, detail::advantage_use::unused, weights, coefficients, {},
          std::array<detail::token_array<Real>, 2>{{{"log_probs", b.log_probs}, {"entropies", b.entropies}}},
          [scale](std::size_t) {
            return [scale](Real, Real now, Real h) { return detail::token_value<Real>{scale * (now + h)}; };
          });
  }
};

/// The band of epo_penalty and its height; the defaults are those of EPO's code.
struct epo_options {
  double low = 0.8;      ///< of the historical mean
  double high = 1.2;     ///< of the historical mean
  double outside = 0.1;  ///< the penalty outside the band
};

/// EPO's smoothing penalty of one token: 0 when low mean < entropy < high mean, `outside` otherwise (NaN included), where
/// `mean` is the mean entropy over all updates so far at that turn. A number to report: it has no gradient (see
/// entropy_bonus).
/// Source: Xu et al. 2025, arXiv 2509.22576; code generate_entropy_penalty.
constexpr double epo_penalty(double entropy, double mean, epo_options options = {}) {
  return entropy > options.low * mean && entropy < options.high * mean ? 0.0 : options.outside;
}

}  // namespace rlvr
