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

/// Sum (or mean) over active tokens of log_probs - reference_log_probs: [B], all inputs checked.
template <class Real>
std::vector<double> sequence_scores(const char* who, const token_batch<Real>& b, sequence_score kind,
                                    std::span<Real> scratch) {
  each_token<combine::assign>(
      who, b, advantage_use::unused, {}, scratch, {},
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

/// Writes slope_i (over the length for a mean) at the active tokens of every sequence, 0 elsewhere.
template <class Real>
void spread(const token_batch<Real>& b, sequence_score kind, std::span<const double> slopes, std::span<Real> out) {
  for (std::size_t i = 0; i < b.size(); ++i) {
    const std::size_t n = active_length(b, i);
    const Real value =
        static_cast<Real>(kind == sequence_score::mean && n > 0 ? slopes[i] / static_cast<double>(n) : slopes[i]);
    for (std::size_t t = b.begin(i); t < b.end(i); ++t) out[t] = b.active(t) ? value : Real(0);
  }
}

/// For every pair: margin m = score(chosen) - score(rejected); slope(m) is added to the chosen sequence's, subtracted
/// from the rejected one's. A sequence may be in several pairs, and gets 0 when in none.
template <class Real, class Slope>
void pair_coefficients(const char* who, const token_batch<Real>& b, std::span<const preference_pair> pairs,
                       double weight, sequence_score kind, std::span<Real> coefficients, const Slope& slope) {
  require(is_finite(weight), who, ": weight is ", weight);
  for (std::size_t k = 0; k < pairs.size(); ++k)
    require(pairs[k].chosen < b.size() && pairs[k].rejected < b.size(), who, ": pair ", k, " is (", pairs[k].chosen,
            ", ", pairs[k].rejected, "), but there are ", b.size(), " sequences");
  const std::vector<double> scores = sequence_scores(who, b, kind, coefficients);
  std::vector<double> slopes(b.size());
  for (std::size_t k = 0; k < pairs.size(); ++k) {
    const double s = weight * slope(scores[pairs[k].chosen] - scores[pairs[k].rejected]);
    require(is_finite(s) && is_finite(static_cast<Real>(s)), who, ": the slope of pair ", k, " is ", s);
    slopes[pairs[k].chosen] += s;
    slopes[pairs[k].rejected] -= s;
  }
  spread<Real>(b, kind, slopes, coefficients);
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
/// s = smoothing (conservative DPO; 0 is DPO). weight = 1 / pairs is the mean over pairs. Coefficients of sequences in
/// no pair are 0. Throws std::invalid_argument for a pair that is not in the batch, arrays missing or not finite, beta
/// not positive, smoothing outside [0, 0.5]. O(T + pairs). Source: Rafailov et al. 2023, arXiv 2305.18290, eq. 7.
struct dpo {
  double beta = 0.1;
  double smoothing = 0;
  sequence_score score = sequence_score::sum;

  template <class Real>
  void operator()(const token_batch<Real>& b, std::span<const preference_pair> pairs, double weight,
                  coefficients_of<Real> coefficients) const {
    require(beta > 0 && is_finite(beta), "dpo: beta is ", beta);
    require(smoothing >= 0 && smoothing <= 0.5, "dpo: smoothing is ", smoothing);
    detail::pair_coefficients("dpo", b, pairs, weight, score, coefficients, [this](double m) {
      return beta * ((1 - smoothing) * detail::sigmoid(-beta * m) - smoothing * detail::sigmoid(beta * m));
    });
  }
};

/// With m as for dpo:
///
///     loss = weight sum over pairs of (m - 1 / (2 beta))^2,    kappa = +-2 weight (1 / (2 beta) - m)
///
/// sequence_score::sum is the paper's; TRL scores by the mean over tokens. Throws as dpo.
/// Source: Azar et al. 2023, arXiv 2310.12036, eq. 17.
struct ipo {
  double beta = 0.1;
  sequence_score score = sequence_score::sum;

  template <class Real>
  void operator()(const token_batch<Real>& b, std::span<const preference_pair> pairs, double weight,
                  coefficients_of<Real> coefficients) const {
    require(beta > 0 && is_finite(beta), "ipo: beta is ", beta);
    detail::pair_coefficients("ipo", b, pairs, weight, score, coefficients,
                              [this](double m) { return 2 * (1 / (2 * beta) - m); });
  }
};

}  // namespace rlvr
