#pragma once
/// Rollouts in proportion to the noise that a prompt adds to the gradient.

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include <rlvr/allocate/allocator.hpp>
#include <rlvr/allocate/spend.hpp>
#include <rlvr/core/error.hpp>

namespace rlvr {

/// n_i proportional to w_i = G_i / sqrt(p_i + a / p_i^(b-1)), G_i the prompt_belief's score_norm; w_i = 0 when p_i or
/// G_i is 0. Models allocator. O(n + budget log n).
///
/// Rounded by Webster's rule: n_i = round(lambda w_i) within its range, for the lambda that spends the budget, each
/// rollout going to the largest w_i / (n_i + 1/2). So n_i never falls when the budget grows, and may stay 0 for a small
/// w_i, as in the source.
///
///  - p = 0: the lower bound, and more only when all prompts with w_i > 0 are at their upper bounds. p = 1 is like any
///    other rate, w_i = G_i / sqrt(1 + a): every rollout is accepted and few are needed.
///  - A prompt without history first gets an even share of the budget (in the source all have been screened, by 8
///    rollouts).
///
/// Throws std::invalid_argument also for a score_norm, a or b that is negative or not finite; they are read for prompts
/// with history only.
/// Source: GVM-RAFT (arXiv 2505.02391) and its code (RLHFlow/GVM, stage_2_calc_sample_size.py), which rounds each n_i
/// and then mends the sum by single rollouts where rounding moved most. Its cap of 8 rollouts a prompt on the budget is
/// the caller's; G_i is there the norm for one tensor only, the mean over accepted rollouts.
struct gradient_variance_allocation {
  double a = 1e-3;
  double b = 2;

  static double weight(double p, double score_norm, double a, double b) {
    if (p == 0 || score_norm == 0) return 0;
    return score_norm / std::sqrt(p + a / std::pow(p, b - 1));
  }

  std::vector<std::uint32_t> operator()(std::span<const prompt_belief> beliefs, std::size_t budget,
                                        std::span<const count_range> ranges) const {
    require(a >= 0 && is_finite(a), "gradient_variance_allocation: a is ", a);
    require(b >= 0 && is_finite(b), "gradient_variance_allocation: b is ", b);
    detail::allocation out = detail::begin_allocation(beliefs, budget, ranges);
    std::vector<double> weights(beliefs.size());
    for (std::size_t i = 0; i < beliefs.size(); ++i) {
      const prompt_belief& belief = beliefs[i];
      if (belief.evidence == 0) continue;
      require(belief.score_norm >= 0 && is_finite(belief.score_norm), "allocate: score_norm of prompt ", i, " is ",
              belief.score_norm);
      weights[i] = weight(belief.pass_rate, belief.score_norm, a, b);
    }
    const auto unknown = [&](std::size_t i) { return beliefs[i].evidence == 0; };
    detail::give_even_share(out, budget, unknown);
    detail::spend_among(
        out, out.left, [&](std::size_t i) { return !unknown(i); },
        [&](std::size_t i, std::uint32_t n) { return weights[i] / (static_cast<double>(n) + 0.5); });
    detail::spend_among(out, out.left, unknown, detail::no_gain);
    return out.counts;
  }
};

}  // namespace rlvr
