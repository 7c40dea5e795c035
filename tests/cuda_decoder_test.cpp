/// The CUDA decoder against the Eigen decoder in double. Compiled twice: for the GPU's host double, whose kernels are
/// those of the GPU, and with RLVR_TEST_ON_GPU for a GPU.

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include <rlvr/backend/cuda/decoder.hpp>
#include <rlvr/backend/eigen/decoder.hpp>
#include <rlvr/laws/differentiable.hpp>
#include <rlvr/laws/sampler.hpp>
#include <rlvr/laws/vector_space.hpp>

#include "catch.hpp"
#include "cuda/models.hpp"
#ifndef RLVR_TEST_ON_GPU
#include <rlvr/backend/cuda/host_device.cuh>
#endif

namespace {

using namespace rlvr;
using cuda_models::families;

static_assert(policy<cuda::decoder>);
static_assert(elementwise<cuda::space> && tensor_layout<cuda::space>);

std::shared_ptr<cuda::device> make_device() {
#ifdef RLVR_TEST_ON_GPU
  static const std::shared_ptr<cuda::device> gpu = cuda::open_device();
  return gpu;
#else
  return std::make_shared<cuda::host_device>();
#endif
}

cuda::decoder model_of(const decoder::config& c,
                       cuda::decoder_options options = {.compute = cuda::scalar_type::float32}) {
  return cuda::decoder(make_device(), c, cuda_models::parameters(c), options);
}
eigen::decoder<double> oracle_of(const decoder::config& c) {
  return {c, cuda_models::parameters(c), {.threads = 2}};
}

std::vector<float> on_host(const cuda::space& s, const cuda::device_vector& x) {
  std::vector<float> out(s.dimension());
  s.download(x, out);
  return out;
}

std::string joined(const laws::violations& broken) {
  std::string out;
  for (const std::string& law : broken) out += law + "\n";
  return out;
}

/// |got - expected| / |expected| over a tensor, but for tensors that are zero up to rounding.
double relative_error(std::span<const float> got, const double* expected, double floor) {
  double off = 0, size = 0;
  for (std::size_t i = 0; i < got.size(); ++i) {
    off += (static_cast<double>(got[i]) - expected[i]) * (static_cast<double>(got[i]) - expected[i]);
    size += expected[i] * expected[i];
  }
  return std::sqrt(off) / std::max(std::sqrt(size), floor);
}

struct comparison {
  double log_prob = 0, entropy = 0, gradient = 0;  ///< the gradient's worst tensor
};
comparison compare(const decoder::config& c, const cuda::decoder_options& options, double temperature) {
  const cuda_models::batch b;
  cuda::decoder model = model_of(c, options);
  eigen::decoder<double> oracle = oracle_of(c);
  const token_scores got = model.score(b.prompts, b.r, temperature),
                     expected = oracle.score(b.prompts, b.r, temperature);
  comparison out;
  for (std::size_t t = 0; t < b.r.tokens.size(); ++t) {
    out.log_prob = std::max(out.log_prob, std::fabs(got.log_probs[t] - expected.log_probs[t]));
    out.entropy = std::max(out.entropy, std::fabs(got.entropies[t] - expected.entropies[t]));
  }
  auto g = model.space().zero();
  auto e = oracle.space().zero();
  model.accumulate_score(b.prompts, b.r, b.coefficients, temperature, g);
  oracle.accumulate_score(b.prompts, b.r, b.coefficients, temperature, e);
  const std::vector<float> h = on_host(model.space(), g);
  for (const tensor_slot& slot : model.space().tensors()) {
    const double error =
        relative_error(std::span(h).subspan(slot.offset, slot.size()), e.data() + slot.offset, 1e-4 * e.norm());
    UNSCOPED_INFO(c.model_type << " " << slot.name << " " << error);
    out.gradient = std::max(out.gradient, error);
  }
  return out;
}

}  // namespace

TEST_CASE("cuda decoder: log-probs, entropies and every named gradient are those of the Eigen decoder in double",
          "[cuda]") {
  for (const char* family : families) {
    const comparison off = compare(cuda_models::small(family), {.compute = cuda::scalar_type::float32}, 0.8);
    INFO(family);
    CHECK(off.log_prob < 2e-5);
    CHECK(off.entropy < 2e-5);
    CHECK(off.gradient < 1e-4);
  }
}

