#pragma once
/// map over coordinates on the device, for .cu files.

#include <cstddef>

#include <cuda_runtime.h>

#include <rlvr/backend/cuda/block.cuh>
#include <rlvr/backend/cuda/error.hpp>
#include <rlvr/backend/cuda/space.hpp>

namespace rlvr::cuda {

namespace detail {
template <class F, class... X>
__global__ void map_coordinates(F f, std::size_t n, float* y, const X*... x) {
  for (std::size_t i = blockIdx.x * std::size_t{block_threads} + threadIdx.x; i < n;
       i += std::size_t{gridDim.x} * block_threads)
    y[i] = f(y[i], x[i]...);
}
}  // namespace detail

/// y_i <- f(y_i, x_i...), f callable on the device (__device__, or constexpr with nvcc's --expt-relaxed-constexpr). In
/// the order of the space's other calls, and as they do not waiting for it. Throws device_error when it cannot start.
template <class F, class... X>
void map_on_device(const space& s, F f, device_vector& y, const X&... x) {
  constexpr unsigned blocks = 1024;
  detail::map_coordinates<<<blocks, block_threads, 0, static_cast<cudaStream_t>(s.where()->stream())>>>(
      f, s.dimension(), y.data(), x.data()...);
  if (const cudaError_t status = cudaGetLastError(); status != cudaSuccess)
    throw device_error("map_on_device", __PRETTY_FUNCTION__, cudaGetErrorString(status));
}

}  // namespace rlvr::cuda
