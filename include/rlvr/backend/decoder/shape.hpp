#pragma once
/// The sizes of a decoder and where its tensors begin in the flat parameters, as the layers of a backend take them.

#include <cstddef>
#include <limits>
#include <string>
#include <vector>

#include <rlvr/backend/decoder/config.hpp>
#include <rlvr/backend/decoder/layout.hpp>
#include <rlvr/core/error.hpp>
#include <rlvr/core/vector_space.hpp>

namespace rlvr::decoder {

/// Where the tensors of one layer begin. q, k, v and gate, up lie side by side. Tensors that the model has not are at
/// 0.
struct layer_offsets {
  std::size_t input_norm, qkv, qkv_bias, q_norm, k_norm, output, output_bias, attention_norm, mlp_norm, gate_up, down,
      down_norm;
  std::size_t window;  ///< latest positions that the layer sees, its own included; 0: all
  std::size_t rope;    ///< 0: the scaled table, 1: the plain one
};

/// The extents of a decoder's matrices, counted in Size, and the offsets of its tensors.
/// Throws input_error for an invalid config, std::invalid_argument for an extent that Size cannot hold. O(layers^2).
template <class Size>
struct model_shape {
  Size hidden, mlp, vocab, heads, kv_heads, head_dim;
  Size q_width, kv_width, qkv_width, gate_up_width;
  bool qkv_bias, output_bias, qk_norm, post_norm;
  double eps;
  std::size_t embedding = 0, final_norm = 0, head = 0;
  std::vector<layer_offsets> layers;

  explicit model_shape(const config& c) : model_shape(c, layout(c)) {}

  /// RMSNorms of queries and keys per row: one of each head, or one of all queries and one of all keys.
  Size qk_norms() const { return post_norm ? Size{2} : heads + kv_heads; }

 private:
  model_shape(const config& c, const std::vector<tensor_slot>& slots)
      : hidden(extent(c.hidden_size)),
        mlp(extent(c.intermediate_size)),
        vocab(extent(c.vocab_size)),
        heads(extent(c.heads)),
        kv_heads(extent(c.kv_heads)),
        head_dim(extent(c.head_dim)),
        q_width(extent(c.heads * c.head_dim)),
        kv_width(extent(c.kv_heads * c.head_dim)),
        qkv_width(extent((c.heads + 2 * c.kv_heads) * c.head_dim)),
        gate_up_width(extent(2 * c.intermediate_size)),
        qkv_bias(c.qkv_bias),
        output_bias(c.output_bias),
        qk_norm(c.qk_norm),
        post_norm(c.post_norm),
        eps(c.rms_norm_eps),
        layers(c.layers) {
    const auto offset = [&](const std::string& name, bool present = true) {
      if (present)
        for (const tensor_slot& t : slots)
          if (t.name == name) return t.offset;
      return std::size_t{0};
    };
    embedding = offset("model.embed_tokens.weight");
    final_norm = offset("model.norm.weight");
    head = c.tied_embeddings ? embedding : offset("lm_head.weight");
    for (std::size_t i = 0; i < c.layers; ++i) {
      const std::string at = "model.layers." + std::to_string(i) + ".";
      layers[i] = {.input_norm = offset(at + "input_layernorm.weight", !post_norm),
                   .qkv = offset(at + "self_attn.q_proj.weight"),
                   .qkv_bias = offset(at + "self_attn.q_proj.bias", qkv_bias),
                   .q_norm = offset(at + "self_attn.q_norm.weight", qk_norm),
                   .k_norm = offset(at + "self_attn.k_norm.weight", qk_norm),
                   .output = offset(at + "self_attn.o_proj.weight"),
                   .output_bias = offset(at + "self_attn.o_proj.bias", output_bias),
                   .attention_norm = offset(at + "post_attention_layernorm.weight", post_norm),
                   .mlp_norm = offset(at + "post_attention_layernorm.weight", !post_norm),
                   .gate_up = offset(at + "mlp.gate_proj.weight"),
                   .down = offset(at + "mlp.down_proj.weight"),
                   .down_norm = offset(at + "post_feedforward_layernorm.weight", post_norm),
                   .window = c.window(i),
                   .rope = c.scales_rope(i) ? std::size_t{0} : std::size_t{1}};
    }
  }

  static Size extent(std::size_t n) {
    require(n <= static_cast<std::size_t>(std::numeric_limits<Size>::max()), "model_shape: an extent of ", n,
            " is more than this backend can count");
    return static_cast<Size>(n);
  }
};

}  // namespace rlvr::decoder
