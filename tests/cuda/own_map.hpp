#pragma once

#include <rlvr/backend/cuda/space.hpp>

/// y <- -(y x + a z), by two maps of own_map.cu.
void negate_multiply_add(const rlvr::cuda::space& s, float a, rlvr::cuda::device_vector& y,
                         const rlvr::cuda::device_vector& x, const rlvr::cuda::device_vector& z);
