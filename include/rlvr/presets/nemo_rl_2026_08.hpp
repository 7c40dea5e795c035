#pragma once
/// What NeMo-RL of August 2026 computes: its options by their names, its defaults, its numbers.
///
/// Checked in float64 against its own classes and functions, taken out of its source and run on ragged batches
/// (tests/golden/frameworks/nemo_rl_golden.py names the commits), in the tests to 3e-9 relative. Not here:
/// OPDAdvantageEstimator and the losses of distillation, drafts and values; curr_logprobs_keep_mask, by which tokens
/// that top-k or top-p filtering removed leave the policy term but not the KL.

#include <cstddef>
#include <cstdint>
#include <limits>
#include <optional>
#include <span>
#include <utility>
#include <vector>

#include <rlvr/advantage/centred.hpp>
#include <rlvr/advantage/component_normalized.hpp>
#include <rlvr/advantage/gae.hpp>
#include <rlvr/advantage/group_normalized.hpp>
#include <rlvr/advantage/normalizer.hpp>
#include <rlvr/advantage/token_rewards.hpp>
#include <rlvr/advantage/whitening.hpp>
#include <rlvr/objective/aggregation.hpp>
#include <rlvr/objective/cispo.hpp>
#include <rlvr/objective/gspo.hpp>
#include <rlvr/objective/importance.hpp>
#include <rlvr/objective/kl_penalty.hpp>
#include <rlvr/objective/policy_gradient.hpp>
#include <rlvr/objective/ppo_clip.hpp>
#include <rlvr/objective/preference.hpp>

namespace rlvr::nemo_rl_2026_08 {

enum class use_leave_one_out_baseline { no, yes };
enum class normalize { no, yes };
enum class minus_baseline { no, yes };
enum class token_level_loss { no, yes };
enum class truncated_importance_sampling_type { none, tis, icepop, seq_mask_tis };
/// disable_ppo_ratio, use_cispo and sequence_level_importance_ratios: one option here. NeMo-RL lets the first stand
/// with the last, which then only makes the correction's weights a product over the sequence.
enum class ratio { token, sequence, cispo, disabled };
enum class force_on_policy_ratio { no, yes };
enum class use_on_policy_kl_approximation { no, yes };
enum class average_log_probs { no, yes };

// --- advantages: algorithms/advantage_estimator.py, utils.py --------------------------------------------------------

/// How advantages over tokens are whitened, gae's excepted.
inline constexpr deviation whitening{.ddof = 0, .epsilon = 1e-8, .place = epsilon_place::variance_floor};

// Rollouts that valid_mask excludes are unscored here, and get 0. There they get their reward less the baseline, and
// take part in means and deviations over the batch: of gdpo always, over tokens unless their token mask is 0, too.

/// GRPOAdvantageEstimator. One more difference: the variance there is E[x^2] - E[x]^2
/// (calculate_baseline_and_std_per_prompt), whose rounding decides where rewards of a group differ by 1e-7 or less,
/// where it is E[(x - E[x])^2] here.
inline std::vector<double> grpo(std::span<const verdict> verdicts, const groups& g,
                                use_leave_one_out_baseline leave_one_out = use_leave_one_out_baseline::yes,
                                normalize normalize_rewards = normalize::yes) {
  const bool others = leave_one_out == use_leave_one_out_baseline::yes;
  if (normalize_rewards == normalize::no)
    return centred{.against = others ? baseline::leave_one_out : baseline::group_mean}(verdicts, g);
  return others ? leave_one_out_normalized()(verdicts, g) : group_normalized{}(verdicts, g);
}

/// GDPOAdvantageEstimator with normalize_rewards: each component as in grpo, the weighted sum over the batch's
/// deviation.
inline component_normalized<normalizer> gdpo(use_leave_one_out_baseline leave_one_out = use_leave_one_out_baseline::yes,
                                             std::vector<double> reward_weights = {}) {
  return {.base = leave_one_out == use_leave_one_out_baseline::yes ? leave_one_out_normalized() : normalizer{},
          .weights = std::move(reward_weights),
          .over_batch = {.epsilon = 0}};
}

namespace detail {
/// [T] from base's advantages less coefficient times a penalty per token, whitened on request; 0 outside the mask and
/// for unscored rollouts.
inline std::vector<double> over_tokens(const normalizer& base, std::span<const verdict> verdicts, const groups& g,
                                       const token_layout& layout, std::span<const double> kl, double kl_coef,
                                       normalize whitened) {
  const std::vector<std::uint8_t> mask = scored_mask(verdicts, layout);
  require(kl.empty() || kl.size() == layout.tokens(), "over_tokens: ", kl.size(), " KL estimates for ", layout.tokens(),
          " tokens");
  const std::vector<double> per_rollout = base(verdicts, g);
  std::vector<double> out(layout.tokens());
  for (std::size_t i = 0; i < layout.size(); ++i)
    for (std::size_t t = layout.offsets[i]; t < layout.offsets[i + 1]; ++t)
      if (mask[t]) out[t] = per_rollout[i] - (kl.empty() ? 0.0 : kl_coef * kl[t]);
  if (whitened == normalize::yes) whiten(std::span<double>(out), std::span<const std::uint8_t>(mask), whitening);
  return out;
}
}  // namespace detail

/// ReinforcePlusPlusAdvantageEstimator: [T]. kl: [T] estimates for use_kl_in_reward, or empty.
inline std::vector<double> reinforce_plus_plus(std::span<const verdict> verdicts, const groups& g,
                                               const token_layout& layout, minus_baseline with = minus_baseline::yes,
                                               std::span<const double> kl = {}, double kl_coef = 0) {
  const normalizer base{.baseline = with == minus_baseline::yes ? moment_scope::group : moment_scope::none,
                        .spread = moment_scope::none};
  return detail::over_tokens(base, verdicts, g, layout, kl, kl_coef, normalize::yes);
}

/// RawRewardAdvantageEstimator: [T].
inline std::vector<double> raw_reward(std::span<const verdict> verdicts, const groups& g, const token_layout& layout,
                                      normalize normalize_advantages = normalize::yes) {
  const normalizer base{.baseline = moment_scope::none, .spread = moment_scope::none};
  return detail::over_tokens(base, verdicts, g, layout, {}, 0, normalize_advantages);
}

/// GeneralizedAdvantageEstimator: rewards per token (token_rewards with the KL when it is in the reward) and values to
/// advantages and returns, each with its own lambda.
struct gae {
  double gae_gamma = 1, gae_lambda = 0.95;
  std::optional<double> gae_lambda_value = {}, gae_lambda_policy = {};
  double length_adaptive_alpha = 0;
  normalize normalize_advantages = normalize::yes;

