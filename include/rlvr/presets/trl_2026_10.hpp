#pragma once
/// What TRL 1.16.0 (October 2026) computes: its options by their names, its defaults, its numbers.
///
/// Checked in float64 against the installed package run on ragged batches (tests/golden/frameworks/trl_golden.py), in
/// the tests to 3e-9 relative. Not here: the gradient of TRL's entropy bonus, which goes through logits (see
/// entropy_bonus.hpp; its weights are `grpo_loss::entropy_weights`), and the DPO losses hinge, robust, exo_pair,
/// nca_pair, sppo_hard, apo_*, aot, discopop and f-divergences.

#include <algorithm>
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
#include <rlvr/advantage/group_normalized.hpp>
#include <rlvr/advantage/normalizer.hpp>
#include <rlvr/advantage/whitening.hpp>
#include <rlvr/objective/aggregation.hpp>
#include <rlvr/objective/cispo.hpp>
#include <rlvr/objective/gmpo.hpp>
#include <rlvr/objective/gspo.hpp>
#include <rlvr/objective/high_entropy.hpp>
#include <rlvr/objective/importance.hpp>
#include <rlvr/objective/kl_penalty.hpp>
#include <rlvr/objective/ppo_clip.hpp>
#include <rlvr/objective/preference.hpp>
#include <rlvr/objective/sapo.hpp>
#include <rlvr/objective/sequence_level.hpp>
#include <rlvr/objective/topr.hpp>
#include <rlvr/objective/vespo.hpp>

namespace rlvr::trl_2026_10 {

enum class scale_rewards { group, batch, none };
enum class loss_type { grpo, bnpo, dr_grpo, dapo, luspo, cispo, sapo, vespo };
enum class vllm_importance_sampling_mode { token_truncate, token_mask, sequence_truncate, sequence_mask };
enum class use_bias_correction_kl { no, yes };
enum class normalize_advantages { no, yes };

// --- advantages -----------------------------------------------------------------------------------------------------

/// The weighted sum of reward functions per rollout; those that could not score a rollout are left out, and a rollout
/// that none could score is unscored. No weights are ones. Source: GRPOTrainer, sum_then_normalize.
inline std::vector<verdict> summed_rewards(std::span<const std::span<const verdict>> functions,
                                           std::span<const double> reward_weights = {}) {
  require(!functions.empty(), "summed_rewards: there are no reward functions");
  require(reward_weights.empty() || reward_weights.size() == functions.size(),
          "summed_rewards: ", reward_weights.size(), " weights for ", functions.size(), " reward functions");
  std::vector<verdict> out(functions[0].size(), verdict{0, false});
  for (std::size_t k = 0; k < functions.size(); ++k) {
    require(functions[k].size() == out.size(), "summed_rewards: function ", k, " has ", functions[k].size(),
            " verdicts, function 0 has ", out.size());
    for (std::size_t i = 0; i < out.size(); ++i)
      if (functions[k][i].scored) {
        out[i].reward += (reward_weights.empty() ? 1.0 : reward_weights[k]) * functions[k][i].reward;
        out[i].scored = true;
      }
  }
  return out;
}

/// GRPOTrainer's advantages: group mean, deviation of the group (default) or of the batch's raw rewards, + 1e-4.
inline std::vector<double> grpo_advantages(std::span<const verdict> verdicts, const groups& g,
                                           scale_rewards scale = scale_rewards::group) {
  if (scale == scale_rewards::group) return group_normalized{.epsilon = 1e-4}(verdicts, g);
  if (scale == scale_rewards::batch) return batch_normalized()(verdicts, g);
  return centred{}(verdicts, g);
}

/// multi_objective_aggregation="normalize_then_sum": GDPO.
inline component_normalized<> normalize_then_sum(std::vector<double> reward_weights = {}) {
  return {.base = {.epsilon = 1e-4}, .weights = std::move(reward_weights), .over_batch = {.epsilon = 1e-4}};
}

/// RLOOTrainer's advantages: rewards clipped, less beta times the k1 estimate summed over all tokens of the completion,
/// less the mean of the other rollouts, over the batch's deviation + 1e-4 on request.
struct rloo_advantages {
  double beta = 0.05;
  std::optional<std::pair<double, double>> reward_clip_range = {};
  trl_2026_10::normalize_advantages normalize = trl_2026_10::normalize_advantages::no;

