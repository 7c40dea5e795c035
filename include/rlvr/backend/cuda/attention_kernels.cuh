#pragma once
/// Attention over packed sequences, tile by tile: the scores of a tile of queries and a tile of keys are all that is
/// ever there. Sums are in float; every result is summed by one block in one order. These kernels take every type and
/// head; packed bfloat16 rows of usual heads have faster ones (attention_forward.cuh, attention_backward.cuh), and so
/// has one query (attention_decode.cuh, attention_decode_floats.cuh).
/// Source: Dao, "FlashAttention-2" (arXiv 2307.08691), algorithms 1 and 2.

#include <cmath>
#include <cstddef>
#include <cstdint>

#include <rlvr/backend/cuda/attention_tasks.cuh>
#include <rlvr/backend/cuda/block.cuh>
#include <rlvr/backend/cuda/device.hpp>
#include <rlvr/backend/cuda/vector_kernels.cuh>

namespace rlvr::cuda::kernels {

/// Rows of tiles. 64 bfloat16 rows of 128 numbers are 16 KiB.
template <class S>
inline constexpr int forward_tile = sizeof(S) == 2 ? 64 : 32;
template <class S>
inline constexpr int backward_tile = sizeof(S) == 2 ? 32 : 16;

/// Matrices in shared memory, one behind the other. Rows are padded by 16 bytes, so that the same column of two rows
/// lies in different banks.
class shared_layout {
 public:
  RLVR_CUDA_BOTH explicit shared_layout(int head_dim) : width_((head_dim + 15) / 16 * 16) {}
  RLVR_CUDA_BOTH int width() const { return width_; }  ///< head_dim padded to whole products
  template <class S>
  RLVR_CUDA_BOTH static int stride(int columns) {
    return columns + static_cast<int>(16 / sizeof(S));
  }
  template <class S>
  RLVR_CUDA_BOTH std::size_t take(int rows, int columns) {
    const std::size_t at = used_;
    used_ += (static_cast<std::size_t>(rows * stride<S>(columns)) * sizeof(S) + 127) / 128 * 128;
    return at;
  }
  RLVR_CUDA_BOTH std::size_t used() const { return used_; }

 private:
  int width_;
  std::size_t used_ = 0;
};

template <class T>
RLVR_CUDA_BOTH T* at(std::byte* memory, std::size_t offset) {
  return reinterpret_cast<T*>(memory + offset);
}

/// tile <- row(i)[0, dim) for i < rows; what is behind is zero.
template <class Block, class S, class Row>
RLVR_CUDA_KERNEL void load_tile(Block& b, S* tile, int tile_rows, int rows, int dim, int width, Row row) {
  const int stride = shared_layout::stride<S>(width);
  if (dim % static_cast<int>(16 / sizeof(S)) != 0) {
    b.each(tile_rows * width, [&](std::int64_t n) {
      const int i = static_cast<int>(n) / width, from = static_cast<int>(n) % width;
      tile[i * stride + from] = i < rows && from < dim ? row(i)[from] : S{0.f};
    });
    return;
  }
  constexpr int numbers = 16 / sizeof(S), together = 4;  // chunks that a thread waits for at once
  const int across = width / numbers, chunks = tile_rows * across, apart = (chunks + together - 1) / together;
  b.each(apart, [&](std::int64_t n) {
    words<4> held[together];
    RLVR_CUDA_UNROLL
    for (int c = 0; c < together; ++c) {
      const int at = static_cast<int>(n) + c * apart, i = at / across, from = at % across * numbers;
      held[c] = i < rows && from < dim ? read_words<4>(row(i) + from) : words<4>{};
    }
    RLVR_CUDA_UNROLL
    for (int c = 0; c < together; ++c) {
      const int at = static_cast<int>(n) + c * apart;
      if (at < chunks) write_words(tile + at / across * stride + at % across * numbers, held[c]);
    }
  });
}

/// Queries times keys, the softmax kept up while keys pass, times values: algorithm 1. Blocks (task, head), tasks of up
/// to `tile` rows. Reads q once, and the keys and values that a task sees once for each of its heads.
template <class S>
struct attend_forward : attention_call<S> {
  static constexpr int tile = forward_tile<S>;
  using call = attention_call<S>;
  using call::log_sum, call::scale;
  using call::shape, call::tasks, call::q, call::q_stride, call::prefix, call::own, call::out, call::out_stride;

