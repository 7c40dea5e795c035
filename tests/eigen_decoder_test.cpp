#include <algorithm>
#include <cmath>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include <rlvr/backend/decoder/config.hpp>
#include <rlvr/backend/decoder/model_folder.hpp>
#include <rlvr/backend/eigen/decoder.hpp>
#include <rlvr/backend/eigen/load.hpp>
#include <rlvr/core/validate.hpp>

#include "catch.hpp"
#include "decoder_golden.hpp"

namespace {

using namespace rlvr;
using decoder_golden::golden;
using nlohmann::json;

static_assert(policy<eigen::decoder<float>> && policy<eigen::decoder<double>>);
static_assert(elementwise<eigen::space<float>> && tensor_layout<eigen::space<double>>);

template <class T>
eigen::decoder<T> small(const json& shape, const eigen::decoder_options& options = {.threads = 2}) {
  const decoder::config c = decoder_golden::config_of(shape);
  return eigen::decoder<T>(c, decoder_golden::parameters<double>(c), options);
}

/// Some prompts that share beginnings, one of them twice.
ragged<token> some_prompts() {
  ragged<token> out;
  for (const std::vector<token>& p : {std::vector<token>{2, 3, 4, 5}, {2, 3, 7}, {9}, {2, 3, 4, 5}, {2, 3}})
    out.push_back(p);
  return out;
}

const std::vector<sample_request> some_requests{{0, 17, 0}, {1, 5, 3}, {2, 40, 0}, {3, 9, 0}, {4, 2, 0}};

}  // namespace

TEST_CASE("eigen decoder: log-probs, entropies and gradients are those of transformers in float64", "[eigen]") {
  const json g = golden();
  const decoder_golden::batch b(g);
  for (const auto& [name, shape] : g["shapes"].items()) {
    INFO(name);
    auto model = small<double>(shape);
    REQUIRE(model.space().dimension() == shape["parameters"].get<std::size_t>());
    for (const json& expected : shape["batches"]) {
      const token_scores s = model.score(b.prompts, b.r, expected["temperature"]);
      std::size_t t = 0;
      for (const json& rollout : expected["rollouts"])
        for (std::size_t i = 0; i < rollout["log_probs"].size(); ++i, ++t) {
          CHECK(s.log_probs[t] == Approx(rollout["log_probs"][i].get<double>()).epsilon(1e-10));
          CHECK(s.entropies[t] == Approx(rollout["entropies"][i].get<double>()).epsilon(1e-10));
        }
      REQUIRE(t == b.r.tokens.size());
    }
    auto gradient = model.space().zero();
    model.accumulate_score(b.prompts, b.r, b.coefficients, shape["batches"].back()["temperature"], gradient);
    const auto tensors = model.space().tensors();
    REQUIRE(shape["gradient"].size() == tensors.size());
    for (std::size_t k = 0; k < tensors.size(); ++k) {
      const json& expected = shape["gradient"][k];
      INFO(tensors[k].name);
      REQUIRE(expected[0] == tensors[k].name);
      const auto part = gradient.segment(static_cast<Eigen::Index>(tensors[k].offset),
                                         static_cast<Eigen::Index>(tensors[k].size()));
      // Sums and single entries cancel, so the tensor's norm is the scale of the error. A key's bias moves no
      // probability (softmax does not see it): before RoPE mixes it, rounding is all that is left there.
      const double size = std::max(expected[1].get<double>(), 1e-3);
      CHECK(part.norm() == Approx(expected[1].get<double>()).margin(1e-10 * size));
      CHECK(part.sum() == Approx(expected[2].get<double>()).margin(1e-9 * size));
      CHECK(part[0] == Approx(expected[3].get<double>()).margin(1e-10 * size));
      CHECK(part[part.size() / 2] == Approx(expected[4].get<double>()).margin(1e-10 * size));
      CHECK(part[part.size() - 1] == Approx(expected[5].get<double>()).margin(1e-10 * size));
    }
  }
}

