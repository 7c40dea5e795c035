#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <limits>
#include <stdexcept>
#include <string>
#include <vector>

#include <rlvr/backend/tabular/policy.hpp>
#include <rlvr/core/mixed_precision.hpp>
#include <rlvr/core/moments.hpp>
#include <rlvr/core/norm.hpp>
#include <rlvr/search/calibrate.hpp>
#include <rlvr/search/policy_line.hpp>
#include <rlvr/search/search_direction.hpp>
#include <rlvr/search/sequence_kl.hpp>

#include "catch.hpp"

namespace {

using rlvr::line_point;
using rlvr::line_status;
using rlvr::ragged;
using rlvr::random_key;
using rlvr::rollouts;
using rlvr::sample_request;
using rlvr::sampling_options;
using rlvr::token;
using rlvr::verdict;

constexpr double nan_value = std::numeric_limits<double>::quiet_NaN();

// A policy on a device: the host holds vectors it cannot read, and calls can be made to fail.
class sealed_space {
 public:
  class vector {
    friend class sealed_space;
    friend class sealed_policy;
    std::vector<double> hidden;
    explicit vector(std::vector<double> x) : hidden(std::move(x)) {}

   public:
    vector(vector&&) = default;
    vector& operator=(vector&&) = default;
  };
  explicit sealed_space(std::size_t dimension) : inner_(dimension) {}
  std::size_t dimension() const { return inner_.dimension(); }
  vector zero() const { return vector(inner_.zero()); }
  void assign(vector& y, const vector& x) const { y.hidden = x.hidden; }
  void scale(double a, vector& y) const { inner_.scale(a, y.hidden); }
  void axpy(double a, const vector& x, vector& y) const { inner_.axpy(a, x.hidden, y.hidden); }
  double dot(const vector& x, const vector& y) const { return inner_.dot(x.hidden, y.hidden); }

 private:
  rlvr::tabular::space inner_;
};

class sealed_policy {
 public:
  sealed_policy(std::vector<double> logits, std::size_t completions)
      : inner_(std::move(logits), completions), theta_(inner_.parameters()), space_(theta_.hidden.size()) {}

  enum class fault { none, sample, score } next_fault = fault::none;

  const sealed_space& space() const { return space_; }
  const sealed_space::vector& parameters() const { return theta_; }
  void assign(const sealed_space::vector& theta) { load(theta.hidden); }
  void assign(const sealed_space::vector& theta, double alpha, const sealed_space::vector& direction) {
    std::vector<double> moved = theta.hidden;
    for (std::size_t i = 0; i < moved.size(); ++i) moved[i] += alpha * direction.hidden[i];
    load(moved);
  }
  rollouts sample(const ragged<token>& prompts, std::span<const sample_request> requests,
                  const sampling_options& options, random_key key) {
    if (next_fault == fault::sample) throw std::runtime_error("sampling engine lost");
    return inner_.sample(prompts, requests, options, key);
  }
  rlvr::token_scores score(const ragged<token>& prompts, const rollouts& r, double temperature) {
    if (next_fault == fault::score) throw std::runtime_error("scoring engine lost");
    return inner_.score(prompts, r, temperature);
  }

  // For the tests only: what the host cannot see.
  const rlvr::tabular::policy& inside() const { return inner_; }
  sealed_space::vector seal(std::vector<double> x) const { return sealed_space::vector(std::move(x)); }

