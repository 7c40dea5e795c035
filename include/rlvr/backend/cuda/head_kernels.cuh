#pragma once
/// Kernels between the product that makes queries, keys and values and attention: biases, RMSNorm of each head, RoPE.
/// Forward and backward.

#include <cmath>
#include <cstddef>
#include <cstdint>

#include <rlvr/backend/cuda/block.cuh>
#include <rlvr/backend/cuda/device.hpp>
#include <rlvr/backend/cuda/row_access.cuh>

namespace rlvr::cuda::kernels {

/// RoPE: p and q turned by angles of that cosine and sine.
template <int N>
RLVR_CUDA_KERNEL void turn(numbers<N>& p, numbers<N>& q, const numbers<N>& cosine, const numbers<N>& sine) {
  RLVR_CUDA_UNROLL
  for (int k = 0; k < N; ++k) {
    const float first = p[k] * cosine[k] - q[k] * sine[k];
    q[k] = q[k] * cosine[k] + p[k] * sine[k];
    p[k] = first;
  }
}

/// qkv <- the rows of raw, prepared; keys and values also to the cache. For a head x of queries or keys, with the bias
/// added:
///   x <- turn(w x root), root = 1 / sqrt(mean x^2 + eps), w = q_norm or k_norm; without norms turn(x)
/// Blocks of a row. A thread has N numbers of the first half of a head and the N that RoPE turns them with; the sums of
/// their squares, [heads + kv_heads, head_dim / 2 / N], are in shared memory. The row is read again after them: it is
/// in a cache.
/// Source: Su et al., "RoFormer" (arXiv 2104.09864), eq. 34, halves paired as GPT-NeoX does.
template <class S>
struct prepare_row {
  static constexpr int most = most_numbers<S>;
  attention_shape shape;
  const S* raw;  ///< [rows, (heads + 2 kv_heads) head_dim]
  S* qkv;        ///< laid out as raw, or raw
  head_preparation how;
  S* cache;  ///< [rows there are, 2 kv_heads head_dim], or null

  std::size_t shared_bytes() const {
    const int heads = shape.heads + shape.kv_heads, across = shape.head_dim / 2 / (wide() ? most : 1);
    return how.q_norm ? static_cast<std::size_t>(heads * across) * sizeof(float) : 0;
  }
  template <class Block>
  RLVR_CUDA_KERNEL void operator()(Block& b) const {
    with_numbers<most>(wide(), [&]<int N>(at_once<N>) {
      const int dim = shape.head_dim, half = dim / 2, across = half / N;
      const int turned = shape.heads + shape.kv_heads, q_width = shape.heads * dim, kv_width = shape.kv_heads * dim;
      const std::int64_t row = static_cast<std::int64_t>(b.x) * (q_width + 2 * kv_width);
      const S* from = raw + row;
      S* to = qkv + row;
      S* cached = cache ? cache + std::int64_t{how.cache_rows[b.x]} * (2 * kv_width) - q_width : nullptr;
      const auto value = [&](int at) {
        numbers<N> x = read<N>(from + at);
        if (how.bias) {
          const numbers<N> bias = read<N>(how.bias + at);
          RLVR_CUDA_UNROLL
          for (int k = 0; k < N; ++k) x[k] += bias[k];
        }
        return x;
      };
      const auto put = [&](int at, const numbers<N>& x) {
        write(to + at, x);
        if (cached && at >= q_width) write(cached + at, x);
      };
      auto* squares = b.template shared<float>();
      if (how.q_norm)
        b.each(turned * across, [&](std::int64_t n) {
          const int at = static_cast<int>(n) / across * dim + static_cast<int>(n) % across * N;
          const numbers<N> p = value(at), q = value(at + half);
          float sum = 0;
          RLVR_CUDA_UNROLL
          for (int k = 0; k < N; ++k) sum += p[k] * p[k] + q[k] * q[k];
          squares[n] = sum;
        });
      const std::int64_t angles = std::int64_t{how.positions[b.x]} * half;
      b.each((turned + shape.kv_heads) * across, [&](std::int64_t n) {
        const int head = static_cast<int>(n) / across, in_head = static_cast<int>(n) % across * N;
        const int at = head * dim + in_head;
        numbers<N> p = value(at), q = value(at + half);
        if (head < turned) {
          if (how.q_norm) {
            float sum = 0;
            for (int i = 0; i < across; ++i) sum += squares[head * across + i];
            const float root = 1.f / std::sqrt(sum / static_cast<float>(dim) + static_cast<float>(how.eps));
            if (in_head == 0) how.scale[std::int64_t{b.x} * turned + head] = root;
            const float* w = (head < shape.heads ? how.q_norm : how.k_norm) + in_head;
            const numbers<N> first = read<N>(w), second = read<N>(w + half);
            RLVR_CUDA_UNROLL
            for (int k = 0; k < N; ++k) {
              p[k] = first[k] * (p[k] * root);
              q[k] = second[k] * (q[k] * root);
            }
          }
          turn(p, q, read<N>(how.cosines + angles + in_head), read<N>(how.sines + angles + in_head));
        }
        put(at, p);
        put(at + half, q);
      });
    });
  }

