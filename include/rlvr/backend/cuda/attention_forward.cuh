#pragma once
/// Attention in bfloat16 on tensor cores. A warp keeps scores, softmax and result of 32 queries in registers; keys and
/// values pass through shared memory, the one being copied there while the other is worked on.
/// Source: Dao, "FlashAttention-2" (arXiv 2307.08691), algorithm 1; powers of two instead of e, as its kernels do.

#include <cmath>
#include <cstddef>
#include <cstdint>

#include <rlvr/backend/cuda/attention_tasks.cuh>
#include <rlvr/backend/cuda/attention_warp.cuh>
#include <rlvr/backend/cuda/device.hpp>
#include <rlvr/backend/cuda/scalar.hpp>
#include <rlvr/backend/cuda/warp_lanes.cuh>

namespace rlvr::cuda::kernels {

/// Whether these kernels and those of the gradient serve heads of that many numbers: they are copied by 16 bytes.
constexpr bool fits_registers(std::int32_t head_dim) {
  return head_dim % 8 == 0 && head_dim <= widest_in_registers;
}
/// Numbers from row to row of a tile. 16 bytes more than a row has, so that the same column of eight rows lies in
/// different banks.
template <int Width>
inline constexpr int row_stride = Width + 8;

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

/// Blocks (task, head), tasks of up to `queries` rows; the last task first, as it is one of the longest. A warp has two
/// strips of 16 queries, which share what it reads of a tile of keys or values. Width: head_dim or more. Reads q once,
/// and the keys and values that a task sees once for each of its heads.
template <int Width>
struct attend_forward_in_registers : attention_call<bfloat16> {
  static constexpr int warps = 4, threads = 32 * warps;
  static constexpr int strips = 2, queries = 16 * strips * warps, keys = 64, stride = row_stride<Width>;

  /// Queries, a tile of keys and one of values. At Width 128 68 KiB: two blocks on an A100 or H100, one where a block
  /// has no more than 99 KiB.
  std::size_t shared_bytes() const { return (queries + 2 * keys) * stride * sizeof(bfloat16); }

  /// Of each strip of 16 queries: scores of a tile, the sum of weighted values, the largest score so far, and the sum
  /// of weights below it that the lane has met. Pairs of accumulators are 16 columns.
  struct state {
    warp::accumulator scores[strips][keys / 16][2], sum[strips][Width / 16][2];
    warp::registers<float, 2> top[strips], total[strips];
  };

  template <class Block>
  RLVR_CUDA_KERNEL void operator()(Block& b) const {
    const attention_task task = tasks[task_count - 1 - b.x];
    const int head = b.y, dim = shape.head_dim, key_head = head / (shape.heads / shape.kv_heads);
    auto* query = b.template shared<bfloat16>();
    bfloat16 *key_tile = query + queries * stride, *value_tile = key_tile + keys * stride;
    warp::team<state, warps> team;

    const task_keys seen(task, shape.window);
    const auto copy_tile = [&](bfloat16* tile, const bfloat16* from_prefix, const bfloat16* from_own, int key) {
      using matrix = warp::rows<const bfloat16>;
      team.template copy_rows<keys, Width, stride>(tile, seen.count(key, keys), dim,
                                                   seen.rows(key, matrix{from_prefix + key_head * dim, prefix.stride},
                                                             matrix{from_own + key_head * dim, own.stride}));
    };

    team.template copy_rows<queries, Width, stride>(
        query, task.query_rows, dim, {q + task.query_row * q_stride + head * dim, static_cast<int>(q_stride)});
    copy_tile(key_tile, prefix.keys, own.keys, seen.begin);
    team.warps([&](int, state& s) { clear(s); });
    for (int key = seen.begin; key < seen.end;) {
      const int count = seen.count(key, keys), next = key + count;
      team.wait();
      team.meet();  // keys are there, and the values before them are no longer needed
      copy_tile(value_tile, prefix.values, own.values, key);
      team.warps([&](int w, state& s) {
        warp::clear(s.scores);
        add_scores(s, query + w * strips * 16 * stride, key_tile);
      });
      team.wait();
      team.meet();  // the same of values and keys
      if (next < seen.end) copy_tile(key_tile, prefix.keys, own.keys, next);
      team.warps([&](int w, state& s) {
        warp::matrix_a weights[strips][keys / 16];
        RLVR_CUDA_UNROLL
        for (int i = 0; i < strips; ++i) weigh(s, i, seen.position + (w * strips + i) * 16, key, count, weights[i]);
        warp::add_product(s.sum, weights, value_tile, stride);
      });
      key = next;
    }
    team.warps([&](int w, state& s) {
      RLVR_CUDA_UNROLL
      for (int i = 0; i < strips; ++i) finish(s, i, query, (w * strips + i) * 16, task, head);
    });
    team.meet();
    team.template save_rows<queries, Width, stride>(
        query, task.query_rows, dim, {out + task.query_row * out_stride + head * dim, static_cast<int>(out_stride)});
  }

