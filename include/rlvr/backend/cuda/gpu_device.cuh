#pragma once
/// The GPU: memory, a stream, launches, and matrix products by cuBLASLt.

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <map>
#include <string>
#include <utility>

#include <cublasLt.h>
#include <cuda_runtime.h>

#include <rlvr/backend/cuda/error.hpp>
#include <rlvr/backend/cuda/kernel_device.cuh>
#include <rlvr/core/error.hpp>

namespace rlvr::cuda {

namespace detail {
inline void check(cudaError_t status, const char* call, const char* place) {
  if (status != cudaSuccess) throw device_error(call, place, cudaGetErrorString(status));
}
inline void check(cublasStatus_t status, const char* call, const char* place) {
  if (status != CUBLAS_STATUS_SUCCESS) throw device_error(call, place, cublasLtGetStatusString(status));
}
}  // namespace detail

#define RLVR_CUDA_TEXT_OF(x) #x
#define RLVR_CUDA_TEXT(x) RLVR_CUDA_TEXT_OF(x)
/// Throws device_error with the call and its place unless it succeeds.
#define RLVR_CUDA_CHECK(...) \
  ::rlvr::cuda::detail::check(__VA_ARGS__, #__VA_ARGS__, __FILE__ ":" RLVR_CUDA_TEXT(__LINE__))

template <class Kernel>
__global__ void __launch_bounds__(block_threads) run_kernel(const Kernel kernel) {
  thread_block b{static_cast<int>(blockIdx.x), static_cast<int>(blockIdx.y)};
  kernel(b);
}

/// A stream that does not wait for the default one.
class stream {
 public:
  stream() { RLVR_CUDA_CHECK(cudaStreamCreateWithFlags(&handle_, cudaStreamNonBlocking)); }
  stream(const stream&) = delete;
  stream& operator=(const stream&) = delete;
  ~stream() { cudaStreamDestroy(handle_); }
  cudaStream_t get() const { return handle_; }

 private:
  cudaStream_t handle_ = nullptr;
};

/// Matrix products; a plan per shape, the first that the library's heuristic offers.
class matrix_products {
 public:
  matrix_products() {
    RLVR_CUDA_CHECK(cublasLtCreate(&handle_));
    const cudaError_t status = cudaMalloc(&workspace_, workspace_bytes);
    if (status == cudaSuccess) return;
    cublasLtDestroy(handle_);
    RLVR_CUDA_CHECK(status);
  }
  matrix_products(const matrix_products&) = delete;
  matrix_products& operator=(const matrix_products&) = delete;
  ~matrix_products() {
    for (auto& entry : plans_) release(entry.second);
    cudaFree(workspace_);
    cublasLtDestroy(handle_);
  }

  void run(product_form form, std::int64_t m, std::int64_t n, std::int64_t k, operand a, operand b, operand c,
           result_mode mode, cudaStream_t stream) {
    if (m == 0 || n == 0 || k == 0) return;
    const key shape{static_cast<std::int64_t>(form),
                    m,
                    n,
                    k,
                    static_cast<std::int64_t>(a.type),
                    static_cast<std::int64_t>(c.type),
                    alignment(a.data),
                    alignment(b.data),
                    alignment(c.data)};
    auto found = plans_.find(shape);
    if (found == plans_.end()) {
      plan made;
      try {
        make(shape, a.type, c.type, made);
      } catch (...) {
        release(made);
        throw;
      }
      found = plans_.emplace(shape, made).first;
    }
    plan& p = found->second;
    const float one = 1.f, beta = mode == result_mode::add ? 1.f : 0.f;
    // Row-major c = a b is column-major c^T = b^T a^T.
    RLVR_CUDA_CHECK(cublasLtMatmul(handle_, p.operation, &one, b.data, p.left, a.data, p.right, &beta, c.data, p.result,
                                   c.data, p.result, &p.algorithm, workspace_, workspace_bytes, stream));
  }

 private:
  static constexpr std::size_t workspace_bytes = std::size_t{64} << 20;
  using key = std::array<std::int64_t, 9>;
  struct plan {
    cublasLtMatmulDesc_t operation = nullptr;
    cublasLtMatrixLayout_t left = nullptr, right = nullptr, result = nullptr;
    cublasLtMatmulAlgo_t algorithm{};
  };

  static std::int64_t alignment(const void* data) {
    const auto address = reinterpret_cast<std::uintptr_t>(data);
    return std::min<std::int64_t>(256, static_cast<std::int64_t>(address & (~address + 1)));
  }
  static cudaDataType_t type_of(scalar_type type) { return type == scalar_type::float32 ? CUDA_R_32F : CUDA_R_16BF; }

  void make(const key& shape, scalar_type in, scalar_type out, plan& p) {
    const auto form = static_cast<product_form>(shape[0]);
    const auto m = static_cast<std::uint64_t>(shape[1]), n = static_cast<std::uint64_t>(shape[2]),
               k = static_cast<std::uint64_t>(shape[3]);
    const cublasOperation_t left = form == product_form::nt ? CUBLAS_OP_T : CUBLAS_OP_N;
    const cublasOperation_t right = form == product_form::tn ? CUBLAS_OP_T : CUBLAS_OP_N;
    RLVR_CUDA_CHECK(cublasLtMatmulDescCreate(&p.operation, CUBLAS_COMPUTE_32F, CUDA_R_32F));
    RLVR_CUDA_CHECK(cublasLtMatmulDescSetAttribute(p.operation, CUBLASLT_MATMUL_DESC_TRANSA, &left, sizeof left));
    RLVR_CUDA_CHECK(cublasLtMatmulDescSetAttribute(p.operation, CUBLASLT_MATMUL_DESC_TRANSB, &right, sizeof right));
    const auto layout = [](cublasLtMatrixLayout_t& to, cudaDataType_t type, std::uint64_t rows, std::uint64_t columns) {
      RLVR_CUDA_CHECK(cublasLtMatrixLayoutCreate(&to, type, rows, columns, static_cast<std::int64_t>(rows)));
    };
    layout(p.left, type_of(in), left == CUBLAS_OP_T ? k : n, left == CUBLAS_OP_T ? n : k);
    layout(p.right, type_of(in), right == CUBLAS_OP_T ? m : k, right == CUBLAS_OP_T ? k : m);
    layout(p.result, type_of(out), n, m);

    cublasLtMatmulPreference_t preference = nullptr;
    RLVR_CUDA_CHECK(cublasLtMatmulPreferenceCreate(&preference));
    const auto prefer = [&](cublasLtMatmulPreferenceAttributes_t what, const auto& value) {
      return cublasLtMatmulPreferenceSetAttribute(preference, what, &value, sizeof value);
    };
    cublasLtMatmulHeuristicResult_t best{};
    int count = 0;
    cublasStatus_t status = prefer(CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, workspace_bytes);
    const auto aligned = [&](cublasLtMatmulPreferenceAttributes_t what, std::int64_t bytes) {
      if (status == CUBLAS_STATUS_SUCCESS) status = prefer(what, static_cast<std::uint32_t>(bytes));
    };
    aligned(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, shape[7]);
    aligned(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, shape[6]);
    aligned(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, shape[8]);
    aligned(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, shape[8]);
    if (status == CUBLAS_STATUS_SUCCESS)
      status = cublasLtMatmulAlgoGetHeuristic(handle_, p.operation, p.left, p.right, p.result, p.result, preference, 1,
                                              &best, &count);
    cublasLtMatmulPreferenceDestroy(preference);
    RLVR_CUDA_CHECK(status);
    if (count == 0)
      throw device_error("cublasLtMatmulAlgoGetHeuristic", __FILE__ ":" RLVR_CUDA_TEXT(__LINE__),
                         concat("no algorithm for a product of ", m, " x ", n, " x ", k));
    p.algorithm = best.algo;
  }
  static void release(plan& p) {
    cublasLtMatrixLayoutDestroy(p.left);
    cublasLtMatrixLayoutDestroy(p.right);
    cublasLtMatrixLayoutDestroy(p.result);
    cublasLtMatmulDescDestroy(p.operation);
  }

  cublasLtHandle_t handle_ = nullptr;
  void* workspace_ = nullptr;
  std::map<key, plan> plans_;
};

class gpu_device final : public kernel_device<gpu_device> {
 public:
  explicit gpu_device(int index) : index_(select(index)) {}
  ~gpu_device() override {
    cudaStreamSynchronize(stream_.get());
    cudaFree(scratch_);
  }

  void* allocate(std::size_t bytes) override {
    void* data = nullptr;
    const cudaError_t status = cudaMalloc(&data, std::max<std::size_t>(bytes, 1));
    if (status == cudaErrorMemoryAllocation) {
      (void)cudaGetLastError();  // it is told here, and not again by the next call
      throw out_of_memory("cudaMalloc", bytes, free_bytes());
    }
    RLVR_CUDA_CHECK(status);
    return data;
  }
  void release(void* data) noexcept override { cudaFree(data); }  // waits for what is under way
  std::size_t free_bytes() override {
    std::size_t free = 0, total = 0;
    RLVR_CUDA_CHECK(cudaMemGetInfo(&free, &total));
    return free;
  }
  void upload(void* to, const void* from, std::size_t bytes) override {
    RLVR_CUDA_CHECK(cudaMemcpyAsync(to, from, bytes, cudaMemcpyHostToDevice, stream_.get()));
    synchronize();
  }
  void download(void* to, const void* from, std::size_t bytes) override {
    RLVR_CUDA_CHECK(cudaMemcpyAsync(to, from, bytes, cudaMemcpyDeviceToHost, stream_.get()));
    synchronize();
  }
  void copy(void* to, const void* from, std::size_t bytes) override {
    RLVR_CUDA_CHECK(cudaMemcpyAsync(to, from, bytes, cudaMemcpyDeviceToDevice, stream_.get()));
  }
  void clear(void* to, std::size_t bytes) override { RLVR_CUDA_CHECK(cudaMemsetAsync(to, 0, bytes, stream_.get())); }
  void synchronize() override { RLVR_CUDA_CHECK(cudaStreamSynchronize(stream_.get())); }

  void multiply(product_form form, std::int64_t m, std::int64_t n, std::int64_t k, operand a, operand b, operand c,
                result_mode mode) override {
    products_.run(form, m, n, k, a, b, c, mode, stream_.get());
  }

  template <class Kernel>
  void launch(std::int64_t x, std::int64_t y, const Kernel& kernel) {
    const std::size_t bytes = kernel.shared_bytes();
    if (bytes > 48 * 1024)  // more than this has to be asked for
      RLVR_CUDA_CHECK(cudaFuncSetAttribute(run_kernel<Kernel>, cudaFuncAttributeMaxDynamicSharedMemorySize,
                                           static_cast<int>(bytes)));
    const dim3 grid(static_cast<unsigned>(x), static_cast<unsigned>(y));
    run_kernel<Kernel><<<grid, block_threads, bytes, stream_.get()>>>(kernel);
    RLVR_CUDA_CHECK(cudaGetLastError());
  }
  void* scratch(std::size_t bytes) {
    if (scratch_bytes_ >= bytes) return scratch_;
    void* larger = allocate(bytes);
    cudaFree(scratch_);
    scratch_ = larger;
    scratch_bytes_ = bytes;
    return scratch_;
  }

 private:
  static int select(int index) {
    RLVR_CUDA_CHECK(cudaSetDevice(index));
    return index;
  }
  int index_;
  stream stream_;
  matrix_products products_;
  void* scratch_ = nullptr;
  std::size_t scratch_bytes_ = 0;
};

}  // namespace rlvr::cuda