  /// Shared memory: queries, a tile of keys and then of values, the weights of one for the other; in float scores, the
  /// sum of weighted values, and of each query its largest score, its sum of weights, and what a step shrinks both by.
  struct offsets {
    std::size_t q, kv, weights, scores, sum, top, total, factor, all;
  };
  RLVR_CUDA_BOTH offsets place() const {
    shared_layout s(shape.head_dim);
    offsets o;
    o.q = s.take<S>(tile, s.width());
    o.kv = s.take<S>(tile, s.width());
    o.weights = s.take<S>(tile, tile);
    o.scores = s.take<float>(tile, tile);
    o.sum = s.take<float>(tile, s.width());
    o.top = s.take<float>(1, tile);
    o.total = s.take<float>(1, tile);
    o.factor = s.take<float>(1, tile);
    o.all = s.used();
    return o;
  }
  std::size_t shared_bytes() const { return place().all; }

  template <class Block>
  RLVR_CUDA_KERNEL void operator()(Block& b) const {
    const attention_task task = tasks[b.x];
    const int dim = shape.head_dim, width = shared_layout(dim).width(), head = b.y;
    const int key_head = head / (shape.heads / shape.kv_heads), rows = task.query_rows;
    const int row_stride = shared_layout::stride<S>(width), sum_stride = shared_layout::stride<float>(width);
    const int weight_stride = shared_layout::stride<S>(tile), score_stride = shared_layout::stride<float>(tile);
    const offsets o = place();
    auto* memory = b.template shared<std::byte>();
    S *query = at<S>(memory, o.q), *kv = at<S>(memory, o.kv), *weights = at<S>(memory, o.weights);
    float *scores = at<float>(memory, o.scores), *sum = at<float>(memory, o.sum), *top = at<float>(memory, o.top);
    float *total = at<float>(memory, o.total), *factor = at<float>(memory, o.factor);

    const int padded = (rows + 15) / 16 * 16;  // rows of products
    load_tile(b, query, tile, rows, dim, width,
              [&](int i) { return q + (task.query_row + i) * q_stride + head * dim; });
    b.each(tile * sum_stride, [&](std::int64_t i) { sum[i] = 0; });
    b.each(tile, [&](std::int64_t i) {
      top[i] = minus_infinity;
      total[i] = 0;
    });

    const task_keys seen(task, shape.window);
    for (int key = seen.begin; key < seen.end; key += tile) {
      const int keys = seen.end - key < tile ? seen.end - key : tile;
      const auto place_of = [&](int j, const S* in_prefix, const S* in_own) {
        const int position = key + j;
        return (position < task.prefix_length
                    ? in_prefix + std::int64_t{task.prefix_row + position} * prefix.stride
                    : in_own + std::int64_t{task.own_row + position - task.prefix_length} * own.stride) +
               key_head * dim;
      };
      load_tile(b, kv, tile, keys, dim, width, [&](int j) { return place_of(j, prefix.keys, own.keys); });
      b.each(padded * score_stride, [&](std::int64_t i) { scores[i] = 0; });
      b.template product<product_form::nt>(padded, tile, width, query, row_stride, kv, row_stride, scores,
                                           score_stride);
      const auto visible = [&](int i, int j) {
        const int from = seen.position + i, to = key + j;
        return i < rows && j < keys && to <= from && (shape.window == 0 || from - to < shape.window);
      };
      b.each(padded, [&](std::int64_t i) {
        float highest = top[i];
        for (int j = 0; j < keys; ++j) {
          const float s = scale * scores[i * score_stride + j];
          if (visible(static_cast<int>(i), j) && s > highest) highest = s;
        }
        factor[i] = highest == minus_infinity ? 0.f : std::exp(top[i] - highest);
        top[i] = highest;
      });
      b.each(padded * tile, [&](std::int64_t n) {
        const int i = static_cast<int>(n) / tile, j = static_cast<int>(n) % tile;
        const float w = visible(i, j) ? std::exp(scale * scores[i * score_stride + j] - top[i]) : 0.f;
        scores[i * score_stride + j] = w;
        weights[i * weight_stride + j] = static_cast<S>(w);
      });
      b.each(padded, [&](std::int64_t i) {
        float more = 0;
        for (int j = 0; j < tile; ++j) more += scores[i * score_stride + j];
        total[i] = factor[i] * total[i] + more;
      });
      load_tile(b, kv, tile, keys, dim, width, [&](int j) { return place_of(j, prefix.values, own.values); });
      b.each(padded * width, [&](std::int64_t n) {
        const int i = static_cast<int>(n) / width;
        sum[i * sum_stride + static_cast<int>(n) % width] *= factor[i];
      });
      b.template product<product_form::nn>(padded, width, tile, weights, weight_stride, kv, row_stride, sum,
                                           sum_stride);
    }
    b.each(rows * dim, [&](std::int64_t n) {
      const int i = static_cast<int>(n) / dim, d = static_cast<int>(n) % dim;
      store(out, (task.query_row + i) * out_stride + head * dim + d, sum[i * sum_stride + d] / total[i]);
    });
    if (log_sum)
      b.each(rows,
             [&](std::int64_t i) { log_sum[(task.query_row + i) * shape.heads + head] = top[i] + std::log(total[i]); });
  }
};

/// delta[row, head] <- <dout, out> of a head. Blocks of a row; a thread has a head.
template <class S>
struct attention_delta : attention_gradient_call<S> {
  template <class Block>
  RLVR_CUDA_KERNEL void operator()(Block& b) const {
    const std::int64_t heads = this->shape.heads, dim = this->shape.head_dim;
    b.each(heads, [&](std::int64_t h) {
      float sum = 0;
      for (std::int64_t i = (b.x * heads + h) * dim; i < (b.x * heads + h + 1) * dim; ++i)
        sum += load(this->out, i) * load(this->dout, i);
      this->delta[b.x * heads + h] = sum;
    });
  }
};

/// What both gradient kernels need: tiles of queries and keys, and from them the weights p of attention and
/// ds = scale p (dout v^T - delta). Both are algorithm 2 with a pass of its own for dq, so that every sum has one
/// order.
template <class S>
struct attention_gradient : attention_gradient_call<S> {
  static constexpr int tile = backward_tile<S>;
  using call = attention_gradient_call<S>;
  using call::shape, call::log_sum, call::delta;