TEST_CASE("eigen decoder: float agrees with double", "[eigen]") {
  const json g = golden();
  const decoder_golden::batch b(g);
  for (const auto& [name, shape] : g["shapes"].items()) {
    INFO(name);
    auto exact = small<double>(shape);
    auto model = small<float>(shape);
    const token_scores e = exact.score(b.prompts, b.r, 0.7), s = model.score(b.prompts, b.r, 0.7);
    for (std::size_t t = 0; t < e.log_probs.size(); ++t) {
      CHECK(s.log_probs[t] == Approx(e.log_probs[t]).margin(5e-5));
      CHECK(s.entropies[t] == Approx(e.entropies[t]).margin(5e-5));
    }
    auto eg = exact.space().zero();
    auto sg = model.space().zero();
    exact.accumulate_score(b.prompts, b.r, b.coefficients, 0.7, eg);
    model.accumulate_score(b.prompts, b.r, b.coefficients, 0.7, sg);
    CHECK((sg.cast<double>() - eg).norm() < 2e-5 * eg.norm());
  }
}

TEST_CASE("eigen decoder: the gradient of every tensor against finite differences", "[eigen]") {
  const json g = golden();
  for (const auto& [name, shape] : g["shapes"].items()) {
    auto model = small<double>(shape);
    const ragged<token> prompts = some_prompts();
    const double temperature = 0.8;
    const rollouts r = model.sample(prompts, some_requests, {temperature, 7}, random_key(11));
    std::vector<double> c;
    for (std::size_t t = 0; t < r.tokens.size(); ++t) c.push_back(2 * random_key(5).uniform(t) - 1);
    auto gradient = model.space().zero();
    model.accumulate_score(prompts, r, c, temperature, gradient);
    const auto theta = model.parameters();
    const auto value = [&](double h, const auto& direction) {
      model.assign(theta, h, direction);
      const token_scores s = model.score(prompts, r, temperature);
      double sum = 0;
      for (std::size_t t = 0; t < c.size(); ++t) sum += c[t] * s.log_probs[t];
      return sum;
    };
    for (const tensor_slot& tensor : model.space().tensors()) {
      INFO(name << ": " << tensor.name);
      // Along the tensor's own gradient nothing cancels, and a random direction sees the rest.
      for (const bool own : {true, false}) {
        auto d = model.space().zero();
        for (std::size_t j = 0; j < tensor.size(); ++j) {
          const auto i = static_cast<Eigen::Index>(tensor.offset + j);
          d[i] = own ? gradient[i] : 2 * random_key(6).uniform(tensor.offset + j) - 1;
        }
        d /= d.norm();
        const double h = 1e-3;
        const double slope = (8 * (value(h, d) - value(-h, d)) - (value(2 * h, d) - value(-2 * h, d))) / (12 * h);
        const auto i = static_cast<Eigen::Index>(tensor.offset), n = static_cast<Eigen::Index>(tensor.size());
        const double size = gradient.segment(i, n).norm();
        CHECK(std::fabs(slope - gradient.dot(d)) < 1e-6 * size);
      }
    }
  }
}

TEST_CASE("eigen decoder: sampled log-probs are the scored ones, bit for bit", "[eigen]") {
  const json g = golden();
  for (const auto& [name, shape] : g["shapes"].items()) {
    INFO(name);
    auto model = small<float>(shape);
    const ragged<token> prompts = some_prompts();
    const rollouts r = model.sample(prompts, some_requests, {0.9, 12}, random_key(3));
    validate(r, prompts.size());
    REQUIRE(r.size() == 73);
    for (std::size_t i = 0; i < r.size(); ++i) {
      const auto completion = r.completion(i);
      REQUIRE((completion.size() >= 1 && completion.size() <= 12));
      for (std::size_t t = 0; t + 1 < completion.size(); ++t) REQUIRE(completion[t] != 1);
      REQUIRE((completion.back() == 1) == (r.finished[i] == 1));
      REQUIRE((r.finished[i] == 1 || completion.size() == 12));
    }
    const token_scores s = model.score(prompts, r, 0.9);
    CHECK(s.log_probs == r.log_probs);
    CHECK(s.entropies == r.entropies);
  }
}

