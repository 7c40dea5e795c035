/// The terms that presets are made of: sequence_level, rejection, normalized_importance, shifts of vespo; presets in
/// float.

#include <algorithm>
#include <cmath>
#include <limits>
#include <string>
#include <vector>

#include <rlvr/objective/gspo.hpp>
#include <rlvr/objective/mini_rl.hpp>
#include <rlvr/presets/nemo_rl_2026_08.hpp>
#include <rlvr/presets/openrlhf_2026_09.hpp>
#include <rlvr/presets/trl_2026_10.hpp>
#include <rlvr/presets/verl_2026_09.hpp>

#include "catch.hpp"
#include "objective_world.hpp"

using namespace rlvr;
using namespace rlvr::testing;

namespace {

constexpr double infinity = std::numeric_limits<double>::infinity();
constexpr double not_a_number = std::numeric_limits<double>::quiet_NaN();

template <class Correction>
std::vector<double> factors(const Correction& correct, const token_batch<double>& b, std::span<branch> codes = {}) {
  std::vector<double> out(b.tokens(), 1.0);
  correct(b, std::span<double>(out), codes);
  return out;
}

}  // namespace

TEST_CASE("sequence_level of ppo_clip is gspo", "[objective]") {
  for (std::uint64_t seed = 0; seed < 8; ++seed)
    for (masks m : {masks::none, masks::random}) {
      const auto w = make_world(seed, advantages_per::sequence, m);
      const token_batch<double> b = w.view();
      const std::vector<double> weights = sequence_weights(b, sequence_mean_of_token_mean);
      std::vector<double> x(b.tokens()), y(b.tokens());
      std::vector<branch> cx(b.tokens()), cy(b.tokens());
      gspo{.low = 0.1, .high = 0.2, .log_ratio_limit = infinity}(b, weights, std::span<double>(x), cx);
      sequence_level<ppo_clip>{{.low = 0.1, .high = 0.2, .log_ratio_limit = infinity}}(b, weights, std::span<double>(y),
                                                                                       cy);
      for (std::size_t t = 0; t < x.size(); ++t) CHECK(y[t] == Approx(x[t]).epsilon(1e-13).margin(1e-15));
      CHECK(cx == cy);
    }
  auto w = make_world(3);
  w.old_log_probs.clear();
  CHECK_THROWS_WITH(coefficients(sequence_level<ppo_clip>{}, w.view()), "sequence_level: old_log_probs is not given");
  auto bad = make_world(3, advantages_per::sequence, masks::none);
  bad.log_probs[2] = not_a_number;
  CHECK_THROWS_WITH(coefficients(sequence_level<ppo_clip>{}, bad.view()), Catch::Contains("log_probs["));
}

