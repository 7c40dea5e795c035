/// presets/openrlhf_2026_09.hpp against OpenRLHF 0.11.2 (golden/frameworks/openrlhf_golden.py).

#include <rlvr/backend/decoder/json.hpp>
#include <rlvr/objective/policy_gradient.hpp>
#include <rlvr/presets/openrlhf_2026_09.hpp>

#include "presets_golden.hpp"

using namespace rlvr;
using namespace presets_golden;
namespace openrlhf = rlvr::openrlhf_2026_09;

namespace {

openrlhf::aggregate_loss aggregation_of(const json& o) {
  openrlhf::aggregate_loss out;
  if (!o["token_level_loss"].get<bool>()) out.token_level_loss = openrlhf::token_level_loss::no;
  if (o.contains("dp_size")) {
    out.dp_size = o["dp_size"];
    out.batch_num_tokens = o["batch_num_tokens"].get<double>();
    out.global_batch_size = o["global_batch_size"].get<double>();
  }
  return out;
}

}  // namespace

TEST_CASE("openrlhf_2026_09: losses have OpenRLHF's gradients", "[presets][golden]") {
  for (const golden_case& c : cases("openrlhf", "PolicyLoss", 33)) {
    INFO(c.name());
    const json& o = c.options;
    openrlhf::policy_loss loss{
        .clip_eps_low = o["clip_eps_low"],
        .clip_eps_high = o["clip_eps_high"],
        .policy_loss_type = by_name<openrlhf::policy_loss_type>(o["policy_loss_type"], {"ppo", "gspo"}),
        .is_correction_level =
            by_name<openrlhf::is_correction_level>(o["is_correction_level"], {"off", "token", "seq"}),
        .is_correction_mode = by_name<openrlhf::is_correction_mode>(o["is_correction_mode"], {"mask", "clip"}),
        .is_correction_gating =
            by_name<openrlhf::is_correction_gating>(o["is_correction_gating"], {"ratio", "binary_kl", "tv"}),
        .is_correction_threshold = {o["is_correction_threshold"][0], o["is_correction_threshold"][1]},
        .aggregate = aggregation_of(o)};
    if (!o["dual_clip"].is_null()) loss.dual_clip = o["dual_clip"].get<double>();
    check_gradient(run(loss, c.data.view()), c.outputs["gradient"]);
  }
  const auto mean = [](const golden_case& c, double advantage) {
    INFO(c.name());
    const values a(c.data.size(), advantage);
    token_batch<double> b = c.data.view();
    b.advantages = a;
    check_gradient(coefficients(policy_gradient{}, b, sequence_weights(b, aggregation_of(c.options).how())),
                   c.outputs["gradient"]);
  };
  for (const golden_case& c : cases("openrlhf", "aggregate_loss", 8)) mean(c, -1);  // of log pi
  for (const golden_case& c : cases("openrlhf", "SFTLoss", 2)) mean(c, 1);          // of -log pi
  for (const golden_case& c : cases("openrlhf", "DPOLoss", 4)) {
    INFO(c.name());
    const json& o = c.options;
    const token_batch<double> b = c.data.view();
    const std::vector<preference_pair> pairs = halves(c.data);
    values ours(b.tokens());
    const double weight = 1 / static_cast<double>(pairs.size());
    if (o["ipo"].get<bool>())
      ipo{.beta = o["beta"]}(b, pairs, weight, std::span<double>(ours));
    else
      dpo{.beta = o["beta"], .smoothing = o["label_smoothing"]}(b, pairs, weight, std::span<double>(ours));
    check_gradient(ours, c.outputs["gradient"]);
  }
}

TEST_CASE("openrlhf_2026_09: the KL is OpenRLHF's", "[presets][golden]") {
  for (const golden_case& c : cases("openrlhf", "compute_approx_kl", 12)) {
    INFO(c.name());
    openrlhf::kl_loss loss{.coefficient = 1,
                           .estimator = by_name<kl_estimator>(c.options["kl_estimator"], {"k1", "abs", "k2", "k3"})};
    if (c.options["unbiased_gradient"].get<bool>()) loss.unbiased_gradient = openrlhf::unbiased_gradient::yes;
    check_kl(loss, {.coefficient = 1, .estimator = loss.estimator, .output_limit = 10}, c);
  }
}

