/// Coefficients through a policy: sum_t c_t grad log pi(y_t) against directional differences of the loss
/// (objective_losses.hpp) as a function of the parameters, on the tabular policy and on the Eigen decoder.

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include <rlvr/backend/decoder/config.hpp>
#include <rlvr/backend/eigen/decoder.hpp>
#include <rlvr/backend/tabular/policy.hpp>

#include "objective_losses.hpp"
#include "small_decoders.hpp"

using namespace rlvr;
using namespace rlvr::testing;

namespace {

/// The world of rollouts that a policy scores: its log-probabilities and entropies, the other arrays around them.
world<double> world_of(const rollouts& r, const token_scores& scores, std::uint64_t seed, advantages_per per, masks m,
                       double spread) {
  const random_key key = random_key(seed).fold(static_cast<std::uint64_t>(per)).fold(static_cast<std::uint64_t>(m));
  const auto uniform = [&](std::uint64_t what, std::size_t at, double low, double high) {
    return low + (high - low) * key.fold(what).uniform(at);
  };
  const double nan = std::numeric_limits<double>::quiet_NaN();
  world<double> w;
  w.offsets = r.offsets;
  for (std::size_t i = 0; i < r.size(); ++i) {
    if (per == advantages_per::sequence) w.advantages.push_back(i % 9 == 4 ? 0 : uniform(1, i, -2, 2));
    if (i % 5 == 0 || i % 5 == 3 || i + 1 == r.size()) w.groups.push_back(i + 1);
  }
  for (std::size_t t = 0; t < w.tokens(); ++t) {
    const bool on = m == masks::none || uniform(2, t, 0, 1) < 0.75;
    const auto near = [&](std::uint64_t what) {
      return on ? scores.log_probs[t] + uniform(what, t, -spread, spread) : nan;
    };
    w.log_probs.push_back(on ? scores.log_probs[t] : nan);
    w.old_log_probs.push_back(near(3));
    w.sampled_log_probs.push_back(near(4));
    w.reference_log_probs.push_back(near(5));
    w.entropies.push_back(on ? scores.entropies[t] : nan);
    if (per == advantages_per::token) w.token_advantages.push_back(on ? uniform(6, t, -2, 2) : nan);
    if (m == masks::random) w.mask.push_back(on);
  }
  return w;
}

/// `random(k)` gives the k-th random direction.
template <class P, class Random>
void check(P& policy, const ragged<token>& prompts, const rollouts& r, Random random) {
  const double h = 1e-7;  // so small that hardly any token has a kink between
  const auto space = policy.space();
  const auto theta = policy.parameters();
  const auto direction = random(1);
  const auto scored_at = [&](double alpha) {
    policy.assign(theta, alpha, direction);
    const token_scores out = policy.score(prompts, r, 1.0);
    policy.assign(theta);
    return out;
  };
  const token_scores now = scored_at(0);
  const values up = scored_at(h).log_probs, down = scored_at(-h).log_probs;
  for (const objective_case& o : objective_cases()) {
    branch_counts seen;
    double moved = 0;
    for (std::uint64_t seed = 0; seed < 2; ++seed)
      for (advantages_per per : {advantages_per::sequence, advantages_per::token})
        for (masks m : {masks::none, masks::random}) {
          if (per != o.per.value_or(per) || m != o.mask.value_or(m)) continue;
          INFO(o.name << ", seed " << seed << ", per " << static_cast<int>(per) << ", masks " << static_cast<int>(m));
          world<double> w = world_of(r, now, seed, per, m, o.spread);
          o.prepare(w);
          const values weights = some_weights(w.size());
          values c(w.tokens());
          std::vector<branch> codes(w.tokens());
          o.run(w, weights, std::span<double>(c), std::span<branch>(codes));
          seen += count_branches(codes);
          auto g = space.zero();
          policy.accumulate_score(prompts, r, c, 1.0, g);
          const loss_function loss = o.loss(w, weights);
          const double slope = -(loss(up, w.log_probs) - loss(down, w.log_probs)) / (2 * h);
          // What may cancel is the size of the terms: the rounding of a difference is relative to it.
          double size = 0;
          for (std::size_t t = 0; t < w.tokens(); ++t) size += std::fabs(c[t] * (up[t] - down[t]) / (2 * h));
          CHECK(space.dot(g, direction) == Approx(slope).margin(2e-7 * size + 1e-9).epsilon(0));
          moved += size;
        }
    INFO(o.name);
    CHECK(moved > 1e-2);
    for (branch b : o.taken) {
      INFO("branch " << static_cast<int>(b));
      CHECK(seen[b] > 0);
    }
  }
}

}  // namespace

TEST_CASE("objectives: the gradient of the loss through the tabular policy", "[objective]") {
  values logits(4 * 6);
  for (std::size_t i = 0; i < logits.size(); ++i) logits[i] = 4 * random_key(1).uniform(i);
  tabular::policy policy(logits, 6);
  std::vector<sample_request> requests;
  for (std::uint32_t i = 0; i < 4; ++i) requests.push_back({i, 12, 0});
  const rollouts r = policy.sample(policy.prompts(), requests, {}, random_key(2));
  check(policy, policy.prompts(), r, [&](std::uint64_t k) {
    values v(logits.size());
    for (std::size_t i = 0; i < v.size(); ++i) v[i] = 2 * random_key(20 + k).uniform(i) - 1;
    return v;
  });
}

TEST_CASE("objectives: the gradient of the loss through the Eigen decoder", "[objective][eigen]") {
  const decoder::config c = rlvr::testing::small_decoder("llama");
  eigen::decoder<double> policy(c, rlvr::testing::small_parameters<double>(c), {.threads = 1});
  ragged<token> prompts;
  for (const std::vector<token>& p : {std::vector<token>{2, 3, 4, 5}, {2, 3, 7}, {9}}) prompts.push_back(p);
  const std::vector<sample_request> requests{{0, 6, 0}, {1, 6, 0}, {2, 6, 0}};
  const rollouts r = policy.sample(prompts, requests, {.max_tokens = 9}, random_key(77));
  check(policy, prompts, r, [&](std::uint64_t k) {
    auto v = policy.space().zero();
    for (Eigen::Index i = 0; i < v.size(); ++i)
      v[i] = 2 * random_key(20 + k).uniform(static_cast<std::uint64_t>(i)) - 1;
    return v;
  });
}

#ifdef RLVR_SOURCE_DIR
TEST_CASE("objectives: every header has its loss among those that are checked", "[objective]") {
  // What they share, and what makes advantages and weights, which have no gradient.
  std::vector<std::string> known{"aggregation", "branch", "each_token", "empg", "objective", "token_batch"};
  for (const objective_case& o : objective_cases()) known.push_back(o.header);
  std::size_t headers = 0;
  for (const auto& entry : std::filesystem::directory_iterator(RLVR_SOURCE_DIR "/include/rlvr/objective")) {
    const std::string name = entry.path().stem().string();
    INFO(name);
    CHECK(std::find(known.begin(), known.end(), name) != known.end());
    ++headers;
  }
  CHECK(headers > 25);
}
#endif