TEST_CASE("rejection keeps what its statistic says", "[objective]") {
  for (std::uint64_t seed = 0; seed < 6; ++seed) {
    const auto w = make_world(seed);
    const token_batch<double> b = w.view();
    for (sampler_divergence d : {sampler_divergence::k1, sampler_divergence::k2, sampler_divergence::k3,
                                 sampler_divergence::binary_kl, sampler_divergence::total_variation})
      for (rejection_over over : {rejection_over::token, rejection_over::sequence_sum, rejection_over::sequence_mean,
                                  rejection_over::sequence_max}) {
        const rejection reject{
            .divergence = d, .over = over, .min = d == sampler_divergence::k1 ? -0.2 : 0.0, .max = 0.15};
        const std::vector<std::uint8_t> kept = reject.kept(b);
        std::vector<branch> codes(b.tokens(), branch::active);
        const std::vector<double> factor = factors(reject, b, codes);
        for (std::size_t i = 0; i < b.size(); ++i) {
          double sum = 0, most = -infinity, n = 0;
          std::vector<double> each;
          for (std::size_t t = b.begin(i); t < b.end(i); ++t) {
            const double e = w.old_log_probs[t] - w.sampled_log_probs[t];
            const double q = std::clamp(std::exp(w.old_log_probs[t]), 1e-6, 1 - 1e-6);
            const double p = std::clamp(std::exp(w.sampled_log_probs[t]), 1e-6, 1 - 1e-6);
            each.push_back(d == sampler_divergence::k1   ? -e
                           : d == sampler_divergence::k2 ? e * e / 2
                           : d == sampler_divergence::k3 ? std::expm1(e) - e
                           : d == sampler_divergence::binary_kl
                               ? p * std::log(p / q) + (1 - p) * std::log((1 - p) / (1 - q))
                               : std::fabs(p - q));
            if (!b.active(t)) continue;
            sum += each.back(), most = std::max(most, each.back()), ++n;
          }
          for (std::size_t t = b.begin(i); t < b.end(i); ++t) {
            const double s = over == rejection_over::token          ? each[t - b.begin(i)]
                             : over == rejection_over::sequence_sum ? sum
                             : over == rejection_over::sequence_max ? most
                                                                    : sum / n;
            const bool keep = b.active(t) && s >= reject.min && s <= reject.max;
            CHECK((kept[t] != 0) == keep);
            CHECK(factor[t] == (keep ? 1.0 : 0.0));
            CHECK(codes[t] == (keep ? branch::active : b.active(t) ? branch::rejected : branch::masked));
          }
        }
      }
  }
  auto w = make_world(1, advantages_per::sequence, masks::none);
  CHECK_THROWS_WITH((rejection{.min = 1, .max = 0}.kept(w.view())), "rejection: the statistic is kept in [1, 0]");
  CHECK_THROWS_WITH((rejection{.max = not_a_number}.kept(w.view())), Catch::Contains("the statistic is kept in"));
  CHECK_THROWS_WITH((rejection{.log_ratio_limit = 0}.kept(w.view())), "rejection: log_ratio_limit is 0");
  std::vector<double> few(1);
  CHECK_THROWS_WITH((rejection{}(w.view(), std::span<double>(few))), Catch::Contains("rejection: 1 coefficients for"));
  std::vector<branch> codes(1);
  std::vector<double> enough(w.tokens());
  CHECK_THROWS_WITH((rejection{}(w.view(), std::span<double>(enough), codes)),
                    Catch::Contains("rejection: 1 branches for"));
  for (double bad : {not_a_number, infinity}) {
    w.sampled_log_probs[4] = bad;
    CHECK_THROWS_WITH(rejection{}.kept(w.view()), Catch::Contains("rejection: sampled_log_probs[4] is"));
  }
  w.sampled_log_probs.clear();
  CHECK_THROWS_WITH(rejection{}.kept(w.view()), "rejection: sampled_log_probs is not given");
}

TEST_CASE("normalized_importance: the mean weight is 1", "[objective]") {
  for (std::uint64_t seed = 0; seed < 6; ++seed) {
    const auto w = make_world(seed);
    const token_batch<double> b = w.view();
    for (importance_over over :
         {importance_over::token, importance_over::sequence_product, importance_over::sequence_geometric_mean}) {
      const importance_correction correct{.over = over, .max = 1.1};
      const std::vector<double> plain = factors(correct, b), out = factors(normalized_importance{correct}, b);
      double sum = 0, count = 0, ratio = 0;
      for (std::size_t i = 0; i < b.size(); ++i) {
        double own = 0, n = 0;
        for (std::size_t t = b.begin(i); t < b.end(i); ++t)
          if (b.active(t)) own += out[t], ++n, ratio = out[t] / plain[t];
        if (n == 0) continue;
        sum += over == importance_over::token ? own : own / n;
        count += over == importance_over::token ? n : 1;
      }
      CHECK(sum / count == Approx(1).epsilon(1e-12));
      for (std::size_t t = 0; t < out.size(); ++t) CHECK(out[t] == Approx(plain[t] * ratio).epsilon(1e-12));
    }
    // All rejected: nothing is divided.
    const std::vector<double> none =
        factors(normalized_importance{{.bound = importance_bound::zero, .min = 1e6, .max = 1e7}}, b);
    for (double x : none) CHECK(x == 0);
  }
}

