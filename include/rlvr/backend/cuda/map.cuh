#pragma once
/// map over coordinates on the device, for .cu files.

#include <cstddef>
#include <cstdint>
#include <memory>

#include <rlvr/backend/cuda/gpu_device.cuh>
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

/// y_i <- f(y_i, x_i...), f callable on the device. Returns when it is done.
template <class F, class... X>
void map_on_device(const space& s, F f, device_vector& y, const X&... x) {
  s.where()->synchronize();  // the space's stream is its own
  detail::map_coordinates<<<1024, block_threads>>>(f, s.dimension(), y.data(), x.data()...);
  RLVR_CUDA_CHECK(cudaGetLastError());
  RLVR_CUDA_CHECK(cudaDeviceSynchronize());
}

}  // namespace rlvr::cuda
