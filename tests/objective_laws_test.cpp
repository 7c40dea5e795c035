/// Laws that every objective keeps: no dependence on padding, order, parts or threads; masks; errors that name the
/// index; and a fuzz of values that are not finite, huge ratios and empty shapes.

#include <algorithm>
#include <cmath>
#include <exception>
#include <limits>
#include <span>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include <rlvr/core/exponential.hpp>
#include <rlvr/core/rollouts.hpp>
#include <rlvr/objective/cispo.hpp>
#include <rlvr/objective/covariance.hpp>
#include <rlvr/objective/dppo.hpp>
#include <rlvr/objective/dro.hpp>
#include <rlvr/objective/entropy_bonus.hpp>
#include <rlvr/objective/gmpo.hpp>
#include <rlvr/objective/gspo.hpp>
#include <rlvr/objective/high_entropy.hpp>
#include <rlvr/objective/importance.hpp>
#include <rlvr/objective/kl_penalty.hpp>
#include <rlvr/objective/mini_rl.hpp>
#include <rlvr/objective/normalized_importance.hpp>
#include <rlvr/objective/policy_gradient.hpp>
#include <rlvr/objective/ppo_clip.hpp>
#include <rlvr/objective/ratio_normalized_clip.hpp>
#include <rlvr/objective/reinforce.hpp>
#include <rlvr/objective/rejection.hpp>
#include <rlvr/objective/sapo.hpp>
#include <rlvr/objective/sequence_level.hpp>
#include <rlvr/objective/topr.hpp>
#include <rlvr/objective/unified.hpp>
#include <rlvr/objective/vespo.hpp>

#include "objective_world.hpp"

using namespace rlvr;
using namespace rlvr::testing;

