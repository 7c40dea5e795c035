/// The law suites hold on the Eigen decoder, in float and double, with head sizes known at compile time and not.

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include <rlvr/backend/decoder/config.hpp>
#include <rlvr/backend/decoder/layout.hpp>
#include <rlvr/backend/eigen/decoder.hpp>
#include <rlvr/core/slice.hpp>
#include <rlvr/laws/differentiable.hpp>
#include <rlvr/laws/policy.hpp>
#include <rlvr/laws/vector_space.hpp>

#include "catch.hpp"
#include "small_decoders.hpp"

using namespace rlvr;

namespace {

std::string joined(const laws::violations& broken) {
  std::string out;
  for (const std::string& law : broken) out += law + "\n";
  return out;
}

decoder::config shape(const std::string& model_type, std::size_t head_dim) {
  return rlvr::testing::small_decoder(model_type, 13, head_dim);
}

template <class T>
eigen::decoder<T> model_of(const decoder::config& c) {
  return {c, rlvr::testing::small_parameters<double>(c), {.threads = 3, .chunk_tokens = 64, .slice_rollouts = 16}};
}

template <class T>
void fill(typename eigen::space<T>::vector& v, std::size_t index) {
  for (Eigen::Index i = 0; i < v.size(); ++i)
    v[i] = static_cast<T>(2 * random_key(50 + index).uniform(static_cast<std::uint64_t>(i)) - 1);
}

/// Rounding of T.
template <class T>
constexpr double rounding = std::is_same_v<T, float> ? 1e-5 : 1e-12;
template <class T>
constexpr laws::differentiable_options difference{
    .tolerance = rounding<T>, .step_tolerance = std::is_same_v<T, float> ? 2e-3 : 1e-7};

template <class T>
void check_laws(const decoder::config& c) {
  INFO(c.model_type << ", head_dim " << c.head_dim << ", " << 8 * sizeof(T) << " bits");
  const laws::law_options options{.tolerance = rounding<T>};
  eigen::decoder<T> policy = model_of<T>(c);
  CHECK(joined(laws::elementwise_laws(policy.space(), fill<T>, options)) == "");

  ragged<token> prompts;
  for (const std::vector<token>& p : {std::vector<token>{2, 3, 4, 5}, {2, 3, 7}, {9}, {2, 3, 4, 5}})
    prompts.push_back(p);
  const std::vector<sample_request> requests{{2, 12, 0}, {0, 1, 7}, {1, 10, 3}, {3, 9, 100}, {1, 0, 0}};
  const sampling_options sampling{.temperature = 0.8, .max_tokens = 6};
  CHECK(joined(laws::policy_laws(policy, fill<T>, prompts, requests, sampling, random_key(77), difference<T>)) == "");
  const rollouts few = slice(policy.sample(prompts, requests, sampling, random_key(77)), 8, 24);
  CHECK(joined(laws::vector_space_laws(policy.space(), laws::score_fill(policy, prompts, few), options)) == "");
}

}  // namespace

TEST_CASE("laws hold on the Eigen decoder in double", "[laws][eigen]") {
  for (const char* type : {"llama", "qwen2", "qwen3"}) check_laws<double>(shape(type, 6));
  for (std::size_t head_dim : {16, 32, 64, 128}) check_laws<double>(shape("llama", head_dim));
}

TEST_CASE("laws hold on the Eigen decoder in float", "[laws][eigen]") {
  for (const char* type : {"llama", "qwen2", "qwen3"}) check_laws<float>(shape(type, 6));
  for (std::size_t head_dim : {16, 32, 64, 128}) check_laws<float>(shape("llama", head_dim));
}

namespace {

/// A trained model bends sooner than a random one: larger weights stand for it.
template <class T>
eigen::decoder<T> stiff() {
  const decoder::config c = shape("qwen3", 6);
  auto theta = rlvr::testing::small_parameters<double>(c);
  for (double& x : theta) x *= 4;
  return {c, theta, {.threads = 1}};
}

/// The gradient of one tensor is forgotten.
template <class T>
struct leaves_out : eigen::decoder<T> {
  leaves_out(const decoder::config& c, std::string tensor)
      : eigen::decoder<T>(c, rlvr::testing::small_parameters<double>(c), {.threads = 1}), name(std::move(tensor)) {}
  void accumulate_score(const ragged<token>& prompts, const rollouts& r, std::span<const double> c, double temperature,
                        typename eigen::space<T>::vector& g) {
    const auto before = g;
    eigen::decoder<T>::accumulate_score(prompts, r, c, temperature, g);
    for (const tensor_slot& slot : this->space().tensors())
      if (slot.name == name)
        for (std::size_t i = slot.offset; i < slot.offset + slot.size(); ++i)
          g[static_cast<Eigen::Index>(i)] = before[static_cast<Eigen::Index>(i)];
  }
  std::string name;
};

template <class T>
laws::violations gradient_laws(auto&& policy, const laws::differentiable_options& options = difference<T>) {
  ragged<token> prompts;
  for (const std::vector<token>& p : {std::vector<token>{2, 3, 4, 5}, {2, 3, 7}, {9}}) prompts.push_back(p);
  const std::vector<sample_request> requests{{0, 3, 0}, {1, 3, 0}, {2, 3, 0}};
  const rollouts r = policy.sample(prompts, requests, {.temperature = 0.8, .max_tokens = 6}, random_key(1));
  return laws::differentiable_laws(policy, fill<T>, prompts, r, 0.8, options);
}

}  // namespace

TEST_CASE("differentiable_laws hold where the decoder bends, and see each tensor left out", "[laws][eigen]") {
  CHECK(joined(gradient_laws<double>(stiff<double>(), {})) == "");
  CHECK(joined(gradient_laws<float>(stiff<float>())) == "");
  const decoder::config c = shape("qwen3", 6);
  CHECK(joined(gradient_laws<float>(leaves_out<float>(c, "none"))) == "");
  for (const tensor_slot& slot : decoder::layout(c)) {
    INFO(slot.name);
    CHECK_THAT(joined(gradient_laws<float>(leaves_out<float>(c, slot.name))), Catch::Contains("along test vector"));
  }
}

TEST_CASE("eigen decoder: the same bits for any number of threads at the usual head sizes", "[eigen]") {
  for (std::size_t head_dim : {16, 32, 64, 128}) {
    INFO("head_dim " << head_dim);
    const decoder::config c = shape("llama", head_dim);
    const auto parameters = model_of<float>(c).parameters();
    const std::vector<float> theta(parameters.begin(), parameters.end());
    ragged<token> prompts;
    for (token t = 2; t < 8; ++t) prompts.push_back(std::vector<token>{t, 3, t});
    std::vector<sample_request> requests;
    for (std::uint32_t p = 0; p < 6; ++p) requests.push_back({p, 30 + p, 0});
    const auto run = [&](std::size_t threads, std::size_t slice) {
      eigen::decoder<float> policy(c, theta, {.threads = threads, .chunk_tokens = 50, .slice_rollouts = slice});
      const rollouts r = policy.sample(prompts, requests, {1.0, 9}, random_key(3));
      auto g = policy.space().zero();
      policy.accumulate_score(prompts, r, std::vector<double>(r.tokens.size(), 0.37), 1.0, g);
      CHECK(policy.score(prompts, r, 1.0).log_probs == r.log_probs);
      return std::vector<float>(g.begin(), g.end());
    };
    const std::vector<float> expected = run(1, 1000);
    CHECK(run(2, 7) == expected);
    CHECK(run(3, 64) == expected);
    CHECK(run(4, 1) == expected);
  }
}
