/// The laws of optimizer hold on the optimizers here over every kind of space, and catch those that break them.

#include <cmath>
#include <cstddef>
#include <string>
#include <vector>

#include <rlvr/backend/eigen/space.hpp>
#include <rlvr/backend/tabular/space.hpp>
#include <rlvr/core/random.hpp>
#include <rlvr/laws/optimizer.hpp>
#include <rlvr/optimize/adamw.hpp>
#include <rlvr/optimize/sgd.hpp>

#include "archetypes.hpp"
#include "catch.hpp"

using namespace rlvr;

namespace {

std::string joined(const laws::violations& broken) {
  std::string out;
  for (const std::string& law : broken) out += law + "\n";
  return out;
}

double value(std::size_t index, std::size_t i) {
  return 2 * random_key(50 + index).uniform(i) - 1;
}

const std::vector<sgd_options> all_sgd{
    {},
    {.learning_rate = 0.5, .weight_decay = 0.3},
    {.learning_rate = 0.1, .momentum = 0.9},
    {.learning_rate = 0.1, .momentum = 0.9, .form = momentum_form::nesterov, .weight_decay = 0.1}};
const std::vector<adamw_options> all_adamw{
    {}, {.learning_rate = 0.3, .beta1 = 0, .beta2 = 0}, {.beta1 = 0.5, .epsilon = 1e-2, .weight_decay = 0.4}};

template <class S, class Fill>
void check_sgd(const S& space, Fill fill, double tolerance) {
  for (const sgd_options& o : all_sgd)
    CHECK(joined(laws::optimizer_laws(space, [&] { return sgd<S>(space, o); }, fill, {tolerance})) == "");
}
template <class S, class Fill>
void check_adamw(const S& space, Fill fill, double tolerance) {
  for (const adamw_options& o : all_adamw)
    CHECK(joined(laws::optimizer_laws(space, [&] { return adamw<S>(space, o); }, fill, {tolerance})) == "");
}

using vec = std::vector<double>;
void host_fill(vec& v, std::size_t index) {
  for (std::size_t i = 0; i < v.size(); ++i) v[i] = value(index, i);
}

/// sgd with something wrong.
struct faulty {
  const tabular::space& space;
  sgd<tabular::space> inner{space, {.learning_rate = 0.1, .momentum = 0.5}};
  explicit faulty(const tabular::space& s) : space(s) {}
};

struct descends : faulty {
  using faulty::faulty;
  void step(const tabular::space& s, vec& theta, const vec& g, double factor) {
    vec down = g;
    s.scale(-1, down);
    inner.step(s, theta, down, factor);
  }
};
struct ignores_factor : faulty {
  using faulty::faulty;
  void step(const tabular::space& s, vec& theta, const vec& g, double factor) {
    inner.step(s, theta, g, factor >= 0 && is_finite(factor) ? 1.0 : factor);
  }
};
struct factor_scales_the_gradient_too : faulty {
  using faulty::faulty;
  void step(const tabular::space& s, vec& theta, const vec& g, double factor) {
    vec scaled = g;
    if (factor > 0) s.scale(factor, scaled);
    inner.step(s, theta, scaled, factor);
  }
};
struct moves_by_itself : faulty {
  using faulty::faulty;
  void step(const tabular::space& s, vec& theta, const vec& g, double factor) {
    inner.step(s, theta, g, factor);
    theta[3] += 1e-6 * factor;
  }
};
struct writes_the_gradient : faulty {
  using faulty::faulty;
  void step(const tabular::space& s, vec& theta, const vec& g, double factor) {
    inner.step(s, theta, g, factor);
    const_cast<vec&>(g)[0] *= 0.5;
  }
};
struct keeps_the_gradients_address : faulty {
  using faulty::faulty;
  const vec* last = nullptr;
  void step(const tabular::space& s, vec& theta, const vec& g, double factor) {
    if (last) inner.step(s, theta, *last, 0.5 * factor);
    inner.step(s, theta, g, factor);
    last = &g;
  }
};
struct keeps_thetas_address : faulty {
  using faulty::faulty;
  const vec* first = nullptr;
  void step(const tabular::space& s, vec& theta, const vec& g, double factor) {
    if (first == nullptr) first = &theta;
    inner.step(s, theta, g, first == &theta ? factor : 0.5 * factor);
  }
};
struct counts_for_all : faulty {
  using faulty::faulty;
  static inline double calls = 0;
  void step(const tabular::space& s, vec& theta, const vec& g, double factor) {
    inner.step(s, theta, g, factor / (1 + 1e-3 * ++calls));
  }
};
struct takes_any_factor : faulty {
  using faulty::faulty;
  void step(const tabular::space& s, vec& theta, const vec& g, double factor) {
    inner.step(s, theta, g, factor < 0 || !is_finite(factor) ? 0.0 : factor);
  }
};
struct moves_before_it_throws : faulty {
  using faulty::faulty;
  void step(const tabular::space& s, vec& theta, const vec& g, double factor) {
    s.axpy(0.01, g, theta);
    inner.step(s, theta, g, factor);
    s.axpy(-0.01, g, theta);
  }
};
struct counts_before_it_throws : faulty {
  using faulty::faulty;
  double steps = 0;
  void step(const tabular::space& s, vec& theta, const vec& g, double factor) {
    ++steps;
    inner.step(s, theta, g, factor / steps);
  }
};

template <class O>
std::string found() {
  const tabular::space space(12);
  return joined(laws::optimizer_laws(
      space, [&] { return O(space); }, host_fill));
}

}  // namespace