  advantages_and_returns operator()(std::span<const double> token_level_rewards, std::span<const double> values,
                                    const token_layout& layout) const {
    const auto share = [](const char* name, double x) { require(x >= 0 && x <= 1, "gae: ", name, " is ", x); };
    share("gae_gamma", gae_gamma);
    share("gae_lambda", gae_lambda);
    share("gae_lambda_value", gae_lambda_value.value_or(0));
    share("gae_lambda_policy", gae_lambda_policy.value_or(0));
    require(length_adaptive_alpha >= 0 && is_finite(length_adaptive_alpha), "gae: length_adaptive_alpha is ",
            length_adaptive_alpha);
    const gae_options policy{
        .gamma = gae_gamma, .lambda = gae_lambda_policy.value_or(gae_lambda), .length_adaptive = length_adaptive_alpha};
    const gae_options value{.gamma = gae_gamma, .lambda = gae_lambda_value.value_or(gae_lambda)};
    advantages_and_returns out = rlvr::gae(token_level_rewards, values, layout, policy);
    out.returns = rlvr::gae(token_level_rewards, values, layout, value).returns;
    if (normalize_advantages == normalize::yes) {
      const std::vector<std::uint8_t> all(layout.mask.empty() ? layout.tokens() : 0, std::uint8_t{1});
      whiten(std::span<double>(out.advantages), layout.mask.empty() ? std::span<const std::uint8_t>(all) : layout.mask);
    }
    return out;
  }
};

// --- losses: algorithms/loss/loss_functions.py ----------------------------------------------------------------------

/// ClippedPGLossFn: coefficients of one micro-batch, with correction, aggregation and KL. Members are
/// ClippedPGLossConfig's. A sample_mask is a mask of the sequence's tokens.
///
/// The totals are this batch's if absent. seq_mask_tis needs both bounds. use_kl_in_reward is
/// reference_policy_kl_penalty = 0. positive_example_nll_weight is not here: add weight times policy_gradient with
/// advantages 1 on the correct rollouts' tokens, token_mean over those.
/// Reads sampled_log_probs for the correction and for use_on_policy_kl_approximation, reference_log_probs for the KL.
/// Throws as the objectives do, also for a weight that overflows, which is 0 there (nan_to_num).
struct clipped_pg_loss {
  nemo_rl_2026_08::ratio ratio = nemo_rl_2026_08::ratio::token;
  nemo_rl_2026_08::force_on_policy_ratio force_on_policy_ratio = nemo_rl_2026_08::force_on_policy_ratio::no;
  nemo_rl_2026_08::token_level_loss token_level_loss = nemo_rl_2026_08::token_level_loss::yes;
  double ratio_clip_min = 0.2, ratio_clip_max = 0.2;
  std::optional<double> ratio_clip_c = {};
  double reference_policy_kl_penalty = 0.01;
  kl_estimator reference_policy_kl_type = kl_estimator::k3;
  double kl_input_clamp_value = 20, kl_output_clamp_value = 10;  ///< infinity for None
  nemo_rl_2026_08::use_on_policy_kl_approximation use_on_policy_kl_approximation =
      nemo_rl_2026_08::use_on_policy_kl_approximation::no;
  /// use_importance_sampling_correction: absent is off, none leaves the weights unbounded.
  std::optional<truncated_importance_sampling_type> importance_sampling_correction = {};
  double truncated_importance_sampling_ratio = std::numeric_limits<double>::infinity();
  double truncated_importance_sampling_ratio_min = 0;
  std::optional<double> global_valid_seqs = {}, global_valid_toks = {};
  using complete_loss = void;

