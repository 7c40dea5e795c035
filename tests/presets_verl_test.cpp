/// presets/verl_2026_09.hpp against verl 0.9.1 (golden/frameworks/verl_golden.py).

#include <sstream>

#include <rlvr/backend/decoder/json.hpp>
#include <rlvr/presets/verl_2026_09.hpp>

#include "presets_golden.hpp"

using namespace rlvr;
using namespace presets_golden;
namespace verl = rlvr::verl_2026_09;

namespace {

std::vector<std::string> split(const std::string& text, char at) {
  std::vector<std::string> out;
  std::istringstream in(text);
  for (std::string part; std::getline(in, part, at);) out.push_back(part);
  return out;
}

verl::agg_loss aggregation_of(const json& o, double width) {
  verl::agg_loss out{.loss_agg_mode = by_name<verl::loss_agg_mode>(o["loss_agg_mode"],
                                                                   {"token-mean", "token-sum", "seq-mean-token-sum",
                                                                    "seq-mean-token-sum-norm", "seq-mean-token-mean"}),
                     .loss_scale_factor = o.value("loss_scale_factor", width)};
  if (o.contains("dp_size")) {
    out.dp_size = o["dp_size"];
    out.batch_num_tokens = o["batch_num_tokens"].get<double>();
    out.global_batch_size = o["global_batch_size"].get<double>();
  }
  return out;
}

/// rollout_is, its threshold (2.0 or "0.8_1.25"), rollout_rs ("token_k1,seq_max_k2") and its thresholds.
verl::rollout_correction correction_of(const json& o) {
  verl::rollout_correction out;
  const std::string level = o.value("rollout_is", "");
  out.rollout_is = level == "token"      ? verl::rollout_is::token
                   : level == "sequence" ? verl::rollout_is::sequence
                                         : verl::rollout_is::none;
  if (o.contains("rollout_is_threshold")) {
    const json& threshold = o["rollout_is_threshold"];
    if (threshold.is_string()) {
      const auto bounds = split(threshold, '_');
      out.rollout_is_lower = std::stod(bounds[0]);
      out.rollout_is_threshold = std::stod(bounds[1]);
    } else {
      out.rollout_is_threshold = threshold;
    }
  }
  if (o.value("rollout_is_batch_normalize", false))
    out.rollout_is_batch_normalize = verl::rollout_is_batch_normalize::yes;
  const auto options = split(o.value("rollout_rs", ""), ',');
  std::vector<std::string> thresholds;
  if (!options.empty()) {
    const json& t = o["rollout_rs_threshold"];
    thresholds = t.is_string() ? split(t, ',') : std::vector<std::string>{t.dump()};
  }
  for (std::size_t k = 0; k < options.size(); ++k) {
    const std::string& name = options[k];
    const rejection_over over = name.rfind("token", 0) == 0      ? rejection_over::token
                                : name.rfind("seq_sum", 0) == 0  ? rejection_over::sequence_sum
                                : name.rfind("seq_mean", 0) == 0 ? rejection_over::sequence_mean
                                                                 : rejection_over::sequence_max;
    const auto bounds = split(thresholds[k], '_');
    const double upper = std::stod(bounds.back());
    out.rollout_rs.push_back(
        name.back() == '1'   ? verl::rollout_rs_k1(over, bounds.size() > 1 ? std::stod(bounds[0]) : 1 / upper, upper)
        : name.back() == '2' ? verl::rollout_rs(over, sampler_divergence::k2, upper)
                             : verl::rollout_rs(over, sampler_divergence::k3, upper));
  }
  return out;
}

verl::actor_loss loss_of(const golden_case& c, const std::string& name) {
  const json& o = c.options;
  verl::actor_loss loss{
      .loss_mode = by_name<verl::loss_mode>(name, {"vanilla", "dppo_tv", "dppo_kl", "gspo", "sapo", "gpg", "clip_cov",
                                                   "kl_cov", "geo_mean", "dro", "cispo", "bypass_mode"}),
      .clip_ratio_low = o["clip_ratio_low"],
      .clip_ratio_high = o["clip_ratio_high"],
      .clip_ratio_c = o["clip_ratio_c"],
      .tau_pos = o["tau_pos"],
      .tau_neg = o["tau_neg"],
      .kl_cov_ratio = o.value("kl_cov_ratio", 2e-4),
      .ppo_kl_coef = o.value("ppo_kl_coef", 0.1),
      .dro_beta = o.value("dro_beta", 0.0),
      .aggregate = aggregation_of(o, c.data.padded_width)};
  if (c.inputs.contains("rollout_is_weights"))  // exp(old - rollout) up to 2
    loss.rollout_correction = verl::rollout_correction{.rollout_is = verl::rollout_is::token};
  if (o.contains("rollout_correction")) {
    loss.rollout_correction = correction_of(o["rollout_correction"]);
    if (o["rollout_correction"]["loss_type"] == "reinforce") loss.loss_type = verl::bypass_loss::reinforce;
  }
  return loss;
}

/// clip_cov with verl's own permutation of the candidates in the place of a key.
values clip_cov_as_drawn(const golden_case& c, const verl::actor_loss& loss) {
  const json& o = c.options;
  const token_batch<double> b = c.data.view();
  const ppo_clip clip{.low = loss.clip_ratio_low, .high = loss.clip_ratio_high, .log_ratio_limit = infinity};
  std::vector<branch> codes(b.tokens());
  values out(b.tokens());
  clip(b, sequence_weights(b, loss.aggregate.how()), std::span<double>(out), codes);
  const values cov = token_covariances(b);
  std::vector<std::size_t> candidates;
  for (std::size_t t = 0; t < cov.size(); ++t)
    if (codes[t] == branch::active && cov[t] > o["clip_cov_lb"] && cov[t] < o["clip_cov_ub"]) candidates.push_back(t);
  const json& order = c.inputs["permutation"];
  REQUIRE(order.size() == candidates.size());
  const double wanted = o["clip_cov_ratio"].get<double>() * static_cast<double>(totals(b).active_tokens);
  const std::size_t count = std::min(std::max<std::size_t>(static_cast<std::size_t>(wanted), 1), order.size());
  for (std::size_t k = 0; k < count; ++k) out[candidates[order[k].get<std::size_t>()]] = 0;

  // The preset drops as many, all of them candidates.
  verl::actor_loss keyed = loss;
  keyed.clip_cov_ratio = o["clip_cov_ratio"];
  keyed.clip_cov_lb = o["clip_cov_lb"];
  keyed.clip_cov_ub = o["clip_cov_ub"];
  std::vector<branch> keyed_codes(b.tokens());
  values ours(b.tokens());
  keyed(b, std::span<double>(ours), keyed_codes);
  CHECK(count_branches(keyed_codes)[branch::rejected] == count);
  for (std::size_t t = 0; t < ours.size(); ++t) {
    const bool candidate = std::find(candidates.begin(), candidates.end(), t) != candidates.end();
    CHECK((candidate || keyed_codes[t] != branch::rejected));
    CHECK((candidate || ours[t] == out[t]));
  }
  return out;
}

}  // namespace

