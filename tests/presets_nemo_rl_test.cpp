/// presets/nemo_rl_2026_08.hpp against NeMo-RL's formulas as read (golden/frameworks/nemo_rl_golden.py).

#include <rlvr/backend/decoder/json.hpp>
#include <rlvr/diagnose/pass_at_k.hpp>
#include <rlvr/presets/nemo_rl_2026_08.hpp>

#include "presets_golden.hpp"

using namespace rlvr;
using namespace presets_golden;
namespace nemo = rlvr::nemo_rl_2026_08;

namespace {

kl_estimator kl_type(const json& name) {
  return name == "k1" ? kl_estimator::k1 : name == "k2" ? kl_estimator::k2 : kl_estimator::k3;
}

nemo::clipped_pg_loss loss_of(const json& o) {
  nemo::clipped_pg_loss loss{.ratio_clip_min = o["ratio_clip_min"],
                             .ratio_clip_max = o["ratio_clip_max"],
                             .reference_policy_kl_penalty = o["reference_policy_kl_penalty"],
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

}  // namespace

TEST_CASE("nemo_rl_2026_08: losses have the gradients of NeMo-RL's formulas", "[presets][golden]") {
  const json all = golden("nemo_rl");
  std::size_t losses = 0, kls = 0, pass = 0;
  for (const json& c : all["cases"]) {
    const json& o = c["options"];
    if (c["function"] == "eval_pass_k") {
      const values rewards = numbers(c["inputs"]["reward"]);
      const auto correct = static_cast<std::size_t>(std::count(rewards.begin(), rewards.end(), 1.0));
      CHECK(pass_at_k(rewards.size(), correct, o["k"]) == Approx(number(c["outputs"]["value"])).epsilon(1e-11));
      ++pass;
      continue;
    }
    const batch data(all["batches"][c["batch"].get<std::string>()]);
    token_batch<double> b = data.view();
    INFO(c["function"] << " on " << c["batch"] << " with " << o);
    if (c["function"] == "ClippedPGLossFn") {
      std::vector<std::uint8_t> mask = data.mask;
      if (c["inputs"].contains("sample_mask"))
        for (std::size_t i = 0; i < b.size(); ++i)
          for (std::size_t t = b.begin(i); t < b.end(i); ++t)
            if (c["inputs"]["sample_mask"][i] == 0) mask[t] = 0;
      b.mask = mask;
      values ours = run(loss_of(o), b);
      const double nll = o["positive_example_nll_weight"];
      if (nll > 0) {  // as the docstring says: policy_gradient on the correct rollouts' tokens
        for (std::size_t i = 0; i < b.size(); ++i)
          for (std::size_t t = b.begin(i); t < b.end(i); ++t)
            if (!(data.reward[i] > 0)) mask[t] = 0;
        const values ones(data.size(), nll);
        b.advantages = ones;
        const double count = static_cast<double>(totals(b).active_tokens) + 1e-8;
        const values more =
            coefficients(policy_gradient{}, b, sequence_weights(b, {.by = denominator::given, .value = count}));
        for (std::size_t t = 0; t < ours.size(); ++t) ours[t] += more[t];
      }
      // Without its clamps k3 takes e^25 away from e^25 at a token of "large", there and here.
      check_gradient(ours, c["outputs"]["gradient"], o["kl_input_clamp_value"].is_null() ? 1e-6 : 3e-9);
      ++losses;
    }
    if (c["function"] == "calculate_kl") {
      const kl_penalty penalty{
          .coefficient = 1, .estimator = kl_type(o["kl_type"]), .input_limit = 20, .output_limit = 10};
      values ours(b.tokens()), value(b.tokens());
      penalty(b, {}, std::span<double>(ours));
      check_gradient(ours, c["outputs"]["gradient"]);
      b.old_log_probs = b.log_probs;
      penalty.add_to_rewards(b, std::span<double>(value));
      const values theirs = numbers(c["outputs"]["value"]);
      for (std::size_t t = 0; t < value.size(); ++t)
        if (b.active(t)) CHECK(-value[t] == Approx(theirs[t]).epsilon(1e-10).margin(1e-15));
      ++kls;
    }
  }
  CHECK(losses == 49);
  CHECK(kls == 3);
  CHECK(pass == 7);
}

TEST_CASE("nemo_rl_2026_08: advantages are those of NeMo-RL's formulas", "[presets][golden]") {
  const json all = golden("nemo_rl");
  std::size_t checked = 0;
  for (const json& c : all["cases"]) {
    const std::string function = c["function"];
    if (function.find("AdvantageEstimator") == std::string::npos) continue;
    const batch data(all["batches"][c["batch"].get<std::string>()]);
    const json &o = c["options"], &in = c["inputs"];
    INFO(function << " on " << c["batch"] << " with " << o);
    std::vector<verdict> verdicts = data.verdicts();
    const token_layout layout{data.offsets, data.mask};
    values theirs = numbers(c["outputs"]["advantage"]), ours, returns;
    const auto yes = [&](const char* name) { return o.value(name, false); };
    const auto others = yes("use_leave_one_out_baseline") ? nemo::use_leave_one_out_baseline::yes
                                                          : nemo::use_leave_one_out_baseline::no;
    values kl(data.offsets.back());  // k1
    for (std::size_t t = 0; t < kl.size(); ++t) kl[t] = data.old_log_probs[t] - data.reference_log_probs[t];
    const double kl_coef = o.value("reference_policy_kl_penalty", 0.0);
    if (function.rfind("GRPO", 0) == 0) {
      if (in.contains("valid_mask"))
        for (std::size_t i = 0; i < data.size(); ++i)
          if (in["valid_mask"][i] == 0) verdicts[i].scored = false, theirs[i] = 0;  // 0 here, R - baseline there
      ours = nemo::grpo(verdicts, data.groups, others,
                        yes("normalize_rewards") ? nemo::normalize::yes : nemo::normalize::no);
      if (c["batch"] == "even" && yes("normalize_rewards"))
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
    if (!returns.empty()) check_advantages(data, returns, numbers(c["outputs"]["returns"]), 1e-9, 1e-9);
    ++checked;
  }
  CHECK(checked == 38);
}
