#pragma once
/// Attention of one query in float, for which there are no tensor cores. Eight lanes read a key, and multiply it with
/// the queries of all heads in the block; four keys pass side by side, each with a softmax of its own until the end.
/// Source: Dao, "FlashAttention-2" (arXiv 2307.08691), algorithm 1.

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <type_traits>

#include <rlvr/backend/cuda/attention_decode.cuh>
#include <rlvr/backend/cuda/attention_warp.cuh>
#include <rlvr/backend/cuda/block.cuh>
#include <rlvr/backend/cuda/row_access.cuh>
#include <rlvr/backend/cuda/warp_lanes.cuh>

namespace rlvr::cuda::kernels {

/// For heads of at most Width numbers, a multiple of 4. Lane l has keys l / 8 + 4 u of a turn, and of each columns
/// 32 c + 4 (l % 8) .. 32 c + 4 (l % 8) + 3.
template <int Width>
struct attend_decode_floats : attend_one_query<float, 4> {
  static constexpr int heads = 4, held = 2, keys = 4 * held, chunks = Width / 32;

  std::size_t shared_bytes() const { return heads * Width * sizeof(float) + partial_bytes<Width>(); }

  using key_numbers = warp::registers<numbers<4>, chunks>[held];
  struct state {
    warp::registers<numbers<4>, chunks> sum[heads];
    warp::registers<float, heads> top, total;
  };

  template <class Block>
  RLVR_CUDA_KERNEL void operator()(Block& b) const {
    const work x = work_of(b.x);
    auto* query = b.template shared<float>();  // [heads, Width]; behind the last head and its numbers zeros
    float* memory = query + heads * Width;
    warp::team<state, warps> team;
    team.threads([&](int thread) {
      const float* first = q + x.task.query_row * q_stride + x.head * shape.head_dim;
      for (int i = thread; i < heads * Width; i += threads) {
        const int h = i / Width, d = i % Width;
        query[i] = h < x.heads && d < shape.head_dim ? first[h * shape.head_dim + d] : 0;
      }
    });
    team.meet();
    team.warps([&](int w, state& s) {
      key_numbers k, v;
      clear(s);
      int key = x.begin + w * keys;
      if (key < x.end) load_rows(k, key, [&](int position) { return keys_of(x, position); });
      for (; key < x.end; key += warps * keys) {
        load_rows(v, key, [&](int position) { return values_of(x, position); });
        warp::registers<float, held * heads> scores;
        score(scores, k, query);
        if (key + warps * keys < x.end)
          load_rows(k, key + warps * keys, [&](int position) { return keys_of(x, position); });
        add_values(s, scores, v, x.end - key);
      }
      save(s, partial_of<Width>(memory, w));
    });
    team.meet();
    team.threads([&](int thread) { merge<Width>(x, memory, thread); });
  }

