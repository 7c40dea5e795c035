/// Loops written for vector code against the plain way: the exponential, the logarithm, groups side by side, the ends
/// of token loops.

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>
#include <limits>
#include <string>
#include <utility>
#include <vector>

#include <rlvr/advantage/centred.hpp>
#include <rlvr/advantage/deviation.hpp>
#include <rlvr/advantage/group_normalized.hpp>
#include <rlvr/advantage/mean_normalized.hpp>
#include <rlvr/core/logarithm.hpp>
#include <rlvr/core/random.hpp>
#include <rlvr/objective/dppo.hpp>
#include <rlvr/objective/importance.hpp>
#include <rlvr/objective/ppo_clip.hpp>
#include <rlvr/objective/sapo.hpp>

#include "catch.hpp"

using namespace rlvr;

namespace {

/// `count` groups of n rewards, some of them all equal.
struct equal_groups {
  std::vector<verdict> verdicts;
  groups g;

  equal_groups(std::size_t count, std::size_t n) {
    const random_key key(n);
    for (std::size_t i = 0; i < count; ++i) {
      for (std::size_t j = 0; j < n; ++j)
        verdicts.push_back({.reward = i % 7 == 0 ? 0.1 : static_cast<double>(key.below(9, i * n + j)) / 7});
      g.offsets.push_back(verdicts.size());
    }
  }
  std::vector<verdict> group(std::size_t i) const {
    const auto at = [&](std::size_t k) { return verdicts.begin() + static_cast<std::ptrdiff_t>(k); };
    return {at(g.begin(i)), at(g.end(i))};
  }
};

/// The advantages of each group as a batch of its own.
template <class A>
std::vector<double> one_by_one(const A& a, const equal_groups& w) {
  std::vector<double> out;
  for (std::size_t i = 0; i < w.g.size(); ++i) {
    groups alone;
    alone.offsets.push_back(w.g.size(i));
    for (double x : a(w.group(i), alone)) out.push_back(x);
  }
  return out;
}

template <class A>
void check_groups_side_by_side(const A& a) {
  for (const std::size_t n : {1, 2, 3, 8, 16, 17})
    for (const std::size_t count : {31, 32, 33, 100}) {
      const equal_groups w(count, n);
      const std::vector<double> together = a(w.verdicts, w.g), apart = one_by_one(a, w);
      REQUIRE(together.size() == apart.size());
      for (std::size_t i = 0; i < apart.size(); ++i) {
        REQUIRE(std::fabs(together[i] - apart[i]) <= 1e-13 * std::fabs(apart[i]));  // exact zeros stay exact
        if (n > 1 && i / n % 7 == 0) REQUIRE(together[i] == 0);
      }
    }
}

/// One sequence of `length` tokens.
struct one_sequence {
  std::vector<std::size_t> offsets;
  std::vector<float> advantages{-1.5f}, now, old;

  one_sequence(float advantage, std::vector<float> log_probs, std::vector<float> old_log_probs)
      : offsets{0, log_probs.size()}, advantages{advantage}, now(std::move(log_probs)), old(std::move(old_log_probs)) {}
  explicit one_sequence(std::size_t length) : offsets{0, length} {
    const random_key key(5);
    for (std::size_t t = 0; t < length; ++t) {
      now.push_back(-static_cast<float>(key.below(1000, t)) / 300);
      old.push_back(-static_cast<float>(key.below(1000, t + 100000)) / 300);
    }
  }
  token_batch<float> view() const {
    token_batch<float> b;
    b.offsets = offsets;
    b.advantages = advantages;
    b.log_probs = now;
    b.old_log_probs = old;
    return b;
  }
};

/// A token's coefficient and branch do not depend on how many tokens follow: vector code and what is left behind it
/// compute the same bits.
template <class O>
void check_ends(const O& o) {
  const one_sequence whole(1100);
  std::vector<float> c(1100);
  std::vector<branch> codes(1100);
  o(whole.view(), {}, std::span<float>(c), codes);
  for (const std::size_t length : {1, 2, 3, 7, 15, 17, 63, 65, 127, 128, 129, 640, 1023, 1025}) {
    const one_sequence part(length);
    std::vector<float> d(length);
    std::vector<branch> own(length);
    o(part.view(), {}, std::span<float>(d), own);
    REQUIRE(std::equal(d.begin(), d.end(), c.begin()));
    REQUIRE(std::equal(own.begin(), own.end(), codes.begin()));
  }
}

}  // namespace

