#pragma once
/// Kernels over rows: embedding, RMSNorm, SwiGLU, biases. Forward and backward; sums over a row are trees in float,
/// sums over rows are made of fixed spans of rows. Memory limits them all: where nothing else is said, a block has one
/// row, its threads take turns at the row's numbers (16 bytes of the widest type at a time where the row can be
/// accessed so), and what is read and written is read and written once.

#include <cmath>
#include <cstddef>
#include <cstdint>

#include <rlvr/backend/cuda/block.cuh>
#include <rlvr/backend/cuda/row_access.cuh>
#include <rlvr/backend/cuda/vector_kernels.cuh>

namespace rlvr::cuda::kernels {

/// x[row] <- table[tokens[row]].
template <class S>
struct embed_rows {
  static constexpr int most = most_numbers<S, float>;
  const S* table;              ///< [tokens there are, width]
  const std::int32_t* tokens;  ///< [rows]
  std::int64_t width;
  float* x;  ///< [rows, width]
  template <class Block>
  RLVR_CUDA_KERNEL void operator()(Block& b) const {
    with_numbers<most>(in_parts<most>(width, table, x), [&]<int N>(at_once<N>) {
      const S* from = table + tokens[b.x] * width;
      float* to = x + b.x * width;
      b.each(width / N, [&](std::int64_t i) {
        const int at = static_cast<int>(i) * N;
        write(to + at, read<N>(from + at));
      });
    });
  }
};

/// dtable[tokens[t]] += dx[r], summed over r = rows[begin[t]] .. rows[begin[t + 1] - 1] in that order. Blocks t, one
/// for each of the distinct tokens: no two add to one place.
struct embed_gradient {
  const float* dx;  ///< [rows, width]
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

/// y[to[i]] <- x[from[i]]; without `to`, y[i]. Blocks i.
struct gather_rows {
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
/// y[rows[i]] += x[i], for distinct rows. Blocks i.
struct scatter_sum {
  const float* x;
  const std::int32_t* rows;
  std::int64_t width;
  float* y;
  template <class Block>
  RLVR_CUDA_KERNEL void operator()(Block& b) const {
    b.each(width, [&](std::int64_t i) { y[rows[b.x] * width + i] += x[b.x * width + i]; });
  }
};
/// y[row] += bias.
template <class S>
struct bias_rows {
  S* y;  ///< [rows, width]
  std::int64_t width;
  const float* bias;
  template <class Block>
  RLVR_CUDA_KERNEL void operator()(Block& b) const {
    b.each(width, [&](std::int64_t i) { store(y, b.x * width + i, load(y, b.x * width + i) + bias[i]); });
  }
};

/// y <- w x root + addend, root = 1 / sqrt(mean x^2 + eps), of vector (row, group), which begins at row * stride +
/// group * width. Blocks (row, group), one vector each, read twice: the second time it is in a cache.
/// Source: Zhang and Sennrich, "Root Mean Square Layer Normalization" (arXiv 1910.07467), eq. 4.
template <class X, class Y>
struct normalise {
  static constexpr int most = most_numbers<X, Y, float>;
  std::int64_t groups, width;
  const X* x;
  std::int64_t x_stride;
  const float* w;
  float eps;
  Y* y;
  std::int64_t y_stride;
  float* r;             ///< [rows, groups] the roots
  const float* addend;  ///< laid out as y, or null
  template <class Block>
  RLVR_CUDA_KERNEL void operator()(Block& b) const {
    with_numbers<most>(in_parts<most>(width | x_stride | y_stride, x, w, y, addend), [&]<int N>(at_once<N>) {
      const X* from = x + b.x * x_stride + b.y * width;
      Y* to = y + b.x * y_stride + b.y * width;
      const float* plus = addend ? addend + b.x * y_stride + b.y * width : nullptr;
      const float squares = b.reduce(
          width / N, 0.f,
          [&](float& lane, std::int64_t i) {
            const numbers<N> v = read<N>(from + i * N);
            RLVR_CUDA_UNROLL
            for (int k = 0; k < N; ++k) lane += v[k] * v[k];
          },
          [](float p, float q) { return p + q; });
      const float root = 1.f / std::sqrt(squares / static_cast<float>(width) + eps);
      b.each(width / N, [&](std::int64_t i) {
        numbers<N> v = read<N>(from + i * N);
        const numbers<N> weight = read<N>(w + i * N), more = plus ? read<N>(plus + i * N) : numbers<N>{};
        RLVR_CUDA_UNROLL
        for (int k = 0; k < N; ++k) v[k] = more[k] + weight[k] * (v[k] * root);
        write(to + i * N, v);
        if (i == 0) r[b.x * groups + b.y] = root;
      });
    });
  }
};

/// The gradient of normalise: with root = r of the vector,
///   dx <- (add: dx +) root w dy - root^3 x <dy, w x> / width,   rounded <- dx,   dw = sum over vectors of dy x root
/// Blocks of `span` vectors, two at a time: their inner products go through one tree. dw is summed over the block's
/// vectors in order, in `width` floats of shared memory, and left in partial, [blocks, width].
template <class X, class Out, class Rounded>
struct normalise_gradient {
  static constexpr int most = most_numbers<X, Out, float>;
  static constexpr int together = 2;  ///< vectors at a time
  std::int64_t vectors, groups, width, span;
  const X* dy;
  std::int64_t dy_stride;
  const X* x;
  std::int64_t x_stride;
  const float *w, *r;
  Out* dx;
  std::int64_t dx_stride;
  bool add;
  Rounded* rounded;  ///< laid out as dx, or null
  float* partial;