  template <class Real>
  void operator()(const token_batch<Real>& given, coefficients_of<Real> coefficients,
                  std::span<branch> branches = {}) const {
    check();
    token_batch<Real> b = given;
    if (force_on_policy_ratio == nemo_rl_2026_08::force_on_policy_ratio::yes) b.old_log_probs = b.log_probs;
    const std::vector<Real> weights = sequence_weights<Real>(b, how());
    policy(b, weights, coefficients, branches);
    if (importance_sampling_correction) correct(b, coefficients, branches);
    if (reference_policy_kl_penalty != 0) kl()(b, weights, coefficients);
  }

  aggregation how() const {
    const bool token = token_level_loss == nemo_rl_2026_08::token_level_loss::yes;
    const std::optional<double> total = token ? global_valid_toks : global_valid_seqs;
    aggregation out{.by = token ? denominator::active_tokens : denominator::valid_sequences};
    if (!token) out.first = averaged_over::sequence, out.epsilon = 1e-8;
    if (total) out.by = denominator::given, out.value = *total + 1e-8;
    return out;
  }

  /// calculate_kl, with the ratio whose value is 1 or the one over the sampler.
  kl_penalty kl() const {
    const bool sampled = use_on_policy_kl_approximation == nemo_rl_2026_08::use_on_policy_kl_approximation::yes;
    return {.coefficient = reference_policy_kl_penalty,
            .estimator = reference_policy_kl_type,
            .ratio = sampled ? kl_ratio::sampled : kl_ratio::one,
            .input_limit = kl_input_clamp_value,
            .output_limit = kl_output_clamp_value,
            .clamp = kl_clamp::weighted};
  }

 private:
  void check() const {
    const auto at_least_zero = [](const char* name, double x) {
      require(x >= 0 && is_finite(x), "clipped_pg_loss: ", name, " is ", x);
    };
    const bool least_is_weight = ratio == nemo_rl_2026_08::ratio::cispo;  // 1 - ratio_clip_min, not below 0
    require(ratio_clip_min >= 0 && (!least_is_weight || ratio_clip_min <= 1), "clipped_pg_loss: ratio_clip_min is ",
            ratio_clip_min);
    require(ratio_clip_max >= 0, "clipped_pg_loss: ratio_clip_max is ", ratio_clip_max);
    require(!ratio_clip_c || *ratio_clip_c > 1, "clipped_pg_loss: ratio_clip_c is ", ratio_clip_c.value_or(0));
    require(is_finite(reference_policy_kl_penalty), "clipped_pg_loss: reference_policy_kl_penalty is ",
            reference_policy_kl_penalty);
    require(kl_input_clamp_value > 0, "clipped_pg_loss: kl_input_clamp_value is ", kl_input_clamp_value);
    require(kl_output_clamp_value > 0, "clipped_pg_loss: kl_output_clamp_value is ", kl_output_clamp_value);
    at_least_zero("truncated_importance_sampling_ratio_min", truncated_importance_sampling_ratio_min);
    require(truncated_importance_sampling_ratio >= truncated_importance_sampling_ratio_min,
            "clipped_pg_loss: truncated_importance_sampling_ratio is ", truncated_importance_sampling_ratio);
    at_least_zero("global_valid_seqs", global_valid_seqs.value_or(0));
    at_least_zero("global_valid_toks", global_valid_toks.value_or(0));
  }