TEST_CASE("optimizer_laws hold on sgd and adamw over every kind of space", "[laws][optimize]") {
  const tabular::space open(12);
  check_sgd(open, host_fill, 1e-10);
  check_adamw(open, host_fill, 1e-10);

  const auto opaque_fill = [](archetype::vector& v, std::size_t index) {
    vec values(12);
    host_fill(values, index);
    v = archetype::space(12).from_host(values);
  };
  check_sgd(archetype::space(12), opaque_fill, 1e-10);
  check_adamw(archetype::elementwise_space(12), opaque_fill, 1e-10);

  const eigen::space<float> single({{"x", {12}, 0}});
  const auto eigen_fill = [](auto& v, std::size_t index) {
    for (Eigen::Index i = 0; i < v.size(); ++i) v[i] = static_cast<float>(value(index, static_cast<std::size_t>(i)));
  };
  check_sgd(single, eigen_fill, 1e-5);
  check_adamw(single, eigen_fill, 1e-5);
}

TEST_CASE("optimizer_laws catch broken optimizers", "[laws][optimize]") {
  CHECK_THAT(found<descends>(), Catch::Contains("ascent: the first step from 0 leads uphill"));
  CHECK_THAT(found<ignores_factor>(), Catch::Contains("factor: the first step from 0 is proportional") &&
                                          Catch::Contains("factor: 0 leaves theta as it is"));
  CHECK_THAT(found<factor_scales_the_gradient_too>(), Catch::Contains("factor: the first step from 0 is proportional"));
  CHECK_THAT(found<moves_by_itself>(), Catch::Contains("zero gradient: "));
  CHECK_THAT(found<writes_the_gradient>(), Catch::Contains("gradient: is not changed"));
  CHECK_THAT(found<keeps_the_gradients_address>(), Catch::Contains("state: the gradient may be written over"));
  CHECK_THAT(found<keeps_thetas_address>(), Catch::Contains("state: theta may be another object at each step"));
  CHECK_THAT(found<counts_for_all>(),
             Catch::Contains("pure: the same steps again") && Catch::Contains("state: steps of another optimizer"));
  CHECK_THAT(found<takes_any_factor>(), Catch::Contains("errors: factor nan: expected std::invalid_argument") &&
                                            Catch::Contains("errors: factor -1 leaves the state as it is"));
  CHECK_THAT(found<moves_before_it_throws>(), Catch::Contains("errors: factor inf leaves theta as it is"));
  CHECK_THAT(found<counts_before_it_throws>(), Catch::Contains("errors: factor nan leaves the state as it is"));
}
