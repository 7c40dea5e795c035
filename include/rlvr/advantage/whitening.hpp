#pragma once
/// Values minus their weighted mean, over their weighted deviation.

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <span>
#include <type_traits>

#include <rlvr/advantage/deviation.hpp>
#include <rlvr/core/error.hpp>

namespace rlvr {

/// Whose mean and variance: weights are counts. A mask of 0 and 1 per token, a number of tokens per rollout.
template <class W>
concept whitening_weight = std::is_arithmetic_v<W>;

namespace detail {

/// sum_i f(i) in four interleaved partial sums: a fixed order, and four times faster than one chain of additions.
template <class F>
double four_sums(std::size_t n, F f) {
  double a = 0, b = 0, c = 0, d = 0;
  std::size_t i = 0;
  for (; i + 4 <= n; i += 4) {
    a += f(i);
    b += f(i + 1);
    c += f(i + 2);
    d += f(i + 3);
  }
  for (; i < n; ++i) a += f(i);
  return (a + b) + (c + d);
}

}  // namespace detail

/// x_i <- (x_i - mean) * factor(variance) where w_i > 0, in place; 0 where w_i = 0, whatever stood there.
///
///     mean = sum w x / sum w        variance = sum w (x - mean)^2 / (sum w - ddof)
///
/// Weights count observations: a rollout of n tokens that all have its value weighs n, so that long rollouts decide
/// mean and variance. Equal values, a single observation, or none give exact zeros. Two passes, relative to one of
/// the values. Throws std::invalid_argument, with nothing changed, when sizes differ, a weight is negative or not
/// finite, a value that has weight is not finite, squares overflow, or the deviation is impossible. O(n).
/// Source: verl masked_whiten (the default deviation here), OpenRLHF, NeMo-RL and slime with other constants.
template <whitening_weight W>
void whiten(std::span<double> values, std::span<const W> weights,
            const deviation& d = {.epsilon = 1e-8, .place = epsilon_place::beside_variance}) {
  d.check("whiten");
  require(values.size() == weights.size(), "whiten: ", values.size(), " values, ", weights.size(), " weights");
  const auto weight = [&](std::size_t i) { return static_cast<double>(weights[i]); };
  const std::size_t n = values.size();
  std::size_t first = 0;
  while (first < n && weights[first] == W{}) ++first;
  const double origin = first < n ? values[first] : 0.0;
  const auto value = [&](std::size_t i) { return weights[i] == W{} ? 0.0 : values[i] - origin; };
  bool differ = false, sound = true;
  for (std::size_t i = 0; i < n; ++i) {
    differ |= value(i) != 0;
    if constexpr (std::is_signed_v<W>) sound &= weights[i] >= W{};
  }
  const double total = detail::four_sums(n, weight);
  const double sum = detail::four_sums(n, [&](std::size_t i) { return weight(i) * value(i); });
  if (!sound || !std::isfinite(total) || !std::isfinite(sum))
    for (std::size_t i = 0; i < n; ++i) {
      require(weight(i) >= 0 && std::isfinite(weight(i)), "whiten: weight ", i, " is ", weight(i));
      require(weights[i] == W{} || std::isfinite(values[i]), "whiten: value ", i, " is ", values[i]);
    }
  if (!differ || !(total > static_cast<double>(d.ddof))) {
    for (double& x : values) x = 0;
    return;
  }
  const double mean = sum / total;  // relative to origin
  const double squares = detail::four_sums(n, [&](std::size_t i) {
    const double x = value(i) - mean;
    return weight(i) * x * x;
  });
  require(std::isfinite(squares), "whiten: the squares of the values overflow");
  const double factor = d.factor(squares / (total - static_cast<double>(d.ddof)));
  for (std::size_t i = 0; i < n; ++i) values[i] = weights[i] == W{} ? 0.0 : factor * (values[i] - origin - mean);
}

}  // namespace rlvr
