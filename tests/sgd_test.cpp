#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <stdexcept>
#include <utility>
#include <vector>

#include <rlvr/backend/tabular/policy.hpp>
#include <rlvr/core/norm.hpp>
#include <rlvr/core/random.hpp>
#include <rlvr/optimize/adamw.hpp>
#include <rlvr/optimize/clip_norm.hpp>
#include <rlvr/optimize/optimizer.hpp>
#include <rlvr/optimize/sgd.hpp>

#include "archetypes.hpp"
#include "catch.hpp"

namespace {

using namespace rlvr;

static_assert(optimizer<sgd<tabular::space>, tabular::space> && optimizer<adamw<tabular::space>, tabular::space>);
static_assert(optimizer<sgd<archetype::space>, archetype::space>, "sgd needs no elementwise operations");
static_assert(!optimizer<sgd<tabular::space>, archetype::space>, "an optimizer belongs to a space");

template <class S>
concept has_adamw = requires { typename adamw<S>; };
static_assert(has_adamw<tabular::space> && !has_adamw<archetype::space>, "adamw needs elementwise operations");

struct optimizer_without_factor {
  void step(const tabular::space&, std::vector<double>&, const std::vector<double>&) {}
};
static_assert(!optimizer<optimizer_without_factor, tabular::space>, "schedules scale the learning rate");

struct optimizer_that_changes_gradients {
  void step(const tabular::space&, std::vector<double>&, std::vector<double>&, double) {}
};
static_assert(!optimizer<optimizer_that_changes_gradients, tabular::space>);

constexpr double infinity = std::numeric_limits<double>::infinity();
constexpr double not_a_number = std::numeric_limits<double>::quiet_NaN();

}  // namespace

TEST_CASE("sgd: momentum by hand", "[optimize]") {
  const tabular::space space(1);
  SECTION("none: theta + lr g") {
    sgd plain(space, {.learning_rate = 0.5});
    std::vector<double> theta{1};
    plain.step(space, theta, {4});
    CHECK(theta[0] == 3);
    plain.step(space, theta, {4}, 0.25);
    CHECK(theta[0] == 3.5);
  }
  SECTION("heavy ball: the velocity goes on when the gradient ends") {
    sgd heavy(space, {.learning_rate = 0.5, .momentum = 0.5});
    std::vector<double> theta{0};
    heavy.step(space, theta, {4});
    CHECK(theta[0] == 2);
    heavy.step(space, theta, {0});
    CHECK(theta[0] == 3);
    heavy.step(space, theta, {0});
    CHECK(theta[0] == 3.5);
  }
  SECTION("nesterov: one step ahead") {
    sgd ahead(space, {.learning_rate = 0.5, .momentum = 0.5, .form = momentum_form::nesterov});
    std::vector<double> theta{0};
    ahead.step(space, theta, {4});
    CHECK(theta[0] == 3);
    ahead.step(space, theta, {0});
    CHECK(theta[0] == 3.5);
  }
  SECTION("weight decay pulls to zero with the learning rate's schedule") {
    sgd decaying(space, {.learning_rate = 0.5, .weight_decay = 0.5});
    std::vector<double> theta{16};
    decaying.step(space, theta, {0});
    CHECK(theta[0] == 12);
    decaying.step(space, theta, {0}, 0);
    CHECK(theta[0] == 12);
  }
}

TEST_CASE("sgd: opaque vectors get the same steps", "[optimize]") {
  const sgd_options options{
      .learning_rate = 0.1, .momentum = 0.9, .form = momentum_form::nesterov, .weight_decay = 0.1};
  const tabular::space open(3);
  const archetype::space opaque(3);
  sgd a(open, options);
  sgd b(opaque, options);
  std::vector<double> x{1, -2, 3};
  archetype::vector y = opaque.from_host({1, -2, 3});
  for (int i = 0; i < 5; ++i) {
    a.step(open, x, {0.5, 1.0 * i, -1});
    b.step(opaque, y, opaque.from_host({0.5, 1.0 * i, -1}));
  }
  opaque.axpy(-1, opaque.from_host(x), y);
  CHECK(opaque.dot(y, y) == 0);
}

