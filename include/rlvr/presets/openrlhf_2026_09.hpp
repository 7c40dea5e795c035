#pragma once
/// What OpenRLHF 0.11.2 (September 2026) computes: its options by their names, its defaults, its numbers.
///
/// Checked in float64 against the installed package run on ragged batches (tests/golden/frameworks/openrlhf_golden.py),
/// in the tests to 3e-9 relative.

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <optional>
#include <span>
#include <utility>
#include <vector>

#include <rlvr/advantage/centred.hpp>
#include <rlvr/advantage/gae.hpp>
#include <rlvr/advantage/group_normalized.hpp>
#include <rlvr/advantage/normalizer.hpp>
#include <rlvr/advantage/token_rewards.hpp>
#include <rlvr/advantage/whitening.hpp>
#include <rlvr/objective/aggregation.hpp>
#include <rlvr/objective/importance.hpp>
#include <rlvr/objective/kl_penalty.hpp>
#include <rlvr/objective/ppo_clip.hpp>
#include <rlvr/objective/preference.hpp>
#include <rlvr/objective/rejection.hpp>
#include <rlvr/objective/sequence_level.hpp>

namespace rlvr::openrlhf_2026_09 {

enum class estimator { gae, reinforce, rloo, reinforce_baseline, group_norm, dr_grpo, flash_reinforce };
enum class no_std_norm { no, yes };
enum class token_level_loss { no, yes };
enum class policy_loss_type { ppo, gspo };
enum class is_correction_level { off, token, seq };
enum class is_correction_mode { mask, clip };
enum class is_correction_gating { ratio, binary_kl, tv };
enum class unbiased_gradient { no, yes };

// --- advantages -----------------------------------------------------------------------------------------------------

/// RemoteExperienceMaker.compute_advantages_and_returns: advantages and returns per token, [T], 0 outside the mask.
///
/// Rewards less their group's baseline (or the batch's mean, flash_reinforce), clipped, on the last active token; less
/// kl_coef times a KL estimate on every active token; then returns or GAE, which run through masked tokens; then, for
/// gae, reinforce and reinforce_baseline, whitened over the batch's active tokens (deviation with ddof 0, at least
/// 1e-4), or only centred. gamma is used by reinforce and gae alone. A group of one rollout has the advantage 0, where
/// OpenRLHF divides 0 by 0. Throws as token_rewards and gae do. O(T).
/// Source: openrlhf/trainer/ppo_utils/experience_maker.py, models/utils.py (compute_reward) of 0.11.2.
struct advantages {
  openrlhf_2026_09::estimator estimator = openrlhf_2026_09::estimator::gae;
  double gamma = 1, lambd = 1;
  double init_kl_coef = 0.01;  ///< --algo.kl.init_coef; 0 when the KL is in the loss
  openrlhf_2026_09::no_std_norm no_std_norm = openrlhf_2026_09::no_std_norm::no;
  std::optional<std::pair<double, double>> reward_clip_range = {};

  /// kl: [T] estimates (k1: old_log_probs - reference_log_probs), or empty; values: [T], for gae.
  advantages_and_returns operator()(std::span<const verdict> verdicts, const groups& g, const token_layout& layout,
                                    std::span<const double> kl = {}, std::span<const double> values = {}) const {
    using kind = openrlhf_2026_09::estimator;
    require(gamma >= 0 && gamma <= 1, "advantages: gamma is ", gamma);
    require(lambd >= 0 && lambd <= 1, "advantages: lambd is ", lambd);
    require(is_finite(init_kl_coef), "advantages: init_kl_coef is ", init_kl_coef);
    require(!reward_clip_range || reward_clip_range->first <= reward_clip_range->second,
            "advantages: reward_clip_range is not increasing");
    std::vector<verdict> shaped(verdicts.begin(), verdicts.end());
    const std::vector<double> base = shape(verdicts, g);
    for (std::size_t i = 0; i < shaped.size(); ++i) {
      shaped[i].reward = base[i];
      if (reward_clip_range)
        shaped[i].reward = std::clamp(base[i], reward_clip_range->first, reward_clip_range->second);
    }
    const std::vector<double> rewards = token_rewards(shaped, layout, kl, std::max(init_kl_coef, 0.0));
    const token_layout through{layout.offsets};
    advantages_and_returns out;
    if (estimator == kind::gae) {
      require(values.size() == layout.tokens(), "advantages: ", values.size(), " values for ", layout.tokens(),
              " tokens");
      std::vector<double> value(values.begin(), values.end());
      for (std::size_t t = 0; t < value.size(); ++t)
        if (!layout.active(t)) value[t] = 0;
      out = gae(rewards, value, through, {.gamma = gamma, .lambda = lambd});
    } else {
      out.returns = discounted_returns(rewards, through, estimator == kind::reinforce ? gamma : 1.0);
      out.advantages = out.returns;
    }
    std::vector<std::uint8_t> mask(layout.tokens());
    for (std::size_t t = 0; t < mask.size(); ++t) mask[t] = layout.active(t);
    if (estimator == kind::gae || estimator == kind::reinforce || estimator == kind::reinforce_baseline)
      normalize(out.advantages, mask);
    for (std::size_t t = 0; t < mask.size(); ++t)
      if (mask[t] == 0) out.advantages[t] = out.returns[t] = 0;
    return out;
  }

