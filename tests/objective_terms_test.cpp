/// What is multiplied into coefficients or added to them, and the losses on pairs, groups and distributions, against
/// finite differences and exact enumeration.

#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>
#include <vector>

#include <rlvr/backend/tabular/policy.hpp>
#include <rlvr/objective/aggregation.hpp>
#include <rlvr/objective/empg.hpp>

#include "objective_losses.hpp"

using namespace rlvr;
using namespace rlvr::testing;

namespace {

/// Runs f(w, weights) on worlds of every kind.
template <class F>
void for_worlds(F f) {
  for (std::uint64_t seed = 0; seed < 6; ++seed)
    for (masks m : {masks::none, masks::random}) {
      INFO("seed " << seed << ", masks " << static_cast<int>(m));
      const world<double> w = make_world<double>(300 + seed, advantages_per::sequence, m);
      f(w, some_weights(w.size()));
    }
}

}  // namespace

TEST_CASE("importance_correction: weights by definition, bounds on both sides", "[objective]") {
  branch_counts seen;
  for (importance_over over :
       {importance_over::token, importance_over::sequence_product, importance_over::sequence_geometric_mean})
    for (importance_bound bound : {importance_bound::truncate, importance_bound::zero, importance_bound::reject})
      for_worlds([&](const world<double>& w, const values& weights) {
        const importance_correction correct{.over = over, .bound = bound, .min = 0.6, .max = 1.5, .log_ratio_limit = 3};
        values c = coefficients(policy_gradient{}, w.view(), weights), before = c;
        std::vector<branch> codes(w.tokens(), branch::clipped_high);
        correct(w.view(), std::span<double>(c), codes);
        for (std::size_t i = 0; i < w.size(); ++i)
          for (std::size_t t = w.offsets[i]; t < w.offsets[i + 1]; ++t) {
            if (!w.active(t)) {
              CHECK(c[t] == 0);
              CHECK(codes[t] == branch::masked);
              continue;
            }
            const auto e = [&](std::size_t u) { return w.old_log_probs[u] - w.sampled_log_probs[u]; };
            double log_v = over == importance_over::token ? e(t) : sum_sequence(w, i, e);
            if (over == importance_over::sequence_geometric_mean) log_v /= w.length(i);
            const double v = std::exp(std::clamp(log_v, -3.0, 3.0));
            const bool inside = v >= 0.6 && v <= 1.5;
            const double factor = bound == importance_bound::truncate ? std::clamp(v, 0.6, 1.5)
                                  : bound == importance_bound::zero   ? (inside ? v : 0.0)
                                                                      : (inside ? 1.0 : 0.0);
            CHECK(c[t] == Approx(before[t] * factor));
            CHECK(codes[t] == (factor == 0 ? branch::rejected : branch::clipped_high));
          }
        seen += count_branches(codes);
      });
  CHECK(seen[branch::rejected] > 0);
  CHECK(seen[branch::clipped_high] > 0);
}

TEST_CASE("off_policy_mask drops negative sequences that were left", "[objective]") {
  std::size_t dropped = 0, kept = 0;
  for_worlds([&](const world<double>& w, const values& weights) {
    values c = coefficients(policy_gradient{}, w.view(), weights), before = c;
    off_policy_mask{.threshold = 0.1}(w.view(), std::span<double>(c));
    for (std::size_t i = 0; i < w.size(); ++i) {
      const double left = sum_sequence(w, i, [&](std::size_t t) { return w.old_log_probs[t] - w.log_probs[t]; });
      const bool drop = w.advantages[i] < 0 && left / w.length(i) > 0.1;
      (drop ? dropped : kept) += 1;
      for (std::size_t t = w.offsets[i]; t < w.offsets[i + 1]; ++t) CHECK(c[t] == (drop ? 0 : before[t]));
    }
  });
  CHECK(dropped > 0);
  CHECK(kept > 0);
}

