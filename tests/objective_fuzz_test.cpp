/// Random shapes and values, NaN, infinities, broken arrays and options among them: every objective, correction,
/// penalty, loss on sequences and weight gives finite numbers, exact zeros outside the mask, or throws
/// std::invalid_argument that names something. Never a crash, never a silent NaN.

#include <cmath>
#include <limits>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include <rlvr/objective/aggregation.hpp>
#include <rlvr/objective/empg.hpp>

#include "objective_losses.hpp"
#include "view_of.hpp"

using namespace rlvr;
using namespace rlvr::testing;

namespace {

/// Draws numbers, `hostile` of them hard to digest.
struct source {
  random_key key;
  std::uint64_t draws = 0;

  std::size_t below(std::size_t n) { return key.below(n, draws++); }
  bool chance(double p) { return key.uniform(draws++) < p; }
  double number(double low, double high, double hostile) {
    const double odd[] = {std::numeric_limits<double>::quiet_NaN(),
                          infinity,
                          -infinity,
                          1e308,
                          -1e308,
                          1e155,
                          -1e39,
                          5e-324,
                          1e-300,
                          -0.0,
                          0,
                          1,
                          -1,
                          700,
                          -20,
                          90};
    if (chance(hostile)) return odd[below(std::size(odd))];
    return low + (high - low) * key.uniform(draws++);
  }
  template <class Enum>
  Enum one_of(std::size_t n) {
    return static_cast<Enum>(below(n));
  }
};

/// A batch in which little can be relied on.
template <class Real>
struct hostile_batch {
  std::vector<std::size_t> offsets, groups;
  std::vector<Real> advantages, token_advantages, log_probs, old_log_probs, sampled_log_probs, reference_log_probs,
      entropies, weights;
  std::vector<std::uint8_t> mask;
  bool damaged = false;  ///< whether a size or an order is wrong, so that every call must throw

  hostile_batch(source& s, double hostile) {
    const std::size_t size = s.below(6), from = s.chance(0.2) ? s.below(5) : 0;
    offsets.push_back(from);
    groups.push_back(0);
    for (std::size_t i = 0; i < size; ++i) {
      offsets.push_back(offsets.back() + s.below(5));
      while (s.chance(0.4)) groups.push_back(i + 1);  // now and then an empty group
    }
    groups.push_back(size);
    if (s.chance(0.2)) groups.clear();
    const std::size_t tokens = offsets.back() - from;
    const auto fill = [&](std::vector<Real>& out, std::size_t n, double low, double high) {
      if (s.chance(0.02)) return;
      for (std::size_t t = 0; t < n; ++t) out.push_back(static_cast<Real>(s.number(low, high, hostile)));
    };
    if (s.chance(0.5))
      fill(advantages, size, -2, 2);
    else
      fill(token_advantages, tokens, -2, 2);
    fill(log_probs, tokens, -3, 0);
    fill(old_log_probs, tokens, -3, 0);
    fill(sampled_log_probs, tokens, -3, 0);
    fill(reference_log_probs, tokens, -3, 0);
    fill(entropies, tokens, 0, 3);
    if (s.chance(0.7)) fill(weights, size, 0, 1);
    if (s.chance(0.6))
      for (std::size_t t = 0; t < tokens; ++t) mask.push_back(s.chance(0.6));
    if (s.chance(0.1)) damage(s);
  }

  token_batch<Real> view() const { return view_of<Real>(*this); }

