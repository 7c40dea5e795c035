#pragma once
/// One objective with its loss, and what losses are written with.

#include <algorithm>
#include <functional>
#include <limits>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include <rlvr/objective/objective.hpp>
#include <rlvr/objective/policy_gradient.hpp>

#include "objective_world.hpp"

namespace rlvr::testing {

using values = std::vector<double>;
inline constexpr double infinity = std::numeric_limits<double>::infinity();

/// An objective and its loss.
struct objective_case {
  std::string header;  ///< in include/rlvr/objective/
  std::string name;
  /// Coefficients and branches of a world with [B] weights.
  std::function<void(const world<double>&, const values& weights, std::span<double>, std::span<branch>)> run;
  /// The loss of that world.
  std::function<loss_function(const world<double>&, const values& weights)> loss;
  /// Branches that must come up in random worlds, and no others.
  std::vector<branch> taken = {branch::active};
  double spread = 1.6;                                         ///< of log-ratios
  std::optional<advantages_per> per = {};                      ///< empty: both
  std::optional<masks> mask = {};                              ///< empty: both
  std::function<void(world<double>&)> prepare = [](auto&) {};  ///< what random worlds do not have
  /// The branch of an active token by the docstring; not needed where only one is taken.
  std::function<branch(const world<double>&, std::size_t i, std::size_t t)> code = {};
};

/// Sum over the active tokens of a sequence.
template <class F>
double sum_sequence(const world<double>& w, std::size_t i, F f) {
  double sum = 0;
  for (std::size_t t = w.offsets[i]; t < w.offsets[i + 1]; ++t) sum += w.active(t) ? f(t) : 0.0;
  return sum;
}

/// The loss sum_i w_i sum_t l(world, A, t, x_t, frozen_t) of a per-token l.
template <class Token>
auto token_loss(Token token) {
  return [token](const world<double>& w, const values& weights) -> loss_function {
    return [&w, weights, token](const values& x, const values& frozen) {
      return sum_tokens(w, weights,
                        [&](std::size_t i, std::size_t t) { return token(w, w.advantage(i, t), t, x[t], frozen[t]); });
    };
  };
}

/// The loss sum_i w_i l(world, i, x, frozen) of an l per sequence.
template <class Sequence>
auto sequence_loss(Sequence sequence) {
  return [sequence](const world<double>& w, const values& weights) -> loss_function {
    return [&w, weights, sequence](const values& x, const values& frozen) {
      double sum = 0;
      for (std::size_t i = 0; i < w.size(); ++i) sum += weights[i] * sequence(w, i, x, frozen);
      return sum;
    };
  };
}

inline double clipped_surrogate(double r, double a, double low, double high) {
  return std::min(r * a, std::clamp(r, 1 - low, 1 + high) * a);
}

/// The side of that minimum which holds.
inline branch clipped_side(double r, double a, double low, double high, double dual = infinity) {
  if (a > 0) return r > 1 + high ? branch::clipped_high : branch::active;
  if (a < 0 && r < 1 - low) return branch::clipped_low;
  return a < 0 && r > dual ? branch::dual : branch::active;
}

/// The side of [min, max] that r is on.
inline branch outside(double r, double min, double max) {
  return r > max ? branch::clipped_high : r < min ? branch::clipped_low : branch::active;
}

/// Saturated where nothing else holds.
inline branch or_saturated(branch b, bool beyond) {
  return b == branch::active && beyond ? branch::saturated : b;
}

/// The log-ratio of a token.
inline double moved(const world<double>& w, std::size_t t) {
  return w.log_probs[t] - w.old_log_probs[t];
}

/// What clipping does.
inline const std::vector<branch> clipped{branch::active, branch::clipped_high, branch::clipped_low};

inline std::vector<branch> with(std::vector<branch> some, branch one) {
  some.push_back(one);
  return some;
}

/// Makes a case's `run` of an objective.
template <class O>
auto run_of(const O& o) {
  return [o](const world<double>& w, const values& weights, std::span<double> c, std::span<branch> codes) {
    o(w.view(), weights, c, codes);
  };
}

/// ... of a correction, after the plain policy gradient,
template <class F>
auto run_after(const F& f) {
  return [f](const world<double>& w, const values& weights, std::span<double> c, std::span<branch> codes) {
    policy_gradient{}(w.view(), weights, c, codes);
    f(w.view(), c, codes);
  };
}

/// ... and of a penalty, which adds to coefficients.
template <class F>
auto run_added(const F& f) {
  return [f](const world<double>& w, const values& weights, std::span<double> c, std::span<branch> codes) {
    policy_gradient{}(w.view(), weights, c, codes);
    std::fill(c.begin(), c.end(), 5.0);
    f(w.view(), weights, c);
    for (std::size_t t = 0; t < c.size(); ++t) c[t] -= 5;
  };
}

}  // namespace rlvr::testing
