#pragma once
/// What verl 0.9.1 (September 2026) computes: its options by their names, its defaults, its numbers.
///
/// Checked in float64 against the installed package run on ragged batches (tests/golden/frameworks/verl_golden.py), in
/// the tests to 3e-9 relative: verl adds 1e-8 to the counts it divides by (verl/utils/torch_functional.py:308,
/// verl/trainer/ppo/core_algos.py:1196), which is left out here. Not here: the gradient of entropy_coeff, which goes
/// through logits (see entropy_bonus.hpp).

#include <cmath>
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
#include <rlvr/advantage/greedy_baseline.hpp>
#include <rlvr/advantage/group_normalized.hpp>
#include <rlvr/advantage/length_weighted.hpp>
#include <rlvr/advantage/normalizer.hpp>
#include <rlvr/advantage/optimal_token_baseline.hpp>
#include <rlvr/advantage/signal_scaled.hpp>
#include <rlvr/advantage/token_rewards.hpp>
#include <rlvr/advantage/top_gap.hpp>
#include <rlvr/advantage/whitening.hpp>
#include <rlvr/objective/aggregation.hpp>
#include <rlvr/objective/cispo.hpp>
#include <rlvr/objective/covariance.hpp>
#include <rlvr/objective/dppo.hpp>
#include <rlvr/objective/dro.hpp>
#include <rlvr/objective/gmpo.hpp>
#include <rlvr/objective/gspo.hpp>
#include <rlvr/objective/importance.hpp>
#include <rlvr/objective/kl_penalty.hpp>
#include <rlvr/objective/normalized_importance.hpp>
#include <rlvr/objective/policy_gradient.hpp>
#include <rlvr/objective/ppo_clip.hpp>
#include <rlvr/objective/rejection.hpp>
#include <rlvr/objective/sapo.hpp>

