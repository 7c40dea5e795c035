#pragma once
/// Partial credit for the steps of a solution that follow from the steps before them.

#include <concepts>
#include <cstddef>
#include <string_view>
#include <utility>

#include <rlvr/verify/verifier.hpp>

namespace rlvr {

/// How many steps of a solution were looked at, and how many of them are valid.
struct step_count {
  std::size_t valid = 0;
  std::size_t total = 0;  ///< at least valid; 0 when the text is no solution at all
};

/// What a step_verifier asks: the steps of a completion, given the reference. Total, pure, linear, noexcept.
template <class F>
concept step_counter = requires(const F& f, std::string_view completion, std::string_view reference) {
  { f(completion, reference) }
  noexcept->std::same_as<step_count>;
};

enum class step_rule {
  fraction,  ///< valid / total
  all        ///< 1 when every step is valid, else 0
};

/// Process reward: the share of valid steps, or 1 only when all are. A completion without steps gets 0. Models
/// text_verifier.
///
/// `count(completion, reference)` knows the task: it cuts the completion into steps and says how many follow
/// from those before. The reference is whatever the counter wants: the problem rather than the answer, usually.
template <step_counter F>
struct step_verifier {
  F count = {};
  step_rule rule = step_rule::fraction;

  verdict operator()(std::string_view completion, std::string_view reference) const noexcept {
    const step_count n = count(completion, reference);
    if (n.total == 0) return {.reward = 0};
    if (rule == step_rule::all) return {.reward = n.valid == n.total ? 1.0 : 0.0};
    return {.reward = static_cast<double>(n.valid) / static_cast<double>(n.total)};
  }
};

template <class F>
step_verifier(F) -> step_verifier<F>;
template <class F>
step_verifier(F, step_rule) -> step_verifier<F>;

}  // namespace rlvr
