/// examples/dopr on the GPU's host double: the path of --device cuda, and the numbers of --device cpu.

#include <cstddef>
#include <memory>
#include <string>
#include <type_traits>
#include <vector>

#include <rlvr/backend/cuda/host_device.cuh>
#include <rlvr/tokenizer/folder.hpp>

#include "../examples/devices.hpp"
#include "../examples/dopr_runs.hpp"
#include "catch.hpp"

namespace {

const devices::cuda host_double{
    [](int) -> std::shared_ptr<rlvr::cuda::device> { return std::make_shared<rlvr::cuda::host_device>(); }};

}  // namespace

TEST_CASE("cuda examples: runs of dopr go as on the CPU", "[cuda][dopr]") {
  // Three steps of the shipped model, looked at before and after.
  const auto run = [](const auto& device) {
    using namespace dopr_runs;
    const std::string here = std::string(RLVR_SOURCE_DIR) + "/examples";
    const workshop<std::remove_cvref_t<decltype(device)>> shop{
        device,
        rlvr::tokenizer::load_model(here + "/models/noisy"),
        rlvr::decoder::read_prompts(here + "/data/chain_train.jsonl"),
        {},
        rlvr::decoder::read_prompts(here + "/data/chain_test.jsonl"),
        {}};
    std::vector<chain::task_prompt> tasks;
    for (std::size_t i = 0; i < 4; ++i) tasks.push_back({shop.train.prompts[i], shop.train.answers[i]});
    return train(shop, methods[dopr_method], shop.set_of(tasks), tasks, shop.first(shop.test, 6), 3 * group_size, 1e-3,
                 3);
  };
  const dopr_runs::run_result got = run(host_double), expected = run(devices::cpu{});
  REQUIRE(got.looks.size() == 2);
  REQUIRE(expected.looks.size() == 2);
  CHECK(expected.looks[1].accuracy != expected.looks[0].accuracy);
  for (std::size_t i = 0; i < 2; ++i) {
    CHECK(got.looks[i].rollouts == expected.looks[i].rollouts);
    CHECK(got.looks[i].accuracy == Approx(expected.looks[i].accuracy).margin(1e-9));
  }
  CHECK(got.kept == Approx(expected.kept));
}