TEST_CASE("eigen decoder: the same bits for any number of threads and slices", "[eigen]") {
  const json shape = golden()["shapes"]["qwen3"];
  const ragged<token> prompts = some_prompts();
  auto one = small<float>(shape, {.threads = 1, .chunk_tokens = 64, .slice_rollouts = 1000});
  const rollouts r = one.sample(prompts, some_requests, {1.0, 9}, random_key(3));
  const std::vector<double> c(r.tokens.size(), 0.37);
  auto expected = one.space().zero();
  one.accumulate_score(prompts, r, c, 1.0, expected);
  const token_scores scores = one.score(prompts, r, 1.0);
  for (std::size_t threads : {2, 3, 4})
    for (std::size_t slice : {1, 7, 64}) {
      auto many = small<float>(shape, {.threads = threads, .chunk_tokens = 64, .slice_rollouts = slice});
      const rollouts again = many.sample(prompts, some_requests, {1.0, 9}, random_key(3));
      CHECK(again.tokens == r.tokens);
      CHECK(again.log_probs == r.log_probs);
      CHECK(again.entropies == r.entropies);
      auto g = many.space().zero();
      many.accumulate_score(prompts, r, c, 1.0, g);
      CHECK(g == expected);
      const token_scores s = many.score(prompts, r, 1.0);
      CHECK(s.log_probs == scores.log_probs);
    }
  // A request alone, and the later part of a request, give the draws of the whole.
  const rollouts alone = one.sample(prompts, std::vector<sample_request>{{2, 10, 30}}, {1.0, 9}, random_key(3));
  for (std::size_t i = 0; i < 10; ++i) {
    const std::size_t whole = 17 + 5 + 30 + i;
    CHECK(std::vector<token>(alone.completion(i).begin(), alone.completion(i).end()) ==
          std::vector<token>(r.completion(whole).begin(), r.completion(whole).end()));
    CHECK(alone.log_probs[alone.offsets[i]] == r.log_probs[r.offsets[whole]]);
  }
}

TEST_CASE("eigen decoder: chunks of any size give the same gradient up to rounding", "[eigen]") {
  const json shape = golden()["shapes"]["llama"];
  const ragged<token> prompts = some_prompts();
  auto whole = small<double>(shape);
  const rollouts r = whole.sample(prompts, some_requests, {1.0, 9}, random_key(3));
  std::vector<double> c;
  for (std::size_t t = 0; t < r.tokens.size(); ++t) c.push_back(t % 3 == 0 ? 0.0 : 1.0);
  auto expected = whole.space().zero();
  whole.accumulate_score(prompts, r, c, 1.0, expected);
  for (std::size_t tokens : {1, 10, 100}) {
    auto cut = small<double>(shape, {.threads = 2, .chunk_tokens = tokens});
    auto g = cut.space().zero();
    cut.accumulate_score(prompts, r, c, 1.0, g);
    CHECK((g - expected).norm() < 1e-12 * expected.norm());
    CHECK(whole.last_work().rows < cut.last_work().rows);
  }
}

TEST_CASE("eigen decoder: equal prefixes are computed once", "[eigen]") {
  auto model = small<float>(golden()["shapes"]["llama"], {.threads = 1});
  ragged<token> prompts;
  prompts.push_back(std::vector<token>{2, 3, 4, 5});
  rollouts r;
  for (const std::vector<token>& c : {std::vector<token>{7, 8, 1}, {7, 8, 1}, {7, 9, 1}, {7, 8, 1}}) {
    r.tokens.insert(r.tokens.end(), c.begin(), c.end());
    r.offsets.push_back(r.tokens.size());
    r.prompts.push_back(0);
  }
  auto g = model.space().zero();
  std::vector<double> c(r.tokens.size(), 1.0);
  model.accumulate_score(prompts, r, c, 1.0, g);
  CHECK(model.last_work().rows == 4 + 3);        // the prompt, 7, 7 8 and 7 9
  CHECK(model.last_work().logit_rows == 1 + 3);  // the prompt's last row and those three
  // A rollout without coefficients costs nothing.
  for (std::size_t t = 6; t < 9; ++t) c[t] = 0;
  model.accumulate_score(prompts, r, c, 1.0, g);
  CHECK(model.last_work().rows == 4 + 2);
}