  template <class Real>
  void policy(const token_batch<Real>& b, weights_of<Real> weights, coefficients_of<Real> coefficients,
              std::span<branch> branches) const {
    constexpr double infinity = std::numeric_limits<double>::infinity();
    const double low = ratio_clip_min, high = ratio_clip_max;
    switch (ratio) {
      case nemo_rl_2026_08::ratio::disabled:
        return policy_gradient{}(b, weights, coefficients, branches);
      case nemo_rl_2026_08::ratio::cispo:
        return cispo{.min = 1 - low, .max = 1 + high, .log_ratio_limit = infinity}(b, weights, coefficients, branches);
      case nemo_rl_2026_08::ratio::sequence:
        return gspo{
            .low = low, .high = high, .form = gspo_form::sequence, .log_ratio_limit = infinity, .epsilon = 1e-8}(
            b, weights, coefficients, branches);
      case nemo_rl_2026_08::ratio::token:
        break;
    }
    ppo_clip{.low = low, .high = high, .dual = ratio_clip_c.value_or(infinity), .log_ratio_limit = infinity}(
        b, weights, coefficients, branches);
  }

  template <class Real>
  void correct(const token_batch<Real>& b, coefficients_of<Real> coefficients, std::span<branch> branches) const {
    using type = truncated_importance_sampling_type;
    constexpr double infinity = std::numeric_limits<double>::infinity();
    importance_correction weight{.max = infinity, .log_ratio_limit = infinity};
    if (ratio == nemo_rl_2026_08::ratio::sequence) weight.over = importance_over::sequence_product;
    importance_correction gate{.over = importance_over::sequence_geometric_mean,
                               .bound = importance_bound::reject,
                               .min = truncated_importance_sampling_ratio_min,
                               .max = truncated_importance_sampling_ratio,
                               .log_ratio_limit = infinity};
    if (*importance_sampling_correction == type::seq_mask_tis) gate(b, coefficients, branches);
    if (*importance_sampling_correction == type::tis || *importance_sampling_correction == type::icepop)
      weight.min = gate.min, weight.max = gate.max;
    if (*importance_sampling_correction == type::icepop) weight.bound = importance_bound::zero;
    weight(b, coefficients, branches);
  }
};

/// DPOLossFn on pairs of sequences, with its term for the chosen ones. Members are DPOLossConfig's; global_valid_seqs
/// counts both sequences of a pair, this call's if absent. A pair with sample_mask 0 is left out of `pairs`.
/// Branches and throws as dpo, also for a coefficient that overflows with the term for the chosen ones.
struct dpo_loss {
  double reference_policy_kl_penalty = 0.05;
  double preference_loss_weight = 1, sft_loss_weight = 0;
  average_log_probs preference_average_log_probs = average_log_probs::no;
  average_log_probs sft_average_log_probs = average_log_probs::no;
  std::optional<double> global_valid_seqs = {};

  template <class Real>
  void operator()(const token_batch<Real>& b, std::span<const preference_pair> pairs,
                  coefficients_of<Real> coefficients, std::span<branch> branches = {}) const {
    require(reference_policy_kl_penalty > 0 && is_finite(reference_policy_kl_penalty),
            "dpo_loss: reference_policy_kl_penalty is ", reference_policy_kl_penalty);
    require(is_finite(preference_loss_weight), "dpo_loss: preference_loss_weight is ", preference_loss_weight);
    require(is_finite(sft_loss_weight), "dpo_loss: sft_loss_weight is ", sft_loss_weight);
    const double sequences = global_valid_seqs.value_or(0);
    require(sequences >= 0 && is_finite(sequences), "dpo_loss: global_valid_seqs is ", sequences);
    const double share = 1 / (global_valid_seqs.value_or(2.0 * static_cast<double>(pairs.size())) / 2 + 1e-8);
    const bool mean = preference_average_log_probs == average_log_probs::yes;
    dpo{.beta = reference_policy_kl_penalty, .score = mean ? sequence_score::mean : sequence_score::sum}(
        b, pairs, preference_loss_weight * share, coefficients, branches);
    for (const preference_pair& p : pairs) {
      const std::size_t i = p.chosen;
      const bool by_length = sft_average_log_probs == average_log_probs::yes;
      const double n = by_length ? static_cast<double>(rlvr::detail::active_length(b, i)) : 1.0;
      for (std::size_t t = b.begin(i); t < b.end(i); ++t)
        if (b.active(t)) {
          coefficients[t] += static_cast<Real>(sft_loss_weight * share / n);
          require(is_finite(coefficients[t]), "dpo_loss: the coefficient of token ", t, " is ", coefficients[t]);
        }
    }
  }
};

}  // namespace rlvr::nemo_rl_2026_08