TEST_CASE("vespo: shifts are added to the sequence's log-ratio", "[objective]") {
  const auto w = make_world(5, advantages_per::sequence, masks::random, 0.3);
  const token_batch<double> b = w.view();
  std::vector<double> shifts(b.size());
  std::vector<double> moved = w.old_log_probs;  // the same shift, given through old_log_probs of one token
  for (std::size_t i = 0; i < b.size(); ++i) {
    shifts[i] = 0.1 * static_cast<double>(i % 3) - 0.1;
    for (std::size_t t = b.begin(i); t < b.end(i); ++t)
      if (b.active(t)) {
        moved[t] -= shifts[i];
        break;
      }
  }
  token_batch<double> c = b;
  c.old_log_probs = moved;
  const std::vector<double> expected = coefficients(vespo{}, c);
  std::vector<double> out(b.tokens());
  vespo{}(b, {}, std::span<double>(out), {}, shifts);
  for (std::size_t t = 0; t < out.size(); ++t) CHECK(out[t] == Approx(expected[t]).epsilon(1e-12));
  shifts[1] = not_a_number;
  CHECK_THROWS_WITH(vespo{}(b, {}, std::span<double>(out), {}, shifts), "vespo: shift 1 is nan");
  shifts.pop_back();
  CHECK_THROWS_WITH(vespo{}(b, {}, std::span<double>(out), {}, shifts), Catch::Contains("vespo: 11 shifts for 12"));
}

TEST_CASE("presets in float are presets in double", "[presets]") {
  const auto x = make_world<double>(7, advantages_per::sequence, masks::random, 0.3);
  const auto y = make_world<float>(7, advantages_per::sequence, masks::random, 0.3);
  const auto compare = [&](const auto& loss) {
    std::vector<double> a(x.tokens());
    std::vector<float> b(y.tokens());
    static_assert(complete_loss<std::remove_cvref_t<decltype(loss)>>);
    loss(x.view(), std::span<double>(a));
    loss(y.view(), std::span<float>(b));
    CHECK(coefficients(loss, x.view()) == a);
    CHECK(coefficients(loss, y.view()) == b);
    double size = 0;
    for (double c : a) size = std::max(size, std::fabs(c));
    CHECK(size > 0);
    for (std::size_t t = 0; t < a.size(); ++t) CHECK(std::fabs(a[t] - static_cast<double>(b[t])) <= 1e-4 * size);
  };
  namespace trl = trl_2026_10;
  compare(trl::grpo_loss{.importance_sampling_level = importance_level::sequence, .beta = 0.1});
  compare(trl::grpo_loss{.loss_type = trl::loss_type::vespo, .vllm = trl::vllm_correction()});
  compare(trl::grpo_loss{.off_policy_mask_threshold = 0.5, .vllm = trl::vllm_correction()});
  compare(trl::rloo_loss{});
  compare(trl::gmpo_loss{.beta = 0.1, .top_entropy_quantile = 0.5});
  compare(openrlhf_2026_09::policy_loss{.is_correction_level = openrlhf_2026_09::is_correction_level::seq});
  compare(openrlhf_2026_09::policy_loss{.policy_loss_type = openrlhf_2026_09::policy_loss_type::gspo});
  verl_2026_09::actor_loss verl{.use_kl_loss = verl_2026_09::use_kl_loss::yes};
  for (auto mode :
       {verl_2026_09::loss_mode::vanilla, verl_2026_09::loss_mode::geo_mean, verl_2026_09::loss_mode::bypass_mode}) {
    verl.loss_mode = mode;
    verl.rollout_correction = verl_2026_09::rollout_correction{};
    compare(verl);
  }
  compare(nemo_rl_2026_08::clipped_pg_loss{.importance_sampling_correction =
                                               nemo_rl_2026_08::truncated_importance_sampling_type::none});
}

TEST_CASE("presets are whole losses: neither corrections nor for parts", "[presets]") {
  using trl = trl_2026_10::grpo_loss;
  // Its denominator would be each part's own.
  static_assert(complete_loss<trl> && complete_loss<trl, float>);
  static_assert(!separable<trl> && !adjustment<trl> && !objective<trl>);
  static_assert(!complete_loss<importance_correction> && !complete_loss<ppo_clip> && !complete_loss<kl_penalty>);
  const std::vector<std::size_t> offsets{5, 4};
  token_batch<double> b;
  b.offsets = offsets;
  CHECK_THROWS_WITH(coefficients(trl{}, b), "coefficients: offsets[1] = 4 is below offsets[0] = 5");
}

