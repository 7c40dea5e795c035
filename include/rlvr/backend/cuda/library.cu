/// The one translation unit of rlvr::cuda.

#include <memory>

#include <rlvr/backend/cuda/device.hpp>
#include <rlvr/backend/cuda/gpu_device.cuh>

namespace rlvr::cuda {

std::shared_ptr<device> open_device(int index) {
  return std::make_shared<gpu_device>(index);
}

}  // namespace rlvr::cuda
