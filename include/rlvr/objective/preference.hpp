#pragma once
/// Losses on preferred and rejected sequences: DPO, IPO.

#include <array>
#include <cmath>
#include <cstddef>
#include <span>
#include <vector>

#include <rlvr/objective/objective.hpp>

namespace rlvr {

/// Two sequences of a batch, by index.
struct preference_pair {
  std::size_t chosen = 0;
  std::size_t rejected = 0;
};

/// Whether a sequence is scored by the sum of its tokens' log-ratios or by their mean.
enum class sequence_score { sum, mean };

namespace detail {

/// Sum (or mean) over active tokens of log_probs - reference_log_probs: [B], all inputs and sizes checked. Branches
/// become active or masked.
template <class Real>
std::vector<double> sequence_scores(const char* who, const token_batch<Real>& b, sequence_score kind,
                                    std::span<Real> scratch, std::span<branch> branches) {
  each_token<combine::assign>(
      who, b, advantage_use::unused, {}, scratch, branches,
      std::array<token_array<Real>, 2>{{{"log_probs", b.log_probs}, {"reference_log_probs", b.reference_log_probs}}},
      [](std::size_t) { return [](Real, Real now, Real reference) { return token_value<Real>{now - reference}; }; });
  std::vector<double> out(b.size());
  for (std::size_t i = 0; i < b.size(); ++i) {
    out[i] = sum_active(b, i, [&](std::size_t t) { return b.log_probs[t] - b.reference_log_probs[t]; });
    const std::size_t n = active_length(b, i);
    if (kind == sequence_score::mean && n > 0) out[i] /= static_cast<double>(n);
  }
  return out;
}

/// What a loss on whole sequences says of one of them.
struct sequence_slope {
  double value = 0;  ///< -d loss / d score
  branch code = branch::active;
};

/// Writes the slope (over the length for a mean) at the active tokens of every sequence, 0 elsewhere; where branches
/// are asked for, its code at those tokens. Throws std::invalid_argument for a slope that is not finite.
template <class Real>
void spread(const char* who, const token_batch<Real>& b, sequence_score kind, std::span<const sequence_slope> slopes,
            std::span<Real> out, std::span<branch> branches) {
  for (std::size_t i = 0; i < b.size(); ++i) {
    const std::size_t n = active_length(b, i);
    const double share = kind == sequence_score::mean && n > 0 ? static_cast<double>(n) : 1.0;
    const Real value = static_cast<Real>(slopes[i].value / share);
    require(is_finite(value), who, ": the slope of sequence ", i, " is ", value, ", not a finite number");
    for (std::size_t t = b.begin(i); t < b.end(i); ++t) {
      out[t] = b.active(t) ? value : Real(0);
      if (!branches.empty() && b.active(t)) branches[t] = slopes[i].code;
    }
  }
}

/// For every pair: margin m = score(chosen) - score(rejected); slope(m) is added to the chosen sequence's, subtracted
/// from the rejected one's. A sequence may be in several pairs, and gets 0 when in none.
template <class Real, class Slope>
void pair_coefficients(const char* who, const token_batch<Real>& b, std::span<const preference_pair> pairs,
                       double weight, sequence_score kind, std::span<Real> coefficients, std::span<branch> branches,
                       const Slope& slope) {
  require(is_finite(weight), who, ": weight is ", weight);
  for (std::size_t k = 0; k < pairs.size(); ++k)
    require(pairs[k].chosen < b.size() && pairs[k].rejected < b.size(), who, ": pair ", k, " is (", pairs[k].chosen,
            ", ", pairs[k].rejected, "), but there are ", b.size(), " sequences");
  const std::vector<double> scores = sequence_scores(who, b, kind, coefficients, branches);
  std::vector<sequence_slope> slopes(b.size(), {0, branch::unpaired});
  for (const preference_pair& p : pairs) {
    const double s = weight * slope(scores[p.chosen] - scores[p.rejected]);
    slopes[p.chosen] = {slopes[p.chosen].value + s, branch::active};
    slopes[p.rejected] = {slopes[p.rejected].value - s, branch::active};
  }
  spread<Real>(who, b, kind, slopes, coefficients, branches);
}

/// 1 / (1 + e^-x), without overflow.
inline double sigmoid(double x) {
  const double e = std::exp(x < 0 ? x : -x);
  return (x < 0 ? e : 1.0) / (1 + e);
}

}  // namespace detail

/// With m = sum over the chosen sequence of (log_probs - reference_log_probs) less the rejected one's:
///
///     loss  = weight sum over pairs of -(1 - s) log sigmoid(beta m) - s log sigmoid(-beta m)
///     kappa = +-weight beta ((1 - s) sigmoid(-beta m) - s sigmoid(beta m)),  + on chosen tokens, - on rejected ones
///
/// s = smoothing (conservative DPO; 0 is DPO). weight = 1 / pairs is the mean over pairs. Branches: active; unpaired
/// for sequences in no pair, whose coefficients are 0. A margin beyond all doubles is a sigmoid of 0 or 1. Throws
/// std::invalid_argument for a pair that is not in the batch, arrays missing or not finite, coefficients that overflow,
/// beta not positive, smoothing outside [0, 0.5]. O(T + pairs). Source: Rafailov et al. 2023, arXiv 2305.18290, eq. 7.
struct dpo {
  double beta = 0.1;
  double smoothing = 0;
  sequence_score score = sequence_score::sum;

  template <class Real>
  void operator()(const token_batch<Real>& b, std::span<const preference_pair> pairs, double weight,
                  coefficients_of<Real> coefficients, std::span<branch> branches = {}) const {
    require(beta > 0 && is_finite(beta), "dpo: beta is ", beta);
    require(smoothing >= 0 && smoothing <= 0.5, "dpo: smoothing is ", smoothing);
    detail::pair_coefficients("dpo", b, pairs, weight, score, coefficients, branches, [this](double m) {
      return beta * ((1 - smoothing) * detail::sigmoid(-beta * m) - smoothing * detail::sigmoid(beta * m));
    });
  }
};

/// With m as for dpo:
///
///     loss = weight sum over pairs of (m - 1 / (2 beta))^2,    kappa = +-2 weight (1 / (2 beta) - m)
///
/// sequence_score::sum is the paper's; TRL scores by the mean over tokens. Branches and throws as dpo; a margin beyond
/// all doubles is an error. O(T + pairs).
/// Source: Azar et al. 2023, arXiv 2310.12036, eq. 17.
struct ipo {
  double beta = 0.1;
  sequence_score score = sequence_score::sum;

  template <class Real>
  void operator()(const token_batch<Real>& b, std::span<const preference_pair> pairs, double weight,
                  coefficients_of<Real> coefficients, std::span<branch> branches = {}) const {
    require(beta > 0 && is_finite(beta), "ipo: beta is ", beta);
    detail::pair_coefficients("ipo", b, pairs, weight, score, coefficients, branches,
                              [this](double m) { return 2 * (1 / (2 * beta) - m); });
  }
};

}  // namespace rlvr
