#pragma once
/// The gradient of attention in bfloat16 on tensor cores. One kernel makes dq, tile of queries by tile of queries,
/// another dk and dv, tile of keys by tile of keys; both compute the weights p of attention anew, the second
/// transposed, so that p and its gradient never leave the registers of the warp that multiplies with them. Every result
/// is summed by one warp in one order: the same bits every time.
///   ds = p (dout v^T - delta), delta = <dout, out>, dq = ds k / sqrt(head_dim), dk = ds^T q / sqrt(head_dim),
///   dv = p^T dout
/// Source: Dao, "FlashAttention-2" (arXiv 2307.08691), algorithm 2, whose sums into dq by atomics this avoids for 7/5
/// of its products.

#include <cmath>
#include <cstddef>
#include <cstdint>

#include <rlvr/backend/cuda/attention_forward.cuh>
#include <rlvr/backend/cuda/attention_warp.cuh>
#include <rlvr/backend/cuda/device.hpp>
#include <rlvr/backend/cuda/scalar.hpp>

namespace rlvr::cuda::kernels {

/// A query sees a key that stands at most so far before it, and not behind it: as unsigned numbers both are one
/// comparison of the distance.
RLVR_CUDA_KERNEL inline unsigned reach_of(int window) {
  return window > 0 ? static_cast<unsigned>(window) : 1u << 31;
}
/// What both kernels need. A block has `rows` rows, 16 a warp, and passes over the other side's by `step`: two such
/// tiles of two matrices are in shared memory, one being copied there while the other is worked on.
template <int Width>
struct attention_gradient_in_registers {
  static constexpr int warps = 4, threads = 32 * warps;
  static constexpr int rows = 16 * warps, step = 32, stride = row_stride<Width>;
  static constexpr std::size_t tile_bytes = (2 * rows + 4 * step) * stride * sizeof(bfloat16);
  attention_shape shape;
  const bfloat16 *qkv, *out, *dout;
  const float* log_sum;
  float* delta;
  bfloat16* dqkv;
  float scale;  ///< 1 / sqrt(head_dim)

  /// Sixteen rows of a result, and scores of 16 rows with the other side's step.
  using result = warp::accumulator[Width / 16][2];
  using scores = warp::accumulator[step / 16][2];

  /// Rows from `row` and columns from `column` on.
  using part = warp::rows<const bfloat16>;
  RLVR_CUDA_KERNEL part of_qkv(std::int64_t row, int column) const { return {qkv + row * width() + column, width()}; }
  RLVR_CUDA_KERNEL warp::rows<bfloat16> of_dqkv(std::int64_t row, int column) const {
    return {dqkv + row * width() + column, width()};
  }
  RLVR_CUDA_KERNEL part of_out(const bfloat16* x, std::int64_t row, int column) const {
    return {x + row * q_width() + column, q_width()};
  }
  RLVR_CUDA_KERNEL int q_width() const { return shape.heads * shape.head_dim; }
  RLVR_CUDA_KERNEL int kv_width() const { return shape.kv_heads * shape.head_dim; }
  RLVR_CUDA_KERNEL int width() const { return q_width() + 2 * kv_width(); }

