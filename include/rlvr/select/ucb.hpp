#pragma once
/// Upper confidence bounds on a prompt's gain. Gains are within [0, 1]; a prompt never visited has bound +infinity.

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <limits>

#include <rlvr/select/gain_trackers.hpp>
#include <rlvr/select/rate_utility.hpp>
#include <rlvr/select/selector.hpp>

namespace rlvr {

namespace detail {

inline constexpr double unvisited = std::numeric_limits<double>::infinity();

inline double log_visits(double visits) { return std::log(std::max(visits, 1.0)); }

/// KL divergence of Bernoulli(p) to Bernoulli(q), 0 < q < 1.
inline double bernoulli_kl(double p, double q) {
  const double success = p > 0 ? p * std::log(p / q) : 0;
  return success + (p < 1 ? (1 - p) * std::log((1 - p) / (1 - q)) : 0);
}

/// The largest q >= p with kl(p, q) <= d: bisection below Pinsker's bound p + sqrt(d / 2).
inline double kl_upper(double p, double d) {
  if (p >= 1) return 1;
  if (p <= 0) return -std::expm1(-d);
  double low = p, high = std::min(1.0, p + std::sqrt(d / 2));
  for (int i = 0; i < 50 && high - low > 1e-12; ++i) {
    const double middle = 0.5 * (low + high);
    (middle < 1 && bernoulli_kl(p, middle) <= d ? low : high) = middle;
  }
  return low;
}

}  // namespace detail

/// mean + sqrt(scale ln t / N). Source: Auer, Cesa-Bianchi, Fischer 2002, scale 2; UCB(alpha) has alpha / 2.
struct ucb1 {
  double scale = 2;
  double operator()(const gain_belief& b, const pool_clock& now) const {
    if (b.visits <= 0) return detail::unvisited;
    return b.mean + std::sqrt(scale * detail::log_visits(now.visits) / b.visits);
  }
};

/// mean + sqrt(ln t / N min(1/4, variance + sqrt(2 ln t / N))). Source: Auer et al. 2002, section 4.
struct ucb1_tuned {
  double operator()(const gain_belief& b, const pool_clock& now) const {
    if (b.visits <= 0) return detail::unvisited;
    const double share = detail::log_visits(now.visits) / b.visits;
    return b.mean + std::sqrt(share * std::min(0.25, b.variance + std::sqrt(2 * share)));
  }
};

/// mean + sqrt(2 zeta ln t variance / N) + 3 c zeta ln t / N. Source: Audibert, Munos, Szepesvari 2009.
struct ucb_v {
  double zeta = 1.2;
  double c = 1;
  double operator()(const gain_belief& b, const pool_clock& now) const {
    if (b.visits <= 0) return detail::unvisited;
    const double share = zeta * detail::log_visits(now.visits) / b.visits;
    return b.mean + std::sqrt(2 * share * b.variance) + 3 * c * share;
  }
};

/// The largest q with N kl(mean, q) <= ln t + c ln ln t, kl that of Bernoulli variables, to 1e-12.
/// Source: Garivier and Cappe 2011; c = 3 in the proof, 0 in practice.
struct kl_ucb {
  double c = 0;
  double operator()(const gain_belief& b, const pool_clock& now) const {
    if (b.visits <= 0) return detail::unvisited;
    const double l = detail::log_visits(now.visits);
    return detail::kl_upper(b.mean, (l + (c == 0 ? 0 : c * detail::log_visits(l))) / b.visits);
  }
};

/// mean + factor bound sqrt(xi ln t / N), where the tracker's counts forget: over a fading gain_tracker t is the sum of
/// all N and factor 2 (D-UCB), over a gain_window_tracker t is the window's filled part and factor 1 (SW-UCB).
/// Source: Garivier and Moulines 2008; xi > 1/2 in the proof.
struct forgetting_ucb {
  double factor = 2;
  double bound = 1;
  double xi = 0.5;
  double operator()(const gain_belief& b, const pool_clock& now) const {
    if (b.visits <= 0) return detail::unvisited;
    return b.mean + factor * bound * std::sqrt(xi * detail::log_visits(now.visits) / b.visits);
  }
};

/// The largest utility of the pass rate within its KL confidence interval, over a tracker whose gain is the pass rate:
/// optimism about p instead of about the utility, so that a prompt known to be solved has a low bound at once. The
/// interval holds the rates q with N kl(mean, q) <= ln t, where N counts visits.
template <class Rate>
struct optimistic {
  Rate of = {};
  double operator()(const gain_belief& b, const pool_clock& now) const {
    if (b.visits <= 0) return detail::unvisited;
    const double d = detail::log_visits(now.visits) / b.visits;
    return of(std::clamp(of.peak, 1 - detail::kl_upper(1 - b.mean, d), detail::kl_upper(b.mean, d)));
  }
};

// The rules by name: the gain of a visit is rate_advantage of its pass rate, the mean |A|, unless told otherwise.

template <class Gain = gain_of_rate<rate_advantage>>
using ucb1_selector = pool_selector<gain_tracker<Gain>, ucb1, draw_top, keep_mixed>;
template <class Gain = gain_of_rate<rate_advantage>>
using ucb1_tuned_selector = pool_selector<gain_tracker<Gain>, ucb1_tuned, draw_top, keep_mixed>;
template <class Gain = gain_of_rate<rate_advantage>>
using ucb_v_selector = pool_selector<gain_tracker<Gain>, ucb_v, draw_top, keep_mixed>;
template <class Gain = gain_of_rate<rate_advantage>>
using kl_ucb_selector = pool_selector<gain_tracker<Gain>, kl_ucb, draw_top, keep_mixed>;
template <class Gain = gain_of_rate<rate_advantage>>
using discounted_ucb_selector = pool_selector<gain_tracker<Gain>, forgetting_ucb, draw_top, keep_mixed>;
template <class Gain = gain_of_rate<rate_advantage>>
using sliding_window_ucb_selector = pool_selector<gain_window_tracker<Gain>, forgetting_ucb, draw_top, keep_mixed>;
template <class Rate = rate_variance>
using optimistic_selector = pool_selector<gain_tracker<gain_of_rate<rate_itself>>, optimistic<Rate>, draw_top, keep_mixed>;

}  // namespace rlvr
