#pragma once
/// Inner products of all pairs of up to 16 vectors, each read once: X X^T on the tensor cores that multiply in double
/// (A100, H100), straight from memory into registers. Products of two floats are exact in double.

#include <cstddef>
#include <cstdint>
#include <span>

#include <rlvr/backend/cuda/attention_warp.cuh>
#include <rlvr/backend/cuda/block.cuh>
#include <rlvr/backend/cuda/vector_kernels.cuh>

namespace rlvr::cuda::kernels {

inline constexpr int most_gram_vectors = 16;

/// Of an 8 x 4 matrix lane l of a warp holds row l / 4, column l % 4; of an 8 x 8 sum row l / 4, columns 2 (l % 4) and
/// 2 (l % 4) + 1. The instruction wants the right factor, 4 x 8, as it wants the left one's transpose.
/// Source: PTX ISA 9.0, "Matrix Fragments for mma.m8n8k4 with .f64 floating point type".
using sum_8x8 = warp::registers<double, 2>;
/// c <- c + a_i a_j^T.
template <int N>
RLVR_CUDA_KERNEL void add_product(sum_8x8& c, const warp::registers<double, N>& a, int i, int j) {
#ifdef __CUDACC__
  asm volatile("mma.sync.aligned.m8n8k4.row.col.f64.f64.f64.f64 {%0, %1}, {%2}, {%3}, {%0, %1};"
               : "+d"(c.values[0][0]), "+d"(c.values[0][1])
               : "d"(a.values[0][i]), "d"(a.values[0][j]));
#else
  for (int lane = 0; lane < 32; ++lane)
    for (int e = 0; e < 2; ++e)
      for (int k = 0; k < 4; ++k) c(lane, e) += a(lane / 4 * 4 + k, i) * a((lane % 4 * 2 + e) * 4 + k, j);
#endif
}

/// out[block * pairs + pair] <- the products of pairs i <= j over the block's span. Vectors are the rows of Matrices
/// matrices of 8. Where they fill half of one or less, the other rows are the same vectors at other coordinates, and
/// of the sums only the squares on the diagonal count.
template <int Matrices>
struct gram_spans {
  static constexpr int warps = 8, threads = 32 * warps;
  static constexpr int quads = 8 / Matrices;  ///< of a row, per lane: 128 bytes under way
  static constexpr int columns = 4 * quad * quads;
  static constexpr int squares = 2 * Matrices - 1;  ///< of the sum: matrix i by matrix j is square i + j
  static_assert(threads == block_threads && Matrices <= 2);
  const float* x[8 * Matrices];  ///< behind the last the first again
  int vectors;
  std::int64_t n, span;
  double* out;
  bool by_quads = true;

  gram_spans(std::span<const float* const> all, std::int64_t count, std::int64_t per_block, double* to)
      : vectors(static_cast<int>(all.size())), n(count), span(per_block), out(to) {
    for (std::size_t i = 0; i < 8 * Matrices; ++i) {
      x[i] = all[i < all.size() ? i : 0];
      by_quads = by_quads && aligned(x[i], 16);
    }
  }
  std::size_t shared_bytes() const { return warps * squares * 64 * sizeof(double); }

  struct state {
    sum_8x8 sums[squares];
  };

  template <class Block>
  RLVR_CUDA_KERNEL void operator()(Block& b) const {
    int copy = 8;  // rows from a vector to the same at other coordinates
    if constexpr (Matrices == 1)
      while (copy / 2 >= vectors) copy /= 2;
    const std::int64_t from = b.x * span, end = from + span < n ? from + span : n, tile = 8 / copy * columns;
    auto* partial = b.template shared<double>();  // [warps, squares, 8, 8]
    warp::team<state, warps> team;
    team.warps([&](int w, state& s) {
      warp::registers<const float*, Matrices> rows;
      warp::lanes([&](int lane) {
        const int row = lane / 4 % copy;
        RLVR_CUDA_UNROLL
        for (int v = 0; v < 8 * Matrices; ++v) {  // all are loaded: x[row] would make a copy of x in local memory
          const float* const vector = x[v];
          rows(lane, v / 8) = v % 8 == row || v % 8 == 0 ? vector : rows(lane, v / 8);
        }
        RLVR_CUDA_UNROLL
        for (int i = 0; i < 2 * squares; ++i) s.sums[i / 2](lane, i % 2) = 0;
      });
      for (std::int64_t at = from + w * tile; at < end; at += warps * tile) {
        warp::registers<numbers<quad>, Matrices * quads> held;
        const bool whole = by_quads && at + tile <= end;
        warp::lanes([&](int lane) {
          const std::int64_t first = at + lane / 4 / copy * columns + lane % 4 * quad;
          if (whole) {
            RLVR_CUDA_UNROLL
            for (int q = 0; q < Matrices * quads; ++q)
              held(lane, q) = read<quad>(rows(lane, q / quads) + first + q % quads * 4 * quad);
          } else {
            RLVR_CUDA_UNROLL
            for (int i = 0; i < Matrices * quads * quad; ++i) {
              const std::int64_t c = first + i / quad % quads * 4 * quad + i % quad;
              held(lane, i / quad)[i % quad] = c < end ? rows(lane, i / quad / quads)[c] : 0.f;
            }
          }
        });
        RLVR_CUDA_UNROLL
        for (int i = 0; i < quads * quad; ++i) {
          warp::registers<double, Matrices> column;
          warp::lanes([&](int lane) {
            RLVR_CUDA_UNROLL
            for (int m = 0; m < Matrices; ++m)
              column(lane, m) = static_cast<double>(held(lane, m * quads + i / quad)[i % quad]);
          });
          RLVR_CUDA_UNROLL
          for (int m = 0; m < Matrices; ++m) {
            RLVR_CUDA_UNROLL
            for (int other = m; other < Matrices; ++other) add_product(s.sums[m + other], column, m, other);
          }
        }
      }
      warp::lanes([&](int lane) {
        RLVR_CUDA_UNROLL
        for (int i = 0; i < 2 * squares; ++i)
          partial[(w * squares + i / 2) * 64 + 2 * lane + i % 2] = s.sums[i / 2](lane, i % 2);
      });
    });
    team.meet();
    b.each(vectors * vectors, [&](std::int64_t at) {
      const int i = static_cast<int>(at) / vectors, j = static_cast<int>(at) % vectors;
      if (i > j) return;
      const double* part = partial + (i / 8 + j / 8) * 64;
      double sum = 0;
      for (int w = 0; w < warps; ++w)
        for (int c = 0; c < 8; c += copy) sum += part[w * squares * 64 + (i % 8 + c) * 8 + j % 8 + c];
      out[b.x * (vectors * (vectors + 1) / 2) + i * vectors - i * (i - 1) / 2 + j - i] = sum;
    });
  }
};

}  // namespace rlvr::cuda::kernels