TEST_CASE("kl_penalty: KL in the reward by definition", "[objective]") {
  for (kl_estimator e : {kl_estimator::k1, kl_estimator::absolute, kl_estimator::k2, kl_estimator::k3})
    for (double limit : {infinity, 0.7}) {
      const world<double> w = make_world<double>(31 + static_cast<std::uint64_t>(e));
      values rewards(w.tokens(), 1.0);
      kl_penalty{.coefficient = 0.3, .estimator = e, .input_limit = limit, .output_limit = limit / 2}.add_to_rewards(
          w.view(), std::span<double>(rewards));
      for (std::size_t t = 0; t < w.tokens(); ++t) {
        const double q = w.old_log_probs[t] - w.reference_log_probs[t];
        CHECK(rewards[t] == Approx(w.active(t) ? 1 - 0.3 * kl_estimate(e, q, limit, limit / 2) : 1.0));
      }
    }
}

TEST_CASE("kl_penalty: known points of the frameworks", "[objective]") {
  const auto kappa = [](const kl_penalty& p, double q) {
    const values now{q}, reference{0};
    const std::vector<std::size_t> offsets{0, 1};
    values c(1);
    token_batch<double> b;
    b.offsets = offsets;
    b.log_probs = now;
    b.reference_log_probs = reference;
    p(b, {}, std::span<double>(c));
    return c[0];
  };
  // verl's low_var_kl: the value passes 10 where reference - log pi passes 2.610869, or falls below -10.99998.
  const kl_penalty verl{.coefficient = 1, .input_limit = 20, .output_limit = 10};
  CHECK(kappa(verl, -2.6108) == Approx(-(1 - std::exp(2.6108))));
  CHECK(kappa(verl, -2.6109) == 0);
  CHECK(kappa(verl, 10.9999) == Approx(-(1 - std::exp(-10.9999))));
  CHECK(kappa(verl, 11.0001) == 0);
  // k3 with a ratio is k2's gradient.
  CHECK(kappa({.coefficient = 1, .ratio = kl_ratio::one}, 0.7) == Approx(-0.7));
  CHECK(kappa({.coefficient = 1, .estimator = kl_estimator::absolute}, 0) == 0);
}

namespace {

/// All K completions of each prompt of a tabular policy as rollouts, with the coefficients c_k p_k: the exact mean.
std::vector<double> exact_mean(const tabular::policy& policy, const std::vector<double>& kappa) {
  const std::size_t k = policy.completion_count();
  rollouts all;
  std::vector<double> c;
  for (std::size_t i = 0; i < policy.prompt_count(); ++i)
    for (std::size_t j = 0; j < k; ++j) {
      all.tokens.push_back(static_cast<token>(j));
      all.offsets.push_back(all.tokens.size());
      all.prompts.push_back(static_cast<std::uint32_t>(i));
      c.push_back(policy.distribution(i)[j] * kappa[i * k + j]);
    }
  std::vector<double> g(policy.parameters().size());
  policy.accumulate_score(policy.prompts(), all, c, 1.0, g);
  return g;
}

}  // namespace

