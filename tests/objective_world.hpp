#pragma once
/// Random ragged batches for the tests of objectives, and finite differences of losses written out by hand.

#include <cmath>
#include <cstdint>
#include <functional>
#include <limits>
#include <string>
#include <vector>

#include <rlvr/core/random.hpp>
#include <rlvr/objective/objective.hpp>

#include "catch.hpp"
#include "view_of.hpp"

namespace rlvr::testing {

enum class advantages_per { sequence, token };
enum class masks { none, random };

/// Arrays of a batch, and a view of them. Masked tokens hold NaN in every array.
template <class Real>
struct world {
  std::vector<std::size_t> offsets{0}, groups{0};
  std::vector<Real> advantages, token_advantages, log_probs, old_log_probs, sampled_log_probs, reference_log_probs,
      entropies;
  std::vector<std::uint8_t> mask;

  std::size_t size() const { return offsets.size() - 1; }
  std::size_t tokens() const { return offsets.back(); }
  bool active(std::size_t t) const { return mask.empty() || mask[t] != 0; }
  Real advantage(std::size_t i, std::size_t t) const {
    return advantages.empty() ? token_advantages[t] : advantages[i];
  }
  double length(std::size_t i) const {
    double n = 0;
    for (std::size_t t = offsets[i]; t < offsets[i + 1]; ++t) n += active(t) ? 1 : 0;
    return n;
  }

  token_batch<Real> view() const {
    token_batch<Real> b = view_of<Real>(*this);
    if (groups.size() == 1) b.groups = {};
    return b;
  }
};

/// Lengths 0, 1, 2, ... mixed; log-ratios up to +-spread; advantages of both signs and some zeros.
template <class Real = double>
world<Real> make_world(std::uint64_t seed, advantages_per per = advantages_per::sequence, masks m = masks::random,
                       double spread = 1.6, std::size_t sequences = 12, std::size_t longest = 11) {
  const random_key key = random_key(seed).fold(static_cast<std::uint64_t>(per)).fold(static_cast<std::uint64_t>(m));
  std::uint64_t draws = 0;
  const auto uniform = [&](double low, double high) { return low + (high - low) * key.uniform(draws++); };
  const auto advantage = [&] { return uniform(0, 1) < 0.1 ? Real(0) : static_cast<Real>(uniform(-2, 2)); };
  const Real nan = std::numeric_limits<Real>::quiet_NaN();
  world<Real> w;
  for (std::size_t i = 0; i < sequences; ++i) {
    const auto length = static_cast<std::size_t>(uniform(0, static_cast<double>(longest) + 0.99));
    for (std::size_t k = 0; k < length; ++k) {
      const bool on = m == masks::none || uniform(0, 1) < 0.75;
      const double now = -uniform(0.02, 3);
      const auto near = [&] { return static_cast<Real>(now + uniform(-spread, spread)); };
      w.log_probs.push_back(on ? static_cast<Real>(now) : nan);
      w.old_log_probs.push_back(on ? near() : nan);
      w.sampled_log_probs.push_back(on ? near() : nan);
      w.reference_log_probs.push_back(on ? near() : nan);
      w.entropies.push_back(on ? static_cast<Real>(uniform(0, 3)) : nan);
      if (per == advantages_per::token) w.token_advantages.push_back(on ? advantage() : nan);
      if (m == masks::random) w.mask.push_back(on ? 1 : 0);
    }
    if (per == advantages_per::sequence) w.advantages.push_back(advantage());
    w.offsets.push_back(w.log_probs.size());
    if (uniform(0, 1) < 0.5 || i + 1 == sequences) w.groups.push_back(i + 1);
  }
  return w;
}

/// Sum over i of weight_i times the sum over active t of f(i, t).
template <class Real, class F>
double sum_tokens(const world<Real>& w, const std::vector<double>& weights, F f) {
  double sum = 0;
  for (std::size_t i = 0; i < w.size(); ++i)
    for (std::size_t t = w.offsets[i]; t < w.offsets[i + 1]; ++t)
      if (w.active(t)) sum += (weights.empty() ? 1.0 : weights[i]) * f(i, t);
  return sum;
}

/// -d loss / d log_probs[t] by central differences. `loss(x, frozen)` reads log-probabilities through which gradients
/// go from x, and those behind a stop-gradient from frozen.
using loss_function = std::function<double(const std::vector<double>& x, const std::vector<double>& frozen)>;
inline std::vector<double> descent(const world<double>& w, const loss_function& loss, double h = 1e-5) {
  std::vector<double> x = w.log_probs, out(x.size());
  for (std::size_t t = 0; t < x.size(); ++t) {
    if (!w.active(t)) continue;
    const double at = x[t];
    x[t] = at + h;
    const double up = loss(x, w.log_probs);
    x[t] = at - h;
    const double down = loss(x, w.log_probs);
    x[t] = at;
    out[t] = -(up - down) / (2 * h);
  }
  return out;
}

inline void check_close(const std::vector<double>& got, const std::vector<double>& expected, double tolerance = 2e-8) {
  REQUIRE(got.size() == expected.size());
  for (std::size_t t = 0; t < got.size(); ++t) {
    INFO("token " << t << ": " << got[t] << ", expected " << expected[t]);
    CHECK(std::fabs(got[t] - expected[t]) <= tolerance * (1 + std::fabs(expected[t])));
  }
}

/// Some weights that differ.
inline std::vector<double> some_weights(std::size_t n) {
  std::vector<double> w(n);
  for (std::size_t i = 0; i < n; ++i) w[i] = 0.3 + 0.2 * static_cast<double>(i % 5);
  return w;
}

}  // namespace rlvr::testing