  /// c += a b^T, for 16 columns of a and `step` rows of b.
  static RLVR_CUDA_KERNEL void add_scores(scores& c, const warp::matrix_a& a, const bfloat16* b) {
    RLVR_CUDA_UNROLL
    for (int j = 0; j < step / 16; ++j) {
      warp::matrix_b part;
      warp::load_b_of_columns(part, b + j * 16 * stride, stride);
      warp::multiply(c[j], a, part);
    }
  }
  /// c += a b, a rounded.
  static RLVR_CUDA_KERNEL void add_product(result& c, const scores& a, const bfloat16* b) {
    RLVR_CUDA_UNROLL
    for (int k = 0; k < step / 16; ++k) {
      const warp::matrix_a left = warp::rounded(a[k]);
      RLVR_CUDA_UNROLL
      for (int j = 0; j < Width / 16; ++j) {
        warp::matrix_b part;
        warp::load_b(part, b + k * 16 * stride + j * 16, stride);
        warp::multiply(c[j], left, part);
      }
    }
  }
  /// Sixteen rows of `to` <- factor c
  static RLVR_CUDA_KERNEL void store_rows(const result& c, float factor, bfloat16* to) {
    warp::lanes([&](int lane) {
      RLVR_CUDA_UNROLL
      for (int n = 0; n < Width / 4; ++n) {
        const warp::accumulator& x = c[n / 4][n / 2 % 2];
        const int h = n % 2;
        warp::store_pair(to + (lane / 4 + 8 * h) * stride + n / 2 * 8 + lane % 4 * 2,
                         warp::pack(x(lane, 2 * h) * factor, x(lane, 2 * h + 1) * factor));
      }
    });
  }
};

/// Blocks (task, head): delta, and dq of a tile of queries. The last task first, as it is one of the longest.
template <int Width>
struct attend_backward_queries_in_registers : attention_gradient_in_registers<Width> {
  using base = attention_gradient_in_registers<Width>;
  using base::shape, base::rows, base::step, base::stride, base::warps;
  const attention_task* tasks;
  std::int32_t task_count;
  RLVR_CUDA_BOTH attend_backward_queries_in_registers(const base& common, const attention_task* list,
                                                      std::int32_t count)
      : base(common), tasks(list), task_count(count) {}

  std::size_t shared_bytes() const { return base::tile_bytes; }

  struct state {
    typename base::result sum;
    warp::matrix_a query[Width / 16], dout[Width / 16];
    warp::registers<float, 2> log_sum, delta;  ///< log_sum to the base 2
  };

  template <class Block>
  RLVR_CUDA_KERNEL void operator()(Block& b) const {
    const attention_task task = tasks[task_count - 1 - b.x];
    const int head = b.y, dim = shape.head_dim, key_head = head / (shape.heads / shape.kv_heads);
    auto* query = b.template shared<bfloat16>();
    bfloat16 *dout = query + rows * stride, *ring = dout + rows * stride;
    warp::team<state, warps> team;

    const task_keys seen(task, shape.window);
    const auto copy_queries = [&](bfloat16* tile, typename base::part m) {
      team.template copy_rows<rows, Width, stride>(tile, task.query_rows, dim, m);
    };
    const auto copy_keys = [&](bfloat16* tile, int key) {
      const auto copy = [&](bfloat16* to, int column) {
        const bfloat16* from = this->qkv + column + key_head * dim;
        team.template copy_rows<step, Width, stride>(to, seen.count(key, step), dim,
                                                     seen.rows(key, from, this->width(), from, this->width()));
      };
      copy(tile, this->q_width());
      copy(tile + step * stride, this->q_width() + this->kv_width());
    };

    copy_queries(query, this->of_qkv(task.query_row, head * dim));
    copy_queries(dout, this->of_out(this->dout, task.query_row, head * dim));
    copy_queries(ring, this->of_out(this->out, task.query_row, head * dim));
    team.wait();
    team.meet();
    team.warps([&](int w, state& s) {
      const int from = w * 16 * stride;
      start(s, query + from, dout + from, ring + from, task, w * 16, head);
    });
    team.meet();
    copy_keys(ring, seen.begin);
    for (int key = seen.begin, stage = 0; key < seen.end; stage ^= 1) {
      const int count = seen.count(key, step), next = key + count;
      team.wait();
      team.meet();  // this stage is there, and the other is no longer needed
      if (next < seen.end) copy_keys(ring + (stage ^ 1) * 2 * step * stride, next);
      team.warps([&](int w, state& s) {
        const int position = seen.position + w * 16;
        const bool sees = key < position + 16 && (shape.window == 0 || next > position - shape.window);
        if (w * 16 < task.query_rows && sees) add(s, ring + stage * 2 * step * stride, position, key, count);
      });
      key = next;
    }
    team.warps([&](int w, state& s) { this->store_rows(s.sum, this->scale, query + w * 16 * stride); });
    team.meet();
    team.template save_rows<rows, Width, stride>(query, task.query_rows, dim,
                                                 this->of_dqkv(task.query_row, head * dim));
  }