 private:
  static RLVR_CUDA_KERNEL void clear(state& s) {
    warp::lanes([&](int lane) {
      RLVR_CUDA_UNROLL
      for (int h = 0; h < heads; ++h) {
        s.top(lane, h) = minus_infinity;
        s.total(lane, h) = 0;
        RLVR_CUDA_UNROLL
        for (int c = 0; c < chunks; ++c) s.sum[h](lane, c) = {};
      }
    });
  }
  template <class Row>
  RLVR_CUDA_KERNEL void load_rows(key_numbers& to, int key, Row row_at) const {
    warp::lanes([&](int lane) {
      RLVR_CUDA_UNROLL
      for (int u = 0; u < held; ++u) {
        const float* row = row_at(key + lane / 8 + 4 * u);
        RLVR_CUDA_UNROLL
        for (int c = 0; c < chunks; ++c) {
          const int from = 32 * c + lane % 8 * 4;
          to[u](lane, c) = from < shape.head_dim ? read<4>(row + from) : numbers<4>{};
        }
      }
    });
  }
  /// scores[u, head] <- <key u, query of the head>
  static RLVR_CUDA_KERNEL void score(warp::registers<float, held * heads>& scores, const key_numbers& k,
                                     const float* query) {
    warp::lanes([&](int lane) {
      RLVR_CUDA_UNROLL
      for (int i = 0; i < held * heads; ++i) scores(lane, i) = 0;
      RLVR_CUDA_UNROLL
      for (int h = 0; h < heads; ++h) {
        RLVR_CUDA_UNROLL
        for (int c = 0; c < chunks; ++c) {
          const numbers<4> x = read<4>(query + h * Width + 32 * c + lane % 8 * 4);
          RLVR_CUDA_UNROLL
          for (int i = 0; i < 4 * held; ++i) scores(lane, i / 4 * heads + h) += x[i % 4] * k[i / 4](lane, c)[i % 4];
        }
      }
    });
    warp::merge_lanes<1, 8>(scores, [](float x, float y) { return x + y; });
  }
  /// sum += weights values, for the first `count` keys; what has been summed shrinks as the largest score rises.
  RLVR_CUDA_KERNEL void add_values(state& s, const warp::registers<float, held * heads>& scores, const key_numbers& v,
                                   int count) const {
    warp::lanes([&](int lane) {
      RLVR_CUDA_UNROLL
      for (int h = 0; h < heads; ++h) {
        float score[held], top = s.top(lane, h), weight[held];
        RLVR_CUDA_UNROLL
        for (int u = 0; u < held; ++u) {
          score[u] = lane / 8 + 4 * u < count ? scores(lane, u * heads + h) : minus_infinity;
          top = std::fmax(top, score[u]);
        }
        const float base = top == minus_infinity ? 0.f : top;  // no key yet
        const float factor = std::exp((s.top(lane, h) - base) * scale);
        s.top(lane, h) = top;
        s.total(lane, h) *= factor;
        RLVR_CUDA_UNROLL
        for (int u = 0; u < held; ++u) s.total(lane, h) += weight[u] = std::exp((score[u] - base) * scale);
        RLVR_CUDA_UNROLL
        for (int i = 0; i < 4 * chunks; ++i) {
          float& sum = s.sum[h](lane, i / 4)[i % 4];
          sum *= factor;
          RLVR_CUDA_UNROLL
          for (int u = 0; u < held; ++u) sum += weight[u] * v[u](lane, i / 4)[i % 4];
        }
      }
    });
  }
  /// The four softmaxes become one.
  RLVR_CUDA_KERNEL void save(state& s, partial to) const {
    const auto add = [](float x, float y) { return x + y; };
    warp::registers<float, heads> top = s.top;
    warp::merge_lanes<8>(top, [](float x, float y) { return std::fmax(x, y); });
    warp::lanes([&](int lane) {
      RLVR_CUDA_UNROLL
      for (int h = 0; h < heads; ++h) {
        const float own = s.top(lane, h);
        const float factor = own == minus_infinity ? 0.f : std::exp((own - top(lane, h)) * scale);
        s.total(lane, h) *= factor;
        RLVR_CUDA_UNROLL
        for (int i = 0; i < 4 * chunks; ++i) s.sum[h](lane, i / 4)[i % 4] *= factor;
      }
    });
    warp::merge_lanes<8>(s.total, add);
    RLVR_CUDA_UNROLL
    for (int h = 0; h < heads; ++h) {
      RLVR_CUDA_UNROLL
      for (int i = 0; i < 4 * chunks; ++i) {
        warp::registers<float, 1> sum;
        warp::lanes([&](int lane) { sum(lane, 0) = s.sum[h](lane, i / 4)[i % 4]; });
        warp::merge_lanes<8>(sum, add);
        warp::lanes([&](int lane) {
          const int column = i / 4 * 32 + lane % 8 * 4 + i % 4;
          if (lane / 8 == 0 && h < heads_per_block()) to.sums[h * Width + column] = sum(lane, 0);
        });
      }
    }
    warp::lanes([&](int lane) {
      if (lane != 0) return;
      RLVR_CUDA_UNROLL
      for (int h = 0; h < heads; ++h)
        if (h < heads_per_block()) {
          to.tops[h] = top(lane, h);
          to.totals[h] = s.total(lane, h);
        }
    });
  }
};

/// Whether these kernels serve heads of that many numbers of type S: they are read by 16 bytes.
template <class S>
constexpr bool fits_decode(std::int32_t head_dim) {
  return head_dim % static_cast<int>(16 / sizeof(S)) == 0 && head_dim <= widest_in_registers;
}
template <class S, int Width>
using decode_kernel = std::conditional_t<std::is_same_v<S, float>, attend_decode_floats<Width>, attend_decode<Width>>;

}  // namespace rlvr::cuda::kernels
