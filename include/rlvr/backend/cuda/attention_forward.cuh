#pragma once
/// Attention in bfloat16 on tensor cores. A warp keeps scores, softmax and result of 32 queries in registers; keys and
/// values pass through shared memory, the one being copied there while the other is worked on.
/// Source: Dao, "FlashAttention-2" (arXiv 2307.08691), algorithm 1; powers of two instead of e, as its kernels do.

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <type_traits>

#include <rlvr/backend/cuda/attention_warp.cuh>
#include <rlvr/backend/cuda/device.hpp>
#include <rlvr/backend/cuda/scalar.hpp>
#include <rlvr/backend/cuda/vocabulary_kernels.cuh>

namespace rlvr::cuda::kernels {

inline constexpr int widest_in_registers = 128;
/// Whether the kernels here serve heads of that many numbers: they are copied by 16 bytes.
constexpr bool fits_registers(std::int32_t head_dim) {
  return head_dim % 8 == 0 && head_dim <= widest_in_registers;
}
/// f with the narrowest Width that holds a head.
template <class F>
void with_width(std::int32_t head_dim, F f) {
  if (head_dim <= 64)
    f(std::integral_constant<int, 64>());
  else
    f(std::integral_constant<int, widest_in_registers>());
}
/// Numbers from row to row of a tile. 16 bytes more than a row has, so that the same column of eight rows lies in
/// different banks.
template <int Width>
inline constexpr int row_stride = Width + 8;
inline constexpr float log2_e = 1.44269504f;

/// The keys that queries of a task see, in tiles: first those of the prefix, then those of its own sequence. No tile
/// has keys of both.
struct task_keys {
  attention_task task;
  int position, begin, end;  ///< of the first query; of the keys

  RLVR_CUDA_KERNEL task_keys(const attention_task& t, int window)
      : task(t), position(t.prefix_length + t.own_position), begin(0), end(position + t.query_rows) {
    if (window > 0 && position - window + 1 > 0) begin = position - window + 1;
  }
  /// Keys of the tile of at most `most` that begins with `key`.
  RLVR_CUDA_KERNEL int count(int key, int most) const {
    const int left = (key < task.prefix_length ? task.prefix_length : end) - key;
    return left < most ? left : most;
  }
  /// Where they stand, in the prefix's matrix of keys or values or in the sequence's own.
  RLVR_CUDA_KERNEL warp::rows<const bfloat16> rows(int key, const bfloat16* prefix, std::int64_t prefix_stride,
                                                   const bfloat16* own, std::int64_t own_stride) const {
    if (key < task.prefix_length)
      return {prefix + (task.prefix_row + key) * prefix_stride, static_cast<int>(prefix_stride)};
    return {own + (task.own_row + key - task.prefix_length) * own_stride, static_cast<int>(own_stride)};
  }
};
/// Scores of 16 queries from `position` on and `count` keys from `key` on: minus infinity where a query does not see a
/// key, and behind the keys.
template <int N>
RLVR_CUDA_KERNEL void hide_unseen(warp::accumulator (&scores)[N][2], int position, int key, int count, int window) {
  if (count == 16 * N && key + count - 1 <= position && (window == 0 || position + 15 - key < window)) return;
  warp::lanes([&](int lane) {
    int oldest[2], newest[2];  // keys seen, counted from the lane's first
    RLVR_CUDA_UNROLL
    for (int h = 0; h < 2; ++h) {
      const int at = position + lane / 4 + 8 * h - key, first = lane % 4 * 2;
      oldest[h] = (window > 0 ? at - window + 1 : 0) - first;
      newest[h] = (at < count ? at : count - 1) - first;
    }
    RLVR_CUDA_UNROLL
    for (int i = 0; i < 8 * N; ++i) {
      const int h = i % 4 / 2, column = i / 4 * 8 + i % 2;
      if (column < oldest[h] || column > newest[h]) scores[i / 8][i / 4 % 2](lane, i % 4) = minus_infinity;
    }
  });
}

/// Blocks (task, head), tasks of up to `queries` rows; the last task first, as it is one of the longest. Width:
/// head_dim or more.
template <int Width>
struct attend_forward_in_registers {
  static constexpr int warps = 4, threads = 32 * warps;
  static constexpr int strips = 2, queries = 16 * strips * warps, keys = 64, stride = row_stride<Width>;
  attention_shape shape;
  const attention_task* tasks;
  std::int32_t task_count;
  const bfloat16* q;
  std::int64_t q_stride;
  const bfloat16 *prefix_keys, *prefix_values;
  std::int64_t prefix_stride;
  const bfloat16 *own_keys, *own_values;
  std::int64_t own_stride;
  bfloat16* out;
  std::int64_t out_stride;
  float* log_sum;
  float scale;  ///< 1 / sqrt(head_dim)