 private:
  RLVR_CUDA_KERNEL void start(state& s, const bfloat16* query, const bfloat16* dout, const bfloat16* out,
                              const attention_task& task, int row, int head) const {
    warp::clear(s.sum);
    warp::lanes([&](int lane) { s.delta(lane, 0) = s.delta(lane, 1) = 0; });
    RLVR_CUDA_UNROLL
    for (int k = 0; k < Width / 16; ++k) {
      warp::matrix_a o;
      warp::load_a(s.query[k], query + k * 16, stride);
      warp::load_a(s.dout[k], dout + k * 16, stride);
      warp::load_a(o, out + k * 16, stride);
      warp::lanes([&](int lane) {
        RLVR_CUDA_UNROLL
        for (int i = 0; i < 8; ++i)
          s.delta(lane, i / 2 % 2) += warp::unpack(s.dout[k](lane, i / 2), i % 2) * warp::unpack(o(lane, i / 2), i % 2);
      });
    }
    warp::merge_rows(s.delta, [](float p, float q) { return p + q; });
    warp::lanes([&](int lane) {
      RLVR_CUDA_UNROLL
      for (int h = 0; h < 2; ++h) {
        const int i = row + lane / 4 + 8 * h;
        const std::int64_t of = std::int64_t{task.query_row + i} * shape.heads + head;
        s.log_sum(lane, h) = i < task.query_rows ? log2_e * this->log_sum[of] : 0;
        if (lane % 4 == 0 && i < task.query_rows) this->delta[of] = s.delta(lane, h);
      }
    });
  }
  RLVR_CUDA_KERNEL void add(state& s, const bfloat16* key_tile, int position, int key, int count) const {
    const bfloat16* value_tile = key_tile + step * stride;
    typename base::scores p, pull;
    warp::clear(p);
    warp::clear(pull);
    RLVR_CUDA_UNROLL
    for (int k = 0; k < Width / 16; ++k) {
      this->add_scores(p, s.query[k], key_tile + k * 16);
      this->add_scores(pull, s.dout[k], value_tile + k * 16);
    }
    hide_unseen(p, position, key, count, shape.window);
    const float to_powers = log2_e * this->scale;
    warp::lanes([&](int lane) {
      RLVR_CUDA_UNROLL
      for (int n = 0; n < step / 2; ++n) {
        const int i = n % 4, h = i / 2;
        const float weight = warp::power_of_two(p[n / 8][n / 4 % 2](lane, i) * to_powers - s.log_sum(lane, h));
        float& of = pull[n / 8][n / 4 % 2](lane, i);
        of = weight * (of - s.delta(lane, h));
      }
    });
    this->add_product(s.sum, pull, key_tile);
  }
};

/// Blocks (task, key head): dk and dv of a tile of keys. Its rows are seen by rows up to query_end, those behind it in
/// its own sequence and, when it is a prefix, those of the sequences that share it, which lie behind it. delta is
/// there.
template <int Width>
struct attend_backward_keys_in_registers : attention_gradient_in_registers<Width> {
  using base = attention_gradient_in_registers<Width>;
  using base::shape, base::rows, base::step, base::stride, base::warps;
  const key_task* tasks;
  const std::int32_t* positions;
  RLVR_CUDA_BOTH attend_backward_keys_in_registers(const base& common, const key_task* list, const std::int32_t* at)
      : base(common), tasks(list), positions(at) {}

  /// What the queries of a step have besides their rows; zeros behind the last.
  struct query_numbers {
    float log_sum[step], delta[step];
    std::int32_t position[step];
  };
  std::size_t shared_bytes() const { return base::tile_bytes + 2 * sizeof(query_numbers); }

  struct state {
    typename base::result dk, dv;
  };