/// Largest relative error of f over [first, last] in steps.
template <class Real, class F>
double worst_error(F f, Real first, Real last, Real step) {
  double worst = 0;
  for (Real x = first; x <= last; x += step) {
    const long double exact = std::exp(static_cast<long double>(x));
    worst = std::max(worst, static_cast<double>(std::fabs(static_cast<long double>(f(x)) / exact - 1)));
  }
  return worst;
}

TEST_CASE("vector_exp keeps its bounds", "[core]") {
  CHECK(worst_error<float>([](float x) { return vector_exp(x); }, -87.3f, 88.3f, 0.00037f) < 1.2e-7);
  CHECK(worst_error<float>([](float x) { return vector_exp(x); }, -1.f, 1.f, 3e-6f) < 1.2e-7);
  CHECK(worst_error<double>([](double x) { return vector_exp(x); }, -708, 709, 0.00193) < 4e-16);
  CHECK(worst_error<double>([](double x) { return vector_exp(x); }, -1, 1, 3.1e-6) < 4e-16);
  CHECK(vector_exp(1e30f) == std::numeric_limits<float>::infinity());
  CHECK(vector_exp(88.4f) == std::numeric_limits<float>::infinity());
  CHECK(std::isfinite(vector_exp(88.3f)));
  CHECK(vector_exp(-1e30f) == vector_exp(-87.3f));
  CHECK(vector_exp(1e300) == std::numeric_limits<double>::infinity());
  CHECK(vector_exp(709.5) == std::numeric_limits<double>::infinity());
  CHECK(std::isfinite(vector_exp(709.0)));
  CHECK(vector_exp(-1e300) == vector_exp(-708.0));
  CHECK(std::isnan(vector_exp(std::numeric_limits<float>::quiet_NaN())));
  CHECK(std::isnan(vector_exp(std::numeric_limits<double>::quiet_NaN())));
  CHECK(vector_exp(0.f) == 1);
  CHECK(vector_exp(0.0) == 1);
}

TEST_CASE("vector_exp_in_range keeps its bounds inside the range", "[core]") {
  const auto in_range = [](auto x) { return vector_exp_in_range(x); };
  CHECK(worst_error<float>(in_range, -87.3f, 88.3f, 0.00037f) < 1.2e-7);
  CHECK(worst_error<float>(in_range, -1.f, 1.f, 3e-6f) < 1.2e-7);
  CHECK(vector_exp_in_range(least_exponent<float>) > 0);
  for (const float x : {88.4f, 88.7f, most_exponent<float>})
    CHECK(vector_exp_in_range(x) == std::numeric_limits<float>::infinity());
  CHECK(vector_exp_in_range(0.f) == 1);
  for (double x = least_exponent<double>; x <= most_exponent<double>; x += 0.37)
    REQUIRE(vector_exp_in_range(x) == vector_exp(x));
}

TEST_CASE("clamps by integers are clamps", "[objective]") {
  const auto look = [](auto zero) {
    using Real = decltype(zero);
    constexpr Real infinity = std::numeric_limits<Real>::infinity();
    const std::vector<Real> values{-infinity,   Real(-1e30), -5, Real(-2.5), -1, Real(-1e-30), -zero,   zero,
                                   Real(1e-30), Real(0.5),   2,  Real(3.5),  4,  Real(1e30),   infinity};
    for (const Real x : values) {
      for (const Real least : {Real(-1), Real(-2.5), -infinity})
        for (const Real most : {Real(0.5), Real(3.5), infinity})
          REQUIRE(detail::clamp_around_zero(x, least, most) == std::clamp(x, least, most));
      for (const Real least : {zero, Real(0.25), Real(2)})
        if (x >= 0 && !std::signbit(x))
          REQUIRE(detail::clamp_positive(x, least, Real(3)) == std::clamp(x, least, Real(3)));
      REQUIRE(detail::clamp_positive(Real(1), Real(0.5), zero) == 0);
    }
  };
  look(0.f);
  look(0.0);
}

