#pragma once
/// Prioritised sampling over a sum tree: O(log n) per draw and per observation.

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

#include <rlvr/core/error.hpp>
#include <rlvr/core/saved_state.hpp>
#include <rlvr/select/filter.hpp>
#include <rlvr/select/gain_trackers.hpp>
#include <rlvr/select/rate_utility.hpp>
#include <rlvr/select/selector.hpp>
#include <rlvr/select/sum_tree.hpp>

namespace rlvr {

struct prioritized_options {
  double exponent = 0.6;  ///< alpha: 0 is uniform, 1 proportional to the gain
  double floor = 0.05;    ///< added to every gain, so that each prompt comes back
  double initial = 1;     ///< the gain of a prompt never visited: the largest possible
};

/// Prompts are drawn without replacement with probability proportional to (gain + floor)^exponent, the gain that of the
/// last visit. Models selector. Selecting k prompts of the pool is O(k log n) while those drawn hold less than half the
/// weight and k < n / 16, then one pass over the others; from candidates it is one pass. 16 to 24 bytes per prompt.
/// Source: prioritised experience replay (Schaul et al. 2016, arXiv 1511.05952) with the mean |A| for the TD error.
template <class Gain = gain_of_rate<rate_advantage>>
class prioritized_selector {
 public:
  static constexpr detail::joined_name state_name{"prioritized_selector of ", detail::name_of<Gain>()};
  static constexpr std::uint32_t state_version = 1;

  /// Throws std::invalid_argument for an empty pool, an exponent outside [0, 1], a floor that is not positive or an
  /// initial gain that is negative.
  explicit prioritized_selector(std::size_t pool, prioritized_options options = {}, Gain gain = {})
      : options_(options), gain_(gain), tree_(pool) {
    require(pool > 0, "prioritized_selector: the pool is empty");
    require(options.exponent >= 0 && options.exponent <= 1, "prioritized_selector: exponent is ", options.exponent);
    require(options.floor > 0 && std::isfinite(options.floor), "prioritized_selector: floor is ", options.floor);
    require(options.initial >= 0 && std::isfinite(options.initial), "prioritized_selector: initial is ",
            options.initial);
    tree_.assign(std::vector<double>(pool, priority(options.initial)));
  }

  std::size_t size() const { return tree_.size(); }

  /// The probability that a single draw is this prompt. Throws std::invalid_argument for an unknown id.
  double probability(prompt_id id) const {
    require(id < size(), "prioritized_selector: prompt ", id, " in a pool of ", size());
    return tree_[id] / tree_.total();
  }

  /// (n P_i)^-beta: with beta 1 the weight under which a single draw estimates the mean over the pool without bias.
  /// Divide by the largest of a batch, as the source does, for steps that are never longer than unweighted ones. Throws
  /// as probability.
  double importance(prompt_id id, double beta = 1) const {
    return std::pow(static_cast<double>(size()) * probability(id), -beta);
  }

  void select(std::span<prompt_id> out, random_key key) const {
    require(out.size() <= size(), "select: ", out.size(), " prompts wanted of ", size());
    std::vector<bool> taken(out.size() > few ? size() : 0);
    const auto is_taken = [&](prompt_id id, std::size_t k) {
      if (!taken.empty()) return static_cast<bool>(taken[id]);
      return std::find(out.begin(), out.begin() + static_cast<std::ptrdiff_t>(k), id) !=
             out.begin() + static_cast<std::ptrdiff_t>(k);
    };
    double mass = 0;
    std::uint64_t draws = 0;
    for (std::size_t k = 0; k < out.size(); ++k) {
      if (2 * mass > tree_.total() || 16 * out.size() > size())  // the weights of those left are what they were
        return draw_proportional{}(
            candidate_list(size()), [&](prompt_id id) { return is_taken(id, k) ? 0 : tree_[id]; }, out.subspan(k), key);
      prompt_id id;
      do {  // drawing again until it is a new one is drawing from those left
        id = static_cast<prompt_id>(tree_.find(tree_.total() * key.uniform(draws++)));
      } while (is_taken(id, k));
      if (!taken.empty()) taken[id] = true;
      mass += tree_[id];
      out[k] = id;
    }
  }
  void select(std::span<prompt_id> out, random_key key, std::span<const prompt_id> candidates) const {
    check_candidates(candidates, size());
    draw_proportional{}(candidate_list(candidates), [this](prompt_id id) { return tree_[id]; }, out, key);
  }

  void observe(prompt_id id, const outcome& o) {
    check_observation(id, o, size());
    const double gain = gain_(o);
    require(gain >= 0 && std::isfinite(gain), "observe: the gain of prompt ", id, " is ", gain);
    tree_.set(id, priority(gain));
  }

  bool keep(const outcome& o) const { return keep_mixed{}(o); }

  template <class Self, class Visit>
  static void visit_state(Self& self, Visit&& visit) {
    sum_tree::visit_state(self.tree_, visit);
  }

 private:
  static constexpr std::size_t few = 32;

  double priority(double gain) const { return std::pow(gain + options_.floor, options_.exponent); }

  prioritized_options options_;
  Gain gain_;
  sum_tree tree_;
};

}  // namespace rlvr
