#pragma once
/// Kernels over rows: embedding, RMSNorm, RoPE, SwiGLU, biases. Forward and backward; sums over a row are trees in
/// float, sums over rows are made of fixed spans of rows.

#include <cmath>
#include <cstddef>
#include <cstdint>

#include <rlvr/backend/cuda/block.cuh>
#include <rlvr/backend/cuda/device.hpp>
#include <rlvr/backend/cuda/vector_kernels.cuh>

namespace rlvr::cuda::kernels {

template <class S>
struct embed_rows : on_host {
  const S* table;
  const std::int32_t* tokens;
  std::int64_t width;
  float* x;
  template <class Block>
  RLVR_CUDA_KERNEL void operator()(Block& b) const {
    b.each(width, [&](std::int64_t i) { x[b.x * width + i] = load(table, tokens[b.x] * width + i); });
  }
};

struct embed_gradient : on_host {
  const float* dx;
  const std::int32_t *tokens, *begin, *rows;
  std::int64_t width;
  float* dtable;
  template <class Block>
  RLVR_CUDA_KERNEL void operator()(Block& b) const {
    b.each(width, [&](std::int64_t i) {
      float sum = 0;
      for (std::int32_t r = begin[b.x]; r < begin[b.x + 1]; ++r) sum += dx[rows[r] * width + i];
      dtable[tokens[b.x] * width + i] += sum;
    });
  }
};

struct gather_rows : on_host {
  const float* x;
  const std::int32_t* rows;
  std::int64_t width;
  float* y;
  template <class Block>
  RLVR_CUDA_KERNEL void operator()(Block& b) const {
    b.each(width, [&](std::int64_t i) { y[b.x * width + i] = x[rows[b.x] * width + i]; });
  }
};
struct scatter_sum : on_host {
  const float* x;
  const std::int32_t* rows;
  std::int64_t width;
  float* y;
  template <class Block>
  RLVR_CUDA_KERNEL void operator()(Block& b) const {
    b.each(width, [&](std::int64_t i) { y[rows[b.x] * width + i] += x[b.x * width + i]; });
  }
};
template <class S>
struct scatter_copy : on_host {
  const S* x;
  std::int64_t stride;
  const std::int32_t* rows;
  std::int64_t width;
  S* cache;
  template <class Block>
  RLVR_CUDA_KERNEL void operator()(Block& b) const {
    b.each(width, [&](std::int64_t i) { cache[rows[b.x] * width + i] = x[b.x * stride + i]; });
  }
};
template <class S>
struct bias_rows : on_host {
  S* y;
  std::int64_t width;
  const float* bias;
  template <class Block>
  RLVR_CUDA_KERNEL void operator()(Block& b) const {
    b.each(width, [&](std::int64_t i) { store(y, b.x * width + i, load(y, b.x * width + i) + bias[i]); });
  }
};

/// One vector per block: blocks (row, group).
template <class X, class Y>
struct normalise : on_host {
  std::int64_t groups, width;
  const X* x;
  std::int64_t x_stride;
  const float* w;
  float eps;
  Y* y;
  std::int64_t y_stride;
  float* r;
  bool add;
  template <class Block>
  RLVR_CUDA_KERNEL void operator()(Block& b) const {
    const X* from = x + b.x * x_stride + b.y * width;
    Y* to = y + b.x * y_stride + b.y * width;
    const float squares = b.reduce(
        width, 0.f, [&](float& lane, std::int64_t i) { lane += load(from, i) * load(from, i); },
        [](float p, float q) { return p + q; });
    const float root = 1.f / std::sqrt(squares / static_cast<float>(width) + eps);
    b.each(width, [&](std::int64_t i) {
      const float value = w[i] * (load(from, i) * root);
      store(to, i, add ? load(to, i) + value : value);
    });
    b.each(1, [&](std::int64_t) { r[b.x * groups + b.y] = root; });
  }
};
template <class X, class D, class Out>
struct normalise_gradient : on_host {
  std::int64_t groups, width;
  const D* dy;
  std::int64_t dy_stride;
  const X* x;
  std::int64_t x_stride;
  const float *w, *r;
  Out* dx;
  std::int64_t dx_stride;
  bool add;
  template <class Block>
  RLVR_CUDA_KERNEL void operator()(Block& b) const {
    const D* d = dy + b.x * dy_stride + b.y * width;
    const X* from = x + b.x * x_stride + b.y * width;
    Out* to = dx + b.x * dx_stride + b.y * width;
    const float root = r[b.x * groups + b.y];
    const float along = b.reduce(
        width, 0.f, [&](float& lane, std::int64_t i) { lane += load(d, i) * w[i] * load(from, i); },
        [](float p, float q) { return p + q; });
    const float pull = root * root * root * along / static_cast<float>(width);
    b.each(width, [&](std::int64_t i) {
      const float value = root * w[i] * load(d, i) - pull * load(from, i);
      store(to, i, add ? load(to, i) + value : value);
    });
  }
};

/// partial[span, column] <- sum of d (times x r, where x is not null) over a span of vectors. Blocks (columns of 8,
/// spans).
template <class X, class D>
struct column_spans : on_host {
  static constexpr std::int64_t columns = 8, lanes = block_threads / columns, span = 512;
  std::int64_t vectors, groups, width;
  const D* d;
  std::int64_t d_stride;
  const X* x;
  std::int64_t x_stride;
  const float* r;
  float* partial;
  std::size_t shared_bytes() const { return block_threads * sizeof(float); }
  template <class Block>
  RLVR_CUDA_KERNEL void operator()(Block& b) const {
    auto* lane_sums = b.template shared<float>();
    const std::int64_t from = b.y * span, end = from + span < vectors ? from + span : vectors;
    b.each(block_threads, [&](std::int64_t i) {
      const std::int64_t column = b.x * columns + i % columns;
      float sum = 0;
      if (column < width)
        for (std::int64_t v = from + i / columns; v < end; v += lanes) {
          const std::int64_t row = v / groups, at = v % groups * width + column;
          const float gradient = load(d, row * d_stride + at);
          sum += x ? gradient * (load(x, row * x_stride + at) * r[v]) : gradient;
        }
      lane_sums[i] = sum;
    });
    b.each(columns, [&](std::int64_t c) {
      float sum = 0;
      for (std::int64_t lane = 0; lane < lanes; ++lane) sum += lane_sums[lane * columns + c];
      if (b.x * columns + c < width) partial[b.y * width + b.x * columns + c] = sum;
    });
  }
};
/// out += sum over spans.
struct add_columns : on_host {
  const float* partial;
  std::int64_t spans, width;
  float* out;
  template <class Block>
  RLVR_CUDA_KERNEL void operator()(Block& b) const {
    b.each(block_threads, [&](std::int64_t i) {
      const std::int64_t column = b.x * block_threads + i;
      if (column >= width) return;
      float sum = 0;
      for (std::int64_t s = 0; s < spans; ++s) sum += partial[s * width + column];
      out[column] += sum;
    });
  }
};

template <class S>
struct rotate_heads : on_host {
  S* x;
  std::int64_t stride, heads, half;
  const std::int32_t* positions;
  const float *cosines, *sines;
  float direction;
  template <class Block>
  RLVR_CUDA_KERNEL void operator()(Block& b) const {
    const float* c = cosines + positions[b.x] * half;
    const float* s = sines + positions[b.x] * half;
    b.each(heads * half, [&](std::int64_t i) {
      const std::int64_t pair = i % half, at = b.x * stride + i / half * 2 * half + pair;
      const float p = load(x, at), q = load(x, at + half), sine = direction * s[pair];
      store(x, at, p * c[pair] - q * sine);
      store(x, at + half, q * c[pair] + p * sine);
    });
  }
};

template <class S>
struct gate : on_host {
  const S* gate_up;
  std::int64_t width;
  S* out;
  template <class Block>
  RLVR_CUDA_KERNEL void operator()(Block& b) const {
    b.each(width, [&](std::int64_t i) {
      const float g = load(gate_up, b.x * 2 * width + i), u = load(gate_up, b.x * 2 * width + width + i);
      store(out, b.x * width + i, g / (1.f + std::exp(-g)) * u);
    });
  }
};
template <class S>
struct gate_gradient : on_host {
  const S *dout, *gate_up;
  std::int64_t width;
  S* dgate_up;
  template <class Block>
  RLVR_CUDA_KERNEL void operator()(Block& b) const {
    b.each(width, [&](std::int64_t i) {
      const std::int64_t at = b.x * 2 * width + i;
      const float g = load(gate_up, at), u = load(gate_up, at + width), d = load(dout, b.x * width + i);
      const float sigmoid = 1.f / (1.f + std::exp(-g));
      store(dgate_up, at, d * u * sigmoid * (1.f + g * (1.f - sigmoid)));
      store(dgate_up, at + width, d * g * sigmoid);
    });
  }
};

}  // namespace rlvr::cuda::kernels