TEST_CASE("openrlhf_2026_09: advantages are OpenRLHF's", "[presets][golden]") {
  for (const golden_case& c : cases("openrlhf", "compute_advantages_and_returns", 22)) {
    INFO(c.name());
    const batch& data = c.data;
    const json& o = c.options;
    openrlhf::advantages make{
        .estimator = by_name<openrlhf::estimator>(o["estimator"], {"gae", "reinforce", "rloo", "reinforce_baseline",
                                                                   "group_norm", "dr_grpo", "flash_reinforce"}),
        .gamma = o["gamma"],
        .lambd = o["lambd"],
        .init_kl_coef = o["kl_coef"]};
    if (o["no_std_norm"].get<bool>()) make.no_std_norm = openrlhf::no_std_norm::yes;
    if (!o["reward_clip_range"].is_null())
      make.reward_clip_range = {o["reward_clip_range"][0], o["reward_clip_range"][1]};
    values kl(data.offsets.back());
    for (std::size_t t = 0; t < kl.size(); ++t) kl[t] = data.old_log_probs[t] - data.reference_log_probs[t];
    const advantages_and_returns ours = make(data.verdicts(), data.groups, {data.offsets, data.mask}, kl, data.value);
    // group_norm over 1e-9 multiplies the roundings of a group that is all but constant.
    check_advantages(data, ours.advantages, numbers(c.outputs["advantage"]), 1e-9, 1e-9);
    if (c.outputs.contains("returns")) check_advantages(data, ours.returns, numbers(c.outputs["returns"]), 1e-9, 1e-9);
  }
}

TEST_CASE("openrlhf_2026_09: defaults are PolicyLoss's", "[presets][golden]") {
  const json all = golden("openrlhf");
  const json theirs = all["defaults"]["PolicyLoss"];
  const openrlhf::policy_loss loss;
  CHECK(loss.clip_eps_low == theirs["clip_eps_low"]);
  CHECK(loss.clip_eps_high == theirs["clip_eps_high"]);
  CHECK(loss.dual_clip.has_value() != theirs["dual_clip"].is_null());
  CHECK((loss.aggregate.token_level_loss == openrlhf::token_level_loss::yes) == theirs["token_level_loss"]);
  CHECK((loss.policy_loss_type == openrlhf::policy_loss_type::ppo && theirs["policy_loss_type"] == "ppo"));
  CHECK((loss.is_correction_level == openrlhf::is_correction_level::off && theirs["is_correction_level"] == "off"));
  CHECK((loss.is_correction_mode == openrlhf::is_correction_mode::mask && theirs["is_correction_mode"] == "mask"));
  CHECK((loss.is_correction_gating == openrlhf::is_correction_gating::ratio &&
         theirs["is_correction_gating"] == "ratio"));
  CHECK(loss.is_correction_threshold.first == theirs["is_correction_threshold"][0]);
  CHECK(loss.is_correction_threshold.second == theirs["is_correction_threshold"][1]);
}

TEST_CASE("openrlhf_2026_09: clip is for the token's ratio alone", "[presets]") {
  const json all = golden("openrlhf");
  const batch data(all["batches"]["uneven"]);
  openrlhf::policy_loss loss{.is_correction_level = openrlhf::is_correction_level::seq,
                             .is_correction_mode = openrlhf::is_correction_mode::clip};
  CHECK_THROWS_WITH(run(loss, data.view()), Catch::Contains("is_correction_mode::clip needs"));
  loss.is_correction_level = openrlhf::is_correction_level::token;
  loss.is_correction_gating = openrlhf::is_correction_gating::tv;
  CHECK_THROWS_WITH(run(loss, data.view()), Catch::Contains("is_correction_mode::clip needs"));
}
