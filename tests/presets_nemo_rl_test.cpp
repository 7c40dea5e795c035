/// presets/nemo_rl_2026_08.hpp against NeMo-RL (golden/frameworks/nemo_rl_golden.py).

#include <rlvr/backend/decoder/json.hpp>
#include <rlvr/diagnose/pass_at_k.hpp>
#include <rlvr/presets/nemo_rl_2026_08.hpp>

#include "presets_golden.hpp"

using namespace rlvr;
using namespace presets_golden;
namespace nemo = rlvr::nemo_rl_2026_08;

namespace {

kl_estimator kl_type(const json& name) {
  return by_name<kl_estimator>(name, {"k1", "abs", "k2", "k3"});
}

nemo::clipped_pg_loss loss_of(const json& o) {
  nemo::clipped_pg_loss loss{
      .ratio_clip_min = o["ratio_clip_min"],
      .ratio_clip_max = o["ratio_clip_max"],
      .reference_policy_kl_penalty = o["use_kl_in_reward"].get<bool>() ? 0.0 : number(o["reference_policy_kl_penalty"]),
      .reference_policy_kl_type = kl_type(o["reference_policy_kl_type"]),
      .kl_input_clamp_value = number(o["kl_input_clamp_value"]),
      .kl_output_clamp_value = number(o["kl_output_clamp_value"]),
      .truncated_importance_sampling_ratio = number(o["truncated_importance_sampling_ratio"]),
      .global_valid_seqs = o["global_valid_seqs"].get<double>(),
      .global_valid_toks = o["global_valid_toks"].get<double>()};
  if (o["disable_ppo_ratio"].get<bool>()) loss.ratio = nemo::ratio::disabled;
  if (o["use_cispo"].get<bool>()) loss.ratio = nemo::ratio::cispo;
  if (o["sequence_level_importance_ratios"].get<bool>()) loss.ratio = nemo::ratio::sequence;
  if (o["force_on_policy_ratio"].get<bool>()) loss.force_on_policy_ratio = nemo::force_on_policy_ratio::yes;
  if (!o["token_level_loss"].get<bool>()) loss.token_level_loss = nemo::token_level_loss::no;
  if (!o["ratio_clip_c"].is_null()) loss.ratio_clip_c = o["ratio_clip_c"].get<double>();
  if (o["use_on_policy_kl_approximation"].get<bool>())
    loss.use_on_policy_kl_approximation = nemo::use_on_policy_kl_approximation::yes;
  if (o["use_importance_sampling_correction"].get<bool>()) {
    using type = nemo::truncated_importance_sampling_type;
    const json &kind = o["truncated_importance_sampling_type"], &low = o["truncated_importance_sampling_ratio_min"];
    loss.importance_sampling_correction = kind == "tis"            ? type::tis
                                          : kind == "icepop"       ? type::icepop
                                          : kind == "seq-mask-tis" ? type::seq_mask_tis
                                                                   : type::none;
    if (!low.is_null()) loss.truncated_importance_sampling_ratio_min = low;
  }
  return loss;
}

/// Whether sample_mask, if the case has one, keeps sequence i.
bool sampled(const golden_case& c, std::size_t i) {
  return !c.inputs.contains("sample_mask") || c.inputs["sample_mask"][i] != 0;
}

nemo::average_log_probs averaged(const json& o) {
  return o.get<bool>() ? nemo::average_log_probs::yes : nemo::average_log_probs::no;
}

}  // namespace

