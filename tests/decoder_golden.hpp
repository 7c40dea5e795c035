#pragma once
/// What transformers computes in float64 for small decoders of every family (golden/decoder_golden.py).

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <fstream>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

#include <rlvr/backend/decoder/config.hpp>
#include <rlvr/backend/decoder/layout.hpp>
#include <rlvr/core/ragged.hpp>
#include <rlvr/core/rollouts.hpp>

#include "catch.hpp"

namespace decoder_golden {

/// The program may have been built in another checkout, and then runs at the root of this one.
inline nlohmann::json golden() {
  const std::string file = "tests/golden/decoder_golden.json";
  std::ifstream from(RLVR_SOURCE_DIR "/" + file);
  if (!from) from.open(file);
  REQUIRE(from);
  return nlohmann::json::parse(from);
}

inline rlvr::decoder::config config_of(const nlohmann::json& shape) {
  return rlvr::decoder::parse_config(shape["config"].get<std::string>(), "golden");
}

/// The parameters by the script's formula.
template <class T>
std::vector<T> parameters(const rlvr::decoder::config& c) {
  const std::vector<rlvr::tensor_slot> slots = rlvr::decoder::layout(c);
  std::vector<T> theta(rlvr::decoder::parameter_count(slots));
  for (std::size_t k = 0; k < slots.size(); ++k)
    for (std::size_t i = 0; i < slots[k].size(); ++i) {
      const double j = static_cast<double>(i);
      const double w = std::sin(0.7 * j + 0.003 * j * j + 1.3 * static_cast<double>(k) + 0.1);
      theta[slots[k].offset + i] = static_cast<T>(slots[k].name.ends_with("norm.weight") ? 1 + 0.1 * w : 0.35 * w);
    }
  return theta;
}

/// The rollouts, with a prompt of their own each.
struct batch {
  rlvr::ragged<rlvr::token> prompts;
  rlvr::rollouts r;
  std::vector<double> coefficients;

  explicit batch(const nlohmann::json& golden) {
    for (const nlohmann::json& c : golden["rollouts"]) {
      prompts.push_back(c["prompt"].get<std::vector<rlvr::token>>());
      const auto completion = c["completion"].get<std::vector<rlvr::token>>();
      r.tokens.insert(r.tokens.end(), completion.begin(), completion.end());
      r.offsets.push_back(r.tokens.size());
      r.prompts.push_back(static_cast<std::uint32_t>(prompts.size() - 1));
      r.finished.push_back(1);
      for (const double w : c["coefficients"]) coefficients.push_back(w);
    }
  }
};

}  // namespace decoder_golden
