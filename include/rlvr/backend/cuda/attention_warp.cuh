#pragma once
/// Warps that keep matrices in registers and multiply them on tensor cores, and a host loop that does the same, lane by
/// lane. A kernel is written for a whole warp: what each lane does for itself is `lanes`, and matrices are held as the
/// instructions hold them. Lane l has g = l / 4 and t = l % 4; register r of a lane holds two numbers in bfloat16,
/// of which e is 0 or 1:
///   matrix_a     16 x 16  row g + 8 (r % 2), column 2 t + e + 8 (r / 2)
///   matrix_b     16 x 16  row 2 t + e + 8 (r % 2), column g + 8 (r / 2)       two of the instruction's 16 x 8
///   accumulator  16 x 8   row g + 8 (i / 2), column 2 t + i % 2               four floats i
/// So two accumulators side by side, rounded, are a matrix_a without any number changing lanes.
/// Source: PTX ISA 9.0, "Matrix Fragments for mma.m16n8k16 with floating point type", "ldmatrix", "cp.async".

#include <cmath>
#include <cstddef>
#include <cstdint>

#include <rlvr/backend/cuda/block.cuh>
#include <rlvr/backend/cuda/scalar.hpp>

#ifndef __CUDACC__
#include <cstring>
#include <vector>
#endif

namespace rlvr::cuda::warp {

#ifdef __CUDACC__
inline constexpr int lanes_here = 1;
#else
inline constexpr int lanes_here = 32;
#endif

/// N values of each lane. The GPU's compiler keeps them in registers, when every i is known to it.
template <class T, int N>
struct registers {
  T values[lanes_here][N];
  RLVR_CUDA_KERNEL T& operator()(int lane, int i) { return values[lane % lanes_here][i]; }
  RLVR_CUDA_KERNEL const T& operator()(int lane, int i) const { return values[lane % lanes_here][i]; }
};
using matrix_a = registers<std::uint32_t, 4>;
using matrix_b = registers<std::uint32_t, 4>;
using accumulator = registers<float, 4>;

/// f(lane) for every lane.
template <class F>
RLVR_CUDA_KERNEL void lanes(F f) {
#ifdef __CUDACC__
  f(static_cast<int>(threadIdx.x % 32));
#else
  for (int lane = 0; lane < 32; ++lane) f(lane);
#endif
}

/// x and y rounded to bfloat16; x is the lower half.
RLVR_CUDA_KERNEL inline std::uint32_t pack(float x, float y) {
#ifdef __CUDACC__
  std::uint32_t out;
  asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(out) : "f"(y), "f"(x));
  return out;
#else
  return bfloat16(x).bits | static_cast<std::uint32_t>(bfloat16(y).bits) << 16;
#endif
}
/// The lower (0) or upper (1) number of a register.
RLVR_CUDA_KERNEL inline float unpack(std::uint32_t word, int half) {
  bfloat16 x;
  x.bits = static_cast<std::uint16_t>(word >> (16 * half));
  return static_cast<float>(x);
}

/// 2^x to about 2^-22, in one instruction; 0 for -infinity. For weights that are then rounded to bfloat16: what stays
/// in float uses std::exp.
RLVR_CUDA_KERNEL inline float power_of_two(float x) {
#ifdef __CUDACC__
  float out;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(out) : "f"(x));
  return out;
#else
  return std::exp2(x);
#endif
}

enum class stored { in_rows, transposed };

/// Four 8 x 8 matrices from shared memory: row i of matrix m stands at row_of(8 m + i), 8 numbers, 16-byte aligned.
/// Register m of a lane gets row g, columns 2 t and 2 t + 1 of matrix m, or of its transpose.
template <stored Order, class Row>
RLVR_CUDA_KERNEL void load(registers<std::uint32_t, 4>& to, Row row_of) {
#ifdef __CUDACC__
  const auto from = static_cast<std::uint32_t>(__cvta_generic_to_shared(row_of(static_cast<int>(threadIdx.x % 32))));
  std::uint32_t(&r)[4] = to.values[0];
  if constexpr (Order == stored::in_rows)
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(from));
  else
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(from));
#else
  for (int lane = 0; lane < 32; ++lane)
    for (int m = 0; m < 4; ++m) {
      const int g = lane / 4, t = lane % 4;
      const auto number = [&](int e) -> std::uint32_t {
        return Order == stored::in_rows ? row_of(8 * m + g)[2 * t + e].bits : row_of(8 * m + 2 * t + e)[g].bits;
      };
      to(lane, m) = number(0) | number(1) << 16;
    }
#endif
}
/// The 16 x 16 numbers at `from`.
RLVR_CUDA_KERNEL inline void load_a(matrix_a& to, const bfloat16* from, int stride) {
  load<stored::in_rows>(to, [&](int i) { return from + i % 16 * stride + i / 16 * 8; });
}
/// The transpose of the 16 x 16 numbers at `from`: a row of it is a column of the matrix.
RLVR_CUDA_KERNEL inline void load_b_of_columns(matrix_b& to, const bfloat16* from, int stride) {
  load<stored::in_rows>(to, [&](int i) { return from + (i % 8 + i / 16 * 8) * stride + i / 8 % 2 * 8; });
}
/// The 16 x 16 numbers at `from`.
RLVR_CUDA_KERNEL inline void load_b(matrix_b& to, const bfloat16* from, int stride) {
  load<stored::transposed>(to, [&](int i) { return from + i % 16 * stride + i / 16 * 8; });
}