TEST_CASE("entropy_bonus: its mean is the gradient of the entropy and k2 has the KL's", "[objective]") {
  const std::size_t k = 5;
  values logits(2 * k), reference(2 * k);
  for (std::size_t j = 0; j < logits.size(); ++j) {
    logits[j] = random_key(1).uniform(j) * 3;
    reference[j] = random_key(2).uniform(j) * 3;
  }
  const tabular::policy policy(logits, k), other(reference, k);
  world<double> w;
  for (std::size_t i = 0; i < 2; ++i) {
    const values p = policy.distribution(i), q = other.distribution(i);
    double h = 0;
    for (double v : p) h -= v * std::log(v);
    for (std::size_t j = 0; j < k; ++j) {
      w.log_probs.push_back(std::log(p[j]));
      w.reference_log_probs.push_back(std::log(q[j]));
      w.entropies.push_back(h);
      w.offsets.push_back(w.log_probs.size());
    }
  }
  const auto differences = [&](auto f) {
    values out(logits.size());
    for (std::size_t j = 0; j < logits.size(); ++j) {
      values up = logits, down = logits;
      up[j] += 1e-5;
      down[j] -= 1e-5;
      out[j] = (f(tabular::policy(up, k)) - f(tabular::policy(down, k))) / 2e-5;
    }
    return out;
  };
  const values entropy_gradient = differences([&](const tabular::policy& moved) {
    double h = 0;
    for (std::size_t i = 0; i < 2; ++i)
      for (double v : moved.distribution(i)) h -= 0.4 * v * std::log(v);
    return h;
  });
  for (entropy_baseline baseline : {entropy_baseline::entropy, entropy_baseline::none}) {
    values c(w.tokens());
    entropy_bonus{.coefficient = 0.4, .baseline = baseline}(w.view(), {}, std::span<double>(c));
    check_close(exact_mean(policy, c), entropy_gradient);
  }
  const values reverse = differences([&](const tabular::policy& moved) {
    double kl = 0;
    for (std::size_t i = 0; i < 2; ++i)
      for (std::size_t j = 0; j < k; ++j)
        kl += moved.distribution(i)[j] * std::log(moved.distribution(i)[j] / other.distribution(i)[j]);
    return -0.4 * kl;
  });
  const values forward = differences([&](const tabular::policy& moved) {
    double kl = 0;
    for (std::size_t i = 0; i < 2; ++i)
      for (std::size_t j = 0; j < k; ++j)
        kl += other.distribution(i)[j] * std::log(other.distribution(i)[j] / moved.distribution(i)[j]);
    return -0.4 * kl;
  });
  const auto kl_mean = [&](kl_penalty p) {
    p.coefficient = 0.4;
    values c(w.tokens());
    p(w.view(), {}, std::span<double>(c));
    return exact_mean(policy, c);
  };
  check_close(kl_mean({.estimator = kl_estimator::k2}), reverse);
  check_close(kl_mean({.estimator = kl_estimator::k3, .gradient = kl_gradient::k2}), reverse);
  check_close(kl_mean({.estimator = kl_estimator::k3, .ratio = kl_ratio::one}), reverse);
  check_close(kl_mean({.estimator = kl_estimator::k1, .ratio = kl_ratio::one}), reverse);
  check_close(kl_mean({.estimator = kl_estimator::k3}), forward);
  check_close(kl_mean({.estimator = kl_estimator::k1}), values(logits.size(), 0.0));
  CHECK(epo_penalty(1.0, 1.0) == 0);
  CHECK(epo_penalty(1.2, 1.0) == 0.1);
  CHECK(epo_penalty(0.8, 1.0, {.outside = 0.05}) == 0.05);
}