  /// kl: [B] sums of old_log_probs - reference_log_probs, or empty when beta is 0.
  std::vector<double> operator()(std::span<const verdict> verdicts, const groups& g,
                                 std::span<const double> kl = {}) const {
    require(is_finite(beta), "rloo_advantages: beta is ", beta);
    require(beta == 0 || kl.size() == verdicts.size(), "rloo_advantages: ", kl.size(), " KL sums for ", verdicts.size(),
            " verdicts");
    require(!reward_clip_range || reward_clip_range->first <= reward_clip_range->second,
            "rloo_advantages: reward_clip_range is not increasing");
    std::vector<verdict> rewards(verdicts.begin(), verdicts.end());
    std::vector<std::uint8_t> scored;
    for (std::size_t i = 0; i < rewards.size(); ++i) {
      double& r = rewards[i].reward;
      if (reward_clip_range) r = std::clamp(r, reward_clip_range->first, reward_clip_range->second);
      if (beta != 0) r -= beta * kl[i];
      scored.push_back(rewards[i].scored);
    }
    rlvr::detail::check_groups(rewards.size(), g);
    for (std::size_t k = 0; k < g.size(); ++k) {  // a rollout without siblings has no advantage, and no say below
      const auto of_group = std::span<std::uint8_t>(scored).subspan(g.begin(k), g.size(k));
      if (std::count(of_group.begin(), of_group.end(), 1) == 1) std::fill(of_group.begin(), of_group.end(), 0);
    }
    std::vector<double> out = centred{.against = baseline::leave_one_out}(rewards, g);
    if (normalize == trl_2026_10::normalize_advantages::yes)
      whiten(std::span<double>(out), std::span<const std::uint8_t>(scored), {.epsilon = 1e-4});
    return out;
  }
};

// --- the correction for vLLM's log-probs ----------------------------------------------------------------------------

/// vllm_importance_sampling_*: default sequence_mask, weights above 3 dropped. Give old_log_probs and
/// sampled_log_probs.
inline importance_correction vllm_correction(
    vllm_importance_sampling_mode mode = vllm_importance_sampling_mode::sequence_mask, double clip_max = 3,
    double clip_min = 0) {
  using m = vllm_importance_sampling_mode;
  return {.over = mode == m::token_truncate || mode == m::token_mask ? importance_over::token
                                                                     : importance_over::sequence_product,
          .bound = mode == m::token_truncate || mode == m::sequence_truncate ? importance_bound::truncate
                                                                             : importance_bound::zero,
          .min = clip_min,
          .max = clip_max,
          .log_ratio_limit = std::numeric_limits<double>::infinity()};
}

// --- losses ---------------------------------------------------------------------------------------------------------

namespace detail {
/// What the losses' options have in common, by their names.
inline void check_options(const char* who, double epsilon, std::optional<double> epsilon_high, double beta,
                          double top_entropy_quantile, double gradient_accumulation_steps) {
  require(epsilon >= 0, who, ": epsilon is ", epsilon);
  require(!epsilon_high || *epsilon_high >= 0, who, ": epsilon_high is ", epsilon_high.value_or(0));
  require(is_finite(beta), who, ": beta is ", beta);
  require(top_entropy_quantile >= 0 && top_entropy_quantile <= 1, who, ": top_entropy_quantile is ",
          top_entropy_quantile);
  require(gradient_accumulation_steps > 0 && is_finite(gradient_accumulation_steps), who,
          ": gradient_accumulation_steps is ", gradient_accumulation_steps);
}
}  // namespace detail

/// GRPOTrainer._compute_loss: coefficients of one micro-batch, aggregation and KL included. Members are GRPOConfig's,
/// with its defaults. luspo belongs with importance_level::sequence. cispo's bound is epsilon_high itself.
///
/// Reads what its options need: log_probs, old_log_probs, one advantage per sequence; reference_log_probs for beta;
/// entropies for top_entropy_quantile (of this batch: TRL's of the micro-batch over all processes);
/// sampled_log_probs for `vllm` and, when given, for the off-policy mask.
/// Throws as the objectives do. Source: trl/trainer/grpo_trainer.py, grpo_config.py of 1.16.0.
struct grpo_loss {
  trl_2026_10::loss_type loss_type = trl_2026_10::loss_type::dapo;
  double epsilon = 0.2;
  std::optional<double> epsilon_high = {};  ///< epsilon when absent
  std::optional<double> delta = {};
  importance_level importance_sampling_level = importance_level::token;
  double beta = 0;
  trl_2026_10::use_bias_correction_kl use_bias_correction_kl = trl_2026_10::use_bias_correction_kl::yes;
  double top_entropy_quantile = 1;
  std::optional<double> off_policy_mask_threshold = {};
  std::optional<importance_correction> vllm = {};  ///< vllm_correction() when vLLM samples
  double sapo_temperature_pos = 1.0, sapo_temperature_neg = 1.05;
  double vespo_k_pos = 2, vespo_lambda_pos = 3, vespo_k_neg = 3, vespo_lambda_neg = 2;
  double max_completion_length = 512;          ///< dr_grpo's constant
  double gradient_accumulation_steps = 1;      ///< 1 for evaluation
  double steps_per_generation = 1;             ///< TRL's default is gradient_accumulation_steps; 1 for evaluation
  std::optional<double> num_items_in_batch{};  ///< active tokens of the generation batch per process; this batch's if
                                               ///< absent
  using complete_loss = void;