  std::size_t shared_bytes() const { return static_cast<std::size_t>(width) * sizeof(float); }
  template <class Block>
  RLVR_CUDA_KERNEL void operator()(Block& b) const {
    const bool wide = in_parts<most>(width | dy_stride | x_stride | dx_stride, dy, x, w, dx, rounded, partial);
    with_numbers<most>(wide, [&]<int N>(at_once<N>) {
      auto* weight_sums = b.template shared<float>();
      b.each(width, [&](std::int64_t i) { weight_sums[i] = 0; });
      const std::int64_t first = b.x * span, end = first + span < vectors ? first + span : vectors;
      for (std::int64_t v = first; v < end; v += together) {
        const auto count = static_cast<int>(end - v < together ? end - v : together);
        const auto at = [&](int j, std::int64_t stride) {
          return (v + j) / groups * stride + (v + j) % groups * width;
        };
        const std::int64_t d_at[together] = {at(0, dy_stride), at(1, dy_stride)};
        const std::int64_t x_at[together] = {at(0, x_stride), at(1, x_stride)};
        const std::int64_t to[together] = {at(0, dx_stride), at(1, dx_stride)};
        const pair along = b.reduce(
            width / N, pair{},
            [&](pair& lane, std::int64_t i) {
              const numbers<N> weight = read<N>(w + i * N);
              RLVR_CUDA_UNROLL
              for (int j = 0; j < together; ++j) {
                if (j >= count) break;
                const numbers<N> d = read<N>(dy + d_at[j] + i * N), value = read<N>(x + x_at[j] + i * N);
                RLVR_CUDA_UNROLL
                for (int k = 0; k < N; ++k) lane.of[j] += d[k] * weight[k] * value[k];
              }
            },
            [](pair p, const pair& q) {
              for (int j = 0; j < together; ++j) p.of[j] += q.of[j];
              return p;
            });
        float root[together], pull[together];
        RLVR_CUDA_UNROLL
        for (int j = 0; j < together; ++j) {
          root[j] = j < count ? r[v + j] : 0;
          pull[j] = root[j] * root[j] * root[j] * along.of[j] / static_cast<float>(width);
        }
        b.each(width / N, [&](std::int64_t i) {
          const numbers<N> weight = read<N>(w + i * N);
          numbers<N> sums = read<N>(weight_sums + i * N);
          RLVR_CUDA_UNROLL
          for (int j = 0; j < together; ++j) {
            if (j >= count) break;
            numbers<N> d = read<N>(dy + d_at[j] + i * N);
            const numbers<N> value = read<N>(x + x_at[j] + i * N);
            const numbers<N> before = add ? read<N>(dx + to[j] + i * N) : numbers<N>{};
            RLVR_CUDA_UNROLL
            for (int k = 0; k < N; ++k) {
              sums[k] += d[k] * (value[k] * root[j]);
              d[k] = before[k] + (root[j] * weight[k] * d[k] - pull[j] * value[k]);
            }
            write(dx + to[j] + i * N, d);
            if (rounded) write(rounded + to[j] + i * N, d);
          }
          write(weight_sums + i * N, sums);
        });
      }
      b.each(width / N, [&](std::int64_t i) { write(partial + b.x * width + i * N, read<N>(weight_sums + i * N)); });
    });
  }