  RLVR_CUDA_BOTH std::int64_t q_width() const { return shape.heads * shape.head_dim; }
  RLVR_CUDA_BOTH std::int64_t kv_width() const { return shape.kv_heads * shape.head_dim; }
  RLVR_CUDA_BOTH std::int64_t stride() const { return q_width() + 2 * kv_width(); }

  /// Shared memory: a tile of rows of each matrix; p and ds, rounded; in float scores, dout v^T, and up to two results.
  struct offsets {
    std::size_t q, dout, k, v, p, ds, scores, pulls, first, second, all;
  };
  RLVR_CUDA_BOTH offsets place() const {
    shared_layout s(shape.head_dim);
    offsets o;
    o.q = s.take<S>(tile, s.width());
    o.dout = s.take<S>(tile, s.width());
    o.k = s.take<S>(tile, s.width());
    o.v = s.take<S>(tile, s.width());
    o.p = s.take<S>(tile, tile);
    o.ds = s.take<S>(tile, tile);
    o.scores = s.take<float>(tile, tile);
    o.pulls = s.take<float>(tile, tile);
    o.first = s.take<float>(tile, s.width());
    o.second = s.take<float>(tile, s.width());
    o.all = s.used();
    return o;
  }
  std::size_t shared_bytes() const { return place().all; }