 private:
  static RLVR_CUDA_KERNEL void clear(state& s) {
    warp::clear(s.sum);
    warp::lanes([&](int lane) {
      RLVR_CUDA_UNROLL
      for (int h = 0; h < 2 * strips; ++h) {
        s.top[h / 2](lane, h % 2) = minus_infinity;
        s.total[h / 2](lane, h % 2) = 0;
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
      warp::add_transposed(s.scores, a, key_tile + k * 16, stride);
    }
  }
  /// weights <- those of a strip, from its scores; what has been summed shrinks as the largest score rises. The strip's
  /// first query stands at `position`.
  RLVR_CUDA_KERNEL void weigh(state& s, int strip, int position, int key, int count,
                              warp::matrix_a (&weights)[keys / 16]) const {
    auto& scores = s.scores[strip];
    hide_unseen(scores, position, key, count, shape.window);
    warp::registers<float, 2> top = s.top[strip];
    warp::lanes([&](int lane) {
      RLVR_CUDA_UNROLL
      for (int i = 0; i < keys / 2; ++i) {
        float& highest = top(lane, i % 4 / 2);
        highest = std::fmax(highest, scores[i / 8][i / 4 % 2](lane, i % 4));
      }
    });
    warp::merge_lanes<1, 4>(top, [](float p, float q) { return std::fmax(p, q); });
    warp::lanes([&](int lane) {
      const float to_powers = log2_e * scale;
      float base[2], factor[2];
      RLVR_CUDA_UNROLL
      for (int h = 0; h < 2; ++h) {
        base[h] = top(lane, h) == minus_infinity ? 0.f : top(lane, h) * to_powers;  // a query that has seen no key yet
        factor[h] = warp::power_of_two(s.top[strip](lane, h) * to_powers - base[h]);
        s.top[strip](lane, h) = top(lane, h);
        s.total[strip](lane, h) *= factor[h];
      }
      RLVR_CUDA_UNROLL
      for (int i = 0; i < keys / 2; ++i) {
        float& weight = scores[i / 8][i / 4 % 2](lane, i % 4);
        weight = warp::power_of_two(weight * to_powers - base[i % 4 / 2]);
        s.total[strip](lane, i % 4 / 2) += weight;
      }
      RLVR_CUDA_UNROLL
      for (int i = 0; i < Width / 2; ++i) s.sum[strip][i / 8][i / 4 % 2](lane, i % 4) *= factor[i % 4 / 2];
    });
    RLVR_CUDA_UNROLL
    for (int k = 0; k < keys / 16; ++k) weights[k] = warp::rounded(scores[k]);
  }
  /// Rows from `row` on of `to` <- results; log_sum of those that are queries.
  RLVR_CUDA_KERNEL void finish(state& s, int strip, bfloat16* to, int row, const attention_task& task, int head) const {
    warp::merge_lanes<1, 4>(s.total[strip], [](float p, float q) { return p + q; });
    warp::lanes([&](int lane) {
      RLVR_CUDA_UNROLL
      for (int h = 0; h < 2; ++h) {
        const int i = row + lane / 4 + 8 * h;
        const float inverse = 1 / s.total[strip](lane, h);
        RLVR_CUDA_UNROLL
        for (int n = 0; n < Width / 8; ++n) {
          const warp::accumulator& c = s.sum[strip][n / 2][n % 2];
          const std::uint32_t two = warp::pack(c(lane, 2 * h) * inverse, c(lane, 2 * h + 1) * inverse);
          warp::store_pair(to + i * stride + n * 8 + lane % 4 * 2, two);
        }
        if (log_sum && lane % 4 == 0 && i < task.query_rows)
          log_sum[std::int64_t{task.query_row + i} * shape.heads + head] =
              s.top[strip](lane, h) * scale + std::log(s.total[strip](lane, h));
      }
    });
  }
};

}  // namespace rlvr::cuda::kernels