namespace {

/// A correction or penalty after the plain policy gradient, as an objective.
template <class F>
struct after_policy_gradient {
  F f;
  template <class Real>
  void operator()(const token_batch<Real>& b, weights_of<Real> weights, coefficients_of<Real> c,
                  std::span<branch> codes = {}) const {
    policy_gradient{}(b, weights, c, codes);
    if constexpr (
        requires { f(b, weights, c); } && !requires { f(b, c, codes); })
      f(b, weights, c);
    else
      f(b, c, codes);
  }
};
template <class F>
after_policy_gradient(F) -> after_policy_gradient<F>;

enum array : unsigned { now = 1, old = 2, sampled = 4, reference = 8, entropy = 16 };

/// Calls f(name, objective, the arrays that it reads) with every objective in which no sequence looks at another.
template <class F>
void for_each_separable(F f) {
  f("policy_gradient", policy_gradient{}, 0u);
  f("ppo_clip", ppo_clip{.dual = 3}, now | old);
  f("gspo token", gspo{.low = 0.1, .high = 0.1}, now | old);
  f("gspo sequence", gspo{.low = 0.1, .high = 0.1, .form = gspo_form::sequence}, now | old);
  f("gspo product", gspo{.low = 0.2, .high = 0.2, .ratio = sequence_ratio::product}, now | old);
  f("sequence_level<ppo_clip>", sequence_level<ppo_clip>{{.dual = 3}}, now | old);
  f("sequence_level<sapo>", sequence_level<sapo>{}, now | old);
  f("gmpo", gmpo{}, now | old);
  f("cispo", cispo{}, now | old);
  f("masked_ratio", masked_ratio{}, now | old);
  f("sapo", sapo{}, now | old);
  f("topr", topr{}, now | old);
  f("topr token", topr{.level = importance_level::token}, now | old);
  f("mini_rl", mini_rl{}, now | old | sampled);
  f("dppo", dppo{}, now | old);
  f("dppo kl", dppo{.divergence = binary_divergence::kl}, now | old);
  f("vespo", vespo{}, now | old);
  f("dro", dro{}, now | old);
  f("dro sequence", dro{.level = importance_level::sequence}, now | old);
  f("ratio_normalized_clip", ratio_normalized_clip{.scale = 0.5}, now | old);
  f("unified_gradient", unified_gradient{.over = reference_policy::sampled}, now | sampled);
  f("unified_gradient one", unified_gradient{.over = reference_policy::one}, unsigned{now});
  f("shaped_imitation", shaped_imitation{}, unsigned{now});
  f("importance_correction", after_policy_gradient{importance_correction{}}, old | sampled);
  f("importance_correction sequence",
    after_policy_gradient{
        importance_correction{.over = importance_over::sequence_product, .bound = importance_bound::zero}},
    old | sampled);
  f("rejection", after_policy_gradient{rejection{.min = -0.5, .max = 0.5}}, old | sampled);
  f("rejection sequence",
    after_policy_gradient{
        rejection{.divergence = sampler_divergence::k2, .over = rejection_over::sequence_mean, .max = 0.5}},
    old | sampled);
  f("off_policy_mask", after_policy_gradient{off_policy_mask{.threshold = 0.1}}, now | old);
  f("high_entropy_only", after_policy_gradient{high_entropy_only{1.5}}, unsigned{entropy});
  f("kl_penalty", after_policy_gradient{kl_penalty{.coefficient = 0.1}}, now | reference);
  f("kl_penalty ratio", after_policy_gradient{kl_penalty{.coefficient = 0.1, .ratio = kl_ratio::old}},
    now | old | reference);
  f("entropy_bonus", after_policy_gradient{entropy_bonus{.coefficient = 0.1}}, now | entropy);
}

/// ... and with those that look at the whole batch.
template <class F>
void for_each_objective(F f) {
  for_each_separable(f);
  f("clip_cov", clip_cov{.share = 0.05, .low_covariance = 0.1}, now | old);
  f("kl_cov", kl_cov{.share = 0.1}, now | old);
  f("normalized_importance", after_policy_gradient{normalized_importance{}}, old | sampled);
}

template <class Real>
struct result {
  std::vector<Real> coefficients;
  std::vector<branch> branches;
  friend bool operator==(const result&, const result&) = default;
};

template <class O, class Real>
result<Real> run(const O& o, const token_batch<Real>& b, const std::vector<Real>& weights) {
  result<Real> out{std::vector<Real>(b.tokens()), std::vector<branch>(b.tokens())};
  o(b, weights, std::span<Real>(out.coefficients), std::span<branch>(out.branches));
  return out;
}

/// The world with `padding` masked tokens of NaN behind every sequence.
world<double> padded(world<double> w, std::size_t padding) {
  world<double> out;
  const double nan = std::numeric_limits<double>::quiet_NaN();
  out.advantages = w.advantages;
  out.groups = w.groups;
  const auto copy = [&](std::vector<double>& to, const std::vector<double>& from, std::size_t i) {
    if (from.empty()) return;
    to.insert(to.end(), from.begin() + static_cast<std::ptrdiff_t>(w.offsets[i]),
              from.begin() + static_cast<std::ptrdiff_t>(w.offsets[i + 1]));
    to.insert(to.end(), padding, nan);
  };
  for (std::size_t i = 0; i < w.size(); ++i) {
    copy(out.token_advantages, w.token_advantages, i);
    copy(out.log_probs, w.log_probs, i);
    copy(out.old_log_probs, w.old_log_probs, i);
    copy(out.sampled_log_probs, w.sampled_log_probs, i);
    copy(out.reference_log_probs, w.reference_log_probs, i);
    copy(out.entropies, w.entropies, i);
    for (std::size_t t = w.offsets[i]; t < w.offsets[i + 1]; ++t) out.mask.push_back(w.active(t));
    out.mask.insert(out.mask.end(), padding, 0);
    out.offsets.push_back(out.mask.size());
  }
  return out;
}

/// The sequences in the order given.
world<double> reordered(const world<double>& w, const std::vector<std::size_t>& order) {
  world<double> out;
  for (std::size_t i : order) {
    for (std::size_t t = w.offsets[i]; t < w.offsets[i + 1]; ++t) {
      const auto copy = [t](auto& to, const auto& from) {
        if (!from.empty()) to.push_back(from[t]);
      };
      copy(out.token_advantages, w.token_advantages);
      copy(out.log_probs, w.log_probs);
      copy(out.old_log_probs, w.old_log_probs);
      copy(out.sampled_log_probs, w.sampled_log_probs);
      copy(out.reference_log_probs, w.reference_log_probs);
      copy(out.entropies, w.entropies);
      copy(out.mask, w.mask);
    }
    if (!w.advantages.empty()) out.advantages.push_back(w.advantages[i]);
    out.offsets.push_back(out.log_probs.size());
  }
  return out;
}

/// Worlds of all kinds, some of them with sequences longer than one block of the pass.
template <class F>
void for_worlds(F f) {
  for (advantages_per per : {advantages_per::sequence, advantages_per::token})
    for (masks m : {masks::none, masks::random}) {
      f(make_world<double>(1, per, m));
      f(make_world<double>(2, per, m, 0.8, 3, 3000));
    }
}

}  // namespace

