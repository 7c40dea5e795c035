/// Every objective's coefficients against finite differences of its loss, written out here with its stop-gradients.

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include <rlvr/objective/cispo.hpp>
#include <rlvr/objective/covariance.hpp>
#include <rlvr/objective/dppo.hpp>
#include <rlvr/objective/dro.hpp>
#include <rlvr/objective/gmpo.hpp>
#include <rlvr/objective/gspo.hpp>
#include <rlvr/objective/mini_rl.hpp>
#include <rlvr/objective/policy_gradient.hpp>
#include <rlvr/objective/ppo_clip.hpp>
#include <rlvr/objective/ratio_normalized_clip.hpp>
#include <rlvr/objective/sapo.hpp>
#include <rlvr/objective/topr.hpp>
#include <rlvr/objective/unified.hpp>
#include <rlvr/objective/vespo.hpp>

#include "objective_world.hpp"

using namespace rlvr;
using namespace rlvr::testing;

namespace {

using values = std::vector<double>;
constexpr double infinity = std::numeric_limits<double>::infinity();

/// The loss sum_i w_i sum_t l(i, t, x, frozen) of a per-token l.
template <class Token>
auto token_loss(Token token) {
  return [token](const world<double>& w, const values& weights) -> loss_function {
    return [&w, weights, token](const values& x, const values& frozen) {
      return sum_tokens(w, weights,
                        [&](std::size_t i, std::size_t t) { return token(w, w.advantage(i, t), t, x[t], frozen[t]); });
    };
  };
}

/// Sum over the active tokens of a sequence.
template <class F>
double sum_sequence(const world<double>& w, std::size_t i, F f) {
  double sum = 0;
  for (std::size_t t = w.offsets[i]; t < w.offsets[i + 1]; ++t) sum += w.active(t) ? f(t) : 0.0;
  return sum;
}

double clipped_surrogate(double r, double a, double low, double high) {
  return std::min(r * a, std::clamp(r, 1 - low, 1 + high) * a);
}

}  // namespace

TEST_CASE("policy_gradient: kappa is the loss's", "[objective]") {
  check_kappa(policy_gradient{},
              token_loss([](const auto&, double a, std::size_t, double x, double) { return -a * x; }));
}

