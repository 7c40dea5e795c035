#pragma once
/// Every objective with its loss, written out by hand with its stop-gradients: what coefficients are checked against,
/// on random numbers and through policies.

#include <vector>

#include "objective_case.hpp"
#include "objective_losses_clipped.hpp"
#include "objective_losses_corrections.hpp"
#include "objective_losses_groups.hpp"
#include "objective_losses_penalties.hpp"
#include "objective_losses_sequence.hpp"
#include "objective_losses_weighted.hpp"

namespace rlvr::testing {

inline std::vector<objective_case> objective_cases() {
  std::vector<objective_case> out;
  add_clipped(out);
  add_covariances(out);
  add_weighted(out);
  add_sequence_ratios(out);
  add_corrections(out);
  add_penalties(out);
  add_sequence_losses(out);
  return out;
}

}  // namespace rlvr::testing