 private:
  void load(const std::vector<double>& theta) {
    theta_.hidden = theta;
    inner_.assign(theta);
  }
  rlvr::tabular::policy inner_;
  sealed_space::vector theta_;
  sealed_space space_;
};

static_assert(rlvr::parameterised<sealed_policy> && rlvr::sampler<sealed_policy> &&
              rlvr::scorer<sealed_policy>);
static_assert(!rlvr::differentiable<sealed_policy>);

// Eight prompts, five completions; completion (i mod 5) is the right one of prompt i.
constexpr std::size_t prompt_count = 8, completion_count = 5;

std::vector<double> some_logits(std::uint64_t seed, double size = 1) {
  std::vector<double> x(prompt_count * completion_count);
  for (std::size_t i = 0; i < x.size(); ++i) x[i] = size * (2 * random_key(seed).uniform(i) - 1);
  x[3] = -0.0;
  return x;
}
std::vector<double> rewards() {
  std::vector<double> w(prompt_count * completion_count);
  for (std::size_t i = 0; i < prompt_count; ++i)
    w[i * completion_count + i % completion_count] = 1.0 / static_cast<double>(prompt_count);
  return w;
}
verdict right_answer(std::size_t prompt, std::span<const token> completion) {
  return {static_cast<std::size_t>(completion[0]) == prompt % completion_count ? 1.0 : 0.0, true};
}
std::vector<sample_request> requests(std::uint32_t each) {
  std::vector<sample_request> out;
  for (std::uint32_t i = 0; i < prompt_count; ++i) out.push_back({i, each});
  return out;
}
// Mean over prompts of KL(a || b).
double exact_kl(const rlvr::tabular::policy& a, const rlvr::tabular::policy& b, double temperature = 1) {
  double kl = 0;
  for (std::size_t i = 0; i < a.prompt_count(); ++i) {
    const auto p = a.distribution(i, temperature), q = b.distribution(i, temperature);
    for (std::size_t k = 0; k < p.size(); ++k) kl += p[k] * std::log(p[k] / q[k]);
  }
  return kl / static_cast<double>(a.prompt_count());
}
rlvr::tabular::policy moved(const rlvr::tabular::policy& policy, double alpha, const std::vector<double>& d) {
  rlvr::tabular::policy out = policy;
  out.assign(policy.parameters(), alpha, d);
  return out;
}
bool same_bits(const std::vector<double>& a, const std::vector<double>& b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof(double)) == 0;
}
std::string message(auto&& call) {
  try {
    call();
  } catch (const std::invalid_argument& error) {
    return error.what();
  }
  return "no invalid_argument";
}
double standard_error(const rlvr::moments& m) {
  return m.deviation() / std::sqrt(static_cast<double>(m.count));
}

// False alarms of a normal statistic beyond 7 standard errors: below 3e-12.
constexpr double far_out = 7;

TEST_CASE("sequence_kl is exact KL on the tabular policy, and far less noisy than the plain mean near 0") {
  const rlvr::tabular::policy base(some_logits(1), completion_count);
  const std::vector<double> d = some_logits(2);
  const auto asked = requests(32);
  for (double alpha : {.01, .1, 1.0, 4.0, 16.0}) {
    const rlvr::tabular::policy p = moved(base, alpha, d);
    rlvr::moments estimate, plain;
    for (std::uint64_t seed = 0; seed < 400; ++seed) {
      const rollouts r = p.sample(base.prompts(), asked, {}, random_key(seed));
      const auto reference = base.score(base.prompts(), r, 1).log_probs;
      estimate.add(rlvr::sequence_kl(r.offsets, r.log_probs, reference));
      double sum = 0;
      for (std::size_t t = 0; t < reference.size(); ++t) sum += r.log_probs[t] - reference[t];
      plain.add(sum / static_cast<double>(r.size()));
    }
    const double kl = exact_kl(p, base);
    INFO("alpha " << alpha << " exact " << kl << " estimate " << estimate.mean << " +- "
                  << standard_error(estimate) << " plain +- " << standard_error(plain));
    CHECK(std::fabs(plain.mean - kl) < far_out * standard_error(plain));
    // The weight costs a bias of order 1/B; B = 256.
    CHECK(std::fabs(estimate.mean - kl) < far_out * standard_error(estimate) + .03 * kl);
    if (alpha <= .1) CHECK(estimate.variance() < .01 * plain.variance());
    CHECK(estimate.variance() < 1.1 * plain.variance());
  }
}

// A chain over {stop, a, b}: the distribution depends on the token before; at most 3 tokens.
struct chain {
  double p[3][3];  // [token before: stop = start][token]
  double log_prob(int before, int now) const { return std::log(p[before][now]); }
  double kl_to(const chain& q, int before, int left) const {
    double sum = 0;
    for (int now = 0; left > 0 && now < 3; ++now)
      sum += p[before][now] *
             (std::log(p[before][now] / q.p[before][now]) + (now == 0 ? 0 : kl_to(q, now, left - 1)));
    return sum;
  }
};

