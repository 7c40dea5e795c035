/// Optimizers against PyTorch (golden/optimizer_golden.py).

#include <cmath>
#include <cstddef>
#include <fstream>
#include <string>
#include <vector>

#include <rlvr/backend/decoder/json.hpp>
#include <rlvr/backend/tabular/space.hpp>
#include <rlvr/optimize/adamw.hpp>
#include <rlvr/optimize/clip_norm.hpp>
#include <rlvr/optimize/sgd.hpp>

#include "catch.hpp"

namespace {

using namespace rlvr;
using nlohmann::json;

json golden() {
  std::ifstream file(RLVR_SOURCE_DIR "/tests/golden/optimizer_golden.json");
  REQUIRE(file);
  return json::parse(file);
}

/// The gradient of the script.
std::vector<double> gradient(std::size_t n, std::size_t step) {
  std::vector<double> g(n, 0.0);
  for (std::size_t i = 0; i + 1 < n; ++i) {
    const double x = static_cast<double>(i), s = static_cast<double>(step);
    g[i] = std::sin(1.7 * x + 0.9 * s + 0.3 * x * s) * std::pow(4.0, x - 3);
  }
  return g;
}

/// The tolerance: 25 steps, each a few roundings (1.1e-16) of values up to 30, some after cancellation.
void check_close(const std::vector<double>& ours, const json& reference) {
  REQUIRE(ours.size() == reference.size());
  for (std::size_t i = 0; i < ours.size(); ++i) {
    CAPTURE(i);
    CHECK(std::fabs(ours[i] - reference[i].get<double>()) <= 1e-14 + 1e-13 * std::fabs(ours[i]));
  }
}

template <class Optimizer>
void follow(const json& all, const json& theta_of, Optimizer optimizer, const tabular::space& space) {
  std::vector<double> theta = all["start"];
  std::size_t next = 0;
  for (std::size_t step = 0; step < all["steps"].get<std::size_t>(); ++step) {
    optimizer.step(space, theta, gradient(theta.size(), step), 1 / (1 + static_cast<double>(step) / 8));
    if (next == all["shown"].size() || all["shown"][next] != step) continue;
    CAPTURE(step);
    check_close(theta, theta_of[next++]);
  }
  CHECK(next == all["shown"].size());
}

}  // namespace

TEST_CASE("adamw: the steps of torch.optim.AdamW", "[optimize][golden]") {
  const json all = golden();
  const tabular::space space(all["start"].size());
  CHECK(all["adamw"].size() == 3);
  for (const json& c : all["adamw"])
    follow(all, c["theta"],
           adamw(space, {.learning_rate = c["learning_rate"],
                         .beta1 = c["beta1"],
                         .beta2 = c["beta2"],
                         .epsilon = c["epsilon"],
                         .weight_decay = c["weight_decay"]}),
           space);
}

TEST_CASE("sgd: the steps of torch.optim.SGD", "[optimize][golden]") {
  const json all = golden();
  const tabular::space space(all["start"].size());
  CHECK(all["sgd"].size() == 5);
  for (const json& c : all["sgd"])
    follow(all, c["theta"],
           sgd(space, {.learning_rate = c["learning_rate"],
                       .momentum = c["momentum"],
                       .form = c["nesterov"] ? momentum_form::nesterov : momentum_form::heavy_ball,
                       .weight_decay = c["weight_decay"]}),
           space);
}

TEST_CASE("clip_norm: what torch's clip_grad_norm_ does", "[optimize][golden]") {
  const json all = golden();
  const tabular::space space(all["start"].size());
  CHECK(all["clip"].size() == 3);
  for (const json& c : all["clip"]) {
    std::vector<double> g = gradient(space.dimension(), 0);
    CHECK(clip_norm(space, g, c["most"]) == Approx(c["norm"].get<double>()).epsilon(1e-14));
    check_close(g, c["clipped"]);
  }
}
