#pragma once
/// Pass rates that come from a prediction instead of from visits: DOTS-like difficulty targeting.

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <span>
#include <string_view>
#include <vector>

#include <rlvr/core/error.hpp>
#include <rlvr/select/selector.hpp>

namespace rlvr {

/// What a visit does to a predicted rate: puts the measured one in its place, or nothing, for rates that are labels.
enum class measured_rate { replaces, is_ignored };

/// The latest prediction or measurement of each prompt's pass rate: 1/2 at first, `predict` replaces all.
/// 4 bytes per prompt. Models tracker.
class predicted_rates {
 public:
  static constexpr std::string_view state_name = "predicted_rates";
  static constexpr std::uint32_t state_version = 1;

  explicit predicted_rates(std::size_t pool, measured_rate visit = measured_rate::replaces)
      : visit_(visit), rates_(pool, 0.5f) {}

  /// Throws std::invalid_argument for another size and rates outside [0, 1], with nothing changed.
  void predict(std::span<const double> rates) {
    require(rates.size() == size(), "predicted_rates: ", rates.size(), " rates for a pool of ", size());
    for (std::size_t i = 0; i < size(); ++i)
      require(rates[i] >= 0 && rates[i] <= 1, "predicted_rates: rate ", i, " is ", rates[i]);
    for (std::size_t i = 0; i < size(); ++i) rates_[i] = static_cast<float>(rates[i]);
  }

  std::size_t size() const { return rates_.size(); }
  pool_clock clock() const { return {step_, visits_}; }
  double operator[](prompt_id id) const { return static_cast<double>(rates_[id]); }

  void observe(prompt_id id, const outcome& o) {
    if (o.rollouts > 0 && visit_ == measured_rate::replaces) rates_[id] = static_cast<float>(o.mean);
    step_ = std::max(step_, o.step);
    visits_ += 1;
  }

  template <class Self, class Visit>
  static void visit_state(Self& self, Visit&& visit) {
    visit(self.step_, "step");
    visit(self.visits_, "visits");
    visit(self.rates_, "rates");
  }

 private:
  measured_rate visit_;
  std::vector<float> rates_;
  std::uint64_t step_ = 0;
  double visits_ = 0;
};

/// -|p - target|.
struct near_target {
  static constexpr std::string_view state_name = "near_target";
  double target = 0.5;
  double operator()(double p, const pool_clock&) const { return -std::abs(p - target); }
};

/// Predicts pass rates by attention over a reference set that was rolled out:
///
///     p(x) = sum_r w_r p_r,   w = softmax_r(q_x . k_r / sqrt(h)),
///
/// with embeddings of width h, row by row: references [R, h], queries [n, h]. Returns n rates. O(n R h). The learned
/// calibration that DOTS puts on top is the caller's. Throws std::invalid_argument for sizes that do not fit together,
/// an embedding that is not finite, or a rate outside [0, 1]. Source: DOTS (arXiv 2506.05316, section 4).
inline std::vector<double> attention_rates(std::span<const float> references, std::span<const double> reference_rates,
                                           std::span<const float> queries, std::size_t width) {
  require(width > 0 && !reference_rates.empty() && references.size() == reference_rates.size() * width,
          "attention_rates: ", references.size(), " reference values for ", reference_rates.size(), " rates of width ",
          width);
  require(queries.size() % width == 0, "attention_rates: ", queries.size(), " query values of width ", width);
  for (std::size_t r = 0; r < reference_rates.size(); ++r)
    require(reference_rates[r] >= 0 && reference_rates[r] <= 1, "attention_rates: rate ", r, " is ",
            reference_rates[r]);
  const auto check = [](std::span<const float> values, const char* name) {
    for (std::size_t i = 0; i < values.size(); ++i)
      require(std::isfinite(values[i]), "attention_rates: ", name, " value ", i, " is ", values[i]);
  };
  check(references, "reference");
  check(queries, "query");
  const double scale = 1 / std::sqrt(static_cast<double>(width));
  std::vector<double> out(queries.size() / width), scores(reference_rates.size());
  for (std::size_t x = 0; x < out.size(); ++x) {
    double largest = -std::numeric_limits<double>::infinity();
    for (std::size_t r = 0; r < scores.size(); ++r) {
      double dot = 0;
      for (std::size_t j = 0; j < width; ++j)
        dot += static_cast<double>(queries[x * width + j]) * static_cast<double>(references[r * width + j]);
      scores[r] = dot * scale;
      largest = std::max(largest, scores[r]);
    }
    double total = 0, sum = 0;
    for (std::size_t r = 0; r < scores.size(); ++r) {
      const double w = std::exp(scores[r] - largest);
      total += w;
      sum += w * reference_rates[r];
    }
    out[x] = std::clamp(sum / total, 0.0, 1.0);
  }
  return out;
}

}  // namespace rlvr
