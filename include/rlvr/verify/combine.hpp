#pragma once
/// Verifiers made of verifiers.

#include <array>
#include <cmath>
#include <cstddef>
#include <string_view>
#include <utility>

#include <rlvr/core/error.hpp>
#include <rlvr/verify/verifier.hpp>

namespace rlvr {

namespace detail {

/// Verifiers one behind the other, without the cost of <tuple>.
template <class...>
struct verifier_list {
  template <class F>
  constexpr void each(const F&) const noexcept {}
};
template <class First, class... Rest>
struct verifier_list<First, Rest...> {
  static_assert(text_verifier<First>,
                "a verifier of text is called as `verdict operator()(std::string_view completion, std::string_view "
                "answer) const noexcept`");

  constexpr explicit verifier_list(First f, Rest... r) : first(std::move(f)), rest(std::move(r)...) {}
  /// f(v) for every verifier, in order.
  template <class F>
  constexpr void each(const F& f) const noexcept {
    f(first);
    rest.each(f);
  }
  First first;
  verifier_list<Rest...> rest;
};

}  // namespace detail

/// The least reward of several verifiers: right only where all are. Unscored when one is. Models text_verifier.
/// The parts are text_verifiers.
template <class First, class... Rest>
class all_of {
 public:
  constexpr explicit all_of(First first, Rest... rest) : parts_(std::move(first), std::move(rest)...) {}

  constexpr verdict operator()(std::string_view completion, std::string_view answer) const noexcept {
    verdict all = parts_.first(completion, answer);
    parts_.rest.each([&](const auto& part) {
      const verdict v = part(completion, answer);
      if (v.reward < all.reward) all.reward = v.reward;
      all.scored = all.scored && v.scored;
    });
    return all.scored ? all : verdict{.reward = 0, .scored = false};
  }

 private:
  detail::verifier_list<First, Rest...> parts_;
};

/// The greatest reward of the verifiers that could score: right where one is. Unscored when none could. Models
/// text_verifier. The parts are text_verifiers.
template <class First, class... Rest>
class any_of {
 public:
  constexpr explicit any_of(First first, Rest... rest) : parts_(std::move(first), std::move(rest)...) {}

  constexpr verdict operator()(std::string_view completion, std::string_view answer) const noexcept {
    verdict any{.reward = 0, .scored = false};
    parts_.each([&](const auto& part) {
      const verdict v = part(completion, answer);
      if (v.scored && (!any.scored || v.reward > any.reward)) any = v;
    });
    return any;
  }

 private:
  detail::verifier_list<First, Rest...> parts_;
};

/// The weighted sum of several rewards, sum_k w_k r_k. Unscored when one of them is. Models text_verifier.
///
/// The weights are taken as they are: they need not sum to one, and may be negative. Throws
/// std::invalid_argument for a weight that is not finite. The parts are text_verifiers.
template <class First, class... Rest>
class weighted_sum {
 public:
  constexpr weighted_sum(std::array<double, 1 + sizeof...(Rest)> weights, First first, Rest... rest)
      : weights_(weights), parts_(std::move(first), std::move(rest)...) {
    for (std::size_t k = 0; k < weights.size(); ++k)
      require(std::isfinite(weights[k]), "weighted_sum: weights[", k, "] is ", weights[k]);
  }

  constexpr verdict operator()(std::string_view completion, std::string_view answer) const noexcept {
    verdict sum{};
    std::size_t k = 0;
    parts_.each([&](const auto& part) {
      const verdict v = part(completion, answer);
      sum.reward += weights_[k++] * v.reward;
      sum.scored = sum.scored && v.scored;
    });
    return sum.scored ? sum : verdict{.reward = 0, .scored = false};
  }

 private:
  std::array<double, 1 + sizeof...(Rest)> weights_;
  detail::verifier_list<First, Rest...> parts_;
};

}  // namespace rlvr
