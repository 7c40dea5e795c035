/// Coefficients through a policy: sum_t c_t grad log pi(y_t) against directional differences of the loss as a function
/// of the parameters, on the tabular policy and on the Eigen decoder.

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include <rlvr/backend/decoder/config.hpp>
#include <rlvr/backend/decoder/layout.hpp>
#include <rlvr/backend/eigen/decoder.hpp>
#include <rlvr/backend/tabular/policy.hpp>
#include <rlvr/objective/aggregation.hpp>
#include <rlvr/objective/dro.hpp>
#include <rlvr/objective/gmpo.hpp>
#include <rlvr/objective/gspo.hpp>
#include <rlvr/objective/kl_penalty.hpp>
#include <rlvr/objective/ppo_clip.hpp>
#include <rlvr/objective/sapo.hpp>

#include "catch.hpp"

using namespace rlvr;

namespace {

using values = std::vector<double>;

/// Losses of a batch, written out: sum_i w_i sum_t l_t with l by name.
double loss(const std::string& name, const token_batch<double>& b, const values& w) {
  double sum = 0;
  for (std::size_t i = 0; i < b.size(); ++i) {
    const double a = b.advantages[i], n = static_cast<double>(b.end(i) - b.begin(i));
    double mean = 0, clipped = 0;
    for (std::size_t t = b.begin(i); t < b.end(i); ++t) {
      const double d = b.log_probs[t] - b.old_log_probs[t];
      mean += d / n;
      clipped += (a > 0 ? std::min(d, 0.3) : std::max(d, -0.3)) / n;
    }
    const double s = std::exp(mean);
    for (std::size_t t = b.begin(i); t < b.end(i); ++t) {
      const double d = b.log_probs[t] - b.old_log_probs[t], r = std::exp(d);
      const double q = b.log_probs[t] - b.reference_log_probs[t], tau = a > 0 ? 1.0 : 1.05;
      double l = 0;
      if (name == "ppo") l = -std::min(r * a, std::clamp(r, 0.8, 1.28) * a);
      if (name == "gspo") l = -std::min(s * a, std::clamp(s, 0.9, 1.1) * a);
      if (name == "gmpo") l = -a * std::exp(clipped);
      if (name == "sapo") l = -4 / tau / (1 + std::exp(-tau * (r - 1))) * a;
      if (name == "dro") l = -a * b.log_probs[t] + 0.1 * d * d;
      if (name == "kl") l = 0.3 * (std::exp(-q) - 1 + q);
      sum += w[i] * l;
    }
  }
  return sum;
}

values kappa(const std::string& name, const token_batch<double>& b, const values& w) {
  if (name == "ppo") return coefficients(ppo_clip{.low = 0.2, .high = 0.28}, b, w);
  if (name == "gspo") return coefficients(gspo{.low = 0.1, .high = 0.1, .form = gspo_form::sequence}, b, w);
  if (name == "gmpo") return coefficients(gmpo{.low = 0.3, .high = 0.3}, b, w);
  if (name == "sapo") return coefficients(sapo{}, b, w);
  if (name == "dro") return coefficients(dro{.beta = 0.2}, b, w);
  values out(b.tokens());
  kl_penalty{.coefficient = 0.3}(b, w, std::span<double>(out));
  return out;
}

/// `random(k)` gives the k-th random direction: the old policy is `reach` along the first, the reference along the
/// second.
template <class P, class Random>
void check(P& policy, const ragged<token>& prompts, const rollouts& r, double reach, Random random) {
  const auto space = policy.space();
  const auto theta = policy.parameters();
  const auto scored_at = [&](double alpha, const auto& direction) {
    policy.assign(theta, alpha, direction);
    values out = policy.score(prompts, r, 1.0).log_probs;
    policy.assign(theta);
    return out;
  };
  const auto direction = random(2);
  const values now = scored_at(0, direction), old = scored_at(reach, random(0)), reference = scored_at(0.3, random(1));
  values advantages(r.size());
  for (std::size_t i = 0; i < r.size(); ++i) advantages[i] = 2 * random_key(9).uniform(i) - 1;
  token_batch<double> b = batch_of(r, advantages);
  b.log_probs = now;
  b.old_log_probs = old;
  b.reference_log_probs = reference;
  const values w = sequence_weights(b, sequence_mean_of_token_mean);
  for (const std::string name : {"ppo", "gspo", "gmpo", "sapo", "dro", "kl"}) {
    INFO(name);
    const values c = kappa(name, b, w);
    auto g = space.zero();
    policy.accumulate_score(prompts, r, c, 1.0, g);
    const auto moved = [&](double alpha) {
      const values at = scored_at(alpha, direction);
      token_batch<double> there = b;
      there.log_probs = at;
      return loss(name, there, w);
    };
    const double h = 1e-6, slope = -(moved(h) - moved(-h)) / (2 * h);
    CHECK(space.dot(g, direction) == Approx(slope).epsilon(1e-6).margin(1e-9));
    CHECK(std::fabs(slope) > 1e-5);
    if (name == "ppo") CHECK(std::count(c.begin(), c.end(), 0.0) > 0);  // some are clipped
  }
}

}  // namespace

TEST_CASE("objectives: the gradient of the loss through the tabular policy", "[objective]") {
  values logits(4 * 6);
  for (std::size_t i = 0; i < logits.size(); ++i) logits[i] = 2 * random_key(1).uniform(i);
  tabular::policy policy(logits, 6);
  std::vector<sample_request> requests;
  for (std::uint32_t i = 0; i < 4; ++i) requests.push_back({i, 12, 0});
  const rollouts r = policy.sample(policy.prompts(), requests, {}, random_key(2));
  check(policy, policy.prompts(), r, 0.6, [&](std::uint64_t k) {
    values v(logits.size());
    for (std::size_t i = 0; i < v.size(); ++i) v[i] = 2 * random_key(20 + k).uniform(i) - 1;
    return v;
  });
}

TEST_CASE("objectives: the gradient of the loss through the Eigen decoder", "[objective][eigen]") {
  decoder::config c;
  c.model_type = "qwen3";
  c.vocab_size = 13;
  c.hidden_size = 16;
  c.intermediate_size = 20;
  c.layers = 2;
  c.heads = 4;
  c.kv_heads = 2;
  c.head_dim = 4;
  c.qk_norm = true;
  c.max_positions = 32;
  c.eos = {1};
  const std::vector<tensor_slot> slots = decoder::layout(c);
  values theta(decoder::parameter_count(slots));
  for (const tensor_slot& slot : slots) {
    const bool is_norm = slot.name.ends_with("norm.weight");
    for (std::size_t i = slot.offset; i < slot.offset + slot.size(); ++i)
      theta[i] = (is_norm ? 1 : 0) + (is_norm ? 0.2 : 0.8) * (random_key(31).uniform(i) - 0.5);
  }
  eigen::decoder<double> policy(c, theta, {.threads = 1});
  ragged<token> prompts;
  for (const std::vector<token>& p : {std::vector<token>{2, 3, 4, 5}, {2, 3, 7}, {9}}) prompts.push_back(p);
  const std::vector<sample_request> requests{{0, 8, 0}, {1, 8, 0}, {2, 8, 0}};
  const rollouts r = policy.sample(prompts, requests, {.max_tokens = 9}, random_key(77));
  check(policy, prompts, r, 0.3, [&](std::uint64_t k) {
    auto v = policy.space().zero();
    for (Eigen::Index i = 0; i < v.size(); ++i)
      v[i] = 2 * random_key(20 + k).uniform(static_cast<std::uint64_t>(i)) - 1;
    return v;
  });
}