TEST_CASE("presets name what does not fit", "[presets]") {
  const auto w = make_world(2, advantages_per::sequence, masks::none);
  const std::vector<verdict> verdicts{{1, true}, {0, true}};
  groups g;
  g.offsets = {0, 2};
  const std::vector<std::size_t> offsets{0, 2, 3};
  const token_layout layout{offsets};
  const std::vector<double> few(1);
  token_batch<double> bare = w.view();
  bare.entropies = {};
  CHECK_THROWS_WITH(trl_2026_10::grpo_loss{}.entropy_weights(bare), "entropy_weights: entropies is not given");
  CHECK_THROWS_WITH(trl_2026_10::rloo_advantages{}(verdicts, g, few), "rloo_advantages: 1 KL sums for 2 verdicts");
  const trl_2026_10::rloo_advantages inverted{.beta = 0, .reward_clip_range = {{1, 0}}};
  CHECK_THROWS_WITH(inverted(verdicts, g), "rloo_advantages: reward_clip_range is not increasing");
  const std::vector<std::span<const verdict>> parts{verdicts, std::span<const verdict>(verdicts).first(1)};
  CHECK_THROWS_WITH(trl_2026_10::summed_rewards(parts), "summed_rewards: function 1 has 1 verdicts, function 0 has 2");
  CHECK_THROWS_WITH(trl_2026_10::summed_rewards({}), "summed_rewards: there are no reward functions");
  CHECK_THROWS_WITH(trl_2026_10::summed_rewards(parts, few), "summed_rewards: 1 weights for 2 reward functions");
  CHECK_THROWS_WITH(openrlhf_2026_09::advantages{}(verdicts, g, layout, {}, few), "advantages: 1 values for 3 tokens");
  const openrlhf_2026_09::advantages clipped{.reward_clip_range = {{1, 0}}};
  CHECK_THROWS_WITH(clipped(verdicts, g, layout), "advantages: reward_clip_range is not increasing");
  std::vector<double> room(1);
  const openrlhf_2026_09::kl_loss unbiased{.unbiased_gradient = openrlhf_2026_09::unbiased_gradient::yes};
  CHECK_THROWS_WITH(unbiased(w.view(), {}, std::span<double>(room)), Catch::Contains("kl_loss: 1 coefficients for"));
  const std::vector<std::size_t> one{0, 3};
  CHECK_THROWS_WITH(nemo_rl_2026_08::raw_reward(verdicts, g, token_layout{one}),
                    "scored_mask: 2 verdicts for 1 rollouts");
  CHECK_THROWS_WITH(
      nemo_rl_2026_08::reinforce_plus_plus(verdicts, g, layout, nemo_rl_2026_08::minus_baseline::yes, few),
      "over_tokens: 1 KL estimates for 3 tokens");
}

