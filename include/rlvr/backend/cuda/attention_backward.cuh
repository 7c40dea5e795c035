#pragma once
/// The gradient of attention in bfloat16 on tensor cores. One kernel makes dq, tile of queries by tile of queries,
/// another dk and dv, tile of keys by tile of keys; both compute the weights p of attention anew, the second
/// transposed. Every result is summed by one warp in one order: the same bits every time.
///   ds = p (dout v^T - delta), delta = <dout, out>, dq = ds k / sqrt(head_dim), dk = ds^T q / sqrt(head_dim),
///   dv = p^T dout
/// Source: Dao, "FlashAttention-2" (arXiv 2307.08691), algorithm 2, whose sums into dq by atomics this avoids for 7/5
/// of its products.

#include <cstddef>
#include <cstdint>

#include <rlvr/backend/cuda/attention_forward.cuh>
#include <rlvr/backend/cuda/attention_pairs.cuh>
#include <rlvr/backend/cuda/attention_warp.cuh>
#include <rlvr/backend/cuda/device.hpp>
#include <rlvr/backend/cuda/scalar.hpp>
#include <rlvr/backend/cuda/warp_lanes.cuh>

namespace rlvr::cuda::kernels {

/// A query sees a key that stands at most so far before it, and not behind it: as unsigned numbers both are one
/// comparison of the distance.
RLVR_CUDA_KERNEL inline unsigned reach_of(int window) {
  return window > 0 ? static_cast<unsigned>(window) : 1u << 31;
}

/// Blocks (task, head): delta, and dq of a tile of queries. The last task first, as it is one of the longest. A warp
/// keeps its side's rows in registers and sums half of the columns of dq. Reads q, dout and out once, and the keys and
/// values that a task sees once for each of its heads.
template <int Width>
struct attend_backward_queries_in_registers : attention_gradient_in_registers<Width> {
  using base = attention_gradient_in_registers<Width>;
  using base::shape, base::rows, base::step, base::stride, base::strips, base::warps;
  using typename base::message, typename base::part, typename base::scores;
  const attention_task* tasks;
  std::int32_t task_count;

  /// The rows of queries, dout and out, before they are in registers, where then the ring is and what is told.
  std::size_t shared_bytes() const {
    constexpr std::size_t first = 3 * rows * stride * sizeof(bfloat16);
    constexpr std::size_t then = 2 * base::stage_numbers * sizeof(bfloat16) + warps * sizeof(message);
    return first > then ? first : then;
  }

  struct state {
    typename base::template result<Width / 2> sum;
    warp::matrix_a own[Width / 16][strips];   ///< of queries, or of dout
    warp::registers<float, 2 * strips> less;  ///< log_sum to the base 2, or delta
    scores made;
  };

  template <class Block>
  RLVR_CUDA_KERNEL void operator()(Block& b) const {
    const attention_task task = tasks[task_count - 1 - b.x];
    const int head = b.y, dim = shape.head_dim, key_head = head / (shape.heads / shape.kv_heads);
    auto* ring = b.template shared<bfloat16>();
    auto* told = reinterpret_cast<message*>(ring + 2 * base::stage_numbers);
    warp::team<state, warps> team;

    const task_keys seen(task, shape.window);
    const auto copy_queries = [&](bfloat16* tile, typename base::matrix m) {
      team.template copy_rows<rows, Width, stride>(tile, task.query_rows, dim, m);
    };
    const auto copy_keys = [&](bfloat16* tile, int key) {
      const auto copy = [&](bfloat16* to, int column) {
        const typename base::matrix all{this->qkv + column + key_head * dim, this->width()};
        team.template copy_rows<step, Width, stride>(to, seen.count(key, step), dim, seen.rows(key, all, all));
      };
      copy(tile, this->q_width());
      copy(tile + step * stride, this->q_width() + this->kv_width());
    };

    bfloat16 *query = ring, *dout = query + rows * stride, *out = dout + rows * stride;
    copy_queries(query, this->of_qkv(task.query_row, head * dim));
    copy_queries(dout, this->of_out(this->dout, task.query_row, head * dim));
    copy_queries(out, this->of_out(this->out, task.query_row, head * dim));
    team.wait();
    team.meet();
    team.warps([&](int w, state& s) {
      const int from = base::first_row(w) * stride;
      start(s, base::part_of(w), (base::part_of(w) == part::weights ? query : dout) + from, out + from, task,
            base::first_row(w), head);
    });
    team.meet();
    copy_keys(ring, seen.begin);
    for (int key = seen.begin, stage = 0; key < seen.end; stage ^= 1) {
      const int count = seen.count(key, step), next = key + count;
      const bfloat16* key_tile = ring + stage * base::stage_numbers;
      const auto sees = [&](int w) {
        const int position = seen.position + base::first_row(w);
        return base::first_row(w) < task.query_rows && key < position + base::shared_rows &&
               (shape.window == 0 || next > position - shape.window);
      };
      team.wait();
      team.meet();  // this stage is there, and the other, and what was told, are no longer needed
      if (next < seen.end) copy_keys(ring + (stage ^ 1) * base::stage_numbers, next);
      team.warps([&](int w, state& s) {
        if (sees(w)) make(s, base::part_of(w), key_tile, seen.position + base::first_row(w), key, count, told[w]);
      });
      team.meet();
      team.warps([&](int w, state& s) {
        if (sees(w)) add(s, told[w ^ 1], key_tile + w % 2 * (Width / 2));
      });
      key = next;
    }
    team.meet();
    team.warps([&](int w, state& s) {
      this->template store_rows<Width / 2>(s.sum, this->scale,
                                           ring + base::first_row(w) * stride + w % 2 * (Width / 2));
    });
    team.meet();
    team.template save_rows<rows, Width, stride>(ring, task.query_rows, dim, this->of_dqkv(task.query_row, head * dim));
  }