TEST_CASE("high_entropy_only keeps the share above the interpolated quantile", "[objective]") {
  world<double> w;
  w.entropies = {0.1, 0.5, 9, 0.2, 0.4, 0.3};
  w.mask = {1, 1, 0, 1, 1, 1};
  w.offsets = {0, 2, 6};
  // Of .1 .2 .3 .4 .5: position 0.8 * 4 = 3.2, between .4 and .5.
  CHECK(entropy_threshold(w.view(), 0.2) == Approx(0.42));
  CHECK(entropy_threshold(w.view(), 1) == 0.1);
  CHECK(entropy_threshold(w.view(), 0) == 0.5);
  CHECK(entropy_threshold(w.view(), 0.25) == Approx(0.4));
  const auto kept = [&](double threshold) {
    values c{1, 2, 0, 3, 4, 5};
    std::vector<branch> codes(6, branch::active);
    high_entropy_only{threshold}(w.view(), std::span<double>(c), codes);
    for (std::size_t t = 0; t < 6; ++t)
      CHECK(codes[t] == (t == 2 ? branch::masked : c[t] == 0 ? branch::rejected : branch::active));
    return c;
  };
  CHECK(kept(0.42) == values{0, 2, 0, 0, 0, 0});
  CHECK(kept(0.4) == values{0, 2, 0, 0, 4, 0});  // a tie stays
  CHECK(kept(0.1) == values{1, 2, 0, 3, 4, 5});
  w.mask.assign(6, 0);
  CHECK(entropy_threshold(w.view(), 0.2) == 0);
  // Against sorting, for many shares.
  for_worlds([](const world<double>& v, const values&) {
    values sorted;
    for (std::size_t t = 0; t < v.tokens(); ++t)
      if (v.active(t)) sorted.push_back(v.entropies[t]);
    std::sort(sorted.begin(), sorted.end());
    for (double share = 0; share <= 1; share += 0.0625) {
      const double h = (1 - share) * static_cast<double>(sorted.size() - 1), f = std::floor(h);
      const auto at = static_cast<std::size_t>(f);
      const double next = sorted[std::min(at + 1, sorted.size() - 1)];
      CHECK(entropy_threshold(v.view(), share) == Approx(sorted[at] + (h - f) * (next - sorted[at])));
    }
  });
}

TEST_CASE("empg: by hand, and centred", "[objective]") {
  // H~ = 0, 1/2, 1 (epsilon negligible); trajectories of 2 and 1 steps.
  const values h{1, 2, 3}, a{2, -1};
  const std::vector<std::size_t> trajectories{0, 2, 3};
  const empg o{.k = 1, .k_future = 2, .zeta = 0.05};
  const values out = o(h, trajectories, a);
  const double mean = (1 + std::exp(-0.5) + std::exp(-1)) / 3;
  const values raw{2 / mean + 0.05 * std::exp(-1), 2 * std::exp(-0.5) / mean, -std::exp(-1) / mean};
  const double centre = (raw[0] + raw[1] + raw[2]) / 3;
  for (std::size_t s = 0; s < 3; ++s) CHECK(out[s] == Approx(raw[s] - centre).epsilon(1e-6));
  CHECK(o({}, std::vector<std::size_t>{0, 0}, values{1}).empty());
  // Equal entropies: nothing is modulated but the bonus.
  const values flat = empg{.zeta = 0}(values{1, 1, 1}, trajectories, a);
  for (std::size_t s = 0; s < 3; ++s) CHECK(flat[s] == Approx((s < 2 ? 2.0 : -1.0) - 1.0).epsilon(1e-6));
  CHECK_THROWS_WITH(o(values{1, std::nan(""), 1}, trajectories, a), Catch::Contains("step_entropies[1] is nan"));
  CHECK_THROWS_WITH(o(h, trajectories, values{1, infinity}), Catch::Contains("advantage 1 is inf"));
  CHECK_THROWS_WITH(o(h, std::vector<std::size_t>{0, 2}, values{1}), Catch::Contains("there are 3 steps"));
  CHECK_THROWS_WITH(o(h, std::vector<std::size_t>{0, 9, 3}, a),
                    "empg: trajectories[2] = 3 is below trajectories[1] = 9");
}

TEST_CASE("dpo: pairs that are not there, and margins beyond all doubles", "[objective]") {
  const world<double> w = make_world<double>(1);
  values c(w.tokens());
  const std::vector<preference_pair> bad{{0, 99}};
  CHECK_THROWS_WITH(dpo{}(w.view(), bad, 1, std::span<double>(c)), Catch::Contains("pair 0 is (0, 99)"));
  world<double> far = make_world<double>(2, advantages_per::sequence, masks::none);
  for (double& x : far.reference_log_probs) x -= 1e5;
  far.reference_log_probs[0] = 1e6;
  c.resize(far.tokens());
  dpo{.beta = 10}(far.view(), some_pairs(), 1, std::span<double>(c));
  for (double x : c) CHECK(std::isfinite(x));
}

