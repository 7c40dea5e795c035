#pragma once
/// Rollouts at the difficulty that the policy's recent failures ask for.

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

#include <rlvr/allocate/allocator.hpp>
#include <rlvr/allocate/spend.hpp>
#include <rlvr/core/error.hpp>
#include <rlvr/core/moments.hpp>

namespace rlvr {

/// The failure rates F_t = 1 - (mean pass rate of the step's prompts) of the last `length` steps. A value, and all that
/// capability_allocation remembers: a run that resumes needs it (save_state, restore_state; the authors' code loses it)
/// besides the pass rates themselves. The published runs use a length of 1, the authors' class 3 by default.
class failure_window {
 public:
  static constexpr std::string_view state_name = "failure_window";
  static constexpr std::uint32_t state_version = 1;

  /// Throws std::invalid_argument for length 0.
  explicit failure_window(std::size_t length = 1) : rates_(length) {
    require(length > 0, "failure_window: length is 0");
  }

  /// Adds the failure rate of one more step. Throws std::invalid_argument when it is outside [0, 1]. O(1).
  void add(double failure_rate) {
    require(failure_rate >= 0 && failure_rate <= 1, "failure_window: a failure rate of ", failure_rate);
    rates_[steps_++ % rates_.size()] = failure_rate;
  }

  /// The rates that the window holds, in no particular order.
  std::span<const double> rates() const {
    return std::span(rates_).first(std::min<std::size_t>(steps_, rates_.size()));
  }
  std::size_t length() const { return rates_.size(); }

  template <class Self, class Visit>
  static void visit_state(Self& self, Visit&& visit) {
    visit(self.steps_, "steps");
    visit(self.rates_, "rates");
  }

 private:
  std::vector<double> rates_;
  std::uint64_t steps_ = 0;
};

/// Maximises sum_i V(n_i, p_i) with
///
///     V(n, p) = (1 - exp(-n p (1-p) / tau)) Beta(p; alpha, beta),     alpha + beta = kappa,
///     alpha = clip(1 + (kappa - 2) F, 1, kappa - 1),
///     F = mean of the window when above 1/2, else sigmoid(10 (mean - 1/2)):
///
/// a policy that fails often practises what it can (alpha large), one that succeeds explores what it cannot. Concave in
/// n, so the greedy allocation is exact, from a lower bound of 0 on. Models allocator. O(n + budget log n).
///
///  - p is clipped to [min_rate, 1 - min_rate], so that p = 0 and p = 1 are worth a little. A prompt without history
///    counts as p = 1/2, so that all get an even share when none has any. p is to be the rate over the prompt's last
///    visits.
///  - Before the first step alpha = kappa - 2 (an empty window).
///  - tau goes from min_temperature to max_temperature as the variance of the pass rates goes from 0 to 1/6; equal ones
///    fix it. The paper names no number; these are the authors' code's.
///
/// Throws std::invalid_argument also for options out of range.
/// Source: CoBA-RL (arXiv 2602.03048, algorithm 1). Left out are what only the authors' code has: a part of the budget
/// (20 to 40%) withheld for prompts outside 0.05 <= p <= 0.99, and budget left unspent when all are capped. A budget
/// below the lower bounds, an even split there, is an error here.
struct capability_allocation {
  failure_window window{};
  double concentration = 11;  ///< kappa > 2
  double min_temperature = 3;
  double max_temperature = 12;
  double min_rate = 0.01;

  struct shape {
    double alpha = 1, beta = 1;
  };

  /// alpha and beta as the window has them.
  shape beta_shape() const {
    const std::span<const double> rates = window.rates();
    if (rates.empty()) return {concentration - 2, 2};
    const double mean = moments_of(rates).mean;
    const double failure = mean > 0.5 ? mean : 1 / (1 + std::exp(-10 * (mean - 0.5)));
    const double alpha = std::clamp(1 + (concentration - 2) * failure, 1.0, concentration - 1);
    return {alpha, concentration - alpha};
  }

  std::vector<std::uint32_t> operator()(std::span<const prompt_belief> beliefs, std::size_t budget,
                                        std::span<const count_range> ranges) const {
    require(concentration > 2 && is_finite(concentration), "capability_allocation: concentration is ", concentration);
    require(min_temperature > 0 && min_temperature <= max_temperature && is_finite(max_temperature),
            "capability_allocation: temperatures from ", min_temperature, " to ", max_temperature);
    require(min_rate > 0 && min_rate < 0.5, "capability_allocation: min_rate is ", min_rate);
    detail::allocation a = detail::begin_allocation(beliefs, budget, ranges);
    std::vector<double> rates(beliefs.size(), 0.5);
    for (std::size_t i = 0; i < beliefs.size(); ++i)
      if (beliefs[i].evidence > 0) rates[i] = beliefs[i].pass_rate;
    const double spread = std::min(moments_of(rates).variance(0) * 6, 1.0);
    const double temperature = min_temperature + (max_temperature - min_temperature) * spread;

    // Without the density's constant, which is the same for all, and over the largest one, so that nothing underflows.
    const auto [alpha, beta] = beta_shape();
    std::vector<double> weights(beliefs.size());
    for (std::size_t i = 0; i < rates.size(); ++i) {
      rates[i] = std::clamp(rates[i], min_rate, 1 - min_rate);
      weights[i] = (alpha - 1) * std::log(rates[i]) + (beta - 1) * std::log1p(-rates[i]);
    }
    const double largest = weights.empty() ? 0 : *std::max_element(weights.begin(), weights.end());
    for (std::size_t i = 0; i < rates.size(); ++i) {
      const double rate = rates[i] * (1 - rates[i]) / temperature;
      rates[i] = rate;
      weights[i] = std::exp(weights[i] - largest) * -std::expm1(-rate);
    }
    a.left = spend(a.left, a.counts, a.caps, [&](std::size_t i, std::uint32_t n) {
      return weights[i] * std::exp(-rates[i] * static_cast<double>(n));
    });
    return a.counts;
  }
};

}  // namespace rlvr