namespace rlvr::verl_2026_09 {

enum class norm_adv_by_std_in_grpo { no, yes };
enum class loss_mode {
  vanilla,
  dppo_tv,
  dppo_kl,
  gspo,
  sapo,
  gpg,
  clip_cov,
  kl_cov,
  geo_mean,
  dro,
  cispo,
  bypass_mode
};
enum class loss_agg_mode { token_mean, token_sum, seq_mean_token_sum, seq_mean_token_sum_norm, seq_mean_token_mean };
enum class kl_loss_type { k1, abs, k2, low_var_kl };
enum class straight_through { no, yes };
enum class rollout_is { none, token, sequence };
enum class rollout_is_batch_normalize { no, yes };
enum class bypass_loss { ppo_clip, reinforce };
enum class use_kl_loss { no, yes };
enum class handle_zero_tail { no, yes };

// --- advantages: core_algos.py's, by their adv_estimator ------------------------------------------------------------
// One advantage per rollout unless said otherwise; groups of one keep their reward, except where verl's do not.

/// grpo and grpo_vectorized.
inline std::vector<double> grpo(std::span<const verdict> verdicts, const groups& g,
                                norm_adv_by_std_in_grpo norm = norm_adv_by_std_in_grpo::yes) {
  if (norm == norm_adv_by_std_in_grpo::yes) return group_normalized{.lone = lone_rollout::reward}(verdicts, g);
  return centred{.lone = lone_rollout::reward}(verdicts, g);
}
inline constexpr centred rloo{.against = baseline::leave_one_out, .lone = lone_rollout::reward};
inline constexpr centred rloo_vectorized{.against = baseline::leave_one_out};
/// Needs the active tokens of each rollout.
inline constexpr length_weighted opo{.lone = lone_rollout::reward};
/// f_norm is signal_scaled's divisor.
inline constexpr signal_scaled gpg{.lone = lone_rollout::reward};
/// verl raises an error for a group of one.
inline constexpr top_gap grpo_passk(norm_adv_by_std_in_grpo norm = norm_adv_by_std_in_grpo::yes) {
  return {.scaled = norm == norm_adv_by_std_in_grpo::yes ? scaling::deviation : scaling::none};
}
/// Needs the active tokens of each rollout.
inline normalizer reinforce_plus_plus_baseline() {
  normalizer out = token_whitened();
  out.lone = lone_rollout::reward;
  return out;
}
/// Needs the active tokens of each rollout.
inline component_normalized<> gdpo(std::vector<double> gdpo_reward_weights = {}) {
  return {.base = {.lone = lone_rollout::reward},
          .weights = std::move(gdpo_reward_weights),
          .over_batch = {.epsilon = 1e-8, .place = epsilon_place::beside_variance}};
}
/// [T] from rewards per token.
inline std::vector<double> reinforce_plus_plus(std::span<const double> token_level_rewards, const token_layout& layout,
                                               double gamma = 1) {
  return whitened_returns(token_level_rewards, layout, gamma);
}
/// [T] from rewards per token and the greedy completion's reward per rollout.
inline std::vector<double> remax(std::span<const double> token_level_rewards, std::span<const double> reward_baselines,
                                 const token_layout& layout) {
  return returns_above(token_level_rewards, reward_baselines, layout);
}
/// [T]; advantages are whitened over active tokens, returns are not.
inline advantages_and_returns gae(std::span<const double> token_level_rewards, std::span<const double> values,
                                  const token_layout& layout, double gamma = 1, double lam = 1) {
  advantages_and_returns out = rlvr::gae(token_level_rewards, values, layout, {.gamma = gamma, .lambda = lam});
  const std::vector<std::uint8_t> all(layout.mask.empty() ? layout.tokens() : 0, std::uint8_t{1});
  whiten(std::span<double>(out.advantages), layout.mask.empty() ? std::span<const std::uint8_t>(all) : layout.mask);
  return out;
}
/// tir_optimal_token_baseline: [T] from rewards per token, old_log_probs and sum_pi_squared. optimal_token_baseline is
/// the same as long as no masked token stands before an active one (it counts those, too); a group's only rollout with
/// tokens is a tail to it when there are others without. Where all weights of a position are 0 its baseline is the mean
/// here, 0 there. Without handle_zero_tail the tail's advantages are 0 here; there they are
/// 1e-8 / (W + 1e-8) of the returns, so next to nothing except where the policy is all but certain.
inline constexpr rlvr::optimal_token_baseline optimal_token_baseline(handle_zero_tail tail = handle_zero_tail::yes) {
  return {.lone = lone_rollout::reward,
          .tail = tail == handle_zero_tail::yes ? lone_rollout::reward : lone_rollout::zero,
          .epsilon = 1e-8};
}

// --- rollout correction: rollout_corr_helper.py ---------------------------------------------------------------------

/// One option of rollout_rs other than *_k1, with its threshold: {over, k2 or k3, upper bound}.
inline rejection rollout_rs(rejection_over over, sampler_divergence divergence, double threshold) {
  require(threshold == threshold, "rollout_rs: threshold is ", threshold);
  return {.divergence = divergence, .over = over, .max = threshold};
}
/// An option *_k1 with its threshold "lower_upper", ratios of the sampler over the policy; a single threshold u means
/// lower = 1 / u.
inline rejection rollout_rs_k1(rejection_over over, double lower, double upper) {
  require(lower >= 0 && lower <= upper, "rollout_rs_k1: the threshold is [", lower, ", ", upper, "]");
  return {.divergence = sampler_divergence::k1, .over = over, .min = std::log(lower), .max = std::log(upper)};
}

/// RolloutCorrectionConfig. Weights multiply the policy loss; rejected tokens leave the mask, and so the denominators.
struct rollout_correction {
  verl_2026_09::rollout_is rollout_is = verl_2026_09::rollout_is::sequence;
  double rollout_is_threshold = 2;
  std::optional<double> rollout_is_lower = {};  ///< of a threshold "lower_upper": weights outside become 0
  verl_2026_09::rollout_is_batch_normalize rollout_is_batch_normalize = verl_2026_09::rollout_is_batch_normalize::no;
  std::vector<rejection> rollout_rs = {};  ///< a token stays when all options keep it

