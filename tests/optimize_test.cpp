#include <cmath>
#include <limits>
#include <vector>

#include "catch.hpp"
#include <rlvr/backend/tabular/policy.hpp>
#include <rlvr/core/random.hpp>
#include <rlvr/optimize/adamw.hpp>
#include <rlvr/optimize/schedule.hpp>

namespace {

// torch.optim.AdamW, single tensor, maximize=True, one coordinate, line by line.
struct scalar_adamw {
  double lr, beta1, beta2, eps, weight_decay;
  double exp_avg = 0, exp_avg_sq = 0;
  int steps = 0;

  double step(double param, double grad, double scale) {
    const double rate = lr * scale;
    grad = -grad;  // maximize
    ++steps;
    param *= 1 - rate * weight_decay;
    exp_avg += (grad - exp_avg) * (1 - beta1);                          // lerp_
    exp_avg_sq = exp_avg_sq * beta2 + (1 - beta2) * grad * grad;        // mul_, addcmul_
    const double bias_correction1 = 1 - std::pow(beta1, steps);
    const double bias_correction2 = 1 - std::pow(beta2, steps);
    const double denom = std::sqrt(exp_avg_sq) / std::sqrt(bias_correction2) + eps;
    return param - rate / bias_correction1 * exp_avg / denom;           // addcdiv_
  }
};

// A space whose vectors the caller cannot read, as on a GPU.
class opaque_space {
 public:
  class vector {
   public:
    vector(vector&&) = default;
    vector& operator=(vector&&) = default;

   private:
    friend class opaque_space;
    vector() = default;
    std::vector<float> hidden_;
  };

  explicit opaque_space(std::size_t n) : n_(n) {}
  std::size_t dimension() const { return n_; }
  vector zero() const {
    vector v;
    v.hidden_.assign(n_, 0.0f);
    return v;
  }
  void assign(vector& y, const vector& x) const { y.hidden_ = x.hidden_; }
  void scale(double a, vector& y) const {
    for (float& v : y.hidden_) v *= static_cast<float>(a);
  }
  void axpy(double a, const vector& x, vector& y) const {
    for (std::size_t i = 0; i < n_; ++i) y.hidden_[i] += static_cast<float>(a) * x.hidden_[i];
  }
  double dot(const vector& x, const vector& y) const {
    double sum = 0;
    for (std::size_t i = 0; i < n_; ++i) sum += double{x.hidden_[i]} * y.hidden_[i];
    return sum;
  }
  template <class F, class... X>
  void map(F f, vector& y, const X&... x) const {
    for (std::size_t i = 0; i < n_; ++i) y.hidden_[i] = f(y.hidden_[i], x.hidden_[i]...);
  }
  vector from(const std::vector<double>& values) const {
    vector v = zero();
    for (std::size_t i = 0; i < n_; ++i) v.hidden_[i] = static_cast<float>(values[i]);
    return v;
  }
  std::vector<float> read(const vector& v) const { return v.hidden_; }

 private:
  std::size_t n_;
};

static_assert(rlvr::elementwise<opaque_space>);

double gradient_at(int step, std::size_t i) {
  return std::ldexp(rlvr::random_key(7).uniform(i, static_cast<std::uint32_t>(step)) - 0.4, static_cast<int>(3 * i) - 9);
}

}  // namespace

TEST_CASE("AdamW follows PyTorch's order of operations coordinate by coordinate", "[optimize]") {
  const rlvr::adamw_options options = GENERATE(
      rlvr::adamw_options{}, rlvr::adamw_options{.learning_rate = 0.3, .beta1 = 0, .beta2 = 0, .weight_decay = 0},
      rlvr::adamw_options{.learning_rate = 0.05, .beta1 = 0.8, .beta2 = 0.98, .epsilon = 1e-3, .weight_decay = 0.5});
  const std::size_t n = 5;
  const rlvr::tabular::space space(n);
  rlvr::adamw<rlvr::tabular::space> optimiser(space, options);
  std::vector<double> theta{1, -2, 0, 30, 0.5}, expected = theta;
  std::vector<scalar_adamw> reference(n, scalar_adamw{options.learning_rate, options.beta1, options.beta2,
                                                      options.epsilon, options.weight_decay});
  for (int step = 0; step < 30; ++step) {
    const double factor = rlvr::warmup_cosine(static_cast<std::size_t>(step), 5, 30);
    std::vector<double> g(n);
    for (std::size_t i = 0; i < n; ++i) {
      g[i] = i == 4 ? 0.0 : gradient_at(step, i);
      expected[i] = reference[i].step(expected[i], g[i], factor);
    }
    optimiser.step(space, theta, g, factor);
    for (std::size_t i = 0; i < n; ++i) REQUIRE(theta[i] == Approx(expected[i]).epsilon(1e-12));
  }
  CHECK(optimiser.state().steps == 30);
}