TEST_CASE("vector_log keeps its bounds", "[core]") {
  double worst = 0;
  const auto look = [&worst](auto x, auto exact) {
    const auto found = static_cast<decltype(exact)>(vector_log(x));
    worst = std::max(
        worst, exact == 0 ? std::fabs(static_cast<double>(found)) : std::fabs(static_cast<double>(found / exact - 1)));
  };
  for (std::uint32_t bits = 0x00800000u; bits < 0x7f800000u; bits += 4001) {
    const float x = std::bit_cast<float>(bits);
    look(x, std::log(static_cast<double>(x)));
  }
  for (int i = -200000; i <= 200000; ++i) {
    const float x = 1.f + static_cast<float>(i) * 2e-6f;
    look(x, std::log(static_cast<double>(x)));
  }
  CHECK(worst < 1.2e-7);
  worst = 0;
  for (std::uint64_t bits = 0x0010000000000000u; bits < 0x7ff0000000000000u; bits += 0x0000123456789abcu) {
    const double x = std::bit_cast<double>(bits);
    look(x, std::log(static_cast<long double>(x)));
  }
  for (int i = -200000; i <= 200000; ++i) {
    const double x = 1. + i * 2.3e-6;
    look(x, std::log(static_cast<long double>(x)));
  }
  CHECK(worst < 4e-16);
  CHECK(vector_log(1.f) == 0);
  CHECK(vector_log(1.) == 0);
  const float infinity = std::numeric_limits<float>::infinity();
  for (const float x : {0.f, -1.f, -infinity, infinity, 1e-40f, std::numeric_limits<float>::quiet_NaN()}) {
    CHECK(std::isnan(vector_log(x)));
    CHECK(std::isnan(vector_log(x == 1e-40f ? 1e-310 : static_cast<double>(x))));
  }
}

TEST_CASE("factors of many groups are those of each", "[advantage]") {
  constexpr std::size_t count = 12;
  const double squares[count] = {0,    1e-30, 1e-9,   0.25,   1,     3.7,
                                 1e12, 1e280, 1e-280, 1e-300, 1e300, std::numeric_limits<double>::min() / 16};
  for (const epsilon_place place :
       {epsilon_place::beside_deviation, epsilon_place::beside_variance, epsilon_place::variance_floor})
    for (const double epsilon : {0.0, 1e-6, 1e-4, 2.0})
      for (const std::size_t ddof : {0, 1})
        for (const std::size_t n : {2, 8}) {
          const deviation d{ddof, epsilon, place};
          double found[count];
          d.factors<count>(n, squares, found);
          for (std::size_t k = 0; k < count; ++k) {
            INFO("squares " << squares[k] << ", epsilon " << epsilon << ", ddof " << ddof << ", n " << n);
            REQUIRE(found[k] == d.factor(moments{n, 0.0, squares[k]}));
          }
        }
}

TEST_CASE("unscored and equal rewards among many groups", "[advantage]") {
  equal_groups w(64, 8);
  w.verdicts[3].scored = w.verdicts[8 * 40 + 5].scored = false;
  const std::vector<double> a = group_normalized{}(w.verdicts, w.g), alone = one_by_one(group_normalized{}, w);
  CHECK(a[3] == 0);
  CHECK(a[8 * 40 + 5] == 0);
  for (std::size_t i = 0; i < a.size(); ++i) REQUIRE(std::fabs(a[i] - alone[i]) <= 1e-13 * std::fabs(alone[i]));
  // Where the mean is 0, 1 / mean is no factor: the groups of zeros get zeros, the others what they get alone.
  for (std::size_t i = 0; i < 16; ++i) w.verdicts[i].reward = 0;
  const mean_normalized exact{.epsilon = 0};
  const std::vector<double> b = exact(w.verdicts, w.g), each = one_by_one(exact, w);
  for (std::size_t i = 0; i < b.size(); ++i) REQUIRE(std::fabs(b[i] - each[i]) <= 1e-13 * std::fabs(each[i]));
  for (std::size_t i = 0; i < 16; ++i) REQUIRE(b[i] == 0);
}

TEST_CASE("rewards whose squares nearly underflow get their exact advantages side by side too", "[advantage]") {
  equal_groups w(64, 8);
  for (std::size_t i = 0; i < w.verdicts.size(); ++i) w.verdicts[i].reward = i % 8 == 0 ? 1e-155 : 0.0;
  const double mean = 1e-155 / 8, root = std::sqrt(1e-155 * (1e-155 - mean) / 7);
  const std::vector<double> a = group_normalized{.epsilon = 0}(w.verdicts, w.g);
  for (std::size_t i = 0; i < a.size(); ++i)
    REQUIRE(std::fabs(a[i] - ((i % 8 == 0 ? 1e-155 : 0.0) - mean) / root) < 1e-6);
}

