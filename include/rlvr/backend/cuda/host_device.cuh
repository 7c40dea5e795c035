#pragma once
/// The GPU's double for tests: the same kernels, one thread after the other, memory that can be made to run out, calls
/// that can be made to fail, and a count of what a GPU would have been asked to do.

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <map>
#include <vector>

#include <rlvr/backend/cuda/block.cuh>
#include <rlvr/backend/cuda/error.hpp>
#include <rlvr/backend/cuda/kernel_device.cuh>
#include <rlvr/core/error.hpp>

namespace rlvr::cuda {

/// Calls that a GPU's stream would have got. Each download is a wait of the host for the device.
struct call_count {
  std::size_t kernels = 0, products = 0, copies = 0, uploads = 0, downloads = 0, waits = 0;
};

class host_device final : public kernel_device<host_device> {
 public:
  call_count calls;
  std::size_t capacity = std::size_t{1} << 32;     ///< bytes in all
  std::size_t allocations_left = ~std::size_t{0};  ///< the one after them fails
  std::size_t largest_piece = ~std::size_t{0};     ///< of the memory that is free: more at once fails
  std::size_t calls_left = ~std::size_t{0};        ///< those after them fail with device_error and do nothing

  std::size_t used_bytes() const { return used_; }

  void* allocate(std::size_t bytes) override {
    if (allocations_left == 0 || bytes > largest_piece || bytes > free_bytes())
      throw out_of_memory("allocate", bytes, free_bytes());
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
  void upload(void* to, const void* from, std::size_t bytes) override {
    count(calls.uploads, "upload");
    move(to, from, bytes);
  }
  void download(void* to, const void* from, std::size_t bytes) override {
    count(calls.downloads, "download");
    move(to, from, bytes);
  }
  void copy(void* to, const void* from, std::size_t bytes) override {
    count(calls.copies, "copy");
    move(to, from, bytes);
  }
  void clear(void* to, std::size_t bytes) override {
    count(calls.copies, "clear");
    if (bytes > 0) std::memset(to, 0, bytes);
  }
  void synchronize() override { count(calls.waits, "synchronize"); }
  void* stream() override { return nullptr; }

  using kernel_device::multiply;
  void multiply(product_form form, std::int64_t m, std::int64_t n, std::int64_t k, operand a, operand b, operand addend,
                operand c) override {
    count(calls.products, "multiply");
    detail::with_type(a.type, [&]<class In>(In*) {
      detail::with_type(c.type, [&]<class Out>(Out*) {
        const In *x = detail::as<In>(a), *y = detail::as<In>(b);
        Out* z = detail::as<Out>(c);
        const Out* plus = detail::as<Out>(addend);
        for (std::int64_t i = 0; i < m; ++i)
          for (std::int64_t j = 0; j < n; ++j) {
            float sum = plus ? cuda::load(plus, i * n + j) : 0.f;
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
    count(calls.kernels, "launch");
    const std::size_t bytes = shared_bytes_of(kernel);
    require(x < std::int64_t{1} << 31 && y < 65536 && bytes <= 163 * 1024, "cuda: a grid of ", x, " x ", y,
            " blocks with ", bytes, " bytes of shared memory is more than an A100 has");
    if (shared_.size() * sizeof(block_memory) < bytes) shared_.resize(bytes / sizeof(block_memory) + 1);
    auto* memory = reinterpret_cast<std::byte*>(shared_.data());
    for (std::int64_t j = 0; j < y; ++j)
      for (std::int64_t i = 0; i < x; ++i) {
        if (bytes > 0) std::memset(memory, 0xff, bytes);
        host_block b{static_cast<int>(i), static_cast<int>(j), memory};
        kernel(b);
      }
  }
  void* scratch() {
    if (scratch_.empty()) scratch_.resize(scratch_bytes / sizeof(double));
    return scratch_.data();
  }

 private:
  void count(std::size_t& calls_of_kind, const char* call) {
    if (calls_left == 0) throw device_error(call, "host_device", "no calls are left");
    --calls_left;
    ++calls_of_kind;
  }
  static void move(void* to, const void* from, std::size_t bytes) {
    if (bytes > 0) std::memcpy(to, from, bytes);
  }
  struct alignas(128) block_memory {
    std::byte bytes[128];
  };
  std::map<void*, std::size_t> sizes_;
  std::size_t used_ = 0;
  std::vector<block_memory> shared_;
  std::vector<double> scratch_;
};

}  // namespace rlvr::cuda
