#pragma once
/// The number types of the device: float, and bfloat16 for weights and activations.

#include <cstddef>
#include <cstdint>
#include <cstring>

// What runs on the host and on the device. In a .cu file kernels are for the device alone.
#ifdef __CUDACC__
#define RLVR_CUDA_BOTH __host__ __device__
#define RLVR_CUDA_KERNEL __device__
#else
#define RLVR_CUDA_BOTH
#define RLVR_CUDA_KERNEL
#endif

namespace rlvr::cuda {

/// The upper half of a float. Rounds to nearest, ties to even; NaN stays NaN.
struct bfloat16 {
  std::uint16_t bits = 0;

  bfloat16() = default;
  RLVR_CUDA_BOTH explicit bfloat16(float x) {
    std::uint32_t u;
    std::memcpy(&u, &x, sizeof u);
    const bool nan = (u & 0x7fffffffu) > 0x7f800000u;
    bits = static_cast<std::uint16_t>(nan ? (u >> 16) | 0x40u : (u + 0x7fffu + ((u >> 16) & 1u)) >> 16);
  }
  RLVR_CUDA_BOTH explicit operator float() const {
    const std::uint32_t u = static_cast<std::uint32_t>(bits) << 16;
    float x;
    std::memcpy(&x, &u, sizeof x);
    return x;
  }
};

enum class scalar_type { float32, bfloat16 };

/// Which of the two factors are transposed: c[m,n] = a[m,k] b[n,k]^T, a[m,k] b[k,n], a[k,m]^T b[k,n].
enum class product_form { nt, nn, tn };

constexpr std::size_t size_of(scalar_type type) {
  return type == scalar_type::float32 ? 4 : 2;
}

}  // namespace rlvr::cuda
