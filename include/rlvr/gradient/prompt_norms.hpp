#pragma once
/// How long each prompt's own gradient is.

#include <cstddef>
#include <span>
#include <vector>

#include <rlvr/core/error.hpp>
#include <rlvr/core/norm.hpp>
#include <rlvr/core/policy.hpp>
#include <rlvr/core/slice.hpp>
#include <rlvr/core/validate.hpp>
#include <rlvr/gradient/sum_accumulator.hpp>

namespace rlvr {

namespace detail {

/// Calls each(gradient, begin, end) with the gradient of every group of rollouts [begin, end), which it may not keep.
template <differentiable P, class Each>
void for_each_prompt_gradient(P& policy, const ragged<token>& prompts, const rollouts& r,
                              std::span<const double> coefficients, double temperature, const Each& each) {
  validate_offsets(r);
  require(coefficients.size() == r.tokens.size(), "prompt_gradient_norms: ", coefficients.size(), " coefficients for ",
          r.tokens.size(), " tokens");
  const auto& space = policy.space();
  const groups by_prompt = groups_of(r.prompts);
  auto gradient = space.zero();
  for (std::size_t g = 0; g < by_prompt.size(); ++g) {
    const std::size_t begin = by_prompt.begin(g), end = by_prompt.end(g);
    policy.accumulate_score(prompts, slice(r, begin, end),
                            coefficients.subspan(r.offsets[begin], r.offsets[end] - r.offsets[begin]), temperature,
                            gradient);
    if (is_finite(each(gradient, begin, end)))
      space.scale(0, gradient);
    else
      gradient = space.zero();  // 0 times infinity is not 0
  }
}

}  // namespace detail

/// |sum_t c_t grad log pi(y_t | y_<t)| over the rollouts of each group, one per group of groups_of(r.prompts), in their
/// order: what importance sampling and the variance of gradients ask for.
///
/// Coefficients are per token, as for accumulate_score; with 1/B for the whole batch the norms are of parts of the
/// batch's gradient, with 1/G of each prompt's own. They contain the noise of the group's rollouts: the squared norm
/// exceeds that of the expected gradient by its variance. One backward pass over the batch, cut into groups, and one vector of memory, however many groups.
/// The policy's parameters are not touched. Throws std::invalid_argument for rollouts whose arrays differ in size, rollouts
/// of a prompt that do not stand side by side, a number of coefficients other than that of tokens, and what the policy
/// throws.
template <differentiable P>
std::vector<double> prompt_gradient_norms(P& policy, const ragged<token>& prompts, const rollouts& r,
                                          std::span<const double> coefficients, double temperature) {
  std::vector<double> norms;
  detail::for_each_prompt_gradient(policy, prompts, r, coefficients, temperature,
                                   [&](const parameters_t<P>& gradient, std::size_t, std::size_t) {
                                     return norms.emplace_back(norm(policy.space(), gradient));
                                   });
  return norms;
}

/// The same, and adds the gradients to `sum`, with the number of scored rollouts: norms and the gradient of the batch
/// from one backward pass. When anything throws, part of the batch may have been added: the sum is then to be thrown
/// away.
template <differentiable P>
std::vector<double> prompt_gradient_norms(P& policy, const ragged<token>& prompts, const rollouts& r,
                                          std::span<const double> coefficients, double temperature,
                                          sum_accumulator<space_t<P>>& sum) {
  require(r.verdicts.empty() || r.verdicts.size() == r.size(), "prompt_gradient_norms: ", r.verdicts.size(),
          " verdicts for ", r.size(), " rollouts");
  std::vector<double> norms;
  detail::for_each_prompt_gradient(policy, prompts, r, coefficients, temperature,
                                   [&](const parameters_t<P>& gradient, std::size_t begin, std::size_t end) {
                                     std::size_t scored = 0;
                                     for (std::size_t i = begin; i < end; ++i)
                                       scored += r.verdicts.empty() || r.verdicts[i].scored;
                                     sum.add(policy.space(), gradient, scored);
                                     return norms.emplace_back(norm(policy.space(), gradient));
                                   });
  return norms;
}

}  // namespace rlvr
