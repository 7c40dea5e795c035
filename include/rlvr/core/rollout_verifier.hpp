#pragma once
/// What judges rollouts. The verifiers themselves are in verify/.

#include <concepts>
#include <cstddef>
#include <span>

#include <rlvr/core/verdict.hpp>

namespace rlvr {

/// A verifier of the rollouts of known prompts.
///
///  - `v(prompt, completion)`: the verdict on one rollout of prompt number `prompt`; pure. May throw
///    std::invalid_argument for a prompt it does not know, or a std::runtime_error when the world fails (a
///    sandbox, a remote judge). The completion includes the end-of-sequence token when the rollout ended with
///    one.
template <class V>
concept rollout_verifier = requires(const V& v, std::size_t prompt, std::span<const token> completion) {
  { v(prompt, completion) } -> std::same_as<verdict>;
};

}  // namespace rlvr
