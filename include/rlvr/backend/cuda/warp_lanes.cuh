#pragma once
/// What lanes of a warp give each other, beside what the tensor cores do, and a host loop that does the same. Lane l
/// has g = l / 4 and t = l % 4, as in attention_warp.cuh.
/// Source: PTX ISA 9.0, "movmatrix", "shfl.sync", "prmt".

#include <cstdint>

#include <rlvr/backend/cuda/attention_warp.cuh>
#include <rlvr/backend/cuda/block.cuh>
#include <rlvr/backend/cuda/scalar.hpp>

namespace rlvr::cuda::warp {

/// Every value becomes the merged value of the lanes that differ in the bits from First to below End, powers of two:
/// all of them get the same bits. Of an accumulator, <1, 4> merges rows, <4> columns.
template <int First, int End = 32, class T, int N, class Merge>
RLVR_CUDA_KERNEL void merge_lanes(registers<T, N>& x, Merge merge) {
  RLVR_CUDA_UNROLL
  for (int apart = First; apart < End; apart *= 2) {
#ifdef __CUDACC__
    RLVR_CUDA_UNROLL
    for (int i = 0; i < N; ++i) x(0, i) = merge(x(0, i), __shfl_xor_sync(0xffffffffu, x(0, i), apart));
#else
    const registers<T, N> before = x;
    for (int lane = 0; lane < 32; ++lane)
      for (int i = 0; i < N; ++i) x(lane, i) = merge(before(lane, i), before(lane ^ apart, i));
#endif
  }
}

/// Register i holds an 8 x 8 matrix, row g, columns 2 t and 2 t + 1; it becomes the transpose.
template <int N>
RLVR_CUDA_KERNEL void transpose(registers<std::uint32_t, N>& x, int i) {
#ifdef __CUDACC__
  asm volatile("movmatrix.sync.aligned.m8n8.trans.b16 %0, %0;" : "+r"(x(0, i)));
#else
  const registers<std::uint32_t, N> before = x;
  const auto number = [&](int row, int column) {
    return before(4 * row + column / 2, i) >> (16 * (column % 2)) & 0xffffu;
  };
  for (int lane = 0; lane < 32; ++lane)
    x(lane, i) = number(lane % 4 * 2, lane / 4) | number(lane % 4 * 2 + 1, lane / 4) << 16;
#endif
}

/// The lower (0) or upper (1) halves of two registers; that of x is the lower one.
RLVR_CUDA_KERNEL inline std::uint32_t pair_halves(std::uint32_t x, std::uint32_t y, int half) {
#ifdef __CUDACC__
  return __byte_perm(x, y, half ? 0x7632u : 0x5410u);
#else
  return (x >> (16 * half) & 0xffffu) | (y >> (16 * half) & 0xffffu) << 16;
#endif
}

}  // namespace rlvr::cuda::warp
