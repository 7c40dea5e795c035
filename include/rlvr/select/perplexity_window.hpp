#pragma once
/// PREPO: prompts by their perplexity, from low to high as training goes on.

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <numeric>
#include <span>
#include <string_view>
#include <vector>

#include <rlvr/core/error.hpp>
#include <rlvr/core/saved_state.hpp>
#include <rlvr/select/draw.hpp>
#include <rlvr/select/filter.hpp>

namespace rlvr {

/// Selects a window of K candidates sorted by the perplexity of the prompt under the current policy: positions
///
///     floor(rho (n - K)) ... + K - 1   of the n candidates in ascending order,   rho = min(step / steps, 1),
///
/// with step the largest observed. `set_perplexities` gives the pool's values (exp of the mean negative log-prob of the
/// prompt's tokens); equal ones stand in random order. 4 bytes per prompt. Models selector. Selecting is O(n log K).
/// Source: PREPO (arXiv 2511.00794, first version).
class perplexity_window {
 public:
  static constexpr std::string_view state_name = "perplexity_window";
  static constexpr std::uint32_t state_version = 1;

  /// Throws std::invalid_argument for an empty pool or steps 0.
  perplexity_window(std::size_t pool, std::uint64_t steps) : perplexity_(pool, 1.f), steps_(steps) {
    require(pool > 0, "perplexity_window: the pool is empty");
    require(steps > 0, "perplexity_window: steps is 0");
  }

  /// Throws std::invalid_argument for another size and values below 1 or not finite, with nothing changed.
  void set_perplexities(std::span<const float> values) {
    require(values.size() == size(), "perplexity_window: ", values.size(), " perplexities for a pool of ", size());
    for (std::size_t i = 0; i < size(); ++i)
      require(values[i] >= 1 && std::isfinite(values[i]), "perplexity_window: perplexity ", i, " is ", values[i]);
    std::copy(values.begin(), values.end(), perplexity_.begin());
  }

  std::size_t size() const { return perplexity_.size(); }

  void select(std::span<prompt_id> out, random_key key) const { choose(candidate_list(size()), out, key); }
  void select(std::span<prompt_id> out, random_key key, std::span<const prompt_id> candidates) const {
    check_candidates(candidates, size());
    choose(candidate_list(candidates), out, key);
  }

  /// Only the outcome's step is learned.
  void observe(prompt_id id, const outcome& o) {
    check_observation(id, o, size());
    step_ = std::max(step_, o.step);
  }

  bool keep(const outcome& o) const { return keep_mixed{}(o); }

  template <class Self, class Visit>
  static void visit_state(Self& self, Visit&& visit) {
    visit(self.step_, "step");
    visit(self.perplexity_, "perplexity");
  }

 private:
  void choose(const candidate_list& candidates, std::span<prompt_id> out, random_key key) const {
    const std::size_t n = candidates.size(), k = out.size();
    require(k <= n, "select: ", k, " prompts wanted of ", n);
    std::vector<detail::ranked> order(n);
    for (std::size_t j = 0; j < n; ++j) {
      const prompt_id id = candidates[j];
      order[j] = {-static_cast<double>(perplexity_[id]), detail::tie_of(key, id), id};
    }
    // in whole numbers, below 2^63: a product with the rounded quotient may fall below a whole number
    const auto first = order.begin() + static_cast<std::ptrdiff_t>(std::min(step_, steps_) * (n - k) / steps_);
    const auto last = first + static_cast<std::ptrdiff_t>(k);
    const auto before = [](const auto& a, const auto& b) { return a > b; };
    std::nth_element(order.begin(), first, order.end(), before);
    std::partial_sort(first, last, order.end(), before);
    for (std::size_t j = 0; j < k; ++j) out[j] = first[static_cast<std::ptrdiff_t>(j)].id;
  }

  std::vector<float> perplexity_;
  std::uint64_t steps_;
  std::uint64_t step_ = 0;
};

/// The weight of each rollout in PREPO's surrogate: w_i = H_i / mean(H), H_i the mean token entropy of rollout i. All 1
/// when every H is 0. Throws std::invalid_argument for an entropy that is negative or not finite. O(B).
inline std::vector<double> entropy_weights(std::span<const double> entropies) {
  double sum = 0;
  for (std::size_t i = 0; i < entropies.size(); ++i) {
    require(entropies[i] >= 0 && std::isfinite(entropies[i]), "entropy_weights: entropy ", i, " is ", entropies[i]);
    sum += entropies[i];
  }
  std::vector<double> weights(entropies.size(), 1.0);
  if (sum > 0)
    for (std::size_t i = 0; i < entropies.size(); ++i)
      weights[i] = entropies[i] / sum * static_cast<double>(entropies.size());
  return weights;
}

}  // namespace rlvr
