#include <algorithm>
#include <cmath>
#include <cstddef>
#include <limits>
#include <set>
#include <stdexcept>
#include <string>
#include <vector>

#include <rlvr/core/random.hpp>
#include <rlvr/search/line_search.hpp>

#include "catch.hpp"

namespace {

using rlvr::line_point;
using rlvr::line_search_options;
using rlvr::line_search_result;
using rlvr::line_status;

constexpr double nan_value = std::numeric_limits<double>::quiet_NaN();
constexpr double infinity = std::numeric_limits<double>::infinity();

// Base 0 at alpha = 0; a hump of height 1 at ln alpha = peak, below 0 beyond `width`.
struct hump {
  double peak = 0, width = 2;
  double operator()(double alpha) const {
    if (alpha == 0) return 0;
    const double d = (std::log(alpha) - peak) / width;
    return d < 0 ? std::exp(-d * d) : 1 - d * d;
  }
};

std::string message(auto&& call) {
  try {
    call();
  } catch (const std::invalid_argument& error) {
    return error.what();
  }
  return "no invalid_argument";
}

void check_laws(const line_search_result& r, std::size_t budget) {
  REQUIRE(!r.points.empty());
  CHECK(r.points.size() <= budget);
  CHECK(r.points.front().alpha == 0);
  CHECK(r.points.front().value == r.base.value);
  for (std::size_t i = 1; i < r.points.size(); ++i) CHECK(r.points[i - 1].alpha < r.points[i].alpha);
  bool found = false;
  for (const line_point& p : r.points)
    if (p.alpha == r.alpha) {
      found = true;
      CHECK(p.value >= r.base.value);
      if (r.status == line_status::improved) CHECK(p.value > r.base.value);
    }
  CHECK(found);
  if (r.status == line_status::no_improvement) CHECK(r.alpha == 0);
  if (r.status == line_status::budget_spent && r.alpha == 0) CHECK(r.points.size() == budget);
}

TEST_CASE("line_objective accepts points and numbers, nothing else") {
  STATIC_REQUIRE(rlvr::line_objective<hump>);
  STATIC_REQUIRE(rlvr::line_objective<const hump>);
  STATIC_REQUIRE(rlvr::line_objective<float (*)(double)>);
  STATIC_REQUIRE(rlvr::line_objective<line_point (*)(double)>);
  STATIC_REQUIRE(!rlvr::line_objective<void (*)(double)>);
  STATIC_REQUIRE(!rlvr::line_objective<std::string (*)(double)>);
  STATIC_REQUIRE(!rlvr::line_objective<double (*)()>);
  STATIC_REQUIRE(!rlvr::line_objective<double>);
  auto point = [](double) { return line_point{.alpha = 7, .value = 3, .kl = 1}; };
  CHECK(rlvr::evaluate_at(point, 2.0).alpha == 2);
  CHECK(rlvr::evaluate_at(point, 2.0).kl == 1);
}

TEST_CASE("geometric_search finds a peak wherever the ladder begins") {
  for (double peak : {-9.0, -3.3, 0.0, 1.234, 4.0, 8.5})
    for (std::size_t refinements : {0, 1, 2, 4}) {
      std::set<double> seen;
      auto f = [&, g = hump{peak, 2}](double alpha) {
        CHECK(seen.insert(alpha).second);
        return g(alpha);
      };
      line_search_options options;
      options.max_evaluations = 40;
      options.refinements = refinements;
      const line_search_result r = rlvr::geometric_search(f, 1.0, options);
      check_laws(r, 40);
      CHECK(r.status == line_status::improved);
      CHECK(seen.size() == r.points.size());
      CHECK(std::fabs(std::log(r.alpha) - peak) <
            std::log(options.factor) * std::pow(2.0, -static_cast<double>(refinements)));
    }
}

TEST_CASE("geometric_search with the default options ends soon after the fall") {
  // Peak at 2^3: six initial alphas 1..32, of which 16 and 32 fail to exceed 8; the base; two rounds of two.
  const line_search_result r = rlvr::geometric_search(hump{3 * std::log(2.0), 2}, 1.0);
  CHECK(r.points.size() == 11);
  CHECK(r.alpha == 8);
  // Fewer initial alphas end it no later than two beyond the peak.
  line_search_options eager;
  eager.initial = 0;
  eager.refinements = 0;
  CHECK(rlvr::geometric_search(hump{0, 2}, 1.0, eager).points.back().alpha == 4);
  eager.falling = 1;
  CHECK(rlvr::geometric_search(hump{0, 2}, 1.0, eager).points.back().alpha == 2);
}

TEST_CASE("geometric_search keeps its budget and its promise on every shape") {
  for (std::size_t budget = 2; budget <= 24; ++budget) {
    line_search_options options;
    options.max_evaluations = budget;
    std::size_t calls = 0, reports = 0;
    const auto search = [&](auto f) {
      calls = reports = 0;
      const line_search_result r = rlvr::geometric_search(
          [&](double alpha) {
            ++calls;
            return f(alpha);
          },
          0.5, options,
          [&](rlvr::search_progress p) {
            CHECK(p.done == ++reports);
            CHECK(p.budget == budget);
          });
      check_laws(r, budget);
      CHECK(calls == r.points.size());
      CHECK(reports == calls);
      return r;
    };
    // Flat: a plateau at the base's level may rise at either end, so the budget is used, and nothing has improved.
    CHECK(search([](double) { return 1.0; }).status == line_status::no_improvement);
    CHECK(calls == budget);
    const line_search_result up = search([](double alpha) { return alpha; });
    CHECK(up.status == line_status::budget_spent);
    CHECK(up.alpha == up.points.back().alpha);
    CHECK(calls == budget);
    // Falling from the start: however small the smallest alpha, a peak may lie between it and 0.
    const line_search_result down = search([](double alpha) { return -alpha; });
    CHECK(down.status == line_status::budget_spent);
    CHECK(down.alpha == 0);
    CHECK(calls == budget);
    const line_search_result late = search(hump{2, 2});
    CHECK(late.status ==
          (late.alpha == late.points.back().alpha ? line_status::budget_spent : line_status::improved));
    if (budget >= 8) CHECK(late.status == line_status::improved);
    for (double bad : {nan_value, infinity, -infinity})
      CHECK(search([&](double alpha) { return alpha == 0 ? 1.0 : bad; }).status == line_status::budget_spent);
    // Rises, then breaks: the break ends the ladder and is itself never chosen.
    for (double bad : {nan_value, infinity, -infinity}) {
      const line_search_result r = search([&](double alpha) { return alpha > 3 ? bad : alpha; });
      CHECK(r.alpha <= 3);
      CHECK(r.points.back().alpha <= 4);
      CHECK(r.status == (budget < 5 ? line_status::budget_spent : line_status::improved));
    }
    // Pure noise of unit size: never worse than the base by its own account.
    for (std::uint64_t seed = 0; seed < 20; ++seed) {
      std::uint64_t index = 0;
      (void)search([&](double) { return rlvr::random_key(seed).uniform(index++); });
    }
    // Accuracy that saturates: ties are no rise, so the plateau above the base ends the ladder.
    const line_search_result top = search([](double alpha) { return alpha < 2 ? alpha / 2 : 1.0; });
    if (budget >= 5) CHECK(top.status == line_status::improved);
    CHECK(calls <= 14);
  }
}

TEST_CASE("geometric_search: noise at small steps does not end the ladder") {
  // Below the base by noise at the first four alphas, a peak at 16.
  const auto f = [](double alpha) { return alpha == 0 ? 0.0 : alpha < 10 ? -.01 : alpha < 40 ? 1.0 : -1.0; };
  CHECK(rlvr::geometric_search(f, 1.0).status == line_status::improved);
  line_search_options eager;
  eager.initial = 0;
  CHECK(rlvr::geometric_search(f, 1.0, eager).alpha == 0);
}

TEST_CASE("geometric_search: ties with the base hide no peak") {
  const auto parabola = [](double alpha) { return alpha * (1 - alpha); };
  const auto clipped = [&](double alpha) { return std::max(0.0, parabola(alpha)); };  // an accuracy above base 0
  for (double first : {1.0, 2.0, 6.0, 8.0, 100.0}) {
    CAPTURE(first);
    for (const bool clips : {false, true}) {
      const line_search_result r =
          clips ? rlvr::geometric_search(clipped, first) : rlvr::geometric_search(parabola, first);
      check_laws(r, 20);
      CHECK(r.status == line_status::improved);
      CHECK(std::fabs(std::log2(r.alpha / 0.5)) < (first < 100 ? 0.25 : 1));  // the budget ends a refinement early
    }
  }
  // The plateau may be on either side, and the budget is split between them.
  for (double peak : {-6.0, -4.5, 4.5, 6.0}) {
    const auto island = [&](double alpha) { return std::max(0.0, 1 - std::fabs(std::log(alpha) - peak)); };
    const line_search_result r =
        rlvr::geometric_search([&](double alpha) { return alpha == 0 ? 0.0 : island(alpha); }, 1.0);
    CAPTURE(peak);
    check_laws(r, 20);
    CHECK(r.status == line_status::improved);
    CHECK(std::fabs(std::log(r.alpha) - peak) < std::log(2.0));
  }
}

TEST_CASE("geometric_search: a first alpha too large for the budget says so") {
  const auto parabola = [](double alpha) { return alpha * (1 - alpha); };
  const line_search_result r = rlvr::geometric_search(parabola, 1e5);
  check_laws(r, 20);
  CHECK(r.status == line_status::budget_spent);
  CHECK(r.alpha == 0);
  CHECK(rlvr::geometric_search(parabola, r.points[1].alpha).status == line_status::improved);  // from where it ended
}

TEST_CASE("geometric_search: a first alpha far beyond the peak, with a noisy floor") {
  const auto f = [](double alpha) {
    if (alpha == 0) return .4;
    const double d = std::log(alpha) + 5;
    return std::fabs(d) < 2 ? .8 - .1 * d * d : d < 0 ? .4 : .01 + .005 * std::sin(40 * d);
  };
  const line_search_result r = rlvr::geometric_search(f, 1.0);
  CHECK(r.status == line_status::improved);
  CHECK(std::fabs(std::log(r.alpha) + 5) < .25);
}

TEST_CASE("geometric_search at the ends of the double range") {
  CHECK(rlvr::geometric_search([](double alpha) { return alpha; }, 1e308).status ==
        line_status::budget_spent);
  CHECK(rlvr::geometric_search([](double alpha) { return -alpha; }, 5e-324).status ==
        line_status::no_improvement);
  CHECK(rlvr::geometric_search(hump{std::log(1e300), 2}, 1e300).status == line_status::improved);
}

TEST_CASE("guards exclude points from the choice but not from the landscape") {
  // Value rises with alpha; kl = alpha^2, entropy = 1 / (1 + alpha), length = 1 + alpha.
  const auto f = [](double alpha) {
    return line_point{.value = alpha, .kl = alpha * alpha, .entropy = 1 / (1 + alpha), .length = 1 + alpha};
  };
  const std::vector<double> alphas{.5, 1, 2, 3, 5, 10};
  CHECK(rlvr::grid_search(f, alphas).alpha == 3);  // length 4 times the base's
  CHECK(rlvr::grid_search(f, alphas, {.max_kl = infinity, .max_length_ratio = infinity}).alpha == 10);
  CHECK(rlvr::grid_search(f, alphas, {.max_kl = 4}).alpha == 2);
  CHECK(rlvr::grid_search(f, alphas, {.min_entropy_ratio = .5}).alpha == 1);
  CHECK(rlvr::grid_search(f, alphas, {.max_length_ratio = 1.5}).alpha == .5);
  const line_search_result none = rlvr::grid_search(f, alphas, {.max_kl = .1});
  CHECK(none.status == line_status::no_improvement);
  CHECK(none.alpha == 0);
  CHECK(none.points.size() == 7);

  line_search_options options;
  options.guards.max_kl = 5;
  const line_search_result r = rlvr::geometric_search(f, .1, options);
  CHECK(r.status == line_status::improved);  // bracketed by the guard
  CHECK(r.alpha > 1.6);
  CHECK(r.alpha * r.alpha <= 5);
  // A first alpha outside the guards: the search walks left until it is inside.
  const line_search_result left = rlvr::geometric_search(f, 100, options);
  CHECK(left.status == line_status::improved);
  CHECK(left.alpha > 1.3);
  CHECK(left.alpha * left.alpha <= 5);
}

TEST_CASE("a NaN statistic violates its guard") {
  const line_point base{.value = 0, .entropy = 1, .length = 1};
  const line_point good{.value = 1, .entropy = 1, .length = 1};
  CHECK(rlvr::admissible(good, base, {}));
  for (double line_point::*field :
       {&line_point::value, &line_point::kl, &line_point::entropy, &line_point::length}) {
    line_point bad = good;
    bad.*field = nan_value;
    CHECK_FALSE(rlvr::admissible(bad, base, {}));
  }
}

TEST_CASE("grid_search evaluates the grid and takes the best, ties to the smaller alpha") {
  const std::vector<double> alphas{1, 2, 3, 4};
  std::size_t reports = 0;
  const line_search_result r =
      rlvr::grid_search([](double a) { return a == 0             ? 0.
                                              : a == 2 || a == 4 ? 1.
                                                                 : -1.; }, alphas, {},
                        [&](rlvr::search_progress p) {
                          CHECK(p.done == ++reports);
                          CHECK(p.budget == 5);
                        });
  CHECK(r.status == line_status::improved);
  CHECK(r.alpha == 2);
  CHECK(reports == 5);
  check_laws(r, 5);
  CHECK(rlvr::grid_search([](double) { return 1.0; }, alphas).status == line_status::no_improvement);
  CHECK(rlvr::grid_search([](double a) { return a; }, alphas).status == line_status::improved);
  CHECK(rlvr::grid_search([](double a) { return a == 0 ? 0 : nan_value; }, alphas).alpha == 0);
  const auto grid = rlvr::classical_grid(.1);
  CHECK(rlvr::grid_search(hump{std::log(.2), 1}, grid).alpha == .2);
  CHECK(grid[0] == .05);
  CHECK(grid[4] == 1);
}

TEST_CASE("bad input to the searches is named") {
  const auto f = [](double alpha) { return alpha; };
  const auto grid = [&](std::vector<double> alphas) {
    return message([&] { (void)rlvr::grid_search(f, alphas); });
  };
  CHECK(grid({}) == "grid_search: alphas is empty");
  CHECK(grid({1, 2, 2}).find("alphas[2] = 2") != std::string::npos);
  CHECK(grid({1, 3, 2}).find("alphas[2] = 2") != std::string::npos);
  CHECK(grid({0, 1}).find("alphas[0] is 0") != std::string::npos);
  CHECK(grid({-1}).find("alphas[0] is -1") != std::string::npos);
  CHECK(grid({1, nan_value}).find("alphas[1] is nan") != std::string::npos);
  CHECK(grid({1, infinity}).find("alphas[1] is inf") != std::string::npos);
  for (double bad : {0.0, -1.0, nan_value, infinity}) {
    CHECK(message([&] { (void)rlvr::classical_grid(bad); }).find("alpha_base is") != std::string::npos);
    CHECK(message([&] { (void)rlvr::geometric_search(f, bad); }).find("first_alpha is") != std::string::npos);
  }
  const auto geometric = [&](auto change) {
    line_search_options options;
    change(options);
    return message([&] { (void)rlvr::geometric_search(f, 1.0, options); });
  };
  CHECK(geometric([](auto& o) { o.factor = 1; }).find("factor is 1") != std::string::npos);
  CHECK(geometric([](auto& o) { o.factor = nan_value; }).find("factor is nan") != std::string::npos);
  CHECK(geometric([](auto& o) { o.max_evaluations = 1; }).find("max_evaluations is 1") != std::string::npos);
  CHECK(geometric([](auto& o) { o.falling = 0; }).find("falling is 0") != std::string::npos);
  CHECK(geometric([](auto& o) { o.guards.max_kl = 0; }).find("max_kl is 0") != std::string::npos);
  CHECK(geometric([](auto& o) { o.guards.min_entropy_ratio = -1; }).find("min_entropy_ratio is -1") !=
        std::string::npos);
  CHECK(geometric([](auto& o) { o.guards.max_length_ratio = nan_value; }).find("max_length_ratio is nan") !=
        std::string::npos);
  const auto broken = [](double) { return nan_value; };
  CHECK(message([&] { (void)rlvr::geometric_search(broken, 1.0); }) ==
        "line search: the value at alpha = 0 is nan");
}

TEST_CASE("an exception of the objective passes through") {
  const auto f = [](double alpha) -> double {
    if (alpha > 2) throw std::runtime_error("engine lost");
    return alpha;
  };
  CHECK_THROWS_AS(rlvr::geometric_search(f, 1.0), std::runtime_error);
}

TEST_CASE("every line_status has a name") {
  std::set<std::string_view> names;
  for (line_status s : {line_status::improved, line_status::no_improvement, line_status::nonfinite_direction,
                        line_status::zero_direction, line_status::budget_spent})
    names.insert(rlvr::to_string(s));
  CHECK(names.size() == 5);
  CHECK(!names.contains(""));
}

}  // namespace