  /// visible(i, j): whether query i of the tile sees key j.
  template <class Block, class Visible>
  RLVR_CUDA_KERNEL void weights(Block& b, const offsets& o, std::byte* memory, int query_row, int head,
                                Visible visible) const {
    const int width = shared_layout(shape.head_dim).width(), row_stride = shared_layout::stride<S>(width);
    const int weight_stride = shared_layout::stride<S>(tile), score_stride = shared_layout::stride<float>(tile);
    float *scores = at<float>(memory, o.scores), *pulls = at<float>(memory, o.pulls);
    S *p = at<S>(memory, o.p), *ds = at<S>(memory, o.ds);
    b.each(tile * score_stride, [&](std::int64_t i) { scores[i] = pulls[i] = 0; });
    b.template product<product_form::nt>(tile, tile, width, at<S>(memory, o.q), row_stride, at<S>(memory, o.k),
                                         row_stride, scores, score_stride);
    b.template product<product_form::nt>(tile, tile, width, at<S>(memory, o.dout), row_stride, at<S>(memory, o.v),
                                         row_stride, pulls, score_stride);
    const float scale = 1.f / std::sqrt(static_cast<float>(shape.head_dim));
    b.each(tile * tile, [&](std::int64_t n) {
      const int i = static_cast<int>(n) / tile, j = static_cast<int>(n) % tile;
      float weight = 0, pull = 0;
      if (visible(i, j)) {
        const std::int64_t of = static_cast<std::int64_t>(query_row + i) * shape.heads + head;
        weight = std::exp(scale * scores[i * score_stride + j] - log_sum[of]);
        pull = scale * weight * (pulls[i * score_stride + j] - delta[of]);
      }
      p[i * weight_stride + j] = static_cast<S>(weight);
      ds[i * weight_stride + j] = static_cast<S>(pull);
    });
  }
};

/// Blocks (task, head): dq = ds k of a tile of queries. The tasks are those of a packed forward pass, of backward_tile
/// rows. Reads q and dout once, and the keys and values that a task sees once for each of its heads.
template <class S>
struct attend_backward_queries : attention_gradient<S> {
  using base = attention_gradient<S>;
  using base::shape, base::tile;
  const attention_task* tasks;

  template <class Block>
  RLVR_CUDA_KERNEL void operator()(Block& b) const {
    const attention_task task = tasks[b.x];
    const int dim = shape.head_dim, width = shared_layout(dim).width(), head = b.y;
    const int key_head = head / (shape.heads / shape.kv_heads), rows = task.query_rows;
    const int row_stride = shared_layout::stride<S>(width), sum_stride = shared_layout::stride<float>(width);
    const typename base::offsets o = this->place();
    auto* memory = b.template shared<std::byte>();
    float* sum = at<float>(memory, o.first);
    load_tile(b, at<S>(memory, o.q), tile, rows, dim, width,
              [&](int i) { return this->qkv + (task.query_row + i) * this->stride() + head * dim; });
    load_tile(b, at<S>(memory, o.dout), tile, rows, dim, width,
              [&](int i) { return this->dout + (task.query_row + i) * this->q_width() + head * dim; });
    b.each(tile * sum_stride, [&](std::int64_t i) { sum[i] = 0; });
    const task_keys seen(task, shape.window);
    for (int key = seen.begin; key < seen.end; key += tile) {
      const int keys = seen.end - key < tile ? seen.end - key : tile;
      const auto load_keys = [&](S* to, std::int64_t column) {
        const warp::rows<const S> all{this->qkv + column + key_head * dim, static_cast<int>(this->stride())};
        load_tile(b, to, tile, keys, dim, width, [&](int j) { return seen.rows(key + j, all, all).first; });
      };
      load_keys(at<S>(memory, o.k), this->q_width());
      load_keys(at<S>(memory, o.v), this->q_width() + this->kv_width());
      this->weights(b, o, memory, task.query_row, head, [&](int i, int j) {
        const int from = seen.position + i, to = key + j;
        return i < rows && j < keys && to <= from && (shape.window == 0 || from - to < shape.window);
      });
      b.template product<product_form::nn>(tile, width, tile, at<S>(memory, o.ds), shared_layout::stride<S>(tile),
                                           at<S>(memory, o.k), row_stride, sum, sum_stride);
    }
    b.each(rows * dim, [&](std::int64_t n) {
      const int i = static_cast<int>(n) / dim, d = static_cast<int>(n) % dim;
      store(this->dqkv, (task.query_row + i) * this->stride() + head * dim + d, sum[i * sum_stride + d]);
    });
  }
};

/// Blocks (task, key head): dk = ds^T q and dv = p^T dout of a tile of keys. Its rows are seen by rows up to query_end,
/// those behind it in its own sequence and, when it is a prefix, those of the sequences that share it, which lie behind
/// it. Reads keys and values once, and q and dout of all those rows once for each head that shares the keys.
template <class S>
struct attend_backward_keys : attention_gradient<S> {
  using base = attention_gradient<S>;
  using base::shape, base::tile;
  const key_task* tasks;
  const std::int32_t* positions;