TEST_CASE("presets name their own options", "[presets]") {
  const auto w = make_world(2, advantages_per::sequence, masks::none);
  const token_batch<double> b = w.view();
  std::vector<double> out(b.tokens());
  const auto refused = [&](const auto& loss, const std::string& message) {
    CHECK_THROWS_WITH(loss(b, std::span<double>(out)), message);
  };
  const double nan = not_a_number;

  using trl = trl_2026_10::grpo_loss;
  refused(trl{.epsilon = -1}, "grpo_loss: epsilon is -1");
  refused(trl{.epsilon_high = nan}, "grpo_loss: epsilon_high is nan");
  refused(trl{.delta = 0.5}, "grpo_loss: delta is 0.5");
  refused(trl{.epsilon_high = 0, .delta = 1}, "grpo_loss: delta is 1");
  refused(trl{.beta = nan}, "grpo_loss: beta is nan");
  refused(trl{.top_entropy_quantile = -2}, "grpo_loss: top_entropy_quantile is -2");
  refused(trl{.top_entropy_quantile = nan}, "grpo_loss: top_entropy_quantile is nan");
  refused(trl{.off_policy_mask_threshold = nan}, "grpo_loss: off_policy_mask_threshold is nan");
  refused(trl{.sapo_temperature_pos = 0}, "grpo_loss: sapo_temperature_pos is 0");
  refused(trl{.sapo_temperature_neg = infinity}, "grpo_loss: sapo_temperature_neg is inf");
  refused(trl{.vespo_k_pos = -1}, "grpo_loss: vespo_k_pos is -1");
  refused(trl{.vespo_lambda_pos = -1}, "grpo_loss: vespo_lambda_pos is -1");
  refused(trl{.vespo_k_neg = nan}, "grpo_loss: vespo_k_neg is nan");
  refused(trl{.vespo_lambda_neg = nan}, "grpo_loss: vespo_lambda_neg is nan");
  refused(trl{.max_completion_length = 0}, "grpo_loss: max_completion_length is 0");
  refused(trl{.gradient_accumulation_steps = 0}, "grpo_loss: gradient_accumulation_steps is 0");
  refused(trl{.steps_per_generation = 0}, "grpo_loss: steps_per_generation is 0");
  refused(trl{.num_items_in_batch = 0}, "grpo_loss: num_items_in_batch is 0");
  CHECK_THROWS_WITH(trl{.gradient_accumulation_steps = 0}.entropy_weights(b),
                    "grpo_loss: gradient_accumulation_steps is 0");
  CHECK_NOTHROW((trl{.epsilon_high = 0.1, .delta = 1}(b, std::span<double>(out))));
  refused(trl_2026_10::rloo_loss{.gradient_accumulation_steps = -1}, "rloo_loss: gradient_accumulation_steps is -1");
  refused(trl_2026_10::rloo_loss{.epsilon = nan}, "rloo_loss: epsilon is nan");
  refused(trl_2026_10::gmpo_loss{.epsilon_high = -1}, "gmpo_loss: epsilon_high is -1");
  refused(trl_2026_10::gmpo_loss{.beta = infinity}, "gmpo_loss: beta is inf");
  refused(trl_2026_10::gmpo_loss{.top_entropy_quantile = 1.5}, "gmpo_loss: top_entropy_quantile is 1.5");
  const std::vector<verdict> verdicts{{1, true}, {0, true}};
  groups g;
  g.offsets = {0, 2};
  CHECK_THROWS_WITH(trl_2026_10::rloo_advantages{.beta = nan}(verdicts, g), "rloo_advantages: beta is nan");

  using openrlhf = openrlhf_2026_09::policy_loss;
  refused(openrlhf{.clip_eps_low = -1}, "policy_loss: clip_eps_low is -1");
  refused(openrlhf{.clip_eps_high = nan}, "policy_loss: clip_eps_high is nan");
  refused(openrlhf{.dual_clip = 1}, "policy_loss: dual_clip is 1");
  refused(openrlhf{.is_correction_threshold = {2, 1}}, "policy_loss: is_correction_threshold is [2, 1]");
  refused(openrlhf{.is_correction_threshold = {-1, 1}}, "policy_loss: is_correction_threshold is [-1, 1]");
  refused(openrlhf{.aggregate = {.dp_size = 0}}, "aggregate_loss: dp_size is 0");
  refused(openrlhf{.aggregate = {.batch_num_tokens = 0}}, "aggregate_loss: batch_num_tokens is 0");
  refused(openrlhf{.aggregate = {.global_batch_size = nan}}, "aggregate_loss: global_batch_size is nan");
  CHECK_THROWS_WITH((openrlhf_2026_09::kl_loss{.coefficient = nan}(b, {}, std::span<double>(out))),
                    "kl_loss: coefficient is nan");
  const std::vector<std::size_t> offsets{0, 2, 3};
  const token_layout layout{offsets};
  const auto advantages = [&](const openrlhf_2026_09::advantages& a, const std::string& message) {
    CHECK_THROWS_WITH(a(verdicts, g, layout), message);
  };
  advantages({.gamma = 2}, "advantages: gamma is 2");
  advantages({.lambd = -1}, "advantages: lambd is -1");
  advantages({.init_kl_coef = nan}, "advantages: init_kl_coef is nan");

  using nemo = nemo_rl_2026_08::clipped_pg_loss;
  refused(nemo{.ratio_clip_min = -1}, "clipped_pg_loss: ratio_clip_min is -1");
  refused(nemo{.ratio = nemo_rl_2026_08::ratio::cispo, .ratio_clip_min = 1.5}, "clipped_pg_loss: ratio_clip_min is 1.5");
  refused(nemo{.ratio_clip_max = nan}, "clipped_pg_loss: ratio_clip_max is nan");
  refused(nemo{.ratio_clip_c = 1}, "clipped_pg_loss: ratio_clip_c is 1");
  refused(nemo{.reference_policy_kl_penalty = nan}, "clipped_pg_loss: reference_policy_kl_penalty is nan");
  refused(nemo{.kl_input_clamp_value = 0}, "clipped_pg_loss: kl_input_clamp_value is 0");
  refused(nemo{.kl_output_clamp_value = nan}, "clipped_pg_loss: kl_output_clamp_value is nan");
  refused(nemo{.truncated_importance_sampling_ratio = 1, .truncated_importance_sampling_ratio_min = 2},
          "clipped_pg_loss: truncated_importance_sampling_ratio is 1");
  refused(nemo{.truncated_importance_sampling_ratio_min = -1},
          "clipped_pg_loss: truncated_importance_sampling_ratio_min is -1");
  refused(nemo{.global_valid_seqs = -1}, "clipped_pg_loss: global_valid_seqs is -1");
  refused(nemo{.global_valid_toks = nan}, "clipped_pg_loss: global_valid_toks is nan");
  const auto dpo_refused = [&](const nemo_rl_2026_08::dpo_loss& loss, const std::string& message) {
    CHECK_THROWS_WITH(loss(b, std::vector<preference_pair>{{0, 1}}, std::span<double>(out)), message);
  };
  dpo_refused({.reference_policy_kl_penalty = 0}, "dpo_loss: reference_policy_kl_penalty is 0");
  dpo_refused({.preference_loss_weight = nan}, "dpo_loss: preference_loss_weight is nan");
  dpo_refused({.global_valid_seqs = -1}, "dpo_loss: global_valid_seqs is -1");
  const auto gae_refused = [&](const nemo_rl_2026_08::gae& gae, const std::string& message) {
    CHECK_THROWS_WITH(gae(std::vector<double>(3), std::vector<double>(3), layout), message);
  };
  gae_refused({.gae_gamma = 2}, "gae: gae_gamma is 2");
  gae_refused({.gae_lambda = nan}, "gae: gae_lambda is nan");
  gae_refused({.gae_lambda_value = -1}, "gae: gae_lambda_value is -1");
  gae_refused({.gae_lambda_policy = 2}, "gae: gae_lambda_policy is 2");
  gae_refused({.length_adaptive_alpha = -1}, "gae: length_adaptive_alpha is -1");

  using verl = verl_2026_09::actor_loss;
  using mode = verl_2026_09::loss_mode;
  refused(verl{.clip_ratio_low = -1}, "actor_loss: clip_ratio_low is -1");
  refused(verl{.loss_mode = mode::cispo, .clip_ratio_low = 1.5}, "actor_loss: clip_ratio_low is 1.5");
  refused(verl{.clip_ratio_high = nan}, "actor_loss: clip_ratio_high is nan");
  refused(verl{.clip_ratio_c = 1}, "actor_loss: clip_ratio_c is 1");
  refused(verl{.loss_mode = mode::bypass_mode, .clip_ratio_c = 1}, "actor_loss: clip_ratio_c is 1");
  refused(verl{.loss_mode = mode::dppo_tv, .clip_ratio_c = -1}, "actor_loss: clip_ratio_c is -1");
  refused(verl{.loss_mode = mode::sapo, .tau_pos = 0}, "actor_loss: tau_pos is 0");
  refused(verl{.loss_mode = mode::sapo, .tau_neg = infinity}, "actor_loss: tau_neg is inf");
  refused(verl{.loss_mode = mode::clip_cov, .clip_cov_ratio = 0}, "actor_loss: clip_cov_ratio is 0");
  refused(verl{.loss_mode = mode::kl_cov, .kl_cov_ratio = 2}, "actor_loss: kl_cov_ratio is 2");
  refused(verl{.loss_mode = mode::kl_cov, .ppo_kl_coef = nan}, "actor_loss: ppo_kl_coef is nan");
  refused(verl{.loss_mode = mode::dro}, "actor_loss: dro_beta is 0");
  const auto norm = verl_2026_09::loss_agg_mode::seq_mean_token_sum_norm;
  refused(verl{.aggregate = {.loss_agg_mode = norm}}, "agg_loss: loss_scale_factor is 0");
  refused(verl{.aggregate = {.dp_size = -1}}, "agg_loss: dp_size is -1");
  refused(verl{.aggregate = {.batch_num_tokens = 0}}, "agg_loss: batch_num_tokens is 0");
  refused(verl{.aggregate = {.global_batch_size = 0}}, "agg_loss: global_batch_size is 0");
  using correction = verl_2026_09::rollout_correction;
  refused(verl{.rollout_correction = correction{.rollout_is_threshold = -1}},
          "rollout_correction: rollout_is_threshold is -1");
  refused(verl{.rollout_correction = correction{.rollout_is_lower = 3}}, "rollout_correction: rollout_is_lower is 3");
  CHECK_THROWS_WITH(verl_2026_09::rollout_rs(rejection_over::token, sampler_divergence::k3, nan),
                    "rollout_rs: threshold is nan");
  CHECK_THROWS_WITH(verl_2026_09::rollout_rs_k1(rejection_over::token, -1, 2),
                    "rollout_rs_k1: the threshold is [-1, 2]");
}

