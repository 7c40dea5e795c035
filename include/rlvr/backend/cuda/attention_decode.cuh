#pragma once
/// Attention of one query, with all heads that share its keys. Memory is what it waits for: numbers go from there to
/// registers, 16 bytes a lane, each once, and no warp waits for another before the end. Warps take turns at keys, and
/// what they have summed is merged in one order.
/// In bfloat16 tensor cores take them:
///   scores^T [keys, heads] = k q^T, and result^T [dim, heads] = v^T weights^T
/// The instruction pairs numbers of its two factors; which dimension a pair stands for is free, so a lane takes eight
/// that lie side by side.
/// Source: Dao, "FlashAttention-2" (arXiv 2307.08691), algorithm 1.

#include <cmath>
#include <cstddef>
#include <cstdint>

#include <rlvr/backend/cuda/attention_tasks.cuh>
#include <rlvr/backend/cuda/attention_warp.cuh>
#include <rlvr/backend/cuda/block.cuh>
#include <rlvr/backend/cuda/device.hpp>
#include <rlvr/backend/cuda/row_access.cuh>
#include <rlvr/backend/cuda/scalar.hpp>
#include <rlvr/backend/cuda/warp_lanes.cuh>

namespace rlvr::cuda::kernels {

/// Tasks of one row. Blocks of a task, one or more for each head of keys, stand side by side: they read parts of the
/// same rows of the cache. A block has up to MostHeads heads of queries, and reads each of their keys and values once.
template <class S, int MostHeads>
struct attend_one_query : attention_call<S> {
  static constexpr int warps = 4, threads = 32 * warps;
  using call = attention_call<S>;
  using call::shape, call::tasks, call::prefix, call::own, call::out, call::out_stride, call::log_sum, call::scale;

  RLVR_CUDA_BOTH int group() const { return shape.heads / shape.kv_heads; }
  RLVR_CUDA_BOTH int blocks_per_group() const { return (group() + MostHeads - 1) / MostHeads; }
  RLVR_CUDA_BOTH int heads_per_block() const { return (group() + blocks_per_group() - 1) / blocks_per_group(); }
  std::int64_t blocks(std::int64_t count) const { return count * shape.kv_heads * blocks_per_group(); }

  /// What a block does: `heads` heads from `head` on, and the keys that they see.
  struct work {
    attention_task task;
    int head, heads, key_at, begin, end;  ///< key_at: where a row of the cache has the head's numbers
  };
  RLVR_CUDA_KERNEL work work_of(int block) const {
    const int parts = blocks_per_group(), most = heads_per_block(), per_task = shape.kv_heads * parts;
    const int key_head = block % per_task / parts, first = block % parts * most;
    const attention_task task = tasks[block / per_task];
    const task_keys seen(task, shape.window);
    const int heads = group() - first < most ? group() - first : most;
    return {task, key_head * group() + first, heads, key_head * shape.head_dim, seen.begin, seen.end};
  }
  /// The head's numbers in the row of a position. Behind the last key it is read again: its numbers are there, and the
  /// weights are zero.
  RLVR_CUDA_KERNEL const S* row_of(const work& x, int position, const S* key_values<S>::*of) const {
    if (position >= x.end) position = x.end - 1;
    const bool shared = position < x.task.prefix_length;
    const int row = position + (shared ? x.task.prefix_row : x.task.own_row - x.task.prefix_length);
    return (shared ? prefix.*of : own.*of) + std::int64_t{row} * (shared ? prefix.stride : own.stride) + x.key_at;
  }
  RLVR_CUDA_KERNEL const S* keys_of(const work& x, int position) const {
    return row_of(x, position, &key_values<S>::keys);
  }
  RLVR_CUDA_KERNEL const S* values_of(const work& x, int position) const {
    return row_of(x, position, &key_values<S>::values);
  }

