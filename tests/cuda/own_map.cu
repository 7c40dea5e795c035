/// A function of one's own over the coordinates of device vectors, as a user's .cu file has it.

#include <rlvr/backend/cuda/map.cuh>

#include "cuda/own_map.hpp"

namespace {
struct multiply_add {
  float a;
  __device__ float operator()(float y, float x, float z) const { return y * x + a * z; }
};
struct negate {
  __device__ float operator()(float y) const { return -y; }
};
}  // namespace

void negate_multiply_add(const rlvr::cuda::space& s, float a, rlvr::cuda::device_vector& y,
                         const rlvr::cuda::device_vector& x, const rlvr::cuda::device_vector& z) {
  rlvr::cuda::map_on_device(s, multiply_add{a}, y, x, z);
  rlvr::cuda::map_on_device(s, negate{}, y);
}