 private:
  RLVR_CUDA_KERNEL void start(state& s, part role, const bfloat16* own, const bfloat16* out, const attention_task& task,
                              int row, int head) const {
    warp::clear(s.sum);
    warp::lanes([&](int lane) {
      RLVR_CUDA_UNROLL
      for (int h = 0; h < 2 * strips; ++h) s.less(lane, h) = 0;
    });
    RLVR_CUDA_UNROLL
    for (int n = 0; n < strips * Width / 16; ++n) {
      const int i = n % strips, k = n / strips;
      warp::load_a(s.own[k][i], own + i * 16 * stride + k * 16, stride);
      if (role == part::weights) continue;
      warp::matrix_a o;
      warp::load_a(o, out + i * 16 * stride + k * 16, stride);
      warp::lanes([&](int lane) {
        RLVR_CUDA_UNROLL
        for (int e = 0; e < 8; ++e)
          s.less(lane, 2 * i + e / 2 % 2) +=
              warp::unpack(s.own[k][i](lane, e / 2), e % 2) * warp::unpack(o(lane, e / 2), e % 2);
      });
    }
    warp::merge_lanes<1, 4>(s.less, [](float p, float q) { return p + q; });
    warp::lanes([&](int lane) {
      RLVR_CUDA_UNROLL
      for (int h = 0; h < 2 * strips; ++h) {
        const int i = row + lane / 4 + 8 * h;
        if (i >= task.query_rows) continue;
        const std::int64_t of = std::int64_t{task.query_row + i} * shape.heads + head;
        if (role == part::weights)
          s.less(lane, h) = log2_e * this->log_sum[of];
        else if (lane % 4 == 0)
          this->delta[of] = s.less(lane, h);
      }
    });
  }
  /// s.made, and told the other warp, rounded: p, or dout v^T - delta.
  RLVR_CUDA_KERNEL void make(state& s, part role, const bfloat16* key_tile, int position, int key, int count,
                             message& to) const {
    warp::clear(s.made);
    const bfloat16* tile = role == part::weights ? key_tile : key_tile + step * stride;
    RLVR_CUDA_UNROLL
    for (int k = 0; k < Width / 16; ++k) warp::add_transposed(s.made, s.own[k], tile + k * 16, stride);
    if (role == part::weights) {
      RLVR_CUDA_UNROLL
      for (int i = 0; i < strips; ++i) hide_unseen(s.made[i], position + 16 * i, key, count, shape.window);
    }
    const float to_powers = log2_e * this->scale;
    warp::lanes([&](int lane) {
      RLVR_CUDA_UNROLL
      for (int n = 0; n < strips * step / 2; ++n) {
        const int i = n / (step / 2), m = n % (step / 2);
        float& x = s.made[i][m / 8][m / 4 % 2](lane, m % 4);
        const float less = s.less(lane, 2 * i + m % 4 / 2);
        x = role == part::weights ? warp::power_of_two(x * to_powers - less) : x - less;
      }
    });
    typename base::rounded_scores told;
    base::round(told, s.made);
    base::tell(to, told);
  }
  /// Half of the columns of dq.
  RLVR_CUDA_KERNEL void add(state& s, const message& from, const bfloat16* keys) const {
    typename base::rounded_scores ds;
    base::multiply_with_told(ds, s.made, from);
    warp::add_product(s.sum, ds, keys, stride);
  }
};

/// Blocks (task, key head): dk and dv of a tile of keys. Its rows are seen by rows up to query_end, those behind it in
/// its own sequence and, when it is a prefix, those of the sequences that share all of it, which lie behind it. delta
/// is there. The warp that makes p sums dv, the other dk. Reads keys and values once, and q and dout of all those rows
/// once for each head that shares the keys.
template <int Width>
struct attend_backward_keys_in_registers : attention_gradient_in_registers<Width> {
  using base = attention_gradient_in_registers<Width>;
  using base::shape, base::rows, base::step, base::stride, base::strips, base::warps;
  using typename base::message, typename base::part, typename base::scores;
  const key_task* tasks;
  const std::int32_t* positions;