  /// At Width 128 68 KiB: two blocks on an A100 or H100, one where a block has no more than 99 KiB.
  std::size_t shared_bytes() const { return (queries + 2 * keys) * stride * sizeof(bfloat16); }

  /// 16 queries: the largest score so far, the sum of weights below it that the lane has met, and the sum of weighted
  /// values. Pairs of accumulators are 16 columns.
  struct strip {
    warp::accumulator scores[keys / 16][2], sum[Width / 16][2];
    warp::registers<float, 2> top, total;
  };
  using weights = warp::matrix_a[strips][keys / 16];
  struct state {
    strip strips[attend_forward_in_registers::strips];
  };

  template <class Block>
  RLVR_CUDA_KERNEL void operator()(Block& b) const {
    const attention_task task = tasks[task_count - 1 - b.x];
    const int head = b.y, dim = shape.head_dim, key_head = head / (shape.heads / shape.kv_heads);
    auto* query = b.template shared<bfloat16>();
    bfloat16 *key_tile = query + queries * stride, *value_tile = key_tile + keys * stride;
    warp::team<state, warps> team;

    const task_keys seen(task, shape.window);
    const auto copy_tile = [&](bfloat16* tile, const bfloat16* prefix, const bfloat16* own, int key) {
      team.template copy_rows<keys, Width, stride>(
          tile, seen.count(key, keys), dim,
          seen.rows(key, prefix + key_head * dim, prefix_stride, own + key_head * dim, own_stride));
    };

    team.template copy_rows<queries, Width, stride>(
        query, task.query_rows, dim, {q + task.query_row * q_stride + head * dim, static_cast<int>(q_stride)});
    copy_tile(key_tile, prefix_keys, own_keys, seen.begin);
    team.warps([&](int, state& s) {
      RLVR_CUDA_UNROLL
      for (strip& x : s.strips) clear(x);
    });
    for (int key = seen.begin; key < seen.end;) {
      const int count = seen.count(key, keys), next = key + count;
      team.wait();
      team.meet();  // keys are there, and the values before them are no longer needed
      copy_tile(value_tile, prefix_values, own_values, key);
      team.warps([&](int w, state& s) {
        RLVR_CUDA_UNROLL
        for (strip& x : s.strips) warp::clear(x.scores);
        add_scores(s, query + w * strips * 16 * stride, key_tile);
      });
      team.wait();
      team.meet();  // the same of values and keys
      if (next < seen.end) copy_tile(key_tile, prefix_keys, own_keys, next);
      team.warps([&](int w, state& s) {
        weights a;
        RLVR_CUDA_UNROLL
        for (int i = 0; i < strips; ++i) weigh(s.strips[i], seen.position + (w * strips + i) * 16, key, count, a[i]);
        add_values(s, a, value_tile);
      });
      key = next;
    }
    team.warps([&](int w, state& s) {
      RLVR_CUDA_UNROLL
      for (int i = 0; i < strips; ++i) finish(s.strips[i], query, (w * strips + i) * 16, task, head);
    });
    team.meet();
    team.template save_rows<queries, Width, stride>(
        query, task.query_rows, dim, {out + task.query_row * out_stride + head * dim, static_cast<int>(out_stride)});
  }

