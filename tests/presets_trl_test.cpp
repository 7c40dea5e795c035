/// presets/trl_2026_10.hpp against TRL 1.16.0 (golden/frameworks/trl_golden.py).
///
/// Without counterpart, and so not in the golden file: the DPO losses hinge, robust, exo_pair, nca_pair, sppo_hard,
/// apo_zero, apo_down and the f-divergences of DPO.

#include <rlvr/backend/decoder/json.hpp>
#include <rlvr/objective/policy_gradient.hpp>
#include <rlvr/presets/trl_2026_10.hpp>

#include "presets_golden.hpp"

using namespace rlvr;
using namespace presets_golden;
namespace trl = rlvr::trl_2026_10;

namespace {

trl::loss_type loss_type_of(const json& name) {
  return by_name<trl::loss_type>(name, {"grpo", "bnpo", "dr_grpo", "dapo", "luspo", "cispo", "sapo", "vespo"});
}

trl::vllm_importance_sampling_mode mode_of(const json& name) {
  return by_name<trl::vllm_importance_sampling_mode>(
      name, {"token_truncate", "token_mask", "sequence_truncate", "sequence_mask"});
}

trl::grpo_loss loss_of(const json& o) {
  const bool training = o["mode"] == "train";
  trl::grpo_loss loss{
      .loss_type = loss_type_of(o["loss_type"]),
      .epsilon = o["epsilon"],
      .epsilon_high = o["epsilon_high"].get<double>(),
      .importance_sampling_level =
          o["importance_sampling_level"] == "token" ? importance_level::token : importance_level::sequence,
      .beta = o["beta"],
      .use_bias_correction_kl =
          o["use_bias_correction_kl"].get<bool>() ? trl::use_bias_correction_kl::yes : trl::use_bias_correction_kl::no,
      .top_entropy_quantile = o["top_entropy_quantile"],
      .sapo_temperature_pos = o["sapo_temperature_pos"],
      .sapo_temperature_neg = o["sapo_temperature_neg"],
      .vespo_k_pos = o["vespo_k_pos"],
      .vespo_lambda_pos = o["vespo_lambda_pos"],
      .vespo_k_neg = o["vespo_k_neg"],
      .vespo_lambda_neg = o["vespo_lambda_neg"],
      .max_completion_length = o.value("max_completion_length", 512.0)};
  if (!o["delta"].is_null()) loss.delta = o["delta"].get<double>();
  if (!o["off_policy_mask_threshold"].is_null()) loss.off_policy_mask_threshold = o["off_policy_mask_threshold"];
  if (training) {
    loss.gradient_accumulation_steps = o["current_gradient_accumulation_steps"];
    loss.steps_per_generation = o["steps_per_generation"];
  }
  return loss;
}

}  // namespace

TEST_CASE("trl_2026_10: losses have TRL's gradients", "[presets][golden]") {
  std::size_t with_entropy = 0;
  for (const golden_case& c : cases("trl", "GRPOTrainer._compute_loss", 63)) {
    INFO(c.name());
    const token_batch<double> b = c.data.view();
    const json& o = c.options;
    trl::grpo_loss loss = loss_of(o);
    // The cases with weights: exp(old - rollout) of the token or of the sequence, up to 1.05.
    if (c.inputs.contains("importance_sampling_ratio"))
      loss.vllm = trl::vllm_correction(c.inputs["importance_sampling_ratio"].size() == c.data.size()
                                           ? trl::vllm_importance_sampling_mode::sequence_truncate
                                           : trl::vllm_importance_sampling_mode::token_truncate,
                                       1.05);
    check_gradient(run(loss, b), c.outputs["gradient"]);
    // The denominator that TRL hands to every micro-batch is here the batch's own.
    loss.num_items_in_batch = static_cast<double>(totals(b).active_tokens);
    check_gradient(run(loss, b), c.outputs["gradient"]);
    if (!c.outputs.contains("entropy_gradient") || o["entropy_coef"] == 0) continue;
    const values weights = loss.entropy_weights(b);
    const double threshold = loss.top_entropy_quantile < 1 ? entropy_threshold(b, loss.top_entropy_quantile) : 0;
    values ours(b.tokens());
    for (std::size_t i = 0; i < b.size(); ++i)
      for (std::size_t t = b.begin(i); t < b.end(i); ++t)
        if (b.active(t) && b.entropies[t] >= threshold) ours[t] = o["entropy_coef"].get<double>() * weights[i];
    check_gradient(ours, c.outputs["entropy_gradient"]);
    ++with_entropy;
  }
  CHECK(with_entropy == 2);
  for (const golden_case& c : cases("trl", "GMPOTrainer._compute_loss", 4)) {
    INFO(c.name());
    check_gradient(run(trl::gmpo_loss{.epsilon = c.options["epsilon"],
                                      .epsilon_high = c.options["epsilon_high"].get<double>(),
                                      .beta = c.options["beta"],
                                      .top_entropy_quantile = c.options["top_entropy_quantile"]},
                       c.data.view()),
                   c.outputs["gradient"]);
  }
  for (const golden_case& c : cases("trl", "RLOOTrainer._compute_loss", 2)) {
    INFO(c.name());
    token_batch<double> b = c.data.view();
    b.mask = {};
    check_gradient(
        run(trl::rloo_loss{.epsilon = c.options["epsilon"], .epsilon_high = c.options["epsilon_high"].get<double>()},
            b),
        c.outputs["gradient"]);
  }
}