TEST_CASE("objectives: masked tokens get zero, are never looked at, and padding changes no bit", "[objective]") {
  for_worlds([](const world<double>& w) {
    const std::vector<double> weights = some_weights(w.size());
    const world<double> wide = padded(w, 5);
    for_each_objective([&](const std::string& name, const auto& o, unsigned) {
      INFO(name);
      const result<double> r = run(o, w.view(), weights), p = run(o, wide.view(), weights);
      bool same = true, masked = true;
      for (std::size_t i = 0; i < w.size(); ++i)
        for (std::size_t k = 0; k < wide.offsets[i + 1] - wide.offsets[i]; ++k) {
          const std::size_t to = wide.offsets[i] + k, from = w.offsets[i] + k;
          if (!wide.active(to)) {
            masked = masked && p.coefficients[to] == 0 && p.branches[to] == branch::masked;
          } else {
            same = same && p.coefficients[to] == r.coefficients[from] && p.branches[to] == r.branches[from];
            masked = masked && p.branches[to] != branch::masked;
          }
        }
      // Which candidates Clip-Cov draws does not depend on padding either: they are numbered among themselves.
      CHECK(same);
      CHECK(masked);
    });
  });
}

TEST_CASE("objectives: order, parts, threads and branches on request change no bit", "[objective]") {
  for_worlds([](const world<double>& w) {
    const std::vector<double> weights = some_weights(w.size());
    std::vector<std::size_t> order(w.size());
    for (std::size_t i = 0; i < order.size(); ++i) order[i] = (7 * i + 3) % order.size();
    if (order.size() % 7 == 0) std::reverse(order.begin(), order.end());
    const world<double> turned = reordered(w, order);
    std::vector<double> turned_weights;
    for (std::size_t i : order) turned_weights.push_back(weights[i]);
    for_each_separable([&](const std::string& name, const auto& o, unsigned) {
      INFO(name);
      const result<double> r = run(o, w.view(), weights), t = run(o, turned.view(), turned_weights);
      bool same = true;
      for (std::size_t k = 0; k < order.size(); ++k)
        for (std::size_t j = 0; j < turned.offsets[k + 1] - turned.offsets[k]; ++j)
          same = same && t.coefficients[turned.offsets[k] + j] == r.coefficients[w.offsets[order[k]] + j] &&
                 t.branches[turned.offsets[k] + j] == r.branches[w.offsets[order[k]] + j];
      CHECK(same);
      CHECK(coefficients(o, w.view(), weights) == r.coefficients);
      CHECK(run(o, w.view(), weights) == r);
      for (std::size_t parts : {std::size_t{1}, std::size_t{3}, std::size_t{50}}) {
        result<double> threaded{std::vector<double>(w.tokens(), 9), std::vector<branch>(w.tokens())};
        run_in_parts(o, w.view(), weights, std::span<double>(threaded.coefficients),
                     std::span<branch>(threaded.branches), parts, [](std::size_t n, const auto& f) {
                       std::vector<std::jthread> team;
                       for (std::size_t k = 0; k < n; ++k) team.emplace_back([&f, k] { f(k); });
                     });
        CHECK(threaded == r);
      }
    });
  });
}