  /// What a warp has of each head: its largest score, the sum of weights below that, and of weighted values.
  struct partial {
    float *tops, *totals, *sums;
  };
  template <int Width>
  RLVR_CUDA_KERNEL partial partial_of(float* memory, int warp) const {
    const int heads = heads_per_block();
    return {memory + warp * heads, memory + (warps + warp) * heads, memory + (2 * warps + warp * Width) * heads};
  }
  template <int Width>
  std::size_t partial_bytes() const {
    return static_cast<std::size_t>(warps * heads_per_block()) * (Width + 2) * sizeof(float);
  }
  /// The block's results, two numbers of a head at a time.
  template <int Width>
  RLVR_CUDA_KERNEL void merge(const work& x, float* memory, int thread) const {
    const int pairs = shape.head_dim / 2;
    for (int n = thread; n < x.heads * pairs; n += threads) {
      const int h = n / pairs, d = n % pairs * 2;
      float top = minus_infinity, total = 0;
      numbers<2> sum{};
      RLVR_CUDA_UNROLL
      for (int w = 0; w < warps; ++w) top = std::fmax(top, partial_of<Width>(memory, w).tops[h]);
      RLVR_CUDA_UNROLL
      for (int w = 0; w < warps; ++w) {
        const partial of = partial_of<Width>(memory, w);
        const float factor = std::exp((of.tops[h] - top) * scale);
        total += factor * of.totals[h];
        sum[0] += factor * of.sums[h * Width + d];
        sum[1] += factor * of.sums[h * Width + d + 1];
      }
      const std::int64_t row = x.task.query_row;
      write(out + row * out_stride + (x.head + h) * shape.head_dim + d, numbers<2>{sum[0] / total, sum[1] / total});
      if (log_sum && d == 0) log_sum[row * shape.heads + x.head + h] = top * scale + std::log(total);
    }
  }
};

/// For heads of at most Width numbers, a multiple of 8. A warp takes 16 keys at a turn, with the heads of the block as
/// the eight columns of the instruction.
template <int Width>
struct attend_decode : attend_one_query<bfloat16, 8> {
  static constexpr int keys = 16;  ///< of a warp's turn
  static constexpr int steps = Width / 16, chunks = Width / 64;

  std::size_t shared_bytes() const { return partial_bytes<Width>(); }

  /// Of 16 keys, columns 32 p + 8 t .. 32 p + 8 t + 7 of rows g and g + 8 are in matrices 2 p and 2 p + 1. Of queries,
  /// a matrix_b has the same columns of head g.
  using key_numbers = warp::matrix_a[steps];
  using query_numbers = warp::matrix_b[steps / 2];
  /// Of keys 2 t, 2 t + 1, 2 t + 8 and 2 t + 9: columns 64 c + 8 g .. 64 c + 8 g + 7.
  using value_numbers = warp::registers<std::uint32_t, 4>[4][chunks];
  /// Columns of the result are numbered as a lane has them: its number e is column 64 (e / 8) + 8 g + e % 8. Sum j has
  /// e = j and e = j + steps, for heads 2 t and 2 t + 1; so have the others.
  struct state {
    warp::accumulator sum[steps / 2][2];
    warp::registers<float, 2> top, total;
  };

  template <class Block>
  RLVR_CUDA_KERNEL void operator()(Block& b) const {
    const work x = work_of(b.x);
    auto* memory = b.template shared<float>();
    warp::team<state, warps> team;
    team.warps([&](int w, state& s) {
      query_numbers query;
      key_numbers k;
      value_numbers v;
      load_queries(query, x);
      clear(s);
      int key = x.begin + w * keys;
      if (key < x.end) load_keys(k, x, key);
      for (; key < x.end; key += warps * keys) {
        load_values(v, x, key);
        warp::accumulator scores[1][2];
        warp::clear(scores);
        RLVR_CUDA_UNROLL
        for (int p = 0; p < steps / 2; ++p) {
          warp::multiply<0>(scores[0][0], k[2 * p], query[p]);
          warp::multiply<1>(scores[0][1], k[2 * p + 1], query[p]);
        }
        if (key + warps * keys < x.end) load_keys(k, x, key + warps * keys);
        add_values(s, weigh(s, scores[0], x.end - key), v);
      }
      save(s, partial_of<Width>(memory, w));
    });
    team.meet();
    team.threads([&](int thread) { merge<Width>(x, memory, thread); });
  }

