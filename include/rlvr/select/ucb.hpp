#pragma once
/// Upper confidence bounds on a prompt's gain. Gains are within [0, 1]; a prompt never visited has bound +infinity.

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <limits>
#include <string_view>

#include <rlvr/core/error.hpp>
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
  static constexpr std::string_view state_name = "ucb1";
  double scale = 2;
  double operator()(const gain_belief& b, const pool_clock& now) const {
    return detail::if_visited(b.visits, b.mean + vector_sqrt(detail::per_visit(scale * now.log_visits, b.visits)));
  }
};

/// mean + sqrt(ln t / N min(1/4, variance + sqrt(2 ln t / N))). Source: Auer et al. 2002, section 4.
struct ucb1_tuned {
  static constexpr std::string_view state_name = "ucb1_tuned";
  double operator()(const gain_belief& b, const pool_clock& now) const {
    const double share = detail::per_visit(now.log_visits, b.visits), v = b.variance + vector_sqrt(2 * share);
    return detail::if_visited(b.visits, b.mean + vector_sqrt(share * (v < 0.25 ? v : 0.25)));
  }
};

/// mean + sqrt(2 zeta ln t variance / N) + 3 c zeta ln t / N. Source: Audibert, Munos, Szepesvari 2009.
struct ucb_v {
  static constexpr std::string_view state_name = "ucb_v";
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
  static constexpr std::string_view state_name = "kl_ucb";
  double c = 0;
  double operator()(const gain_belief& b, const pool_clock& now) const {
    if (b.visits <= 0) return detail::unvisited;
    const double l = now.log_visits;
    return detail::kl_upper(b.mean, (l + (c == 0 ? 0 : c * std::log(std::max(l, 1.0)))) / b.visits);
  }
};

/// mean + 2 bound sqrt(xi ln t / N), gains within [0, bound], over a fading gain_tracker: t is the sum of all N.
/// Source: D-UCB, Garivier and Moulines 2008 (arXiv 0805.3415); xi > 1/2 in the proof, 1/2 in its experiments.
struct discounted_ucb {
  static constexpr std::string_view state_name = "discounted_ucb";
  double bound = 1;
  double xi = 0.5;
  double operator()(const gain_belief& b, const pool_clock& now) const {
    const double width = 2 * bound * vector_sqrt(detail::per_visit(xi * now.log_visits, b.visits));
    return detail::if_visited(b.visits, b.mean + width);
  }
};

/// mean + bound sqrt(xi ln t / N), gains within [0, bound], over a gain_window_tracker: t is the window's filled part.
/// Source: SW-UCB, the same paper; xi likewise.
struct sliding_window_ucb {
  static constexpr std::string_view state_name = "sliding_window_ucb";
  double bound = 1;
  double xi = 0.5;
  double operator()(const gain_belief& b, const pool_clock& now) const {
    const double width = bound * vector_sqrt(detail::per_visit(xi * now.log_visits, b.visits));
    return detail::if_visited(b.visits, b.mean + width);
  }
};

/// The largest utility of the pass rate within its KL confidence interval, over a tracker whose gain is the pass rate:
/// optimism about p instead of about the utility, so that a prompt known to be solved has a low bound at once. The
/// interval holds the rates q with N kl(mean, q) <= ln t, where N counts visits.
template <class Rate>
struct optimistic {
  static constexpr detail::joined_name state_name{"optimistic ", detail::name_of<Rate>()};
  Rate of = {};
  double operator()(const gain_belief& b, const pool_clock& now) const {
    if (b.visits <= 0) return detail::unvisited;
    const double d = now.log_visits / b.visits;
    return of(std::clamp(of.peak, 1 - detail::kl_upper(1 - b.mean, d), detail::kl_upper(b.mean, d)));
  }
};

// The rules by name, and make_*, a fresh selector of the prompts 0 ... pool - 1. The gain of a visit is rate_advantage
// of its pass rate, the mean |A|, unless told otherwise. Groups with equal rewards are not kept.