  template <class Real>
  void operator()(const token_batch<Real>& b, coefficients_of<Real> coefficients,
                  std::span<branch> branches = {}) const {
    check();
    const std::vector<Real> weights = sequence_weights<Real>(b, how());
    policy(b, std::span<const Real>(weights), coefficients, branches);
    if (off_policy_mask_threshold) {
      token_batch<Real> since = b;
      if (!b.sampled_log_probs.empty()) since.old_log_probs = b.sampled_log_probs;
      off_policy_mask{*off_policy_mask_threshold}(since, coefficients, branches);
    }
    if (top_entropy_quantile < 1)
      high_entropy_only{entropy_threshold(b, top_entropy_quantile)}(b, coefficients, branches);
    if (vllm && loss_type != trl_2026_10::loss_type::vespo) (*vllm)(b, coefficients, branches);
    if (beta != 0) penalise(b, std::span<const Real>(weights), coefficients);
  }

  /// The aggregation of loss_type.
  aggregation how() const {
    using type = trl_2026_10::loss_type;
    switch (loss_type) {
      case type::grpo:
      case type::sapo:
        return {
            .first = averaged_over::sequence, .by = denominator::all_sequences, .scale = gradient_accumulation_steps};
      case type::bnpo:
        return {.scale = gradient_accumulation_steps};
      case type::dr_grpo:
        return dr_grpo(max_completion_length * gradient_accumulation_steps);
      case type::luspo:
        return dr_grpo(gradient_accumulation_steps);
      case type::dapo:
      case type::cispo:
      case type::vespo:
        break;
    }
    return {.by = num_items_in_batch ? denominator::given : denominator::active_tokens,
            .value = num_items_in_batch.value_or(1),
            .scale = gradient_accumulation_steps / steps_per_generation};
  }

  /// d loss / d entropy is -entropy_coef times these, [B], for tokens inside the mask of `b` whose entropy is at least
  /// the threshold of top_entropy_quantile: a token mean over those tokens whatever the loss_type.
  template <class Real>
  std::vector<Real> entropy_weights(token_batch<Real> b) const {
    check();
    validate(b, "entropy_weights");
    require(b.tokens() == 0 || !b.entropies.empty(), "entropy_weights: entropies is not given");
    std::vector<std::uint8_t> mask(b.tokens());
    const double threshold = top_entropy_quantile < 1 ? entropy_threshold(b, top_entropy_quantile)
                                                      : -std::numeric_limits<double>::infinity();
    for (std::size_t t = 0; t < mask.size(); ++t)
      mask[t] = b.active(t) && static_cast<double>(b.entropies[t]) >= threshold;
    b.mask = mask;
    return sequence_weights<Real>(b, {.scale = gradient_accumulation_steps});
  }