TEST_CASE("groups side by side get what each gets alone", "[advantage]") {
  check_groups_side_by_side(group_normalized{});
  check_groups_side_by_side(group_normalized{.ddof = 0, .epsilon = 0});
  check_groups_side_by_side(group_normalized{.epsilon = 1e-4, .lone = lone_rollout::reward});
  check_groups_side_by_side(mean_normalized{});
  check_groups_side_by_side(centred{});
  check_groups_side_by_side(centred{.against = baseline::leave_one_out});
}

TEST_CASE("a group among many that is not like the others", "[advantage]") {
  const equal_groups w(64, 4);
  const std::vector<double> before = group_normalized{}(w.verdicts, w.g);
  std::vector<verdict> v = w.verdicts;
  v[5 * 4 + 1].scored = false;
  v[5 * 4 + 1].reward = std::numeric_limits<double>::quiet_NaN();
  const std::vector<double> after = group_normalized{}(v, w.g);
  CHECK(after[5 * 4 + 1] == 0);
  CHECK(after[5 * 4] != before[5 * 4]);
  for (std::size_t i = 0; i < v.size(); ++i)
    if (i / 4 != 5) CHECK(std::fabs(after[i] - before[i]) <= 1e-13 * std::fabs(before[i]));
  v[50] = {.reward = std::numeric_limits<double>::infinity()};
  CHECK_THROWS_WITH(group_normalized{}(v, w.g), Catch::Contains("reward 50 is inf"));
  v[50] = {.reward = 1e300};
  CHECK_THROWS_WITH(group_normalized{}(v, w.g), Catch::Contains("4 rewards overflow"));
  // Differences whose squares underflow are still differences.
  std::vector<verdict> tiny = w.verdicts;
  for (std::size_t i = 0; i < tiny.size(); ++i) tiny[i].reward = i % 4 == 0 ? 1e-200 : 0.0;
  for (double x : centred{}(tiny, w.g)) CHECK(x != 0);
}

TEST_CASE("coefficients do not depend on the tokens behind", "[objective]") {
  check_ends(ppo_clip{.high = 0.28, .dual = 3});
  check_ends(sapo{});
  check_ends(dppo{});
  check_ends(dppo{.divergence = binary_divergence::kl});
}

TEST_CASE("dppo far from the sampler", "[objective]") {
  // q is nothing beside p: the total variation is p, above the bound or not; and p nothing beside q.
  const std::vector<float> now{-0.1f, -3.f, -100.f, -100.f}, old{-100.f, -100.f, -0.1f, -3.f};
  for (const float a : {1.f, -1.f}) {
    const one_sequence far(a, now, old);
    const token_batch<float> b = far.view();
    std::vector<float> c(4);
    std::vector<branch> codes(4);
    dppo{}(b, {}, std::span<float>(c), codes);
    const branch up = a > 0 ? branch::clipped_high : branch::active;
    const branch down = a < 0 ? branch::clipped_low : branch::active;
    CHECK(codes == std::vector<branch>{up, branch::active, down, branch::active});
    CHECK(c[1] == 20 * a);
    CHECK((c[0] == 0) == (a > 0));
    CHECK((c[2] == 0) == (a < 0));
  }
}

TEST_CASE("dppo where probabilities end", "[objective]") {
  // Log-probs below the range of floats count as its end: nothing moves there, whatever the ratio is.
  const one_sequence ends(1, {-200.f, -95.f, -150.f, -0.7f}, {-198.f, -120.f, -88.f, -0.6f});
  const token_batch<float> b = ends.view();
  std::vector<float> c(4);
  for (const binary_divergence by : {binary_divergence::total_variation, binary_divergence::kl}) {
    std::vector<branch> codes(4);
    dppo{.divergence = by}(b, {}, std::span<float>(c), codes);
    CHECK(codes == std::vector<branch>(4, branch::active));
    const double exact[4] = {std::exp(-2.0), 20, std::exp(-20.0), std::exp(-0.1)};
    for (std::size_t t = 0; t < 4; ++t) CHECK(std::fabs(static_cast<double>(c[t]) / exact[t] - 1) < 1e-5);
  }
  for (const double cap : {0.0, -0.0}) {
    dppo{.cap = cap}(b, {}, std::span<float>(c));
    CHECK(c == std::vector<float>(4, 0.f));
  }
  dppo{.cap = 1e30, .log_ratio_limit = 3}(b, {}, std::span<float>(c));
  CHECK(std::fabs(c[1] / std::exp(3.f) - 1) < 1e-5f);
  CHECK(std::fabs(c[2] / std::exp(-3.f) - 1) < 1e-5f);
}

