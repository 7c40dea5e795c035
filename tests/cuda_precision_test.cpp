/// What a decoder with bfloat16 weights makes of small steps and says of them, what it samples from once, and what it
/// says where memory is short. Compiled twice: for the GPU's host double, and with RLVR_TEST_ON_GPU for a GPU.

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <memory>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include <rlvr/backend/cuda/decoder.hpp>
#include <rlvr/core/mixed_precision.hpp>
#include <rlvr/core/slice.hpp>
#include <rlvr/search/policy_line.hpp>
#include <rlvr/search/search_direction.hpp>
#include <rlvr/search/sequence_kl.hpp>
#include <rlvr/train/dopr.hpp>

#include "catch.hpp"
#include "cuda/models.hpp"
#include "cuda/test_device.hpp"

namespace {

using namespace rlvr;
constexpr auto bf16 = cuda::scalar_type::bfloat16, f32 = cuda::scalar_type::float32;

static_assert(mixed_precision<cuda::decoder>);

cuda::decoder model_of(const decoder::config& c, cuda::scalar_type compute) {
  return cuda::decoder(make_device(), c, cuda_models::parameters(c), {.compute = compute});
}
std::vector<float> direction_of(std::size_t n) {
  std::vector<float> out(n);
  for (std::size_t i = 0; i < n; ++i) out[i] = static_cast<float>(2 * random_key(3).uniform(i) - 1);
  return out;
}
cuda::device_vector vector_of(const cuda::decoder& model, const std::vector<float>& x) {
  cuda::device_vector out = model.space().zero();
  model.space().upload(x, out);
  return out;
}
/// Few rollouts of a batch: of one prompt and of another.
rollouts some_of(const cuda_models::batch& b) {
  return slice(b.r, 4, 6);
}
verdict says_seven(std::size_t, std::span<const token> completion) {
  return {std::find(completion.begin(), completion.end(), 7) != completion.end() ? 1.0 : 0.0, true};
}

}  // namespace

TEST_CASE("cuda decoder: the weights that it computes with follow the parameters", "[cuda]") {
  const decoder::config c = cuda_models::small("qwen2", 8);
  const cuda_models::batch b;
  const rollouts r = some_of(b);
  for (const auto compute : {bf16, f32}) {
    cuda::decoder model = model_of(c, compute);
    const std::vector<double> before = model.score(b.prompts, r, 1.0).log_probs;
    const auto d = vector_of(model, direction_of(model.space().dimension()));
    auto theta = vector_of(model, cuda_models::parameters(c)), sum = vector_of(model, cuda_models::parameters(c));
    model.space().axpy(0.3, d, sum);
    std::vector<float> there(model.space().dimension());
    model.space().download(sum, there);
    cuda::decoder fresh(make_device(), c, there, {.compute = compute});
    const std::vector<double> after = fresh.score(b.prompts, r, 1.0).log_probs;
    double change = 0;
    for (std::size_t t = 0; t < after.size(); ++t) change = std::max(change, std::fabs(after[t] - before[t]));
    CHECK(change > 0.5);

    model.assign(theta, 0.3, d);
    CHECK(model.score(b.prompts, r, 1.0).log_probs == after);
    model.assign(theta);
    CHECK(model.score(b.prompts, r, 1.0).log_probs == before);
    model.assign(sum);
    CHECK(model.score(b.prompts, r, 1.0).log_probs == after);
  }
}

TEST_CASE("cuda decoder: precise scores and calibrations of bfloat16 weights are those of float32", "[cuda]") {
  const cuda_models::batch b;
  const rollouts r = some_of(b);
  for (const char* family : {"llama", "qwen3", "olmo2"}) {
    INFO(family);
    const decoder::config c = cuda_models::small(family, 8);
    cuda::decoder rounded = model_of(c, bf16), exact = model_of(c, f32);
    CHECK(rounded.rounds());
    CHECK(!exact.rounds());
    const token_scores precise = score_precisely(rounded, b.prompts, r, 0.8), of = exact.score(b.prompts, r, 0.8);
    CHECK(precise.log_probs == of.log_probs);
    CHECK(precise.entropies == of.entropies);
    CHECK(rounded.score(b.prompts, r, 0.8).log_probs != of.log_probs);
    CHECK(exact.score_precisely(b.prompts, r, 0.8).log_probs == of.log_probs);

    const std::vector<float> d = direction_of(exact.space().dimension());
    const auto there = vector_of(rounded, d), here = vector_of(exact, d);
    const auto found = calibrate_kl(rounded, b.prompts, r, 1.0, there),
               expected = calibrate_kl(exact, b.prompts, r, 1.0, here);
    REQUIRE((found && expected));
    CHECK(found->curvature == expected->curvature);
    CHECK(found->epsilon == expected->epsilon);
    // The step by which it was measured is lost in bfloat16.
    CHECK(rounded.survival(found->epsilon, there).cosine() < 0.9);
    CHECK(exact.survival(found->epsilon, here).cosine() > 0.999999);
  }
}

