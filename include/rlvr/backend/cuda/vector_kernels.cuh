#pragma once
/// Kernels over vectors of n floats. A sum is made of spans of coordinates in double, each a fixed tree, and the spans
/// are added in a fixed order; how long they are depends on n alone: the same bits every time.

#include <cmath>
#include <cstddef>
#include <cstdint>

#include <rlvr/backend/cuda/block.cuh>
#include <rlvr/backend/cuda/device.hpp>
#include <rlvr/optimize/adamw.hpp>

namespace rlvr::cuda::kernels {

inline constexpr std::int64_t vector_span = 1 << 14;  ///< coordinates per block of a map
inline constexpr int most_gram_vectors = 16;
inline constexpr std::int64_t most_sum_spans = 1 << 13;  ///< what is kept of a sum, whatever n

/// Coordinates per block of a sum: whole vector_spans, as few as most_sum_spans allows.
inline std::int64_t sum_span(std::int64_t n) {
  const std::int64_t most = most_sum_spans * vector_span;
  return n <= most ? vector_span : (n + most - 1) / most * vector_span;
}

struct on_host {
  std::size_t shared_bytes() const { return 0; }
};

/// f(i) for every coordinate i < n.
template <class F>
struct for_coordinates : on_host {
  F f;
  std::int64_t n;
  for_coordinates(F function, std::int64_t count) : f(function), n(count) {}
  template <class Block>
  RLVR_CUDA_KERNEL void operator()(Block& b) const {
    const std::int64_t from = b.x * vector_span, left = n - from;
    b.each(left < vector_span ? left : vector_span, [&](std::int64_t i) { f(from + i); });
  }
};

struct scale_by {
  float a;
  float* y;
  RLVR_CUDA_KERNEL void operator()(std::int64_t i) const { y[i] *= a; }
};
/// Rounded once, from a sum in double.
struct add_multiple {
  double a;
  const float* x;
  float* y;
  RLVR_CUDA_KERNEL void operator()(std::int64_t i) const {
    y[i] = static_cast<float>(static_cast<double>(y[i]) + a * static_cast<double>(x[i]));
  }
};
struct add_floats {
  const float* x;
  float* y;
  RLVR_CUDA_KERNEL void operator()(std::int64_t i) const { y[i] += x[i]; }
};
template <class S>
struct cast_floats {
  const float* x;
  S* y;
  RLVR_CUDA_KERNEL void operator()(std::int64_t i) const { store(y, i, x[i]); }
};
/// theta + alpha d, rounded to float once and from there to bfloat16.
struct make_step {
  const float* theta;
  double alpha;
  const float* d;
  float* y;
  bfloat16* weights;
  RLVR_CUDA_KERNEL void operator()(std::int64_t i) const {
    const float moved =
        d ? static_cast<float>(static_cast<double>(theta[i]) + alpha * static_cast<double>(d[i])) : theta[i];
    if (y) y[i] = moved;
    if (weights) weights[i] = bfloat16(moved);
  }
};

// What adamw maps, in float as rlvr::detail's function objects do it. Those are not compiled for the device.
struct map_decay {
  rlvr::detail::decay_towards f;
  const float* x;
  float* y;
  RLVR_CUDA_KERNEL void operator()(std::int64_t i) const {
    y[i] = static_cast<float>(f.beta) * y[i] + static_cast<float>(1 - f.beta) * x[i];
  }
};
struct map_decay_square {
  rlvr::detail::decay_towards_square f;
  const float* x;
  float* y;
  RLVR_CUDA_KERNEL void operator()(std::int64_t i) const {
    y[i] = static_cast<float>(f.beta) * y[i] + static_cast<float>(1 - f.beta) * x[i] * x[i];
  }
};
struct map_adamw {
  rlvr::detail::adamw_update f;
  const float *m, *v;
  float* y;
  RLVR_CUDA_KERNEL void operator()(std::int64_t i) const {
    y[i] = static_cast<float>(f.keep) * y[i] +
           static_cast<float>(f.rate) * m[i] /
               (std::sqrt(v[i]) / static_cast<float>(f.root_correction) + static_cast<float>(f.epsilon));
  }
};

struct pair_sum {
  const float *x, *y;
  template <class Sums>
  RLVR_CUDA_KERNEL void operator()(std::int64_t i, Sums& out) const {
    out[0] += static_cast<double>(x[i]) * static_cast<double>(y[i]);
  }
};
struct survival_sums {
  const float* theta;
  double alpha;
  const float* d;
  template <class Sums>
  RLVR_CUDA_KERNEL void operator()(std::int64_t i, Sums& out) const {
    const double wanted = alpha * static_cast<double>(d[i]);
    const auto moved = static_cast<float>(static_cast<double>(theta[i]) + wanted);
    const double made = static_cast<double>(static_cast<float>(bfloat16(moved))) -
                        static_cast<double>(static_cast<float>(bfloat16(theta[i])));
    out[0] += wanted * wanted;
    out[1] += made * made;
    out[2] += wanted * made;
    out[3] += made != 0 ? 1.0 : 0.0;
  }
};

template <int N>
struct sums {
  double value[N];
  RLVR_CUDA_KERNEL double& operator[](int i) { return value[i]; }
};

/// out[block * N + s] <- sum s of f over the block's span.
template <int N, class F>
struct span_sums : on_host {
  F f;
  std::int64_t n;
  double* out;
  std::int64_t span;
  span_sums(F function, std::int64_t count, double* to)
      : f(function), n(count), out(to), span(sum_span(count)) {}
  template <class Block>
  RLVR_CUDA_KERNEL void operator()(Block& b) const {
    const std::int64_t from = b.x * span, left = n - from;
    const sums<N> all = b.reduce(
        left < span ? left : span, sums<N>{}, [&](sums<N>& lane, std::int64_t i) { f(from + i, lane); },
        [](sums<N> p, const sums<N>& q) {
          for (int s = 0; s < N; ++s) p.value[s] += q.value[s];
          return p;
        });
    b.each(N, [&](std::int64_t s) { out[b.x * N + s] = all.value[s]; });
  }
};

/// out[s] <- sum over spans of partial[span * count + s], in a fixed order. One block per sum.
struct add_spans : on_host {
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

/// Inner products of all pairs i <= j of up to 16 vectors over the block's span; each vector is read once, through
/// shared memory. out[block * pairs + pair]. A thread sums a square of 4 x 4 pairs over a part of the tile's
/// coordinates: 16 products for 8 numbers read from shared memory. Threads side by side own coordinates side by side.
struct gram_spans {
  static constexpr int square = 4, kept = square * square;
  static constexpr int tile_numbers = 1 << 13;  ///< of all vectors together
  const float* x[most_gram_vectors];
  int vectors;
  std::int64_t n, span;
  double* out;

