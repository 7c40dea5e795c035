/// The CUDA decoder against what transformers computed in float64: log-probs, entropies and the gradient of every named
/// tensor, of small llama, qwen2, qwen3, olmo2 and olmo3 models (tests/golden/decoder_golden.py). Compiled twice, as
/// cuda_decoder_test.cpp is: for the GPU's host double, and with RLVR_TEST_ON_GPU for a GPU.

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

#include <rlvr/backend/cuda/decoder.hpp>
#include <rlvr/backend/decoder/config.hpp>

#include "catch.hpp"
#include "cuda/test_device.hpp"
#include "decoder_golden.hpp"

using namespace rlvr;
using nlohmann::json;

TEST_CASE("cuda decoder: log-probs, entropies and every named gradient are those of transformers",
          "[cuda][transformers]") {
  const json g = decoder_golden::golden();
  const decoder_golden::batch b(g);
  std::set<std::string> families;
  for (const auto& [name, shape] : g["shapes"].items()) {
    INFO(name);
    const decoder::config c = decoder_golden::config_of(shape);
    families.insert(c.model_type);
    cuda::decoder model(make_device(), c, decoder_golden::parameters<float>(c),
                        {.compute = cuda::scalar_type::float32});
    REQUIRE(model.space().dimension() == shape["parameters"].get<std::size_t>());
    for (const json& expected : shape["batches"]) {
      const token_scores s = model.score(b.prompts, b.r, expected["temperature"]);
      std::size_t t = 0;
      for (const json& rollout : expected["rollouts"])
        for (std::size_t i = 0; i < rollout["log_probs"].size(); ++i, ++t) {
          CHECK(std::fabs(s.log_probs[t] - rollout["log_probs"][i].get<double>()) < 5e-5);
          CHECK(std::fabs(s.entropies[t] - rollout["entropies"][i].get<double>()) < 5e-5);
        }
      REQUIRE(t == b.r.tokens.size());
    }
    auto gradient = model.space().zero();
    model.accumulate_score(b.prompts, b.r, b.coefficients, shape["batches"].back()["temperature"], gradient);
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