/// c <- c + a b, for columns 8 half .. 8 half + 7 of b. Products are exact, sums in float.
template <int Half>
RLVR_CUDA_KERNEL void multiply(accumulator& c, const matrix_a& a, const matrix_b& b) {
#ifdef __CUDACC__
  float(&s)[4] = c.values[0];
  const std::uint32_t(&x)[4] = a.values[0];
  const std::uint32_t(&y)[4] = b.values[0];
  asm volatile(
      "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
      "{%0, %1, %2, %3};"
      : "+f"(s[0]), "+f"(s[1]), "+f"(s[2]), "+f"(s[3])
      : "r"(x[0]), "r"(x[1]), "r"(x[2]), "r"(x[3]), "r"(y[2 * Half]), "r"(y[2 * Half + 1]));
#else
  float left[16][16], right[16][8];
  for (int lane = 0; lane < 32; ++lane) {
    const int g = lane / 4, t = lane % 4;
    for (int r = 0; r < 4; ++r)
      for (int e = 0; e < 2; ++e) left[g + 8 * (r % 2)][2 * t + e + 8 * (r / 2)] = unpack(a(lane, r), e);
    for (int r = 0; r < 2; ++r)
      for (int e = 0; e < 2; ++e) right[2 * t + e + 8 * r][g] = unpack(b(lane, 2 * Half + r), e);
  }
  for (int lane = 0; lane < 32; ++lane)
    for (int i = 0; i < 4; ++i)
      for (int k = 0; k < 16; ++k) c(lane, i) += left[lane / 4 + 8 * (i / 2)][k] * right[k][2 * (lane % 4) + i % 2];
#endif
}
/// c <- c + a b, both halves.
RLVR_CUDA_KERNEL inline void multiply(accumulator (&c)[2], const matrix_a& a, const matrix_b& b) {
  multiply<0>(c[0], a, b);
  multiply<1>(c[1], a, b);
}

/// c += a b^T, for strips of 16 rows of c and a, 16 columns of a and 16 Columns rows of b in shared memory.
template <int Strips, int Columns>
RLVR_CUDA_KERNEL void add_transposed(accumulator (&c)[Strips][Columns][2], const matrix_a (&a)[Strips],
                                     const bfloat16* b, int stride) {
  RLVR_CUDA_UNROLL
  for (int j = 0; j < Columns; ++j) {
    matrix_b columns;
    load_b_of_columns(columns, b + j * 16 * stride, stride);
    RLVR_CUDA_UNROLL
    for (int i = 0; i < Strips; ++i) multiply(c[i][j], a[i], columns);
  }
}
/// c += a b, for strips of 16 rows of c and a, 16 Inner columns of a and rows of b, which is in shared memory.
template <int Strips, int Inner, int Columns>
RLVR_CUDA_KERNEL void add_product(accumulator (&c)[Strips][Columns][2], const matrix_a (&a)[Strips][Inner],
                                  const bfloat16* b, int stride) {
  RLVR_CUDA_UNROLL
  for (int k = 0; k < Inner; ++k) {
    RLVR_CUDA_UNROLL
    for (int j = 0; j < Columns; ++j) {
      matrix_b columns;
      load_b(columns, b + k * 16 * stride + j * 16, stride);
      RLVR_CUDA_UNROLL
      for (int i = 0; i < Strips; ++i) multiply(c[i][j], a[i][k], columns);
    }
  }
}

template <int N>
RLVR_CUDA_KERNEL void clear(accumulator (&c)[N][2]) {
  lanes([&](int lane) {
    RLVR_CUDA_UNROLL
    for (int i = 0; i < 8 * N; ++i) c[i / 8][i / 4 % 2](lane, i % 4) = 0;
  });
}
template <int Strips, int N>
RLVR_CUDA_KERNEL void clear(accumulator (&c)[Strips][N][2]) {
  RLVR_CUDA_UNROLL
  for (int i = 0; i < Strips; ++i) clear(c[i]);
}
/// The two accumulators, rounded.
RLVR_CUDA_KERNEL inline matrix_a rounded(const accumulator (&c)[2]) {
  matrix_a out;
  lanes([&](int lane) {
    RLVR_CUDA_UNROLL
    for (int r = 0; r < 4; ++r) out(lane, r) = pack(c[r / 2](lane, r % 2 * 2), c[r / 2](lane, r % 2 * 2 + 1));
  });
  return out;
}

/// A matrix on its way from one warp to another, as the lanes hold it: 16 bytes of each.
using matrix_chunks = words<4>[32];
RLVR_CUDA_KERNEL inline void put(matrix_chunks& to, const matrix_a& m) {
  lanes([&](int lane) { write_words(to + lane, words<4>{{m(lane, 0), m(lane, 1), m(lane, 2), m(lane, 3)}}); });
}
RLVR_CUDA_KERNEL inline void take(matrix_a& m, const matrix_chunks& from) {
  lanes([&](int lane) {
    const words<4> c = read_words<4>(from + lane);
    RLVR_CUDA_UNROLL
    for (int r = 0; r < 4; ++r) m(lane, r) = c.of[r];
  });
}