 private:
  std::vector<double> shape(std::span<const verdict> verdicts, const groups& g) const {
    switch (estimator) {
      case estimator::rloo:
        return centred{.against = baseline::leave_one_out}(verdicts, g);
      case estimator::reinforce_baseline:
      case estimator::dr_grpo:
        return centred{}(verdicts, g);
      case estimator::group_norm:
        return group_normalized{.epsilon = 1e-9}(verdicts, g);
      case estimator::flash_reinforce:
        return normalizer{.baseline = moment_scope::batch, .spread = moment_scope::none}(verdicts, g);
      case estimator::gae:
      case estimator::reinforce:
        break;
    }
    return normalizer{.baseline = moment_scope::none, .spread = moment_scope::none}(verdicts, g);
  }

  void normalize(std::vector<double>& values, std::span<const std::uint8_t> mask) const {
    if (no_std_norm == openrlhf_2026_09::no_std_norm::no)
      return whiten(std::span<double>(values), mask,
                    {.ddof = 0, .epsilon = 1e-8, .place = epsilon_place::variance_floor});
    double sum = 0, count = 0;
    for (std::size_t t = 0; t < values.size(); ++t)
      if (mask[t] != 0) sum += values[t], ++count;
    for (double& x : values) x -= count > 0 ? sum / count : 0.0;
  }
};

// --- losses ---------------------------------------------------------------------------------------------------------

/// aggregate_loss: the mean over active tokens, or over sequences that have one of the mean over their tokens; with
/// totals of the global batch when they are given. Also GPTLMLoss's and SFTLoss's.
struct aggregate_loss {
  openrlhf_2026_09::token_level_loss token_level_loss = openrlhf_2026_09::token_level_loss::yes;
  double dp_size = 1;
  std::optional<double> batch_num_tokens{};   ///< for the token level
  std::optional<double> global_batch_size{};  ///< for the sequence level

  /// Throws std::invalid_argument for a member that is not positive and finite.
  aggregation how() const {
    const auto positive = [](const char* name, double x) {
      require(x > 0 && is_finite(x), "aggregate_loss: ", name, " is ", x);
    };
    positive("dp_size", dp_size);
    positive("batch_num_tokens", batch_num_tokens.value_or(1));
    positive("global_batch_size", global_batch_size.value_or(1));
    const bool token = token_level_loss == openrlhf_2026_09::token_level_loss::yes;
    const std::optional<double> total = token ? batch_num_tokens : global_batch_size;
    aggregation out{.by = token ? denominator::active_tokens : denominator::valid_sequences};
    if (!token) out.first = averaged_over::sequence, out.epsilon = 1e-8;
    if (total) out.by = denominator::given, out.value = *total / dp_size;
    return out;
  }
};

/// PolicyLoss: coefficients of one micro-batch, aggregation included. Members are PolicyLoss's arguments.
///
/// gspo is always aggregated over sequences, and with a correction level its ratio is over sampled_log_probs instead of
/// the gates. Reads sampled_log_probs for corrections. Throws as the objectives do, and std::invalid_argument for
/// is_correction_mode::clip with anything but the token's ratio. Source: openrlhf/models/loss.py of 0.11.2.
struct policy_loss {
  double clip_eps_low = 0.2, clip_eps_high = 0.2;
  std::optional<double> dual_clip = {};
  openrlhf_2026_09::policy_loss_type policy_loss_type = openrlhf_2026_09::policy_loss_type::ppo;
  openrlhf_2026_09::is_correction_level is_correction_level = openrlhf_2026_09::is_correction_level::off;
  openrlhf_2026_09::is_correction_mode is_correction_mode = openrlhf_2026_09::is_correction_mode::mask;
  openrlhf_2026_09::is_correction_gating is_correction_gating = openrlhf_2026_09::is_correction_gating::ratio;
  std::pair<double, double> is_correction_threshold = {0.5, 5.0};
  aggregate_loss aggregate = {};
  using complete_loss = void;

