#pragma once
/// What the two kernels of the gradient of attention share (attention_backward.cuh): how two warps do 32 rows. One
/// makes the weights p of attention, the other dout v^T, and each gets the other's, rounded to bfloat16, where it needs
/// them. A warp alone would have to hold twice the sums, or do 16 rows and read the tiles of the other side, which by
/// count take longer to read from shared memory than to multiply, once more for the other 16.

#include <cstddef>
#include <cstdint>

#include <rlvr/backend/cuda/attention_forward.cuh>
#include <rlvr/backend/cuda/attention_warp.cuh>
#include <rlvr/backend/cuda/device.hpp>
#include <rlvr/backend/cuda/scalar.hpp>

namespace rlvr::cuda::kernels {

/// A block has `rows` rows, 32 for two warps, and passes over the other side's by `step`: two such tiles of two
/// matrices are in shared memory, one being copied there while the other is worked on.
template <int Width>
struct attention_gradient_in_registers : attention_gradient_call<bfloat16> {
  static constexpr int warps = 4, threads = 32 * warps, strips = 2, shared_rows = 16 * strips;
  static constexpr int rows = warps / 2 * shared_rows, step = 32, stride = row_stride<Width>;
  float scale;  ///< 1 / sqrt(head_dim)

  /// Scores of a warp's rows with the other side's step, the same rounded, and rows of Columns of a result.
  using scores = warp::accumulator[strips][step / 16][2];
  using rounded_scores = warp::matrix_a[strips][step / 16];
  template <int Columns>
  using result = warp::accumulator[strips][Columns / 16][2];
  /// What a warp tells the other.
  struct message {
    warp::matrix_chunks of[strips][step / 16];
  };
  /// A stage of the ring: two tiles of `step` rows.
  static constexpr int stage_numbers = 2 * step * stride;

  /// Of the two warps that share rows, the one that makes p, and the one that makes dout v^T - delta.
  enum class part { weights, pulls };
  static RLVR_CUDA_KERNEL part part_of(int w) { return w % 2 == 0 ? part::weights : part::pulls; }
  static RLVR_CUDA_KERNEL int first_row(int w) { return w / 2 * shared_rows; }

  /// Rows from `row` and columns from `column` on.
  using matrix = warp::rows<const bfloat16>;
  RLVR_CUDA_KERNEL matrix of_qkv(std::int64_t row, int column) const { return {qkv + row * width() + column, width()}; }
  RLVR_CUDA_KERNEL warp::rows<bfloat16> of_dqkv(std::int64_t row, int column) const {
    return {dqkv + row * width() + column, width()};
  }
  RLVR_CUDA_KERNEL matrix of_out(const bfloat16* x, std::int64_t row, int column) const {
    return {x + row * q_width() + column, q_width()};
  }
  RLVR_CUDA_KERNEL int q_width() const { return shape.heads * shape.head_dim; }
  RLVR_CUDA_KERNEL int kv_width() const { return shape.kv_heads * shape.head_dim; }
  RLVR_CUDA_KERNEL int width() const { return q_width() + 2 * kv_width(); }

  static RLVR_CUDA_KERNEL void round(rounded_scores& to, const scores& c) {
    RLVR_CUDA_UNROLL
    for (int n = 0; n < strips * step / 16; ++n) to[n % strips][n / strips] = warp::rounded(c[n % strips][n / strips]);
  }
  static RLVR_CUDA_KERNEL void tell(message& to, const rounded_scores& a) {
    RLVR_CUDA_UNROLL
    for (int n = 0; n < strips * step / 16; ++n) warp::put(to.of[n % strips][n / strips], a[n % strips][n / strips]);
  }
  /// a <- the rounded products of c with what the other warp told.
  static RLVR_CUDA_KERNEL void multiply_with_told(rounded_scores& a, const scores& c, const message& from) {
    RLVR_CUDA_UNROLL
    for (int n = 0; n < strips * step / 16; ++n) {
      const int i = n % strips, j = n / strips;
      warp::matrix_a told;
      warp::take(told, from.of[i][j]);
      warp::lanes([&](int lane) {
        RLVR_CUDA_UNROLL
        for (int r = 0; r < 4; ++r) {
          const warp::accumulator& own = c[i][j][r / 2];
          a[i][j](lane, r) = warp::pack(own(lane, r % 2 * 2) * warp::unpack(told(lane, r), 0),
                                        own(lane, r % 2 * 2 + 1) * warp::unpack(told(lane, r), 1));
        }
      });
    }
  }
  /// The warp's rows of `to` <- factor c
  template <int Columns>
  static RLVR_CUDA_KERNEL void store_rows(const result<Columns>& c, float factor, bfloat16* to) {
    warp::lanes([&](int lane) {
      RLVR_CUDA_UNROLL
      for (int n = 0; n < strips * Columns / 4; ++n) {
        const int i = n % strips, m = n / strips, h = m % 2;
        const warp::accumulator& x = c[i][m / 4][m / 2 % 2];
        warp::store_pair(to + (i * 16 + lane / 4 + 8 * h) * stride + m / 2 * 8 + lane % 4 * 2,
                         warp::pack(x(lane, 2 * h) * factor, x(lane, 2 * h + 1) * factor));
      }
    });
  }
};

}  // namespace rlvr::cuda::kernels