TEST_CASE("losses on sequences: branches of what is compared with nothing, and of clamps", "[objective]") {
  world<double> w;
  w.offsets = {0, 2, 2, 3, 5};
  w.groups = {0, 2, 2, 3, 4};
  w.advantages = {1, 0, 1, 0};
  w.log_probs = {-1, -2, -1, -1, -1};
  w.reference_log_probs = {-1, -1, -1, -1, -1};
  w.sampled_log_probs = {-2, -2, -1, -1, -1};
  w.mask = {1, 0, 1, 1, 1};
  values c(5);
  std::vector<branch> codes(5);
  const auto off = branch::masked, on = branch::active, alone = branch::unpaired;
  const std::vector<preference_pair> pairs{{0, 1}};
  dpo{}(w.view(), pairs, 1, std::span<double>(c), codes);
  CHECK(codes == std::vector<branch>{on, off, alone, alone, alone});
  CHECK(c == values{0.05, 0, 0, 0, 0});
  ipo{}(w.view(), pairs, 1, std::span<double>(c), codes);
  CHECK(codes == std::vector<branch>{on, off, alone, alone, alone});
  contrastive_policy_gradient{}(w.view(), 1, std::span<double>(c), codes);
  CHECK(codes == std::vector<branch>{on, off, alone, alone, alone});
  CHECK(c == values{1, 0, 0, 0, 0});
  f_dpg{.max_log_ratio = 0.5}(w.view(), values{-1, 0, -1, -2}, 1, std::span<double>(c), codes);
  CHECK(codes == std::vector<branch>{branch::saturated, off, on, on, on});
  CHECK(c[0] == Approx(std::exp(0.5)));
  f_dpg{.max_log_ratio = 1}(w.view(), values{-1, 0, -1, -2}, 1, std::span<double>(c), codes);  // the bound itself
  CHECK(codes == std::vector<branch>{on, off, on, on, on});
  CHECK_THROWS_WITH(dpo{}(w.view(), pairs, 1, std::span<double>(c), std::span<branch>(codes).first(2)),
                    Catch::Contains("room for 2 branches"));
}

TEST_CASE("f_dpg: its mean is the gradient of the divergence", "[objective]") {
  const std::size_t k = 5;
  values logits(k), target(k), proposal(k);
  for (std::size_t j = 0; j < k; ++j) {
    logits[j] = 2 * random_key(1).uniform(j);
    target[j] = 2 * random_key(2).uniform(j);
    proposal[j] = 2 * random_key(3).uniform(j);
  }
  const tabular::policy policy(logits, k);
  const values p = tabular::policy(target, k).distribution(0), q = tabular::policy(proposal, k).distribution(0);
  for (f_divergence d : {f_divergence::forward_kl, f_divergence::reverse_kl, f_divergence::jensen_shannon,
                         f_divergence::total_variation, f_divergence::chi2_forward, f_divergence::chi2_reverse}) {
    INFO("divergence " << static_cast<int>(d));
    const auto divergence = [&](const values& theta) {
      const values pi = tabular::policy(theta, k).distribution(0);
      double sum = 0;
      for (std::size_t j = 0; j < k; ++j) sum += p[j] * f_of(d, pi[j] / p[j]);
      return sum;
    };
    world<double> w;
    values targets;
    for (std::size_t j = 0; j < k; ++j) {
      w.log_probs.push_back(std::log(policy.distribution(0)[j]));
      w.sampled_log_probs.push_back(std::log(q[j]));
      targets.push_back(std::log(p[j]));
      w.offsets.push_back(j + 1);
    }
    values c(k), g(k);
    f_dpg{.divergence = d, .baseline = 0.3}(w.view(), targets, 1, std::span<double>(c));
    for (std::size_t j = 0; j < k; ++j) {  // the mean over y ~ q of c grad log pi
      const values pi = policy.distribution(0);
      for (std::size_t m = 0; m < k; ++m) g[m] += q[j] * c[j] * ((m == j) - pi[m]);
    }
    for (std::size_t m = 0; m < k; ++m) {
      values up = logits, down = logits;
      up[m] += 1e-6;
      down[m] -= 1e-6;
      CHECK(g[m] == Approx(-(divergence(up) - divergence(down)) / 2e-6).epsilon(1e-6).margin(1e-9));
    }
  }
}