  /// compute_rollout_correction_weights: [T], 0 outside the mask; empty for rollout_is::none.
  template <class Real>
  std::vector<Real> weights(const token_batch<Real>& b) const {
    if (rollout_is == verl_2026_09::rollout_is::none) return {};
    require(rollout_is_threshold >= 0, "rollout_correction: rollout_is_threshold is ", rollout_is_threshold);
    require(!rollout_is_lower || (*rollout_is_lower >= 0 && *rollout_is_lower <= rollout_is_threshold),
            "rollout_correction: rollout_is_lower is ", rollout_is_lower.value_or(0));
    validate(b, "rollout_correction");
    std::vector<Real> out(b.tokens(), Real(1));
    importance_correction correct{.max = rollout_is_threshold};
    if (rollout_is == verl_2026_09::rollout_is::sequence) correct.over = importance_over::sequence_product;
    if (rollout_is_lower) correct.bound = importance_bound::zero, correct.min = *rollout_is_lower;
    if (rollout_is_batch_normalize == verl_2026_09::rollout_is_batch_normalize::yes)
      normalized_importance{correct}(b, std::span<Real>(out));
    else
      correct(b, std::span<Real>(out));
    return out;
  }

  /// compute_rollout_rejection_mask: the mask without what rollout_rs rejects, [T].
  template <class Real>
  std::vector<std::uint8_t> kept(const token_batch<Real>& b) const {
    validate(b, "rollout_correction");
    std::vector<std::uint8_t> out(b.tokens());
    for (std::size_t t = 0; t < out.size(); ++t) out[t] = b.active(t);
    for (const rejection& one : rollout_rs) {
      const std::vector<std::uint8_t> keep = one.kept(b);
      for (std::size_t t = 0; t < out.size(); ++t) out[t] = out[t] && keep[t];
    }
    return out;
  }
};

// --- losses ---------------------------------------------------------------------------------------------------------

/// agg_loss: loss_agg_mode and the totals of the global batch, this batch's if absent.
struct agg_loss {
  verl_2026_09::loss_agg_mode loss_agg_mode = verl_2026_09::loss_agg_mode::token_mean;
  double loss_scale_factor = 0;  ///< for seq_mean_token_sum_norm, which needs it; verl falls back to the padded width
  double dp_size = 1;
  std::optional<double> batch_num_tokens{};   ///< for token_mean
  std::optional<double> global_batch_size{};  ///< for the sequence modes

