#pragma once
/// Bandits over categories of prompts: SEC and DUMP.

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <span>
#include <string_view>
#include <utility>
#include <vector>

#include <rlvr/core/error.hpp>
#include <rlvr/core/random.hpp>
#include <rlvr/core/saved_state.hpp>
#include <rlvr/select/filter.hpp>
#include <rlvr/select/selector.hpp>

namespace rlvr {

/// What one visit is worth to its category: the mean |A| of group-normalised advantages, spread / deviation.
struct gain_normalized_advantage {
  static constexpr std::string_view state_name = "gain_normalized_advantage";
  double operator()(const outcome& o) const { return o.variance > 0 ? o.spread / std::sqrt(o.variance) : 0; }
};

/// The mean |A| of centred advantages.
struct gain_centred_advantage {
  static constexpr std::string_view state_name = "gain_centred_advantage";
  double operator()(const outcome& o) const { return o.spread; }
};

/// Whether a category that had no rollout in a step decays towards 0 (SEC's code) or stays (its paper).
enum class absent_category { decays, stays };

struct sec_options {
  double learning_rate = 0.5;  ///< the code's default is 0.1, its experiments have 0.5
  absent_category absent = absent_category::decays;
};

/// Q_c <- (1 - a) Q_c + a r_c at the end of every step, r_c the mean gain of the step's rollouts in category c. A step
/// ends when an outcome of a later one arrives. Categories are below size(): category_selector checks them.
/// Source: SEC (arXiv 2505.14970).
template <class Gain = gain_normalized_advantage>
class sec_values {
 public:
  static constexpr detail::joined_name state_name{"sec_values of ", detail::name_of<Gain>()};
  static constexpr std::uint32_t state_version = 1;

  /// Throws std::invalid_argument for a learning rate outside (0, 1].
  explicit sec_values(std::size_t categories, sec_options options = {}, Gain gain = {})
      : options_(options), gain_(gain), value_(categories), sum_(categories), count_(categories) {
    require(options.learning_rate > 0 && options.learning_rate <= 1, "sec_values: learning_rate is ",
            options.learning_rate);
  }

  std::size_t size() const { return value_.size(); }
  double score(std::size_t c) const { return value_[c]; }

  void observe(std::size_t c, const outcome& o) {
    if (o.step > step_) {
      learn();
      step_ = o.step;
    }
    sum_[c] += static_cast<double>(o.rollouts) * gain_(o);
    count_[c] += static_cast<double>(o.rollouts);
  }

  template <class Self, class Visit>
  static void visit_state(Self& self, Visit&& visit) {
    visit(self.step_, "step");
    visit(self.value_, "category value");
    visit(self.sum_, "category sum");
    visit(self.count_, "category count");
  }

 private:
  void learn() {
    double total = 0;
    for (const double n : count_) total += n;
    if (total == 0) return;
    for (std::size_t c = 0; c < size(); ++c) {
      if (count_[c] > 0 || options_.absent == absent_category::decays) {
        const double r = count_[c] > 0 ? sum_[c] / count_[c] : 0;
        value_[c] += options_.learning_rate * (r - value_[c]);
      }
      sum_[c] = count_[c] = 0;
    }
  }

  sec_options options_;
  Gain gain_;
  std::vector<double> value_, sum_, count_;
  std::uint64_t step_ = 0;
};

/// mean gain of the category's last `window` rollouts + sqrt(2 ln(1 + t) / (1 + n)), n rollouts of the category and t of
/// all. Categories are below size(), as for sec_values. Source: DUMP (arXiv 2504.09710), window 300.
template <class Gain = gain_normalized_advantage>
class dump_values {
 public:
  static constexpr detail::joined_name state_name{"dump_values of ", detail::name_of<Gain>()};
  static constexpr std::uint32_t state_version = 1;

  /// Throws std::invalid_argument for window 0.
  explicit dump_values(std::size_t categories, std::size_t window = 300, Gain gain = {})
      : window_(window), gain_(gain), gains_(categories * window), filled_(categories), count_(categories) {
    require(window > 0, "dump_values: window is 0");
  }

  std::size_t size() const { return count_.size(); }

  double score(std::size_t c) const {
    double total = 0, sum = 0;
    for (const double n : count_) total += n;
    const std::size_t n = std::min<std::size_t>(filled_[c], window_);
    for (std::size_t j = 0; j < n; ++j) sum += gains_[c * window_ + j];
    return (n > 0 ? sum / static_cast<double>(n) : 0) + std::sqrt(2 * std::log1p(total) / (1 + count_[c]));
  }