TEST_CASE("sequence_kl on sequences of different lengths, the last of them cut") {
  const chain near{{{.2, .5, .3}, {.3, .3, .4}, {.1, .6, .3}}},
      base{{{.22, .5, .28}, {.28, .3, .42}, {.1, .58, .32}}};
  rlvr::moments estimate, plain;
  for (std::uint64_t seed = 0; seed < 400; ++seed) {
    std::vector<std::size_t> offsets{0};
    std::vector<double> log_probs, reference;
    double sum = 0;
    for (std::uint32_t i = 0; i < 200; ++i) {
      for (int before = 0, t = 0; t < 3; ++t) {
        double u = random_key(seed).uniform(0, i, static_cast<std::uint32_t>(t));
        int now = 0;
        while (now < 2 && u >= near.p[before][now]) u -= near.p[before][now++];
        log_probs.push_back(near.log_prob(before, now));
        reference.push_back(base.log_prob(before, now));
        sum += log_probs.back() - reference.back();
        if (now == 0) break;
        before = now;
      }
      offsets.push_back(log_probs.size());
    }
    estimate.add(rlvr::sequence_kl(offsets, log_probs, reference));
    plain.add(sum / 200);
  }
  const double kl = near.kl_to(base, 0, 3);
  CHECK(std::fabs(estimate.mean - kl) < far_out * standard_error(estimate) + .03 * kl);
  CHECK(estimate.variance() < .02 * plain.variance());
}

TEST_CASE("sequence_kl at the ends of its range") {
  const std::vector<std::size_t> two{0, 1, 2};
  const auto kl = [&](std::vector<double> a, std::vector<double> b) { return rlvr::sequence_kl(two, a, b); };
  CHECK(kl({-1, -1}, {-1, -1}) == 0);
  CHECK(kl({-1, -2000}, {-2, -1}) == -999);  // a ratio beyond the double range
  CHECK(kl({-1, -1}, {-1, -std::numeric_limits<double>::infinity()}) ==
        std::numeric_limits<double>::infinity());
  for (const double reference : {-2.0, -std::numeric_limits<double>::infinity()})  // beyond what pi can say
    CHECK(kl({-1, -std::numeric_limits<double>::infinity()}, {-2, reference}) == kl({-1, -1}, {-2, -1}));
  CHECK(std::isnan(kl({-1, -std::numeric_limits<double>::infinity()}, {-1, std::nan("")})));
  CHECK(std::isnan(kl(std::vector<double>(2, -std::numeric_limits<double>::infinity()), {-1, -1})));
  CHECK(message([&] { kl({-1}, {-1, -1}); }).find("1 log_probs and 2 reference") != std::string::npos);
  CHECK(message([] { rlvr::sequence_kl(std::vector<std::size_t>{0}, {}, {}); }) ==
        "sequence_kl: no rollouts");
}

TEST_CASE("calibrate_kl measures the enumerated Fisher information") {
  // Probabilities in eighths, so that eight rollouts are the exact expectation.
  const std::vector<int> counts{4, 2, 1, 1, 2, 2, 2, 2};
  std::vector<double> logits;
  for (int c : counts) logits.push_back(std::log(c / 8.0));
  rollouts r;
  for (std::size_t i = 0; i < counts.size(); ++i)
    for (int n = 0; n < counts[i]; ++n) {
      r.tokens.push_back(static_cast<token>(i % 4));
      r.offsets.push_back(r.tokens.size());
      r.prompts.push_back(static_cast<std::uint32_t>(i / 4));
    }
  const std::vector<double> d{.3, -.2, .5, .1, -.4, .2, 0, .9};
  for (bool at_zero : {false, true})
    for (double scale : {1e-6, 1.0, 1e5}) {
      rlvr::tabular::policy policy(at_zero ? std::vector<double>(8) : logits, 4);
      rollouts used = r;
      if (at_zero)
        for (std::size_t i = 0; i < used.size(); ++i) used.tokens[i] = static_cast<token>(i % 4);
      std::vector<double> direction = d;
      for (double& x : direction) x *= scale;
      double fisher = 0;  // mean over prompts of the variance of d under pi
      for (std::size_t i = 0; i < 2; ++i) {
        const auto p = policy.distribution(i);
        double mean = 0, square = 0;
        for (std::size_t k = 0; k < 4; ++k) {
          mean += p[k] * direction[4 * i + k];
          square += p[k] * direction[4 * i + k] * direction[4 * i + k];
        }
        fisher += (square - mean * mean) / 2;
      }
      const auto c = rlvr::calibrate_kl(policy, policy.prompts(), used, 1, direction);
      REQUIRE(c);
      // The central difference is off by order epsilon^2 times third derivatives.
      CHECK(c->curvature == Approx(fisher / 2).epsilon(2e-3));
      CHECK(c->predicted_kl(c->epsilon) >= 1e-6);
      CHECK(c->predicted_kl(c->epsilon) <= 1e-2);
      for (double kl : {1e-4, 1e-3, 1e-2}) {
        const double alpha = c->alpha_for(kl);
        CHECK(c->predicted_kl(alpha) == Approx(kl));
        CHECK(exact_kl(moved(policy, alpha, direction), policy) == Approx(kl).epsilon(.1));
      }
    }
}