TEST_CASE("nemo_rl_2026_08: losses have NeMo-RL's gradients", "[presets][golden]") {
  for (const golden_case& c : cases("nemo_rl", "ClippedPGLossFn", 74)) {
    INFO(c.name());
    const json& o = c.options;
    token_batch<double> b = c.data.view();
    std::vector<std::uint8_t> mask = c.data.mask;
    for (std::size_t i = 0; i < b.size(); ++i)
      for (std::size_t t = b.begin(i); t < b.end(i); ++t)
        if (!sampled(c, i)) mask[t] = 0;
    b.mask = mask;
    values ours = run(loss_of(o), b);
    const double nll = o["positive_example_nll_weight"];
    if (nll > 0) {  // as the docstring says: policy_gradient on the correct rollouts' tokens
      for (std::size_t i = 0; i < b.size(); ++i)
        for (std::size_t t = b.begin(i); t < b.end(i); ++t)
          if (!(c.data.reward[i] > 0)) mask[t] = 0;
      const values ones(c.data.size(), nll);
      b.advantages = ones;
      const double count = static_cast<double>(totals(b).active_tokens) + 1e-8;
      const values more =
          coefficients(policy_gradient{}, b, sequence_weights(b, {.by = denominator::given, .value = count}));
      for (std::size_t t = 0; t < ours.size(); ++t) ours[t] += more[t];
    }
    // Without its clamps k3 takes e^25 away from e^25 at a token of "large", there and here.
    check_gradient(ours, c.outputs["gradient"], o["kl_input_clamp_value"].is_null() ? 1e-6 : 3e-9);
  }
  for (const golden_case& c : cases("nemo_rl", "DPOLossFn", 16)) {
    INFO(c.name());
    const json& o = c.options;
    const token_batch<double> b = c.data.view();
    std::vector<preference_pair> pairs;
    for (std::size_t i = 0; i < b.size(); i += 2)
      if (sampled(c, i)) pairs.push_back({i, i + 1});
    const nemo::dpo_loss loss{.reference_policy_kl_penalty = o["reference_policy_kl_penalty"],
                              .preference_loss_weight = o["preference_loss_weight"],
                              .sft_loss_weight = o["sft_loss_weight"],
                              .preference_average_log_probs = averaged(o["preference_average_log_probs"]),
                              .sft_average_log_probs = averaged(o["sft_average_log_probs"])};
    values ours(b.tokens());
    loss(b, pairs, std::span<double>(ours));
    check_gradient(ours, c.outputs["gradient"]);
  }
}

TEST_CASE("nemo_rl_2026_08: KL and pass@k are NeMo-RL's", "[presets][golden]") {
  for (const golden_case& c : cases("nemo_rl", "calculate_kl", 3)) {
    INFO(c.name());
    const kl_penalty penalty{
        .coefficient = 1, .estimator = kl_type(c.options["kl_type"]), .input_limit = 20, .output_limit = 10};
    check_kl(penalty, penalty, c);
  }
  std::size_t checked = 0;
  const json all = golden("nemo_rl");
  for (const json& c : all["cases"]) {
    if (c["function"] != "eval_pass_k") continue;  // it has no batch
    const values rewards = numbers(c["inputs"]["reward"]);
    const auto correct = static_cast<std::size_t>(std::count(rewards.begin(), rewards.end(), 1.0));
    CHECK(pass_at_k(rewards.size(), correct, c["options"]["k"]) ==
          Approx(number(c["outputs"]["value"])).epsilon(1e-11));
    ++checked;
  }
  CHECK(checked == 7);
}

