#pragma once
/// Sizes and offsets of a decoder's tensors, as the kernels take them.

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include <rlvr/backend/cuda/device.hpp>
#include <rlvr/backend/decoder/config.hpp>
#include <rlvr/backend/decoder/layout.hpp>

namespace rlvr::cuda {

/// Where the tensors of one layer begin in the flat parameters. q, k, v and gate, up lie side by side. Tensors that the
/// model has not are at 0.
struct layer_offsets {
  std::size_t input_norm, qkv, qkv_bias, q_norm, k_norm, output, output_bias, attention_norm, mlp_norm, gate_up, down,
      down_norm;
  std::int32_t window;  ///< latest positions that the layer sees; 0: all
  std::size_t rope;     ///< 0: the scaled table, 1: the plain one
};

struct model_shape {
  std::int32_t hidden, mlp, vocab, heads, kv_heads, head_dim;
  std::int32_t q_width, kv_width, qkv_width;
  bool qkv_bias, output_bias, qk_norm, post_norm;
  double eps;
  std::size_t embedding = 0, final_norm = 0, head = 0;
  std::vector<layer_offsets> layers;

  explicit model_shape(const rlvr::decoder::config& c)
      : hidden(int32(c.hidden_size)),
        mlp(int32(c.intermediate_size)),
        vocab(int32(c.vocab_size)),
        heads(int32(c.heads)),
        kv_heads(int32(c.kv_heads)),
        head_dim(int32(c.head_dim)),
        q_width(heads * head_dim),
        kv_width(kv_heads * head_dim),
        qkv_width(q_width + 2 * kv_width),
        qkv_bias(c.qkv_bias),
        output_bias(c.output_bias),
        qk_norm(c.qk_norm),
        post_norm(c.post_norm),
        eps(c.rms_norm_eps) {
    const std::vector<tensor_slot> slots = rlvr::decoder::layout(c);
    const auto find = [&](const std::string& name) {
      for (const tensor_slot& t : slots)
        if (t.name == name) return t.offset;
      return std::size_t{0};
    };
    embedding = find("model.embed_tokens.weight");
    final_norm = find("model.norm.weight");
    head = c.tied_embeddings ? embedding : find("lm_head.weight");
    for (std::size_t i = 0; i < c.layers; ++i) {
      const std::string at = "model.layers." + std::to_string(i) + ".";
      const std::size_t behind_attention = find(at + "post_attention_layernorm.weight");
      layers.push_back({.input_norm = find(at + "input_layernorm.weight"),
                        .qkv = find(at + "self_attn.q_proj.weight"),
                        .qkv_bias = find(at + "self_attn.q_proj.bias"),
                        .q_norm = find(at + "self_attn.q_norm.weight"),
                        .k_norm = find(at + "self_attn.k_norm.weight"),
                        .output = find(at + "self_attn.o_proj.weight"),
                        .output_bias = find(at + "self_attn.o_proj.bias"),
                        .attention_norm = post_norm ? behind_attention : 0,
                        .mlp_norm = post_norm ? 0 : behind_attention,
                        .gate_up = find(at + "mlp.gate_proj.weight"),
                        .down = find(at + "mlp.down_proj.weight"),
                        .down_norm = find(at + "post_feedforward_layernorm.weight"),
                        .window = int32(c.window(i)),
                        .rope = c.scales_rope(i) ? std::size_t{0} : std::size_t{1}});
    }
  }

  /// RMSNorms of queries and keys per row.
  std::int32_t qk_norms() const { return post_norm ? 2 : heads + kv_heads; }
  attention_shape attention(std::size_t layer) const { return {heads, kv_heads, head_dim, layers[layer].window}; }

 private:
  static std::int32_t int32(std::size_t n) { return static_cast<std::int32_t>(n); }
};

}  // namespace rlvr::cuda
