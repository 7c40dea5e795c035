#pragma once

#include <rlvr/objective/token_batch.hpp>

namespace rlvr::testing {

/// The batch of a struct that holds arrays of these names; those it lacks are not given.
template <class Real, class Arrays>
token_batch<Real> view_of(const Arrays& a) {
  token_batch<Real> b;
  b.offsets = a.offsets;
  b.advantages = a.advantages;
  b.log_probs = a.log_probs;
  b.old_log_probs = a.old_log_probs;
  b.sampled_log_probs = a.sampled_log_probs;
  b.reference_log_probs = a.reference_log_probs;
  b.entropies = a.entropies;
  b.mask = a.mask;
  if constexpr (requires { b.token_advantages = a.token_advantages; }) b.token_advantages = a.token_advantages;
  if constexpr (requires { b.groups = a.groups; }) b.groups = a.groups;
  return b;
}

}  // namespace rlvr::testing
