#pragma once
/// The GPU: memory, a stream, launches, and matrix products by cuBLASLt.

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <map>
#include <memory>
#include <mutex>
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
  if (status == cudaSuccess) return;
  (void)cudaGetLastError();  // it is told here, and not again by the next launch
  throw device_error(call, place, cudaGetErrorString(status));
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

/// What CUDA made and `destroy` gives back.
template <class Handle, auto destroy>
struct owned {
  Handle handle{};
  owned() = default;
  owned(const owned&) = delete;
  owned& operator=(const owned&) = delete;
  ~owned() {
    if (handle) (void)destroy(handle);
  }
};

/// Memory of the device, for as long as it stands.
struct fixed_memory : owned<void*, cudaFree> {
  explicit fixed_memory(std::size_t bytes) { RLVR_CUDA_CHECK(cudaMalloc(&handle, bytes)); }
};

/// A stream that does not wait for the default one.
struct stream : owned<cudaStream_t, cudaStreamDestroy> {
  stream() { RLVR_CUDA_CHECK(cudaStreamCreateWithFlags(&handle, cudaStreamNonBlocking)); }
};

/// Pinned memory between the host's and the device's, in two halves: while the device reads one, the host fills the
/// other. The event of a half says when the device has read it. So an upload waits for nothing but room.
class staging {
 public:
  staging() {
    RLVR_CUDA_CHECK(cudaMallocHost(&memory_.handle, 2 * half));
    for (auto& e : read_) RLVR_CUDA_CHECK(cudaEventCreateWithFlags(&e.handle, cudaEventDisableTiming));
  }

  void upload(void* to, const void* from, std::size_t bytes, cudaStream_t s) {
    for (std::size_t at = 0; at < bytes; at += half) {
      const std::size_t some = std::min(half, bytes - at);
      char* piece = static_cast<char*>(memory_.handle) + next_ * half;
      RLVR_CUDA_CHECK(cudaEventSynchronize(read_[next_].handle));  // returns at once when nothing was recorded yet
      std::memcpy(piece, static_cast<const char*>(from) + at, some);
      RLVR_CUDA_CHECK(cudaMemcpyAsync(static_cast<char*>(to) + at, piece, some, cudaMemcpyHostToDevice, s));
      RLVR_CUDA_CHECK(cudaEventRecord(read_[next_].handle, s));
      next_ = 1 - next_;
    }
  }

 private:
  static constexpr std::size_t half = std::size_t{4} << 20;
  owned<void*, cudaFreeHost> memory_;
  owned<cudaEvent_t, cudaEventDestroy> read_[2];
  int next_ = 0;
};

/// Matrix products; a plan per shape, the first that the library's heuristic offers: the same for the same shape.
class matrix_products {
 public:
  matrix_products() { RLVR_CUDA_CHECK(cublasLtCreate(&handle_.handle)); }

  void run(product_form form, std::int64_t m, std::int64_t n, std::int64_t k, operand a, operand b, operand addend,
           operand c, cudaStream_t stream) {
    if (m == 0 || n == 0 || k == 0) return;
    const operand from = addend.data ? addend : c;
    const key shape{static_cast<std::int64_t>(form),
                    m,
                    n,
                    k,
                    static_cast<std::int64_t>(a.type),
                    static_cast<std::int64_t>(c.type),
                    alignment(a.data),
                    alignment(b.data),
                    std::min(alignment(from.data), alignment(c.data))};
    auto found = plans_.find(shape);
    if (found == plans_.end()) {
      if (plans_.size() >= most_plans) plans_.clear();
      auto made = std::make_unique<plan>();
      make(shape, a.type, c.type, *made);
      found = plans_.emplace(shape, std::move(made)).first;
    }
    plan& p = *found->second;
    const float one = 1.f, beta = addend.data ? 1.f : 0.f;
    // Row-major c = a b is column-major c^T = b^T a^T.
    RLVR_CUDA_CHECK(cublasLtMatmul(handle_.handle, p.operation.handle, &one, b.data, p.left.handle, a.data,
                                   p.right.handle, &beta, from.data, p.result.handle, c.data, p.result.handle,
                                   &p.algorithm, workspace_.handle, workspace_bytes, stream));
  }

