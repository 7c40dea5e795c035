#pragma once
/// What an objective is, and how to run one: whole, or in parts on threads of the caller's.

#include <concepts>
#include <cstddef>
#include <span>
#include <type_traits>
#include <vector>

#include <rlvr/objective/branch.hpp>
#include <rlvr/objective/each_token.hpp>
#include <rlvr/objective/token_batch.hpp>

namespace rlvr {

/// [B] aggregation weights, or empty for ones (see aggregation.hpp); the coefficient is weight times kappa.
template <class Real>
using weights_of = std::type_identity_t<std::span<const Real>>;
/// [T] room for the result.
template <class Real>
using coefficients_of = std::type_identity_t<std::span<Real>>;

/// From a batch to one coefficient per token, c_t = weight_i kappa_t with kappa_t = -d loss / d log pi(y_t), so that
/// sum_t c_t grad log pi(y_t) is the ascent direction of the objective.
///
///  - `o(batch, weights, coefficients, branches)`: writes T coefficients and, when branches is not empty, T branches.
///    A pure function of its arguments. Tokens outside the mask get exactly 0 and branch::masked; what the arrays hold
///    there is never looked at.
///  - A loss that belongs to a sequence counts once per active token: its kappa is right for weights that divide by
///    the sequence's length, unless the objective says otherwise.
///  - Throws std::invalid_argument for an array that is needed and not given, for sizes that differ, and for a value
///    inside the mask that is infinite or NaN, naming array, index and value; what was written is then to be thrown
///    away. A coefficient is always finite: a ratio that overflows and is neither clipped nor masked is an error.
///  - O(T), unless the objective says otherwise.
template <class O, class Real = double>
concept objective = requires(const O& o, const token_batch<Real>& b, std::span<const Real> weights,
                             std::span<Real> coefficients, std::span<branch> branches) {
  o(b, weights, coefficients, branches);
};

/// A loss as a trainer computes it, with its aggregation, corrections and penalties (presets/): `l(batch, coefficients,
/// branches)` writes. Its denominators are those of the batch it is given, so that it is not for parts. Corrections are
/// called alike and multiply: a loss says that it is one by a member type `complete_loss`. Throws and costs as an
/// objective.
template <class L, class Real = double>
concept complete_loss = requires(const L& l, const token_batch<Real>& b, std::span<Real> coefficients,
                                 std::span<branch> branches) {
  typename L::complete_loss;
  l(b, coefficients, branches);
};

/// What changes coefficients that an objective has written: corrections multiply them, `c(batch, coefficients,
/// branches)`; penalties add to them, `p(batch, weights, coefficients)` (kl_penalty, which gives branches too, has an
/// objective's call). Throws and costs as an objective.
template <class O, class Real = double>
concept adjustment = requires(const O& o, const token_batch<Real>& b, std::span<const Real> weights,
                              std::span<Real> coefficients, std::span<branch> branches) {
  requires !objective<O, Real> && !complete_loss<O, Real>;
  requires requires { o(b, coefficients, branches); } || requires { o(b, weights, coefficients); };
};

/// An objective or adjustment in which no sequence looks at another: it may be run on parts of a batch, with the same
/// bits. The others have a member type `whole_batch`.
template <class O, class Real = double>
concept separable = (objective<O, Real> || adjustment<O, Real>)&&!requires {
  typename O::whole_batch;
};

/// The coefficients as a new array: [T]. Throws what o throws.
template <class Real, objective<Real> O>
std::vector<Real> coefficients(const O& o, const token_batch<Real>& b, weights_of<Real> weights = {}) {
  validate(b, "coefficients");
  std::vector<Real> out(b.tokens());
  o(b, weights, std::span<Real>(out), std::span<branch>{});
  return out;
}

/// The same of a complete loss, which has its weights itself.
template <class Real, complete_loss<Real> L>
std::vector<Real> coefficients(const L& l, const token_batch<Real>& b) {
  validate(b, "coefficients");
  std::vector<Real> out(b.tokens());
  l(b, std::span<Real>(out), std::span<branch>{});
  return out;
}

/// Runs an objective or adjustment on `parts` parts of about as many tokens. `parallel_for(n, f)` must call
/// f(0) ... f(n-1), in any order, on any threads, and hand on what they throw. The bits are those of one call on the
/// whole batch.
template <class Real, separable<Real> O, class ParallelFor>
void run_in_parts(const O& o, const token_batch<Real>& b, weights_of<Real> weights, coefficients_of<Real> out,
                  std::span<branch> branches, std::size_t parts, ParallelFor&& parallel_for) {
  validate(b, "run_in_parts");
  require(out.size() == b.tokens(), "run_in_parts: room for ", out.size(), " coefficients, but there are ", b.tokens(),
          " tokens");
  require(branches.empty() || branches.size() == b.tokens(), "run_in_parts: room for ", branches.size(),
          " branches, but there are ", b.tokens(), " tokens");
  require(weights.empty() || weights.size() == b.size(), "run_in_parts: ", weights.size(), " weights for ", b.size(),
          " sequences");
  const std::vector<std::size_t> bounds = even_parts(b, parts);
  parallel_for(parts, [&](std::size_t k) {
    const std::size_t first = bounds[k], last = bounds[k + 1];
    if (first == last) return;
    const std::size_t begin = b.begin(first), count = b.end(last - 1) - begin;
    const token_batch<Real> own = part(b, first, last);
    const auto own_weights = weights.empty() ? weights : weights.subspan(first, last - first);
    const std::span<Real> own_out = out.subspan(begin, count);
    const std::span<branch> own_branches = branches.empty() ? branches : branches.subspan(begin, count);
    if constexpr (objective<O, Real>)
      o(own, own_weights, own_out, own_branches);
    else if constexpr (requires { o(own, own_out, own_branches); })
      o(own, own_out, own_branches);
    else
      o(own, own_weights, own_out);
  });
}

namespace detail {

template <class Real>
std::array<token_array<Real>, 2> now_and_old(const token_batch<Real>& b) {
  return {token_array<Real>{"log_probs", b.log_probs}, token_array<Real>{"old_log_probs", b.old_log_probs}};
}

}  // namespace detail

}  // namespace rlvr