TEST_CASE("eigen decoder: work is counted within each layer's window", "[eigen]") {
  for (const char* name : {"llama", "olmo3"}) {
    auto model = small<float>(golden()["shapes"][name], {.threads = 1});
    ragged<token> prompts;
    prompts.push_back(std::vector<token>{2, 3, 4, 5, 6, 2, 3});
    rollouts r;
    r.tokens = {7, 8, 1};
    r.offsets.push_back(3);
    r.prompts.push_back(0);
    const auto pairs = [&](std::size_t rows) {
      std::size_t sum = 0;
      for (std::size_t l = 0; l < model.config().layers; ++l)
        for (std::size_t row = 0; row < rows; ++row)
          for (std::size_t key = 0; key <= row; ++key) {
            const std::size_t window = model.config().window(l);
            sum += window == 0 || row - key < window;
          }
      return sum;
    };
    CHECK((pairs(9) < model.config().layers * 45) == (name == std::string("olmo3")));
    (void)model.score(prompts, r, 1.0);
    CHECK(model.last_work().attention_pairs == pairs(9));
    auto g = model.space().zero();
    model.accumulate_score(prompts, r, std::vector<double>(3, 1.0), 1.0, g);
    CHECK(model.last_work().attention_pairs == pairs(9));
    const std::vector<sample_request> one{{0, 1, 0}};
    CHECK(model.sample(prompts, one, {.max_tokens = 1}, random_key(1)).tokens.size() == 1);
    CHECK(model.last_work().attention_pairs == pairs(7));
  }
}

TEST_CASE("eigen decoder: a folder's weights become the policy's own", "[eigen]") {
  namespace fs = std::filesystem;
  const fs::path folder = fs::temp_directory_path() / "rlvr_eigen_load_test";
  decoder::config c = decoder_golden::config_of(golden()["shapes"]["qwen3"]);
  const std::vector<double> wide = decoder_golden::parameters<double>(c);
  const std::vector<float> theta(wide.begin(), wide.end());
  fs::create_directories(folder);
  decoder::write_file(folder / "config.json", decoder::config_json(c));
  const auto slots = decoder::layout(c);
  decoder::write_file(folder / "model.safetensors",
                      decoder::write_safetensors(std::span<const tensor_slot>(slots), std::span<const float>(theta),
                                                 decoder::storage::f32));
  const auto single = eigen::load_decoder(folder);
  const auto twice = eigen::load_decoder<double>(folder, {.threads = 1});
  CHECK(single.config() == c);
  REQUIRE(static_cast<std::size_t>(single.parameters().size()) == theta.size());
  CHECK(std::equal(theta.begin(), theta.end(), single.parameters().data()));
  CHECK(std::equal(theta.begin(), theta.end(), twice.parameters().data()));
  decoder::write_file(folder / "model.safetensors", "damaged");
  CHECK_THROWS_AS(eigen::load_decoder(folder), decoder::file_error);
  fs::remove_all(folder);

  auto own = eigen::space<float>(slots).zero();
  const float* const at = own.data();
  const eigen::decoder<float> moved(c, std::move(own), {.threads = 1});
  CHECK(moved.parameters().data() == at);
  CHECK_THROWS_WITH(eigen::decoder<float>(c, eigen::space<float>::vector(3)),
                    "eigen::decoder: 3 parameters, expected " + std::to_string(theta.size()));
}

TEST_CASE("eigen decoder: samples follow the exact distribution", "[eigen]") {
  auto model = small<double>(golden()["shapes"]["llama"]);
  ragged<token> prompts;
  prompts.push_back(std::vector<token>{2, 3, 4, 5});
  const std::uint32_t n = 40000;
  const rollouts r = model.sample(prompts, std::vector<sample_request>{{0, n, 0}}, {1.0, 2}, random_key(1));
  // Exact probability of every sequence of up to two tokens.
  rollouts all;
  for (token a = 0; a < 19; ++a)
    for (token b = 0; b < (a == 1 ? 1 : 19); ++b) {
      all.tokens.push_back(a);
      if (a != 1) all.tokens.push_back(b);
      all.offsets.push_back(all.tokens.size());
      all.prompts.push_back(0);
    }
  const token_scores s = model.score(prompts, all, 1.0);
  std::vector<double> seen(19 * 19);
  for (std::size_t i = 0; i < r.size(); ++i) {
    const auto c = r.completion(i);
    seen[static_cast<std::size_t>(c[0] * 19 + (c.size() > 1 ? c[1] : 0))] += 1;
  }
  double total = 0, chi_square = 0;
  std::size_t cells = 0;
  for (std::size_t i = 0; i < all.size(); ++i) {
    double log_p = 0;
    for (std::size_t t = all.offsets[i]; t < all.offsets[i + 1]; ++t) log_p += s.log_probs[t];
    total += std::exp(log_p);
    const auto c = all.completion(i);
    const double expected = n * std::exp(log_p);
    const double count = seen[static_cast<std::size_t>(c[0] * 19 + (c.size() > 1 ? c[1] : 0))];
    if (expected < 5) continue;
    chi_square += (count - expected) * (count - expected) / expected;
    ++cells;
  }
  CHECK(total == Approx(1).epsilon(1e-9));
  REQUIRE(cells > 100);
  // Mean k, deviation sqrt(2k): beyond 6.5 deviations with probability below 1e-9.
  const double k = static_cast<double>(cells);
  CHECK(std::fabs(chi_square - k) < 6.5 * std::sqrt(2 * k));
}

