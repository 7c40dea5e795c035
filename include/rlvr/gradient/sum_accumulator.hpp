#pragma once
/// A sum of weighted score vectors that workers anywhere can add to and merge.

#include <cstddef>
#include <span>
#include <utility>

#include <rlvr/core/error.hpp>
#include <rlvr/core/policy.hpp>

namespace rlvr {

/// sum_t c_t grad log pi(y_t | y_<t) over all rollouts added, and how many rollouts that were.
///
/// A value: sums of disjoint batches merge into the sum of all, up to rounding. It does not hold the space,
/// so it may outlive the policy it was made with; the space handed to `merge` is one equal to that of the
/// constructor. Nothing is divided: a mean is an explicit weight in the coefficients. One vector of memory.
template <vector_space S>
class sum_accumulator {
 public:
  explicit sum_accumulator(const S& space) : sum_(space.zero()) {}

  /// From a sum and its count, for instance read from a file.
  sum_accumulator(vector_t<S> sum, std::size_t count) : sum_(std::move(sum)), count_(count) {}

  /// Adds the rollouts' weighted scores; `count` says how many rollouts they stand for.
  /// Throws what policy.accumulate_score throws; the count is then unchanged, and so is the sum when the
  /// policy reports a broken precondition.
  template <differentiable P>
  requires std::same_as<space_t<P>, S>
  void add(P& policy, const ragged<token>& prompts, const rollouts& r, std::span<const double> coefficients,
           double temperature, std::size_t count) {
    policy.accumulate_score(prompts, r, coefficients, temperature, sum_);
    count_ += count;
  }

  /// Adds a sum of weighted scores that stands by itself, of `count` rollouts. O(dimension).
  void add(const S& space, const vector_t<S>& sum, std::size_t count) {
    space.axpy(1.0, sum, sum_);
    count_ += count;
  }

  /// Adds another sum. Throws std::invalid_argument when it is this one.
  void merge(const S& space, const sum_accumulator& other) {
    require(this != &other, "sum_accumulator: merge with itself");
    add(space, other.sum_, other.count_);
  }

  const vector_t<S>& sum() const { return sum_; }
  std::size_t count() const { return count_; }

 private:
  vector_t<S> sum_;
  std::size_t count_ = 0;
};

}  // namespace rlvr
