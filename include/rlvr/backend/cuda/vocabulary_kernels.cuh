#pragma once
/// Kernels over rows of logits: nothing but the logits and their gradient is ever as wide as the vocabulary. One block
/// per row. Sums over the vocabulary are in double, of float sums of some hundred tokens, or of integers, which have no
/// order.

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>

#include <rlvr/backend/cuda/attention_warp.cuh>
#include <rlvr/backend/cuda/block.cuh>
#include <rlvr/backend/cuda/device.hpp>
#include <rlvr/backend/cuda/row_access.cuh>
#include <rlvr/backend/cuda/vector_kernels.cuh>
#include <rlvr/backend/cuda/warp_lanes.cuh>

namespace rlvr::cuda::kernels {

/// Top, sum = sum exp(l - top) and energy = sum exp(l - top) (l - top) of some logits.
struct partial_softmax {
  double sum, energy;
  float top;
  RLVR_CUDA_KERNEL void raise(float to) {
    if (top != minus_infinity) {
      const double shift = static_cast<double>(top) - static_cast<double>(to), w = std::exp(shift);
      energy = w * (energy + sum * shift);
      sum *= w;
    }
    top = to;
  }
  RLVR_CUDA_KERNEL static partial_softmax merge(partial_softmax p, partial_softmax q) {
    if (q.top > p.top)
      p.raise(q.top);
    else if (p.top > q.top)
      q.raise(p.top);
    p.sum += q.sum;
    p.energy += q.energy;
    return p;
  }
};

/// A row of scaled logits, read once: a warp takes a part of it at a time, 16 bytes a lane, and sums it in float below
/// its own top; parts, 12 bytes of shared memory each, are summed in double.
struct row_parts {
  static constexpr int warps = block_threads / 32, reads = 4, length = 32 * 4 * reads;
  struct part_sums {
    float top, sum, energy;
  };
  const float* row;
  std::int64_t vocab;
  float inverse_temperature;

  RLVR_CUDA_BOTH static std::int64_t count(std::int64_t vocab) { return (vocab + length - 1) / length; }

  /// A lane has four tokens side by side, `reads` times: its number i is token token_of(lane, i) of the part. Behind
  /// the row's end there is minus infinity.
  using tokens = warp::registers<numbers<4>, reads>;
  RLVR_CUDA_KERNEL static int token_of(int lane, int i) { return i / 4 * 128 + 4 * lane + i % 4; }
  /// Whether a part lies in the row, and its lanes' tokens can be accessed by 16 bytes.
  RLVR_CUDA_KERNEL static bool whole(const float* row, std::int64_t vocab, std::int64_t part) {
    return (part + 1) * length <= vocab && in_parts<4>(0, row);
  }
  RLVR_CUDA_KERNEL static void read_part(tokens& to, const float* row, std::int64_t vocab, std::int64_t part) {
    const float* from = row + part * length;
    const std::int64_t left = vocab - part * length;
    warp::lanes([&](int lane) {
      if (whole(row, vocab, part)) {
        RLVR_CUDA_UNROLL
        for (int r = 0; r < reads; ++r) to(lane, r) = read<4>(from + token_of(lane, 4 * r));
      } else {
        RLVR_CUDA_UNROLL
        for (int i = 0; i < 4 * reads; ++i) {
          const int at = token_of(lane, i);
          to(lane, i / 4)[i % 4] = at < left ? from[at] : minus_infinity;
        }
      }
    });
  }

  template <class Block>
  RLVR_CUDA_KERNEL partial_softmax sum(Block& b, part_sums* of) const {
    struct nothing {};
    warp::team<nothing, warps> team;
    team.warps([&](int w, nothing&) {
      for (std::int64_t part = w; part < count(vocab); part += warps) sum_part(part, of[part]);
    });
    team.meet();
    return b.reduce(
        count(vocab), partial_softmax{0, 0, minus_infinity},
        [&](partial_softmax& lane, std::int64_t i) {
          lane = partial_softmax::merge(lane,
                                        {static_cast<double>(of[i].sum), static_cast<double>(of[i].energy), of[i].top});
        },
        [](const partial_softmax& p, const partial_softmax& q) { return partial_softmax::merge(p, q); });
  }

