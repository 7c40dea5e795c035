#pragma once
/// The gradient of a batch, kept apart by disjoint sets of prompts, so that its direction can be judged.

#include <concepts>
#include <cstddef>
#include <span>
#include <vector>

#include <rlvr/core/error.hpp>
#include <rlvr/core/policy.hpp>
#include <rlvr/core/validate.hpp>
#include <rlvr/gradient/sum_accumulator.hpp>

namespace rlvr {

/// Whether to keep the correct and incorrect parts as well; they cost a second backward pass over the
/// rollouts and two more vectors.
enum class gradient_parts { none, correct_and_incorrect };

struct subset_options {
  std::size_t subsets = 8;  ///< M >= 1, each one vector of memory
  gradient_parts parts = gradient_parts::correct_and_incorrect;
  double correct_above = 0.5;  ///< a rollout is correct when it is scored and its reward is above this
};

/// M sums of c_t grad log pi over disjoint subsets of the prompts (prompt index modulo M), and the two parts:
/// the sums of grad log pi over the correct and over the incorrect rollouts, *without* advantages.
///
/// Subsets are split by prompt, never by rollout: rollouts of one prompt share what is peculiar to that
/// prompt, and splitting them would hide this noise. The coefficients are the full batch's, with one weight
/// for all subsets, so that the sum of the subsets is the full gradient. A value like sum_accumulator: it
/// does not hold the space, and parts made by different workers merge.
template <vector_space S>
class subset_gradients {
 public:
  /// Throws std::invalid_argument when options.subsets is 0 or options.correct_above is NaN, and what
  /// space.zero() throws.
  explicit subset_gradients(const S& space, const subset_options& options = {}) : options_(options) {
    require(options.subsets > 0, "subset_gradients: subsets is 0");
    require(options.correct_above == options.correct_above, "subset_gradients: correct_above is not a number");
    const std::size_t sums = options.subsets + (has_parts() ? 2 : 0);
    sums_.reserve(sums);
    for (std::size_t s = 0; s < sums; ++s) sums_.emplace_back(space);
  }

  /// Adds a batch, one coefficient per token. Each subset and part is one call of policy.accumulate_score on
  /// all rollouts with the coefficients of the others set to zero, which by contract contribute and cost
  /// nothing: one backward pass over the batch, and a second one for the parts.
  ///
  /// progress(done, total) is called after each with the rollouts processed so far and in all.
  /// Throws std::invalid_argument when sizes differ, a coefficient is not finite, or parts are asked for and
  /// there are no verdicts, and what the policy throws for its arguments; nothing is then changed. When the
  /// policy fails otherwise, or progress throws, part of the batch may have been added: the sums are then to
  /// be thrown away. The policy's parameters are never touched. O(M T) beside the policy's work.
  template <differentiable P, std::invocable<std::size_t, std::size_t> Progress>
  requires std::same_as<space_t<P>, S>
  void add(P& policy, const ragged<token>& prompts, const rollouts& r, std::span<const double> coefficients,
           double temperature, Progress&& progress) {
    check(r, coefficients);
    const std::size_t B = r.size(), total = has_parts() ? 2 * B : B;
    std::vector<double> masked(coefficients.size());
    std::size_t done = 0;
    // Adds the rollouts that belong to sum s, token t of them with coefficient(t).
    const auto sweep = [&](std::size_t s, auto belongs, auto coefficient) {
      std::size_t members = 0, scored = 0;
      for (std::size_t i = 0; i < B; ++i) {
        const bool member = belongs(i);
        members += member;
        scored += member && (r.verdicts.empty() || r.verdicts[i].scored);
        for (std::size_t t = r.offsets[i]; t < r.offsets[i + 1]; ++t)
          masked[t] = member ? coefficient(t) : 0.0;
      }
      if (members == 0) return;
      sums_[s].add(policy, prompts, r, masked, temperature, scored);
      progress(done += members, total);
    };
    for (std::size_t m = 0; m < subsets(); ++m)
      sweep(
          m, [&](std::size_t i) { return r.prompts[i] % subsets() == m; },
          [&](std::size_t t) { return coefficients[t]; });
    if (!has_parts()) return;
    const auto one = [](std::size_t) { return 1.0; };
    const auto correct = [&](std::size_t i) { return r.verdicts[i].reward > options_.correct_above; };
    sweep(
        subsets(), [&](std::size_t i) { return r.verdicts[i].scored && correct(i); }, one);
    sweep(
        subsets() + 1, [&](std::size_t i) { return r.verdicts[i].scored && !correct(i); }, one);
    if (done < total) progress(total, total);  // the unscored are in neither part
  }