 private:
  static constexpr std::size_t workspace_bytes = std::size_t{64} << 20;
  static constexpr std::size_t most_plans = 4096;  ///< weight gradients have one for every number of rows
  using key = std::array<std::int64_t, 9>;
  struct plan {
    owned<cublasLtMatmulDesc_t, cublasLtMatmulDescDestroy> operation;
    owned<cublasLtMatrixLayout_t, cublasLtMatrixLayoutDestroy> left, right, result;
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
    const auto describe = [&](cublasLtMatmulDescAttributes_t what, const auto& value) {
      RLVR_CUDA_CHECK(cublasLtMatmulDescSetAttribute(p.operation.handle, what, &value, sizeof value));
    };
    RLVR_CUDA_CHECK(cublasLtMatmulDescCreate(&p.operation.handle, CUBLAS_COMPUTE_32F, CUDA_R_32F));
    describe(CUBLASLT_MATMUL_DESC_TRANSA, left);
    describe(CUBLASLT_MATMUL_DESC_TRANSB, right);
    const auto layout = [](auto& to, cudaDataType_t type, std::uint64_t rows, std::uint64_t columns) {
      RLVR_CUDA_CHECK(cublasLtMatrixLayoutCreate(&to.handle, type, rows, columns, static_cast<std::int64_t>(rows)));
    };
    layout(p.left, type_of(in), left == CUBLAS_OP_T ? k : n, left == CUBLAS_OP_T ? n : k);
    layout(p.right, type_of(in), right == CUBLAS_OP_T ? m : k, right == CUBLAS_OP_T ? k : m);
    layout(p.result, type_of(out), n, m);

    owned<cublasLtMatmulPreference_t, cublasLtMatmulPreferenceDestroy> preference;
    RLVR_CUDA_CHECK(cublasLtMatmulPreferenceCreate(&preference.handle));
    const auto prefer = [&](cublasLtMatmulPreferenceAttributes_t what, const auto& value) {
      RLVR_CUDA_CHECK(cublasLtMatmulPreferenceSetAttribute(preference.handle, what, &value, sizeof value));
    };
    prefer(CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, workspace_bytes);
    prefer(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, static_cast<std::uint32_t>(shape[7]));
    prefer(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, static_cast<std::uint32_t>(shape[6]));
    prefer(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, static_cast<std::uint32_t>(shape[8]));
    prefer(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, static_cast<std::uint32_t>(shape[8]));
    cublasLtMatmulHeuristicResult_t best{};
    int count = 0;
    RLVR_CUDA_CHECK(cublasLtMatmulAlgoGetHeuristic(handle_.handle, p.operation.handle, p.left.handle, p.right.handle,
                                                   p.result.handle, p.result.handle, preference.handle, 1, &best,
                                                   &count));
    if (count == 0)
      throw device_error("cublasLtMatmulAlgoGetHeuristic", __FILE__ ":" RLVR_CUDA_TEXT(__LINE__),
                         concat("no algorithm for a product of ", m, " x ", n, " x ", k));
    p.algorithm = best.algo;
  }

  owned<cublasLtHandle_t, cublasLtDestroy> handle_;
  fixed_memory workspace_{workspace_bytes};
  std::map<key, std::unique_ptr<plan>> plans_;
};

/// One GPU and one stream, in whose order everything happens: the host runs ahead of the device, and waits only where
/// it asks for numbers. Any thread may call, one at a time.
class gpu_device final : public kernel_device<gpu_device> {
 public:
  explicit gpu_device(int index) : index_(open(index)) {}
  ~gpu_device() override {
    cudaSetDevice(index_);
    cudaStreamSynchronize(stream_.handle);
  }