 private:
  void damage(source& s) {
    damaged = true;
    switch (s.below(5)) {
      case 0:
        if (offsets.size() > 2 && offsets.back() > offsets.front() + 1) {
          offsets[offsets.size() - 2] = offsets.back() + 1;
          return;
        }
        break;
      case 1:
        if (!mask.empty()) {
          mask.pop_back();
          damaged = !mask.empty();
          return;
        }
        break;
      case 2:
        if (groups.size() > 1) {
          groups.back() += 1;
          return;
        }
        break;
      case 3:
        groups = {0, offsets.size(), offsets.size() - 1};
        return;
      default:
        break;
    }
    reference_log_probs.resize(reference_log_probs.size() + 1);  // what every call checks, whether it reads it or not
    damaged = offsets.back() != offsets.front() + 1;
  }
};

struct tally {
  std::size_t returned = 0, refused = 0;
};

/// f() throws std::invalid_argument with a message, or what it returns is finite.
template <class F>
void digest(tally& t, const std::string& who, F f) {
  INFO(who);
  try {
    for (auto x : f())
      if (!std::isfinite(x)) FAIL_CHECK("a value is " << x);
    ++t.returned;
  } catch (const std::invalid_argument& e) {
    ++t.refused;
    if (std::string(e.what()).find(':') == std::string::npos) FAIL_CHECK("the message is " << e.what());
  }
}

/// Coefficients of f(c, codes): finite, 0 outside the mask and masked there, or an error.
template <class Real, class F>
void digest(tally& t, const std::string& who, const hostile_batch<Real>& h, bool coded, F f) {
  digest(t, who, [&] {
    const token_batch<Real> b = h.view();
    std::vector<Real> c(h.offsets.back() - h.offsets.front(), Real(1));
    std::vector<branch> codes(coded ? c.size() : 0, branch::active);
    f(b, std::span<Real>(c), std::span<branch>(codes));
    if (h.damaged) FAIL_CHECK("a damaged batch is not noticed");
    for (std::size_t k = 0; k < c.size(); ++k) {
      if (b.active(k)) continue;
      if (c[k] != 0) FAIL_CHECK("token " << k << " is masked and has " << c[k]);
      if (coded && codes[k] != branch::masked) FAIL_CHECK("token " << k << " is masked, its branch is not");
    }
    return c;
  });
}

/// One round of everything on one batch.
template <class Real>
void round(tally& t, source& s, const hostile_batch<Real>& h) {
  const double wild = s.chance(0.5) ? 0.5 : 0;
  const auto n = [&](double usual) { return s.number(usual, usual, wild); };
  const bool coded = s.chance(0.5);
  const std::vector<Real> weights = h.weights;
  const auto objective = [&](const char* who, const auto& o) {
    digest(t, who, h, coded,
           [&](const token_batch<Real>& b, std::span<Real> c, std::span<branch> codes) { o(b, weights, c, codes); });
  };
  const auto correction = [&](const char* who, const auto& o) {
    digest(t, who, h, coded,
           [&](const token_batch<Real>& b, std::span<Real> c, std::span<branch> codes) { o(b, c, codes); });
  };
  const ppo_clip clip{
      .low = n(0.2), .high = n(0.2), .dual = n(3), .log_ratio_limit = n(20), .at_dual = s.one_of<tie>(2)};
  objective("policy_gradient", policy_gradient{});
  objective("ppo_clip", clip);
  objective("sequence_level<ppo_clip>", sequence_level<ppo_clip>{clip});
  objective("gspo", gspo{.low = n(0.1),
                         .high = n(0.1),
                         .form = s.one_of<gspo_form>(2),
                         .ratio = s.one_of<sequence_ratio>(2),
                         .log_ratio_limit = n(10),
                         .epsilon = n(0)});
  objective("gmpo", gmpo{.low = n(0.4), .high = n(0.4), .epsilon = n(0)});
  const cispo truncated{.min = n(0), .max = n(5), .log_ratio_limit = n(20)};
  objective("cispo", truncated);
  objective("sequence_level<cispo>", sequence_level<cispo>{truncated});
  objective("masked_ratio", masked_ratio{.low = n(0.2), .high = n(0.2)});
  objective("sapo", sapo{.tau_positive = n(1), .tau_negative = n(1), .log_ratio_limit = n(20)});
  objective("topr", topr{.min = n(0), .max = n(1), .level = s.one_of<importance_level>(2)});
  objective("mini_rl", mini_rl{.low = n(0.2), .high = n(0.2), .cap = n(5)});
  objective("dppo", dppo{.low = n(0.2),
                         .high = n(0.2),
                         .cap = n(20),
                         .log_ratio_limit = n(20),
                         .divergence = s.one_of<binary_divergence>(2)});
  objective("vespo", vespo{.k_positive = n(2), .lambda_positive = n(3), .k_negative = n(3), .lambda_negative = n(2)});
  objective("dro", dro{.beta = n(0.1), .level = s.one_of<importance_level>(2)});
  objective("ratio_normalized_clip",
            ratio_normalized_clip{.low = n(0.2), .high = n(0.2), .scale = n(0.5), .step = n(0.5)});
  objective("unified_gradient", unified_gradient{.over = s.one_of<reference_policy>(4), .low = n(0.2), .high = n(0.2)});
  objective("shaped_imitation", shaped_imitation{.gamma = n(0.1)});
  objective("clip_cov", clip_cov{.key = random_key(s.below(99)),
                                 .share = n(0.1),
                                 .low_covariance = n(0.1),
                                 .high_covariance = n(5),
                                 .clip = clip});
  objective("kl_cov", kl_cov{.share = n(0.1), .coefficient = n(1)});
  const importance_correction correct{.over = s.one_of<importance_over>(3),
                                      .bound = s.one_of<importance_bound>(3),
                                      .min = n(0),
                                      .max = n(2),
                                      .log_ratio_limit = n(20)};
  correction("importance_correction", correct);
  correction("normalized_importance", normalized_importance{correct});
  correction("off_policy_mask", off_policy_mask{.threshold = n(0.1)});
  correction("high_entropy_only", high_entropy_only{.threshold = n(1.5)});
  correction("rejection", rejection{.divergence = s.one_of<sampler_divergence>(5),
                                    .over = s.one_of<rejection_over>(4),
                                    .min = n(-0.5),
                                    .max = n(0.5),
                                    .log_ratio_limit = n(20)});
  // Penalties add to what is there, here nothing.
  const auto penalty = [&](const char* who, const auto& o) {
    digest(t, who, h, false, [&](const token_batch<Real>& b, std::span<Real> c, std::span<branch>) {
      std::fill(c.begin(), c.end(), Real(0));
      o(b, weights, c);
    });
  };
  const kl_penalty kl{.coefficient = n(0.1),
                      .estimator = s.one_of<kl_estimator>(4),
                      .ratio = s.one_of<kl_ratio>(4),
                      .gradient = s.one_of<kl_gradient>(2),
                      .input_limit = n(20),
                      .output_limit = n(10),
                      .clamp = s.one_of<kl_clamp>(2)};
  penalty("kl_penalty", kl);
  penalty("kl_penalty::add_to_rewards",
          [&](const auto& b, const auto&, std::span<Real> rewards) { kl.add_to_rewards(b, rewards); });
  penalty("entropy_bonus", entropy_bonus{.coefficient = n(0.1), .baseline = s.one_of<entropy_baseline>(2)});

  // Losses on sequences.
  const auto whole = [&](const char* who, const auto& f) { digest(t, who, h, coded, f); };
  std::vector<preference_pair> pairs(s.below(4));
  const std::size_t size = h.offsets.size() - 1;
  for (preference_pair& p : pairs)
    p = {s.below(size + (s.chance(0.05) ? 2 : 0) + (size == 0)), s.below(size + (size == 0))};
  const auto score = s.one_of<sequence_score>(2);
  const double weight = n(0.2), beta = n(0.1), smoothing = n(0.1);
  whole("dpo", [&](const token_batch<Real>& b, std::span<Real> c, std::span<branch> codes) {
    dpo{.beta = beta, .smoothing = smoothing, .score = score}(b, pairs, weight, c, codes);
  });
  whole("ipo", [&](const token_batch<Real>& b, std::span<Real> c, std::span<branch> codes) {
    ipo{.beta = beta, .score = score}(b, pairs, weight, c, codes);
  });
  whole("contrastive_policy_gradient", [&](const token_batch<Real>& b, std::span<Real> c, std::span<branch> codes) {
    contrastive_policy_gradient{.beta = beta}(b, weight, c, codes);
  });
  std::vector<double> targets;
  for (std::size_t i = 0; i < size; ++i) targets.push_back(s.number(-9, 0, wild / 4));
  if (s.chance(0.05)) targets.push_back(0);
  const f_dpg divergence{.divergence = s.one_of<f_divergence>(6), .baseline = n(0.3), .max_log_ratio = n(2)};
  whole("f_dpg", [&](const token_batch<Real>& b, std::span<Real> c, std::span<branch> codes) {
    divergence(b, targets, weight, c, codes);
    if (targets.size() != size) FAIL_CHECK("targets too many are not noticed");
  });
  std::vector<double> shifts = targets;
  whole("vespo, shifts", [&](const token_batch<Real>& b, std::span<Real> c, std::span<branch> codes) {
    vespo{}(b, weights, c, codes, shifts);
  });

  // What makes weights, masks and statistics.
  digest(t, "sequence_weights", [&] {
    return sequence_weights(h.view(), {.first = s.one_of<averaged_over>(3),
                                       .by = s.one_of<denominator>(7),
                                       .value = n(4),
                                       .scale = n(1),
                                       .epsilon = n(0)});
  });
  digest(t, "token_covariances", [&] { return token_covariances(h.view()); });
  digest(t, "entropy_threshold", [&] { return std::vector<double>{entropy_threshold(h.view(), n(0.2))}; });
  digest(t, "run_in_parts", [&] {
    std::vector<Real> c(h.view().tokens());
    run_in_parts(clip, h.view(), weights, std::span<Real>(c), std::span<branch>{}, s.below(5),
                 [](std::size_t parts, const auto& f) {
                   for (std::size_t k = 0; k < parts; ++k) f(k);
                 });
    return c;
  });
}

/// What reads rollouts and verdicts.
void round_of_rollouts(tally& t, source& s) {
  const double hostile = s.chance(0.5) ? 0.2 : 0;
  rollouts r;
  std::vector<double> advantages;
  for (std::size_t size = s.below(6); size > 0; --size) {
    for (std::size_t k = s.below(4); k > 0; --k) r.tokens.push_back(static_cast<token>(s.below(2)));
    r.offsets.push_back(r.tokens.size());
    r.prompts.push_back(static_cast<std::uint32_t>(s.below(2)));
    r.verdicts.push_back({s.number(0, 1, hostile), s.chance(0.8)});
    advantages.push_back(s.number(-1, 1, hostile));
  }
  if (s.chance(0.05)) r.verdicts.emplace_back();
  if (s.chance(0.05)) r.prompts.clear();
  if (s.chance(0.05)) r.offsets.back() += 1;
  if (s.chance(0.02)) r.offsets.clear();
  const double threshold = s.number(0.5, 0.5, hostile);
  digest(t, "imitated", [&] { return imitated(r.verdicts, threshold); });
  digest(t, "imitated_once", [&] { return imitated_once(r, threshold); });
  digest(t, "reinforce_coefficients",
         [&] { return reinforce_coefficients(r, advantages, s.number(0.2, 0.2, hostile)); });
  digest(t, "hybrid_gate", [&] {
    (void)hybrid_gate(s.number(0, 1, hostile), s.number(0, 1, hostile));
    return std::vector<double>{};
  });
  std::vector<std::size_t> trajectories = r.offsets;
  std::vector<double> step_entropies;
  for (std::size_t k = 0; k < r.tokens.size(); ++k) step_entropies.push_back(s.number(0, 3, hostile / 4));
  const empg modulated{.k = s.number(1, 1, hostile),
                       .k_future = s.number(1, 1, hostile),
                       .zeta = s.number(0.05, 0.05, hostile),
                       .epsilon = s.number(1e-8, 1e-8, hostile)};
  digest(t, "empg", [&] { return modulated(step_entropies, trajectories, advantages); });
}

}  // namespace

