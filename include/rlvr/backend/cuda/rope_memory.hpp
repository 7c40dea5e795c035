#pragma once
/// cos and sin of RoPE on a device.

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <memory>
#include <utility>
#include <vector>

#include <rlvr/backend/cuda/network.hpp>
#include <rlvr/backend/cuda/space.hpp>
#include <rlvr/backend/decoder/config.hpp>
#include <rlvr/backend/decoder/rope.hpp>

namespace rlvr::cuda {

/// The scaled and the plain tables, computed in double, for as many positions as were asked for.
class rope_memory {
 public:
  const rope_tables& tables() const { return tables_; }

  /// Makes sure that positions below `count` <= c.max_positions are there.
  void extend(const std::shared_ptr<device>& where, const rlvr::decoder::config& c, std::size_t count) {
    if (count <= positions_) return;
    count = std::min(c.max_positions, std::max(count, 2 * positions_));
    std::vector<float> cosines, sines;
    for (const bool scaled : {true, false}) {
      const rlvr::decoder::rope_scaling scaling = scaled ? c.rope : rlvr::decoder::rope_scaling{};
      const std::vector<double> frequencies = rlvr::decoder::rope_frequencies(scaling, c.rope_theta, c.head_dim);
      for (std::size_t p = 0; p < count; ++p)
        for (const double frequency : frequencies) {
          const double angle = static_cast<double>(p) * frequency;
          cosines.push_back(static_cast<float>(std::cos(angle) * scaling.attention_factor));
          sines.push_back(static_cast<float>(std::sin(angle) * scaling.attention_factor));
        }
    }
    const std::size_t n = cosines.size();
    buffer memory(where, 2 * n * sizeof(float));
    auto* at = static_cast<float*>(memory.data());
    where->upload(at, cosines.data(), n * sizeof(float));
    where->upload(at + n, sines.data(), n * sizeof(float));
    memory_ = std::move(memory);
    tables_ = {{at, at + n / 2}, {at + n, at + n + n / 2}};
    positions_ = count;
  }

 private:
  buffer memory_;
  rope_tables tables_{};
  std::size_t positions_ = 0;
};

}  // namespace rlvr::cuda
