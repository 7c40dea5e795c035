#pragma once
/// Small random decoders of the five families.

#include <cstddef>
#include <string>
#include <vector>

#include <rlvr/backend/decoder/config.hpp>
#include <rlvr/backend/decoder/layout.hpp>
#include <rlvr/core/random.hpp>

namespace rlvr::testing {

/// Two layers with what is peculiar to the family; llama with every bias and YaRN.
inline decoder::config small_decoder(const std::string& model_type, std::size_t vocab_size = 13,
                                     std::size_t head_dim = 6) {
  decoder::config c;
  c.model_type = model_type;
  c.vocab_size = vocab_size;
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
template <class T>
std::vector<T> small_parameters(const decoder::config& c) {
  const std::vector<tensor_slot> slots = decoder::layout(c);
  std::vector<T> theta(decoder::parameter_count(slots));
  for (const tensor_slot& slot : slots) {
    const bool is_norm = slot.name.ends_with("norm.weight");
    for (std::size_t i = slot.offset; i < slot.offset + slot.size(); ++i)
      theta[i] = static_cast<T>((is_norm ? 1 : 0) + (is_norm ? 0.2 : 0.8) * (random_key(31).uniform(i) - 0.5));
  }
  return theta;
}

}  // namespace rlvr::testing