  /// What the queries of a step have besides their rows; zeros behind the last.
  struct query_numbers {
    float log_sum[step], delta[step];
    std::int32_t position[step];
  };
  /// Whether the positions of `count` rows, of which these are the first and the last, rise by one from row to row.
  /// Else they fall back somewhere, to the prefix's length where a sequence begins.
  static RLVR_CUDA_KERNEL bool side_by_side(int first, int last, int count) { return last - first == count - 1; }
  std::size_t shared_bytes() const {
    return (2 * rows * stride + 2 * base::stage_numbers) * sizeof(bfloat16) + warps / 2 * sizeof(message) +
           2 * sizeof(query_numbers);
  }

  struct state {
    typename base::template result<Width> sum;  ///< dv, or dk
    scores made;
    typename base::rounded_scores left;
  };

  template <class Block>
  RLVR_CUDA_KERNEL void operator()(Block& b) const {
    const key_task task = tasks[b.x];
    const int dim = shape.head_dim, group = shape.heads / shape.kv_heads;
    auto* key_tile = b.template shared<bfloat16>();
    bfloat16 *value_tile = key_tile + rows * stride, *ring = value_tile + rows * stride;
    auto* told = reinterpret_cast<message*>(ring + 2 * base::stage_numbers);
    auto* numbers = reinterpret_cast<query_numbers*>(told + warps / 2);
    warp::team<state, warps> team;

    // Every head of the group passes over all queries, step by step.
    struct place {
      int head, query;
    };
    const int end_head = (b.y + 1) * group;
    const int first_key = positions[task.key_row], last_key = first_key + task.key_rows - 1;
    const auto count_of = [&](const place& p) {
      const int left = task.query_end - p.query;
      return left < step ? left : step;
    };
    const auto after = [&](place p) {
      for (;;) {
        p.query += step;
        if (p.query >= task.query_end) p = {p.head + 1, task.key_row};
        if (shape.window == 0 || p.head == end_head) return p;
        const int first = positions[p.query], last = positions[p.query + count_of(p) - 1];
        if (!side_by_side(first, last, count_of(p)) || first - last_key < shape.window) return p;  // some see a key
      }
    };
    const int key_column = this->q_width() + b.y * dim, value_column = key_column + this->kv_width();
    const auto copy_keys = [&](bfloat16* tile, int column) {
      team.template copy_rows<rows, Width, stride>(tile, task.key_rows, dim, this->of_qkv(task.key_row, column));
    };
    const auto copy_step = [&](const place& p, int stage) {
      const int count = count_of(p);
      bfloat16* tile = ring + stage * base::stage_numbers;
      const typename base::matrix query = this->of_qkv(p.query, p.head * dim),
                                  dout = this->of_out(this->dout, p.query, p.head * dim);
      team.template copy_rows<step, Width, stride>(tile, count, dim, query);
      team.template copy_rows<step, Width, stride>(tile + step * stride, count, dim, dout);
      team.threads([&](int i) {
        if (i >= step) return;
        const std::int64_t row = p.query + i, of = row * shape.heads + p.head;
        team.template copy<4>(&numbers[stage].log_sum[i], this->log_sum + of, i < count);
        team.template copy<4>(&numbers[stage].delta[i], this->delta + of, i < count);
        team.template copy<4>(&numbers[stage].position[i], positions + row, i < count);
      });
    };

    copy_keys(key_tile, key_column);
    copy_keys(value_tile, value_column);
    place now{b.y * group, task.key_row};
    copy_step(now, 0);
    team.warps([&](int, state& s) { warp::clear(s.sum); });
    for (int stage = 0; now.head < end_head; stage ^= 1) {
      const bfloat16* query_tile = ring + stage * base::stage_numbers;
      const int count = count_of(now);
      const auto seen = [&](int w) {
        const int first = numbers[stage].position[0], last = numbers[stage].position[count - 1];
        return base::first_row(w) < task.key_rows &&
               (!side_by_side(first, last, count) || last >= first_key + base::first_row(w));
      };
      team.wait();
      team.meet();  // this stage is there, and the other, and what was told, are no longer needed
      const place next = after(now);
      if (next.head < end_head) copy_step(next, stage ^ 1);
      team.warps([&](int w, state& s) {
        if (!seen(w)) return;
        const bool weights = base::part_of(w) == part::weights;
        make(s, base::part_of(w), (weights ? key_tile : value_tile) + base::first_row(w) * stride,
             weights ? query_tile : query_tile + step * stride, numbers[stage], count, first_key + base::first_row(w),
             told[w / 2]);
      });
      team.meet();
      team.warps([&](int w, state& s) {
        if (!seen(w)) return;
        const bool weights = base::part_of(w) == part::weights;
        if (!weights) base::multiply_with_told(s.left, s.made, told[w / 2]);
        warp::add_product(s.sum, s.left, weights ? query_tile + step * stride : query_tile, stride);
      });
      now = next;
    }
    team.meet();
    team.warps([&](int w, state& s) {
      const bool weights = base::part_of(w) == part::weights;
      this->template store_rows<Width>(s.sum, weights ? 1 : this->scale,
                                       (weights ? value_tile : key_tile) + base::first_row(w) * stride);
    });
    team.meet();
    team.template save_rows<rows, Width, stride>(key_tile, task.key_rows, dim, this->of_dqkv(task.key_row, key_column));
    team.template save_rows<rows, Width, stride>(value_tile, task.key_rows, dim,
                                                 this->of_dqkv(task.key_row, value_column));
  }