TEST_CASE("nemo_rl_2026_08: advantages are NeMo-RL's", "[presets][golden]") {
  for (const golden_case& c : cases("nemo_rl", "AdvantageEstimator", 42)) {
    INFO(c.name());
    const batch& data = c.data;
    const std::string& function = c.function;
    const json &o = c.options, &in = c.inputs;
    std::vector<verdict> verdicts = data.verdicts();
    const token_layout layout{data.offsets, data.mask};
    values theirs = numbers(c.outputs["advantage"]), ours, returns;
    if (in.contains("valid_mask"))  // excluded rollouts get 0 here, R - baseline there
      for (std::size_t i = 0; i < data.size(); ++i)
        if (in["valid_mask"][i] == 0) {
          verdicts[i].scored = false;
          if (theirs.size() == data.size()) theirs[i] = 0;
        }
    const auto yes = [&](const char* name) { return o.value(name, false); };
    const auto others = yes("use_leave_one_out_baseline") ? nemo::use_leave_one_out_baseline::yes
                                                          : nemo::use_leave_one_out_baseline::no;
    values kl(data.offsets.back());  // k1
    for (std::size_t t = 0; t < kl.size(); ++t) kl[t] = data.old_log_probs[t] - data.reference_log_probs[t];
    const double kl_coef = o.value("reference_policy_kl_penalty", 0.0);
    if (function.rfind("GRPO", 0) == 0) {
      ours = nemo::grpo(verdicts, data.groups, others,
                        yes("normalize_rewards") ? nemo::normalize::yes : nemo::normalize::no);
      if (c.batch_name == "even" && yes("normalize_rewards"))
        // The near tie: the variance there is what rounding leaves of E[x^2] - E[x]^2 (calculate_baseline_and_
        // std_per_prompt), so that the lone winner, whose others are equal, is divided by 1e-6 instead of by nothing.
        for (std::size_t i = data.groups.begin(3); i < data.groups.end(3); ++i) {
          CHECK(std::fabs(ours[i] - theirs[i]) < 0.1);
          theirs[i] = ours[i];
        }
    } else if (function.rfind("GDPO", 0) == 0) {
      const auto accuracy = verdicts_of(numbers(in["accuracy"])), brevity = verdicts_of(numbers(in["brevity"]));
      const std::span<const verdict> parts[]{accuracy, brevity};
      const json& weights = o["reward_weights"];
      ours = nemo::gdpo(others, weights.is_null() ? values{} : weights.get<values>())(parts, data.groups);
    } else if (function.rfind("Reinforce", 0) == 0) {
      ours = nemo::reinforce_plus_plus(verdicts, data.groups, layout,
                                       yes("minus_baseline") ? nemo::minus_baseline::yes : nemo::minus_baseline::no, kl,
                                       kl_coef);
    } else if (function.rfind("RawReward", 0) == 0) {
      ours = nemo::raw_reward(verdicts, data.groups, layout,
                              yes("normalize_advantages") ? nemo::normalize::yes : nemo::normalize::no);
    } else {
      nemo::gae estimate{.gae_gamma = o.value("gae_gamma", 1.0),
                         .gae_lambda = o.value("gae_lambda", 0.95),
                         .length_adaptive_alpha = o.value("length_adaptive_alpha", 0.0)};
      if (o.contains("gae_lambda_value")) estimate.gae_lambda_value = o["gae_lambda_value"].get<double>();
      if (o.contains("gae_lambda_policy")) estimate.gae_lambda_policy = o["gae_lambda_policy"].get<double>();
      if (!o.value("normalize_advantages", true)) estimate.normalize_advantages = nemo::normalize::no;
      const advantages_and_returns both = estimate(token_rewards(verdicts, layout, kl, kl_coef), data.value, layout);
      ours = both.advantages, returns = both.returns;
    }
    check_advantages(data, ours, theirs, 3e-9, 1e-9);
    if (!returns.empty()) check_advantages(data, returns, numbers(c.outputs["returns"]), 1e-9, 1e-9);
  }
}