  template <class Real>
  void operator()(const token_batch<Real>& b, coefficients_of<Real> coefficients,
                  std::span<branch> branches = {}) const {
    check();
    const bool corrected = is_correction_level != openrlhf_2026_09::is_correction_level::off;
    const bool sequence = policy_loss_type == openrlhf_2026_09::policy_loss_type::gspo;
    aggregate_loss over = aggregate;
    if (sequence) over.token_level_loss = openrlhf_2026_09::token_level_loss::no;
    const std::vector<Real> weights = sequence_weights<Real>(b, over.how());
    constexpr double infinity = std::numeric_limits<double>::infinity();
    const ppo_clip clip{.low = clip_eps_low,
                        .high = clip_eps_high,
                        .dual = dual_clip.value_or(infinity),
                        .log_ratio_limit = sequence ? infinity : 20.0};
    if (sequence) {
      token_batch<Real> ratio = b;
      if (corrected) ratio.old_log_probs = b.sampled_log_probs;
      return sequence_level<ppo_clip>{clip}(ratio, weights, coefficients, branches);
    }
    clip(b, weights, coefficients, branches);
    if (corrected) correct(b, coefficients, branches);
  }

 private:
  void check() const {
    require(clip_eps_low >= 0, "policy_loss: clip_eps_low is ", clip_eps_low);
    require(clip_eps_high >= 0, "policy_loss: clip_eps_high is ", clip_eps_high);
    require(!dual_clip || *dual_clip > 1, "policy_loss: dual_clip is ", dual_clip.value_or(0));
    const auto [low, high] = is_correction_threshold;
    const bool ratio = is_correction_gating == openrlhf_2026_09::is_correction_gating::ratio;
    require(low <= high && (!ratio || low >= 0), "policy_loss: is_correction_threshold is [", low, ", ", high, "]");
  }

  template <class Real>
  void correct(const token_batch<Real>& b, coefficients_of<Real> coefficients, std::span<branch> branches) const {
    using gating = openrlhf_2026_09::is_correction_gating;
    constexpr double infinity = std::numeric_limits<double>::infinity();
    const auto [low, high] = is_correction_threshold;
    const bool clip = is_correction_mode == openrlhf_2026_09::is_correction_mode::clip;
    const bool of_sequence = is_correction_level == openrlhf_2026_09::is_correction_level::seq;
    require(!clip || (!of_sequence && is_correction_gating == gating::ratio),
            "policy_loss: is_correction_mode::clip needs is_correction_level::token and is_correction_gating::ratio");
    if (is_correction_gating == gating::ratio) {
      importance_correction gate{.bound = clip ? importance_bound::truncate : importance_bound::reject,
                                 .min = low,
                                 .max = high,
                                 .log_ratio_limit = infinity};
      if (of_sequence) gate.over = importance_over::sequence_geometric_mean;
      gate(b, coefficients, branches);
      if (clip) return;
    } else {
      rejection{.divergence = is_correction_gating == gating::tv ? sampler_divergence::total_variation
                                                                 : sampler_divergence::binary_kl,
                .over = of_sequence ? rejection_over::sequence_mean : rejection_over::token,
                .min = low,
                .max = high}(b, coefficients, branches);
    }
    importance_correction{.max = infinity, .log_ratio_limit = infinity}(b, coefficients, branches);
  }
};

/// Adds the gradient of coefficient times compute_approx_kl, an estimate clamped to +-10: its own, or the reverse KL's
/// times min(exp(log_probs - old_log_probs), 10). Source: openrlhf/models/utils.py of 0.11.2.
struct kl_loss {
  double coefficient = 0.01;
  kl_estimator estimator = kl_estimator::k1;  ///< k1, k2 or k3
  openrlhf_2026_09::unbiased_gradient unbiased_gradient = openrlhf_2026_09::unbiased_gradient::no;

  template <class Real>
  void operator()(const token_batch<Real>& b, weights_of<Real> weights, coefficients_of<Real> coefficients) const {
    require(is_finite(coefficient), "kl_loss: coefficient is ", coefficient);
    kl_penalty penalty{.coefficient = coefficient, .estimator = estimator, .output_limit = 10};
    if (unbiased_gradient == openrlhf_2026_09::unbiased_gradient::no) return penalty(b, weights, coefficients);
    validate(b, "kl_loss");
    require(coefficients.size() == b.tokens(), "kl_loss: ", coefficients.size(), " coefficients for ", b.tokens(),
            " tokens");
    penalty = {.coefficient = coefficient, .estimator = kl_estimator::k2};
    std::vector<Real> term(b.tokens());
    penalty(b, weights, std::span<Real>(term));
    token_batch<Real> since = b;
    since.old_log_probs = b.log_probs;
    since.sampled_log_probs = b.old_log_probs;
    importance_correction{.max = 10, .log_ratio_limit = std::numeric_limits<double>::infinity()}(since,
                                                                                                 std::span<Real>(term));
    for (std::size_t t = 0; t < term.size(); ++t) coefficients[t] += term[t];
  }
};

}  // namespace rlvr::openrlhf_2026_09
