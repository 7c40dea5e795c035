#pragma once
/// Sizes and offsets of a decoder's tensors, counted as the kernels count.

#include <cstddef>
#include <cstdint>

#include <rlvr/backend/cuda/device.hpp>
#include <rlvr/backend/decoder/shape.hpp>

namespace rlvr::cuda {

using rlvr::decoder::layer_offsets;
using model_shape = rlvr::decoder::model_shape<std::int32_t>;

/// What attention of a layer needs of it.
inline attention_shape attention_of(const model_shape& s, std::size_t layer) {
  return {s.heads, s.kv_heads, s.head_dim, static_cast<std::int32_t>(s.layers[layer].window)};
}

}  // namespace rlvr::cuda