TEST_CASE("eigen decoder: bad arguments are named and change nothing", "[eigen]") {
  auto model = small<float>(golden()["shapes"]["llama"]);
  const ragged<token> prompts = some_prompts();
  const std::vector<sample_request> one{{0, 1, 0}};
  const rollouts r = model.sample(prompts, one, {1.0, 3}, random_key(1));
  CHECK_THROWS_AS(model.sample(prompts, one, {0.0, 3}, random_key(1)), std::invalid_argument);
  CHECK_THROWS_AS(model.sample(prompts, one, {1.0, 0}, random_key(1)), std::invalid_argument);
  CHECK_THROWS_AS(model.sample(prompts, std::vector<sample_request>{{9, 1, 0}}, {1.0, 3}, random_key(1)),
                  std::invalid_argument);
  CHECK_THROWS_AS(model.sample(prompts, one, {1.0, 1000}, random_key(1)), std::invalid_argument);
  ragged<token> wrong;
  wrong.push_back(std::vector<token>{99});
  CHECK_THROWS_AS(model.sample(wrong, one, {1.0, 3}, random_key(1)), std::invalid_argument);
  auto g = model.space().zero();
  std::vector<double> c(r.tokens.size(), 1.0);
  c.back() = std::nan("");
  CHECK_THROWS_AS(model.accumulate_score(prompts, r, c, 1.0, g), std::invalid_argument);
  c.pop_back();
  CHECK_THROWS_AS(model.accumulate_score(prompts, r, c, 1.0, g), std::invalid_argument);
  CHECK(g.norm() == 0);
  CHECK_THROWS_AS(eigen::decoder<float>(model.config(), std::vector<float>(3)), std::invalid_argument);
}

TEST_CASE("eigen decoder: the tiny Llama of verl's end-to-end test", "[eigen][shared]") {
#ifdef RLVR_SHARED_DATA
  const std::string folder = std::string(RLVR_SHARED_DATA) + "/tiny_llama_arithmetic_sequence";
  std::ifstream file(folder + "/forward_oracle_fp64.json");
#else
  std::ifstream file;
  file.setstate(std::ios::failbit);
  const std::string folder;
#endif
  if (!file) {
    WARN("skipped: the shared data folder is absent");
    return;
  }
  const json oracle = json::parse(file);
  const decoder::config c = decoder::load_config(folder);
  auto model = eigen::decoder<double>(c, decoder::load_parameters<double>(folder, c));
  for (const json& sequence : oracle["cases"]) {
    // Everything after the first token is the completion.
    const auto ids = sequence["input_ids"].get<std::vector<token>>();
    ragged<token> prompts;
    prompts.push_back(std::vector<token>{ids.front()});
    rollouts r;
    r.tokens.assign(ids.begin() + 1, ids.end());
    r.offsets.push_back(r.tokens.size());
    r.prompts.push_back(0);
    const token_scores s = model.score(prompts, r, 1.0);
    for (std::size_t t = 0; t < r.tokens.size(); ++t) {
      double sum = 0;
      for (double logit : sequence["logits"][t]) sum += std::exp(logit);
      const double logit = sequence["logits"][t][static_cast<std::size_t>(r.tokens[t])];
      CHECK(s.log_probs[t] == Approx(logit - std::log(sum)).epsilon(1e-7));
    }
  }
}
