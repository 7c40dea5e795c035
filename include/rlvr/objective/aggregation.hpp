#pragma once
/// From per-token losses to one number: the weight of every token, with the denominator chosen explicitly.

#include <cstddef>
#include <vector>

#include <rlvr/core/error.hpp>
#include <rlvr/objective/token_batch.hpp>

namespace rlvr {

/// What an aggregation divides by. `given` is a number of the caller's: a constant, or a count over all micro-batches
/// and machines.
enum class denominator { active_tokens, all_tokens, valid_sequences, all_sequences, valid_prompts, all_prompts, given };

/// What tokens are averaged over first: nothing (plain sum), the active tokens of their sequence, or those of their
/// prompt's sequences together.
enum class averaged_over { nothing, sequence, prompt };

/// The weight of an active token t of sequence i:
///
///     w_t = 1 / (n (D scale)),   n = 1, n_i + epsilon, or the active tokens of the prompt,
///
/// n_i the active tokens of sequence i, D the denominator. The coefficient is c_t = w_t kappa_t. A sequence or prompt
/// is valid when it has an active token. With denominator::given the weights of a sequence do not depend on what else
/// is in the batch, so that micro-batches add up to the batch.
struct aggregation {
  averaged_over first = averaged_over::nothing;
  denominator by = denominator::active_tokens;
  double value = 1;    ///< D for denominator::given
  double scale = 1;    ///< a further divisor: the constant length of Dr. GRPO
  double epsilon = 0;  ///< added to n_i: verl adds 1e-8, which float32 swallows and float64 does not
};

/// Mean over all active tokens: DAPO, verl's token-mean, TRL's dapo.
inline constexpr aggregation token_mean{};
/// Sum over all active tokens: verl's token-sum, MiniRL.
inline constexpr aggregation token_sum{.by = denominator::given};
/// Mean over sequences of the mean over their tokens: GRPO, verl's seq-mean-token-mean, TRL's grpo. Sequences without
/// active tokens count, as they do there.
inline constexpr aggregation sequence_mean_of_token_mean{.first = averaged_over::sequence,
                                                         .by = denominator::all_sequences};
/// Mean over sequences of the sum over their tokens: verl's seq-mean-token-sum, REINFORCE.
inline constexpr aggregation sequence_mean_of_token_sum{.by = denominator::all_sequences};
/// Mean over prompts of the mean over all tokens of the prompt: SkyRL's prompt_mean, DAPO's text.
inline constexpr aggregation prompt_mean{.first = averaged_over::prompt, .by = denominator::all_prompts};
/// Mean over sequences of the sum over their tokens divided by a constant length: Dr. GRPO (Liu et al. 2025).
constexpr aggregation dr_grpo(double length) {
  return {.by = denominator::all_sequences, .scale = length};
}

/// What denominators count. Totals of parts that cut no prompt add up to those of the whole.
struct token_totals {
  std::size_t active_tokens = 0, all_tokens = 0;
  std::size_t valid_sequences = 0, all_sequences = 0;
  std::size_t valid_prompts = 0, all_prompts = 0;  ///< 0 when the batch has no groups

  std::size_t of(denominator by) const {
    switch (by) {
      case denominator::active_tokens:
        return active_tokens;
      case denominator::all_tokens:
        return all_tokens;
      case denominator::valid_sequences:
        return valid_sequences;
      case denominator::all_sequences:
        return all_sequences;
      case denominator::valid_prompts:
        return valid_prompts;
      case denominator::all_prompts:
        return all_prompts;
      case denominator::given:
        break;
    }
    return 1;
  }

  token_totals& operator+=(const token_totals& o) {
    active_tokens += o.active_tokens;
    all_tokens += o.all_tokens;
    valid_sequences += o.valid_sequences;
    all_sequences += o.all_sequences;
    valid_prompts += o.valid_prompts;
    all_prompts += o.all_prompts;
    return *this;
  }
};

namespace detail {

/// Active tokens of each sequence. O(T), or O(B) without mask.
template <class Real>
std::vector<std::size_t> active_lengths(const token_batch<Real>& b) {
  std::vector<std::size_t> n(b.size());
  for (std::size_t i = 0; i < b.size(); ++i) n[i] = active_length(b, i);
  return n;
}

template <class Real>
token_totals totals_of(const token_batch<Real>& b, const std::vector<std::size_t>& lengths) {
  token_totals out;
  out.all_tokens = b.tokens();
  out.all_sequences = b.size();
  for (std::size_t n : lengths) {
    out.active_tokens += n;
    out.valid_sequences += n > 0;
  }
  for (std::size_t g = 0; g + 1 < b.groups.size(); ++g) {
    bool valid = false;
    for (std::size_t i = b.groups[g]; i < b.groups[g + 1]; ++i) valid = valid || lengths[i] > 0;
    ++out.all_prompts;
    out.valid_prompts += valid;
  }
  return out;
}

}  // namespace detail

/// Counts for denominators; add those of all micro-batches for a `given` one. O(T).
template <class Real>
token_totals totals(const token_batch<Real>& b) {
  validate(b, "totals");
  return detail::totals_of(b, detail::active_lengths(b));
}

/// The weight that every active token of a sequence has: [B]. A sequence without active tokens gets 0, and so does
/// everything when the denominator counts nothing. Computed in double. O(T), O(B) without mask.
/// Throws std::invalid_argument for a scale or given value that is not positive and finite, an epsilon negative or not
/// finite, a weight that overflows, and when prompts are asked for and the batch has no groups.
template <class Real>
std::vector<Real> sequence_weights(const token_batch<Real>& b, const aggregation& a) {
  validate(b, "sequence_weights");
  require(a.scale > 0 && is_finite(a.scale), "sequence_weights: scale is ", a.scale);
  require(a.by != denominator::given || (a.value > 0 && is_finite(a.value)), "sequence_weights: value is ", a.value);
  require(a.epsilon >= 0 && is_finite(a.epsilon), "sequence_weights: epsilon is ", a.epsilon);
  const bool prompts =
      a.first == averaged_over::prompt || a.by == denominator::valid_prompts || a.by == denominator::all_prompts;
  require(!prompts || !b.groups.empty() || b.size() == 0, "sequence_weights: groups is not given");

  const std::vector<std::size_t> lengths = detail::active_lengths(b);
  const double divisor =
      a.by == denominator::given ? a.value : static_cast<double>(detail::totals_of(b, lengths).of(a.by));
  std::vector<Real> weights(b.size(), Real(0));
  const auto weigh = [&](std::size_t i, double n) {
    weights[i] = static_cast<Real>(1 / (n * (divisor * a.scale)));
    require(is_finite(weights[i]), "sequence_weights: the weight of sequence ", i, " is 1 / ", n * (divisor * a.scale),
            ", not a finite number");
  };
  if (a.first == averaged_over::prompt) {
    for (std::size_t g = 0; g + 1 < b.groups.size(); ++g) {
      std::size_t n = 0;
      for (std::size_t i = b.groups[g]; i < b.groups[g + 1]; ++i) n += lengths[i];
      for (std::size_t i = b.groups[g]; i < b.groups[g + 1]; ++i)
        if (lengths[i] > 0) weigh(i, static_cast<double>(n));
    }
  } else {
    for (std::size_t i = 0; i < b.size(); ++i)
      if (lengths[i] > 0)
        weigh(i, a.first == averaged_over::sequence ? static_cast<double>(lengths[i]) + a.epsilon : 1.0);
  }
  return weights;
}

}  // namespace rlvr
