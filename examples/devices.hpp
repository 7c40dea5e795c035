#pragma once
/// Where the example programs compute: on the CPU, or on an NVIDIA GPU.

#include <algorithm>
#include <cstddef>
#include <memory>
#include <span>
#include <stdexcept>
#include <string>
#include <vector>

#include <rlvr/backend/cuda/decoder.hpp>
#include <rlvr/backend/cuda/device.hpp>
#include <rlvr/backend/cuda/load.hpp>
#include <rlvr/backend/decoder/config.hpp>
#include <rlvr/backend/eigen/decoder.hpp>

namespace devices {

/// For the command line.
inline const std::vector<std::string> names{"cpu", "cuda"};
inline constexpr const char* help = "cpu, or cuda: an NVIDIA GPU, in a program that was built with it";

struct cpu {
  rlvr::eigen::decoder<float> load(const rlvr::decoder::config& c, const std::vector<float>& parameters,
                                   std::size_t threads) const {
    return {c, parameters, {.threads = threads}};
  }
};

/// Every policy opens the device anew: it has a stream of its own, and policies may run at the same time.
struct cuda {
  std::shared_ptr<rlvr::cuda::device> (*open)(int index);

  rlvr::cuda::decoder load(const rlvr::decoder::config& c, const std::vector<float>& parameters, std::size_t) const {
    return {open(0), c, parameters, {.compute = rlvr::cuda::scalar_type::float32}};  // small steps have to be seen
  }
};

/// A policy's parameters as rlvr::decoder::write_model reads them.
inline auto parameter_reader(const rlvr::eigen::decoder<float>& policy) {
  return [&policy](std::size_t offset, std::span<float> out) {
    std::copy_n(policy.parameters().data() + offset, out.size(), out.begin());
  };
}
inline auto parameter_reader(const rlvr::cuda::decoder& policy) {
  return rlvr::cuda::parameter_reader(policy);
}

/// Calls run(device) with the device of that name. Throws std::invalid_argument for cuda in a program that was built
/// without it, rlvr::cuda::device_error where there is no GPU.
template <class Run>
void with_device(const std::string& name, Run run) {
  if (name == "cpu") return run(cpu{});
#ifdef RLVR_EXAMPLES_CUDA
  (void)rlvr::cuda::open_device();  // that there is no GPU is told before long work
  run(cuda{rlvr::cuda::open_device});
#else
  throw std::invalid_argument(
      "--device cuda: this program was built without CUDA. Where nvcc is installed, examples/"
      "run.sh and dopr.sh build it with CUDA when they are given --device cuda, and so does "
      "cmake -DRLVR_REQUIRE_CUDA=ON");
#endif
}

}  // namespace devices