TEST_CASE("objectives: hostile batches and options give finite numbers or an error", "[objective][fuzz]") {
  tally t;
  for (std::uint64_t seed = 0; seed < 4000; ++seed) {
    INFO("seed " << seed);
    source s{random_key(seed).fold(15)};
    const double hostile = seed % 4 == 0 ? 0.1 : seed % 4 == 1 ? 0.01 : 0;
    if (seed % 2 == 0)
      round(t, s, hostile_batch<double>(s, hostile));
    else
      round(t, s, hostile_batch<float>(s, hostile));
    round_of_rollouts(t, s);
  }
  // Both sides of the promise were tried.
  CHECK(t.returned > 30000);
  CHECK(t.refused > 30000);
}

TEST_CASE("losses on sequences: what is missing, too short or not finite is named", "[objective][fuzz]") {
  const std::vector<preference_pair>& pairs = some_pairs();
  const auto runs = [&](const world<double>& w, const auto& check) {
    values c(w.tokens()), targets(w.size(), -3.0);
    std::vector<branch> codes(w.tokens());
    const std::span<double> out(c);
    check(
        "dpo", [&, out](const token_batch<double>& b) { dpo{}(b, pairs, 1, out, codes); }, 1u | 8u);
    check(
        "ipo", [&, out](const token_batch<double>& b) { ipo{}(b, pairs, 1, out, codes); }, 1u | 8u);
    check(
        "contrastive_policy_gradient",
        [&, out](const token_batch<double>& b) { contrastive_policy_gradient{}(b, 1, out, codes); }, 1u | 8u);
    check(
        "f_dpg", [&, out](const token_batch<double>& b) { f_dpg{}(b, targets, 1, out, codes); }, 1u | 4u);
  };
  const struct {
    unsigned bit;
    const char* name;
    std::vector<double> world<double>::*values;
    std::span<const double> token_batch<double>::*view;
  } arrays[] = {
      {1, "log_probs", &world<double>::log_probs, &token_batch<double>::log_probs},
      {2, "old_log_probs", &world<double>::old_log_probs, &token_batch<double>::old_log_probs},
      {4, "sampled_log_probs", &world<double>::sampled_log_probs, &token_batch<double>::sampled_log_probs},
      {8, "reference_log_probs", &world<double>::reference_log_probs, &token_batch<double>::reference_log_probs}};
  for (double bad : {std::numeric_limits<double>::quiet_NaN(), infinity, -infinity})
    for (std::uint64_t seed = 0; seed < 5; ++seed) {
      world<double> w = make_world<double>(seed);
      std::size_t t = w.tokens() / 2;
      while (!w.active(t)) ++t;
      for (const auto& a : arrays) {
        const double held = std::exchange((w.*a.values)[t], bad);
        runs(w, [&](const char* who, const auto& f, unsigned reads) {
          INFO(who << ", " << a.name);
          if (reads & a.bit)
            CHECK_THROWS_WITH(f(w.view()), Catch::Contains(concat(who, ": ", a.name, "[", t, "] is ", bad)));
          else
            CHECK_NOTHROW(f(w.view()));
        });
        (w.*a.values)[t] = held;
      }
    }
  const world<double> w = make_world<double>(1);
  for (const auto& a : arrays)
    runs(w, [&](const char* who, const auto& f, unsigned reads) {
      INFO(who << ", " << a.name);
      token_batch<double> b = w.view();
      b.*a.view = {};
      if (reads & a.bit)
        CHECK_THROWS_WITH(f(b), Catch::Contains(concat(who, ": ", a.name, " is not given")));
      else
        CHECK_NOTHROW(f(b));
      b.*a.view = (w.view().*a.view).first(2);
      CHECK_THROWS_WITH(f(b), Catch::Contains(concat(who, ": 2 ", a.name, " for ")));
    });
  // Empty batches, empty sequences, and everything masked.
  world<double> none;
  none.offsets.assign(10, 0);
  none.groups = {0, 9};
  none.advantages.assign(9, 1.0);
  runs(none, [&](const char*, const auto& f, unsigned) { CHECK_NOTHROW(f(none.view())); });
  world<double> masked = make_world<double>(1);
  masked.mask.assign(masked.tokens(), 0);
  values c(masked.tokens(), 7.0);
  dpo{}(masked.view(), pairs, 1, std::span<double>(c));
  CHECK(c == values(c.size(), 0.0));
  c.assign(c.size(), 7.0);
  contrastive_policy_gradient{}(masked.view(), 1, std::span<double>(c));
  CHECK(c == values(c.size(), 0.0));
}

