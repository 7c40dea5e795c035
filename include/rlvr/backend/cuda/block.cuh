#pragma once
/// A thread block, and a host loop that does the same. A kernel is a function object called with one of them, written
/// once: its phases are `each`, its sums `reduce` with one tree, its small matrix products `product`. Between two of
/// them all threads have finished. Its members are its arguments; where it needs them it has `threads` and
/// `shared_bytes()`. Kernels that share out work by warps use a team of them (attention_warp.cuh).

#include <cstddef>
#include <cstdint>
#include <cstring>

#include <rlvr/backend/cuda/scalar.hpp>
#include <rlvr/core/error.hpp>

#ifdef __CUDACC__
#include <type_traits>

#include <cuda_bf16.h>
#include <mma.h>
#endif

// Unrolls a loop, so that arrays indexed by it can be registers.
#ifdef __CUDACC__
#define RLVR_CUDA_UNROLL _Pragma("unroll")
#else
#define RLVR_CUDA_UNROLL
#endif

namespace rlvr::cuda {

inline constexpr int block_threads = 256;
/// Threads per block of a kernel: what it says, or block_threads.
template <class Kernel>
constexpr int threads_of() {
  if constexpr (requires { Kernel::threads; })
    return Kernel::threads;
  else
    return block_threads;
}
/// Bytes of shared memory per block of a kernel, besides that of its reductions: what it says, or none.
template <class Kernel>
std::size_t shared_bytes_of(const Kernel& kernel) {
  if constexpr (requires { kernel.shared_bytes(); })
    return kernel.shared_bytes();
  else
    return 0;
}

namespace detail {
/// One entry of a product; the sum runs over k in order.
template <product_form Form, class S>
RLVR_CUDA_BOTH float product_entry(int i, int j, int k, const S* a, int lda, const S* b, int ldb) {
  float sum = 0;
  for (int p = 0; p < k; ++p)
    sum += static_cast<float>(Form == product_form::tn ? a[p * lda + i] : a[i * lda + p]) *
           static_cast<float>(Form == product_form::nt ? b[j * ldb + p] : b[p * ldb + j]);
  return sum;
}
}  // namespace detail

#ifndef __CUDACC__
/// Runs a kernel's threads one after the other.
struct host_block {
  int x, y;
  std::byte* memory;

  template <class T>
  T* shared() const {
    return reinterpret_cast<T*>(memory);
  }
  /// f(i) for i < n.
  template <class F>
  void each(std::int64_t n, F f) const {
    for (std::int64_t i = 0; i < n; ++i) f(i);
  }
  /// Thread t folds items t, t + block_threads, ... with add(lane, i); lanes are merged as a tree.
  template <class A, class Add, class Merge>
  A reduce(std::int64_t n, A identity, Add add, Merge merge) const {
    A lane[block_threads];
    for (int t = 0; t < block_threads; ++t) {
      lane[t] = identity;
      for (std::int64_t i = t; i < n; i += block_threads) add(lane[t], i);
    }
    for (int half = block_threads / 2; half > 0; half /= 2)
      for (int t = 0; t < half; ++t) lane[t] = merge(lane[t], lane[t + half]);
    return lane[0];
  }
  /// c <- c + product; m, n and k are multiples of 16.
  template <product_form Form, class S>
  void product(int m, int n, int k, const S* a, int lda, const S* b, int ldb, float* c, int ldc) const {
    for (int i = 0; i < m; ++i)
      for (int j = 0; j < n; ++j) c[i * ldc + j] += detail::product_entry<Form>(i, j, k, a, lda, b, ldb);
  }
};
#else
/// The block that a kernel runs in.
struct thread_block {
  int x, y;