TEST_CASE("optimizers: a saved state goes on bit for bit", "[optimize]") {
  const tabular::space space(3);
  const auto gradient = [](std::uint64_t step) {
    std::vector<double> g(3);
    for (std::uint32_t i = 0; i < 3; ++i) g[i] = random_key(8).uniform(step, i) - 0.4;
    return g;
  };
  const auto run = [&](auto& optimizer, std::vector<double>& theta, std::uint64_t from, std::uint64_t to) {
    for (std::uint64_t step = from; step < to; ++step)
      optimizer.step(space, theta, gradient(step), 1 / (1 + static_cast<double>(step)));
  };
  /// Checks that five steps and seven more are twelve; returns whether the seven need what the five left behind.
  const auto needs_state = [&](auto fresh, auto resumed) {
    std::vector<double> whole{1, -2, 3}, parts = whole;
    auto one = fresh(), two = fresh();
    run(one, whole, 0, 12);
    run(two, parts, 0, 5);
    const auto saved = two.state();  // these vectors can be copied
    std::vector<double> elsewhere = parts, forgetful = parts;
    run(two, elsewhere, 5, 9);
    auto again = resumed(saved), anew = fresh();
    run(again, parts, 5, 12);
    run(anew, forgetful, 5, 12);
    CHECK(parts == whole);
    return forgetful != whole;
  };
  const adamw_options adam{.learning_rate = 0.1, .weight_decay = 0.1};
  CHECK(needs_state([&] { return adamw(space, adam); },
                    [&](const adamw_state<tabular::space>& s) { return adamw(space, adam, s); }));
  for (const double momentum : {0.0, 0.5})
    for (const momentum_form form : {momentum_form::heavy_ball, momentum_form::nesterov}) {
      const sgd_options o{.learning_rate = 0.1, .momentum = momentum, .form = form, .weight_decay = 0.1};
      CHECK(needs_state([&] { return sgd(space, o); },
                        [&](const sgd_state<tabular::space>& s) { return sgd(space, o, s); }) == (momentum > 0));
    }
  CHECK_THROWS_WITH(sgd(space, {}, {space.zero()}), "sgd: a state with velocity for momentum 0");
  CHECK_THROWS_WITH(sgd(space, {.momentum = 0.5}, sgd_state<tabular::space>{}),
                    "sgd: a state without velocity for momentum 0.5");
  CHECK_THROWS_WITH(adamw(space, {.beta1 = 1}, {space.zero(), space.zero(), 1}), "adamw: beta1 1 is not in [0, 1)");

  // Vectors that can only be moved.
  const archetype::space opaque(3);
  sgd heavy(opaque, {.momentum = 0.5}, {opaque.from_host({1, 2, 3})});
  archetype::vector y = opaque.zero();
  heavy.step(opaque, y, opaque.zero());
  CHECK(norm(opaque, y) == Approx(0.01 * 0.5 * std::sqrt(14.0)));
  CHECK(norm(opaque, *heavy.state().velocity) == Approx(0.5 * std::sqrt(14.0)));
}

TEST_CASE("sgd: names the option that is out of range", "[optimize]") {
  const tabular::space space(1);
  using optimizer = sgd<tabular::space>;
  CHECK_THROWS_WITH(optimizer(space, {.learning_rate = -1}), "sgd: learning_rate -1 is not a number >= 0");
  CHECK_THROWS_AS(optimizer(space, {.learning_rate = infinity}), std::invalid_argument);
  CHECK_THROWS_WITH(optimizer(space, {.momentum = 1}), "sgd: momentum 1 is not in [0, 1)");
  CHECK_THROWS_AS(optimizer(space, {.momentum = not_a_number}), std::invalid_argument);
  CHECK_THROWS_AS(optimizer(space, {.weight_decay = -0.1}), std::invalid_argument);
}

TEST_CASE("clip_norm: shortens what is too long and nothing else", "[optimize]") {
  const tabular::space space(2);
  std::vector<double> g{3, -4};
  CHECK(clip_norm(space, g, 5.1) == 5);
  CHECK(g == std::vector<double>{3, -4});
  CHECK(clip_norm(space, g, infinity) == 5);
  CHECK(g == std::vector<double>{3, -4});
  CHECK(clip_norm(space, g, 1) == 5);
  CHECK(g[0] == Approx(0.6).epsilon(1e-6));
  CHECK(g[1] == Approx(-0.8).epsilon(1e-6));
  CHECK(norm(space, g) <= 1);

  std::vector<double> zero{0, 0};
  CHECK(clip_norm(space, zero, 1) == 0);
  CHECK(zero == std::vector<double>{0, 0});

  std::vector<double> broken{1, infinity};
  CHECK(clip_norm(space, broken, 1) == infinity);
  CHECK(broken == std::vector<double>{1, infinity});
  broken[1] = not_a_number;
  CHECK(std::isnan(clip_norm(space, broken, 1)));
  CHECK(broken[0] == 1);

  CHECK_THROWS_WITH(clip_norm(space, g, 0), "clip_norm: the largest norm is 0");
  CHECK_THROWS_AS(clip_norm(space, g, not_a_number), std::invalid_argument);
}