TEST_CASE("calibrate_kl from sampled rollouts, at a temperature, predicts KL within 10%") {
  for (double temperature : {1.0, .6}) {
    rlvr::tabular::policy policy(some_logits(3, 2), completion_count);
    const std::vector<double> d = some_logits(4), theta = policy.parameters();
    const rollouts r =
        policy.sample(policy.prompts(), requests(4000), {.temperature = temperature}, random_key(9));
    const auto c = rlvr::calibrate_kl(policy, policy.prompts(), r, temperature, d);
    REQUIRE(c);
    for (double kl : {1e-3, 1e-2})
      CHECK(exact_kl(moved(policy, c->alpha_for(kl), d), policy, temperature) == Approx(kl).epsilon(.1));
    CHECK(same_bits(policy.parameters(), theta));
  }
}

// The tabular policy with the log-probabilities of a float32 backend, whose errors change with the
// parameters.
struct float_scorer : rlvr::tabular::policy {
  using rlvr::tabular::policy::policy;
  rlvr::token_scores score(const ragged<token>& prompts, const rollouts& r, double temperature) const {
    rlvr::token_scores out = rlvr::tabular::policy::score(prompts, r, temperature);
    const random_key noise(std::bit_cast<std::uint64_t>(parameters()[1]));
    for (std::size_t i = 0; i < out.log_probs.size(); ++i)
      out.log_probs[i] = static_cast<float>(out.log_probs[i] + 2e-6 * (noise.uniform(i) - .5));
    return out;
  }
};

TEST_CASE("calibrate_kl is not fooled by the rounding of a float32 scorer") {
  float_scorer policy(some_logits(3), completion_count);
  const rollouts r = policy.sample(policy.prompts(), requests(100), {}, random_key(9));
  const auto exact =
      rlvr::calibrate_kl(static_cast<rlvr::tabular::policy&>(policy), policy.prompts(), r, 1, some_logits(4));
  for (double displacement : {1e-12, 1e-7, 1e-3, 1.0, 1e4}) {
    const auto c =
        rlvr::calibrate_kl(policy, policy.prompts(), r, 1, some_logits(4), {.displacement = displacement});
    REQUIRE(c);
    CHECK(c->curvature == Approx(exact->curvature).epsilon(.02));
  }
}

TEST_CASE("calibrate_kl: directions that cannot be used") {
  rlvr::tabular::policy policy(some_logits(1), completion_count);
  const std::vector<double> theta = policy.parameters();
  const rollouts r = policy.sample(policy.prompts(), requests(4), {}, random_key(1));
  const auto calibrate = [&](const std::vector<double>& d) {
    const auto c = rlvr::calibrate_kl(policy, policy.prompts(), r, 1, d);
    CHECK(same_bits(policy.parameters(), theta));
    return c;
  };
  std::vector<double> d(theta.size());
  CHECK_FALSE(calibrate(d));
  for (double bad : {nan_value, std::numeric_limits<double>::infinity(), 1e200}) {
    d[7] = bad;
    CHECK_FALSE(calibrate(d));
  }
  // A shift of all logits of a prompt moves nothing but roundings.
  CHECK_FALSE(calibrate(std::vector<double>(theta.size(), 1.0)));

  CHECK(message([&] { rlvr::calibrate_kl(policy, policy.prompts(), {}, 1, theta); }) ==
        "calibrate_kl: no rollouts");
  const auto options = [&](rlvr::calibration_options o) {
    return message([&] { rlvr::calibrate_kl(policy, policy.prompts(), r, 1, theta, o); });
  };
  CHECK(options({.displacement = 0}).find("displacement is 0") != std::string::npos);
  CHECK(options({.min_kl = 1, .max_kl = .1}).find("min_kl is 1") != std::string::npos);
  CHECK(options({.max_rounds = 0}).find("max_rounds is 0") != std::string::npos);
}