  void* allocate(std::size_t bytes) override {
    use();
    void* data = nullptr;
    const cudaError_t status = cudaMalloc(&data, std::max<std::size_t>(bytes, 1));
    if (status == cudaErrorMemoryAllocation) {
      (void)cudaGetLastError();
      throw out_of_memory("cudaMalloc", bytes, free_bytes());
    }
    detail::check(status, "cudaMalloc", __FILE__ ":" RLVR_CUDA_TEXT(__LINE__));
    return data;
  }
  void release(void* data) noexcept override {
    cudaSetDevice(index_);
    cudaStreamSynchronize(stream_.handle);  // what is under way may use it
    cudaFree(data);
    (void)cudaGetLastError();  // what cannot be told here is not blamed on the next launch, unless it lasts
  }
  std::size_t free_bytes() override {
    use();
    std::size_t free = 0, total = 0;
    RLVR_CUDA_CHECK(cudaMemGetInfo(&free, &total));
    return free;
  }
  void upload(void* to, const void* from, std::size_t bytes) override {
    use();
    staging_.upload(to, from, bytes, stream_.handle);
  }
  void download(void* to, const void* from, std::size_t bytes) override {
    use();
    RLVR_CUDA_CHECK(cudaMemcpyAsync(to, from, bytes, cudaMemcpyDeviceToHost, stream_.handle));
    synchronize();
  }
  void copy(void* to, const void* from, std::size_t bytes) override {
    use();
    RLVR_CUDA_CHECK(cudaMemcpyAsync(to, from, bytes, cudaMemcpyDeviceToDevice, stream_.handle));
  }
  void clear(void* to, std::size_t bytes) override {
    use();
    RLVR_CUDA_CHECK(cudaMemsetAsync(to, 0, bytes, stream_.handle));
  }
  void synchronize() override {
    use();
    RLVR_CUDA_CHECK(cudaStreamSynchronize(stream_.handle));
  }
  void* stream() override {
    use();
    return stream_.handle;
  }

  using kernel_device::multiply;
  void multiply(product_form form, std::int64_t m, std::int64_t n, std::int64_t k, operand a, operand b, operand addend,
                operand c) override {
    use();
    products_.run(form, m, n, k, a, b, addend, c, stream_.handle);
  }

  template <class Kernel>
  void launch(std::int64_t x, std::int64_t y, const Kernel& kernel) {
    use();
    const std::size_t bytes = shared_bytes_of(kernel);
    if (bytes > 32 * 1024) allow_shared<Kernel>(bytes);  // that of reductions is not in `bytes`
    const dim3 grid(static_cast<unsigned>(x), static_cast<unsigned>(y));
    run_kernel<Kernel><<<grid, threads_of<Kernel>(), bytes, stream_.handle>>>(kernel);
    detail::check(cudaGetLastError(), __PRETTY_FUNCTION__, __FILE__ ":" RLVR_CUDA_TEXT(__LINE__));  // names the kernel
  }
  void* scratch() { return scratch_.handle; }

 private:
  static int open(int index) {
    int driver = 0;
    (void)cudaDriverGetVersion(&driver);
    if (driver == 0)  // cudaSetDevice would say that it is too old
      throw device_error("cudaDriverGetVersion", __FILE__ ":" RLVR_CUDA_TEXT(__LINE__),
                         "no NVIDIA driver is installed, so no GPU can be used");
    RLVR_CUDA_CHECK(cudaSetDevice(index));
    return index;
  }
  void use() const { RLVR_CUDA_CHECK(cudaSetDevice(index_)); }  // which GPU calls go to is a property of the thread

  /// More than 48 KiB of shared memory has to be asked for, kernel by kernel. What is allowed only grows: another
  /// device's thread may be about to launch the same kernel with more.
  template <class Kernel>
  void allow_shared(std::size_t bytes) const {
    static std::mutex one_at_a_time;
    static std::map<int, std::size_t> allowed;  // per GPU
    const std::lock_guard lock(one_at_a_time);
    std::size_t& most = allowed[index_];
    if (bytes <= most) return;
    int limit = 0;
    RLVR_CUDA_CHECK(cudaDeviceGetAttribute(&limit, cudaDevAttrMaxSharedMemoryPerBlockOptin, index_));
    if (bytes > static_cast<std::size_t>(limit))
      throw device_error(__PRETTY_FUNCTION__, __FILE__ ":" RLVR_CUDA_TEXT(__LINE__),
                         concat("a block needs ", bytes, " bytes of shared memory, this GPU has ", limit));
    RLVR_CUDA_CHECK(
        cudaFuncSetAttribute(run_kernel<Kernel>, cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(bytes)));
    most = bytes;
  }

  int index_;
  fixed_memory scratch_{scratch_bytes};
  cuda::stream stream_;
  staging staging_;
  matrix_products products_;
};

}  // namespace rlvr::cuda