 private:
  void check() const {
    detail::check_options("grpo_loss", epsilon, epsilon_high, beta, top_entropy_quantile, gradient_accumulation_steps);
    const auto positive = [](const char* name, double x) {
      require(x > 0 && is_finite(x), "grpo_loss: ", name, " is ", x);
    };
    positive("sapo_temperature_pos", sapo_temperature_pos);
    positive("sapo_temperature_neg", sapo_temperature_neg);
    positive("max_completion_length", max_completion_length);
    positive("steps_per_generation", steps_per_generation);
    positive("num_items_in_batch", num_items_in_batch.value_or(1));
    const auto shape = [](const char* name, double x) {
      require(x >= 0 && is_finite(x), "grpo_loss: ", name, " is ", x);
    };
    shape("vespo_k_pos", vespo_k_pos);
    shape("vespo_lambda_pos", vespo_lambda_pos);
    shape("vespo_k_neg", vespo_k_neg);
    shape("vespo_lambda_neg", vespo_lambda_neg);
    const bool bounds = !delta || (*delta >= 1 && std::max(1 + epsilon_high.value_or(epsilon), *delta) > 1);
    require(bounds, "grpo_loss: delta is ", delta.value_or(0));
    const double threshold = off_policy_mask_threshold.value_or(0);
    require(threshold == threshold, "grpo_loss: off_policy_mask_threshold is ", threshold);
  }

  template <class Real>
  void policy(const token_batch<Real>& b, weights_of<Real> weights, coefficients_of<Real> coefficients,
              std::span<branch> branches) const {
    constexpr double infinity = std::numeric_limits<double>::infinity();
    const double high = epsilon_high.value_or(epsilon);
    const auto run = [&](const auto& objective) {
      if (importance_sampling_level == importance_level::token)
        objective(b, weights, coefficients, branches);
      else
        sequence_level<std::decay_t<decltype(objective)>>{objective}(b, weights, coefficients, branches);
    };
    switch (loss_type) {
      case trl_2026_10::loss_type::cispo:
        return run(cispo{.max = high, .log_ratio_limit = infinity});
      case trl_2026_10::loss_type::sapo:
        return run(sapo{sapo_temperature_pos, sapo_temperature_neg, infinity});
      case trl_2026_10::loss_type::vespo:
        return vespo{vespo_k_pos, vespo_lambda_pos, vespo_k_neg, vespo_lambda_neg}(b, weights, coefficients, branches,
                                                                                   sampler_shifts(b));
      default:  // delta bounds the ratio for either sign of A, and the clip bounds it once more
        return run(ppo_clip{.low = epsilon,
                            .high = delta ? std::min(high, *delta - 1) : high,
                            .dual = delta ? std::max(1 + high, *delta) : infinity,
                            .log_ratio_limit = infinity,
                            .at_dual = tie::whole});
    }
  }

  /// log of the bounded weights per sequence, each weight's at least log 1e-8 and at most 20.
  template <class Real>
  std::vector<double> sampler_shifts(const token_batch<Real>& b) const {
    if (!vllm) return {};
    std::vector<Real> weight(b.tokens(), Real(1));
    (*vllm)(b, std::span<Real>(weight));
    std::vector<double> shifts(b.size());
    for (std::size_t i = 0; i < b.size(); ++i)
      for (std::size_t t = b.begin(i); t < b.end(i); ++t) {
        if (!b.active(t)) continue;
        const double log_weight = std::clamp(std::log(static_cast<double>(weight[t])), std::log(1e-8), 20.0);
        shifts[i] = vllm->over == importance_over::token ? shifts[i] + log_weight : log_weight;
      }
    return shifts;
  }

