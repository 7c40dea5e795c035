/// Every objective's coefficients against finite differences of its loss (objective_losses.hpp), and known points.

#include <algorithm>
#include <cmath>
#include <numeric>
#include <string>
#include <vector>

#include "objective_losses.hpp"

using namespace rlvr;
using namespace rlvr::testing;

TEST_CASE("objectives: kappa is the loss's in every branch", "[objective]") {
  for (const objective_case& o : objective_cases()) {
    branch_counts seen;
    for (std::uint64_t seed = 0; seed < 6; ++seed)
      for (advantages_per per : {advantages_per::sequence, advantages_per::token})
        for (masks m : {masks::none, masks::random}) {
          if (per != o.per.value_or(per) || m != o.mask.value_or(m)) continue;
          INFO(o.name << ", seed " << seed << ", per " << static_cast<int>(per) << ", masks " << static_cast<int>(m));
          world<double> w = make_world<double>(100 + seed, per, m, o.spread);
          o.prepare(w);
          const values weights = some_weights(w.size());
          values c(w.tokens(), 3.0);
          std::vector<branch> codes(w.tokens());
          o.run(w, weights, std::span<double>(c), std::span<branch>(codes));
          check_close(c, descent(w, o.loss(w, weights)));
          for (std::size_t i = 0; i < w.size(); ++i)
            for (std::size_t t = w.offsets[i]; t < w.offsets[i + 1]; ++t) {
              const branch expected = !w.active(t) ? branch::masked : o.code ? o.code(w, i, t) : codes[t];
              if (codes[t] != expected || w.active(t) != (codes[t] != branch::masked))
                FAIL_CHECK("token " << t << " has branch " << int(codes[t]) << ", expected " << int(expected));
            }
          seen += count_branches(codes);
        }
    INFO(o.name);
    CHECK((o.code || o.taken.size() == 1 || o.name == "clip_cov"));  // what clip_cov draws is tested below
    for (branch b : o.taken) {
      INFO("branch " << static_cast<int>(b));
      CHECK(seen[b] > 0);
    }
    CHECK(seen.unmasked() == std::accumulate(o.taken.begin(), o.taken.end(), std::size_t{0},
                                             [&](std::size_t n, branch b) { return n + seen[b]; }));
  }
}

TEST_CASE("ppo_clip: the bounds themselves, and a hair on either side", "[objective]") {
  // old_log_probs 0 and log_probs log(r): r is exact for the powers of two.
  const auto kappa = [](const ppo_clip& o, double r, double a, branch* code) {
    const values now{std::log(r)}, old{0}, adv{a};
    const std::vector<std::size_t> offsets{0, 1};
    values c(1);
    token_batch<double> b;
    b.offsets = offsets;
    b.advantages = adv;
    b.log_probs = now;
    b.old_log_probs = old;
    o(b, {}, std::span<double>(c), std::span<branch>(code, 1));
    return c[0];
  };
  branch code{};
  const ppo_clip o{.low = 0.5, .high = 1, .dual = 4, .log_ratio_limit = 20};
  const double hair = 1e-9;
  CHECK(kappa(o, 2 - hair, 1, &code) == Approx(2));
  CHECK(code == branch::active);
  CHECK(kappa(o, 2, 1, &code) == Approx(2));  // torch.clamp passes gradients at its bounds
  CHECK(kappa(o, 2 + hair, 1, &code) == 0);
  CHECK(code == branch::clipped_high);
  CHECK(kappa(o, 0.5 + hair, -1, &code) == Approx(-0.5));
  CHECK(kappa(o, 0.5, -1, &code) == Approx(-0.5));
  CHECK(kappa(o, 0.5 - hair, -1, &code) == 0);
  CHECK(code == branch::clipped_low);
  CHECK(kappa(o, 4 - hair, -1, &code) == Approx(-4));
  CHECK(kappa(o, 4, -1, &code) == Approx(-2));  // torch.minimum halves a tie
  CHECK(kappa({.low = 0.5, .high = 1, .dual = 4, .at_dual = tie::whole}, 4, -1, &code) == Approx(-4));
  CHECK(kappa(o, 4 + hair, -1, &code) == 0);
  CHECK(code == branch::dual);
  CHECK(kappa(o, 2, 0, &code) == 0);
  const ppo_clip open{.low = 0.5, .high = 1};
  CHECK(kappa(open, std::exp(19.999), -1, &code) == Approx(-std::exp(19.999)));
  CHECK(kappa(open, std::exp(20.001), -1, &code) == 0);
  CHECK(code == branch::saturated);
  CHECK(kappa(open, std::exp(-20.001), 1, &code) == 0);
  CHECK(code == branch::saturated);
}