TEST_CASE("cuda decoder: bfloat16 compute is near", "[cuda]") {
  // 2^-9 a rounding, over two layers.
  for (const char* family : families) {
    const comparison off = compare(cuda_models::small(family, 16), {.compute = cuda::scalar_type::bfloat16}, 1.0);
    INFO(family);
    CHECK(off.log_prob < 0.1);
    CHECK(off.entropy < 0.1);
    CHECK(off.gradient < 0.1);
  }
}

TEST_CASE("cuda decoder: micro-batches and blocks of logits change gradients by rounding only", "[cuda]") {
  const decoder::config c = cuda_models::small("qwen3");
  for (const std::size_t rows : {1, 30, 90})
    CHECK(compare(c, {.compute = cuda::scalar_type::float32, .micro_batch_rows = rows, .logit_rows = 7}, 1.0).gradient <
          1e-4);
}

TEST_CASE("cuda decoder: the law suites hold", "[cuda][laws]") {
  for (const char* family : {"qwen2", "olmo3"}) {
    INFO(family);
    decoder::config c = cuda_models::small(family);
    c.vocab_size = 13;
    cuda::decoder policy =
        model_of(c, {.compute = cuda::scalar_type::float32, .rollouts_at_once = 7, .prompt_rows = 8});
    const laws::law_options options{.tolerance = 2e-5};
    const auto fill = [&](cuda::device_vector& v, std::size_t index) {
      std::vector<float> x(v.size());
      for (std::size_t i = 0; i < x.size(); ++i) x[i] = static_cast<float>(2 * random_key(50 + index).uniform(i) - 1);
      policy.space().upload(x, v);
    };
    CHECK(joined(laws::vector_space_laws(policy.space(), fill, options)) == "");
    CHECK(joined(laws::elementwise_laws(policy.space(), fill, options)) == "");
    CHECK(joined(laws::tensor_layout_laws(policy.space())) == "");
    CHECK(joined(laws::parameterised_laws(policy, fill, options)) == "");
    ragged<token> prompts;
    for (const std::vector<token>& p : {std::vector<token>{2, 3, 4, 5}, {2, 3, 7}, {9}, {2, 3, 4, 5}})
      prompts.push_back(p);
    const std::vector<sample_request> requests{{2, 12, 0}, {0, 1, 7}, {1, 10, 3}, {3, 8, 100}, {1, 0, 0}};
    const sampling_options sampling{.temperature = 0.8, .max_tokens = 6};
    CHECK(joined(laws::sampler_laws(policy, prompts, requests, sampling, random_key(77), options)) == "");
    const rollouts r = policy.sample(prompts, requests, sampling, random_key(77));
    CHECK(joined(laws::scorer_laws(policy, prompts, r, sampling.temperature, options)) == "");
    const laws::differentiable_options difference{2e-5, 4e-3, 2e-3};
    CHECK(joined(laws::differentiable_laws(policy, prompts, slice(r, 10, 18), sampling.temperature, difference)) == "");
  }
}

TEST_CASE("cuda decoder: samples are those of the Eigen decoder", "[cuda]") {
  // The same Philox bits; a draw within rounding (1e-6) of a boundary would differ, of some thousand about none.
  const cuda_models::batch b;
  for (const char* family : families) {
    INFO(family);
    const decoder::config c = cuda_models::small(family);
    cuda::decoder model = model_of(c, {.compute = cuda::scalar_type::float32, .rollouts_at_once = 9});
    eigen::decoder<double> oracle = oracle_of(c);
    const std::vector<sample_request> requests{{0, 12, 0}, {2, 7, 3}, {1, 4, 0}, {0, 2, 40}};
    const rollouts got = model.sample(b.prompts, requests, {0.9, 11}, random_key(3));
    const rollouts expected = oracle.sample(b.prompts, requests, {0.9, 11}, random_key(3));
    CHECK(got.tokens == expected.tokens);
    CHECK(got.offsets == expected.offsets);
    CHECK(got.prompts == expected.prompts);
    CHECK(got.finished == expected.finished);
    REQUIRE(got.tokens.size() == expected.tokens.size());
    for (std::size_t t = 0; t < got.tokens.size(); ++t) {
      CHECK(std::fabs(got.log_probs[t] - expected.log_probs[t]) < 2e-5);
      CHECK(std::fabs(got.entropies[t] - expected.entropies[t]) < 2e-5);
    }
  }
}