TEST_CASE("verl_2026_09: losses have verl's gradients", "[presets][golden]") {
  const std::string policy = "compute_policy_loss_";
  for (const golden_case& c : cases("verl", policy, 61)) {
    INFO(c.name());
    const token_batch<double> b = c.data.view();
    const std::string name = c.function.substr(policy.size());
    verl::actor_loss loss = loss_of(c, name);
    const values ours = name == "clip_cov" ? clip_cov_as_drawn(c, loss) : run(loss, b);
    // verl's mean weight over a sequence of one token divides by 1 + 1e-8.
    const bool normalized = loss.rollout_correction && loss.rollout_correction->rollout_is_batch_normalize ==
                                                           verl::rollout_is_batch_normalize::yes;
    check_gradient(ours, c.outputs["gradient"], normalized ? 2e-8 : 3e-9);
    if (name != "vanilla") continue;
    // The KL in the loss has the policy's weights.
    loss.use_kl_loss = verl::use_kl_loss::yes;
    values sum = ours;
    verl::kl_loss()(b, sequence_weights(b, loss.aggregate.how()), std::span<double>(sum));
    check_equal(run(loss, b), sum, 0, 0);
  }
  for (const golden_case& c : cases("verl", "agg_loss", 20)) {
    INFO(c.name());
    const values a(c.data.size(), -1.0);  // the loss is log pi
    token_batch<double> b = c.data.view();
    b.advantages = a;
    const aggregation how = aggregation_of(c.options, c.data.padded_width).how();
    check_gradient(coefficients(policy_gradient{}, b, sequence_weights(b, how)), c.outputs["gradient"]);
  }
}