TEST_CASE("ratio_normalized_clip of scale 1 is ppo_clip", "[objective]") {
  const world<double> w = make_world<double>(9);
  check_close(coefficients(ratio_normalized_clip{}, w.view()), coefficients(ppo_clip{}, w.view()), 1e-14);
}

TEST_CASE("on policy sapo has the advantage and kl_cov is inert", "[objective]") {
  world<double> w = make_world<double>(4);
  w.old_log_probs = w.log_probs;
  check_close(coefficients(sapo{}, w.view()), coefficients(policy_gradient{}, w.view()), 1e-14);
  // |D| has no slope there.
  CHECK(coefficients(kl_cov{.share = 0.5, .coefficient = 9}, w.view()) == coefficients(policy_gradient{}, w.view()));
}

TEST_CASE("unified_gradient: the others are its instances", "[objective]") {
  for (advantages_per per : {advantages_per::sequence, advantages_per::token}) {
    const world<double> w = make_world<double>(6, per);
    const token_batch<double> b = w.view();
    check_close(coefficients(unified_gradient{}, b), coefficients(policy_gradient{}, b), 1e-14);
    check_close(coefficients(unified_gradient{.over = reference_policy::old, .low = 0.2, .high = 0.28}, b),
                coefficients(ppo_clip{.low = 0.2, .high = 0.28}, b), 1e-14);
    check_close(coefficients(unified_gradient{.over = reference_policy::old}, b),
                coefficients(cispo{.max = infinity}, b), 1e-14);
    const values offline = coefficients(unified_gradient{.over = reference_policy::one}, b);
    const values shaped = coefficients(shaped_imitation{.gamma = 1e9}, b);  // p / gamma for large gamma
    for (std::size_t t = 0; t < w.tokens(); ++t) CHECK(shaped[t] * 1e9 == Approx(offline[t]).epsilon(1e-6));
    token_batch<double> moved = b;
    moved.old_log_probs = b.sampled_log_probs;
    CHECK(coefficients(unified_gradient{.over = reference_policy::sampled}, b) ==
          coefficients(unified_gradient{.over = reference_policy::old}, moved));
  }
}

TEST_CASE("clip_cov: drops candidates only, as many as asked, by its key", "[objective]") {
  const world<double> w = make_world<double>(12, advantages_per::token, masks::random, 1.6, 60, 20);
  const token_batch<double> b = w.view();
  const std::vector<double> weights = some_weights(w.size());
  const ppo_clip clip{.log_ratio_limit = infinity};
  values plain(w.tokens()), c(w.tokens());
  std::vector<branch> plain_codes(w.tokens()), codes(w.tokens());
  clip(b, weights, std::span<double>(plain), plain_codes);
  const values cov = covariances(w, w.log_probs);
  const clip_cov o{.key = random_key(7), .share = 0.02, .low_covariance = 0.2, .high_covariance = 2};
  o(b, weights, std::span<double>(c), codes);
  std::size_t active = 0, candidates = 0, dropped = 0;
  for (std::size_t t = 0; t < w.tokens(); ++t) {
    active += w.active(t);
    const bool candidate = w.active(t) && cov[t] > 0.2 && cov[t] < 2 && plain_codes[t] == branch::active;
    candidates += candidate;
    if (codes[t] == branch::rejected) {
      CHECK(candidate);
      CHECK(c[t] == 0);
      ++dropped;
    } else {
      CHECK(c[t] == plain[t]);
      CHECK(codes[t] == plain_codes[t]);
    }
  }
  CHECK(dropped == static_cast<std::size_t>(0.02 * static_cast<double>(active)));
  CHECK(dropped < candidates);
  CHECK(coefficients(o, b, weights) == c);
  clip_cov other = o;
  other.key = random_key(8);
  CHECK(coefficients(other, b, weights) != c);
  other.share = 1;  // more than there are: all candidates
  other(b, weights, std::span<double>(c), codes);
  CHECK(count_branches(codes)[branch::rejected] == candidates);
  other.low_covariance = 1e6;
  CHECK(coefficients(other, b, weights) == plain);
  // Each candidate is as likely as any other: 400 draws of 1 of `candidates`; expected 400 / candidates each.
  std::vector<int> hits(w.tokens());
  clip_cov one = o;
  one.share = 1e-9;
  for (std::uint64_t seed = 0; seed < 400; ++seed) {
    one.key = random_key(seed);
    one(b, {}, std::span<double>(c), codes);
    for (std::size_t t = 0; t < w.tokens(); ++t) hits[t] += codes[t] == branch::rejected;
  }
  // Some one of n >= 30 candidates hit 46 times of 400 has probability below 1e-9 (binomial tail times n).
  REQUIRE(candidates >= 30);
  CHECK(*std::max_element(hits.begin(), hits.end()) < 46);
}
