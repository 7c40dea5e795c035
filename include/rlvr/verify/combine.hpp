#pragma once
/// Verifiers made of verifiers.

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <string_view>
#include <tuple>
#include <utility>

#include <rlvr/core/error.hpp>
#include <rlvr/verify/verifier.hpp>

namespace rlvr {

/// The least reward of several verifiers: right only where all are. Unscored when one is. Models text_verifier.
template <text_verifier First, text_verifier... Rest>
class all_of {
 public:
  constexpr explicit all_of(First first, Rest... rest) : parts_(std::move(first), std::move(rest)...) {}

  constexpr verdict operator()(std::string_view completion, std::string_view answer) const noexcept {
    return std::apply(
        [&](const auto& first, const auto&... rest) {
          verdict all = first(completion, answer);
          const auto add = [&](verdict v) {
            all.reward = std::min(all.reward, v.reward);
            all.scored = all.scored && v.scored;
          };
          (add(rest(completion, answer)), ...);
          return all.scored ? all : verdict{.reward = 0, .scored = false};
        },
        parts_);
  }

 private:
  std::tuple<First, Rest...> parts_;
};

/// The greatest reward of the verifiers that could score: right where one is. Unscored when none could. Models
/// text_verifier.
template <text_verifier First, text_verifier... Rest>
class any_of {
 public:
  constexpr explicit any_of(First first, Rest... rest) : parts_(std::move(first), std::move(rest)...) {}

  constexpr verdict operator()(std::string_view completion, std::string_view answer) const noexcept {
    verdict any{.reward = 0, .scored = false};
    const auto add = [&](verdict v) {
      if (v.scored) any = {.reward = any.scored ? std::max(any.reward, v.reward) : v.reward};
    };
    std::apply([&](const auto&... part) { (add(part(completion, answer)), ...); }, parts_);
    return any;
  }

 private:
  std::tuple<First, Rest...> parts_;
};

/// The weighted sum of several rewards, sum_k w_k r_k. Unscored when one of them is. Models text_verifier.
///
/// The weights are taken as they are: they need not sum to one, and may be negative. Throws
/// std::invalid_argument for a weight that is not finite.
template <text_verifier First, text_verifier... Rest>
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
    const auto add = [&](verdict v) {
      sum.reward += weights_[k++] * v.reward;
      sum.scored = sum.scored && v.scored;
    };
    std::apply([&](const auto&... part) { (add(part(completion, answer)), ...); }, parts_);
    return sum.scored ? sum : verdict{.reward = 0, .scored = false};
  }

 private:
  std::array<double, 1 + sizeof...(Rest)> weights_;
  std::tuple<First, Rest...> parts_;
};

}  // namespace rlvr