TEST_CASE("corrections and penalties run in parts with the same bits", "[objective]") {
  const world<double> w = make_world<double>(11, advantages_per::sequence, masks::random, 0.7);
  const std::vector<double> weights = some_weights(w.size());
  const auto look = [&](const auto& o, const auto& whole) {
    static_assert(separable<std::remove_cvref_t<decltype(o)>>);
    result<double> r = run(ppo_clip{}, w.view(), weights), parts = r;
    whole(o, r);
    run_in_parts(o, w.view(), weights, std::span<double>(parts.coefficients), std::span<branch>(parts.branches), 3,
                 [](std::size_t n, const auto& f) {
                   for (std::size_t k = n; k-- > 0;) f(k);
                 });
    CHECK(parts == r);
    CHECK(r.coefficients != run(ppo_clip{}, w.view(), weights).coefficients);
  };
  const auto correct = [&](const auto& o, result<double>& r) {
    o(w.view(), std::span<double>(r.coefficients), std::span<branch>(r.branches));
  };
  look(importance_correction{.max = 1.01}, correct);
  look(off_policy_mask{.threshold = -1e9}, correct);
  look(high_entropy_only{0.5}, correct);
  look(entropy_bonus{},
       [&](const auto& o, result<double>& r) { o(w.view(), weights, std::span<double>(r.coefficients)); });
  look(kl_penalty{}, [&](const auto& o, result<double>& r) {
    o(w.view(), weights, std::span<double>(r.coefficients), std::span<branch>(r.branches));
  });
  static_assert(adjustment<importance_correction> && !objective<importance_correction>);
  static_assert(!separable<normalized_importance> && !separable<clip_cov> && !adjustment<ppo_clip> && !separable<int>);
}

TEST_CASE("objectives: weights multiply, an advantage per token is the same as one per sequence, float is near double",
          "[objective]") {
  const world<double> w = make_world<double>(3, advantages_per::sequence, masks::random, 0.7);
  const std::vector<double> weights = some_weights(w.size());
  world<double> spread = w;
  spread.advantages.clear();
  for (std::size_t i = 0; i < w.size(); ++i)
    spread.token_advantages.insert(spread.token_advantages.end(), w.offsets[i + 1] - w.offsets[i], w.advantages[i]);
  const world<float> single = make_world<float>(3, advantages_per::sequence, masks::random, 0.7);
  const std::vector<float> single_weights(weights.begin(), weights.end());
  for_each_objective([&](const std::string& name, const auto& o, unsigned) {
    INFO(name);
    const std::vector<double> c = coefficients(o, w.view(), weights), kappa = coefficients(o, w.view());
    const std::vector<double> t = coefficients(o, spread.view(), weights);
    const std::vector<float> f = coefficients(o, single.view(), single_weights);
    for (std::size_t i = 0; i < w.size(); ++i)
      for (std::size_t k = w.offsets[i]; k < w.offsets[i + 1]; ++k) {
        CHECK(c[k] == Approx(weights[i] * kappa[k]).margin(1e-14));
        CHECK(t[k] == Approx(c[k]).margin(1e-13));
        CHECK(static_cast<double>(f[k]) == Approx(c[k]).epsilon(2e-5).margin(2e-5));
      }
  });
}

TEST_CASE("objectives: empty batches, empty sequences, everything masked", "[objective]") {
  for_each_objective([](const std::string& name, const auto& o, unsigned) {
    INFO(name);
    CHECK(coefficients(o, token_batch<double>{}).empty());
    world<double> w;
    w.offsets = {0, 0, 0};
    w.advantages = {1, -1};
    CHECK(coefficients(o, w.view()).empty());
    w = make_world<double>(1);
    std::fill(w.mask.begin(), w.mask.end(), std::uint8_t{0});
    CHECK(coefficients(o, w.view()) == std::vector<double>(w.tokens(), 0.0));
  });
}