TEST_CASE("imitated: right rollouts once each and HPT's gate", "[objective]") {
  rollouts r;
  const auto add = [&](std::uint32_t prompt, std::vector<token> tokens, verdict v) {
    r.tokens.insert(r.tokens.end(), tokens.begin(), tokens.end());
    r.offsets.push_back(r.tokens.size());
    r.prompts.push_back(prompt);
    r.verdicts.push_back(v);
  };
  add(0, {1, 2}, {1});
  add(0, {1, 2}, {0});
  add(0, {1, 3}, {1, false});
  add(0, {1, 2}, {1});
  add(1, {1, 2}, {1});
  add(1, {1}, {0.5});
  CHECK(imitated(r.verdicts) == values{1, 0, 0, 1, 1, 1});
  CHECK(imitated(r.verdicts, 0.5) == values{1, 0, 0, 1, 1, 0});
  CHECK(imitated_once(r) == values{1, 0, 0, 0, 1, 1});
  r.verdicts[1].reward = std::nan("");
  CHECK_THROWS_WITH(imitated(r.verdicts), Catch::Contains("reward 1 is nan"));
  r.verdicts.pop_back();
  CHECK_THROWS_WITH(imitated_once(r), Catch::Contains("5 verdicts for 6 rollouts"));
  CHECK(hybrid_gate(0) == hybrid_phase::imitate);
  CHECK(hybrid_gate(0.125) == hybrid_phase::reinforce);
  CHECK(hybrid_gate(0.25, 0.25) == hybrid_phase::imitate);
  CHECK_THROWS_AS(hybrid_gate(1.5), std::invalid_argument);
}

TEST_CASE("sequence_weights: every mode by definition", "[objective]") {
  world<double> w;
  w.offsets = {0, 3, 3, 5, 9};           // lengths 3, 0, 2, 4
  w.mask = {1, 0, 1, 0, 0, 1, 1, 1, 0};  // active 2, 0, 0, 3
  w.groups = {0, 2, 3, 4};               // active tokens per prompt 2, 0, 3
  const token_batch<double> b = w.view();
  const auto weights = [&](const aggregation& a) { return sequence_weights(b, a); };
  const auto check = [&](const aggregation& a, values expected) { check_close(weights(a), expected, 1e-15); };
  check(token_mean, {0.2, 0, 0, 0.2});
  check(token_sum, {1, 0, 0, 1});
  check(sequence_mean_of_token_mean, {1 / 8.0, 0, 0, 1 / 12.0});
  check(sequence_mean_of_token_sum, {0.25, 0, 0, 0.25});
  check(dr_grpo(10), {1 / 40.0, 0, 0, 1 / 40.0});
  check(prompt_mean, {1 / 6.0, 0, 0, 1 / 9.0});
  check({.by = denominator::all_tokens}, {1 / 9.0, 0, 0, 1 / 9.0});
  check({.first = averaged_over::sequence, .by = denominator::valid_sequences}, {1 / 4.0, 0, 0, 1 / 6.0});
  check({.first = averaged_over::prompt, .by = denominator::valid_prompts}, {1 / 4.0, 0, 0, 1 / 6.0});
  check({.first = averaged_over::sequence, .by = denominator::given, .value = 16, .epsilon = 0.5},
        {1 / 40.0, 0, 0, 1 / 56.0});
  const token_totals all = totals(b);
  CHECK(all.active_tokens == 5);
  CHECK(all.valid_sequences == 2);
  CHECK(all.valid_prompts == 2);
  CHECK(all.all_prompts == 3);
  for (averaged_over first : {averaged_over::nothing, averaged_over::sequence, averaged_over::prompt})
    CHECK_THROWS_WITH(weights({.first = first, .by = denominator::given, .value = 1e-320}),
                      Catch::Contains("sequence_weights: the weight of sequence 0 is 1 / "));
  // Nothing is active: zeros, not NaN.
  w.mask.assign(9, 0);
  for (const aggregation& a : {token_mean, sequence_mean_of_token_mean, prompt_mean})
    CHECK(sequence_weights(w.view(), a) == values(4, 0.0));
  CHECK_THROWS_WITH(weights({.by = denominator::given, .value = 0}), Catch::Contains("value is 0"));
  CHECK_THROWS_WITH(weights(dr_grpo(-1)), Catch::Contains("scale is -1"));
  w.groups.clear();
  CHECK_THROWS_WITH(sequence_weights(w.view(), prompt_mean), Catch::Contains("groups is not given"));
}