 private:
  static RLVR_CUDA_KERNEL void clear(strip& x) {
    warp::clear(x.sum);
    warp::lanes([&](int lane) {
      RLVR_CUDA_UNROLL
      for (int h = 0; h < 2; ++h) {
        x.top(lane, h) = minus_infinity;
        x.total(lane, h) = 0;
      }
    });
  }
  /// scores += query key^T
  static RLVR_CUDA_KERNEL void add_scores(state& s, const bfloat16* query, const bfloat16* key_tile) {
    RLVR_CUDA_UNROLL
    for (int k = 0; k < Width / 16; ++k) {
      warp::matrix_a a[strips];
      RLVR_CUDA_UNROLL
      for (int i = 0; i < strips; ++i) warp::load_a(a[i], query + i * 16 * stride + k * 16, stride);
      RLVR_CUDA_UNROLL
      for (int j = 0; j < keys / 16; ++j) {
        warp::matrix_b b;
        warp::load_b_of_columns(b, key_tile + j * 16 * stride + k * 16, stride);
        RLVR_CUDA_UNROLL
        for (int i = 0; i < strips; ++i) warp::multiply(s.strips[i].scores[j], a[i], b);
      }
    }
  }
  /// a <- weights, from scores; what has been summed shrinks as the largest score rises. The strip's first query stands
  /// at `position`.
  RLVR_CUDA_KERNEL void weigh(strip& x, int position, int key, int count, warp::matrix_a (&a)[keys / 16]) const {
    hide_unseen(x.scores, position, key, count, shape.window);
    warp::registers<float, 2> top = x.top;
    warp::lanes([&](int lane) {
      RLVR_CUDA_UNROLL
      for (int i = 0; i < keys / 2; ++i) {
        float& highest = top(lane, i % 4 / 2);
        highest = std::fmax(highest, x.scores[i / 8][i / 4 % 2](lane, i % 4));
      }
    });
    warp::merge_rows(top, [](float p, float q) { return std::fmax(p, q); });
    warp::lanes([&](int lane) {
      const float to_powers = log2_e * scale;
      float base[2], factor[2];
      RLVR_CUDA_UNROLL
      for (int h = 0; h < 2; ++h) {
        base[h] = top(lane, h) == minus_infinity ? 0.f : top(lane, h) * to_powers;  // a query that has seen no key yet
        factor[h] = warp::power_of_two(x.top(lane, h) * to_powers - base[h]);
        x.top(lane, h) = top(lane, h);
        x.total(lane, h) *= factor[h];
      }
      RLVR_CUDA_UNROLL
      for (int i = 0; i < keys / 2; ++i) {
        float& weight = x.scores[i / 8][i / 4 % 2](lane, i % 4);
        weight = warp::power_of_two(weight * to_powers - base[i % 4 / 2]);
        x.total(lane, i % 4 / 2) += weight;
      }
      RLVR_CUDA_UNROLL
      for (int i = 0; i < Width / 2; ++i) x.sum[i / 8][i / 4 % 2](lane, i % 4) *= factor[i % 4 / 2];
    });
    RLVR_CUDA_UNROLL
    for (int k = 0; k < keys / 16; ++k) a[k] = warp::rounded(x.scores[k]);
  }
  /// sum += weights values
  static RLVR_CUDA_KERNEL void add_values(state& s, const weights& a, const bfloat16* value_tile) {
    RLVR_CUDA_UNROLL
    for (int k = 0; k < keys / 16; ++k) {
      RLVR_CUDA_UNROLL
      for (int j = 0; j < Width / 16; ++j) {
        warp::matrix_b b;
        warp::load_b(b, value_tile + k * 16 * stride + j * 16, stride);
        RLVR_CUDA_UNROLL
        for (int i = 0; i < strips; ++i) warp::multiply(s.strips[i].sum[j], a[i][k], b);
      }
    }
  }
  /// Rows from `row` on of `to` <- results; log_sum of those that are queries.
  RLVR_CUDA_KERNEL void finish(strip& x, bfloat16* to, int row, const attention_task& task, int head) const {
    warp::merge_rows(x.total, [](float p, float q) { return p + q; });
    warp::lanes([&](int lane) {
      RLVR_CUDA_UNROLL
      for (int h = 0; h < 2; ++h) {
        const int i = row + lane / 4 + 8 * h;
        const float inverse = 1 / x.total(lane, h);
        RLVR_CUDA_UNROLL
        for (int n = 0; n < Width / 8; ++n) {
          const warp::accumulator& c = x.sum[n / 2][n % 2];
          const std::uint32_t two = warp::pack(c(lane, 2 * h) * inverse, c(lane, 2 * h + 1) * inverse);
          warp::store_pair(to + i * stride + n * 8 + lane % 4 * 2, two);
        }
        if (log_sum && lane % 4 == 0 && i < task.query_rows)
          log_sum[std::int64_t{task.query_row + i} * shape.heads + head] =
              x.top(lane, h) * scale + std::log(x.total(lane, h));
      }
    });
  }
};

}  // namespace rlvr::cuda::kernels
