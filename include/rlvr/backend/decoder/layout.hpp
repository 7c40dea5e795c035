#pragma once
/// All parameters of a decoder in one buffer: which tensor lies where.

#include <cstddef>
#include <string>
#include <utility>
#include <vector>

#include <rlvr/backend/decoder/config.hpp>
#include <rlvr/core/vector_space.hpp>

namespace rlvr::decoder {

/// The named tensors of a decoder, one behind the other, with the names that Hugging Face files use. Linear
/// maps are [out, in] row-major. Within a layer q_proj, k_proj, v_proj lie side by side and form one
/// [(heads + 2 kv_heads) head_dim, hidden_size] matrix (and their biases one vector); gate_proj and up_proj
/// form one [2 intermediate_size, hidden_size] matrix. With tied embeddings there is no lm_head.weight.
/// With post_norm there is no input_layernorm, and post_feedforward_layernorm follows down_proj.
/// Throws input_error for an invalid config. O(layers).
inline std::vector<tensor_slot> layout(const config& c) {
  validate(c);
  std::vector<tensor_slot> slots;
  std::size_t offset = 0;
  const auto add = [&](std::string name, std::vector<std::size_t> shape) {
    slots.push_back({std::move(name), std::move(shape), offset});
    offset += slots.back().size();
  };
  const std::size_t h = c.hidden_size, q = c.heads * c.head_dim, kv = c.kv_heads * c.head_dim;
  add("model.embed_tokens.weight", {c.vocab_size, h});
  for (std::size_t i = 0; i < c.layers; ++i) {
    const std::string layer = "model.layers." + std::to_string(i) + ".";
    if (!c.post_norm) add(layer + "input_layernorm.weight", {h});
    add(layer + "self_attn.q_proj.weight", {q, h});
    add(layer + "self_attn.k_proj.weight", {kv, h});
    add(layer + "self_attn.v_proj.weight", {kv, h});
    if (c.qkv_bias) {
      add(layer + "self_attn.q_proj.bias", {q});
      add(layer + "self_attn.k_proj.bias", {kv});
      add(layer + "self_attn.v_proj.bias", {kv});
    }
    if (c.qk_norm) {
      add(layer + "self_attn.q_norm.weight", {c.post_norm ? q : c.head_dim});
      add(layer + "self_attn.k_norm.weight", {c.post_norm ? kv : c.head_dim});
    }
    add(layer + "self_attn.o_proj.weight", {h, q});
    if (c.output_bias) add(layer + "self_attn.o_proj.bias", {h});
    add(layer + "post_attention_layernorm.weight", {h});
    add(layer + "mlp.gate_proj.weight", {c.intermediate_size, h});
    add(layer + "mlp.up_proj.weight", {c.intermediate_size, h});
    add(layer + "mlp.down_proj.weight", {h, c.intermediate_size});
    if (c.post_norm) add(layer + "post_feedforward_layernorm.weight", {h});
  }
  add("model.norm.weight", {h});
  if (!c.tied_embeddings) add("lm_head.weight", {c.vocab_size, h});
  return slots;
}

/// The number of parameters in a layout.
inline std::size_t parameter_count(const std::vector<tensor_slot>& slots) {
  return slots.empty() ? 0 : slots.back().offset + slots.back().size();
}

}  // namespace rlvr::decoder
