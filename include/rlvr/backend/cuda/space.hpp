#pragma once
/// The parameter space of the CUDA decoder: floats on a device, with named tensors.

#include <algorithm>
#include <array>
#include <cstddef>
#include <memory>
#include <span>
#include <utility>
#include <vector>

#include <rlvr/backend/cuda/device.hpp>
#include <rlvr/core/error.hpp>
#include <rlvr/core/vector_space.hpp>

namespace rlvr::cuda {

/// Memory on a device, given back when it goes out of scope. Movable. Throws out_of_memory.
class buffer {
 public:
  buffer() = default;
  buffer(std::shared_ptr<device> where, std::size_t bytes)
      : device_(std::move(where)), data_(device_->allocate(bytes)), bytes_(bytes) {}
  buffer(buffer&& other) noexcept
      : device_(std::move(other.device_)),
        data_(std::exchange(other.data_, nullptr)),
        bytes_(std::exchange(other.bytes_, 0)) {}
  buffer& operator=(buffer&& other) noexcept {
    std::swap(device_, other.device_);
    std::swap(data_, other.data_);
    std::swap(bytes_, other.bytes_);
    return *this;
  }
  ~buffer() {
    if (data_) device_->release(data_);
  }

  void* data() const { return data_; }
  std::size_t bytes() const { return bytes_; }

 private:
  std::shared_ptr<device> device_;
  void* data_ = nullptr;
  std::size_t bytes_ = 0;
};

/// A vector of a space: floats on its device.
class device_vector {
 public:
  device_vector() = default;
  device_vector(std::shared_ptr<device> where, std::size_t size)
      : memory_(std::move(where), size * sizeof(float)), size_(size) {}
  device_vector(device_vector&& other) noexcept
      : memory_(std::move(other.memory_)), size_(std::exchange(other.size_, 0)) {}
  device_vector& operator=(device_vector&& other) noexcept {
    memory_ = std::move(other.memory_);
    std::swap(size_, other.size_);
    return *this;
  }
  float* data() { return static_cast<float*>(memory_.data()); }
  const float* data() const { return static_cast<const float*>(memory_.data()); }
  std::size_t size() const { return size_; }

 private:
  buffer memory_;
  std::size_t size_ = 0;
};

/// Models vector_space, elementwise and tensor_layout over floats on a device. `dot` and `gram` sum in double over
/// fixed spans of coordinates: the same bits every time. Calls that return no number do not wait for the device.
class space {
 public:
  using scalar = float;
  using vector = device_vector;

  space(std::shared_ptr<device> where, std::vector<tensor_slot> tensors)
      : device_(std::move(where)), tensors_(std::move(tensors)) {
    for (const tensor_slot& t : tensors_) {
      require(t.offset == dimension_, "cuda::space: tensor ", t.name, " begins at ", t.offset, ", expected ",
              dimension_);
      dimension_ += t.size();
    }
  }

  std::size_t dimension() const { return dimension_; }
  std::span<const tensor_slot> tensors() const { return tensors_; }
  const std::shared_ptr<device>& where() const { return device_; }

  /// Throws out_of_memory.
  vector zero() const {
    vector out(device_, dimension_);
    device_->clear(out.data(), dimension_ * sizeof(float));
    return out;
  }
  void assign(vector& y, const vector& x) const { device_->copy(y.data(), x.data(), dimension_ * sizeof(float)); }
  void scale(double a, vector& y) const { device_->scale(a, y.data(), dimension_); }
  /// Each coordinate is rounded once, from a sum in double.
  void axpy(double a, const vector& x, vector& y) const { device_->axpy(a, x.data(), y.data(), dimension_); }
  double dot(const vector& x, const vector& y) const { return device_->dot(x.data(), y.data(), dimension_); }

  /// Inner products of all pairs of up to 16 vectors, row-major; each vector is read once.
  std::vector<double> gram(std::span<const vector* const> x) const {
    std::vector<const float*> data;
    for (const vector* v : x) data.push_back(v->data());
    std::vector<double> out(x.size() * x.size());
    device_->gram(data, dimension_, out.data());
    return out;
  }

  /// How much of theta + alpha d is left when weights are rounded to bfloat16.
  step_report survival(const vector& theta, double alpha, const vector& d) const {
    return device_->step_survival(theta.data(), alpha, d.data(), dimension_);
  }

  /// f runs on the host: the vectors pass through it in pieces, at the speed of the bus. <rlvr/backend/cuda/map.cuh>
  /// has a map for .cu files that runs on the device.
  template <class F, class... X>
  void map(F f, vector& y, const X&... x) const {
    constexpr std::size_t piece = std::size_t{1} << 20;
    std::vector<float> to(std::min(piece, dimension_));
    std::array<std::vector<float>, sizeof...(X)> from;
    for (std::vector<float>& v : from) v.resize(to.size());
    for (std::size_t at = 0; at < dimension_; at += piece) {
      const std::size_t n = std::min(piece, dimension_ - at);
      device_->download(to.data(), y.data() + at, n * sizeof(float));
      std::size_t k = 0;
      (device_->download(from[k++].data(), x.data() + at, n * sizeof(float)), ...);
      apply(f, to, from, n, std::make_index_sequence<sizeof...(X)>());
      device_->upload(y.data() + at, to.data(), n * sizeof(float));
    }
  }

  /// y <- x, from and to the host. Throws std::invalid_argument when sizes differ.
  void upload(std::span<const float> x, vector& y) const {
    require(x.size() == dimension_, "cuda::space::upload: ", x.size(), " numbers, expected ", dimension_);
    device_->upload(y.data(), x.data(), x.size() * sizeof(float));
  }
  void download(const vector& x, std::span<float> y) const {
    require(y.size() == dimension_, "cuda::space::download: ", y.size(), " numbers, expected ", dimension_);
    device_->download(y.data(), x.data(), y.size() * sizeof(float));
  }

 private:
  template <class F, class From, std::size_t... K>
  static void apply(F& f, std::vector<float>& to, const From& from, std::size_t n, std::index_sequence<K...>) {
    for (std::size_t i = 0; i < n; ++i) to[i] = f(to[i], from[K][i]...);
  }

  std::shared_ptr<device> device_;
  std::vector<tensor_slot> tensors_;
  std::size_t dimension_ = 0;
};

}  // namespace rlvr::cuda
