/// The CUDA decoder against what transformers computed in float64: log-probs, entropies and the gradient of every named
/// tensor, of small llama, qwen2, qwen3, olmo2 and olmo3 models (tests/golden/decoder_golden.py). Compiled twice, as
/// cuda_decoder_test.cpp is: for the GPU's host double, and with RLVR_TEST_ON_GPU for a GPU.

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <fstream>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

#include <rlvr/backend/cuda/decoder.hpp>
#include <rlvr/backend/decoder/config.hpp>
#include <rlvr/backend/decoder/layout.hpp>

#include "catch.hpp"
#ifndef RLVR_TEST_ON_GPU
#include <rlvr/backend/cuda/host_device.cuh>
#endif

namespace {

using namespace rlvr;
using nlohmann::json;

std::shared_ptr<cuda::device> make_device() {
#ifdef RLVR_TEST_ON_GPU
  return cuda::open_device();
#else
  return std::make_shared<cuda::host_device>();
#endif
}

/// The program may have been built in another checkout, and then runs at the root of this one.
json golden() {
  const std::string file = "tests/golden/decoder_golden.json";
  std::ifstream from(RLVR_SOURCE_DIR "/" + file);
  if (!from) from.open(file);
  REQUIRE(from);
  return json::parse(from);
}

/// The parameters of decoder_golden.py.
std::vector<float> formula_parameters(const decoder::config& c) {
  const std::vector<tensor_slot> slots = decoder::layout(c);
  std::vector<float> theta(decoder::parameter_count(slots));
  for (std::size_t k = 0; k < slots.size(); ++k)
    for (std::size_t i = 0; i < slots[k].size(); ++i) {
      const double j = static_cast<double>(i);
      const double w = std::sin(0.7 * j + 0.003 * j * j + 1.3 * static_cast<double>(k) + 0.1);
      theta[slots[k].offset + i] = static_cast<float>(slots[k].name.ends_with("norm.weight") ? 1 + 0.1 * w : 0.35 * w);
    }
  return theta;
}

}  // namespace

TEST_CASE("cuda decoder: log-probs, entropies and every named gradient are those of transformers",
          "[cuda][transformers]") {
  const json g = golden();
  ragged<token> prompts;
  rollouts r;
  std::vector<double> coefficients;
  for (const json& c : g["rollouts"]) {
    prompts.push_back(c["prompt"].get<std::vector<token>>());
    const auto completion = c["completion"].get<std::vector<token>>();
    r.tokens.insert(r.tokens.end(), completion.begin(), completion.end());
    r.offsets.push_back(r.tokens.size());
    r.prompts.push_back(static_cast<std::uint32_t>(prompts.size() - 1));
    for (const double w : c["coefficients"]) coefficients.push_back(w);
  }
  std::set<std::string> families;
  for (const auto& [name, shape] : g["shapes"].items()) {
    INFO(name);
    const decoder::config c = decoder::parse_config(shape["config"].get<std::string>(), "golden");
    families.insert(c.model_type);
    cuda::decoder model(make_device(), c, formula_parameters(c), {.compute = cuda::scalar_type::float32});
    REQUIRE(model.space().dimension() == shape["parameters"].get<std::size_t>());
    for (const json& expected : shape["batches"]) {
      const token_scores s = model.score(prompts, r, expected["temperature"]);
      std::size_t t = 0;
      for (const json& rollout : expected["rollouts"])
        for (std::size_t i = 0; i < rollout["log_probs"].size(); ++i, ++t) {
          CHECK(std::fabs(s.log_probs[t] - rollout["log_probs"][i].get<double>()) < 5e-5);
          CHECK(std::fabs(s.entropies[t] - rollout["entropies"][i].get<double>()) < 5e-5);
        }
      REQUIRE(t == r.tokens.size());
    }
    auto gradient = model.space().zero();
    model.accumulate_score(prompts, r, coefficients, shape["batches"].back()["temperature"], gradient);
    std::vector<float> h(model.space().dimension());
    model.space().download(gradient, h);
    REQUIRE(shape["gradient"].size() == model.space().tensors().size());
    double whole = 0;
    for (const json& expected : shape["gradient"]) whole = std::hypot(whole, expected[1].get<double>());
    for (std::size_t k = 0; k < shape["gradient"].size(); ++k) {
      const json& expected = shape["gradient"][k];
      const tensor_slot& slot = model.space().tensors()[k];
      INFO(slot.name);
      REQUIRE(expected[0] == slot.name);
      const float* part = h.data() + slot.offset;
      double squares = 0, sum = 0, wave = 0, chirp = 0;
      for (std::size_t i = 0; i < slot.size(); ++i) {
        const double x = static_cast<double>(part[i]), j = static_cast<double>(i);
        squares += x * x;
        sum += x;
        wave += x * std::sin(1.1 * j + 0.5);
        chirp += x * std::sin(0.7 * j + 0.003 * j * j);
      }
      // An error of 1e-4 of the tensor's norm, or of 1e-7 of the whole gradient's where the exact gradient is 0 (a
      // key's bias: softmax does not see it); a sum over n entries of +-1 makes it up to sqrt(n) times as large.
      const double error = std::max(1e-4 * expected[1].get<double>(), 1e-7 * whole);
      const double of_sums = error * std::sqrt(static_cast<double>(slot.size()));
      CHECK(std::fabs(std::sqrt(squares) - expected[1].get<double>()) < error);
      CHECK(std::fabs(sum - expected[2].get<double>()) < of_sums);
      CHECK(std::fabs(static_cast<double>(part[0]) - expected[3].get<double>()) < error);
      CHECK(std::fabs(static_cast<double>(part[slot.size() / 2]) - expected[4].get<double>()) < error);
      CHECK(std::fabs(static_cast<double>(part[slot.size() - 1]) - expected[5].get<double>()) < error);
      CHECK(std::fabs(wave - expected[6].get<double>()) < of_sums);
      CHECK(std::fabs(chirp - expected[7].get<double>()) < of_sums);
    }
  }
  CHECK(families == std::set<std::string>{"llama", "olmo2", "olmo3", "qwen2", "qwen3"});
}
