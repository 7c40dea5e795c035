#pragma once
/// Small random decoders of the five families, and a batch for them.

#include <cstddef>
#include <string>
#include <vector>

#include <rlvr/backend/decoder/config.hpp>
#include <rlvr/backend/decoder/layout.hpp>
#include <rlvr/core/ragged.hpp>
#include <rlvr/core/random.hpp>
#include <rlvr/core/rollouts.hpp>

namespace cuda_models {

using namespace rlvr;

inline const char* const families[] = {"llama", "qwen2", "qwen3", "olmo2", "olmo3"};

inline decoder::config small(const std::string& model_type, std::size_t head_dim = 6) {
  decoder::config c;
  c.model_type = model_type;
  c.vocab_size = 37;
  c.hidden_size = 24;
  c.intermediate_size = 20;
  c.layers = 2;
  c.heads = 4;
  c.kv_heads = 2;
  c.head_dim = head_dim;
  c.max_positions = 128;
  c.eos = {1};
  const bool olmo = model_type == "olmo2" || model_type == "olmo3";
  c.tied_embeddings = model_type == "qwen2";
  c.qkv_bias = model_type == "qwen2" || model_type == "llama";
  c.output_bias = model_type == "llama";
  c.qk_norm = olmo || model_type == "qwen3";
  c.post_norm = olmo;
  if (model_type == "qwen3" || model_type == "olmo3") c.windows = {7, 0};
  if (model_type == "olmo3" || model_type == "llama")
    c.rope = {.kind = decoder::rope_kind::yarn, .factor = 4, .original_positions = 32, .attention_factor = 1.1};
  return c;
}

/// Norms near 1, everything else about as large as in a trained model.
inline std::vector<float> parameters(const decoder::config& c) {
  const std::vector<tensor_slot> slots = decoder::layout(c);
  std::vector<float> theta(decoder::parameter_count(slots));
  for (const tensor_slot& slot : slots) {
    const bool is_norm = slot.name.ends_with("norm.weight");
    for (std::size_t i = slot.offset; i < slot.offset + slot.size(); ++i)
      theta[i] = static_cast<float>((is_norm ? 1 : 0) + (is_norm ? 0.2 : 0.8) * (random_key(31).uniform(i) - 0.5));
  }
  return theta;
}

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
