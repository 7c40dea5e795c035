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
#include <rlvr/backend/cuda/error.hpp>
#include <rlvr/core/error.hpp>
#include <rlvr/core/vector_space.hpp>

namespace rlvr::cuda {

/// Memory on a device, given back when it goes out of scope. Movable. Throws out_of_memory, not before what the device
/// keeps for later was given back.
class buffer {
 public:
  buffer() = default;
  buffer(std::shared_ptr<device> where, std::size_t bytes)
      : device_(std::move(where)), data_(allocate(*device_, bytes)), bytes_(bytes) {}
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
  static void* allocate(device& d, std::size_t bytes) {
    try {
      return d.allocate(bytes);
    } catch (const out_of_memory&) {
      bool given_back = false;
      for (const std::weak_ptr<buffer>& kept : d.kept)
        if (const std::shared_ptr<buffer> memory = kept.lock(); memory && memory->data_) {
          *memory = buffer();
          given_back = true;
        }
      if (!given_back) throw;
    }
    return d.allocate(bytes);
  }

  std::shared_ptr<device> device_;
  void* data_ = nullptr;
  std::size_t bytes_ = 0;
};

/// Bytes that the device keeps for later, and gives back when they are needed.
inline std::size_t kept_bytes(const device& d) {
  std::size_t bytes = 0;
  for (const std::weak_ptr<buffer>& kept : d.kept)
    if (const std::shared_ptr<buffer> memory = kept.lock()) bytes += memory->bytes();
  return bytes;
}

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

  /// Throws out_of_memory, which says what for.
  vector zero() const {
    vector out;
    try {
      out = vector(device_, dimension_);
    } catch (const out_of_memory& e) {
      throw out_of_memory(concat("another vector of ", dimension_, " parameters"), e.bytes(), device_->free_bytes());
    }
    device_->clear(out.data(), dimension_ * sizeof(float));
    return out;
  }
  void assign(vector& y, const vector& x) const { device_->copy(y.data(), x.data(), dimension_ * sizeof(float)); }
  void scale(double a, vector& y) const { device_->scale(a, y.data(), dimension_); }
  /// Each coordinate is rounded once, from a sum in double.
  void axpy(double a, const vector& x, vector& y) const { device_->axpy(a, x.data(), y.data(), dimension_); }
  double dot(const vector& x, const vector& y) const { return device_->dot(x.data(), y.data(), dimension_); }

  /// Inner products of all pairs of vectors, row-major. Up to 16 vectors are read once each; of more, each is read once
  /// for every 8 of the others.
  std::vector<double> gram(std::span<const vector* const> x) const {
    constexpr std::size_t most = 16, half = most / 2;
    const std::size_t count = x.size(), step = count <= most ? most : half;
    std::vector<double> out(count * count);
    for (std::size_t i = 0; i < count; i += step)
      for (std::size_t j = count <= most ? i : i + step; j < count; j += step) {
        std::vector<std::size_t> some;
        for (std::size_t k = i; k < std::min(i + step, count); ++k) some.push_back(k);
        for (std::size_t k = j; k < std::min(j + step, count) && j > i; ++k) some.push_back(k);
        std::vector<const float*> data;
        for (const std::size_t k : some) data.push_back(x[k]->data());
        std::vector<double> part(some.size() * some.size());
        device_->gram(data, dimension_, part.data());
        for (std::size_t a = 0; a < some.size(); ++a)
          for (std::size_t b = 0; b < some.size(); ++b) out[some[a] * count + some[b]] = part[a * some.size() + b];
      }
    return out;
  }

  /// What is made of the step from theta to theta + alpha d in weights of that type.
  step_report survival(const vector& theta, double alpha, const vector& d, scalar_type weights) const {
    return device_->step_survival(theta.data(), alpha, d.data(), weights, dimension_);
  }

  /// The maps of adamw run on the device. Any other f runs on the host: the vectors pass through it in pieces, at the
  /// speed of the bus. <rlvr/backend/cuda/map.cuh> maps what .cu files compile.
  template <class F, class... X>
  void map(F f, vector& y, const X&... x) const {
    if constexpr (requires { device_->map(f, y.data(), dimension_, x.data()...); })
      device_->map(f, y.data(), dimension_, x.data()...);
    else
      map_on_host(f, y, x...);
  }

  /// y <- x, from and to the host. Throws std::invalid_argument when sizes differ.
  void upload(std::span<const float> x, vector& y) const {
    require(x.size() == dimension_, "cuda::space::upload: ", x.size(), " numbers, expected ", dimension_);
    upload(0, x, y);
  }
  void download(const vector& x, std::span<float> y) const {
    require(y.size() == dimension_, "cuda::space::download: ", y.size(), " numbers, expected ", dimension_);
    download(x, 0, y);
  }
  /// The same for coordinates from `first` on. Throws std::invalid_argument when there are not so many.
  void upload(std::size_t first, std::span<const float> x, vector& y) const {
    check_range("upload", first, x.size());
    device_->upload(y.data() + first, x.data(), x.size() * sizeof(float));
  }
  void download(const vector& x, std::size_t first, std::span<float> y) const {
    check_range("download", first, y.size());
    device_->download(y.data(), x.data() + first, y.size() * sizeof(float));
  }

 private:
  void check_range(const char* where, std::size_t first, std::size_t count) const {
    require(first <= dimension_ && count <= dimension_ - first, "cuda::space::", where, ": coordinates ", first, " to ",
            first + count, " of ", dimension_);
  }
  template <class F, class... X>
  void map_on_host(F f, vector& y, const X&... x) const {
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
  template <class F, class From, std::size_t... K>
  static void apply(F& f, std::vector<float>& to, const From& from, std::size_t n, std::index_sequence<K...>) {
    for (std::size_t i = 0; i < n; ++i) to[i] = f(to[i], from[K][i]...);
  }

  std::shared_ptr<device> device_;
  std::vector<tensor_slot> tensors_;
  std::size_t dimension_ = 0;
};

}  // namespace rlvr::cuda