  RLVR_CUDA_BOTH int rows() const { return (vectors + square - 1) / square; }  ///< of squares
  RLVR_CUDA_BOTH int squares() const { return rows() * (rows() + 1) / 2; }
  RLVR_CUDA_BOTH int tile() const { return tile_numbers / (square * rows()); }
  std::size_t shared_bytes() const {
    return kept * block_threads * sizeof(double) + tile_numbers * sizeof(float);
  }

  template <class Block>
  RLVR_CUDA_KERNEL void operator()(Block& b) const {
    auto* partial = b.template shared<double>();  // [kept, block_threads]
    auto* values = reinterpret_cast<float*>(partial + kept * block_threads);  // [square * rows, tile]
    const int length = tile(), parts = block_threads / squares();
    b.each(kept * block_threads, [&](std::int64_t i) { partial[i] = 0; });
    const std::int64_t from = b.x * span, end = from + span < n ? from + span : n;
    for (std::int64_t at = from; at < end; at += length) {
      b.each(square * rows() * length, [&](std::int64_t i) {
        const int vector = static_cast<int>(i) / length;
        const std::int64_t coordinate = at + i % length;
        values[i] = vector < vectors && coordinate < end ? x[vector][coordinate] : 0.f;
      });
      b.each(squares() * parts, [&](std::int64_t i) {
        int row = 0, column = static_cast<int>(i) / parts;
        while (column >= rows() - row) column -= rows() - row++;
        const float* p = values + row * square * length;
        const float* q = values + (row + column) * square * length;
        double sum[kept];
        for (int k = 0; k < kept; ++k) sum[k] = partial[k * block_threads + i];
        for (int c = static_cast<int>(i) % parts; c < length; c += parts) {
          double left[square], right[square];
          for (int k = 0; k < square; ++k) {
            left[k] = static_cast<double>(p[k * length + c]);
            right[k] = static_cast<double>(q[k * length + c]);
          }
          for (int k = 0; k < kept; ++k) sum[k] += left[k / square] * right[k % square];
        }
        for (int k = 0; k < kept; ++k) partial[k * block_threads + i] = sum[k];
      });
    }
    // The parts of each product, 16 threads a product, then one.
    constexpr int lanes = 16;
    auto* few = reinterpret_cast<double*>(values);
    b.each(squares() * kept * lanes, [&](std::int64_t i) {
      const std::int64_t product = i / lanes, from_part = product / kept * parts;
      double sum = 0;
      for (std::int64_t part = i % lanes; part < parts; part += lanes)
        sum += partial[product % kept * block_threads + from_part + part];
      few[i] = sum;
    });
    b.each(vectors * vectors, [&](std::int64_t at) {
      const int i = static_cast<int>(at) / vectors, j = static_cast<int>(at) % vectors;
      if (i > j) return;
      const int row = i / square, column = j / square;
      const int of = row * rows() - row * (row - 1) / 2 + column - row;
      const double* part = few + (of * kept + i % square * square + j % square) * lanes;
      double sum = 0;
      for (int lane = 0; lane < lanes; ++lane) sum += part[lane];
      out[b.x * (vectors * (vectors + 1) / 2) + i * vectors - i * (i - 1) / 2 + j - i] = sum;
    });
  }
};

}  // namespace rlvr::cuda::kernels