  template <class Block>
  RLVR_CUDA_KERNEL void operator()(Block& b) const {
    const key_task task = tasks[b.x];
    const int dim = shape.head_dim, group = shape.heads / shape.kv_heads;
    auto* key_tile = b.template shared<bfloat16>();
    bfloat16 *value_tile = key_tile + rows * stride, *ring = value_tile + rows * stride;
    auto* numbers = reinterpret_cast<query_numbers*>(ring + 4 * step * stride);
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
        if (last - first != count_of(p) - 1 || first - last_key < shape.window) return p;  // not all beyond the window
      }
    };
    const int key_column = this->q_width() + b.y * dim, value_column = key_column + this->kv_width();
    const auto copy_keys = [&](bfloat16* tile, int column) {
      const typename base::part m = this->of_qkv(task.key_row, column);
      team.template copy_rows<rows, Width, stride>(tile, task.key_rows, dim, m);
    };
    const auto copy_step = [&](const place& p, int stage) {
      const int count = count_of(p);
      bfloat16* tile = ring + stage * 2 * step * stride;
      const typename base::part query = this->of_qkv(p.query, p.head * dim),
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
    team.warps([&](int, state& s) {
      warp::clear(s.dk);
      warp::clear(s.dv);
    });
    for (int stage = 0; now.head < end_head; stage ^= 1) {
      team.wait();
      team.meet();  // this stage is there, and the other is no longer needed
      const place next = after(now);
      if (next.head < end_head) copy_step(next, stage ^ 1);
      team.warps([&](int w, state& s) {
        const int from = w * 16;
        if (from < task.key_rows)
          add(s, key_tile + from * stride, value_tile + from * stride, ring + stage * 2 * step * stride, numbers[stage],
              count_of(now), first_key + from);
      });
      now = next;
    }
    team.warps([&](int w, state& s) {
      this->store_rows(s.dk, this->scale, key_tile + w * 16 * stride);
      this->store_rows(s.dv, 1, value_tile + w * 16 * stride);
    });
    team.meet();
    team.template save_rows<rows, Width, stride>(key_tile, task.key_rows, dim, this->of_dqkv(task.key_row, key_column));
    team.template save_rows<rows, Width, stride>(value_tile, task.key_rows, dim,
                                                 this->of_dqkv(task.key_row, value_column));
  }

 private:
  /// The warp's first key stands at `position`.
  RLVR_CUDA_KERNEL void add(state& s, const bfloat16* key_tile, const bfloat16* value_tile, const bfloat16* query_tile,
                            const query_numbers& of, int count, int position) const {
    const int first = of.position[0], last = of.position[count - 1];
    const bool run = last - first == count - 1;
    if (run && last < position) return;
    const bfloat16* dout_tile = query_tile + step * stride;
    typename base::scores p, pull;
    warp::clear(p);
    warp::clear(pull);
    RLVR_CUDA_UNROLL
    for (int k = 0; k < Width / 16; ++k) {
      warp::matrix_a a;
      warp::load_a(a, key_tile + k * 16, stride);
      this->add_scores(p, a, query_tile + k * 16);
      warp::load_a(a, value_tile + k * 16, stride);
      this->add_scores(pull, a, dout_tile + k * 16);
    }
    if (!run || first < position + 15 || (shape.window > 0 && last - position >= shape.window))
      warp::lanes([&](int lane) {
        RLVR_CUDA_UNROLL
        for (int i = 0; i < step / 2; ++i) {
          const int from = of.position[i / 4 * 8 + lane % 4 * 2 + i % 2], to = position + lane / 4 + i % 4 / 2 * 8;
          if (static_cast<unsigned>(from - to) >= reach_of(shape.window))
            p[i / 8][i / 4 % 2](lane, i % 4) = minus_infinity;
        }
      });
    const float to_powers = log2_e * this->scale;
    warp::lanes([&](int lane) {
      RLVR_CUDA_UNROLL
      for (int n = 0; n < step / 4; ++n) {  // columns, which are queries
        const int column = n / 2 * 8 + lane % 4 * 2 + n % 2;
        const float log_sum = log2_e * of.log_sum[column], delta = of.delta[column];
        RLVR_CUDA_UNROLL
        for (int i = n % 2; i < 4; i += 2) {
          float &weight = p[n / 4][n / 2 % 2](lane, i), &gradient = pull[n / 4][n / 2 % 2](lane, i);
          weight = warp::power_of_two(weight * to_powers - log_sum);
          gradient = weight * (gradient - delta);
        }
      }
    });
    this->add_product(s.dv, p, dout_tile);
    this->add_product(s.dk, pull, query_tile);
  }
};

}  // namespace rlvr::cuda::kernels