template <class Gain = gain_of_rate<rate_advantage>>
using ucb1_selector = pool_selector<gain_tracker<Gain>, ucb1, draw_top, keep_mixed>;
template <class Gain = gain_of_rate<rate_advantage>>
using ucb1_tuned_selector = pool_selector<gain_tracker<Gain>, ucb1_tuned, draw_top, keep_mixed>;
template <class Gain = gain_of_rate<rate_advantage>>
using ucb_v_selector = pool_selector<gain_tracker<Gain>, ucb_v, draw_top, keep_mixed>;
template <class Gain = gain_of_rate<rate_advantage>>
using kl_ucb_selector = pool_selector<gain_tracker<Gain>, kl_ucb, draw_top, keep_mixed>;
template <class Gain = gain_of_rate<rate_advantage>>
using discounted_ucb_selector = pool_selector<gain_tracker<Gain>, discounted_ucb, draw_top, keep_mixed>;
template <class Gain = gain_of_rate<rate_advantage>>
using sliding_window_ucb_selector =
    pool_selector<gain_window_tracker<Gain>, sliding_window_ucb, draw_top, keep_mixed>;
template <class Rate = rate_variance>
using optimistic_selector = pool_selector<gain_tracker<gain_of_rate<rate_itself>>, optimistic<Rate>, draw_top, keep_mixed>;

/// UCB1: the largest ucb1 index.
template <class Gain = gain_of_rate<rate_advantage>>
ucb1_selector<Gain> make_ucb1(std::size_t pool, ucb1 index = {}, Gain gain = {}) {
  return ucb1_selector<Gain>(gain_tracker<Gain>(pool, 1, gain), index);
}

/// UCB1-Tuned: the largest ucb1_tuned index.
template <class Gain = gain_of_rate<rate_advantage>>
ucb1_tuned_selector<Gain> make_ucb1_tuned(std::size_t pool, Gain gain = {}) {
  return ucb1_tuned_selector<Gain>(gain_tracker<Gain>(pool, 1, gain));
}

/// UCB-V: the largest ucb_v index.
template <class Gain = gain_of_rate<rate_advantage>>
ucb_v_selector<Gain> make_ucb_v(std::size_t pool, ucb_v index = {}, Gain gain = {}) {
  return ucb_v_selector<Gain>(gain_tracker<Gain>(pool, 1, gain), index);
}

/// KL-UCB: the largest kl_ucb index.
template <class Gain = gain_of_rate<rate_advantage>>
kl_ucb_selector<Gain> make_kl_ucb(std::size_t pool, kl_ucb index = {}, Gain gain = {}) {
  return kl_ucb_selector<Gain>(gain_tracker<Gain>(pool, 1, gain), index);
}

/// D-UCB: the largest discounted_ucb index; a visit counts fade^(steps since). For T steps of one prompt in which the
/// gains change U times the paper takes 1 - sqrt(U / T) / (4 bound). Throws std::invalid_argument for a fade outside
/// (0, 1): with 1 nothing is discounted, see make_ucb1.
template <class Gain = gain_of_rate<rate_advantage>>
discounted_ucb_selector<Gain> make_discounted_ucb(std::size_t pool, double fade, discounted_ucb index = {},
                                                  Gain gain = {}) {
  require(fade > 0 && fade < 1, "make_discounted_ucb: fade is ", fade, ", outside (0, 1)");
  return discounted_ucb_selector<Gain>(gain_tracker<Gain>(pool, fade, gain), index);
}

/// SW-UCB: the largest sliding_window_ucb index over the last `window` visits to the pool. For T visits in which the
/// gains change U times the paper takes 2 bound sqrt(T ln T / U). Throws std::invalid_argument for window 0.
template <class Gain = gain_of_rate<rate_advantage>>
sliding_window_ucb_selector<Gain> make_sliding_window_ucb(std::size_t pool, std::size_t window,
                                                          sliding_window_ucb index = {}, Gain gain = {}) {
  return sliding_window_ucb_selector<Gain>(gain_window_tracker<Gain>(pool, window, gain), index);
}

/// The largest `of` that the KL confidence interval of the pass rate allows.
template <class Rate = rate_variance>
optimistic_selector<Rate> make_optimistic(std::size_t pool, Rate of = {}) {
  return optimistic_selector<Rate>(gain_tracker<gain_of_rate<rate_itself>>(pool), {of});
}

}  // namespace rlvr