 private:
  RLVR_CUDA_KERNEL void sum_part(std::int64_t part, part_sums& out) const {
    tokens l;
    warp::registers<float, 1> top;
    read_part(l, row, vocab, part);
    warp::lanes([&](int lane) {
      top(lane, 0) = minus_infinity;
      RLVR_CUDA_UNROLL
      for (int i = 0; i < 4 * reads; ++i) {
        float& scaled = l(lane, i / 4)[i % 4];
        scaled *= inverse_temperature;
        top(lane, 0) = std::fmax(top(lane, 0), scaled);
      }
    });
    warp::merge_lanes<1>(top, [](float x, float y) { return std::fmax(x, y); });
    warp::registers<float, 2> sums;
    warp::lanes([&](int lane) {
      const float below = top(lane, 0) == minus_infinity ? 0.f : top(lane, 0);
      numbers<4> sum{}, energy{};
      RLVR_CUDA_UNROLL
      for (int i = 0; i < 4 * reads; ++i) {
        const float x = l(lane, i / 4)[i % 4] - below, w = std::exp(x);
        sum[i % 4] += w;
        energy[i % 4] += w == 0 ? 0.f : w * x;
      }
      sums(lane, 0) = sum[0] + sum[1] + (sum[2] + sum[3]);
      sums(lane, 1) = energy[0] + energy[1] + (energy[2] + energy[3]);
    });
    warp::merge_lanes<1>(sums, [](float x, float y) { return x + y; });
    warp::lanes([&](int lane) {
      if (lane == 0) out = {top(lane, 0), sums(lane, 0), sums(lane, 1)};
    });
  }
};
RLVR_CUDA_KERNEL inline row_distribution distribution_of(const partial_softmax& all) {
  return {static_cast<double>(all.top), all.sum, std::log(all.sum) - all.energy / all.sum};
}

/// Rows of logits at a temperature, of which a block has one.
struct logit_rows {
  const float* logits;  ///< [rows, vocab]
  std::int64_t vocab;
  float inverse_temperature;
};

/// out[row] <- the distribution of the row, which is read once.
struct softmax_rows : logit_rows {
  row_distribution* out;
  std::size_t shared_bytes() const {
    return static_cast<std::size_t>(row_parts::count(vocab)) * sizeof(row_parts::part_sums);
  }
  template <class Block>
  RLVR_CUDA_KERNEL void operator()(Block& b) const {
    const row_parts parts{logits + b.x * vocab, vocab, inverse_temperature};
    const partial_softmax all = parts.sum(b, b.template shared<row_parts::part_sums>());
    b.each(1, [&](std::int64_t) { out[b.x] = distribution_of(all); });
  }
};

RLVR_CUDA_KERNEL inline double log_prob_of(float logit, float inverse_temperature, const row_distribution& p) {
  return static_cast<double>(logit * inverse_temperature) - p.top - std::log(p.sum);
}

/// log_probs[e] of the edges e of a row, begin[row] <= e < begin[row + 1], which lead to token next[e].
struct edge_scores : logit_rows {
  const row_distribution* p;
  const std::int32_t *begin, *next;
  double* log_probs;
  template <class Block>
  RLVR_CUDA_KERNEL void operator()(Block& b) const {
    b.each(begin[b.x + 1] - begin[b.x], [&](std::int64_t i) {
      const std::int64_t e = begin[b.x] + i;
      log_probs[e] = log_prob_of(logits[b.x * vocab + next[e]], inverse_temperature, p[b.x]);
    });
  }
};

/// dlogits <- the gradient of sum_e coefficients[e] log pi(next[e]) over the edges of a row: with c_v the coefficient
/// of the edge to token v, or 0,
///   dlogits_v = (c_v - pi(v) sum_e coefficients[e]) inverse_temperature
/// The edges lead to distinct tokens; one to a token whose logit is -infinity counts nothing. The row is read once for
/// all tokens, and where edges lead.
template <class S>
struct edge_gradients : logit_rows {
  const row_distribution* p;
  const std::int32_t *begin, *next;
  const double* coefficients;
  S* dlogits;  ///< [rows, vocab]
  template <class Block>
  RLVR_CUDA_KERNEL void operator()(Block& b) const {
    const std::int64_t first = begin[b.x], edges = begin[b.x + 1] - first;
    const float* row = logits + b.x * vocab;
    const auto coefficient = [&](std::int64_t i) {
      return row[next[first + i]] == minus_infinity ? 0.0 : coefficients[first + i];
    };
    const double sum = b.reduce(
        edges, 0.0, [&](double& lane, std::int64_t i) { lane += coefficient(i); },
        [](double x, double y) { return x + y; });
    S* out = dlogits + b.x * vocab;
    const auto top = static_cast<float>(p[b.x].top);
    const auto pull = static_cast<float>(-sum / p[b.x].sum) * inverse_temperature;
    const auto away = [&](float l) { return pull * std::exp(l * inverse_temperature - top); };
    with_numbers<4>(in_parts<4>(vocab, logits, dlogits), [&]<int N>(at_once<N>) {
      b.each(vocab / N, [&](std::int64_t i) {
        numbers<N> x = read<N>(row + i * N);
        RLVR_CUDA_UNROLL
        for (int k = 0; k < N; ++k) x[k] = away(x[k]);
        write(out + i * N, x);
      });
    });
    b.each(edges, [&](std::int64_t i) {  // from the start, so that bfloat16 rounds once
      const std::int64_t v = next[first + i];
      store(out, v, away(row[v]) + static_cast<float>(coefficient(i)) * inverse_temperature);
    });
  }
};

/// The distribution of a row, and the token at which the sum of weights, in the order of tokens, passes `uniform` of
/// all: first the part of the row that it lies in, then the token in that part.
struct draw_tokens : logit_rows {
  const double* uniform;
  row_distribution* p;
  std::int32_t* next;
  double* log_probs;