TEST_CASE("objectives: what is missing or of the wrong size is named", "[objective]") {
  const world<double> w = make_world<double>(1);
  const auto message = [](const auto& f) {
    try {
      f();
    } catch (const std::invalid_argument& error) {
      return std::string(error.what());
    }
    return std::string("no error");
  };
  const struct {
    unsigned bit;
    const char* name;
    std::span<const double> token_batch<double>::*member;
  } arrays[] = {{now, "log_probs", &token_batch<double>::log_probs},
                {old, "old_log_probs", &token_batch<double>::old_log_probs},
                {sampled, "sampled_log_probs", &token_batch<double>::sampled_log_probs},
                {reference, "reference_log_probs", &token_batch<double>::reference_log_probs},
                {entropy, "entropies", &token_batch<double>::entropies}};
  for_each_objective([&](const std::string& name, const auto& o, unsigned reads) {
    INFO(name);
    for (const auto& a : arrays) {
      token_batch<double> b = w.view();
      b.*a.member = {};
      const std::string missing = message([&] { (void)coefficients(o, b); });
      if (reads & a.bit)
        CHECK_THAT(missing, Catch::Contains(": " + std::string(a.name) + " is not given"));
      else
        CHECK(missing == "no error");
      b.*a.member = (w.view().*a.member).first(2);
      CHECK_THAT(message([&] { (void)coefficients(o, b); }), Catch::Contains(": 2 " + std::string(a.name) + " for "));
    }
    token_batch<double> b = w.view();
    b.advantages = {};
    CHECK_THAT(message([&] { (void)coefficients(o, b); }), Catch::Contains("neither advantages nor token_advantages"));
    b = w.view();
    b.token_advantages = b.log_probs;
    CHECK_THAT(message([&] { (void)coefficients(o, b); }), Catch::Contains("both advantages and token_advantages"));
    b = w.view();
    std::vector<std::size_t> offsets = w.offsets;
    std::swap(offsets[3], offsets[6]);
    b.offsets = offsets;
    CHECK_THAT(message([&] { (void)coefficients(o, b); }), Catch::Contains("is below offsets["));
    const std::vector<double> few(3, 1.0);
    CHECK_THAT(message([&] { (void)coefficients(o, w.view(), few); }), Catch::Contains("3 weights for 12 sequences"));
    std::vector<double> weights(w.size(), 1.0);
    weights[5] = std::numeric_limits<double>::infinity();
    CHECK_THAT(message([&] { (void)coefficients(o, w.view(), weights); }), Catch::Contains("weight 5 is inf"));
    std::vector<double> room(2);
    CHECK_THAT(message([&] { o(w.view(), {}, std::span<double>(room), std::span<branch>{}); }),
               Catch::Contains("room for 2 coefficients"));
  });
}

TEST_CASE("objectives: options out of range are named", "[objective]") {
  const double nan = std::numeric_limits<double>::quiet_NaN();
  const token_batch<double> none;
  const auto check = [&](const auto& o, const std::string& part) {
    CHECK_THROWS_WITH(coefficients(o, none), Catch::Contains(part));
  };
  check(ppo_clip{.low = -0.1}, "ppo_clip: low is -0.1");
  check(ppo_clip{.high = nan}, "ppo_clip: high is nan");
  check(ppo_clip{.dual = 1}, "ppo_clip: dual is 1");
  check(ppo_clip{.log_ratio_limit = 0}, "ppo_clip: log_ratio_limit is 0");
  check(gspo{.low = nan}, "gspo: low is nan");
  check(gmpo{.epsilon = -1}, "gmpo: epsilon is -1");
  check(cispo{.min = 2, .max = 1}, "cispo: the weights are in [2, 1]");
  check(sapo{.tau_negative = 0}, "sapo: tau_negative is 0");
  check(sapo{.tau_positive = 1e-31}, "sapo: tau_positive is 1e-31");
  check(sapo{.tau_negative = 2e6}, "sapo: tau_negative is 2000000");
  check(topr{.min = -1}, "topr: the weights are in [-1, 1]");
  check(mini_rl{.cap = nan}, "mini_rl: cap is nan");
  check(dppo{.high = -1}, "dppo: high is -1");
  check(vespo{.k_negative = nan}, "vespo: a shape parameter is nan");
  check(dro{.beta = 0}, "dro: beta is 0");
  check(ratio_normalized_clip{.scale = 0}, "scale is 0");
  check(unified_gradient{.low = nan}, "unified_gradient: low is nan");
  check(shaped_imitation{.gamma = 0}, "gamma is 0");
  check(clip_cov{.share = 0}, "clip_cov: share is 0");
  check(kl_cov{.share = 2}, "kl_cov: share is 2");
  check(after_policy_gradient{importance_correction{.min = 3}}, "the weights are in [3, 2]");
  check(after_policy_gradient{off_policy_mask{.threshold = nan}}, "threshold is nan");
  check(after_policy_gradient{kl_penalty{.coefficient = nan}}, "coefficient is nan");
  check(after_policy_gradient{kl_penalty{.input_limit = 0}}, "input_limit is 0");
  check(after_policy_gradient{entropy_bonus{.coefficient = nan}}, "coefficient is nan");
  check(after_policy_gradient{high_entropy_only{nan}}, "threshold is nan");
}