TEST_CASE("trl_2026_10: DPO and SFT have TRL's gradients", "[presets][golden]") {
  for (const golden_case& c : cases("trl", "DPOTrainer._compute_loss", 5)) {
    INFO(c.name());
    const json& o = c.options;
    token_batch<double> b = c.data.view();
    std::vector<std::uint8_t> mask;
    for (const json& m : c.inputs["mask"]) mask.push_back(m.get<double>() != 0);
    b.mask = mask;
    const std::vector<preference_pair> pairs = halves(c.data);
    values ours(b.tokens());
    const double beta = o["beta"], weight = 1 / static_cast<double>(pairs.size());
    if (o["loss_type"] == "sigmoid")
      trl::dpo_sigmoid(beta)(b, pairs, weight, std::span<double>(ours));
    else if (o["loss_type"] == "sigmoid_norm")
      trl::dpo_sigmoid_norm(beta)(b, pairs, weight, std::span<double>(ours));
    else if (o["loss_type"] == "ipo")
      trl::dpo_ipo(beta)(b, pairs, weight, std::span<double>(ours));
    else {
      REQUIRE(o["loss_type"] == "sft");  // the mean over the tokens of the chosen sequences
      for (std::size_t t = b.begin(pairs.size()); t < mask.size(); ++t) mask[t] = 0;
      const values ones(c.data.size(), 1.0);
      b.advantages = ones;
      ours = coefficients(policy_gradient{}, b, sequence_weights(b, token_mean));
    }
    check_gradient(ours, c.outputs["gradient"]);
  }
}

TEST_CASE("trl_2026_10: advantages and importance weights are TRL's", "[presets][golden]") {
  std::size_t weighted = 0;
  for (const golden_case& c : cases("trl", "._generate_and_score_completions", 39)) {
    INFO(c.name());
    const batch& data = c.data;
    const json& o = c.options;
    std::vector<std::vector<verdict>> functions(c.inputs["reward"][0].size());
    for (const json& row : c.inputs["reward"])
      for (std::size_t k = 0; k < functions.size(); ++k) {
        const double r = number(row[k]);
        functions[k].push_back(std::isnan(r) ? verdict{0, false} : verdict{r, true});
      }
    const std::vector<std::span<const verdict>> parts(functions.begin(), functions.end());
    const values reward_weights = o["reward_weights"];
    const std::vector<verdict> verdicts = trl::summed_rewards(parts, reward_weights);
    groups g = data.groups;
    if (o["mode"] == "eval") {  // one completion per prompt
      g.offsets = {0};
      for (std::size_t i = 1; i <= data.size(); ++i) g.offsets.push_back(i);
    }
    values ours;
    if (c.function == "RLOOTrainer._generate_and_score_completions") {
      values kl(data.size());
      for (std::size_t i = 0; i < data.size(); ++i)
        for (std::size_t t = data.offsets[i]; t < data.offsets[i + 1]; ++t)
          kl[i] += data.old_log_probs[t] - data.reference_log_probs[t];
      trl::rloo_advantages estimator{.beta = o["beta"],
                                     .normalize = o["normalize_advantages"].get<bool>()
                                                      ? trl::normalize_advantages::yes
                                                      : trl::normalize_advantages::no};
      if (!o["reward_clip_range"].is_null())
        estimator.reward_clip_range = {o["reward_clip_range"][0], o["reward_clip_range"][1]};
      ours = estimator(verdicts, g, kl);
    } else if (o.value("multi_objective_aggregation", "") == "normalize_then_sum") {
      ours = trl::normalize_then_sum(reward_weights)(parts, g);
    } else {
      const std::string scale = o.value("scale_rewards", "group");
      ours = trl::grpo_advantages(verdicts, g,
                                  scale == "group"   ? trl::scale_rewards::group
                                  : scale == "batch" ? trl::scale_rewards::batch
                                                     : trl::scale_rewards::none);
    }
    check_advantages(data, ours, numbers(c.outputs["advantage"]));
    if (!c.outputs.contains("importance_sampling_ratio")) continue;
    const json& low = o["vllm_importance_sampling_clip_min"];
    const importance_correction correct =
        trl::vllm_correction(mode_of(o["vllm_importance_sampling_mode"]), o["vllm_importance_sampling_clip_max"],
                             low.is_null() ? 0.0 : low.get<double>());
    values factors(data.offsets.back(), 1.0);
    correct(data.view(), std::span<double>(factors));
    const values theirs = numbers(c.outputs["importance_sampling_ratio"]);
    for (std::size_t i = 0; i < data.size(); ++i)
      for (std::size_t t = data.offsets[i]; t < data.offsets[i + 1]; ++t)
        if (data.mask[t])
          CHECK(factors[t] == Approx(theirs.size() == data.size() ? theirs[i] : theirs[t]).epsilon(1e-11).margin(0));
    ++weighted;
  }
  CHECK(weighted == 16);
}

