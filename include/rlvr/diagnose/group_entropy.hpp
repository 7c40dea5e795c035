#pragma once
/// How undecided a policy is at one prompt: entropies of a group of rollouts, in [0, 1].

#include <algorithm>
#include <cmath>
#include <concepts>
#include <cstddef>
#include <span>
#include <type_traits>
#include <utility>
#include <vector>

#include <rlvr/core/error.hpp>
#include <rlvr/core/rollouts.hpp>
#include <rlvr/core/slice.hpp>

namespace rlvr {

/// A measure of the rollouts [begin, end) of r, all of one prompt: 0 where they agree, at most 1; 1 where there is
/// nothing to measure. Pure. May throw std::invalid_argument for rollouts that are not in r and damaged offsets.
template <class E>
concept group_entropy = requires(const E& e, const rollouts& r, std::size_t begin, std::size_t end) {
  { e(r, begin, end) } -> std::same_as<double>;
};

/// Nothing is measured: 1.
struct no_entropy {
  double operator()(const rollouts&, std::size_t, std::size_t) const { return 1; }
};

/// -sum_a (n_a / n) ln(n_a / n) / ln(n) over the distinct values a, n_a of them equal to a; 1 for fewer than two
/// values. Sorts them. O(n log n) comparisons.
template <std::totally_ordered Value>
double normalized_entropy(std::vector<Value> values) {
  if (values.size() < 2) return 1;
  std::sort(values.begin(), values.end());
  const double n = static_cast<double>(values.size());
  double sum = 0;
  for (std::size_t begin = 0, i = 1; i <= values.size(); ++i) {
    if (i < values.size() && values[i] == values[begin]) continue;
    const double count = static_cast<double>(i - begin);
    sum += count * std::log(count);
    begin = i;
  }
  return std::clamp(1 - sum / (n * std::log(n)), 0.0, 1.0);
}

/// The whole completion.
struct whole_completion {
  std::vector<token> operator()(std::span<const token> completion) const {
    return {completion.begin(), completion.end()};
  }
};

/// Entropy of the distinct answers over ln(number of rollouts). answer(completion) is what is compared: text, tokens, a
/// number. Throws std::invalid_argument for rollouts that are not in r and damaged offsets. Source: the answer entropy
/// of self-consistency, as in SGAC's disagreement (arXiv 2605.01823).
template <class Answer = whole_completion>
struct answer_entropy {
  Answer answer = {};

  double operator()(const rollouts& r, std::size_t begin, std::size_t end) const {
    detail::check_completions(r, begin, end, "answer_entropy");
    std::vector<std::remove_cvref_t<std::invoke_result_t<const Answer&, std::span<const token>>>> values;
    values.reserve(end - begin);
    for (std::size_t i = begin; i < end; ++i) values.push_back(answer(r.completion(i)));
    return normalized_entropy(std::move(values));
  }
};

/// Mean entropy of the next-token distributions over ln(vocabulary), the largest there is.
struct token_entropy {
  std::size_t vocabulary = 0;

  /// Throws std::invalid_argument for a vocabulary below 2, rollouts that are not in r, damaged offsets, and when there
  /// is not one entropy per token.
  double operator()(const rollouts& r, std::size_t begin, std::size_t end) const {
    require(vocabulary > 1, "token_entropy: vocabulary is ", vocabulary);
    detail::check_cut(r, begin, end, "token_entropy");
    require(r.entropies.size() == r.offsets.back(), "token_entropy: ", r.entropies.size(), " entropies for ",
            r.offsets.back(), " tokens");
    const std::size_t first = r.offsets[begin], last = r.offsets[end];
    if (first == last) return 1;
    double sum = 0;
    for (std::size_t t = first; t < last; ++t) sum += r.entropies[t];
    return std::clamp(sum / (static_cast<double>(last - first) * std::log(static_cast<double>(vocabulary))), 0.0, 1.0);
  }
};

}  // namespace rlvr