  template <class T>
  __device__ T* shared() const {
    extern __shared__ __align__(128) unsigned char dynamic_memory[];
    return reinterpret_cast<T*>(dynamic_memory);
  }
  template <class F>
  __device__ void each(std::int64_t n, F f) const {
    for (std::int64_t i = threadIdx.x; i < n; i += block_threads) f(i);
    __syncthreads();
  }
  template <class A, class Add, class Merge>
  __device__ A reduce(std::int64_t n, A identity, Add add, Merge merge) const {
    __shared__ __align__(16) unsigned char memory[block_threads * sizeof(A)];
    A* lane = reinterpret_cast<A*>(memory);
    const int t = static_cast<int>(threadIdx.x);
    A mine = identity;
    for (std::int64_t i = t; i < n; i += block_threads) add(mine, i);
    lane[t] = mine;
    __syncthreads();
    for (int half = block_threads / 2; half > 0; half /= 2) {
      if (t < half) lane[t] = merge(lane[t], lane[t + half]);
      __syncthreads();
    }
    const A all = lane[0];
    __syncthreads();  // before the lanes are used again
    return all;
  }
  template <product_form Form, class S>
  __device__ void product(int m, int n, int k, const S* a, int lda, const S* b, int ldb, float* c, int ldc) const {
    if constexpr (sizeof(S) == 2) {
      namespace wmma = nvcuda::wmma;
      using row = wmma::row_major;
      using column = wmma::col_major;
      constexpr bool a_transposed = Form == product_form::tn, b_transposed = Form == product_form::nt;
      wmma::fragment<wmma::matrix_a, 16, 16, 16, __nv_bfloat16, std::conditional_t<a_transposed, column, row>> fa;
      wmma::fragment<wmma::matrix_b, 16, 16, 16, __nv_bfloat16, std::conditional_t<b_transposed, column, row>> fb;
      wmma::fragment<wmma::accumulator, 16, 16, 16, float> fc;
      const auto* at = reinterpret_cast<const __nv_bfloat16*>(a);
      const auto* bt = reinterpret_cast<const __nv_bfloat16*>(b);
      const int tiles = n / 16;
      for (int tile = static_cast<int>(threadIdx.x) / 32; tile < m / 16 * tiles; tile += block_threads / 32) {
        const int i = tile / tiles * 16, j = tile % tiles * 16;
        wmma::load_matrix_sync(fc, c + i * ldc + j, ldc, wmma::mem_row_major);
        for (int p = 0; p < k; p += 16) {
          wmma::load_matrix_sync(fa, a_transposed ? at + p * lda + i : at + i * lda + p, lda);
          wmma::load_matrix_sync(fb, b_transposed ? bt + j * ldb + p : bt + p * ldb + j, ldb);
          wmma::mma_sync(fc, fa, fb, fc);
        }
        wmma::store_matrix_sync(c + i * ldc + j, fc, ldc, wmma::mem_row_major);
      }
      __syncthreads();
    } else {
      each(m * n, [&](std::int64_t at) {
        const int i = static_cast<int>(at) / n, j = static_cast<int>(at) % n;
        c[i * ldc + j] += detail::product_entry<Form>(i, j, k, a, lda, b, ldb);
      });
    }
  }
};
template <class Kernel>
__global__ void __launch_bounds__(threads_of<Kernel>()) run_kernel(const Kernel kernel) {
  thread_block b{static_cast<int>(blockIdx.x), static_cast<int>(blockIdx.y)};
  kernel(b);
}
#endif

/// 4 N bytes, read and written at once (16 at once where they are more) at places that are aligned to that many.
/// Elsewhere a GPU fails, and so does the host.
template <int N>
struct alignas(N >= 4 ? 16 : 4 * N) words {
  std::uint32_t of[N];
};
#ifndef __CUDACC__
template <class T>
void require_aligned(const void* at) {
  require(reinterpret_cast<std::uintptr_t>(at) % alignof(T) == 0, "cuda: ", alignof(T),
          " bytes at once at a place that is not ", alignof(T), "-byte aligned");
}
#endif
template <int N>
RLVR_CUDA_KERNEL words<N> read_words(const void* from) {
#ifdef __CUDACC__
  return *static_cast<const words<N>*>(from);
#else
  words<N> out;
  require_aligned<words<N>>(from);
  std::memcpy(&out, from, sizeof out);
  return out;
#endif
}
template <int N>
RLVR_CUDA_KERNEL void write_words(void* to, const words<N>& x) {
#ifdef __CUDACC__
  *static_cast<words<N>*>(to) = x;
#else
  require_aligned<words<N>>(to);
  std::memcpy(to, &x, sizeof x);
#endif
}

inline constexpr float minus_infinity = -__builtin_huge_valf();

/// Types alike for float and bfloat16.
template <class T>
RLVR_CUDA_BOTH float load(const T* x, std::int64_t i) {
  return static_cast<float>(x[i]);
}
template <class T>
RLVR_CUDA_BOTH void store(T* x, std::int64_t i, float value) {
  x[i] = static_cast<T>(value);
}

}  // namespace rlvr::cuda