/// Two numbers, 4-byte aligned.
RLVR_CUDA_KERNEL inline void store_pair(bfloat16* to, std::uint32_t two) {
#ifdef __CUDACC__
  *reinterpret_cast<std::uint32_t*>(to) = two;
#else
  to[0].bits = static_cast<std::uint16_t>(two);
  to[1].bits = static_cast<std::uint16_t>(two >> 16);
#endif
}
/// Rows of a matrix: row i begins at first + i * stride, which is below 2^31 numbers behind it.
template <class T>
struct rows {
  T* first;
  int stride;
};

/// The warps of a block, each with a State, and their copies to shared memory that run while they work.
template <class State, int Warps>
class team {
 public:
  /// f(warp, its state) for every warp.
  template <class F>
  RLVR_CUDA_KERNEL void warps(F f) {
#ifdef __CUDACC__
    f(__shfl_sync(0xffffffffu, static_cast<int>(threadIdx.x / 32), 0), state_);  // which tells that a warp agrees on it
#else
    for (int warp = 0; warp < Warps; ++warp) f(warp, states_[static_cast<std::size_t>(warp)]);
#endif
  }
  /// f(thread) for every thread.
  template <class F>
  RLVR_CUDA_KERNEL void threads(F f) const {
#ifdef __CUDACC__
    f(static_cast<int>(threadIdx.x));
#else
    for (int thread = 0; thread < 32 * Warps; ++thread) f(thread);
#endif
  }
  /// Waits until all warps are here.
  RLVR_CUDA_KERNEL void meet() const {
#ifdef __CUDACC__
    __syncthreads();
#endif
  }

  /// Begins to copy Bytes (4 or 16, both places aligned so) to shared memory; zeros where it is not `there`, and then
  /// `from` is not read.
  template <int Bytes>
  RLVR_CUDA_KERNEL void copy(void* to, const void* from, bool there) {
#ifdef __CUDACC__
    const auto place = static_cast<std::uint32_t>(__cvta_generic_to_shared(to));
    const int bytes = there ? Bytes : 0;
    if constexpr (Bytes == 16)
      asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(place), "l"(from), "r"(bytes));
    else
      asm volatile("cp.async.ca.shared.global [%0], [%1], 4, %2;" ::"r"(place), "l"(from), "r"(bytes));
#else
    pending_.push_back({to, there ? from : nullptr, Bytes});
#endif
  }
  /// Rows of Width numbers, Stride apart in the tile; the first `count` are those of m and have `dim` numbers, a
  /// multiple of 8. What is behind is zero.
  template <int Rows, int Width, int Stride>
  RLVR_CUDA_KERNEL void copy_rows(bfloat16* tile, int count, int dim, rows<const bfloat16> m) {
    chunks<Rows, Width>(m, [&](int i, int from, const bfloat16* at) {
      copy<16>(tile + i * Stride + from, at, i < count && from < dim);
    });
  }
  /// And back to m.
  template <int Rows, int Width, int Stride>
  RLVR_CUDA_KERNEL void save_rows(const bfloat16* tile, int count, int dim, rows<bfloat16> m) const {
    chunks<Rows, Width>(m, [&](int i, int from, bfloat16* at) {
      if (i < count && from < dim) write_words(at, read_words<4>(tile + i * Stride + from));
    });
  }
  /// Waits for the caller's copies; others' are there when all have met. The host copies only now, so that what is read
  /// too early is not there.
  RLVR_CUDA_KERNEL void wait() {
#ifdef __CUDACC__
    asm volatile("cp.async.wait_all;" ::: "memory");
#else
    for (const transfer& c : pending_)
      if (c.from)
        std::memcpy(c.to, c.from, c.bytes);
      else
        std::memset(c.to, 0, c.bytes);
    pending_.clear();
#endif
  }

 private:
  /// f(row, column, where it is in m) for Rows rows and every eighth column of Width. A thread has one column.
  template <int Rows, int Width, class T, class F>
  RLVR_CUDA_KERNEL void chunks(rows<T> m, F f) const {
    constexpr int across = Width / 8, down = 32 * Warps / across;
    static_assert(down * across == 32 * Warps && Rows % down == 0);
    threads([&](int thread) {
      const int row = thread / across, from = thread % across * 8;
      T* at = m.first + (row * m.stride + from);
      RLVR_CUDA_UNROLL
      for (int above = 0; above < Rows; above += down, at += down * m.stride) f(above + row, from, at);
    });
  }

#ifdef __CUDACC__
  State state_;
#else
  struct transfer {
    void* to;
    const void* from;
    std::size_t bytes;
  };
  std::vector<transfer> pending_;
  std::vector<State> states_ = std::vector<State>(static_cast<std::size_t>(Warps));
#endif
};

}  // namespace rlvr::cuda::warp