  void observe(std::size_t c, const outcome& o) {
    for (std::uint32_t j = 0; j < o.rollouts; ++j) gains_[c * window_ + filled_[c]++ % window_] = gain_(o);
    count_[c] += static_cast<double>(o.rollouts);
  }

  template <class Self, class Visit>
  static void visit_state(Self& self, Visit&& visit) {
    visit(self.gains_, "category gains");
    visit(self.filled_, "category filled");
    visit(self.count_, "category count");
  }

 private:
  std::size_t window_;
  Gain gain_;
  std::vector<double> gains_;           ///< [categories, window] rings
  std::vector<std::uint64_t> filled_;
  std::vector<double> count_;
};

/// How the category of the next slot is drawn from the values Q.
struct category_softmax {
  double temperature = 1;
  double weight(double q, double largest) const {
    require(temperature > 0, "category_softmax: temperature is ", temperature);
    return std::exp((q - largest) / temperature);
  }
};
/// Proportional to max(Q, floor).
struct category_proportional {
  double floor = 0.01;
  double weight(double q, double) const { return std::max(q, floor); }
};

/// Every slot draws a category among those that still have prompts, then one of its prompts uniformly without
/// replacement. Models selector. O(pool + k categories) per selection.
template <class Values, class Rule = category_softmax>
class category_selector {
 public:
  static constexpr std::string_view state_name = Values::state_name;
  static constexpr auto state_version = Values::state_version;

  /// categories[i] is the category of prompt i. Throws std::invalid_argument for an empty pool and a category that
  /// values does not have.
  category_selector(std::vector<std::uint32_t> categories, Values values, Rule rule = {})
      : categories_(std::move(categories)), values_(std::move(values)), rule_(rule) {
    require(!categories_.empty(), "category_selector: the pool is empty");
    for (std::size_t i = 0; i < categories_.size(); ++i)
      require(categories_[i] < values_.size(), "category_selector: prompt ", i, " has category ", categories_[i],
              " of ", values_.size());
  }

  std::size_t size() const { return categories_.size(); }
  const Values& values() const { return values_; }

  void select(std::span<prompt_id> out, random_key key) const { choose(candidate_list(size()), out, key); }
  void select(std::span<prompt_id> out, random_key key, std::span<const prompt_id> candidates) const {
    check_candidates(candidates, size());
    choose(candidate_list(candidates), out, key);
  }

  void observe(prompt_id id, const outcome& o) {
    check_observation(id, o, size());
    values_.observe(categories_[id], o);
  }

  bool keep(const outcome& o) const { return keep_mixed{}(o); }

  template <class Self, class Visit>
  static void visit_state(Self& self, Visit&& visit) {
    visit(self.categories_, "categories");
    Values::visit_state(self.values_, visit);
  }
  static void check_state(const category_selector& self) {
    for (const std::uint32_t c : self.categories_)
      if (c >= self.values_.size()) throw state_error(concat(state_name, ": the saved state has a category ", c));
  }

 private:
  void choose(const candidate_list& candidates, std::span<prompt_id> out, random_key key) const {
    require(out.size() <= candidates.size(), "select: ", out.size(), " prompts wanted of ", candidates.size());
    std::vector<std::vector<prompt_id>> left(values_.size());
    for (std::size_t j = 0; j < candidates.size(); ++j) left[categories_[candidates[j]]].push_back(candidates[j]);
    std::vector<double> q(values_.size()), weight(values_.size());
    for (std::size_t c = 0; c < q.size(); ++c) q[c] = values_.score(c);
    for (std::size_t k = 0; k < out.size(); ++k) {
      double largest = -std::numeric_limits<double>::infinity(), total = 0;
      for (std::size_t c = 0; c < q.size(); ++c)
        if (!left[c].empty()) largest = std::max(largest, q[c]);
      for (std::size_t c = 0; c < q.size(); ++c)
        total += weight[c] = left[c].empty() ? 0 : rule_.weight(q[c], largest);
      if (!(total > 0))
        for (std::size_t c = 0; c < q.size(); ++c) total += weight[c] = left[c].empty() ? 0 : 1;
      const std::size_t c = drawn(weight, total * key.uniform(k, 0));
      const auto at = static_cast<std::size_t>(key.fold(1).below(left[c].size(), k));
      out[k] = left[c][at];
      left[c][at] = left[c].back();
      left[c].pop_back();
    }
  }

  static std::size_t drawn(std::span<const double> weight, double mass) {
    std::size_t last = 0;
    for (std::size_t c = 0; c < weight.size(); ++c) {
      if (weight[c] <= 0) continue;
      last = c;
      if (mass < weight[c]) break;
      mass -= weight[c];
    }
    return last;
  }

  std::vector<std::uint32_t> categories_;
  Values values_;
  Rule rule_;
};

}  // namespace rlvr
