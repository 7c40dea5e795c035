#pragma once
/// Random decoders whose answers are as decided as those of a trained one, so that rewards vary and can be learned.

#include <cmath>
#include <cstddef>
#include <numbers>
#include <vector>

#include <rlvr/backend/decoder/config.hpp>
#include <rlvr/backend/decoder/layout.hpp>
#include <rlvr/core/random.hpp>

namespace random_model {

/// A small Qwen3 shape with an output matrix of its own, which alone decides how peaked the next token is.
inline rlvr::decoder::config qwen3_shape(std::size_t vocabulary, std::size_t hidden, std::size_t layers) {
  rlvr::decoder::config c;
  c.model_type = "qwen3";
  c.vocab_size = vocabulary;
  c.hidden_size = hidden;
  c.intermediate_size = 3 * hidden;
  c.layers = layers;
  c.heads = 4;
  c.kv_heads = 2;
  c.head_dim = 32;
  c.rope_theta = 1e6;
  c.qk_norm = true;
  c.max_positions = 40960;
  return c;
}

/// All of layout(c) for such a shape: norms 1, embeddings normal with deviation 1, matrices with 1 / sqrt(inputs), the
/// output matrix with `spread` times as much, so that `spread` is the deviation of logits. Where models start from,
/// 0.2, a vocabulary of 150,000 is all but uniform and hardly a token is seen twice; with 4 the entropy of the next
/// token is about 5 nats, with 6 it is 2.4.
inline std::vector<float> parameters(const rlvr::decoder::config& c, double spread, rlvr::random_key key) {
  const std::vector<rlvr::tensor_slot> slots = rlvr::decoder::layout(c);
  std::vector<float> theta(rlvr::decoder::parameter_count(slots), 1.0F);
  for (const rlvr::tensor_slot& slot : slots) {
    if (slot.shape.size() == 1) continue;
    const bool embedding = slot.name == "model.embed_tokens.weight", head = slot.name == "lm_head.weight";
    const double inputs = static_cast<double>(slot.shape.back());
    const double deviation = embedding ? 1 : (head ? spread : 1) / std::sqrt(inputs);
    for (std::size_t i = slot.offset; i < slot.offset + slot.size(); ++i)  // Box and Muller
      theta[i] = static_cast<float>(deviation * std::sqrt(-2 * std::log(key.uniform(i, 0))) *
                                    std::cos(2 * std::numbers::pi * key.uniform(i, 1)));
  }
  return theta;
}

}  // namespace random_model