TEST_CASE("aggregation: micro-batches add up with the totals of all of them", "[objective]") {
  const world<double> w = make_world<double>(77, advantages_per::token);
  const token_batch<double> b = w.view();
  for (aggregation a : {token_mean, sequence_mean_of_token_mean, sequence_mean_of_token_sum,
                        aggregation{.by = denominator::all_tokens}, dr_grpo(7)}) {
    const values whole = coefficients(policy_gradient{}, b, sequence_weights(b, a));
    token_totals sum;
    for (std::size_t i = 0; i < w.size(); i += 5) sum += totals(part(b, i, std::min(i + 5, w.size())));
    a.value = static_cast<double>(sum.of(a.by));
    a.by = denominator::given;
    values parts;
    for (std::size_t i = 0; i < w.size(); i += 5) {
      const token_batch<double> micro = part(b, i, std::min(i + 5, w.size()));
      const values c = coefficients(policy_gradient{}, micro, sequence_weights(micro, a));
      parts.insert(parts.end(), c.begin(), c.end());
    }
    CHECK(parts == whole);
  }
}

TEST_CASE("kl_penalty: branches of its own say where a clamp holds", "[objective]") {
  for (kl_estimator e : {kl_estimator::k1, kl_estimator::absolute, kl_estimator::k2, kl_estimator::k3})
    for (kl_clamp clamp : {kl_clamp::estimate, kl_clamp::weighted})
      for (double limit : {infinity, 0.7}) {
        const world<double> w = make_world<double>(31 + static_cast<std::uint64_t>(e));
        values c(w.tokens()), plain(w.tokens());
        std::vector<branch> codes(w.tokens());
        const kl_penalty penalty{.estimator = e, .ratio = kl_ratio::old, .input_limit = limit, .output_limit = limit / 2,
                                 .clamp = clamp};
        penalty(w.view(), {}, std::span<double>(c), codes);
        penalty(w.view(), {}, std::span<double>(plain));
        CHECK(c == plain);
        for (std::size_t t = 0; t < w.tokens(); ++t) {
          const double q = w.log_probs[t] - w.reference_log_probs[t];
          const double rho = clamp == kl_clamp::weighted ? std::exp(w.log_probs[t] - w.old_log_probs[t]) : 1.0;
          const bool holds = std::fabs(q) > limit || rho * std::fabs(kl_estimate(e, q, limit, infinity)) > limit / 2;
          CHECK(codes[t] == (!w.active(t) ? branch::masked : holds ? branch::saturated : branch::active));
        }
        CHECK((count_branches(codes)[branch::saturated] > 0) == (limit < infinity));
        CHECK(count_branches(codes)[branch::active] > 0);
      }
}
