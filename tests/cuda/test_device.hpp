#pragma once
/// The device of tests that are compiled twice: the GPU with RLVR_TEST_ON_GPU, else its host double.

#include <memory>

#include <rlvr/backend/cuda/device.hpp>
#ifndef RLVR_TEST_ON_GPU
#include <rlvr/backend/cuda/host_device.cuh>
#endif

/// The one GPU, or a host double of one's own.
inline std::shared_ptr<rlvr::cuda::device> make_device() {
#ifdef RLVR_TEST_ON_GPU
  static const std::shared_ptr<rlvr::cuda::device> gpu = rlvr::cuda::open_device();
  return gpu;
#else
  return std::make_shared<rlvr::cuda::host_device>();
#endif
}