TEST_CASE("alpha_for_displacement") {
  const rlvr::tabular::space space(2);
  CHECK(*rlvr::alpha_for_displacement(space, {3, 4}, {0, 10}, .01) == Approx(.005));
  CHECK_FALSE(rlvr::alpha_for_displacement(space, {0, 0}, {0, 10}, .01));
  CHECK_FALSE(rlvr::alpha_for_displacement(space, {3, 4}, {0, 0}, .01));
  CHECK_FALSE(rlvr::alpha_for_displacement(space, {3, 4}, {0, nan_value}, .01));
  CHECK(message([&] {
          (void)rlvr::alpha_for_displacement(space, {3, 4}, {0, 1}, 0);
        }).find("ratio is 0") != std::string::npos);
}

TEST_CASE("evaluate_policy averages over prompts, leaves out what is unscored") {
  rlvr::tabular::policy policy(some_logits(1, 0), completion_count);
  // Prompt 0: three rollouts, one unscored; prompt 1: only unscored; prompt 2: asked for in two parts;
  // others: none.
  const std::vector<sample_request> asked{{0, 3}, {1, 2}, {2, 1}, {2, 1, 1}};
  std::size_t calls = 0;
  const auto verify = [&](std::size_t prompt, std::span<const token>) -> verdict {
    const std::size_t n = calls++;
    if (prompt == 1 || n == 1) return {99, false};
    return {prompt == 0 ? 1.0 : static_cast<double>(n == 5), true};
  };
  const auto e = rlvr::evaluate_policy(policy, policy.prompts(), asked, {}, random_key(5), verify);
  CHECK(calls == 7);
  REQUIRE(e.prompt_values.size() == prompt_count);
  CHECK(e.prompt_values[0] == 1);
  CHECK(std::isnan(e.prompt_values[1]));
  CHECK(e.prompt_values[2] == .5);
  CHECK(std::isnan(e.prompt_values[3]));
  CHECK(e.point.value == .75);
  CHECK(e.point.length == 1);
  CHECK(e.point.entropy == Approx(std::log(5.0)));
  CHECK(e.point.kl == 0);

  CHECK(message([&] {
          (void)rlvr::evaluate_policy(policy, policy.prompts(), {}, {}, random_key(5), verify);
        }) == "evaluate_policy: no rollouts were requested");
  const auto bad = [](std::size_t, std::span<const token>) { return verdict{nan_value, true}; };
  CHECK(message([&] {
          (void)rlvr::evaluate_policy(policy, policy.prompts(), asked, {}, random_key(5), bad);
        }).find("rollout 0 of prompt 0 is nan") != std::string::npos);
  const auto none = [](std::size_t, std::span<const token>) { return verdict{0, false}; };
  CHECK(std::isnan(
      rlvr::evaluate_policy(policy, policy.prompts(), asked, {}, random_key(5), none).point.value));
}

TEST_CASE("policy_line: accuracy and KL along the line, each alpha once, theta untouched") {
  rlvr::tabular::policy policy(some_logits(1), completion_count);
  const std::vector<double> theta = policy.parameters(), g = policy.expectation_gradient(rewards());
  const auto prompts = policy.prompts();
  const auto asked = requests(3000);
  std::size_t verified = 0;
  auto verify = [&](std::size_t prompt, std::span<const token> completion) {
    ++verified;
    return right_answer(prompt, completion);
  };
  rlvr::policy_line line(policy, prompts, asked, {.temperature = .8}, random_key(3), verify, g);
  STATIC_REQUIRE(rlvr::line_objective<decltype(line)>);
  for (double alpha : {0.0, 5.0, 20.0, -3.0}) {
    const line_point point = line(alpha);
    CHECK(same_bits(policy.parameters(), theta));
    const auto there = moved(policy, alpha, g);
    const double p = there.expectation(rewards(), .8), n = 3000 * prompt_count;
    CHECK(point.alpha == alpha);
    CHECK(std::fabs(point.value - p) < far_out * std::sqrt(p * (1 - p) / n));
    CHECK(point.kl == Approx(exact_kl(there, policy, .8)).epsilon(.05).margin(1e-12));
    CHECK(point.length == 1);
    double mean = 0;
    for (double v : line.at(alpha).prompt_values) mean += v / static_cast<double>(prompt_count);
    CHECK(mean == Approx(point.value));
  }
  CHECK(line(0).kl == 0);
  CHECK(line.evaluations().size() == 4);
  CHECK(verified == 4 * 3000 * prompt_count);
  CHECK(line.evaluations()[1].point.alpha == 5);
  CHECK(message([&] { (void)line.at(7); }).find("alpha = 7") != std::string::npos);
  // The base is what evaluate_policy sees, draw for draw.
  const auto base =
      rlvr::evaluate_policy(policy, prompts, asked, {.temperature = .8}, random_key(3), right_answer);
  CHECK(base.point.value == line(0).value);
  CHECK(base.prompt_values == line.at(0).prompt_values);
}