 private:
  RLVR_CUDA_BOTH bool wide() const {
    return shape.head_dim % 2 == 0 && in_parts<most>(shape.head_dim / 2, raw, qkv, cache, how.bias, how.q_norm,
                                                     how.k_norm, how.cosines, how.sines);
  }
};

/// The gradient of rows before their preparation, in place: turned back, and where there are norms through them,
///   dx <- root w g - root^3 x <g, w x> / head_dim,  g the gradient turned back
/// The norms' weights' gradients, g x root, are summed over the rows of the block in order, [heads + kv_heads,
/// head_dim] in shared memory, and left in q_partial and k_partial, [blocks, head_dim]. Blocks of `span` rows; a thread
/// has of each row what it has in prepare_row.
template <class S>
struct prepare_gradient {
  static constexpr int most = most_numbers<S>;
  attention_shape shape;
  std::int64_t rows, span;
  S* dqkv;
  const S* raw;
  head_preparation how;
  float *q_partial, *k_partial;

  std::size_t shared_bytes() const {
    const int heads = shape.heads + shape.kv_heads, across = shape.head_dim / 2 / (wide() ? most : 1);
    return how.q_norm ? static_cast<std::size_t>(heads * (shape.head_dim + across)) * sizeof(float) : 0;
  }
  template <class Block>
  RLVR_CUDA_KERNEL void operator()(Block& b) const {
    with_numbers<most>(wide(), [&]<int N>(at_once<N>) {
      const int dim = shape.head_dim, half = dim / 2, across = half / N, heads = shape.heads + shape.kv_heads;
      auto* weight_sums = b.template shared<float>();  // [heads, head_dim]
      float* along = weight_sums + heads * dim;        // [heads, across]
      if (how.q_norm) b.each(heads * dim, [&](std::int64_t i) { weight_sums[i] = 0; });
      const std::int64_t first = b.x * span, end = first + span < rows ? first + span : rows;
      for (std::int64_t row = first; row < end; ++row) {
        const std::int64_t angles = std::int64_t{how.positions[row]} * half;
        S* d = dqkv + row * ((heads + shape.kv_heads) * dim);
        const S* x = raw + row * ((heads + shape.kv_heads) * dim);
        // f(n, place in the row, place in its head, the gradients turned back)
        const auto turned_back = [&](auto f) {
          b.each(heads * across, [&](std::int64_t n) {
            const int in_head = static_cast<int>(n) % across * N, at = static_cast<int>(n) / across * dim + in_head;
            numbers<N> p = read<N>(d + at), q = read<N>(d + at + half), sine = read<N>(how.sines + angles + in_head);
            RLVR_CUDA_UNROLL
            for (int k = 0; k < N; ++k) sine[k] = -sine[k];
            turn(p, q, read<N>(how.cosines + angles + in_head), sine);
            f(static_cast<int>(n), at, in_head, p, q);
          });
        };
        if (!how.q_norm) {
          turned_back([&](int, int at, int, const numbers<N>& p, const numbers<N>& q) {
            write(d + at, p);
            write(d + at + half, q);
          });
          continue;
        }
        const auto weights = [&](int at) { return at < shape.heads * dim ? how.q_norm : how.k_norm; };
        turned_back([&](int n, int at, int in_head, const numbers<N>& p, const numbers<N>& q) {
          const float* w = weights(at) + in_head;
          float sum = 0;
          const auto add = [&](const numbers<N>& g, int behind) {
            const numbers<N> weight = read<N>(w + behind), value = read<N>(x + at + behind);
            RLVR_CUDA_UNROLL
            for (int k = 0; k < N; ++k) sum += g[k] * weight[k] * value[k];
          };
          add(p, 0);
          add(q, half);
          along[n] = sum;
        });
        turned_back([&](int n, int at, int in_head, const numbers<N>& p, const numbers<N>& q) {
          const int head = n / across;
          float sum = 0;
          for (int i = 0; i < across; ++i) sum += along[head * across + i];
          const float root = how.scale[row * heads + head];
          const float pull = root * root * root * sum / static_cast<float>(dim);
          const float* w = weights(at) + in_head;
          const auto put = [&](numbers<N> g, int behind) {
            const numbers<N> weight = read<N>(w + behind), value = read<N>(x + at + behind);
            numbers<N> sums = read<N>(weight_sums + at + behind);
            RLVR_CUDA_UNROLL
            for (int k = 0; k < N; ++k) {
              sums[k] += g[k] * (value[k] * root);
              g[k] = root * weight[k] * g[k] - pull * value[k];
            }
            write(weight_sums + at + behind, sums);
            write(d + at + behind, g);
          };
          put(p, 0);
          put(q, half);
        });
      }
      if (how.q_norm)
        b.each(2 * dim, [&](std::int64_t i) {
          const bool query = i < dim;
          const int at = static_cast<int>(i) % dim;
          float sum = 0;
          for (int head = query ? 0 : shape.heads; head < (query ? shape.heads : heads); ++head)
            sum += weight_sums[head * dim + at];
          (query ? q_partial : k_partial)[std::int64_t{b.x} * dim + at] = sum;
        });
    });
  }

 private:
  RLVR_CUDA_BOTH bool wide() const {
    return shape.head_dim % 2 == 0 &&
           in_parts<most>(shape.head_dim / 2, raw, dqkv, how.q_norm, how.k_norm, how.cosines, how.sines);
  }
};

}  // namespace rlvr::cuda::kernels
