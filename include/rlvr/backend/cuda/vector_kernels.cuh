#pragma once
/// Kernels over vectors of n floats. Memory limits them, so each thread has 64 bytes or more of reads under way, 16 at
/// once; where a vector is not 16-byte aligned and at its end, one number at a time. A sum is made of spans of
/// coordinates in double, each a fixed tree, and the spans are added in a fixed order; which they are depends on n
/// alone: the same bits every time, wherever the vectors lie.

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <utility>

#include <rlvr/backend/cuda/block.cuh>
#include <rlvr/backend/cuda/device.hpp>
#include <rlvr/backend/cuda/row_access.cuh>
#include <rlvr/optimize/adamw.hpp>

namespace rlvr::cuda::kernels {

inline constexpr std::int64_t vector_span = 1 << 14;     ///< least coordinates per block of a sum
inline constexpr std::int64_t most_sum_spans = 1 << 13;  ///< what is kept of a sum, whatever n

/// Coordinates per block of a sum: whole vector_spans, as few as most_sum_spans allows.
inline std::int64_t sum_span(std::int64_t n) {
  const std::int64_t most = most_sum_spans * vector_span;
  return n <= most ? vector_span : (n + most - 1) / most * vector_span;
}

inline constexpr int quad = 4;                                     ///< floats that a thread reads at once
inline constexpr std::int64_t quads_apart = quad * block_threads;  ///< from a thread's quad to its next

inline bool aligned(const void* at, std::size_t bytes) {
  return reinterpret_cast<std::uintptr_t>(at) % bytes == 0;
}

/// y_i <- f(x_i...), and the same rounded to bfloat16, both where not null. y may be one of x.
template <int Inputs, class F>
struct map_vectors {
  static constexpr int quads = Inputs == 1 ? 4 : 2;          ///< of each input, per thread
  static constexpr std::int64_t tile = quads * quads_apart;  ///< coordinates per block
  F f;
  std::int64_t n;
  const float* x[Inputs];
  float* y;
  bfloat16* rounded;
  bool by_quads;

  map_vectors(F function, std::int64_t count, const float* const (&from)[Inputs], float* to, bfloat16* rounded_to)
      : f(function), n(count), y(to), rounded(rounded_to), by_quads(aligned(to, 16) && aligned(rounded_to, 8)) {
    for (int k = 0; k < Inputs; ++k) {
      x[k] = from[k];
      by_quads = by_quads && aligned(from[k], 16);
    }
  }

  template <class Block>
  RLVR_CUDA_KERNEL void operator()(Block& b) const {
    constexpr auto each_input = std::make_index_sequence<Inputs>();
    const std::int64_t from = b.x * tile, left = n - from;
    if (by_quads && left >= tile)
      b.each(block_threads, [&](std::int64_t thread) {
        const std::int64_t at = from + quad * thread;
        numbers<quad> in[quads][Inputs];
        RLVR_CUDA_UNROLL
        for (int q = 0; q < quads; ++q) {
          RLVR_CUDA_UNROLL
          for (int k = 0; k < Inputs; ++k) in[q][k] = read<quad>(x[k] + at + q * quads_apart);
        }
        RLVR_CUDA_UNROLL
        for (int q = 0; q < quads; ++q) {
          numbers<quad> out;
          RLVR_CUDA_UNROLL
          for (int i = 0; i < quad; ++i) out[i] = value(in[q], i, each_input);
          if (y) write(y + at + q * quads_apart, out);
          if (rounded) write(rounded + at + q * quads_apart, out);
        }
      });
    else
      b.each(left < tile ? left : tile, [&](std::int64_t i) {
        const float out = value(x, from + i, each_input);
        if (y) y[from + i] = out;
        if (rounded) rounded[from + i] = bfloat16(out);
      });
  }

