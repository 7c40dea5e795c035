#pragma once
/// Numbers of a row, several at once: a warp that reads two or four bytes a lane has too little under way to keep the
/// memory busy.

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <type_traits>

#include <rlvr/backend/cuda/attention_warp.cuh>
#include <rlvr/backend/cuda/block.cuh>
#include <rlvr/backend/cuda/scalar.hpp>

namespace rlvr::cuda::kernels {

/// N numbers side by side, in floats.
template <int N>
struct numbers {
  float of[N];
  RLVR_CUDA_KERNEL float& operator[](int i) { return of[i]; }
  RLVR_CUDA_KERNEL float operator[](int i) const { return of[i]; }
};
/// As many numbers as one access of 16 bytes has, of the widest type.
template <class... S>
inline constexpr int most_numbers = ((sizeof(S) == 4) || ...) ? 4 : 8;
/// Whether rows of such widths and strides (or-ed), in arrays that begin there, can be accessed N numbers at a time.
template <int N, class... T>
RLVR_CUDA_BOTH bool in_parts(std::int64_t widths, const T*... arrays) {
  return widths % N == 0 && ((reinterpret_cast<std::uintptr_t>(arrays) | ...) % 16) == 0;
}
template <int N>
using at_once = std::integral_constant<int, N>;
/// f(at_once<N>()), N numbers at a time: Most, where rows can be accessed so, or one.
template <int Most, class F>
RLVR_CUDA_KERNEL void with_numbers(bool in_parts_of_most, F f) {
  if (in_parts_of_most)
    f(at_once<Most>());
  else
    f(at_once<1>());
}

/// N numbers from a place that is aligned to all of them, or to 16 bytes.
template <int N, class S>
RLVR_CUDA_KERNEL numbers<N> read(const S* from) {
  numbers<N> out;
  if constexpr (N == 1) {
    out[0] = static_cast<float>(*from);
  } else {
    const auto in = read_words<N * sizeof(S) / 4>(from);
    RLVR_CUDA_UNROLL
    for (int k = 0; k < N; ++k)
      if constexpr (sizeof(S) == 4)
        std::memcpy(&out[k], &in.of[k], 4);
      else
        out[k] = warp::unpack(in.of[k / 2], k % 2);
  }
  return out;
}
/// And to one.
template <int N, class S>
RLVR_CUDA_KERNEL void write(S* to, const numbers<N>& x) {
  if constexpr (N == 1) {
    *to = static_cast<S>(x[0]);
  } else {
    words<N * sizeof(S) / 4> out;
    RLVR_CUDA_UNROLL
    for (int k = 0; k < static_cast<int>(sizeof out / 4); ++k)
      if constexpr (sizeof(S) == 4)
        std::memcpy(&out.of[k], &x.of[k], 4);
      else
        out.of[k] = warp::pack(x[2 * k], x[2 * k + 1]);
    write_words(to, out);
  }
}

}  // namespace rlvr::cuda::kernels