 private:
  static RLVR_CUDA_KERNEL void clear(state& s) {
    warp::clear(s.sum);
    warp::lanes([&](int lane) {
      RLVR_CUDA_UNROLL
      for (int h = 0; h < 2; ++h) {
        s.top(lane, h) = minus_infinity;
        s.total(lane, h) = 0;
      }
    });
  }
  /// 8 numbers of a row of head_dim; behind it zeros.
  RLVR_CUDA_KERNEL words<4> eight(const bfloat16* row, int from) const {
    return from < shape.head_dim ? read_words<4>(row + from) : words<4>{};
  }
  RLVR_CUDA_KERNEL void load_queries(query_numbers& to, const work& x) const {
    const bfloat16* first = q + x.task.query_row * q_stride + x.head * shape.head_dim;
    warp::lanes([&](int lane) {
      RLVR_CUDA_UNROLL
      for (int p = 0; p < steps / 2; ++p) {
        const words<4> c =
            lane / 4 < x.heads ? eight(first + lane / 4 * shape.head_dim, 32 * p + lane % 4 * 8) : words<4>{};
        RLVR_CUDA_UNROLL
        for (int i = 0; i < 4; ++i) to[p](lane, i) = c.of[i];
      }
    });
  }
  RLVR_CUDA_KERNEL void load_keys(key_numbers& to, const work& x, int key) const {
    warp::lanes([&](int lane) {
      RLVR_CUDA_UNROLL
      for (int h = 0; h < 2; ++h) {
        const bfloat16* row = keys_of(x, key + lane / 4 + 8 * h);
        RLVR_CUDA_UNROLL
        for (int p = 0; p < steps / 2; ++p) {
          const words<4> c = eight(row, 32 * p + lane % 4 * 8);
          RLVR_CUDA_UNROLL
          for (int i = 0; i < 4; ++i) to[2 * p + i / 2](lane, i % 2 * 2 + h) = c.of[i];
        }
      }
    });
  }
  RLVR_CUDA_KERNEL void load_values(value_numbers& to, const work& x, int key) const {
    warp::lanes([&](int lane) {
      RLVR_CUDA_UNROLL
      for (int k = 0; k < 4; ++k) {
        const bfloat16* row = values_of(x, key + lane % 4 * 2 + k % 2 + k / 2 * 8);
        RLVR_CUDA_UNROLL
        for (int c = 0; c < chunks; ++c) {
          const words<4> numbers = eight(row, 64 * c + lane / 4 * 8);
          RLVR_CUDA_UNROLL
          for (int i = 0; i < 4; ++i) to[k][c](lane, i) = numbers.of[i];
        }
      }
    });
  }
  /// The weights of `count` of 16 keys, from their scores in two parts; what has been summed shrinks as the largest
  /// score rises.
  RLVR_CUDA_KERNEL warp::matrix_b weigh(state& s, warp::accumulator (&scores)[2], int count) const {
    warp::registers<float, 2> top = s.top;
    warp::lanes([&](int lane) {
      RLVR_CUDA_UNROLL
      for (int i = 0; i < 4; ++i) {
        float& score = scores[0](lane, i);
        score = lane / 4 + i / 2 * 8 < count ? score + scores[1](lane, i) : minus_infinity;
        top(lane, i % 2) = std::fmax(top(lane, i % 2), score);
      }
    });
    warp::merge_lanes<4>(top, [](float x, float y) { return std::fmax(x, y); });
    warp::matrix_b out;
    warp::lanes([&](int lane) {
      const float to_powers = log2_e * scale;
      float base[2], factor[2], weight[4];
      RLVR_CUDA_UNROLL
      for (int h = 0; h < 2; ++h) {
        base[h] = top(lane, h) * to_powers;
        factor[h] = warp::power_of_two(s.top(lane, h) * to_powers - base[h]);
        s.top(lane, h) = top(lane, h);
        s.total(lane, h) *= factor[h];
      }
      RLVR_CUDA_UNROLL
      for (int i = 0; i < 4; ++i) {
        weight[i] = warp::power_of_two(scores[0](lane, i) * to_powers - base[i % 2]);
        s.total(lane, i % 2) += weight[i];
      }
      RLVR_CUDA_UNROLL
      for (int i = 0; i < 4 * steps; ++i) s.sum[i / 8][i / 4 % 2](lane, i % 4) *= factor[i % 2];
      out(lane, 0) = warp::pack(weight[0], weight[1]);
      out(lane, 1) = warp::pack(weight[2], weight[3]);
    });
    warp::transpose(out, 0);
    warp::transpose(out, 1);
    return out;
  }
  /// sum += values^T weights
  static RLVR_CUDA_KERNEL void add_values(state& s, const warp::matrix_b& weights, const value_numbers& v) {
    RLVR_CUDA_UNROLL
    for (int j = 0; j < steps; ++j) {
      warp::matrix_a a;
      warp::lanes([&](int lane) {
        RLVR_CUDA_UNROLL
        for (int r = 0; r < 4; ++r) {
          const int e = j + r % 2 * steps, k = r / 2 * 2;
          a(lane, r) = warp::pair_halves(v[k][e / 8](lane, e % 8 / 2), v[k + 1][e / 8](lane, e % 8 / 2), e % 2);
        }
      });
      warp::multiply<0>(s.sum[j / 2][j % 2], a, weights);
    }
  }
  RLVR_CUDA_KERNEL void save(state& s, partial to) const {
    warp::merge_lanes<4>(s.total, [](float x, float y) { return x + y; });
    warp::lanes([&](int lane) {
      RLVR_CUDA_UNROLL
      for (int h = 0; h < 2; ++h) {
        const int head = lane % 4 * 2 + h;
        if (head >= heads_per_block()) continue;
        RLVR_CUDA_UNROLL
        for (int i = 0; i < 2 * steps; ++i) {
          const int j = i / 2, e = j + i % 2 * steps;
          to.sums[head * Width + e / 8 * 64 + lane / 4 * 8 + e % 8] = s.sum[j / 2][j % 2](lane, i % 2 * 2 + h);
        }
        if (lane / 4 == 0) {
          to.tops[head] = s.top(lane, h);
          to.totals[head] = s.total(lane, h);
        }
      }
    });
  }
};

}  // namespace rlvr::cuda::kernels
