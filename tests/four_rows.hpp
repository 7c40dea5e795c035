#pragma once
/// A world for the recipes: a tabular policy of 4 rows and 5 completions, and prompts that stand at its rows.

#include <cstddef>
#include <vector>

#include <rlvr/core/ragged.hpp>
#include <rlvr/core/random.hpp>
#include <rlvr/core/verdict.hpp>

namespace four_rows {

/// 4 rows of 5 completions; completion i of row i, which tests reward, is found sometimes.
inline std::vector<double> base_logits() {
  std::vector<double> logits(20);
  for (std::size_t i = 0; i < logits.size(); ++i) logits[i] = rlvr::random_key(4).uniform(i);
  return logits;
}

/// Prompt p stands at row p % 4.
inline rlvr::ragged<rlvr::token> prompts_of(std::size_t count) {
  rlvr::ragged<rlvr::token> out;
  for (std::size_t p = 0; p < count; ++p) out.push_back(std::vector<rlvr::token>{static_cast<rlvr::token>(p % 4)});
  return out;
}

}  // namespace four_rows
