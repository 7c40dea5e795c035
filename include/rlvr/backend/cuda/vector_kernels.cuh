#pragma once
/// Kernels over vectors of n floats. A sum is made of fixed spans of coordinates in double, each a fixed tree, and the
/// spans are added in order: the same bits every time, whatever the grid.

#include <cstddef>
#include <cstdint>

#include <rlvr/backend/cuda/block.cuh>
#include <rlvr/backend/cuda/device.hpp>

namespace rlvr::cuda::kernels {

inline constexpr std::int64_t vector_span = 1 << 14;  ///< coordinates per block
inline constexpr int most_gram_vectors = 16;

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
  span_sums(F function, std::int64_t count, double* to) : f(function), n(count), out(to) {}
  template <class Block>
  RLVR_CUDA_KERNEL void operator()(Block& b) const {
    const std::int64_t from = b.x * vector_span, left = n - from;
    const sums<N> all = b.reduce(
        left < vector_span ? left : vector_span, sums<N>{}, [&](sums<N>& lane, std::int64_t i) { f(from + i, lane); },
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
/// shared memory. out[block * pairs + pair].
struct gram_spans {
  static constexpr int tile = 512;
  const float* x[most_gram_vectors];
  int vectors;
  std::int64_t n;
  double* out;

  std::size_t shared_bytes() const {
    return static_cast<std::size_t>(vectors) * tile * sizeof(float) + block_threads * sizeof(double);
  }
  template <class Block>
  RLVR_CUDA_KERNEL void operator()(Block& b) const {
    auto* partial = b.template shared<double>();  // two threads of one pair, each half a tile, at most 136 pairs
    auto* values = reinterpret_cast<float*>(partial + block_threads);
    const int pairs = vectors * (vectors + 1) / 2;
    const int parts = block_threads / pairs > 0 ? block_threads / pairs : 1;
    b.each(block_threads, [&](std::int64_t i) { partial[i] = 0; });
    const std::int64_t from = b.x * vector_span;
    const std::int64_t end = from + vector_span < n ? from + vector_span : n;
    for (std::int64_t at = from; at < end; at += tile) {
      b.each(vectors * tile, [&](std::int64_t i) {
        const std::int64_t coordinate = at + i % tile;
        values[i] = coordinate < end ? x[i / tile][coordinate] : 0.f;
      });
      b.each(pairs * parts, [&](std::int64_t i) {
        int row = 0, column = static_cast<int>(i) % pairs;
        while (column >= vectors - row) column -= vectors - row++;
        column += row;
        double sum = 0;
        for (int c = static_cast<int>(i) / pairs; c < tile; c += parts)
          sum += static_cast<double>(values[row * tile + c]) * static_cast<double>(values[column * tile + c]);
        partial[i] += sum;
      });
    }
    b.each(pairs, [&](std::int64_t p) {
      double sum = 0;
      for (int part = 0; part < parts; ++part) sum += partial[part * pairs + p];
      out[b.x * pairs + p] = sum;
    });
  }
};

}  // namespace rlvr::cuda::kernels