 private:
  struct pair {
    float of[together];
  };
};

/// put(column, sum of value(i, column) over first <= i < end) for the block's Columns columns, of `width` in all.
/// Neighbouring threads read neighbouring columns; a thread takes every lanes-th i, and its sums, [lanes, Columns]
/// floats of shared memory, are added in order.
template <int Columns, class Block, class Value, class Put>
RLVR_CUDA_KERNEL void sum_columns(Block& b, std::int64_t width, std::int64_t first, std::int64_t end, Value value,
                                  Put put) {
  constexpr std::int64_t columns = Columns, lanes = block_threads / columns;
  auto* lane_sums = b.template shared<float>();
  b.each(block_threads, [&](std::int64_t i) {
    const std::int64_t column = b.x * columns + i % columns;
    float sum = 0;
    if (column < width)
      for (std::int64_t item = first + i / columns; item < end; item += lanes) sum += value(item, column);
    lane_sums[i] = sum;
  });
  b.each(columns, [&](std::int64_t c) {
    float sum = 0;
    for (std::int64_t lane = 0; lane < lanes; ++lane) sum += lane_sums[lane * columns + c];
    if (b.x * columns + c < width) put(b.x * columns + c, sum);
  });
}

/// partial[span, column] <- the sum of a span of rows of x. Blocks (32 columns, span).
template <class S>
struct column_spans {
  static constexpr int columns = 32;
  std::int64_t rows, width, span;
  const S* x;      ///< [rows, width]
  float* partial;  ///< [spans, width]
  std::size_t shared_bytes() const { return block_threads * sizeof(float); }
  template <class Block>
  RLVR_CUDA_KERNEL void operator()(Block& b) const {
    const std::int64_t from = b.y * span, end = from + span < rows ? from + span : rows;
    sum_columns<columns>(
        b, width, from, end, [&](std::int64_t row, std::int64_t column) { return load(x, row * width + column); },
        [&](std::int64_t column, float sum) { partial[b.y * width + column] = sum; });
  }
};

/// out[column] += the sum over spans of partial. Blocks of 8 columns.
struct add_columns {
  static constexpr int columns = 8;
  const float* partial;  ///< [spans, width]
  std::int64_t spans, width;
  float* out;
  std::size_t shared_bytes() const { return block_threads * sizeof(float); }
  template <class Block>
  RLVR_CUDA_KERNEL void operator()(Block& b) const {
    sum_columns<columns>(
        b, width, 0, spans, [&](std::int64_t span, std::int64_t column) { return partial[span * width + column]; },
        [&](std::int64_t column, float sum) { out[column] += sum; });
  }
};

/// SwiGLU: out <- g sigmoid(g) u.
/// Source: Shazeer, "GLU Variants Improve Transformer" (arXiv 2002.05202), eq. 5.
template <class S>
struct gate {
  static constexpr int most = most_numbers<S>;
  const S* gate_up;  ///< [rows, 2 width]: g, then u
  std::int64_t width;
  S* out;  ///< [rows, width]
  template <class Block>
  RLVR_CUDA_KERNEL void operator()(Block& b) const {
    with_numbers<most>(in_parts<most>(width, gate_up, out), [&]<int N>(at_once<N>) {
      b.each(width / N, [&](std::int64_t i) {
        const S* at = gate_up + b.x * 2 * width + i * N;
        numbers<N> g = read<N>(at);
        const numbers<N> u = read<N>(at + width);
        RLVR_CUDA_UNROLL
        for (int k = 0; k < N; ++k) g[k] = g[k] / (1.f + std::exp(-g[k])) * u[k];
        write(out + b.x * width + i * N, g);
      });
    });
  }
};

/// The gradient of gate: dg <- dout u s (1 + g (1 - s)), du <- dout g s, s = sigmoid(g).
template <class S>
struct gate_gradient {
  static constexpr int most = most_numbers<S>;
  const S *dout, *gate_up;  ///< as out and gate_up of gate
  std::int64_t width;
  S* dgate_up;
  template <class Block>
  RLVR_CUDA_KERNEL void operator()(Block& b) const {
    with_numbers<most>(in_parts<most>(width, dout, gate_up, dgate_up), [&]<int N>(at_once<N>) {
      b.each(width / N, [&](std::int64_t i) {
        const std::int64_t at = b.x * 2 * width + i * N;
        numbers<N> g = read<N>(gate_up + at), u = read<N>(gate_up + at + width);
        const numbers<N> d = read<N>(dout + b.x * width + i * N);
        RLVR_CUDA_UNROLL
        for (int k = 0; k < N; ++k) {
          const float sigmoid = 1.f / (1.f + std::exp(-g[k])), du = d[k] * g[k] * sigmoid;
          g[k] = d[k] * u[k] * sigmoid * (1.f + g[k] * (1.f - sigmoid));
          u[k] = du;
        }
        write(dgate_up + at, g);
        write(dgate_up + at + width, u);
      });
    });
  }
};

}  // namespace rlvr::cuda::kernels