TEST_CASE("losses on sequences: slopes that overflow name the sequence", "[objective][fuzz]") {
  world<double> w;
  w.offsets = {0, 1, 2, 3};
  w.groups = {0, 3};
  w.advantages = {1, 0, 0};
  w.log_probs = w.reference_log_probs = w.sampled_log_probs = {-1, -1, -1};
  values c(3);
  // Each pair's slope is finite, their sum is not.
  const std::vector<preference_pair> pairs{{0, 1}, {0, 2}};
  CHECK_THROWS_WITH(dpo{.beta = 2}(w.view(), pairs, 1.7e308, std::span<double>(c)),
                    Catch::Contains("dpo: the slope of sequence 0 is inf"));
  world<float> single;
  single.offsets = w.offsets;
  single.log_probs = single.reference_log_probs = {-1, -1, -1};
  std::vector<float> out(3);
  CHECK_THROWS_WITH(dpo{.beta = 1}(single.view(), pairs, 5e38, std::span<float>(out)),
                    Catch::Contains("dpo: the slope of sequence 0 is inf"));
  w.log_probs = {-1e308, -1, -1};
  w.reference_log_probs = {1e307, -1, -1};
  CHECK_THROWS_WITH(ipo{}(w.view(), pairs, 10, std::span<double>(c)),
                    Catch::Contains("ipo: the slope of sequence 0 is inf"));
  CHECK_THROWS_WITH(contrastive_policy_gradient{.beta = 10}(w.view(), 1, std::span<double>(c)),
                    Catch::Contains("contrastive_policy_gradient: the slope of sequence 0 is "));
  w.log_probs = {-1, 800, -1};
  CHECK_THROWS_WITH(f_dpg{}(w.view(), values{-1, -1, -1}, 1, std::span<double>(c)),
                    Catch::Contains("f_dpg: the slope of sequence 1 is "));
  CHECK_THROWS_WITH(f_dpg{}(w.view(), values{-1, -1}, 1, std::span<double>(c)),
                    Catch::Contains("2 targets for 3 sequences"));
  CHECK_THROWS_WITH(f_dpg{}(w.view(), values{-1, -1, infinity}, 1, std::span<double>(c)),
                    Catch::Contains("target 2 is inf"));
}
