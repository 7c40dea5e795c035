#pragma once
/// The parameter space of the CPU decoder: flat float or double arrays with named tensors.

#include <algorithm>
#include <cstddef>
#include <span>
#include <utility>
#include <vector>

#include <rlvr/backend/eigen/eigen_core.hpp>
#include <rlvr/core/error.hpp>
#include <rlvr/core/vector_space.hpp>

namespace rlvr::eigen {

/// Models vector_space, elementwise and tensor_layout over Eigen column vectors of T.
template <class T>
class space {
 public:
  using scalar = T;
  using vector = Eigen::Matrix<T, Eigen::Dynamic, 1>;

  explicit space(std::vector<tensor_slot> tensors) : tensors_(std::move(tensors)) {
    for (const tensor_slot& t : tensors_) {
      require(t.offset == dimension_, "eigen::space: tensor ", t.name, " begins at ", t.offset, ", expected ",
              dimension_);
      dimension_ += t.size();
    }
  }

  std::size_t dimension() const { return dimension_; }
  std::span<const tensor_slot> tensors() const { return tensors_; }
  vector zero() const { return vector::Zero(static_cast<Eigen::Index>(dimension_)); }
  void assign(vector& y, const vector& x) const { std::copy_n(x.data(), dimension_, y.data()); }
  void scale(double a, vector& y) const { y *= static_cast<T>(a); }

  /// Each coordinate is rounded once, from a sum in double: a small step is not lost twice.
  void axpy(double a, const vector& x, vector& y) const {
    const T* from = x.data();
    T* to = y.data();
    for (std::size_t i = 0; i < dimension_; ++i)
      to[i] = static_cast<T>(static_cast<double>(to[i]) + a * static_cast<double>(from[i]));
  }

  /// Blocks of 8 lanes in double, summed in order: the same bits every time.
  double dot(const vector& x, const vector& y) const {
    const T* a = x.data();
    const T* b = y.data();
    double lane[8] = {};
    std::size_t i = 0;
    for (; i + 8 <= dimension_; i += 8)
      for (std::size_t l = 0; l < 8; ++l) lane[l] += static_cast<double>(a[i + l]) * static_cast<double>(b[i + l]);
    for (std::size_t l = 0; i < dimension_; ++i, ++l) lane[l] += static_cast<double>(a[i]) * static_cast<double>(b[i]);
    double sum = 0;
    for (double v : lane) sum += v;
    return sum;
  }

  template <class F, class... X>
  void map(F f, vector& y, const X&... x) const {
    T* to = y.data();
    for (std::size_t i = 0; i < dimension_; ++i) to[i] = f(to[i], x.data()[i]...);
  }

 private:
  std::vector<tensor_slot> tensors_;
  std::size_t dimension_ = 0;
};

}  // namespace rlvr::eigen