TEST_CASE("offsets are checked before room is made for as many tokens", "[objective][presets]") {
  const std::vector<std::size_t> offsets{5, 4};
  token_batch<double> b;
  b.offsets = offsets;
  std::vector<double> none;
  const std::span<double> out(none);
  const std::string wrong = ": offsets[1] = 4 is below offsets[0] = 5";
  CHECK_THROWS_WITH(coefficients(policy_gradient{}, b), "coefficients" + wrong);
  CHECK_THROWS_WITH(rejection{}.kept(b), "rejection" + wrong);
  CHECK_THROWS_WITH(rejection{}(b, out), "rejection" + wrong);
  CHECK_THROWS_WITH(token_covariances(b), "token_covariances" + wrong);
  CHECK_THROWS_WITH(clip_cov{}(b, {}, out), "clip_cov" + wrong);
  CHECK_THROWS_WITH(normalized_importance{}(b, out), "normalized_importance" + wrong);
  CHECK_THROWS_WITH(sequence_level<ppo_clip>{}(b, {}, out), "sequence_level" + wrong);
  CHECK_THROWS_WITH(trl_2026_10::grpo_loss{}(b, out), "sequence_weights" + wrong);
  CHECK_THROWS_WITH(trl_2026_10::gmpo_loss{.top_entropy_quantile = 0.5}(b, out), "entropy_threshold" + wrong);
  CHECK_THROWS_WITH(openrlhf_2026_09::policy_loss{}(b, out), Catch::Contains(wrong));
  CHECK_THROWS_WITH(nemo_rl_2026_08::clipped_pg_loss{}(b, out), Catch::Contains(wrong));
  CHECK_THROWS_WITH(verl_2026_09::actor_loss{}(b, out), Catch::Contains(wrong));
  CHECK_THROWS_WITH(verl_2026_09::rollout_correction{}.weights(b), "rollout_correction" + wrong);
  CHECK_THROWS_WITH(verl_2026_09::rollout_correction{}.kept(b), "rollout_correction" + wrong);
  const openrlhf_2026_09::kl_loss unbiased{.unbiased_gradient = openrlhf_2026_09::unbiased_gradient::yes};
  CHECK_THROWS_WITH(unbiased(b, {}, out), "kl_loss" + wrong);
}
