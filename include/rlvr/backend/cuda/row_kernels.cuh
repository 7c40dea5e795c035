#pragma once
/// Kernels over rows: embedding, RMSNorm, queries and keys before attention, SwiGLU, biases. Forward and
/// backward; sums over a row are trees in float, sums over rows are made of fixed spans of rows.

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
  const std::int32_t* from;
  std::int64_t width;
  float* y;
  const std::int32_t* to;
  template <class Block>
  RLVR_CUDA_KERNEL void operator()(Block& b) const {
    const std::int64_t row = to ? to[b.x] : b.x;
    b.each(width, [&](std::int64_t i) { y[row * width + i] = x[from[b.x] * width + i]; });
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
  const float* addend;
  template <class Block>
  RLVR_CUDA_KERNEL void operator()(Block& b) const {
    const X* from = x + b.x * x_stride + b.y * width;
    Y* to = y + b.x * y_stride + b.y * width;
    const float* plus = addend ? addend + b.x * y_stride + b.y * width : nullptr;
    const float squares = b.reduce(
        width, 0.f, [&](float& lane, std::int64_t i) { lane += load(from, i) * load(from, i); },
        [](float p, float q) { return p + q; });
    const float root = 1.f / std::sqrt(squares / static_cast<float>(width) + eps);
    b.each(width, [&](std::int64_t i) {
      const float value = w[i] * (load(from, i) * root);
      store(to, i, plus ? plus[i] + value : value);
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

/// partial[span, column] <- sum of d (times x r, where x is not null) over a span of vectors; r of a row begin at
/// r_stride times it. Blocks (columns of 8, spans).
template <class X, class D>
struct column_spans : on_host {
  static constexpr std::int64_t columns = 8, lanes = block_threads / columns, least_span = 512;
  std::int64_t vectors, groups, width, span;
  const D* d;
  std::int64_t d_stride;
  const X* x;
  std::int64_t x_stride;
  const float* r;
  std::int64_t r_stride;
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
          sum += x ? gradient * (load(x, row * x_stride + at) * r[row * r_stride + v % groups]) : gradient;
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

/// Sums over each head of a row, a few threads a head: lanes of one head stand side by side.
struct head_sums {
  static constexpr int lanes = 8;
  static std::size_t shared_bytes(attention_shape s) {
    return static_cast<std::size_t>(s.heads + s.kv_heads) * (lanes + 1) * sizeof(float);
  }
  /// result(head, sum of term(head, i) over the head's coordinates i), for queries' and keys' heads.
  template <class Block, class Term, class Result>
  RLVR_CUDA_KERNEL static void over(Block& b, attention_shape s, float* partial, Term term, Result result) {
    const int heads = s.heads + s.kv_heads;
    b.each(heads * lanes, [&](std::int64_t n) {
      const int head = static_cast<int>(n) / lanes;
      float sum = 0;
      for (int i = static_cast<int>(n) % lanes; i < s.head_dim; i += lanes) sum += term(head, i);
      partial[n] = sum;
    });
    b.each(heads, [&](std::int64_t h) {
      float sum = 0;
      for (int lane = 0; lane < lanes; ++lane) sum += partial[h * lanes + lane];
      result(static_cast<int>(h), sum);
    });
  }
};

/// One row per block.
template <class S>
struct prepare_row {
  attention_shape shape;
  const S* raw;
  S* qkv;
  head_preparation how;
  S* cache;

  std::size_t shared_bytes() const { return how.q_norm ? head_sums::shared_bytes(shape) : 0; }
  template <class Block>
  RLVR_CUDA_KERNEL void operator()(Block& b) const {
    const std::int64_t dim = shape.head_dim, half = dim / 2, heads = shape.heads + shape.kv_heads;
    const std::int64_t q_width = shape.heads * dim, kv_width = shape.kv_heads * dim, width = q_width + 2 * kv_width;
    const S* from = raw + b.x * width;
    S* to = qkv + b.x * width;
    S* cached = cache ? cache + how.cache_rows[b.x] * (2 * kv_width) : nullptr;
    const auto value = [&](std::int64_t at) { return load(from, at) + (how.bias ? how.bias[at] : 0.f); };
    auto* partial = b.template shared<float>();
    float* roots = partial + heads * head_sums::lanes;
    if (how.q_norm)
      head_sums::over(
          b, shape, partial,
          [&](int head, int i) {
            const float x = value(head * dim + i);
            return x * x;
          },
          [&](int head, float squares) {
            const float root = 1.f / std::sqrt(squares / static_cast<float>(dim) + static_cast<float>(how.eps));
            roots[head] = root;
            how.scale[b.x * heads + head] = root;
          });
    const float* c = how.cosines + how.positions[b.x] * half;
    const float* s = how.sines + how.positions[b.x] * half;
    b.each(heads * half, [&](std::int64_t n) {
      const std::int64_t head = n / half, pair = n % half, at = head * dim + pair;
      float p = value(at), q = value(at + half);
      if (how.q_norm) {
        const float* w = head < shape.heads ? how.q_norm : how.k_norm;
        p = w[pair] * (p * roots[head]);
        q = w[pair + half] * (q * roots[head]);
      }
      const float first = p * c[pair] - q * s[pair], second = q * c[pair] + p * s[pair];
      store(to, at, first);
      store(to, at + half, second);
      if (cached && at >= q_width) {
        store(cached, at - q_width, first);
        store(cached, at - q_width + half, second);
      }
    });
    b.each(kv_width, [&](std::int64_t i) {
      const float v = value(q_width + kv_width + i);
      store(to, q_width + kv_width + i, v);
      if (cached) store(cached, kv_width + i, v);
    });
  }
};

/// Rotates back the gradients of a row's queries and keys.
template <class S>
struct rotate_back {
  attention_shape shape;
  S* dqkv;
  const std::int32_t* positions;
  const float *cosines, *sines;
  std::size_t shared_bytes() const { return 0; }
  template <class Block>
  RLVR_CUDA_KERNEL void operator()(Block& b) const {
    const std::int64_t half = shape.head_dim / 2, heads = shape.heads + shape.kv_heads;
    const float* c = cosines + positions[b.x] * half;
    const float* s = sines + positions[b.x] * half;
    S* x = dqkv + b.x * (heads + shape.kv_heads) * 2 * half;
    b.each(heads * half, [&](std::int64_t n) {
      const std::int64_t pair = n % half, at = n / half * 2 * half + pair;
      const float p = load(x, at), q = load(x, at + half);
      store(x, at, p * c[pair] + q * s[pair]);
      store(x, at + half, q * c[pair] - p * s[pair]);
    });
  }
};

/// The gradient of a row's heads before their norms, in place.
template <class S>
struct normalise_heads_gradient {
  attention_shape shape;
  S* dqkv;
  const S* raw;
  head_preparation how;
  std::size_t shared_bytes() const { return head_sums::shared_bytes(shape); }
  template <class Block>
  RLVR_CUDA_KERNEL void operator()(Block& b) const {
    const std::int64_t dim = shape.head_dim, heads = shape.heads + shape.kv_heads;
    const std::int64_t at = b.x * (heads + shape.kv_heads) * dim;
    S* d = dqkv + at;
    const S* x = raw + at;
    const float* root = how.scale + b.x * heads;
    auto* partial = b.template shared<float>();
    float* pull = partial + heads * head_sums::lanes;
    const auto pushed = [&](std::int64_t head, std::int64_t i) {
      return (head < shape.heads ? how.q_norm : how.k_norm)[i] * load(d, head * dim + i);
    };
    head_sums::over(
        b, shape, partial, [&](int head, int i) { return pushed(head, i) * load(x, head * dim + i); },
        [&](int head, float along) {
          pull[head] = root[head] * root[head] * root[head] * along / static_cast<float>(dim);
        });
    b.each(heads * dim, [&](std::int64_t n) {
      const std::int64_t head = n / dim;
      store(d, n, root[head] * pushed(head, n % dim) - pull[head] * load(x, n));
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