 private:
  template <class In, class I, std::size_t... K>
  RLVR_CUDA_KERNEL float value(const In& in, I i, std::index_sequence<K...>) const {
    return f(in[K][i]...);
  }
};

struct same {
  RLVR_CUDA_KERNEL float operator()(float x) const { return x; }
};
struct scale_by {
  float a;
  RLVR_CUDA_KERNEL float operator()(float y) const { return y * a; }
};
/// y + a x, rounded once, from a sum in double.
struct add_multiple {
  double a;
  RLVR_CUDA_KERNEL float operator()(float y, float x) const {
    return static_cast<float>(static_cast<double>(y) + a * static_cast<double>(x));
  }
};
struct add_floats {
  RLVR_CUDA_KERNEL float operator()(float y, float x) const { return y + x; }
};

// What adamw maps, in float as rlvr::detail's function objects do it. Those are not compiled for the device.
struct map_decay {
  rlvr::detail::decay_towards f;
  RLVR_CUDA_KERNEL float operator()(float y, float x) const {
    return static_cast<float>(f.beta) * y + static_cast<float>(1 - f.beta) * x;
  }
};
struct map_decay_square {
  rlvr::detail::decay_towards_square f;
  RLVR_CUDA_KERNEL float operator()(float y, float x) const {
    return static_cast<float>(f.beta) * y + static_cast<float>(1 - f.beta) * x * x;
  }
};
struct map_adamw {
  rlvr::detail::adamw_update f;
  RLVR_CUDA_KERNEL float operator()(float y, float m, float v) const {
    return static_cast<float>(f.keep) * y +
           static_cast<float>(f.rate) * m /
               (std::sqrt(v) / static_cast<float>(f.root_correction) + static_cast<float>(f.epsilon));
  }
};

template <int N>
struct sums {
  double value[N];
};
/// Adds <x, y>.
struct pair_sum {
  RLVR_CUDA_KERNEL void operator()(float x, float y, sums<1>& out) const {
    out.value[0] += static_cast<double>(x) * static_cast<double>(y);
  }
};
/// Adds what step_report says of theta and d, for weights of type S.
template <class S>
struct survival_sums {
  double alpha;
  RLVR_CUDA_KERNEL void operator()(float theta, float d, sums<4>& out) const {
    const double wanted = alpha * static_cast<double>(d);
    const auto moved = static_cast<float>(static_cast<double>(theta) + wanted);
    const double made =
        static_cast<double>(static_cast<float>(S(moved))) - static_cast<double>(static_cast<float>(S(theta)));
    out.value[0] += wanted * wanted;
    out.value[1] += made * made;
    out.value[2] += wanted * made;
    out.value[3] += made != 0 ? 1.0 : 0.0;
  }
};

/// out[block * N + s] <- sum s of f(x_i, y_i) over the block's span.
template <int N, class F>
struct span_sums {
  static constexpr int quads = 4;                            ///< of each vector, per thread
  static constexpr std::int64_t tile = quads * quads_apart;  ///< coordinates that a block has under way
  F f;
  std::int64_t n;
  const float *x, *y;
  double* out;
  std::int64_t span;
  bool by_quads;
  span_sums(F function, std::int64_t count, const float* first, const float* second, double* to)
      : f(function),
        n(count),
        x(first),
        y(second),
        out(to),
        span(sum_span(count)),
        by_quads(aligned(first, 16) && aligned(second, 16)) {}

  template <class Block>
  RLVR_CUDA_KERNEL void operator()(Block& b) const {
    const std::int64_t from = b.x * span, end = from + span < n ? from + span : n;
    // A thread's items: its quads of a tile, tile after tile.
    const std::int64_t tiles = (end - from + tile - 1) / tile;
    const sums<N> all = b.reduce(
        tiles * block_threads, sums<N>{},
        [&](sums<N>& lane, std::int64_t item) {
          const std::int64_t at = from + item / block_threads * tile + item % block_threads * quad;
          if (by_quads && at + (quads - 1) * quads_apart + quad <= end) {
            numbers<quad> in[quads][2];
            RLVR_CUDA_UNROLL
            for (int q = 0; q < quads; ++q) {
              in[q][0] = read<quad>(x + at + q * quads_apart);
              in[q][1] = read<quad>(y + at + q * quads_apart);
            }
            RLVR_CUDA_UNROLL
            for (int i = 0; i < quads * quad; ++i) f(in[i / quad][0][i % quad], in[i / quad][1][i % quad], lane);
          } else {
            for (int i = 0; i < quads * quad; ++i)
              if (const std::int64_t c = at + i / quad * quads_apart + i % quad; c < end) f(x[c], y[c], lane);
          }
        },
        [](sums<N> p, const sums<N>& q) {
          RLVR_CUDA_UNROLL
          for (int s = 0; s < N; ++s) p.value[s] += q.value[s];
          return p;
        });
    b.each(1, [&](std::int64_t) {
      RLVR_CUDA_UNROLL
      for (int s = 0; s < N; ++s) out[b.x * N + s] = all.value[s];
    });
  }
};

/// out[s] <- sum over spans of partial[span * count + s], in a fixed order. One block per sum.
struct add_spans {
  const double* partial;
  std::int64_t spans, count;
  double* out;
  add_spans(const double* from, std::int64_t n, std::int64_t per_span, double* to)
      : partial(from), spans(n), count(per_span), out(to) {}
  template <class Block>
  RLVR_CUDA_KERNEL void operator()(Block& b) const {
    const double all = b.reduce(
        spans, 0.0, [&](double& lane, std::int64_t i) { lane += partial[i * count + b.x]; },
        [](double p, double q) { return p + q; });
    b.each(1, [&](std::int64_t) { out[b.x] = all; });
  }
};

}  // namespace rlvr::cuda::kernels
