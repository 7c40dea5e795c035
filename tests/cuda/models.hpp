#pragma once
/// Small random decoders with a vocabulary of 37, and a batch for them.

#include <cstddef>
#include <string>
#include <vector>

#include <rlvr/backend/decoder/config.hpp>
#include <rlvr/core/ragged.hpp>
#include <rlvr/core/random.hpp>
#include <rlvr/core/rollouts.hpp>

#include "../small_decoders.hpp"

namespace cuda_models {

using namespace rlvr;

inline const char* const families[] = {"llama", "qwen2", "qwen3", "olmo2", "olmo3"};

inline decoder::config small(const std::string& model_type, std::size_t head_dim = 6) {
  return rlvr::testing::small_decoder(model_type, 37, head_dim);
}
inline std::vector<float> parameters(const decoder::config& c) { return rlvr::testing::small_parameters<float>(c); }

/// Prompts of several tiles and of one token, groups, rollouts of one token, equal rollouts, and a prompt that returns.
struct batch {
  ragged<token> prompts;
  rollouts r;
  std::vector<double> coefficients;

  batch() {
    std::uint64_t at = 0;
    const auto words = [&](std::size_t n) {
      std::vector<token> out;
      for (std::size_t i = 0; i < n; ++i) out.push_back(static_cast<token>(random_key(5).below(37, at++)));
      return out;
    };
    for (const std::size_t n : {5, 1, 43, 5}) prompts.push_back(words(n));
    const std::vector<std::pair<std::uint32_t, std::size_t>> shapes{{0, 9}, {0, 1}, {0, 38}, {2, 3}, {2, 20},
                                                                    {1, 6}, {3, 2}, {0, 4},  {2, 1}};
    for (const auto& [prompt, length] : shapes) add(prompt, words(length));
    const std::span<const token> again = r.completion(7);
    add(0, std::vector<token>(again.begin(), again.end()));
    for (std::size_t t = 0; t < r.tokens.size(); ++t) coefficients.push_back(2 * random_key(6).uniform(t) - 1);
  }
  void add(std::uint32_t prompt, const std::vector<token>& completion) {
    r.tokens.insert(r.tokens.end(), completion.begin(), completion.end());
    r.offsets.push_back(r.tokens.size());
    r.prompts.push_back(prompt);
    r.finished.push_back(0);
  }
};

}  // namespace cuda_models