  /// Throws std::invalid_argument for a member that is not positive and finite, loss_scale_factor only where it counts.
  aggregation how() const {
    using mode = verl_2026_09::loss_agg_mode;
    const auto positive = [](const char* name, double x) {
      require(x > 0 && is_finite(x), "agg_loss: ", name, " is ", x);
    };
    positive("dp_size", dp_size);
    positive("batch_num_tokens", batch_num_tokens.value_or(1));
    positive("global_batch_size", global_batch_size.value_or(1));
    if (loss_agg_mode == mode::seq_mean_token_sum_norm) positive("loss_scale_factor", loss_scale_factor);
    aggregation out;
    std::optional<double> total = batch_num_tokens;
    if (loss_agg_mode == mode::token_sum) total = 1;
    if (loss_agg_mode != mode::token_mean && loss_agg_mode != mode::token_sum) {
      out.by = denominator::valid_sequences;
      total = global_batch_size;
    }
    if (loss_agg_mode == mode::seq_mean_token_mean) out.first = averaged_over::sequence, out.epsilon = 1e-8;
    if (loss_agg_mode == mode::seq_mean_token_sum_norm) out.scale = loss_scale_factor;
    if (total) out.by = denominator::given, out.value = *total / dp_size;
    return out;
  }
};

/// kl_penalty by its name; straight_through is the "+" behind it.
inline kl_penalty kl_loss(kl_loss_type type = kl_loss_type::low_var_kl, double kl_loss_coef = 0.001,
                          straight_through plus = straight_through::no) {
  kl_penalty out{.coefficient = kl_loss_coef};
  if (type == kl_loss_type::k1) out.estimator = kl_estimator::k1;
  if (type == kl_loss_type::abs) out.estimator = kl_estimator::absolute;
  if (type == kl_loss_type::k2) out.estimator = kl_estimator::k2;
  if (type == kl_loss_type::low_var_kl) out.input_limit = 20, out.output_limit = 10;
  if (plus == straight_through::yes) out.gradient = kl_gradient::k2;
  return out;
}

/// The actor's loss: coefficients of one micro-batch, with corrections, aggregation and KL. Members are ActorConfig's
/// and PolicyLossConfig's, with their defaults (DAPO's recipe: clip_ratio_high 0.28, clip_ratio_c 10).
///
/// sapo is always aggregated as seq_mean_token_mean, geo_mean as the mean over all sequences. clip_cov draws as many
/// tokens as verl, by `key` instead of torch's global generator. In bypass_mode old_log_probs are the sampler's, the
/// correction is of log_probs over them, and ppo_clip drops its weights. sampled_log_probs is read for corrections,
/// reference_log_probs for the KL. Throws as the objectives do. Branches of rejected tokens: rejected.
/// Source: verl/trainer/ppo/core_algos.py, verl/workers/config/actor.py, verl/workers/utils/losses.py of 0.9.1.
struct actor_loss {
  verl_2026_09::loss_mode loss_mode = verl_2026_09::loss_mode::vanilla;
  double clip_ratio_low = 0.2, clip_ratio_high = 0.2, clip_ratio_c = 3;
  double tau_pos = 1.0, tau_neg = 1.05;                            ///< sapo
  double clip_cov_ratio = 2e-4, clip_cov_lb = 1, clip_cov_ub = 5;  ///< clip_cov
  random_key key{0};                                               ///< clip_cov
  double kl_cov_ratio = 2e-4, ppo_kl_coef = 0.1;                   ///< kl_cov
  double dro_beta = 0;                                             ///< dro needs it
  agg_loss aggregate = {};
  std::optional<verl_2026_09::rollout_correction> rollout_correction = {};
  bypass_loss loss_type = bypass_loss::ppo_clip;  ///< bypass_mode
  verl_2026_09::use_kl_loss use_kl_loss = verl_2026_09::use_kl_loss::no;
  kl_penalty kl = kl_loss();
  using complete_loss = void;

  template <class Real>
  void operator()(const token_batch<Real>& b, coefficients_of<Real> coefficients,
                  std::span<branch> branches = {}) const {
    check();
    const bool bypass = loss_mode == verl_2026_09::loss_mode::bypass_mode;
    token_batch<Real> kept = b;
    std::vector<std::uint8_t> mask;
    std::vector<Real> factor;
    if (rollout_correction) {
      token_batch<Real> judged = b;
      if (bypass) judged.old_log_probs = b.log_probs, judged.sampled_log_probs = b.old_log_probs;
      kept.mask = mask = rollout_correction->kept(judged);
      if (!bypass || loss_type == bypass_loss::reinforce) factor = rollout_correction->weights(judged);
    }
    policy(kept, coefficients, branches);
    if (loss_mode == verl_2026_09::loss_mode::geo_mean) make_sequence_means(kept, factor);
    for (std::size_t t = 0; t < factor.size(); ++t) coefficients[t] *= factor[t];
    for (std::size_t t = 0; t < branches.size(); ++t)
      if (b.active(t) && (!kept.active(t) || (!factor.empty() && factor[t] == 0))) branches[t] = branch::rejected;
    if (use_kl_loss == verl_2026_09::use_kl_loss::yes)
      kl(kept, sequence_weights<Real>(kept, aggregate.how()), coefficients);
  }

