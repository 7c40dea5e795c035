#pragma once
/// Kernels over rows: embedding, RMSNorm, SwiGLU, biases. Forward and backward; sums over a row are trees in float,
/// sums over rows are made of fixed spans of rows.

#include <cmath>
#include <cstddef>
#include <cstdint>

#include <rlvr/backend/cuda/block.cuh>
#include <rlvr/backend/cuda/row_access.cuh>
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
    if (in_parts<most_numbers<S, float>>(width, table, x))
      run<most_numbers<S, float>>(b);
    else
      run<1>(b);
  }

 private:
  template <int N, class Block>
  RLVR_CUDA_KERNEL void run(Block& b) const {
    const S* from = table + tokens[b.x] * width;
    float* to = x + b.x * width;
    b.each(width / N, [&](std::int64_t i) {
      const int at = static_cast<int>(i) * N;
      write(to + at, read<N>(from + at));
    });
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
    constexpr int most = most_numbers<X, Y, float>;
    if (in_parts<most>(width | x_stride | y_stride, x, w, y, addend))
      run<most>(b);
    else
      run<1>(b);
  }

 private:
  template <int N, class Block>
  RLVR_CUDA_KERNEL void run(Block& b) const {
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
  }
};

/// Blocks of `span` vectors: dx, the same rounded where rounded is not null (laid out as dx), and the gradient of the
/// weights, summed over the block's vectors and left in partial, [blocks, width].
template <class X, class Out, class Rounded>
struct normalise_gradient {
  static constexpr int together = 2;  ///< vectors whose sums go through the block's tree at once
  std::int64_t vectors, groups, width, span;
  const X* dy;
  std::int64_t dy_stride;
  const X* x;
  std::int64_t x_stride;
  const float *w, *r;
  Out* dx;
  std::int64_t dx_stride;
  bool add;
  Rounded* rounded;
  float* partial;

  std::size_t shared_bytes() const { return static_cast<std::size_t>(width) * sizeof(float); }
  template <class Block>
  RLVR_CUDA_KERNEL void operator()(Block& b) const {
    constexpr int most = most_numbers<X, Out, float>;
    if (in_parts<most>(width | dy_stride | x_stride | dx_stride, dy, x, w, dx, rounded, partial))
      run<most>(b);
    else
      run<1>(b);
  }

 private:
  struct pair {
    float of[together];
  };
  template <int N, class Block>
  RLVR_CUDA_KERNEL void run(Block& b) const {
    auto* weight_sums = b.template shared<float>();
    b.each(width, [&](std::int64_t i) { weight_sums[i] = 0; });
    const std::int64_t first = b.x * span, end = first + span < vectors ? first + span : vectors;
    for (std::int64_t v = first; v < end; v += together) {
      const auto count = static_cast<int>(end - v < together ? end - v : together);
      const auto at = [&](int j, std::int64_t stride) { return (v + j) / groups * stride + (v + j) % groups * width; };
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
  }
};

/// partial[span, column] <- sum over a span of rows. Blocks (columns of 32, spans).
template <class S>
struct column_spans : on_host {
  static constexpr std::int64_t columns = 32, lanes = block_threads / columns;
  std::int64_t rows, width, span;
  const S* x;
  float* partial;
  std::size_t shared_bytes() const { return block_threads * sizeof(float); }
  template <class Block>
  RLVR_CUDA_KERNEL void operator()(Block& b) const {
    auto* lane_sums = b.template shared<float>();
    const std::int64_t from = b.y * span, end = from + span < rows ? from + span : rows;
    b.each(block_threads, [&](std::int64_t i) {
      const std::int64_t column = b.x * columns + i % columns;
      float sum = 0;
      if (column < width)
        for (std::int64_t row = from + i / columns; row < end; row += lanes) sum += load(x, row * width + column);
      lane_sums[i] = sum;
    });
    b.each(columns, [&](std::int64_t c) {
      float sum = 0;
      for (std::int64_t lane = 0; lane < lanes; ++lane) sum += lane_sums[lane * columns + c];
      if (b.x * columns + c < width) partial[b.y * width + b.x * columns + c] = sum;
    });
  }
};

/// out += sum over spans. Blocks of 8 columns.
struct add_columns {
  static constexpr std::int64_t columns = 8, lanes = block_threads / columns;
  const float* partial;
  std::int64_t spans, width;
  float* out;
  std::size_t shared_bytes() const { return block_threads * sizeof(float); }
  template <class Block>
  RLVR_CUDA_KERNEL void operator()(Block& b) const {
    auto* lane_sums = b.template shared<float>();
    b.each(block_threads, [&](std::int64_t i) {
      const std::int64_t column = b.x * columns + i % columns;
      float sum = 0;
      if (column < width)
        for (std::int64_t s = i / columns; s < spans; s += lanes) sum += partial[s * width + column];
      lane_sums[i] = sum;
    });
    b.each(columns, [&](std::int64_t c) {
      float sum = 0;
      for (std::int64_t lane = 0; lane < lanes; ++lane) sum += lane_sums[lane * columns + c];
      if (b.x * columns + c < width) out[b.x * columns + c] += sum;
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
    if (in_parts<most_numbers<S>>(width, gate_up, out))
      run<most_numbers<S>>(b);
    else
      run<1>(b);
  }

 private:
  template <int N, class Block>
  RLVR_CUDA_KERNEL void run(Block& b) const {
    b.each(width / N, [&](std::int64_t i) {
      const S* at = gate_up + b.x * 2 * width + i * N;
      numbers<N> g = read<N>(at);
      const numbers<N> u = read<N>(at + width);
      RLVR_CUDA_UNROLL
      for (int k = 0; k < N; ++k) g[k] = g[k] / (1.f + std::exp(-g[k])) * u[k];
      write(out + b.x * width + i * N, g);
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
    if (in_parts<most_numbers<S>>(width, dout, gate_up, dgate_up))
      run<most_numbers<S>>(b);
    else
      run<1>(b);
  }

 private:
  template <int N, class Block>
  RLVR_CUDA_KERNEL void run(Block& b) const {
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
  }
};

}  // namespace rlvr::cuda::kernels
