#pragma once
/// What goes wrong on a device.

#include <cstddef>
#include <stdexcept>
#include <string>

#include <rlvr/core/error.hpp>

namespace rlvr::cuda {

/// A call into CUDA or cuBLASLt failed: which, where, and what it said.
class device_error : public std::runtime_error {
 public:
  device_error(const std::string& call, const std::string& place, const std::string& message)
      : std::runtime_error(concat(place, ": ", call, ": ", message)) {}
};

/// The device has not the memory that was asked for.
class out_of_memory : public std::runtime_error {
 public:
  out_of_memory(const std::string& what, std::size_t bytes, std::size_t free)
      : std::runtime_error(concat("cuda: ", what, " needs ", bytes, " bytes, ", free, " are free")), bytes_(bytes) {}
  std::size_t bytes() const { return bytes_; }

 private:
  std::size_t bytes_;
};

}  // namespace rlvr::cuda