TEST_CASE("cuda decoder: top-k and top-p keep the most likely tokens", "[cuda]") {
  const cuda_models::batch b;
  const decoder::config c = cuda_models::small("llama");
  const std::vector<sample_request> requests{{2, 40, 0}};
  for (const cuda::truncation& cut :
       {cuda::truncation{.top_k = 1}, {.top_k = 3}, {.top_p = 0.5}, {.top_k = 5, .top_p = 0.7}}) {
    cuda::decoder model = model_of(c, {.compute = cuda::scalar_type::float32, .sample_from = cut});
    const rollouts r = model.sample(b.prompts, requests, {1.0, 5}, random_key(9));
    const token_scores whole = model.score(b.prompts, r, 1.0);
    for (std::size_t i = 0; i < r.size(); ++i)
      for (std::size_t t = r.offsets[i]; t < r.offsets[i + 1]; ++t) {
        CHECK(r.log_probs[t] >= whole.log_probs[t] - 1e-5);
        CHECK(std::isfinite(r.entropies[t]));
        if (cut.top_k > 0) CHECK(r.entropies[t] <= std::log(cut.top_k) + 1e-5);
        if (cut.top_k == 1) CHECK(r.log_probs[t] == Approx(0).margin(1e-6));
      }
  }
}

#ifndef RLVR_TEST_ON_GPU
TEST_CASE("cuda decoder: when memory runs out, theta and the weights are what they were", "[cuda]") {
  const decoder::config c = cuda_models::small("qwen2");
  const cuda_models::batch b;
  const auto where = std::make_shared<cuda::host_device>();
  for (std::size_t n = 0; n < 2; ++n) {
    where->allocations_left = n;
    CHECK_THROWS_AS(cuda::decoder(where, c, cuda_models::parameters(c)), cuda::out_of_memory);
    CHECK(where->used_bytes() == 0);
  }
  where->allocations_left = 1000;
  {
    cuda::decoder model(where, c, cuda_models::parameters(c));
    auto g = model.space().zero();
    const std::vector<float> theta = on_host(model.space(), model.parameters());
    const auto run = [&](std::size_t what) {
      if (what == 0) (void)model.sample(b.prompts, std::vector<sample_request>{{0, 4, 0}}, {1.0, 5}, random_key(1));
      if (what == 1) (void)model.score(b.prompts, b.r, 1.0);
      if (what == 2) model.accumulate_score(b.prompts, b.r, b.coefficients, 1.0, g);
    };
    std::size_t failures = 0;
    for (std::size_t what = 0; what < 3; ++what)
      for (std::size_t n = 0;; ++n) {
        where->allocations_left = n;
        try {
          run(what);
          break;
        } catch (const cuda::out_of_memory& e) {
          ++failures;
          CHECK_THAT(e.what(), Catch::Contains("bytes") && Catch::Contains("are free"));
        }
        CHECK(on_host(model.space(), model.parameters()) == theta);
      }
    CHECK(failures >= 3);
    where->allocations_left = 1000;
    const token_scores now = model.score(b.prompts, b.r, 1.0);
    cuda::decoder fresh(where, c, cuda_models::parameters(c));
    CHECK(now.log_probs == fresh.score(b.prompts, b.r, 1.0).log_probs);
  }
  CHECK(where->used_bytes() == 0);
}

TEST_CASE("cuda decoder: the plan is what is allocated, and fits the memory that is free", "[cuda]") {
  const decoder::config c = cuda_models::small("qwen3");
  const cuda_models::batch b;
  const auto where = std::make_shared<cuda::host_device>();
  cuda::decoder model(where, c, cuda_models::parameters(c));
  auto g = model.space().zero();
  CHECK(model.plan().parameters + model.plan().gradient + model.plan().weights == where->used_bytes());
  model.accumulate_score(b.prompts, b.r, b.coefficients, 1.0, g);
  const cuda::memory_plan roomy = model.plan();
  CHECK(roomy.rows == 185);  // 7 prompts, 78 tokens behind which one more comes
  CHECK(roomy.micro_batch > 0);
  CHECK(where->used_bytes() >= roomy.training_total());

  const auto tight = std::make_shared<cuda::host_device>();
  cuda::decoder small(tight, c, cuda_models::parameters(c));
  auto h = small.space().zero();
  tight->capacity = tight->used_bytes() + roomy.micro_batch * 2 / 3;
  small.accumulate_score(b.prompts, b.r, b.coefficients, 1.0, h);
  CHECK(small.plan().rows < roomy.rows);
  tight->capacity = tight->used_bytes();
  CHECK_THROWS_AS(small.space().zero(), cuda::out_of_memory);
}
#endif