TEST_CASE("policy_line: a wild alpha is a NaN point, and the search goes on without it") {
  rlvr::tabular::policy policy(some_logits(1), completion_count);
  const std::vector<double> theta = policy.parameters();
  std::vector<double> g = policy.expectation_gradient(rewards());
  for (double& x : g) x *= 1e10;
  const auto prompts = policy.prompts();
  const auto asked = requests(50);
  rlvr::policy_line line(policy, prompts, asked, {}, random_key(3), right_answer, g);
  CHECK(std::isnan(line(1e300).value));
  CHECK(std::isnan(line(1e300).kl));
  CHECK(same_bits(policy.parameters(), theta));
  CHECK(rlvr::grid_search(line, std::vector<double>{1e-9, 1e300}).alpha == 1e-9);
}

// The tabular policy with parameters that are rounded to sixteenths before it computes with them.
class coarse_policy : public rlvr::tabular::policy {
 public:
  explicit coarse_policy(std::vector<double> logits)
      : rlvr::tabular::policy(logits, ::completion_count), theta_(std::move(logits)) {
    load();
  }
  bool exact = false;  // what it says of itself
  std::size_t precise_scores = 0;

  const std::vector<double>& parameters() const { return theta_; }
  void assign(const std::vector<double>& theta) {
    theta_ = theta;
    load();
  }
  void assign(const std::vector<double>& theta, double alpha, const std::vector<double>& d) {
    theta_ = theta;
    space().axpy(alpha, d, theta_);
    load();
  }
  bool rounds() const { return !exact; }
  rlvr::token_scores score_precisely(const ragged<token>& prompts, const rollouts& r, double temperature) {
    ++precise_scores;
    return rlvr::tabular::policy(theta_, ::completion_count).score(prompts, r, temperature);
  }
  struct report {
    double along;
    double cosine() const { return along; }
  };
  report survival(double alpha, const std::vector<double>& d) const {
    std::vector<double> wanted(d.size()), made = theta_;
    space().axpy(alpha, d, wanted);
    space().axpy(alpha, d, made);
    made = rounded(made);
    space().axpy(-1, rounded(theta_), made);
    const double length = rlvr::norm(space(), made);
    return {length > 0 ? space().dot(wanted, made) / (length * rlvr::norm(space(), wanted)) : 0.0};
  }

 private:
  static std::vector<double> rounded(std::vector<double> x) {
    for (double& v : x) v = std::round(16 * v) / 16;
    return x;
  }
  void load() { rlvr::tabular::policy::assign(rounded(theta_)); }
  std::vector<double> theta_;
};
static_assert(rlvr::mixed_precision<coarse_policy> && !rlvr::mixed_precision<rlvr::tabular::policy>);

TEST_CASE("a policy that rounds: KL is predicted and measured by precise scores, and what survives is reported") {
  const std::vector<double> theta = some_logits(1), d = some_logits(2);
  coarse_policy policy(theta);
  rlvr::tabular::policy exact(theta, completion_count);
  const auto prompts = exact.prompts();
  const auto asked = requests(200);
  const rollouts r = exact.sample(prompts, asked, {}, random_key(1));
  const auto expected = rlvr::calibrate_kl(exact, prompts, r, 1, d);
  const auto found = rlvr::calibrate_kl(policy, prompts, r, 1, d);
  REQUIRE((expected && found));
  CHECK(found->curvature == expected->curvature);
  CHECK(found->epsilon == expected->epsilon);

  rlvr::policy_line line(policy, prompts, asked, {}, random_key(3), right_answer, d);
  CHECK(line(0).survival == 1);
  double last = -1;
  for (double alpha : {1e-4, 0.05, 0.2, 10.0}) {
    const line_point point = line(alpha);
    CHECK(point.kl == Approx(exact_kl(moved(exact, alpha, d), exact)).epsilon(.2));
    CHECK(point.survival == policy.survival(alpha, d).cosine());
    CHECK(point.survival > last);
    last = point.survival;
    CHECK(same_bits(policy.parameters(), theta));
  }
  CHECK(line(1e-4).survival < 0.2);
  CHECK(line(10.0).survival > 0.999);

  // Where it says that it does not round, what the sampler wrote is precise.
  policy.exact = true;
  policy.precise_scores = 0;
  rlvr::policy_line once(policy, prompts, asked, {}, random_key(3), right_answer, d);
  (void)once(0.2);
  CHECK(policy.precise_scores == 1);
}