  template <class Real>
  void penalise(const token_batch<Real>& b, weights_of<Real> weights, coefficients_of<Real> coefficients) const {
    const bool corrected = use_bias_correction_kl == trl_2026_10::use_bias_correction_kl::yes;
    kl_penalty penalty{.coefficient = beta};
    if (!corrected || importance_sampling_level == importance_level::token) {
      if (corrected) penalty.ratio = kl_ratio::old;
      return penalty(b, weights, coefficients);
    }
    // loss = beta s mean_t k3, with s the sequence's ratio: the mean of k3 goes to every token as well.
    token_batch<Real> now = b;
    now.old_log_probs = b.log_probs;
    std::vector<Real> value(b.tokens()), scaled(b.size());
    penalty.add_to_rewards(now, std::span<Real>(value));  // -beta k3
    std::vector<double> mean(b.size());
    for (std::size_t i = 0; i < b.size(); ++i) {
      const double n = static_cast<double>(std::max<std::size_t>(rlvr::detail::active_length(b, i), 1));
      const double log_ratio =
          rlvr::detail::sum_active(b, i, [&](std::size_t t) { return b.log_probs[t] - b.old_log_probs[t]; });
      mean[i] = rlvr::detail::sum_active(b, i, [&](std::size_t t) { return value[t]; }) / n;
      scaled[i] = static_cast<Real>(static_cast<double>(weights[i]) * std::exp(log_ratio / n));
    }
    penalty(b, std::span<const Real>(scaled), coefficients);
    for (std::size_t i = 0; i < b.size(); ++i)
      for (std::size_t t = b.begin(i); t < b.end(i); ++t)
        if (b.active(t)) coefficients[t] += static_cast<Real>(static_cast<double>(scaled[i]) * mean[i]);
  }
};

/// RLOOTrainer._compute_loss: a clipped surrogate of the product of a sequence's ratios, the mean over sequences. TRL
/// has no tool mask here: give no mask. Source: trl/trainer/rloo_trainer.py.
struct rloo_loss {
  double epsilon = 0.2;
  std::optional<double> epsilon_high = {};
  double gradient_accumulation_steps = 1;
  using complete_loss = void;

  template <class Real>
  void operator()(const token_batch<Real>& b, coefficients_of<Real> coefficients,
                  std::span<branch> branches = {}) const {
    detail::check_options("rloo_loss", epsilon, epsilon_high, 0, 1, gradient_accumulation_steps);
    const std::vector<Real> weights = sequence_weights<Real>(b, dr_grpo(gradient_accumulation_steps));
    gspo{.low = epsilon,
         .high = epsilon_high.value_or(epsilon),
         .ratio = sequence_ratio::product,
         .log_ratio_limit = std::numeric_limits<double>::infinity()}(b, weights, coefficients, branches);
  }
};

/// GMPOTrainer._compute_loss: bounds in log space; tokens below the entropy threshold leave the geometric mean, not the
/// KL. Source: trl/experimental/gmpo.
struct gmpo_loss {
  double epsilon = 0.4;
  std::optional<double> epsilon_high = {};
  double beta = 0;
  double top_entropy_quantile = 1;
  double gradient_accumulation_steps = 1;
  using complete_loss = void;

  template <class Real>
  void operator()(const token_batch<Real>& b, coefficients_of<Real> coefficients,
                  std::span<branch> branches = {}) const {
    detail::check_options("gmpo_loss", epsilon, epsilon_high, beta, top_entropy_quantile, gradient_accumulation_steps);
    const aggregation how{
        .first = averaged_over::sequence, .by = denominator::all_sequences, .scale = gradient_accumulation_steps};
    token_batch<Real> kept = b;
    std::vector<std::uint8_t> mask;
    if (top_entropy_quantile < 1) {
      const double threshold = entropy_threshold(b, top_entropy_quantile);
      for (std::size_t t = 0; t < b.tokens(); ++t)
        mask.push_back(b.active(t) && static_cast<double>(b.entropies[t]) >= threshold);
      kept.mask = mask;
    }
    gmpo{epsilon, epsilon_high.value_or(epsilon)}(kept, sequence_weights<Real>(kept, how), coefficients, branches);
    if (beta != 0) kl_penalty{.coefficient = beta}(b, sequence_weights<Real>(b, how), coefficients);
  }
};

/// DPOTrainer loss_type "sigmoid", "sigmoid_norm" and "ipo"; use weight 1 / pairs. Source: trl/trainer/dpo_trainer.py.
inline dpo dpo_sigmoid(double beta = 0.1) {
  return {.beta = beta};
}
inline dpo dpo_sigmoid_norm(double beta = 0.1) {
  return {.beta = beta, .score = sequence_score::mean};
}
inline ipo dpo_ipo(double beta = 0.1) {
  return {.beta = beta, .score = sequence_score::mean};
}

}  // namespace rlvr::trl_2026_10