TEST_CASE("objectives: a value inside the mask that is not finite is named, in every array that is read",
          "[objective]") {
  const double bad_values[] = {std::numeric_limits<double>::quiet_NaN(), std::numeric_limits<double>::infinity(),
                               -std::numeric_limits<double>::infinity()};
  for (std::uint64_t seed = 0; seed < 40; ++seed) {
    const random_key key = random_key(seed).fold(5);
    const advantages_per per = seed % 2 == 0 ? advantages_per::sequence : advantages_per::token;
    world<double> w =
        make_world<double>(seed, per, seed % 3 == 0 ? masks::none : masks::random, 1.6, 6, seed % 10 == 9 ? 2500 : 9);
    if (w.tokens() == 0) continue;
    std::size_t t = key.below(w.tokens(), 0);
    while (t < w.tokens() && !w.active(t)) ++t;
    if (t == w.tokens()) continue;
    const double bad = bad_values[seed % 3];
    const struct {
      unsigned bit;
      std::string name;
      std::vector<double>* values;
    } arrays[] = {{now, "log_probs", &w.log_probs},
                  {old, "old_log_probs", &w.old_log_probs},
                  {sampled, "sampled_log_probs", &w.sampled_log_probs},
                  {reference, "reference_log_probs", &w.reference_log_probs},
                  {entropy, "entropies", &w.entropies},
                  {64, "token_advantages", &w.token_advantages}};
    for (const auto& a : arrays) {
      if (a.values->empty()) continue;
      const double held = (*a.values)[t];
      (*a.values)[t] = bad;
      for_each_objective([&](const std::string& name, const auto& o, unsigned reads) {
        INFO(name << ", seed " << seed);
        if ((reads | 64) & a.bit)
          CHECK_THROWS_WITH(coefficients(o, w.view()), Catch::Contains(concat(": ", a.name, "[", t, "] is ", bad)));
        else
          CHECK_NOTHROW(coefficients(o, w.view()));
      });
      (*a.values)[t] = held;
    }
    if (per == advantages_per::sequence) {
      w.advantages[2] = bad;
      for_each_objective([&](const std::string& name, const auto& o, unsigned) {
        INFO(name);
        CHECK_THROWS_WITH(coefficients(o, w.view()), Catch::Contains(concat("advantage 2 is ", bad)));
      });
    }
  }
  // A part of a batch counts tokens as the whole does.
  world<double> w = make_world<double>(4, advantages_per::sequence, masks::none);
  const std::size_t t = w.offsets[w.size() - 1];
  REQUIRE(t < w.tokens());
  w.old_log_probs[t] = bad_values[0];
  const token_batch<double> last = part(w.view(), w.size() - 3, w.size());
  CHECK_THROWS_WITH(coefficients(ppo_clip{}, last), Catch::Contains(concat("old_log_probs[", t, "] is nan")));
}