TEST_CASE("common random numbers make differences of accuracy less noisy") {
  rlvr::tabular::policy policy(some_logits(1), completion_count);
  const std::vector<double> g = policy.expectation_gradient(rewards());
  const auto prompts = policy.prompts();
  const auto asked = requests(16);
  rlvr::moments near, near_apart, distant, distant_apart;
  for (std::uint64_t seed = 0; seed < 300; ++seed) {
    rlvr::policy_line line(policy, prompts, asked, {}, random_key(seed), right_answer, g);
    rlvr::policy_line other(policy, prompts, asked, {}, random_key(seed + 1000), right_answer, g);
    near.add(line(8).value - line(4).value);
    near_apart.add(line(8).value - other(4).value);
    distant.add(line(32).value - line(0).value);
    distant_apart.add(line(32).value - other(0).value);
  }
  INFO("variance ratios " << near_apart.variance() / near.variance() << ", "
                          << distant_apart.variance() / distant.variance());
  CHECK(near_apart.variance() > 3 * near.variance());
  CHECK(distant_apart.variance() > 1.3 * distant.variance());
}

TEST_CASE("a policy whose vectors are opaque is searched, and restored whatever fails") {
  using fault = sealed_policy::fault;
  rlvr::tabular::policy open(some_logits(1), completion_count);
  const std::vector<double> theta = open.parameters(), gradient = open.expectation_gradient(rewards());
  sealed_policy policy(theta, completion_count);
  const sealed_space::vector g = policy.seal(gradient);
  const auto prompts = open.prompts();
  const auto asked = requests(200);
  const rollouts r = open.sample(prompts, asked, {}, random_key(1));

  rlvr::policy_line line(policy, prompts, asked, {}, random_key(2), right_answer, g);
  rlvr::policy_line open_line(open, prompts, asked, {}, random_key(2), right_answer, gradient);
  const auto found = rlvr::search_direction(policy, prompts, r, 1, g, line);
  const auto expected = rlvr::search_direction(open, prompts, r, 1, gradient, open_line);
  CHECK(found.line.alpha == expected.line.alpha);
  CHECK(found.line.points.size() == line.evaluations().size());
  CHECK(same_bits(policy.inside().parameters(), theta));

  for (fault where : {fault::sample, fault::score}) {
    rlvr::policy_line fresh(policy, prompts, asked, {}, random_key(2), right_answer, g);
    policy.next_fault = where;
    CHECK_THROWS_AS(fresh(1.0), std::runtime_error);
    CHECK(fresh.evaluations().empty());
    CHECK(same_bits(policy.inside().parameters(), theta));
    if (where == fault::score)
      CHECK_THROWS_AS(rlvr::calibrate_kl(policy, prompts, r, 1, g), std::runtime_error);
    CHECK(same_bits(policy.inside().parameters(), theta));
    policy.next_fault = fault::none;
    CHECK(fresh(1.0).alpha == 1);
  }
  std::size_t left = 1700;
  const auto tired = [&](std::size_t prompt, std::span<const token> completion) {
    if (left-- == 0) throw std::runtime_error("judge lost");
    return right_answer(prompt, completion);
  };
  rlvr::policy_line judged(policy, prompts, asked, {}, random_key(2), tired, g);
  CHECK_THROWS_AS(rlvr::geometric_search(judged, 1.0), std::runtime_error);
  CHECK(judged.evaluations().size() == 1);
  CHECK(same_bits(policy.inside().parameters(), theta));
}

