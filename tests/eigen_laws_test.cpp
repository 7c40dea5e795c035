/// The law suites hold on the Eigen decoder, in float and double, with head sizes known at compile time and not.

#include <cstddef>
#include <cstdint>
#include <string>
#include <type_traits>
#include <vector>

#include <rlvr/backend/decoder/config.hpp>
#include <rlvr/backend/eigen/decoder.hpp>
#include <rlvr/core/slice.hpp>
#include <rlvr/laws/differentiable.hpp>
#include <rlvr/laws/sampler.hpp>
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

/// Rounding of T; for the finite difference a step, and what its error is at most.
template <class T>
constexpr double rounding = std::is_same_v<T, float> ? 1e-5 : 1e-12;
template <class T>
constexpr laws::differentiable_options difference{rounding<T>, std::is_same_v<T, float> ? 3e-2 : 5e-4,
                                                  std::is_same_v<T, float> ? 2e-3 : 1e-8};

template <class T>
void check_laws(const decoder::config& c) {
  INFO(c.model_type << ", head_dim " << c.head_dim << ", " << 8 * sizeof(T) << " bits");
  const laws::law_options options{.tolerance = rounding<T>};
  eigen::decoder<T> policy = model_of<T>(c);
  CHECK(joined(laws::vector_space_laws(policy.space(), fill<T>, options)) == "");
  CHECK(joined(laws::elementwise_laws(policy.space(), fill<T>, options)) == "");
  CHECK(joined(laws::tensor_layout_laws(policy.space())) == "");
  CHECK(joined(laws::parameterised_laws(policy, fill<T>, options)) == "");

  ragged<token> prompts;
  for (const std::vector<token>& p : {std::vector<token>{2, 3, 4, 5}, {2, 3, 7}, {9}, {2, 3, 4, 5}}) prompts.push_back(p);
  const std::vector<sample_request> requests{{2, 40, 0}, {0, 1, 7}, {1, 30, 3}, {3, 25, 100}, {1, 0, 0}};
  const sampling_options sampling{.temperature = 0.8, .max_tokens = 6};
  CHECK(joined(laws::sampler_laws(policy, prompts, requests, sampling, random_key(77), options)) == "");
  const rollouts r = policy.sample(prompts, requests, sampling, random_key(77));
  CHECK(joined(laws::scorer_laws(policy, prompts, r, sampling.temperature, options)) == "");
  const rollouts few = slice(r, 34, 50);
  CHECK(joined(laws::differentiable_laws(policy, prompts, few, sampling.temperature, difference<T>)) == "");
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