 private:
  /// Those that the mode reads.
  void check() const {
    using mode = verl_2026_09::loss_mode;
    const auto demand = [](bool ok, const char* name, double x) { require(ok, "actor_loss: ", name, " is ", x); };
    const auto positive = [&](const char* name, double x) { demand(x > 0 && is_finite(x), name, x); };
    const bool least_is_weight = loss_mode == mode::cispo;  // 1 - clip_ratio_low, which may not be below 0
    demand(clip_ratio_low >= 0 && (!least_is_weight || clip_ratio_low <= 1), "clip_ratio_low", clip_ratio_low);
    demand(clip_ratio_high >= 0, "clip_ratio_high", clip_ratio_high);
    if (loss_mode == mode::vanilla || (loss_mode == mode::bypass_mode && loss_type == bypass_loss::ppo_clip))
      demand(clip_ratio_c > 1, "clip_ratio_c", clip_ratio_c);
    if (loss_mode == mode::dppo_tv || loss_mode == mode::dppo_kl)
      demand(clip_ratio_c >= 0, "clip_ratio_c", clip_ratio_c);
    if (loss_mode == mode::sapo) positive("tau_pos", tau_pos), positive("tau_neg", tau_neg);
    if (loss_mode == mode::clip_cov)
      demand(clip_cov_ratio > 0 && clip_cov_ratio <= 1, "clip_cov_ratio", clip_cov_ratio);
    if (loss_mode == mode::kl_cov) {
      demand(kl_cov_ratio > 0 && kl_cov_ratio <= 1, "kl_cov_ratio", kl_cov_ratio);
      demand(is_finite(ppo_kl_coef), "ppo_kl_coef", ppo_kl_coef);
    }
    if (loss_mode == mode::dro) positive("dro_beta", dro_beta);
  }

  template <class Real>
  void policy(const token_batch<Real>& b, coefficients_of<Real> coefficients, std::span<branch> branches) const {
    using mode = verl_2026_09::loss_mode;
    agg_loss over = aggregate;
    if (loss_mode == mode::sapo) over.loss_agg_mode = loss_agg_mode::seq_mean_token_mean;
    const std::vector<Real> weights =
        sequence_weights<Real>(b, loss_mode == mode::geo_mean ? sequence_mean_of_token_mean : over.how());
    const double low = clip_ratio_low, high = clip_ratio_high;
    const auto run = [&](const auto& o) { o(b, weights, coefficients, branches); };
    switch (loss_mode) {
      case mode::vanilla:
        return run(ppo_clip{.low = low, .high = high, .dual = clip_ratio_c});
      case mode::dppo_tv:
        return run(dppo{.low = low, .high = high, .cap = clip_ratio_c});
      case mode::dppo_kl:
        return run(dppo{.low = low, .high = high, .cap = clip_ratio_c, .divergence = binary_divergence::kl});
      case mode::gspo:
        return run(gspo{.low = low, .high = high});
      case mode::sapo:
        return run(sapo{.tau_positive = tau_pos, .tau_negative = tau_neg});
      case mode::gpg:
        return run(policy_gradient{});
      case mode::clip_cov:
        return run(
            clip_cov{.key = key,
                     .share = clip_cov_ratio,
                     .low_covariance = clip_cov_lb,
                     .high_covariance = clip_cov_ub,
                     .clip = {.low = low, .high = high, .log_ratio_limit = std::numeric_limits<double>::infinity()}});
      case mode::kl_cov:
        return run(kl_cov{.share = kl_cov_ratio, .coefficient = ppo_kl_coef});
      case mode::geo_mean:
        return run(gmpo{.low = low, .high = high, .epsilon = 1e-8});
      case mode::dro:
        return run(dro{.beta = dro_beta});
      case mode::cispo:
        return run(cispo{.min = 1 - low, .max = 1 + high});
      case mode::bypass_mode:
        break;
    }
    if (loss_type == bypass_loss::reinforce) return run(policy_gradient{});
    run(ppo_clip{.low = low, .high = high, .dual = clip_ratio_c});
  }

  /// geo_mean's weight of a sequence: the geometric mean of its tokens' weights, each + 1e-10.
  template <class Real>
  static void make_sequence_means(const token_batch<Real>& b, std::vector<Real>& factor) {
    for (std::size_t i = 0; !factor.empty() && i < b.size(); ++i) {
      const double n = static_cast<double>(detail::active_length(b, i));
      const double sum =
          detail::sum_active(b, i, [&](std::size_t t) { return std::log(static_cast<double>(factor[t]) + 1e-10); });
      for (std::size_t t = b.begin(i); t < b.end(i); ++t) factor[t] = static_cast<Real>(std::exp(sum / (n + 1e-8)));
    }
  }
};

}  // namespace rlvr::verl_2026_09