TEST_CASE("AdamW's first step is the learning rate times the gradient's sign", "[optimize]") {
  const rlvr::tabular::space space(3);
  rlvr::adamw<rlvr::tabular::space> optimiser(space, {.learning_rate = 0.25, .weight_decay = 0});
  std::vector<double> theta{0, 0, 0};
  optimiser.step(space, theta, {1e3, -2.0, 0.0});
  CHECK(theta[0] == Approx(0.25));
  CHECK(theta[1] == Approx(-0.25));
  CHECK(theta[2] == 0.0);
}

TEST_CASE("AdamW runs on vectors that the host cannot read, in float", "[optimize]") {
  const std::size_t n = 4;
  const opaque_space hidden(n);
  const rlvr::tabular::space plain(n);
  const rlvr::adamw_options options{.learning_rate = 0.01, .beta2 = 0.98, .weight_decay = 0.1};
  rlvr::adamw<opaque_space> a(hidden, options);
  rlvr::adamw<rlvr::tabular::space> b(plain, options);
  std::vector<double> theta{1, -1, 0.5, 2};
  opaque_space::vector x = hidden.from(theta);
  for (int step = 0; step < 20; ++step) {
    std::vector<double> g(n);
    for (std::size_t i = 0; i < n; ++i) g[i] = gradient_at(step, i);
    a.step(hidden, x, hidden.from(g));
    b.step(plain, theta, g);
  }
  // 20 steps of a few float roundings each, on values of about 1.
  for (std::size_t i = 0; i < n; ++i) CHECK(hidden.read(x)[i] == Approx(theta[i]).margin(2e-5));
}

TEST_CASE("AdamW ascends: a policy learns the completion that is worth most", "[optimize]") {
  rlvr::tabular::policy policy(std::vector<double>(6, 0.0), 3);
  const std::vector<double> worth{0.5, 0, 0, 0, 0, 0.5};
  rlvr::adamw<rlvr::tabular::space> optimiser(policy.space(), {.learning_rate = 0.1, .weight_decay = 0});
  std::vector<double> theta = policy.parameters();
  const double before = policy.expectation(worth);
  for (int step = 0; step < 100; ++step) {
    optimiser.step(policy.space(), theta, policy.expectation_gradient(worth));
    policy.assign(theta);
  }
  CHECK(before == Approx(1.0 / 3));
  CHECK(policy.expectation(worth) > 0.99);
}

TEST_CASE("AdamW names the option that is out of range", "[optimize]") {
  const rlvr::tabular::space space(1);
  using optimiser = rlvr::adamw<rlvr::tabular::space>;
  const double nan = std::numeric_limits<double>::quiet_NaN();
  CHECK_THROWS_AS(optimiser(space, {.learning_rate = -1}), std::invalid_argument);
  CHECK_THROWS_AS(optimiser(space, {.learning_rate = nan}), std::invalid_argument);
  CHECK_THROWS_WITH(optimiser(space, {.beta1 = 1}), "adamw: beta1 1 is not in [0, 1)");
  CHECK_THROWS_AS(optimiser(space, {.beta2 = -0.1}), std::invalid_argument);
  CHECK_THROWS_AS(optimiser(space, {.epsilon = 0}), std::invalid_argument);
  CHECK_THROWS_AS(optimiser(space, {.weight_decay = nan}), std::invalid_argument);
}

TEST_CASE("The warm-up rises linearly and the cosine falls to its floor", "[optimize]") {
  CHECK(rlvr::warmup_cosine(0, 4, 12) == 0.25);
  CHECK(rlvr::warmup_cosine(3, 4, 12) == 1.0);
  CHECK(rlvr::warmup_cosine(4, 4, 12) == 1.0);
  CHECK(rlvr::warmup_cosine(8, 4, 12, 0.2) == Approx(0.6));
  CHECK(rlvr::warmup_cosine(12, 4, 12, 0.2) == 0.2);
  CHECK(rlvr::warmup_cosine(1000, 4, 12) == 0.0);
  CHECK(rlvr::warmup_cosine(0, 0, 10) == 1.0);
  CHECK(rlvr::warmup_cosine(0, 0, 0, 0.1) == 0.1);
}
