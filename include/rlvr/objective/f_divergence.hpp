#pragma once
/// f-DPG: distributional policy gradients towards a target distribution under any f-divergence.

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <limits>
#include <span>
#include <vector>

#include <rlvr/objective/preference.hpp>

namespace rlvr {

/// D_f(pi || p) for sequences, by its f'(x) at x = pi / p = e^t:
/// forward_kl KL(p || pi): -e^-t.  reverse_kl KL(pi || p): t + 1.  jensen_shannon: log 2 - log(1 + e^-t).
/// total_variation: sign(t) / 2.  chi2_forward chi^2(p || pi): 1 - e^-2t.  chi2_reverse chi^2(pi || p): 2 (e^t - 1).
enum class f_divergence { forward_kl, reverse_kl, jensen_shannon, total_variation, chi2_forward, chi2_reverse };

/// f'(e^t), see above.
inline double f_prime(f_divergence f, double t) {
  switch (f) {
    case f_divergence::forward_kl:
      return -std::exp(-t);
    case f_divergence::reverse_kl:
      return t + 1;
    case f_divergence::jensen_shannon:
      return std::log(2.0) - (t < 0 ? -t + std::log1p(std::exp(t)) : std::log1p(std::exp(-t)));
    case f_divergence::total_variation:
      return t > 0 ? 0.5 : t < 0 ? -0.5 : 0.0;
    case f_divergence::chi2_forward:
      return -std::expm1(-2 * t);
    case f_divergence::chi2_reverse:
      break;
  }
  return 2 * std::expm1(t);
}

/// With log pi(y) = sum_t log_probs, log q(y) = sum_t sampled_log_probs, t = log pi(y) - target_i:
///
///     kappa = (pi(y) / q(y)) (-f'(e^t) - baseline)     on the active tokens of the sequence
///
/// whose mean over y ~ q is the gradient of -D_f(pi || p). target_i = log p(y_i), the target's log-probability, its
/// normaliser included. The baseline is any number that does not depend on the sample (the authors': the mean of -f'
/// over the last 1024 samples). weight = 1 / B is the mean. max_log_ratio clamps log(pi / q) from above (infinite: no
/// clamp): pi / q is then a constant, the rest of kappa as it was. Branches: active; saturated where that clamp holds.
/// Throws std::invalid_argument for arrays missing or not finite, targets not B or not finite, and for a sequence whose
/// pi / q, f' or coefficient overflows, which it names. O(T).
/// Source: Go et al. 2023, arXiv 2302.08215, theorem 1; f' as in naver/disco.
struct f_dpg {
  f_divergence divergence = f_divergence::forward_kl;
  double baseline = 0;
  double max_log_ratio = std::numeric_limits<double>::infinity();

  template <class Real>
  void operator()(const token_batch<Real>& b, std::span<const double> targets, double weight,
                  coefficients_of<Real> coefficients, std::span<branch> branches = {}) const {
    require(is_finite(baseline), "f_dpg: baseline is ", baseline);
    require(max_log_ratio == max_log_ratio, "f_dpg: max_log_ratio is ", max_log_ratio);
    require(is_finite(weight), "f_dpg: weight is ", weight);
    require(targets.size() == b.size(), "f_dpg: ", targets.size(), " targets for ", b.size(), " sequences");
    detail::each_token<detail::combine::assign>(
        "f_dpg", b, detail::advantage_use::unused, {}, coefficients, branches,
        std::array<detail::token_array<Real>, 2>{
            {{"log_probs", b.log_probs}, {"sampled_log_probs", b.sampled_log_probs}}},
        [](std::size_t) { return [](Real, Real, Real) { return detail::token_value<Real>{Real(0)}; }; });
    std::vector<detail::sequence_slope> slopes(b.size());
    for (std::size_t i = 0; i < b.size(); ++i) {
      require(is_finite(targets[i]), "f_dpg: target ", i, " is ", targets[i]);
      const double now = detail::sum_active(b, i, [&](std::size_t t) { return b.log_probs[t]; });
      const double sampled = detail::sum_active(b, i, [&](std::size_t t) { return b.sampled_log_probs[t]; });
      const double ratio = std::exp(std::min(now - sampled, max_log_ratio));
      slopes[i] = {weight * ratio * (-f_prime(divergence, now - targets[i]) - baseline),
                   now - sampled > max_log_ratio ? branch::saturated : branch::active};
    }
    detail::spread<Real>("f_dpg", b, sequence_score::sum, slopes, coefficients, branches);
  }
};

}  // namespace rlvr