  struct memory {
    double run[32];  ///< sums of as many runs of items side by side
    double left;     ///< of the draw, before `item`
    std::int64_t item;
  };
  std::size_t shared_bytes() const {
    return sizeof(memory) + static_cast<std::size_t>(row_parts::count(vocab)) * sizeof(row_parts::part_sums);
  }

  template <class Block>
  RLVR_CUDA_KERNEL void operator()(Block& b) const {
    memory& m = *b.template shared<memory>();
    auto* of = reinterpret_cast<row_parts::part_sums*>(&m + 1);
    const float* row = logits + b.x * vocab;
    const partial_softmax all = row_parts{row, vocab, inverse_temperature}.sum(b, of);
    pass(
        b, m, row_parts::count(vocab),
        [&](std::int64_t i) { return static_cast<double>(std::exp(of[i].top - all.top) * of[i].sum); },
        [&](double total) { return uniform[b.x] * total; });
    const std::int64_t first = m.item * row_parts::length, behind = vocab - first;
    const double left = m.left;
    pass(
        b, m, behind < row_parts::length ? behind : row_parts::length,
        [&](std::int64_t i) { return static_cast<double>(std::exp(row[first + i] * inverse_temperature - all.top)); },
        [&](double) { return left; });
    b.each(1, [&](std::int64_t) {
      p[b.x] = distribution_of(all);
      next[b.x] = static_cast<std::int32_t>(first + m.item);
      log_probs[b.x] = log_prob_of(row[first + m.item], inverse_temperature, p[b.x]);
    });
  }

 private:
  /// m.item <- the first of n items at which the sum of weights passes goal(sum of all), m.left <- what the items
  /// before it leave of that. Where rounding keeps it from being passed, the last item that weighs anything.
  template <class Block, class Weight, class Goal>
  RLVR_CUDA_KERNEL void pass(Block& b, memory& m, std::int64_t n, Weight weight, Goal goal) const {
    constexpr int runs = 32;
    const std::int64_t length = (n + runs - 1) / runs;
    b.each(runs, [&](std::int64_t run) {
      double sum = 0;
      for (std::int64_t i = run * length; i < (run + 1) * length && i < n; ++i) sum += weight(i);
      m.run[run] = sum;
    });
    b.each(1, [&](std::int64_t) {
      double total = 0;
      for (int run = 0; run < runs; ++run) total += m.run[run];
      double left = goal(total);
      int run = 0;
      while (run + 1 < runs && left >= m.run[run]) left -= m.run[run++];
      std::int64_t i = run * length;
      for (; i < n; ++i) {
        const double w = weight(i);
        if (left < w) break;
        left -= w;
      }
      if (i >= n)
        for (i = n - 1; i > 0 && !(weight(i) > 0);) --i;
      m.item = i;
      m.left = left;
    });
  }
};

}  // namespace rlvr::cuda::kernels
