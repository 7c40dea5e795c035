#pragma once
/// Upper confidence bounds on a prompt's gain. Gains are within [0, 1]; a prompt never visited has bound +infinity.

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <limits>

#include <rlvr/core/square_root.hpp>
#include <rlvr/select/gain_trackers.hpp>
#include <rlvr/select/rate_utility.hpp>
#include <rlvr/select/selector.hpp>

namespace rlvr {

namespace detail {

inline constexpr double unvisited = std::numeric_limits<double>::infinity();
inline constexpr double forgotten = 1e-290;  ///< so few faded visits are none, before a / visits overflows

/// x, or +infinity when there are no visits; an addition and not a branch, for the sake of vector instructions. x is
/// finite or +infinity.
inline double if_visited(double visits, double x) { return x + (visits > forgotten ? 0 : unvisited); }

/// a / visits, 0 when there are none.
inline double per_visit(double a, double visits) { return a / (visits > forgotten ? visits : unvisited); }

/// KL divergence of Bernoulli(p) to Bernoulli(q), 0 < q < 1.
inline double bernoulli_kl(double p, double q) {
  const double success = p > 0 ? p * std::log(p / q) : 0;
  return success + (p < 1 ? (1 - p) * std::log((1 - p) / (1 - q)) : 0);
}

/// The q >= p with kl(p, q) = d: Newton from above, where kl is convex, so that every iterate is at least q. It begins at
/// the smaller of Pinsker's bound p + sqrt(d / 2) and the bound that p ln(p / q) >= p ln p leaves.
inline double kl_upper(double p, double d) {
  if (p >= 1 || d <= 0) return p;
  if (p <= 0) return -std::expm1(-d);
  const double room = (1 - p) * std::exp((p * std::log(p) - d) / (1 - p));
  double q = std::min(p + std::sqrt(d / 2), 1 - room);
  for (int i = 0; i < 30 && q < 1 && q > p; ++i) {
    const double step = (bernoulli_kl(p, q) - d) * q * (1 - q) / (q - p);
    q -= step;
    if (step < 1e-13) break;
  }
  return std::clamp(q, p, 1.0);
}

}  // namespace detail

/// mean + sqrt(scale ln t / N). Source: Auer, Cesa-Bianchi, Fischer 2002, scale 2; UCB(alpha) has alpha / 2.
struct ucb1 {
  double scale = 2;
  double operator()(const gain_belief& b, const pool_clock& now) const {
    return detail::if_visited(b.visits, b.mean + vector_sqrt(detail::per_visit(scale * now.log_visits, b.visits)));
  }
};

/// mean + sqrt(ln t / N min(1/4, variance + sqrt(2 ln t / N))). Source: Auer et al. 2002, section 4.
struct ucb1_tuned {
  double operator()(const gain_belief& b, const pool_clock& now) const {
    const double share = detail::per_visit(now.log_visits, b.visits), v = b.variance + vector_sqrt(2 * share);
    return detail::if_visited(b.visits, b.mean + vector_sqrt(share * (v < 0.25 ? v : 0.25)));
  }
};

/// mean + sqrt(2 zeta ln t variance / N) + 3 c zeta ln t / N. Source: Audibert, Munos, Szepesvari 2009.
struct ucb_v {
  double zeta = 1.2;
  double c = 1;
  double operator()(const gain_belief& b, const pool_clock& now) const {
    const double share = detail::per_visit(zeta * now.log_visits, b.visits);
    return detail::if_visited(b.visits, b.mean + vector_sqrt(2 * share * b.variance) + 3 * c * share);
  }
};

/// The largest q with N kl(mean, q) <= ln t + c ln ln t, kl that of Bernoulli variables.
/// Source: Garivier and Cappe 2011; c = 3 in the proof, 0 in practice.
struct kl_ucb {
  double c = 0;
  double operator()(const gain_belief& b, const pool_clock& now) const {
    if (b.visits <= 0) return detail::unvisited;
    const double l = now.log_visits;
    return detail::kl_upper(b.mean, (l + (c == 0 ? 0 : c * std::log(std::max(l, 1.0)))) / b.visits);
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
    const double width = factor * bound * vector_sqrt(detail::per_visit(xi * now.log_visits, b.visits));
    return detail::if_visited(b.visits, b.mean + width);
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
    const double d = now.log_visits / b.visits;
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
