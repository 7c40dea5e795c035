#pragma once
/// The GPU's double for tests: the same kernels, one thread after the other, and memory that can be made to run out.

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <map>
#include <vector>

#include <rlvr/backend/cuda/block.cuh>
#include <rlvr/backend/cuda/error.hpp>
#include <rlvr/backend/cuda/kernel_device.cuh>

namespace rlvr::cuda {

class host_device final : public kernel_device<host_device> {
 public:
  std::size_t capacity = std::size_t{1} << 32;     ///< bytes in all
  std::size_t allocations_left = ~std::size_t{0};  ///< the one after them fails

  std::size_t used_bytes() const { return used_; }

  void* allocate(std::size_t bytes) override {
    if (allocations_left == 0 || bytes > free_bytes()) throw out_of_memory("allocate", bytes, free_bytes());
    --allocations_left;
    // As on a GPU: aligned, and not cleared. All bits set is NaN in float and bfloat16.
    void* data = std::aligned_alloc(256, (bytes + 255) / 256 * 256);
    std::memset(data, 0xff, bytes);
    sizes_[data] = bytes;
    used_ += bytes;
    return data;
  }
  void release(void* data) noexcept override {
    const auto found = sizes_.find(data);
    if (found == sizes_.end()) return;
    used_ -= found->second;
    sizes_.erase(found);
    std::free(data);
  }
  std::size_t free_bytes() override { return capacity - used_; }
  void upload(void* to, const void* from, std::size_t bytes) override { copy(to, from, bytes); }
  void download(void* to, const void* from, std::size_t bytes) override { copy(to, from, bytes); }
  void copy(void* to, const void* from, std::size_t bytes) override {
    if (bytes > 0) std::memcpy(to, from, bytes);
  }
  void clear(void* to, std::size_t bytes) override {
    if (bytes > 0) std::memset(to, 0, bytes);
  }
  void synchronize() override {}

  void multiply(product_form form, std::int64_t m, std::int64_t n, std::int64_t k, operand a, operand b, operand c,
                result_mode mode) override {
    detail::with_type(a.type, [&](auto* in) {
      detail::with_type(c.type, [&](auto* out) {
        const auto *x = detail::as(a, in), *y = detail::as(b, in);
        auto* z = detail::as(c, out);
        for (std::int64_t i = 0; i < m; ++i)
          for (std::int64_t j = 0; j < n; ++j) {
            float sum = mode == result_mode::add ? cuda::load(z, i * n + j) : 0.f;
            for (std::int64_t p = 0; p < k; ++p)
              sum += cuda::load(x, form == product_form::tn ? p * m + i : i * k + p) *
                     cuda::load(y, form == product_form::nt ? j * k + p : p * n + j);
            cuda::store(z, i * n + j, sum);
          }
      });
    });
  }

  template <class Kernel>
  void launch(std::int64_t x, std::int64_t y, const Kernel& kernel) {
    const std::size_t bytes = kernel.shared_bytes();
    if (shared_.size() * sizeof(block_memory) < bytes) shared_.resize(bytes / sizeof(block_memory) + 1);
    auto* memory = reinterpret_cast<std::byte*>(shared_.data());
    for (std::int64_t j = 0; j < y; ++j)
      for (std::int64_t i = 0; i < x; ++i) {
        if (bytes > 0) std::memset(memory, 0xff, bytes);
        host_block b{static_cast<int>(i), static_cast<int>(j), memory};
        kernel(b);
      }
  }
  void* scratch(std::size_t bytes) {
    if (scratch_.size() < bytes / sizeof(double) + 1) scratch_.resize(bytes / sizeof(double) + 1);
    return scratch_.data();
  }

 private:
  struct alignas(128) block_memory {
    std::byte bytes[128];
  };
  std::map<void*, std::size_t> sizes_;
  std::size_t used_ = 0;
  std::vector<block_memory> shared_;
  std::vector<double> scratch_;
};

}  // namespace rlvr::cuda
