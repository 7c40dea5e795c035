#pragma once
/// map over coordinates on the device, for .cu files.

#include <cstdint>

#include <cuda_runtime.h>

#include <rlvr/backend/cuda/block.cuh>
#include <rlvr/backend/cuda/error.hpp>
#include <rlvr/backend/cuda/space.hpp>
#include <rlvr/backend/cuda/vector_kernels.cuh>

namespace rlvr::cuda {

/// y_i <- f(y_i, x_i...), f const and callable on the device (__device__, or constexpr with nvcc's
/// --expt-relaxed-constexpr). In the order of the space's other calls, and as they do not waiting for it. Throws
/// device_error when it cannot start.
template <class F, class... X>
void map_on_device(const space& s, F f, device_vector& y, const X&... x) {
  if (s.dimension() == 0) return;
  const kernels::map_vectors<1 + sizeof...(X), F> kernel(f, static_cast<std::int64_t>(s.dimension()),
                                                         {y.data(), x.data()...}, y.data(), nullptr);
  const auto blocks = static_cast<unsigned>((kernel.n + kernel.tile - 1) / kernel.tile);
  run_kernel<<<blocks, block_threads, 0, static_cast<cudaStream_t>(s.where()->stream())>>>(kernel);
  if (const cudaError_t status = cudaGetLastError(); status != cudaSuccess)
    throw device_error("map_on_device", __PRETTY_FUNCTION__, cudaGetErrorString(status));
}

}  // namespace rlvr::cuda