TEST_CASE("ppo_clip: kappa is the loss's in every branch", "[objective]") {
  const double low = 0.2, high = 0.28, dual = 3, limit = 1.3;
  const auto loss = [&](double cap, double clamp) {
    return token_loss([=](const world<double>& w, double a, std::size_t t, double x, double) {
      const double r = std::exp(std::clamp(x - w.old_log_probs[t], -clamp, clamp));
      const double surrogate = clipped_surrogate(r, a, low, high);
      return -(a < 0 ? std::max(surrogate, cap * a) : surrogate);
    });
  };
  const branch_counts plain =
      check_kappa(ppo_clip{.low = low, .high = high, .log_ratio_limit = limit}, loss(1e300, limit));
  for (branch b : {branch::active, branch::clipped_high, branch::clipped_low, branch::saturated, branch::masked})
    CHECK(plain[b] > 0);
  CHECK(plain[branch::dual] == 0);
  const branch_counts with_cap =
      check_kappa(ppo_clip{.low = low, .high = high, .dual = dual, .log_ratio_limit = infinity}, loss(dual, infinity));
  CHECK(with_cap[branch::dual] > 0);
  CHECK(with_cap[branch::saturated] == 0);

  // TRL's delta: min(min(r, delta) A, clamp(r) A) has the same gradient for delta above the clip range.
  check_kappa(ppo_clip{.low = low, .high = high, .dual = dual, .log_ratio_limit = infinity},
              token_loss([=](const world<double>& w, double a, std::size_t t, double x, double) {
                const double r = std::exp(x - w.old_log_probs[t]);
                return -std::min(std::min(r, dual) * a, std::clamp(r, 1 - low, 1 + high) * a);
              }));
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

TEST_CASE("gspo: kappa is the loss's in both forms and with both ratios", "[objective]") {
  const double low = 0.15, high = 0.2;
  for (sequence_ratio ratio : {sequence_ratio::geometric_mean, sequence_ratio::product})
    for (double limit : {0.3, infinity})
      for (gspo_form form : {gspo_form::sequence, gspo_form::token}) {
        const auto loss = [=](const world<double>& w, const values& weights) -> loss_function {
          return [&w, weights, form, ratio, low, high, limit](const values& x, const values& frozen) {
            double sum = 0;
            for (std::size_t i = 0; i < w.size(); ++i) {
              const double n = w.length(i), count = ratio == sequence_ratio::geometric_mean ? n : 1.0;
              // Once per active token, each of them weighing w_i; for the sequence form s is the mean's or the sum's
              // share of one token: see the weights below.
              const auto log_s = [&](const values& y) {
                return sum_sequence(w, i, [&](std::size_t t) { return y[t] - w.old_log_probs[t]; }) / count;
              };
              for (std::size_t t = w.offsets[i]; t < w.offsets[i + 1]; ++t) {
                if (!w.active(t)) continue;
                const double own = log_s(frozen) + (x[t] - frozen[t]);
                const double s = std::exp(std::min(form == gspo_form::token ? own : log_s(x), limit));
                // Through the product, the n tokens' losses would each move with every token: a sequence counts once.
                const double share = form == gspo_form::sequence && ratio == sequence_ratio::product ? 1 / n : 1.0;
                sum -= weights[i] * share * clipped_surrogate(s, w.advantage(i, t), low, high);
              }
            }
            return sum;
          };
        };
        const branch_counts seen = check_kappa(
            gspo{.low = low, .high = high, .form = form, .ratio = ratio, .log_ratio_limit = limit}, loss, 0.6);
        for (branch b : {branch::active, branch::clipped_high, branch::clipped_low, branch::masked}) CHECK(seen[b] > 0);
        CHECK((seen[branch::saturated] > 0) == (limit < infinity));
      }
}

TEST_CASE("gmpo: kappa is the loss's", "[objective]") {
  const double low = 0.3, high = 0.4;
  for (double epsilon : {0.0, 0.1}) {
    const auto loss = [=](const world<double>& w, const values& weights) -> loss_function {
      return [&w, weights, low, high, epsilon](const values& x, const values&) {
        double sum = 0;
        for (std::size_t i = 0; i < w.size(); ++i) {
          const double length = w.length(i), n = length + epsilon;
          if (length == 0) continue;
          const double z = sum_sequence(w, i, [&](std::size_t t) {
            const double a = w.advantage(i, t), sign = static_cast<double>((a > 0) - (a < 0));
            const double d = x[t] - w.old_log_probs[t];
            return sign * std::min(sign * d, sign * std::clamp(d, -low, high));
          });
          const double a = sum_sequence(w, i, [&](std::size_t t) { return w.advantage(i, t); }) / n;
          sum -= weights[i] * length * a * std::exp(z / n);  // weights divide by the length
        }
        return sum;
      };
    };
    const branch_counts seen = check_kappa(gmpo{.low = low, .high = high, .epsilon = epsilon}, loss);
    for (branch b : {branch::active, branch::clipped_high, branch::clipped_low, branch::masked}) CHECK(seen[b] > 0);
  }
}

TEST_CASE("cispo and masked_ratio: kappa is the loss's", "[objective]") {
  const branch_counts seen =
      check_kappa(cispo{.min = 0.7, .max = 1.5},
                  token_loss([](const world<double>& w, double a, std::size_t t, double x, double sg) {
                    return -std::clamp(std::exp(sg - w.old_log_probs[t]), 0.7, 1.5) * a * x;
                  }));
  for (branch b : {branch::active, branch::clipped_high, branch::clipped_low}) CHECK(seen[b] > 0);
  const branch_counts limited =
      check_kappa(cispo{.min = 0.1, .max = 1.9, .log_ratio_limit = 0.5},
                  token_loss([](const world<double>& w, double a, std::size_t t, double x, double sg) {
                    const double r = std::exp(std::clamp(sg - w.old_log_probs[t], -0.5, 0.5));
                    return -std::clamp(r, 0.1, 1.9) * a * x;
                  }));
  CHECK(limited[branch::saturated] > 0);
  const branch_counts masked =
      check_kappa(masked_ratio{.low = 0.3, .high = 0.5},
                  token_loss([](const world<double>& w, double a, std::size_t t, double x, double sg) {
                    const double r = std::exp(sg - w.old_log_probs[t]);
                    return r > 0.7 && r < 1.5 ? -r * a * x : 0.0;
                  }));
  for (branch b : {branch::active, branch::clipped_high, branch::clipped_low}) CHECK(masked[b] > 0);
}

TEST_CASE("sapo: kappa is the loss's, and the advantage at ratio one", "[objective]") {
  const branch_counts seen =
      check_kappa(sapo{.tau_positive = 1.0, .tau_negative = 1.4, .log_ratio_limit = 1.2},
                  token_loss([](const world<double>& w, double a, std::size_t t, double x, double) {
                    const double r = std::exp(std::clamp(x - w.old_log_probs[t], -1.2, 1.2)), tau = a > 0 ? 1.0 : 1.4;
                    return -4 / tau / (1 + std::exp(-tau * (r - 1))) * a;
                  }));
  CHECK(seen[branch::active] > 0);
  CHECK(seen[branch::saturated] > 0);
  world<double> w = make_world<double>(4);
  w.old_log_probs = w.log_probs;
  const values c = coefficients(sapo{}, w.view());
  for (std::size_t i = 0; i < w.size(); ++i)
    for (std::size_t t = w.offsets[i]; t < w.offsets[i + 1]; ++t)
      CHECK(c[t] == Approx(w.active(t) ? w.advantages[i] : 0.0));
}

TEST_CASE("topr: kappa is the loss's at both levels", "[objective]") {
  for (importance_level level : {importance_level::token, importance_level::sequence}) {
    const auto loss = [=](const world<double>& w, const values& weights) -> loss_function {
      return [&w, weights, level](const values& x, const values& sg) {
        return sum_tokens(w, weights, [&](std::size_t i, std::size_t t) {
          const double a = w.advantage(i, t);
          const double d = level == importance_level::token
                               ? sg[t] - w.old_log_probs[t]
                               : sum_sequence(w, i, [&](std::size_t u) { return sg[u] - w.old_log_probs[u]; });
          return -(a >= 0 ? 1.0 : std::clamp(std::exp(d), 0.3, 1.0)) * a * x[t];
        });
      };
    };
    const branch_counts seen = check_kappa(topr{.min = 0.3, .level = level}, loss);
    for (branch b : {branch::active, branch::clipped_high, branch::clipped_low}) CHECK(seen[b] > 0);
  }
}

TEST_CASE("mini_rl: kappa is the loss's", "[objective]") {
  const branch_counts seen = check_kappa(
      mini_rl{.cap = 2}, token_loss([](const world<double>& w, double a, std::size_t t, double x, double sg) {
        const double r = std::exp(sg - w.old_log_probs[t]), v = std::exp(sg - w.sampled_log_probs[t]);
        const bool open = a > 0 ? r <= 1.27 : a < 0 ? r >= 0.8 : true;
        return open ? -std::min(v, 2.0) * a * x : 0.0;
      }));
  for (branch b : {branch::active, branch::clipped_high, branch::clipped_low}) CHECK(seen[b] > 0);
}

TEST_CASE("dppo: kappa is the loss's for both divergences", "[objective]") {
  for (binary_divergence divergence : {binary_divergence::total_variation, binary_divergence::kl}) {
    const double low = 0.1, high = 0.12, cap = 1.5;
    // Log-probabilities of the world may be above 0 by chance: a probability here is capped just below 1.
    const auto loss = [=](const world<double>& w, const values& weights) -> loss_function {
      return [=, &w](const values& x, const values& sg) {
        return sum_tokens(w, weights, [&](std::size_t i, std::size_t t) {
          const double a = w.advantage(i, t), p = std::exp(sg[t]), q = std::exp(w.old_log_probs[t]);
          const double kl = q * (w.old_log_probs[t] - sg[t]) + (1 - q) * std::log((1 - q + 1e-8) / (1 - p + 1e-8));
          bool valid = false;
          if (divergence == binary_divergence::total_variation)
            valid = a > 0 ? p - q <= high : p - q >= -low;
          else
            valid = a > 0 ? kl <= high || p <= q : kl <= low || p >= q;
          return valid ? -std::min(std::exp(std::clamp(sg[t] - w.old_log_probs[t], -0.5, 0.5)), cap) * a * x[t] : 0.0;
        });
      };
    };
    branch_counts seen;
    for (std::uint64_t seed = 0; seed < 8; ++seed) {
      world<double> w = make_world<double>(200 + seed, advantages_per::token);
      for (std::size_t t = 0; t < w.tokens(); ++t)
        w.old_log_probs[t] = std::min(w.old_log_probs[t], -0.01 + 0 * w.log_probs[t]);
      const values weights = some_weights(w.size());
      values c(w.tokens());
      std::vector<branch> codes(w.tokens());
      dppo{.low = low, .high = high, .cap = cap, .log_ratio_limit = 0.5, .divergence = divergence}(
          w.view(), weights, std::span<double>(c), codes);
      check_close(c, descent(w, loss(w, weights)));
      seen += count_branches(codes);
    }
    for (branch b : {branch::active, branch::clipped_high, branch::clipped_low}) CHECK(seen[b] > 0);
  }
}

TEST_CASE("vespo: kappa is the loss's", "[objective]") {
  const auto loss = [](const world<double>& w, const values& weights) -> loss_function {
    return [&w, weights](const values& x, const values& sg) {
      return sum_tokens(w, weights, [&](std::size_t i, std::size_t t) {
        const double a = w.advantage(i, t), k = a >= 0 ? 2 : 3, lambda = a >= 0 ? 3 : 2;
        const double sum =
            sum_sequence(w, i, [&](std::size_t u) { return std::clamp(sg[u] - w.old_log_probs[u], -20.0, 20.0); });
        const double log_w = std::clamp(sum, std::log(1e-8), 20.0);
        return -std::exp(lambda + k * log_w - lambda * std::exp(log_w)) * a * x[t];
      });
    };
  };
  CHECK(check_kappa(vespo{}, loss)[branch::active] > 0);
  // Log-ratios beyond the clamps: sequences of 25, of -25, and of both in turn.
  world<double> w = make_world<double>(5, advantages_per::sequence, masks::none, 0.1, 6, 6);
  for (std::size_t i = 0; i < w.size(); ++i)
    for (std::size_t t = w.offsets[i]; t < w.offsets[i + 1]; ++t)
      w.old_log_probs[t] = w.log_probs[t] + (i == 0 || (i > 1 && t % 2 == 0) ? 25 : -24.5);
  std::vector<branch> codes(w.tokens());
  values c(w.tokens());
  vespo{}(w.view(), {}, std::span<double>(c), codes);
  check_close(c, descent(w, loss(w, values(w.size(), 1.0))));
  CHECK(count_branches(codes)[branch::saturated] > 0);
}

TEST_CASE("dro: kappa is the loss's at both levels", "[objective]") {
  check_kappa(dro{.beta = 0.3}, token_loss([](const world<double>& w, double a, std::size_t t, double x, double) {
                const double d = x - w.old_log_probs[t];
                return -a * x + 0.15 * d * d;
              }));
  for (std::uint64_t seed = 0; seed < 5; ++seed) {
    const world<double> w = make_world<double>(seed);
    const values weights = some_weights(w.size());
    check_close(coefficients(dro{.beta = 0.3, .level = importance_level::sequence}, w.view(), weights),
                descent(w, [&](const values& x, const values&) {
                  double sum = 0;
                  for (std::size_t i = 0; i < w.size(); ++i) {
                    const double d = sum_sequence(w, i, [&](std::size_t t) { return x[t] - w.old_log_probs[t]; });
                    const double gap = w.advantages[i] - 0.3 * d;
                    sum += weights[i] * gap * gap / (2 * 0.3);
                  }
                  return sum;
                }));
  }
}

TEST_CASE("ratio_normalized_clip: kappa is the loss's", "[objective]") {
  const branch_counts seen =
      check_kappa(ratio_normalized_clip{.low = 0.1, .high = 0.2, .scale = 0.5, .step = 0.25},
                  token_loss([](const world<double>& w, double a, std::size_t t, double x, double) {
                    return -clipped_surrogate(std::exp(0.5 * (x - w.old_log_probs[t])), a, 0.1, 0.2) / 0.25;
                  }));
  for (branch b : {branch::active, branch::clipped_high, branch::clipped_low}) CHECK(seen[b] > 0);
  const world<double> w = make_world<double>(9);
  check_close(coefficients(ratio_normalized_clip{}, w.view()), coefficients(ppo_clip{}, w.view()), 1e-14);
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
  // Its own loss: -A times pi / sg(pi_ref), for pi_ref = 1.
  check_kappa(unified_gradient{.over = reference_policy::one},
              token_loss([](const auto&, double a, std::size_t, double x, double) { return -a * std::exp(x); }));
  check_kappa(shaped_imitation{}, token_loss([](const auto&, double a, std::size_t, double x, double) {
                return -a * std::exp(x) / (std::exp(x) + 0.1);
              }));
}

namespace {

/// cov_t over the batch, by definition.
values covariances(const world<double>& w, const values& sg) {
  double n = 0, a = 0, l = 0;
  for (std::size_t i = 0; i < w.size(); ++i)
    for (std::size_t t = w.offsets[i]; t < w.offsets[i + 1]; ++t)
      if (w.active(t)) n += 1, a += w.advantage(i, t), l += sg[t];
  values cov(w.tokens());
  for (std::size_t i = 0; i < w.size(); ++i)
    for (std::size_t t = w.offsets[i]; t < w.offsets[i + 1]; ++t)
      if (w.active(t)) cov[t] = (w.advantage(i, t) - a / n) * (sg[t] - l / n);
  return cov;
}

}  // namespace

TEST_CASE("kl_cov: kappa is the loss's on the tokens of highest covariance", "[objective]") {
  const double share = 0.15, coefficient = 0.7;
  const branch_counts seen = check_kappa(
      kl_cov{.share = share, .coefficient = coefficient},
      [=](const world<double>& w, const values& weights) -> loss_function {
        values cov = covariances(w, w.log_probs), sorted;
        for (std::size_t t = 0; t < w.tokens(); ++t)
          if (w.active(t)) sorted.push_back(cov[t]);
        std::sort(sorted.rbegin(), sorted.rend());
        const auto k = std::max<std::size_t>(1, static_cast<std::size_t>(share * static_cast<double>(sorted.size())));
        const double least = sorted[k - 1];
        return [=, &w](const values& x, const values&) {
          return sum_tokens(w, weights, [&](std::size_t i, std::size_t t) {
            const double d = x[t] - w.old_log_probs[t];
            return -w.advantage(i, t) * std::exp(d) + (cov[t] >= least ? coefficient * std::fabs(d) : 0.0);
          });
        };
      });
  CHECK(seen[branch::active] > 0);
  CHECK(seen[branch::penalised] > 0);
  // On policy |D| has no slope: inert.
  world<double> w = make_world<double>(3);
  w.old_log_probs = w.log_probs;
  CHECK(coefficients(kl_cov{.share = 0.5, .coefficient = 9}, w.view()) == coefficients(policy_gradient{}, w.view()));
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
