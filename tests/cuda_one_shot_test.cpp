/// examples/one_shot_rlvr on the GPU's host double: the path of --device cuda, and the report of --device cpu.

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <stdexcept>
#include <string_view>
#include <utility>
#include <vector>

#include <rlvr/backend/cuda/host_device.cuh>
#include <rlvr/tokenizer/folder.hpp>

#include "../examples/devices.hpp"
#include "../examples/one_shot_program.hpp"
#include "../examples/progress.hpp"
#include "../examples/report.hpp"
#include "catch.hpp"
#include "cuda/models.hpp"

namespace {

const devices::cuda host_double{
    [](int) -> std::shared_ptr<rlvr::cuda::device> { return std::make_shared<rlvr::cuda::host_device>(); }};

/// Prompts of two tokens; a completion is right when its first token and the prompt's make a multiple of 3.
one_shot_program::prompt_set two_tokens(std::uint64_t seed, std::size_t count) {
  one_shot_program::prompt_set out;
  const rlvr::random_key key(seed);
  std::vector<rlvr::token> asked;
  for (std::size_t i = 0; i < count; ++i) {
    asked.push_back(static_cast<rlvr::token>(2 + key.below(11, 2 * i)));
    out.prompts.push_back(std::vector{asked[i], static_cast<rlvr::token>(2 + key.below(11, 2 * i + 1))});
  }
  out.verify = [asked](std::size_t i, std::span<const rlvr::token> completion) {
    return rlvr::verdict{.reward = (completion[0] + asked[i]) % 3 == 0 ? 1.0 : 0.0};
  };
  return out;
}

rlvr::decoder::config shape() {
  rlvr::decoder::config c = cuda_models::small("qwen3");
  c.vocab_size = 13;
  return c;
}

template <class P>
std::vector<float> parameters_of(const P& policy) {
  std::vector<float> out(policy.space().dimension());
  devices::parameter_reader(policy)(0, out);
  return out;
}

struct run_result {
  one_shot_program::outcome outcome;
  std::vector<float> improved;
};
template <class Device>
run_result improve(const Device& device, const one_shot_program::options& o) {
  const one_shot_program::prompt_sets sets{two_tokens(1, o.rollouts / o.group_size), two_tokens(2, 20),
                                           two_tokens(3, 20), two_tokens(4, 20)};
  const std::vector<float> base = cuda_models::parameters(shape());
  auto policy = device.load(shape(), base, 1);
  report::progress bar(report::display::lines, [](std::string_view) {});
  std::vector<float> improved;
  one_shot_program::outcome out =
      one_shot_program::improve(policy, sets, o, bar, [&] { improved = parameters_of(policy); });
  CHECK(parameters_of(policy) == base);
  return {std::move(out), std::move(improved)};
}

void check_near(const report::comparison& got, const report::comparison& expected) {
  CHECK(got.base_accuracy == Approx(expected.base_accuracy).margin(1e-9));
  CHECK(got.accuracy == Approx(expected.accuracy).margin(1e-9));
  CHECK(got.difference == Approx(expected.difference).margin(1e-9));
  CHECK(got.low == Approx(expected.low).margin(1e-9));
  CHECK(got.high == Approx(expected.high).margin(1e-9));
}

}  // namespace

TEST_CASE("cuda examples: one_shot_rlvr reports what it reports on the CPU", "[cuda][one_shot]") {
  // The draws are the same Philox bits, so accuracies are equal; what is a float sum is near.
  for (const std::size_t steps : {1, 3}) {
    one_shot_program::options o;
    o.rollouts = 480;
    o.group_size = 8;
    o.max_tokens = 2;
    o.steps = steps;
    o.seed = 5;
    const run_result got = improve(host_double, o), expected = improve(devices::cpu{}, o);
    const report::one_shot &g = got.outcome.report, &e = expected.outcome.report;
    INFO(steps << " steps: " << e.status);
    CHECK(e.status == "improved");
    CHECK(g.status == e.status);
    CHECK(g.advice == e.advice);
    CHECK(g.rollouts == 480);
    CHECK(g.prompts == 60);
    CHECK(g.base.accuracy == Approx(e.base.accuracy).margin(1e-9));
    CHECK(g.base.entropy == Approx(e.base.entropy).epsilon(1e-4));
    CHECK(g.alpha == Approx(e.alpha).epsilon(1e-3));
    CHECK(g.alpha > 0);
    REQUIRE(g.landscape.size() == e.landscape.size());
    REQUIRE(g.landscape.size() == got.outcome.landscape.size());
    CHECK(g.landscape.size() > 3);
    for (std::size_t i = 0; i < g.landscape.size(); ++i) {
      const report::landscape_point &a = g.landscape[i], &b = e.landscape[i];
      CHECK(a.alpha == Approx(b.alpha).epsilon(1e-3));
      CHECK(a.accuracy == Approx(b.accuracy).margin(1e-9));
      CHECK(a.entropy == Approx(b.entropy).epsilon(1e-3));
      CHECK(a.kl == Approx(b.kl).epsilon(1e-2).margin(1e-5));
      CHECK(a.collapsed == b.collapsed);
    }
    check_near(g.confirmation, e.confirmation);
    check_near(g.test, e.test);
    CHECK(g.test.difference > 0);
    CHECK(g.subset_cosine.subsets == e.subset_cosine.subsets);
    REQUIRE(g.subset_cosine.matrix.size() == e.subset_cosine.matrix.size());
    for (std::size_t i = 0; i < g.subset_cosine.matrix.size(); ++i)
      CHECK(g.subset_cosine.matrix[i] == Approx(e.subset_cosine.matrix[i]).margin(1e-4));
    CHECK(g.noise_scale == Approx(e.noise_scale).epsilon(1e-3));
    CHECK(g.correct_incorrect_cosine == Approx(e.correct_incorrect_cosine).margin(1e-4));

    double off = 0, moved = 0;
    const std::vector<float> base = cuda_models::parameters(shape());
    REQUIRE(got.improved.size() == base.size());
    REQUIRE(expected.improved.size() == base.size());
    for (std::size_t i = 0; i < base.size(); ++i) {
      off += std::pow(static_cast<double>(got.improved[i] - expected.improved[i]), 2);
      moved += std::pow(static_cast<double>(expected.improved[i] - base[i]), 2);
    }
    CHECK(moved > 0);
    CHECK(off < 1e-6 * moved);
  }
}

TEST_CASE("cuda examples: a program without CUDA says how to build one with it", "[cuda]") {
  CHECK_THROWS_AS(devices::with_device("cuda", [](const auto&) {}), std::invalid_argument);
  CHECK_THROWS_WITH(devices::with_device("cuda", [](const auto&) {}),
                    Catch::Contains("--device cuda") && Catch::Contains("RLVR_REQUIRE_CUDA=ON"));
  bool ran = false;
  devices::with_device("cpu", [&](const devices::cpu&) { ran = true; });
  CHECK(ran);
}