TEST_CASE("cuda decoder: along a line, KL is that of the parameters, and the points say what survives", "[cuda]") {
  const decoder::config c = cuda_models::small("qwen3", 8);
  const cuda_models::batch b;
  const std::vector<sample_request> requests{{0, 8, 0}, {1, 8, 0}};
  const sampling_options sampling{.max_tokens = 10};
  cuda::decoder rounded = model_of(c, bf16), exact = model_of(c, f32);
  const std::vector<float> d = direction_of(exact.space().dimension());
  const auto there = vector_of(rounded, d), here = vector_of(exact, d);
  const auto calibration =
      calibrate_kl(exact, b.prompts, exact.sample(b.prompts, requests, sampling, random_key(1)), 1, here);
  REQUIRE(calibration);
  policy_line line(rounded, b.prompts, requests, sampling, random_key(2), says_seven, there);
  CHECK(line(0).kl == 0);
  CHECK(line(0).survival == 1);
  double last = 0;
  for (const double kl : {1e-6, 1e-2}) {
    const double alpha = calibration->alpha_for(kl);
    INFO("predicted KL " << kl << ", survival " << line(alpha).survival);
    // 16 rollouts; noise of the sampler's rounding would be 1e-5 and more.
    CHECK(line(alpha).kl == Approx(kl).epsilon(0.7));
    CHECK(line(alpha).survival == rounded.survival(alpha, there).cosine());
    CHECK(line(alpha).survival > last);
    CHECK(line(alpha).survival < 0.99);
    CHECK(exact.survival(alpha, here).cosine() > 0.9999);
    last = line(alpha).survival;

    auto theta = vector_of(rounded, cuda_models::parameters(c));
    rounded.assign(theta, alpha, there);
    exact.assign(theta, alpha, here);
    const rollouts r = rounded.sample(b.prompts, requests, sampling, random_key(2));
    const std::vector<double> now = exact.score(b.prompts, r, 1).log_probs;
    rounded.assign(theta);
    exact.assign(theta);
    CHECK(line(alpha).kl == sequence_kl(r.offsets, now, exact.score(b.prompts, r, 1).log_probs));
  }

  // A step of dopr that is shorter than that noise is taken, and not cut for it.
  const rollouts r = rounded.sample(b.prompts, requests, sampling, random_key(4));
  const auto theta = vector_of(rounded, cuda_models::parameters(c));
  auto next = vector_of(rounded, cuda_models::parameters(c));
  rounded.space().axpy(calibration->alpha_for(1e-6), there, next);
  CHECK(sequence_kl(r.offsets, r.log_probs, rounded.score(b.prompts, r, 1).log_probs) > 2e-5);
  const auto taken = detail::take_step(rounded, b.prompts, r, 1.0, theta, next, 1e-5);
  CHECK(taken.share == 1);
  CHECK(taken.kl == Approx(1e-6).epsilon(0.7));
}

#ifndef RLVR_TEST_ON_GPU
TEST_CASE("cuda decoder: a group's prompt goes through the layers once", "[cuda]") {
  // Per layer four products, and per step of sampling one with the output matrix. A slot's rollouts follow one another;
  // the first token of each comes of its prompt, without the layers.
  decoder::config c = cuda_models::small("qwen2");
  c.eos = {};
  const std::size_t pass = 4 * c.layers, tokens = 8, slots = 4;
  ragged<token> prompts;
  for (token t = 0; t < 3; ++t) prompts.push_back(std::vector<token>(50, t));
  const auto products_of = [&](const std::vector<sample_request>& requests) {
    const auto where = std::make_shared<cuda::host_device>();
    // Room for one prompt: passes of 50 rows, each of one prompt.
    cuda::decoder model(where, c, cuda_models::parameters(c), {.rollouts_at_once = slots, .prompt_rows = 50});
    where->calls = {};
    const rollouts r = model.sample(prompts, requests, {1.0, tokens}, random_key(1));
    for (std::size_t i = 0; i < r.size(); ++i) REQUIRE(r.length(i) == tokens);
    return where->calls.products;
  };
  const std::size_t wave = tokens + (tokens - 1) * pass;  // four rollouts
  CHECK(products_of({{0, 4, 0}}) == pass + wave);
  CHECK(products_of({{0, 16, 0}}) == pass + 4 * wave);
  CHECK(products_of({{0, 8, 0}, {1, 4, 0}, {2, 4, 0}}) == 3 * pass + 4 * wave);
}