 private:
  /// Transposed, for keys from `position` on: s.left <- p, which the other warp is told; or s.made <- dout v^T - delta.
  RLVR_CUDA_KERNEL void make(state& s, part role, const bfloat16* own, const bfloat16* others, const query_numbers& of,
                             int count, int position, message& to) const {
    warp::clear(s.made);
    RLVR_CUDA_UNROLL
    for (int k = 0; k < Width / 16; ++k) {
      warp::matrix_a a[strips];
      RLVR_CUDA_UNROLL
      for (int i = 0; i < strips; ++i) warp::load_a(a[i], own + i * 16 * stride + k * 16, stride);
      warp::add_transposed(s.made, a, others + k * 16, stride);
    }
    const int first = of.position[0], last = of.position[count - 1];
    const bool all_seen = side_by_side(first, last, count) && first >= position + base::shared_rows - 1 &&
                          (shape.window == 0 || last - position < shape.window);
    if (role == part::weights && !all_seen)
      warp::lanes([&](int lane) {
        RLVR_CUDA_UNROLL
        for (int n = 0; n < strips * step / 2; ++n) {
          const int i = n / (step / 2), m = n % (step / 2);
          const int from = of.position[m / 4 * 8 + lane % 4 * 2 + m % 2];
          const int at = position + 16 * i + lane / 4 + m % 4 / 2 * 8;
          if (static_cast<unsigned>(from - at) >= reach_of(shape.window))
            s.made[i][m / 8][m / 4 % 2](lane, m % 4) = minus_infinity;
        }
      });
    const float to_powers = log2_e * this->scale;
    warp::lanes([&](int lane) {
      RLVR_CUDA_UNROLL
      for (int n = 0; n < step / 4; ++n) {  // columns, which are queries
        const int column = n / 2 * 8 + lane % 4 * 2 + n % 2;
        const float less = role == part::weights ? log2_e * of.log_sum[column] : of.delta[column];
        RLVR_CUDA_UNROLL
        for (int m = 0; m < 2 * strips; ++m) {
          float& x = s.made[m / 2][n / 4][n / 2 % 2](lane, m % 2 * 2 + n % 2);
          x = role == part::weights ? warp::power_of_two(x * to_powers - less) : x - less;
        }
      }
    });
    if (role == part::pulls) return;
    base::round(s.left, s.made);
    base::tell(to, s.left);
  }
};

}  // namespace rlvr::cuda::kernels