TEST_CASE("objectives: huge log-ratios and advantages give the documented clamp or an error, never NaN",
          "[objective]") {
  const double sizes[] = {1, 19.9, 20.1, 60, 88.2, 90, 700, 720, 1e4, 1e30, 1e308};
  std::size_t finite = 0, refused = 0;
  for (std::uint64_t seed = 0; seed < 120; ++seed) {
    const random_key key = random_key(seed).fold(6);
    world<double> w = make_world<double>(seed, seed % 2 == 0 ? advantages_per::sequence : advantages_per::token,
                                         seed % 3 == 0 ? masks::none : masks::random, 1.6, 5, 6);
    for (std::size_t t = 0; t < w.tokens(); ++t) {
      if (!w.active(t)) continue;
      const double size = sizes[key.below(11, t)];
      auto& values = *std::array{&w.log_probs, &w.old_log_probs, &w.sampled_log_probs,
                                 &w.reference_log_probs}[key.below(4, 1000 + t)];
      values[t] += key.below(2, 2000 + t) == 0 ? size : -size;
      if (!w.token_advantages.empty() && key.below(20, 3000 + t) == 0) w.token_advantages[t] *= size;
    }
    world<float> single;
    single.offsets = w.offsets;
    single.mask = w.mask;
    const auto narrow = [](std::vector<float>& to, const std::vector<double>& from) {
      for (double x : from) to.push_back(static_cast<float>(std::clamp(x, -3e38, 3e38)));
    };
    narrow(single.advantages, w.advantages);
    narrow(single.token_advantages, w.token_advantages);
    narrow(single.log_probs, w.log_probs);
    narrow(single.old_log_probs, w.old_log_probs);
    narrow(single.sampled_log_probs, w.sampled_log_probs);
    narrow(single.reference_log_probs, w.reference_log_probs);
    narrow(single.entropies, w.entropies);
    for_each_objective([&](const std::string& name, const auto& o, unsigned) {
      INFO(name << ", seed " << seed);
      const auto check = [&](const auto& batch) {
        try {
          for (auto c : coefficients(o, batch))
            if (!std::isfinite(c)) FAIL("a coefficient is " << c);
          ++finite;
        } catch (const std::invalid_argument& error) {
          CHECK_THAT(error.what(), Catch::Contains("not a finite number"));
          ++refused;
        }
      };
      check(w.view());
      check(single.view());
    });
  }
  CHECK(finite > 1000);
  CHECK(refused > 100);
  // A ratio that overflows is an error wherever no clamp is documented.
  const std::vector<std::size_t> offsets{0, 2};
  const std::vector<double> gain{1}, loss{-1}, now{-1, -1}, far{-1001, -1}, near{1000, -1};
  token_batch<double> one;
  one.offsets = offsets;
  one.advantages = loss;
  one.log_probs = now;
  one.old_log_probs = one.reference_log_probs = one.sampled_log_probs = far;
  const double none = std::numeric_limits<double>::infinity();
  const auto message = Catch::Contains("not a finite number");
  CHECK_THROWS_WITH(coefficients(kl_cov{}, one), message);
  CHECK_THROWS_WITH(coefficients(unified_gradient{.over = reference_policy::old}, one), message);
  const std::vector<double> behind{-1, 1000};  // the message names the token, not only its sequence
  one.log_probs = behind;
  one.old_log_probs = now;
  CHECK_THROWS_WITH(coefficients(unified_gradient{.over = reference_policy::old}, one),
                    Catch::Contains("the coefficient of token 1 is") && Catch::Contains("log_probs[1] is 1000"));
  one.log_probs = now;
  one.old_log_probs = far;
  CHECK_THROWS_WITH(coefficients(ppo_clip{.log_ratio_limit = none}, one), message);
  CHECK_THROWS_WITH(coefficients(ratio_normalized_clip{}, one), message);
  CHECK_THROWS_WITH(coefficients(cispo{.max = none, .log_ratio_limit = none}, one), message);
  CHECK(coefficients(ppo_clip{.dual = 3, .log_ratio_limit = none}, one) == std::vector<double>{0, -1});
  CHECK(coefficients(cispo{.log_ratio_limit = none}, one) == std::vector<double>{-5, -1});
  std::vector<double> c(2);
  kl_penalty nemo{
      .coefficient = 1, .ratio = kl_ratio::sampled, .input_limit = 20, .output_limit = 10, .clamp = kl_clamp::weighted};
  nemo(one, {}, std::span<double>(c));
  CHECK(c == std::vector<double>{0, 0});
  one.reference_log_probs = near;
  CHECK_THROWS_WITH(kl_penalty{}(one, {}, std::span<double>(c)), message);
  kl_penalty{.coefficient = 1, .gradient = kl_gradient::k2}(one, {}, std::span<double>(c = {0, 0}));
  CHECK(c == std::vector<double>{1001, 0});
  // So are covariances and penalties that overflow.
  const std::vector<double> huge{1.7e308, 1.7e308}, weight{100};
  one.old_log_probs = now;
  one.advantages = {};
  one.token_advantages = huge;
  CHECK_THROWS_WITH(coefficients(kl_cov{}, one), message);
  one.token_advantages = {};
  one.advantages = gain;
  const std::vector<double> ahead{-2, -2};
  one.old_log_probs = ahead;
  CHECK_THROWS_WITH(coefficients(kl_cov{.coefficient = 1e307}, one, weight), message);
  // And coefficients that the division by a mean weight below 1 takes beyond all doubles: weights e and e^-9.
  const std::vector<double> sampled{-2, 8};
  one.old_log_probs = now;
  one.sampled_log_probs = sampled;
  std::vector<double> large{1e308, 0};
  CHECK_THROWS_WITH(normalized_importance{{.max = 1}}(one, std::span<double>(large)), message);
  // With its clamps PPO takes any finite log-probability.
  world<double> w = make_world<double>(3);
  for (std::size_t t = 0; t < w.tokens(); ++t) w.log_probs[t] = t % 2 == 0 ? 1e308 : -1e307;
  CHECK_NOTHROW(coefficients(ppo_clip{}, w.view()));
}