TEST_CASE("search_direction improves the exact accuracy, and its first alpha has the KL asked for") {
  rlvr::tabular::policy policy(some_logits(1), completion_count);
  const std::vector<double> theta = policy.parameters();
  const auto prompts = policy.prompts();
  const auto asked = requests(100);
  const rollouts r = policy.sample(prompts, asked, {}, random_key(1));
  for (double scale : {1e-8, 1.0, 1e8}) {
    std::vector<double> g = policy.expectation_gradient(rewards());
    for (double& x : g) x *= scale;
    rlvr::policy_line line(policy, prompts, asked, {}, random_key(2), right_answer, g);
    std::size_t reports = 0;
    const auto found =
        rlvr::search_direction(policy, prompts, r, 1, g, line, {}, [&](rlvr::search_progress) { ++reports; });
    CHECK(reports == found.line.points.size());
    CHECK((found.line.status == line_status::improved));
    REQUIRE(found.calibration);
    CHECK(line.at(found.calibration->alpha_for(.003)).point.kl == Approx(.003).epsilon(.25));
    const double before = policy.expectation(rewards());
    CHECK(moved(policy, found.line.alpha, g).expectation(rewards()) > before + .2);
    CHECK(same_bits(policy.parameters(), theta));
  }
}

TEST_CASE("search_direction: unusable directions are statuses, with the base evaluated") {
  rlvr::tabular::policy policy(some_logits(1), completion_count);
  const auto prompts = policy.prompts();
  const auto asked = requests(10);
  const rollouts r = policy.sample(prompts, asked, {}, random_key(1));
  const auto search = [&](const std::vector<double>& d) {
    rlvr::policy_line line(policy, prompts, asked, {}, random_key(2), right_answer, d);
    const auto found = rlvr::search_direction(policy, prompts, r, 1, d, line);
    CHECK_FALSE(found.calibration);
    CHECK(found.line.points.size() == 1);
    CHECK(found.line.alpha == 0);
    CHECK(found.line.base.value > 0);
    return found.line.status;
  };
  std::vector<double> d(prompt_count * completion_count);
  CHECK(search(d) == line_status::zero_direction);
  CHECK(search(std::vector<double>(d.size(), 2.0)) == line_status::zero_direction);
  d[2] = nan_value;
  CHECK(search(d) == line_status::nonfinite_direction);
  d[2] = std::numeric_limits<double>::infinity();
  CHECK(search(d) == line_status::nonfinite_direction);

  // Downhill: nothing beats the base.
  std::vector<double> down = policy.expectation_gradient(rewards());
  for (double& x : down) x = -x;
  rlvr::policy_line line(policy, prompts, asked, {}, random_key(2), right_answer, down);
  CHECK(rlvr::search_direction(policy, prompts, r, 1, down, line).line.status == line_status::no_improvement);
  CHECK(message([&] {
          (void)rlvr::search_direction(policy, prompts, r, 1, down, line, {.kl = 0});
        }).find("kl is 0") != std::string::npos);
}

TEST_CASE("search_direction: the first alpha by KL, by displacement or as given, on either grid") {
  rlvr::tabular::policy policy(some_logits(1), completion_count);
  const auto prompts = policy.prompts();
  const auto asked = requests(50);
  const rollouts r = policy.sample(prompts, asked, {}, random_key(1));
  const std::vector<double> d = policy.expectation_gradient(rewards());
  rlvr::policy_line line(policy, prompts, asked, {}, random_key(2), right_answer, d);
  const auto search = [&](const rlvr::direction_search_options& o) {
    return rlvr::search_direction(policy, prompts, r, 1, d, line, o);
  };
  const auto by_ratio = search({.scale = rlvr::step_scale::displacement, .displacement = 0.01});
  CHECK_FALSE(by_ratio.calibration);
  CHECK(by_ratio.line.points[1].alpha * rlvr::norm(policy.space(), d) ==
        Approx(0.01 * rlvr::norm(policy.space(), policy.parameters())));

  const auto given = search(
      {.scale = rlvr::step_scale::given, .grid = rlvr::step_grid::classical, .alpha_base = 3});
  REQUIRE(given.line.points.size() == 6);
  for (std::size_t i = 0; i < 5; ++i) CHECK(given.line.points[i + 1].alpha == rlvr::classical_grid(3)[i]);

  const auto by_kl = search({.grid = rlvr::step_grid::classical, .kl = 0.1});
  REQUIRE(by_kl.calibration);
  CHECK(by_kl.line.points[2].alpha == Approx(by_kl.calibration->alpha_for(0.1)));
  CHECK(message([&] { (void)search({.alpha_base = -1}); }).find("alpha_base is -1") != std::string::npos);
  CHECK(message([&] { (void)search({.displacement = nan_value}); }).find("displacement is") != std::string::npos);
}

}  // namespace