  template <class Block>
  RLVR_CUDA_KERNEL void operator()(Block& b) const {
    const key_task task = tasks[b.x];
    const int dim = shape.head_dim, width = shared_layout(dim).width(), group = shape.heads / shape.kv_heads;
    const int row_stride = shared_layout::stride<S>(width), sum_stride = shared_layout::stride<float>(width);
    const int weight_stride = shared_layout::stride<S>(tile);
    const typename base::offsets o = this->place();
    auto* memory = b.template shared<std::byte>();
    float *dk = at<float>(memory, o.first), *dv = at<float>(memory, o.second);
    const auto key_of = [&](int j) {
      return this->qkv + (task.key_row + j) * this->stride() + this->q_width() + b.y * dim;
    };
    load_tile(b, at<S>(memory, o.k), tile, task.key_rows, dim, width, key_of);
    load_tile(b, at<S>(memory, o.v), tile, task.key_rows, dim, width,
              [&](int j) { return key_of(j) + this->kv_width(); });
    b.each(tile * sum_stride, [&](std::int64_t i) { dk[i] = dv[i] = 0; });
    for (int head = b.y * group; head < (b.y + 1) * group; ++head)
      for (int query = task.key_row; query < task.query_end; query += tile) {
        const int rows = task.query_end - query < tile ? task.query_end - query : tile;
        load_tile(b, at<S>(memory, o.q), tile, rows, dim, width,
                  [&](int i) { return this->qkv + (query + i) * this->stride() + head * dim; });
        load_tile(b, at<S>(memory, o.dout), tile, rows, dim, width,
                  [&](int i) { return this->dout + (query + i) * this->q_width() + head * dim; });
        this->weights(b, o, memory, query, head, [&](int i, int j) {
          if (i >= rows || j >= task.key_rows) return false;
          const int from = positions[query + i], to = positions[task.key_row + j];
          return to <= from && (shape.window == 0 || from - to < shape.window);
        });
        b.template product<product_form::tn>(tile, width, tile, at<S>(memory, o.p), weight_stride,
                                             at<S>(memory, o.dout), row_stride, dv, sum_stride);
        b.template product<product_form::tn>(tile, width, tile, at<S>(memory, o.ds), weight_stride, at<S>(memory, o.q),
                                             row_stride, dk, sum_stride);
      }
    b.each(task.key_rows * dim, [&](std::int64_t n) {
      const int j = static_cast<int>(n) / dim, d = static_cast<int>(n) % dim;
      const std::int64_t to = (task.key_row + j) * this->stride() + this->q_width() + b.y * dim + d;
      store(this->dqkv, to, dk[j * sum_stride + d]);
      store(this->dqkv, to + this->kv_width(), dv[j * sum_stride + d]);
    });
  }
};

}  // namespace rlvr::cuda::kernels