  template <differentiable P>
  requires std::same_as<space_t<P>, S>
  void add(P& policy, const ragged<token>& prompts, const rollouts& r, std::span<const double> coefficients,
           double temperature) {
    add(policy, prompts, r, coefficients, temperature, [](std::size_t, std::size_t) {});
  }

  /// Adds the sums of another worker. Throws std::invalid_argument when it is this one, or its options
  /// differ.
  void merge(const S& space, const subset_gradients& other) {
    require(subsets() == other.subsets() && has_parts() == other.has_parts() &&
                options_.correct_above == other.options_.correct_above,
            "subset_gradients: merge of sums made with other options");
    for (std::size_t s = 0; s < sums_.size(); ++s) sums_[s].merge(space, other.sums_[s]);
  }

  /// M
  std::size_t subsets() const { return options_.subsets; }
  /// The gradient of subset m < M.
  const vector_t<S>& subset(std::size_t m) const { return sum_of(m).sum(); }
  /// How many rollouts subset m has, unscored ones not counted: they contribute nothing.
  std::size_t rollouts_in(std::size_t m) const { return sum_of(m).count(); }

  /// The full gradient, the subsets added in their order. One new vector.
  vector_t<S> total(const S& space) const {
    vector_t<S> sum = space.zero();
    for (std::size_t m = 0; m < subsets(); ++m) space.axpy(1.0, subset(m), sum);
    return sum;
  }
  /// Scored rollouts in all.
  std::size_t rollouts_in_total() const {
    std::size_t n = 0;
    for (std::size_t m = 0; m < subsets(); ++m) n += rollouts_in(m);
    return n;
  }

  bool has_parts() const { return options_.parts == gradient_parts::correct_and_incorrect; }
  /// Sums of grad log pi over the correct and the incorrect rollouts, and how many there are.
  /// Throw std::invalid_argument when parts were not asked for.
  const vector_t<S>& correct() const { return part(0).sum(); }
  const vector_t<S>& incorrect() const { return part(1).sum(); }
  std::size_t correct_count() const { return part(0).count(); }
  std::size_t incorrect_count() const { return part(1).count(); }

 private:
  const sum_accumulator<S>& sum_of(std::size_t m) const {
    require(m < subsets(), "subset_gradients: subset ", m, " of ", subsets());
    return sums_[m];
  }
  const sum_accumulator<S>& part(std::size_t which) const {
    require(has_parts(), "subset_gradients: made without correct and incorrect parts");
    return sums_[subsets() + which];
  }
  void check(const rollouts& r, std::span<const double> coefficients) const {
    validate_offsets(r);
    require(coefficients.size() == r.tokens.size(), "subset_gradients: ", coefficients.size(),
            " coefficients for ", r.tokens.size(), " tokens");
    for (std::size_t t = 0; t < coefficients.size(); ++t)
      require(is_finite(coefficients[t]), "subset_gradients: coefficient ", t, " is ", coefficients[t]);
    require(r.verdicts.size() == r.size() || (!has_parts() && r.verdicts.empty()),
            "subset_gradients: ", r.verdicts.size(), " verdicts for ", r.size(), " rollouts");
  }

  subset_options options_;
  std::vector<sum_accumulator<S>> sums_;  ///< M subsets, then correct and incorrect
};

}  // namespace rlvr