TEST_CASE("verl_2026_09: the KL is verl's", "[presets][golden]") {
  for (const golden_case& c : cases("verl", "kl_penalty", 22)) {
    INFO(c.name());
    std::string kind = c.options["kl_penalty"];
    const auto plus = kind.back() == '+' ? verl::straight_through::yes : verl::straight_through::no;
    if (kind.back() == '+') kind.pop_back();
    const verl::kl_loss_type type = kind == "kl" || kind == "k1"    ? verl::kl_loss_type::k1
                                    : kind == "abs"                 ? verl::kl_loss_type::abs
                                    : kind == "mse" || kind == "k2" ? verl::kl_loss_type::k2
                                                                    : verl::kl_loss_type::low_var_kl;
    const kl_penalty penalty = verl::kl_loss(type, 1, plus);
    check_kl(penalty, penalty, c);
  }
}

TEST_CASE("verl_2026_09: rollout weights and rejections are verl's", "[presets][golden]") {
  for (const golden_case& c : cases("verl", "compute_rollout_correction_weights", 36)) {
    INFO(c.name());
    // verl's mean over a sequence of one token divides by 1 + 1e-8.
    check_equal(correction_of(c.options).weights(c.data.view()), numbers(c.outputs["weight"]),
                c.options["rollout_is_batch_normalize"].get<bool>() ? 2e-8 : 1e-11, 1e-15);
  }
  for (const golden_case& c : cases("verl", "compute_rollout_rejection_mask", 26)) {
    INFO(c.name());
    const std::vector<std::uint8_t> ours = correction_of(c.options).kept(c.data.view());
    check_equal(values(ours.begin(), ours.end()), numbers(c.outputs["mask"]), 0, 0);
  }
}

TEST_CASE("verl_2026_09: advantages are verl's", "[presets][golden]") {
  for (const golden_case& c : cases("verl", "_advantage", 44)) {
    INFO(c.name());
    batch data = c.data;
    const json &o = c.options, &in = c.inputs;
    if (in.contains("mask"))
      for (std::size_t t = 0; t < data.mask.size(); ++t) data.mask[t] = in["mask"][t] != 0;
    const std::string name = c.function.substr(
        8, c.function.find(c.function.find("_outcome") == std::string::npos ? "_advantage" : "_outcome") - 8);
    const std::vector<verdict> verdicts = data.verdicts();
    const std::vector<std::size_t> counts = data.token_counts();
    const token_layout layout{data.offsets, data.mask};
    const values rewards = in.contains("token_reward") ? numbers(in["token_reward"]) : data.token_rewards;
    const auto norm = o.value("norm_adv_by_std_in_grpo", true) ? verl::norm_adv_by_std_in_grpo::yes
                                                               : verl::norm_adv_by_std_in_grpo::no;
    values ours, returns;
    if (name == "grpo" || name == "grpo_vectorized") ours = verl::grpo(verdicts, data.groups, norm);
    if (name == "rloo") ours = verl::rloo(verdicts, data.groups);
    if (name == "rloo_vectorized") ours = verl::rloo_vectorized(verdicts, data.groups);
    if (name == "opo") ours = verl::opo(verdicts, data.groups, counts);
    if (name == "gpg") ours = verl::gpg(verdicts, data.groups);
    if (name == "grpo_passk") ours = verl::grpo_passk(norm)(verdicts, data.groups);
    if (name == "reinforce_plus_plus_baseline")
      ours = verl::reinforce_plus_plus_baseline()(verdicts, data.groups, counts);
    if (name == "reinforce_plus_plus") ours = verl::reinforce_plus_plus(rewards, layout, o["gamma"]);
    if (name == "remax") ours = verl::remax(rewards, data.greedy_rewards, layout);
    if (name == "gae") {
      const advantages_and_returns both = verl::gae(rewards, data.value, layout, o["gamma"], o["lam"]);
      ours = both.advantages, returns = both.returns;
    }
    if (name == "optimal_token_baseline" || name == "multi_turn_optimal_token_baseline") {
      values weights;
      if (in.contains("rollout_is_weights"))
        for (std::size_t t = 0; t < data.mask.size(); ++t)
          weights.push_back(std::min(std::exp(data.old_log_probs[t] - data.sampled_log_probs[t]), 2.0));
      const auto tail = o["handle_zero_tail"].get<bool>() ? verl::handle_zero_tail::yes : verl::handle_zero_tail::no;
      const advantages_and_returns both = verl::optimal_token_baseline(tail)(
          rewards, layout, data.groups, data.old_log_probs, numbers(in["sum_pi_squared"]), weights);
      ours = both.advantages, returns = both.returns;
    }
    if (name == "gdpo") {
      const auto accuracy = verdicts_of(numbers(in["accuracy"])), brevity = verdicts_of(numbers(in["brevity"]));
      const std::span<const verdict> parts[]{accuracy, brevity};
      const json& weights = o["gdpo_reward_weights"];
      ours = verl::gdpo(weights.is_null() ? values{} : weights.get<values>())(parts, data.groups, counts);
    }
    REQUIRE(!ours.empty());
    // The near tie of "even" divides roundings of 1e-17 by 1e-6; the tail that handle_zero_tail leaves is 0 here.
    check_advantages(data, ours, numbers(c.outputs["advantage"]), 1e-9,
                     o.value("handle_zero_tail", true) ? 1e-9 : 1e-8);
    if (!returns.empty()) check_advantages(data, returns, numbers(c.outputs["returns"]), 1e-9, 1e-9);
  }
}

