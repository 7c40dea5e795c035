#pragma once
/// Trackers of how a prompt's rewards move: exponentially weighted, or over a window of visits.

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <string_view>
#include <vector>

#include <rlvr/core/error.hpp>
#include <rlvr/select/selector.hpp>

namespace rlvr {

/// Mean and variance of a prompt's rewards, as one or the other tracker weighs them.
struct reward_belief {
  double mean = 0;
  double variance = 0;
  bool seen = false;  ///< whether a scored rollout was ever observed; mean and variance are 0 before
};

/// Exponentially weighted mean and variance of a prompt's rewards. A visit whose group has mean m and variance v moves
///
///     variance <- (1 - w) (variance + w (m - mean)^2) + w v,   mean <- mean + w (m - mean),
///
/// the exact moments of the mixture (1 - w) past + w group; the first visit sets both. weight 1 keeps the last group
/// only. Visits without scored rollouts change nothing. 8 bytes per prompt (float32). Models tracker.
class moving_reward_tracker {
 public:
  static constexpr std::string_view state_name = "moving_reward_tracker";
  static constexpr std::uint32_t state_version = 1;

  /// Throws std::invalid_argument for a weight outside (0, 1].
  explicit moving_reward_tracker(std::size_t pool, double weight = 0.3)
      : weight_(weight), mean_(pool, unseen), variance_(pool) {
    require(weight > 0 && weight <= 1, "moving_reward_tracker: weight is ", weight, ", outside (0, 1]");
  }

  std::size_t size() const { return mean_.size(); }
  pool_clock clock() const { return {step_, visits_}; }

  reward_belief operator[](prompt_id id) const {
    const float mean = mean_[id];  // the variance of an unseen one is 0
    return {static_cast<double>(mean < 0 ? 0.f : mean), static_cast<double>(variance_[id]), mean >= 0};
  }

  void observe(prompt_id id, const outcome& o) {
    step_ = std::max(step_, o.step);
    visits_ += 1;
    if (o.rollouts == 0) return;
    const reward_belief old = (*this)[id];
    const double w = old.seen ? weight_ : 1, delta = o.mean - old.mean;
    variance_[id] = static_cast<float>((1 - w) * (old.variance + w * delta * delta) + w * o.variance);
    mean_[id] = static_cast<float>(old.mean + w * delta);
  }

  template <class Self, class Visit>
  static void visit_state(Self& self, Visit&& visit) {
    visit(self.step_, "step");
    visit(self.visits_, "visits");
    visit(self.mean_, "mean");
    visit(self.variance_, "variance");
  }

 private:
  static constexpr float unseen = -1;
  double weight_;
  std::vector<float> mean_, variance_;
  std::uint64_t step_ = 0;
  double visits_ = 0;
};

/// Mean and variance (divided by their number) of the pass rates of a prompt's last `window` visits with scored
/// rollouts. 4 (window + 1) bytes per prompt. Reading is O(window). Models tracker.
class window_reward_tracker {
 public:
  static constexpr std::string_view state_name = "window_reward_tracker";
  static constexpr std::uint32_t state_version = 1;

  /// Throws std::invalid_argument for window 0.
  explicit window_reward_tracker(std::size_t pool, std::size_t window = 8)
      : window_(window), count_(pool), rates_(pool * window) {
    require(window > 0, "window_reward_tracker: window is 0");
  }

  std::size_t size() const { return count_.size(); }
  pool_clock clock() const { return {step_, visits_}; }

  reward_belief operator[](prompt_id id) const {
    const std::size_t n = std::min<std::size_t>(count_[id], window_);
    if (n == 0) return {};
    const float* rates = rates_.data() + std::size_t{id} * window_;
    double mean = 0, squares = 0;
    for (std::size_t j = 0; j < n; ++j) mean += static_cast<double>(rates[j]);
    mean /= static_cast<double>(n);
    for (std::size_t j = 0; j < n; ++j) {
      const double d = static_cast<double>(rates[j]) - mean;
      squares += d * d;
    }
    return {mean, squares / static_cast<double>(n), true};
  }

  void observe(prompt_id id, const outcome& o) {
    step_ = std::max(step_, o.step);
    visits_ += 1;
    if (o.rollouts == 0) return;
    rates_[std::size_t{id} * window_ + count_[id] % window_] = static_cast<float>(o.mean);
    ++count_[id];
  }

  template <class Self, class Visit>
  static void visit_state(Self& self, Visit&& visit) {
    visit(self.step_, "step");
    visit(self.visits_, "visits");
    visit(self.count_, "count");
    visit(self.rates_, "rates");
  }

 private:
  std::size_t window_;
  std::vector<std::uint32_t> count_;
  std::vector<float> rates_;  ///< [pool, window] rings
  std::uint64_t step_ = 0;
  double visits_ = 0;
};

}  // namespace rlvr