TEST_CASE("cuda decoder: what there is no room for is said in bytes, and planned", "[cuda]") {
  const decoder::config c = cuda_models::small("qwen2");
  const cuda_models::batch b;
  const auto where = std::make_shared<cuda::host_device>();
  const std::size_t parameters = cuda_models::parameters(c).size();
  const auto text_of = [](auto work) {
    try {
      work();
    } catch (const cuda::out_of_memory& e) {
      return std::string(e.what());
    }
    return std::string("there was room");
  };
  for (const std::size_t capacity : {3 * parameters, 5 * parameters}) {
    where->capacity = capacity;
    CHECK(text_of([&] { cuda::decoder(where, c, cuda_models::parameters(c)); }) ==
          concat("cuda: a decoder of ", 4 * parameters, " bytes of parameters and ", 2 * parameters,
                 " of weights, to be trained with ", 4 * parameters, " more of gradient, needs ", 6 * parameters,
                 " bytes, ", capacity, " are free"));
    CHECK(where->used_bytes() == 0);
  }
  where->capacity = std::size_t{1} << 32;
  cuda::decoder model(where, c, cuda_models::parameters(c));
  auto g = model.space().zero();
  where->capacity = where->used_bytes() + 5000;
  CHECK(text_of([&] { (void)model.space().zero(); }) ==
        concat("cuda: another vector of ", parameters, " parameters needs ", 4 * parameters, " bytes, 5000 are free"));

  const auto beside = [&] {
    return concat(", beside ", 4 * parameters, " bytes of parameters, ", 2 * parameters, " of weights, ",
                  4 * parameters, " of each gradient and ", model.plan().lists, " of lists, needs ");
  };
  where->capacity = std::size_t{1} << 32;
  const std::vector<sample_request> requests{{0, 40, 0}};
  const auto sample = [&] { (void)model.sample(b.prompts, requests, {1.0, 5}, random_key(1)); };
  const auto differentiate = [&] { model.accumulate_score(b.prompts, b.r, b.coefficients, 1.0, g); };
  where->largest_piece = 30'000;  // lists, but not what they are for
  const std::string sampled = text_of(sample);
  CHECK(model.plan().planned_slots == 40);
  CHECK(model.plan().slots == 20);  // half was tried
  CHECK(model.plan().cache > 0);
  CHECK(sampled.find(concat("cuda: sample of 20 rollouts at once, ", model.plan().cache, " bytes of it their cache",
                            beside(), model.plan().sampling, " bytes, ")) == 0);
  const std::string differentiated = text_of(differentiate);
  CHECK(model.plan().planned_rows == 185);
  CHECK(model.plan().rows == 93);
  CHECK(model.plan().kept_layers == 0);
  CHECK(differentiated.find(
            concat("cuda: accumulate_score of 93 rows", beside(), model.plan().micro_batch, " bytes, ")) == 0);
}

TEST_CASE("cuda decoder: a precise pass is planned in floats, and refused under its own name", "[cuda]") {
  const decoder::config c = cuda_models::small("qwen3", 8);
  const cuda_models::batch b;
  const auto rows_of = [&](std::size_t room, auto call) {
    const auto where = std::make_shared<cuda::host_device>();
    cuda::decoder model(where, c, cuda_models::parameters(c), {.compute = bf16});
    where->capacity = where->used_bytes() + room;
    call(model);
    return model.plan().rows;
  };
  const auto score = [&](cuda::decoder& model) { (void)model.score(b.prompts, b.r, 1.0); };
  const auto precisely = [&](cuda::decoder& model) { (void)model.score_precisely(b.prompts, b.r, 1.0); };
  CHECK(rows_of(150'000, score) == 93);
  CHECK(rows_of(150'000, precisely) == 62);
  CHECK_THROWS_WITH(rows_of(60'000, precisely), Catch::Contains("cuda: score_precisely of 62 rows, beside "));
}

TEST_CASE("cuda decoder: calibration under truncation", "[cuda]") {
  // Tokens enter and leave the most likely ones at any epsilon.
  const decoder::config c = cuda_models::small("qwen3", 8);
  const cuda_models::batch b;
  double all = 0;
  for (const std::uint32_t top_k : {0u, 10u})
    for (const cuda::scalar_type compute : {f32, bf16}) {
      cuda::decoder model(make_device(), c, cuda_models::parameters(c),
                          {.compute = compute, .sample_from = {.top_k = top_k}});
      const rollouts r =
          model.sample(b.prompts, std::vector<sample_request>{{0, 40, 0}, {1, 40, 0}}, {1.0, 8}, random_key(2));
      const auto found =
          calibrate_kl(model, b.prompts, r, 1.0, vector_of(model, direction_of(model.space().dimension())));
      REQUIRE(found);
      if (all == 0) all = found->curvature;
      CHECK(found->curvature == Approx(all).epsilon(0.3));
    }
}
#endif