namespace {
template <class R, class A>
concept makes_batch = requires(R&& r, A&& advantages) {
  batch_of(std::forward<R>(r), std::forward<A>(advantages));
};
static_assert(makes_batch<rollouts&, std::vector<double>&> && makes_batch<const rollouts&, const std::vector<double>&>);
static_assert(makes_batch<rollouts&, std::span<double>> && makes_batch<rollouts&, std::span<const double>>);
static_assert(!makes_batch<rollouts&, std::vector<double>> && !makes_batch<rollouts&, const std::vector<double>>);
static_assert(!makes_batch<rollouts, std::vector<double>&> && !makes_batch<rollouts, std::span<const double>>);
static_assert(!makes_batch<rollouts, std::vector<double>>);
}  // namespace

TEST_CASE("batch_of, part, even_parts", "[objective]") {
  rollouts r;
  r.offsets = {0, 2, 2, 5};
  r.tokens = {1, 2, 3, 4, 5};
  r.log_probs = {-1, -2, -3, -4, -5};
  r.entropies = {1, 1, 1, 1, 1};
  const std::vector<double> advantages{1, 2, -3};
  const token_batch<double> b = batch_of(r, advantages);
  CHECK(coefficients(ppo_clip{}, b) == std::vector<double>{1, 1, -3, -3, -3});  // on policy all are REINFORCE
  CHECK(coefficients(policy_gradient{}, b, std::vector<double>(3, 0.5)) == [&] {
    rollouts with_prompts = r;
    with_prompts.prompts = {0, 0, 0};
    return reinforce_coefficients(with_prompts, advantages, 0.5);
  }());
  const token_batch<double> tail = part(part(b, 1, 3), 1, 2);
  CHECK(tail.size() == 1);
  CHECK(tail.tokens() == 3);
  CHECK(tail.offsets.front() == 2);
  CHECK(tail.log_probs.front() == -3);
  CHECK(part(b, 1, 1).tokens() == 0);
  CHECK_THROWS_AS(part(b, 2, 4), std::invalid_argument);
  CHECK(even_parts(b, 1) == std::vector<std::size_t>{0, 3});
  CHECK(even_parts(b, 2) == std::vector<std::size_t>{0, 1, 3});
  CHECK_THROWS_AS(even_parts(b, 0), std::invalid_argument);
  static_assert(separable<ppo_clip>);
  static_assert(objective<clip_cov> && !separable<clip_cov>);
  static_assert(!objective<int>);
}

TEST_CASE("branch_counts add up", "[objective]") {
  const std::vector<branch> codes{branch::active, branch::masked, branch::dual, branch::active};
  branch_counts c = count_branches(codes);
  CHECK(c.unmasked() == 3);
  CHECK(c.share(branch::dual) == Approx(1 / 3.0));
  c += c;
  CHECK(c[branch::active] == 4);
  CHECK(branch_counts{}.share(branch::active) == 0);
}