TEST_CASE("nemo_rl_2026_08: defaults are NeMo-RL's", "[presets][golden]") {
  const json all = golden("nemo_rl");
  const json &loss = all["defaults"]["ClippedPGLossConfig"], &dpo = all["defaults"]["DPOLossConfig"],
             &gae = all["defaults"]["GAEConfig"], &advantages = all["defaults"]["AdvEstimatorConfig"];
  json totals = loss;
  totals["global_valid_seqs"] = totals["global_valid_toks"] = 0;
  const nemo::clipped_pg_loss ours, theirs = loss_of(totals);
  CHECK(ours.ratio == theirs.ratio);
  CHECK(ours.force_on_policy_ratio == theirs.force_on_policy_ratio);
  CHECK(ours.token_level_loss == theirs.token_level_loss);
  CHECK(ours.ratio_clip_min == theirs.ratio_clip_min);
  CHECK(ours.ratio_clip_max == theirs.ratio_clip_max);
  CHECK(ours.ratio_clip_c == theirs.ratio_clip_c);
  CHECK(ours.reference_policy_kl_penalty == theirs.reference_policy_kl_penalty);
  CHECK(ours.reference_policy_kl_type == theirs.reference_policy_kl_type);
  CHECK(ours.kl_input_clamp_value == theirs.kl_input_clamp_value);
  CHECK(ours.kl_output_clamp_value == theirs.kl_output_clamp_value);
  CHECK(ours.use_on_policy_kl_approximation == theirs.use_on_policy_kl_approximation);
  CHECK(ours.importance_sampling_correction == theirs.importance_sampling_correction);
  CHECK(ours.truncated_importance_sampling_ratio == theirs.truncated_importance_sampling_ratio);
  CHECK(ours.truncated_importance_sampling_ratio_min == theirs.truncated_importance_sampling_ratio_min);
  CHECK(nemo::dpo_loss{}.reference_policy_kl_penalty == dpo["reference_policy_kl_penalty"]);
  CHECK(nemo::dpo_loss{}.preference_loss_weight == dpo["preference_loss_weight"]);
  CHECK(nemo::dpo_loss{}.sft_loss_weight == dpo["sft_loss_weight"]);
  CHECK(nemo::dpo_loss{}.preference_average_log_probs == averaged(dpo["preference_average_log_probs"]));
  CHECK(nemo::dpo_loss{}.sft_average_log_probs == averaged(dpo["sft_average_log_probs"]));
  CHECK(nemo::gae{}.gae_gamma == gae["gae_gamma"]);
  CHECK(nemo::gae{}.gae_lambda == gae["gae_lambda"]);
  CHECK(nemo::gae{}.length_adaptive_alpha == gae["length_adaptive_alpha"]);
  CHECK(gae["gae_lambda_value"].is_null());
  CHECK(gae["gae_lambda_policy"].is_null());
  CHECK(gae["normalize_advantages"].get<bool>());
  CHECK(advantages["use_leave_one_out_baseline"].get<bool>());
  CHECK(advantages["normalize_rewards"].get<bool>());
  CHECK(advantages["minus_baseline"].get<bool>());
}

TEST_CASE("nemo_rl_2026_08: unscored rollouts take no part in advantages over tokens", "[presets]") {
  const json all = golden("nemo_rl");
  const batch data(all["batches"]["uneven"]);
  const token_layout layout{data.offsets, data.mask};
  std::vector<verdict> one = data.verdicts(), other = one;
  one[1].scored = other[1].scored = false;
  other[1].reward = -50;
  for (bool raw : {false, true}) {
    const values a = raw ? nemo::raw_reward(one, data.groups, layout)
                         : nemo::reinforce_plus_plus(one, data.groups, layout, nemo::minus_baseline::no),
                 b = raw ? nemo::raw_reward(other, data.groups, layout)
                         : nemo::reinforce_plus_plus(other, data.groups, layout, nemo::minus_baseline::no);
    CHECK(a == b);
    double sum = 0;
    for (std::size_t t = 0; t < a.size(); ++t) sum += a[t];
    CHECK(std::fabs(sum) < 1e-12);
    for (std::size_t t = data.offsets[1]; t < data.offsets[2]; ++t) CHECK(a[t] == 0);
  }
}

TEST_CASE("nemo_rl_2026_08: a weight that overflows or is not finite is an error", "[presets]") {
  const json all = golden("nemo_rl");
  batch data(all["batches"]["uneven"]);
  data.sampled_log_probs[0] = -800;
  REQUIRE(data.mask[0] == 1);
  const nemo::clipped_pg_loss loss{.reference_policy_kl_penalty = 0,
                                   .importance_sampling_correction = nemo::truncated_importance_sampling_type::none};
  CHECK_THROWS_WITH(run(loss, data.view()),
                    Catch::Contains("importance_correction: the coefficient of token 0 is not a finite number"));
  CHECK_THROWS_WITH(nemo::dpo_loss{.sft_loss_weight = infinity}(data.view(), {}, std::span<double>(data.advantages)),
                    "dpo_loss: sft_loss_weight is inf");
  const std::vector<preference_pair> first{{0, 1}};
  values out(data.view().tokens());
  CHECK_THROWS_WITH(
      (nemo::dpo_loss{.sft_loss_weight = 1e308, .global_valid_seqs = 0}(data.view(), first, std::span<double>(out))),
      "dpo_loss: the coefficient of token 0 is inf");
}
