#pragma once
/// Exponential decay per step, applied when it is looked at.

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <vector>

#include <rlvr/core/error.hpp>
#include <rlvr/core/exponential.hpp>

namespace rlvr {

/// factor^steps, in straight-line code that vectorises.
class step_decay {
 public:
  /// Throws std::invalid_argument unless 0 < factor <= 1.
  explicit step_decay(double factor = 1) : log_(std::log(factor)) {
    require(factor > 0 && factor <= 1, "decay: factor is ", factor, ", outside (0, 1]");
  }

  /// steps below 2^31.
  double over(std::uint64_t steps) const {
    return vector_exp(log_ * static_cast<double>(static_cast<std::int32_t>(steps)));
  }

  /// Over the steps between the last visit and one at `step`, both not counted: each of those two has a rule of its
  /// own.
  double until_visit(std::uint64_t last, std::uint64_t step) const {
    return step > last + 1 ? over(step - last - 1) : 1.0;
  }

 private:
  double log_;
};

/// Visits per prompt and in all, fading by a factor at every step. 8 bytes per prompt (float32 counts).
class fading_visits {
 public:
  /// Throws std::invalid_argument for a factor outside (0, 1].
  fading_visits(std::size_t pool, double factor) : fade_(factor), count_(pool), touched_(pool) {}

  std::size_t size() const { return count_.size(); }
  std::uint64_t step() const { return step_; }
  double total() const { return total_; }
  double operator[](std::size_t i) const { return fade_.over(step_ - touched_[i]) * static_cast<double>(count_[i]); }

  /// Counts a visit at `step`, or at the prompt's last one when that was later. Returns what is left then of the
  /// prompt's earlier visits.
  double add(std::size_t i, std::uint64_t step) {
    const std::uint64_t at = std::max<std::uint64_t>(touched_[i], step);
    const double earlier = fade_.over(at - touched_[i]) * static_cast<double>(count_[i]);
    count_[i] = static_cast<float>(earlier + 1);
    touched_[i] = static_cast<std::uint32_t>(at);
    // a late visit is one that the steps since have faded already
    total_ = at > step_ ? fade_.over(at - step_) * total_ + 1 : total_ + fade_.over(step_ - at);
    step_ = std::max(step_, at);
    return earlier;
  }

  template <class Self, class Visit>
  static void visit_state(Self& self, Visit&& visit) {
    visit(self.step_, "step");
    visit(self.total_, "total");
    visit(self.count_, "visits");
    visit(self.touched_, "touched");
  }

 private:
  step_decay fade_;
  std::vector<float> count_;
  std::vector<std::uint32_t> touched_;  ///< the step of the last visit
  std::uint64_t step_ = 0;
  double total_ = 0;
};

}  // namespace rlvr