TEST_CASE("sapo far from the sampler", "[objective]") {
  // In float as in double: a steep gate ends within the ratio's range, on both sides, without a limit as with one.
  const std::vector<float> now{-0.5f, -0.5f, -0.5f, -90.f, -90.f, -200.f, -0.1f, -1.f, -1.5f};
  const std::vector<float> old{-0.5f, -60.f, -200.f, -0.5f, -4.f, -0.1f, -1.f, -0.1f, -0.5f};
  const std::vector<double> now_exact(now.begin(), now.end()), old_exact(old.begin(), old.end());
  for (const double tau : {1.0, 79.0, 81.0, 300.0})
    for (const double limit : {20.0, 100.0, std::numeric_limits<double>::infinity()})
      for (const float a : {1.f, -1.f}) {
        const one_sequence far(a, now, old);
        const token_batch<float> b = far.view();
        std::vector<float> c(9);
        std::vector<branch> codes(9);
        sapo{a > 0 ? tau : 1.0, a > 0 ? 1.0 : tau, limit}(b, {}, std::span<float>(c), codes);
        for (std::size_t t = 0; t < 9; ++t) {
          const double d = now_exact[t] - old_exact[t], u = tau * std::expm1(d);
          const double gate = 1 / (2 + std::exp(u) + std::exp(-u));
          const double exact = std::fabs(d) > limit ? 0 : 4 * static_cast<double>(a) * gate * std::exp(d);
          INFO("tau " << tau << ", limit " << limit << ", d " << d);
          CHECK(std::fabs(static_cast<double>(c[t]) - exact) <= 1e-4 * std::fabs(exact) + 1e-25);
          CHECK(codes[t] == (std::fabs(d) > limit ? branch::saturated : branch::active));
        }
      }
}

TEST_CASE("importance weights at the ends of the range of numbers", "[objective]") {
  const std::vector<std::size_t> offsets{0, 5};
  const std::vector<float> old{-0.5f, -0.5f, -100.f, -1.f, -0.5f}, sampled{-100.f, -30.f, -0.5f, -1.f, -60.f};
  token_batch<float> b;
  b.offsets = offsets;
  b.old_log_probs = old;
  b.sampled_log_probs = sampled;
  constexpr double infinity = std::numeric_limits<double>::infinity();
  std::vector<float> c(5, 1.f);
  importance_correction{.max = 2, .log_ratio_limit = infinity}(b, std::span<float>(c));
  CHECK(c[0] == 2);  // e^99.5, cut
  CHECK(c[1] == 2);
  CHECK(c[2] < 1e-37f);
  CHECK(c[3] == 1);
  std::fill(c.begin(), c.end(), 1.f);
  importance_correction{.max = infinity, .log_ratio_limit = 20}(b, std::span<float>(c));
  CHECK(std::fabs(c[0] / std::exp(20.f) - 1) < 1e-6f);
  CHECK(std::fabs(c[2] / std::exp(-20.f) - 1) < 1e-6f);
  CHECK_THROWS_WITH((importance_correction{.max = infinity, .log_ratio_limit = infinity}(b, std::span<float>(c))),
                    Catch::Contains("the coefficient of token 0 is not a finite number"));
  std::fill(c.begin(), c.end(), 1.f);
  importance_correction{.over = importance_over::sequence_geometric_mean, .max = infinity}(b, std::span<float>(c));
  const float mean = std::exp((99.5f + 29.5f - 99.5f + 0.f + 59.5f) / 5);
  for (const float weight : c) CHECK(std::fabs(weight / mean - 1) < 1e-5f);
  // Differences that overflow to both sides have no sum.
  const std::vector<float> high{3e38f, -3e38f, 0, 0, 0}, low{-3e38f, 3e38f, 0, 0, 0};
  b.old_log_probs = high;
  b.sampled_log_probs = low;
  for (const importance_bound how : {importance_bound::truncate, importance_bound::zero, importance_bound::reject})
    CHECK_THROWS_WITH(
        (importance_correction{.over = importance_over::sequence_product, .bound = how}(b, std::span<float>(c))),
        Catch::Contains("is not a finite number"));
}
