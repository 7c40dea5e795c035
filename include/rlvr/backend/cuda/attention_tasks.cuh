#pragma once
/// What kernels of attention are asked for, and which keys the queries of a task see.

#include <cstdint>
#include <type_traits>

#include <rlvr/backend/cuda/attention_warp.cuh>
#include <rlvr/backend/cuda/device.hpp>
#include <rlvr/backend/cuda/scalar.hpp>

namespace rlvr::cuda::kernels {

inline constexpr int widest_in_registers = 128;
/// f with the narrowest Width that holds a head, of the kernels that are made for heads of at most Width numbers.
template <class F>
void with_width(std::int32_t head_dim, F f) {
  if (head_dim <= 64)
    f(std::integral_constant<int, 64>());
  else
    f(std::integral_constant<int, widest_in_registers>());
}
inline constexpr float log2_e = 1.44269504f;

/// Keys and values, one row of `stride` numbers per position.
template <class S>
struct key_values {
  const S *keys, *values;
  int stride;
};

/// The arguments of device::attention.
template <class S>
struct attention_call {
  attention_shape shape;
  const attention_task* tasks;
  const S* q;
  std::int64_t q_stride;
  key_values<S> prefix, own;
  S* out;
  std::int64_t out_stride;
  float* log_sum;  ///< [rows, heads], or null
  float scale;     ///< 1 / sqrt(head_dim)
  std::int32_t task_count;
};

/// The arguments of device::attention_backward, but for the tasks.
template <class S>
struct attention_gradient_call {
  attention_shape shape;
  const S *qkv, *out, *dout;
  const float* log_sum;
  float* delta;
  S* dqkv;
};

/// The keys that the queries of a task see, numbered by position: first those of the prefix, then those of the task's
/// own sequence.
struct task_keys {
  attention_task task;
  int position, begin, end;  ///< of the first query; of the keys

  RLVR_CUDA_KERNEL task_keys(const attention_task& t, int window)
      : task(t), position(t.prefix_length + t.own_position), begin(0), end(position + t.query_rows) {
    if (window > 0 && position - window + 1 > 0) begin = position - window + 1;
  }
  /// Keys of the tile of at most `most` that begins with `key`: no tile has keys of the prefix and others.
  RLVR_CUDA_KERNEL int count(int key, int most) const {
    const int left = (key < task.prefix_length ? task.prefix_length : end) - key;
    return left < most ? left : most;
  }
  /// The row of a key and those behind it, in the prefix's matrix or in the sequence's own.
  template <class T>
  RLVR_CUDA_KERNEL warp::rows<T> rows(int key, const warp::rows<T>& prefix, const warp::rows<T>& own) const {
    if (key < task.prefix_length)
      return {prefix.first + std::int64_t{task.prefix_row + key} * prefix.stride, prefix.stride};
    return {own.first + std::int64_t{task.own_row + key - task.prefix_length} * own.stride, own.stride};
  }
};

}  // namespace rlvr::cuda::kernels