TEST_CASE("trl_2026_10: defaults are TRL's", "[presets][golden]") {
  const json all = golden("trl");
  const json grpo = all["defaults"]["GRPOConfig"], rloo = all["defaults"]["RLOOConfig"],
             gmpo = all["defaults"]["GMPOConfig"];
  const trl::grpo_loss loss;
  CHECK(loss.loss_type == loss_type_of(grpo["loss_type"]));
  CHECK(loss.epsilon == grpo["epsilon"]);
  CHECK(loss.epsilon_high.has_value() != grpo["epsilon_high"].is_null());
  CHECK(loss.delta.has_value() != grpo["delta"].is_null());
  CHECK((loss.importance_sampling_level == importance_level::token) == (grpo["importance_sampling_level"] == "token"));
  CHECK(loss.beta == grpo["beta"]);
  CHECK((loss.use_bias_correction_kl == trl::use_bias_correction_kl::yes) == grpo["use_bias_correction_kl"]);
  CHECK(loss.top_entropy_quantile == grpo["top_entropy_quantile"]);
  CHECK(loss.off_policy_mask_threshold.has_value() != grpo["off_policy_mask_threshold"].is_null());
  CHECK(loss.sapo_temperature_pos == grpo["sapo_temperature_pos"]);
  CHECK(loss.sapo_temperature_neg == grpo["sapo_temperature_neg"]);
  CHECK(loss.vespo_k_pos == grpo["vespo_k_pos"]);
  CHECK(loss.vespo_lambda_pos == grpo["vespo_lambda_pos"]);
  CHECK(loss.vespo_k_neg == grpo["vespo_k_neg"]);
  CHECK(loss.vespo_lambda_neg == grpo["vespo_lambda_neg"]);
  CHECK(loss.max_completion_length == grpo["max_completion_length"]);
  CHECK(grpo["scale_rewards"] == "group");  // the default argument of grpo_advantages
  const importance_correction vllm = trl::vllm_correction(),
                              theirs = trl::vllm_correction(mode_of(grpo["vllm_importance_sampling_mode"]));
  CHECK(vllm.over == theirs.over);
  CHECK(vllm.bound == theirs.bound);
  CHECK(vllm.max == grpo["vllm_importance_sampling_clip_max"]);
  CHECK((vllm.min == 0 && grpo["vllm_importance_sampling_clip_min"].is_null()));

  CHECK(trl::rloo_loss{}.epsilon == rloo["epsilon"]);
  CHECK(trl::rloo_loss{}.epsilon_high.has_value() != rloo["epsilon_high"].is_null());
  CHECK(trl::rloo_advantages{}.beta == rloo["beta"]);
  CHECK((trl::rloo_advantages{}.normalize == trl::normalize_advantages::yes) == rloo["normalize_advantages"]);
  CHECK(trl::rloo_advantages{}.reward_clip_range.has_value() != rloo["reward_clip_range"].is_null());
  CHECK(trl::gmpo_loss{}.epsilon == gmpo["epsilon"]);
  CHECK(trl::gmpo_loss{}.epsilon_high.has_value() != gmpo["epsilon_high"].is_null());
  CHECK(trl::gmpo_loss{}.beta == gmpo["beta"]);
  CHECK(trl::gmpo_loss{}.top_entropy_quantile == gmpo["top_entropy_quantile"]);
  CHECK(trl::dpo_sigmoid().beta == all["defaults"]["DPOConfig"]["beta"]);
}