TEST_CASE("verl_2026_09: defaults are verl's", "[presets][golden]") {
  const json all = golden("verl");
  const json actor = all["defaults"]["ActorConfig"], policy = all["defaults"]["PolicyLossConfig"],
             correction = all["defaults"]["RolloutCorrectionConfig"], algorithm = all["defaults"]["AlgoConfig"];
  const verl::actor_loss loss;
  CHECK((loss.loss_mode == verl::loss_mode::vanilla && policy["loss_mode"] == "vanilla"));
  CHECK(loss.clip_ratio_low == actor["clip_ratio_low"]);
  CHECK(loss.clip_ratio_high == actor["clip_ratio_high"]);
  CHECK(loss.clip_ratio_c == actor["clip_ratio_c"]);
  CHECK(loss.tau_pos == actor["tau_pos"]);
  CHECK(loss.tau_neg == actor["tau_neg"]);
  CHECK(loss.clip_cov_ratio == policy["clip_cov_ratio"]);
  CHECK(loss.clip_cov_lb == policy["clip_cov_lb"]);
  CHECK(loss.clip_cov_ub == policy["clip_cov_ub"]);
  CHECK(loss.kl_cov_ratio == policy["kl_cov_ratio"]);
  CHECK(loss.ppo_kl_coef == policy["ppo_kl_coef"]);
  CHECK((loss.aggregate.loss_agg_mode == verl::loss_agg_mode::token_mean && actor["loss_agg_mode"] == "token-mean"));
  CHECK((loss.use_kl_loss == verl::use_kl_loss::yes) == actor["use_kl_loss"]);
  CHECK(loss.kl.coefficient == actor["kl_loss_coef"]);
  CHECK((loss.kl.input_limit == 20 && actor["kl_loss_type"] == "low_var_kl"));
  CHECK((loss.loss_type == verl::bypass_loss::ppo_clip && correction["loss_type"] == "ppo_clip"));
  const verl::rollout_correction correct;
  CHECK((correct.rollout_is == verl::rollout_is::sequence && correction["rollout_is"] == "sequence"));
  CHECK(correct.rollout_is_threshold == correction["rollout_is_threshold"]);
  CHECK((correct.rollout_is_batch_normalize == verl::rollout_is_batch_normalize::yes) ==
        correction["rollout_is_batch_normalize"]);
  CHECK((correct.rollout_rs.empty() && correction["rollout_rs"].is_null()));
  CHECK((algorithm["gamma"] == 1 && algorithm["lam"] == 1 && algorithm["norm_adv_by_std_in_grpo"] == true));
}

TEST_CASE("verl_2026_09: rejected tokens leave the denominators", "[presets]") {
  const json all = golden("verl");
  const batch data(all["batches"]["uneven"]);
  const token_batch<double> b = data.view();
  verl::actor_loss loss;
  loss.rollout_correction =
      verl::rollout_correction{.rollout_is = verl::rollout_is::none,
                               .rollout_rs = {verl::rollout_rs(rejection_over::token, sampler_divergence::k2, 0.02)}};
  const std::vector<std::uint8_t> kept = loss.rollout_correction->kept(b);
  token_batch<double> less = b;
  less.mask = kept;
  std::vector<branch> codes(b.tokens());
  values ours(b.tokens());
  loss(b, std::span<double>(ours), codes);
  check_equal(ours, run(verl::actor_loss{}, less), 0, 0);
  const std::size_t rejected = totals(b).active_tokens - totals(less).active_tokens;
  CHECK(rejected > 0);
  CHECK(count_branches(codes)[branch::rejected] == rejected);
}
