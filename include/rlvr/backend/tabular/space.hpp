#pragma once
/// Vectors of doubles on the host: the plainest model of vector_space, elementwise and tensor_layout.

#include <cmath>
#include <cstddef>
#include <span>
#include <utility>
#include <vector>

#include <rlvr/core/error.hpp>
#include <rlvr/core/vector_space.hpp>

namespace rlvr::tabular {

/// A model of vector_space, elementwise and tensor_layout over std::vector<double>.
class space {
 public:
  using vector = std::vector<double>;

  explicit space(std::size_t dimension) : space({tensor_slot{"x", {dimension}, 0}}) {}

  /// From named tensors that lie one behind the other.
  explicit space(std::vector<tensor_slot> tensors) : tensors_(std::move(tensors)) {
    for (const tensor_slot& t : tensors_) {
      require(t.offset == dimension_, "tabular::space: tensor ", t.name, " begins at ", t.offset, ", expected ",
              dimension_);
      dimension_ += t.size();
    }
  }

  std::size_t dimension() const { return dimension_; }
  std::span<const tensor_slot> tensors() const { return tensors_; }
  vector zero() const { return vector(dimension_, 0.0); }
  void assign(vector& y, const vector& x) const { y = x; }

  void scale(double a, vector& y) const {
    for (double& v : y) v *= a;
  }
  void axpy(double a, const vector& x, vector& y) const {
    for (std::size_t i = 0; i < y.size(); ++i) y[i] += a * x[i];
  }
  double dot(const vector& x, const vector& y) const {
    double sum = 0;
    for (std::size_t i = 0; i < x.size(); ++i) sum += x[i] * y[i];
    return sum;
  }
  template <class F, class... X>
  void map(F f, vector& y, const X&... x) const {
    for (std::size_t i = 0; i < y.size(); ++i) y[i] = f(y[i], x[i]...);
  }

 private:
  std::vector<tensor_slot> tensors_;
  std::size_t dimension_ = 0;
};

}  // namespace rlvr::tabular
