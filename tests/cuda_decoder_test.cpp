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
#include <rlvr/backend/cuda/plan.hpp>
#include <rlvr/backend/decoder/safetensors.hpp>
#include <rlvr/backend/eigen/decoder.hpp>
#include <rlvr/laws/policy.hpp>
#include <rlvr/laws/sampler.hpp>
#include <rlvr/laws/vector_space.hpp>

#include "catch.hpp"
#include "cuda/models.hpp"
#include "cuda/test_device.hpp"

namespace {

using namespace rlvr;
using cuda_models::families;

static_assert(policy<cuda::decoder>);
static_assert(elementwise<cuda::space> && tensor_layout<cuda::space>);

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
double relative_error(std::span<const float> got, const double* expected, double floor = 1e-300) {
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
    const auto fill = [&](cuda::device_vector& v, std::size_t index) {
      std::vector<float> x(v.size());
      for (std::size_t i = 0; i < x.size(); ++i) x[i] = static_cast<float>(2 * random_key(50 + index).uniform(i) - 1);
      policy.space().upload(x, v);
    };
    CHECK(joined(laws::elementwise_laws(policy.space(), fill, {.tolerance = 2e-5})) == "");
    ragged<token> prompts;
    for (const std::vector<token>& p : {std::vector<token>{2, 3, 4, 5}, {2, 3, 7}, {9}, {2, 3, 4, 5}})
      prompts.push_back(p);
    const std::vector<sample_request> requests{{2, 12, 0}, {0, 1, 7}, {1, 10, 3}, {3, 8, 100}, {1, 0, 0}};
    CHECK(joined(laws::policy_laws(policy, fill, prompts, requests, {.temperature = 0.8, .max_tokens = 6},
                                   random_key(77), {.tolerance = 2e-5, .step_tolerance = 2e-3})) == "");
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
  cuda::decoder all = model_of(c);
  for (const cuda::truncation& cut :
       {cuda::truncation{.top_k = 1}, {.top_k = 3}, {.top_p = 0.5}, {.top_k = 5, .top_p = 0.7}}) {
    cuda::decoder model = model_of(c, {.compute = cuda::scalar_type::float32, .sample_from = cut});
    const rollouts r = model.sample(b.prompts, requests, {1.0, 5}, random_key(9));
    const token_scores whole = all.score(b.prompts, r, 1.0), kept = model.score(b.prompts, r, 1.0);
    for (std::size_t i = 0; i < r.size(); ++i)
      for (std::size_t t = r.offsets[i]; t < r.offsets[i + 1]; ++t) {
        CHECK(r.log_probs[t] >= whole.log_probs[t] - 1e-5);
        CHECK(std::isfinite(r.entropies[t]));
        if (cut.top_k > 0) CHECK(r.entropies[t] <= std::log(cut.top_k) + 1e-5);
        if (cut.top_k == 1) CHECK(r.log_probs[t] == Approx(0).margin(1e-6));
        CHECK(kept.log_probs[t] == Approx(r.log_probs[t]).margin(2e-5));
        CHECK(kept.entropies[t] == Approx(r.entropies[t]).margin(2e-5));
      }
  }
}

TEST_CASE("cuda decoder: scores and gradients under top-k are those of the distribution sampled from", "[cuda][laws]") {
  decoder::config c = cuda_models::small("qwen2");
  c.vocab_size = 13;
  cuda::decoder policy = model_of(c, {.compute = cuda::scalar_type::float32, .sample_from = {.top_k = 4}});
  ragged<token> prompts;
  for (const std::vector<token>& p : {std::vector<token>{2, 3, 4, 5}, {2, 3, 7}}) prompts.push_back(p);
  const std::vector<sample_request> requests{{0, 6, 0}, {1, 6, 0}};
  const rollouts r = policy.sample(prompts, requests, {0.8, 6}, random_key(77));
  CHECK(joined(laws::scorer_laws(policy, prompts, r, 0.8, {.tolerance = 2e-5})) == "");

  // log p(y | K) of the kept tokens K has the gradient of log p(y) - sum over v in K of p(v | K) log p(v).
  rollouts each;
  for (token t = 0; t < 13; ++t) {
    each.tokens.push_back(t);
    each.offsets.push_back(each.tokens.size());
    each.prompts.push_back(1);
  }
  const token_scores kept = policy.score(prompts, each, 0.8);
  std::vector<double> asked(13, 0.0), expected(13, 0.0);
  asked[static_cast<std::size_t>(r.tokens[r.offsets[6]])] = 2;
  for (std::size_t v = 0; v < 13; ++v) expected[v] = asked[v] - 2 * std::exp(kept.log_probs[v]);
  eigen::decoder<double> oracle = oracle_of(c);
  auto h = policy.space().zero();
  auto e = oracle.space().zero();
  policy.accumulate_score(prompts, each, asked, 0.8, h);
  oracle.accumulate_score(prompts, each, expected, 0.8, e);
  CHECK(e.norm() > 0.1);
  CHECK(relative_error(on_host(policy.space(), h), e.data()) < 1e-4);

  // A token outside cannot come, and its coefficient counts nothing.
  rollouts one;
  one.tokens = {0};
  one.offsets = {0, 1};
  one.prompts = {0};
  std::size_t outside = 0;
  for (token t = 0; t < 13; ++t) {
    one.tokens = {t};
    if (std::isfinite(policy.score(prompts, one, 0.8).log_probs[0])) continue;
    ++outside;
    auto g = policy.space().zero();
    policy.accumulate_score(prompts, one, std::vector<double>{1.5}, 0.8, g);
    CHECK(policy.space().dot(g, g) == 0);
  }
  CHECK(outside == 9);
}

TEST_CASE("cuda decoder: how much of a step the weights keep", "[cuda]") {
  const decoder::config c = cuda_models::small("qwen3");
  cuda::decoder exact = model_of(c), rounded = model_of(c, {});
  auto d = exact.space().zero(), e = rounded.space().zero();
  const std::vector<float> direction(d.size(), 1.f);
  exact.space().upload(direction, d);
  rounded.space().upload(direction, e);
  CHECK(exact.survival(1e-3, d).cosine() > 0.999999);
  CHECK(exact.survival(1e-12, d).cosine() < 0.5);  // floats round too
  CHECK(exact.survival(1e-12, d).moved < 0.01 * static_cast<double>(d.size()));
  CHECK(exact.survival(0, d).cosine() == 1);
  CHECK(rounded.survival(1e-9, e).cosine() < 0.2);
  CHECK(rounded.survival(1e-9, e).moved < 0.01 * static_cast<double>(d.size()));
  CHECK(rounded.survival(1.0, e).cosine() > 0.999);
  CHECK_THROWS_AS(rounded.survival(1.0, cuda::device_vector()), std::invalid_argument);
}

TEST_CASE("cuda decoder: parameters come in pieces, and go in pieces to the same file", "[cuda]") {
  for (const char* family : {"qwen2", "llama"}) {
    const decoder::config c = cuda_models::small(family);
    const std::vector<float> theta = cuda_models::parameters(c);
    const std::vector<tensor_slot> slots = decoder::layout(c);
    const cuda::decoder model(make_device(), c, [&](auto& put) {
      for (std::size_t at = 0; at < theta.size(); at += 100)
        put(at, std::span<const float>(theta).subspan(at, std::min<std::size_t>(100, theta.size() - at)));
    });
    CHECK(on_host(model.space(), model.parameters()) == theta);
    for (const decoder::storage as : {decoder::storage::f32, decoder::storage::bf16}) {
      std::string file;
      decoder::write_safetensors(
          std::span<const tensor_slot>(slots),
          [&](std::size_t from, std::span<float> out) { model.space().download(model.parameters(), from, out); }, as,
          [&](std::string_view piece) { file += piece; });
      CHECK(file == decoder::write_safetensors(std::span<const tensor_slot>(slots), std::span<const float>(theta), as));
    }
    std::vector<float> few(3);
    CHECK_THROWS_WITH(model.space().download(model.parameters(), theta.size() - 2, few),
                      Catch::Contains("coordinates"));
  }
}

#ifndef RLVR_TEST_ON_GPU
TEST_CASE("cuda decoder: when memory runs out, theta, weights and gradients are what they were", "[cuda]") {
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
    // Both as much as fits and fixed sizes; many micro-batches, so that a failure between them would be seen in g.
    for (const std::size_t rows : {0, 50}) {
      cuda::decoder model(where, c, cuda_models::parameters(c), {.micro_batch_rows = rows, .rollouts_at_once = rows});
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
          const double before = model.space().dot(g, g);
          where->allocations_left = n;
          try {
            run(what);
            break;
          } catch (const cuda::out_of_memory& e) {
            ++failures;
            CHECK_THAT(e.what(), Catch::Contains("bytes") && Catch::Contains("are free"));
          }
          CHECK(on_host(model.space(), model.parameters()) == theta);
          CHECK(model.space().dot(g, g) == before);
        }
      CHECK(failures >= 3);
      where->allocations_left = 1000;
      const token_scores now = model.score(b.prompts, b.r, 1.0);
      cuda::decoder fresh(where, c, cuda_models::parameters(c), {.micro_batch_rows = rows});
      CHECK(now.log_probs == fresh.score(b.prompts, b.r, 1.0).log_probs);
    }
  }
  CHECK(where->used_bytes() == 0);
}

TEST_CASE("cuda decoder: a device that fails leaves theta alone, and a gradient to be thrown away", "[cuda]") {
  const decoder::config c = cuda_models::small("qwen2");
  const cuda_models::batch b;
  const auto where = std::make_shared<cuda::host_device>();
  // Several micro-batches: a failure in a late one finds the sums of the earlier ones in g.
  cuda::decoder model(where, c, cuda_models::parameters(c), {.micro_batch_rows = 50, .rollouts_at_once = 2});
  const std::vector<float> theta = on_host(model.space(), model.parameters());
  const auto sampled = [&] {
    return model.sample(b.prompts, std::vector<sample_request>{{0, 4, 0}}, {1.0, 5}, random_key(1)).log_probs;
  };
  const auto scored = [&] { return model.score(b.prompts, b.r, 1.0).log_probs; };
  auto g = model.space().zero();
  const auto differentiated = [&] {
    model.space().scale(0, g);
    model.accumulate_score(b.prompts, b.r, b.coefficients, 1.0, g);
    return on_host(model.space(), g);
  };
  const auto samples = sampled(), scores = scored();
  const std::vector<float> gradient = differentiated(), nothing(gradient.size(), 0);

  std::size_t untouched = 0, partial = 0;
  const auto fails_after = [&](std::size_t calls, auto work) {
    where->calls_left = calls;
    try {
      work();
      where->calls_left = ~std::size_t{0};
      return false;
    } catch (const cuda::device_error& e) {
      CHECK_THAT(e.what(), Catch::Contains("host_device") && Catch::Contains("no calls are left"));
    }
    where->calls_left = ~std::size_t{0};
    CHECK(on_host(model.space(), model.parameters()) == theta);
    return true;
  };
  std::size_t calls = 0;
  for (; fails_after(calls, sampled); calls += 1 + calls / 8) CHECK(sampled() == samples);
  CHECK(calls > 50);
  for (calls = 0; fails_after(calls, scored); calls += 1 + calls / 8) CHECK(scored() == scores);
  CHECK(calls > 50);
  for (calls = 0; fails_after(calls, differentiated); calls += 1 + calls / 8) {
    const std::vector<float> left = on_host(model.space(), g);
    untouched += left == nothing || left == gradient;
    partial += left != nothing && left != gradient;
    CHECK(differentiated() == gradient);
  }
  CHECK(untouched > 0);
  CHECK(partial > 0);
}

TEST_CASE("cuda decoder: where memory is refused, fewer layers are kept, then half is tried once, and the plan says so",
          "[cuda]") {
  const decoder::config c = cuda_models::small("qwen2");
  const cuda::model_shape shape(c);
  const cuda_models::batch b;
  const auto where = std::make_shared<cuda::host_device>();
  cuda::decoder model(where, c, cuda_models::parameters(c));
  auto g = model.space().zero(), h = model.space().zero();
  model.accumulate_score(b.prompts, b.r, b.coefficients, 1.0, g);
  const cuda::memory_plan whole = model.plan();
  CHECK(whole.planned_rows == whole.rows);
  CHECK(whole.kept_layers == 1);
  const std::vector<float> exact = on_host(model.space(), g);
  const std::size_t none_kept = cuda::micro_batch_bytes(shape, whole.rows, {}, cuda::pass::gradient, 0);

  // Fresh policies: what was reserved is kept.
  cuda::decoder fewer(where, c, cuda_models::parameters(c));
  where->largest_piece = whole.micro_batch - 1;
  fewer.accumulate_score(b.prompts, b.r, b.coefficients, 1.0, h);
  CHECK(fewer.plan().rows == whole.rows);
  CHECK(fewer.plan().planned_rows == whole.rows);
  CHECK(fewer.plan().kept_layers == 0);
  CHECK(fewer.plan().micro_batch == none_kept);
  CHECK(on_host(model.space(), h) == exact);

  cuda::decoder halved(where, c, cuda_models::parameters(c));
  where->largest_piece = none_kept - 1;
  model.space().scale(0, h);
  halved.accumulate_score(b.prompts, b.r, b.coefficients, 1.0, h);
  CHECK(halved.plan().planned_rows == whole.rows);
  CHECK(halved.plan().rows == (whole.rows + 1) / 2);
  CHECK(halved.plan().kept_layers == 0);
  CHECK(halved.plan().micro_batch < none_kept);
  const std::vector<double> in_double(exact.begin(), exact.end());
  CHECK(relative_error(on_host(model.space(), h), in_double.data()) < 0.05);  // bfloat16, in other micro-batches

  const std::vector<sample_request> requests{{0, 40, 0}};
  where->largest_piece = ~std::size_t{0};
  const rollouts same = model.sample(b.prompts, requests, {1.0, 5}, random_key(1));
  CHECK(model.plan().slots == 40);
  CHECK(model.plan().planned_slots == 40);
  cuda::decoder sampling(where, c, cuda_models::parameters(c));
  where->largest_piece = model.plan().sampling - 1;
  const rollouts r = sampling.sample(b.prompts, requests, {1.0, 5}, random_key(1));
  CHECK(sampling.plan().planned_slots == 40);
  CHECK(sampling.plan().slots == 20);
  CHECK(r.tokens == same.tokens);

  // Once: a quarter is not tried.
  cuda::decoder refused(where, c, cuda_models::parameters(c));
  where->largest_piece = halved.plan().micro_batch / 2;
  const double before = model.space().dot(h, h);
  try {
    refused.accumulate_score(b.prompts, b.r, b.coefficients, 1.0, h);
    CHECK(false);
  } catch (const cuda::out_of_memory& e) {
    CHECK_THAT(e.what(), Catch::Contains("accumulate_score of 93 rows, beside ") &&
                             Catch::Contains(std::to_string(refused.plan().parameters) + " bytes of parameters, " +
                                             std::to_string(refused.plan().weights) + " of weights") &&
                             Catch::Contains("needs " + std::to_string(halved.plan().micro_batch) + " bytes"));
  }
  CHECK(model.space().dot(h, h) == before);
}

TEST_CASE("cuda decoder: rows that the caller fixed stay, whatever is refused", "[cuda]") {
  decoder::config c = cuda_models::small("qwen3");
  c.layers = 5;
  c.windows = {};
  const cuda::model_shape shape(c);
  const cuda_models::batch b;
  const cuda::decoder_options fixed{.micro_batch_rows = 185};
  const auto where = std::make_shared<cuda::host_device>();
  const auto bytes = [&](std::size_t kept) {
    return cuda::micro_batch_bytes(shape, 185, fixed, cuda::pass::gradient, kept);
  };
  std::vector<float> all_kept;
  for (std::size_t kept = 5; kept-- > 0;) {
    cuda::decoder model(where, c, cuda_models::parameters(c), fixed);
    auto g = model.space().zero();
    where->largest_piece = bytes(kept);
    model.accumulate_score(b.prompts, b.r, b.coefficients, 1.0, g);
    CHECK(model.plan().rows == 185);
    CHECK(model.plan().planned_rows == 185);
    CHECK(model.plan().kept_layers == kept);
    CHECK(model.plan().micro_batch == bytes(kept));
    if (all_kept.empty()) all_kept = on_host(model.space(), g);
    CHECK(on_host(model.space(), g) == all_kept);
  }
  cuda::decoder model(where, c, cuda_models::parameters(c), fixed);
  auto g = model.space().zero();
  where->largest_piece = bytes(0) - 1;
  try {
    model.accumulate_score(b.prompts, b.r, b.coefficients, 1.0, g);
    CHECK(false);
  } catch (const cuda::out_of_memory& e) {
    CHECK_THAT(e.what(), Catch::Contains("accumulate_score of 185 rows, beside ") &&
                             Catch::Contains("needs " + std::to_string(bytes(0)) + " bytes"));
  }
  CHECK(model.space().dot(g, g) == 0);
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
  const std::size_t angles = 62 * c.head_dim / 2 * 4 * sizeof(float);  // of the longest rollout's positions
  CHECK(where->used_bytes() == roomy.training_total() + angles);
  CHECK(roomy.kept_layers == c.layers - 1);
  (void)model.score(b.prompts, b.r, 1.0);
  CHECK(model.plan().kept_layers == 0);  // nothing is kept for a backward pass that does not come
  CHECK(2 * model.plan().micro_batch < roomy.micro_batch);

  const auto tight = std::make_shared<cuda::host_device>();
  cuda::decoder small(tight, c, cuda_models::parameters(c));
  auto h = small.space().zero();
  tight->capacity = tight->used_bytes() + roomy.micro_batch * 2 / 3;
  small.accumulate_score(b.prompts, b.r, b.coefficients, 1.0, h);
  CHECK(small.plan().rows < roomy.rows);

  // What a call worked in is kept for the next one, and gives way to a vector.
  const std::size_t room = tight->capacity, used = tight->used_bytes(),
                    vector = small.space().dimension() * sizeof(float);
  REQUIRE(small.plan().micro_batch > vector);
  tight->capacity = used;
  {
    const auto more = small.space().zero();
    CHECK(tight->used_bytes() == used - small.plan().micro_batch + vector);
  }
  const std::vector<float> once = on_host(small.space(), h);
  tight->capacity = room;
  small.space().scale(0, h);
  small.accumulate_score(b.prompts, b.r, b.coefficients, 1.0, h);
  CHECK((on_host(small.space(), h) == once));
  tight->capacity = used;
  const auto more = small.space().zero();
  tight->capacity = tight->used_bytes();
  CHECK_THROWS_AS(small.space().zero(), cuda::out_of_memory);
  CHECK_THROWS_AS(small.accumulate_score(b.prompts, b.r, b.coefficients, 1.0, h), cuda::out_of_memory);
  CHECK((on_host(small.space(), h) == once));

  // To another policy too, which plans with it.
  const auto shared = std::make_shared<cuda::host_device>();
  cuda::decoder first(shared, c, cuda_models::parameters(c)), second(shared, c, cuda_models::parameters(c));
  auto sum = first.space().zero();
  shared->capacity = shared->used_bytes() + roomy.micro_batch * 3 / 2;
  first.accumulate_score(b.prompts, b.r, b.coefficients, 1.0, sum);
  second.accumulate_score(b.prompts, b.r, b.coefficients, 1.0, sum);
  CHECK(first.plan().rows == roomy.rows);
  CHECK(second.plan().rows == roomy.rows);
}

TEST_CASE("cuda decoder: activations that are kept have the bits of those that are computed again", "[cuda]") {
  const cuda_models::batch b;
  for (const char* family : {"qwen3", "olmo2"})
    for (const auto compute : {cuda::scalar_type::float32, cuda::scalar_type::bfloat16}) {
      decoder::config c = cuda_models::small(family, 8);
      c.layers = 4;
      c.windows = {};
      const auto where = std::make_shared<cuda::host_device>();
      std::size_t used = 0, whole = 0, seen = 0;
      std::vector<float> roomy;
      for (std::size_t tenths = 12; seen < 4; --tenths) {
        // Of the rows of all rollouts; without that, less memory would be fewer of them.
        cuda::decoder model(where, c, cuda_models::parameters(c), {.compute = compute, .micro_batch_rows = 185});
        auto g = model.space().zero();
        if (roomy.empty()) {
          used = where->used_bytes();
        } else {
          REQUIRE(tenths > 2);
          where->capacity = used + model.plan().lists + whole * tenths / 10;
        }
        model.accumulate_score(b.prompts, b.r, b.coefficients, 1.0, g);
        CHECK(model.plan().rows == 185);
        if (roomy.empty()) {
          roomy = on_host(model.space(), g);
          whole = model.plan().micro_batch;
          CHECK(model.plan().kept_layers == 3);
        }
        CHECK(on_host(model.space(), g) == roomy);
        if (model.plan().kept_layers == 3 - seen) ++seen;
      }
      CHECK(seen == 4);
    }
}

TEST_CASE("cuda decoder: micro-batches are cut until all activations are kept, but not small", "[cuda]") {
  decoder::config c = cuda_models::small("qwen3", 128);  // in the shape of Qwen3-0.6B
  c.vocab_size = 151936;
  c.hidden_size = 1024;
  c.intermediate_size = 3072;
  c.layers = 28;
  c.heads = 16;
  c.kv_heads = 8;
  c.windows = {};
  c.tied_embeddings = true;
  const auto plan = [&](double gigabytes, std::size_t length) {
    const cuda::workload work{.prompts = 64, .prompt_tokens = 256, .completion_tokens = length - 255};
    const auto budget = static_cast<std::size_t>(gigabytes * 1e9);
    const cuda::memory_plan out = cuda::plan_memory(c, {}, work, budget);
    CHECK(out.training_total() <= budget);
    return std::pair(out.rows, out.kept_layers);
  };
  CHECK(plan(80, 1024) == std::pair<std::size_t, std::size_t>(16384, 27));
  CHECK(plan(24, 1024) == std::pair<std::size_t, std::size_t>(8192, 27));
  const auto [rows, kept] = plan(12, 1024);
  CHECK(rows == 4096);
  CHECK(kept > 0);
  CHECK(kept < 27);
  CHECK(plan(9, 1024).first == 2048);
  CHECK(plan(24, 16384).first == 16384);  // a rollout is not cut
  CHECK(plan(24, 16384).second < 27);
}

TEST_CASE("cuda decoder: a plan before there is a device is the plan that is made", "[cuda]") {
  const cuda::workload work{.prompts = 3, .rollouts_per_prompt = 5, .prompt_tokens = 9, .completion_tokens = 7};
  for (const char* family : {"qwen3", "olmo2"}) {
    decoder::config c = cuda_models::small(family);
    c.eos = {};
    cuda::decoder model(std::make_shared<cuda::host_device>(), c, cuda_models::parameters(c));
    ragged<token> prompts;
    for (token t = 0; t < 3; ++t) prompts.push_back(std::vector<token>(9, t));
    const rollouts r =
        model.sample(prompts, std::vector<sample_request>{{0, 5, 0}, {1, 5, 0}, {2, 5, 0}}, {1.0, 7}, random_key(2));
    auto g = model.space().zero();
    model.accumulate_score(prompts, r, std::vector<double>(r.tokens.size(), 0.5), 1.0, g);
    const cuda::memory_plan made = model.plan(), planned = cuda::plan_memory(c, {}, work, std::size_t{1} << 30);
    CHECK(planned.parameters == made.parameters);
    CHECK(planned.gradient == made.gradient);
    CHECK(planned.weights == made.weights);
    CHECK(planned.rows == 117);
    CHECK(made.rows == 117);
    CHECK(planned.micro_batch == made.micro_batch);
    CHECK(planned.slots == 15);
    CHECK(made.slots == 15);
    CHECK(planned.sampling == made.sampling);
    const auto whole = [](std::size_t bytes) { return (bytes + 255) / 256 * 256; };
    // 2 layers, keys and values of 12 numbers, bfloat16.
    CHECK(made.cache == 2 * (whole(3 * 9 * 2 * 12 * 2) + whole(15 * 6 * 2 * 12 * 2)));
    CHECK(planned.cache == made.cache);

    const std::size_t tight = planned.training_total() - planned.micro_batch / 3;
    const cuda::memory_plan less = cuda::plan_memory(c, {}, work, tight);
    CHECK(less.rows < planned.rows);
    CHECK(less.training_total() <= tight);
    CHECK(less.sampling_total() <= tight);
    CHECK(cuda::plan_memory(c, {}, work, planned.parameters).training_total() > planned.parameters);
  }
  CHECK_THROWS_AS(cuda::plan_memory(cuda_models::small("llama"), {}, {.prompts = 0}, 1), std::invalid_argument);
}

TEST_CASE("cuda decoder: what a step of sampling asks of the device", "[cuda]") {
  // Per layer: norm, product, heads, attention, product, norm, product, SwiGLU, product, and a bias behind attention;
  // of norms behind the branches four more. Per step: embedding, norm, product, draw.
  const auto calls_of = [](const decoder::config& c, std::uint32_t tokens) {
    const auto where = std::make_shared<cuda::host_device>();
    cuda::decoder model(where, c, cuda_models::parameters(c));
    ragged<token> prompts;
    prompts.push_back(std::vector<token>{2, 3, 4});
    where->calls = {};
    (void)model.sample(prompts, std::vector<sample_request>{{0, 6, 0}}, {1.0, tokens}, random_key(3));
    return where->calls;
  };
  struct expected {
    const char* family;
    std::size_t kernels, products, copies;
  };
  for (const auto& [family, kernels, products, copies] :
       {expected{"qwen2", 5, 4, 0}, {"llama", 6, 4, 0}, {"qwen3", 5, 4, 0}, {"olmo2", 9, 4, 0}}) {
    INFO(family);
    decoder::config c = cuda_models::small(family);
    c.eos = {};
    const cuda::call_count few = calls_of(c, 5), more = calls_of(c, 6);
    CHECK(more.kernels - few.kernels == kernels * c.layers + 3);
    CHECK(more.products - few.products == products * c.layers + 1);
    CHECK(more.copies - few.copies == copies * c.layers);
    CHECK(more.uploads - few.uploads == 1);
    CHECK(more.downloads - few.downloads == 1);
    CHECK(more.waits - few.waits == 0);
  }
}
TEST_CASE("cuda decoder: slots are never idle while rollouts wait, whatever their prompts", "[cuda]") {
  const decoder::config c = cuda_models::small("qwen2");
  ragged<token> prompts;
  std::vector<sample_request> requests;
  for (std::uint32_t i = 0; i < 60; ++i) {
    const std::size_t length = 1 + random_key(8).below(12, i);
    prompts.push_back(std::vector<token>(length, static_cast<token>(2 + i % 30)));
    requests.push_back({i, 1 + i % 3, 0});
  }
  requests.push_back({0, 9, 1});  // comes again, with more than there are slots
  const sampling_options options{1.0, 12};
  cuda::decoder whole = model_of(c);
  const rollouts expected = whole.sample(prompts, requests, options, random_key(5));
  for (const std::size_t prompt_rows : {1, 30, 1000}) {
    const auto where = std::make_shared<cuda::host_device>();
    cuda::decoder model(where, c, cuda_models::parameters(c),
                        {.compute = cuda::scalar_type::float32, .rollouts_at_once = 8, .prompt_rows = prompt_rows});
    where->calls = {};
    const rollouts got = model.sample(prompts, requests, options, random_key(5));
    CHECK(got.tokens == expected.tokens);
    CHECK(got.prompts == expected.prompts);
    CHECK(got.offsets == expected.offsets);
    const std::size_t steps = where->calls.downloads;
    if (prompt_rows == 1000) CHECK(8 * steps < got.tokens.size() + 8 * (options.max_tokens + 1));
    if (prompt_rows == 30) CHECK(4 * steps < got.tokens.size() + 8 * options.max_tokens);  // about four prompts at once
    CHECK(where->calls.uploads <= 2 * steps);
  }
}

TEST_CASE("cuda row ranges: what is taken is disjoint, and everything comes back", "[cuda]") {
  const std::int32_t rows = 50;
  cuda::row_ranges free(rows);
  std::vector<int> taken(rows, 0);
  std::vector<std::pair<std::int32_t, std::int32_t>> held;
  std::size_t refused = 0;
  for (std::uint64_t i = 0; i < 2000; ++i) {
    const auto count = static_cast<std::int32_t>(1 + random_key(1).below(12, i));
    if (random_key(2).below(2, i) == 0) {
      const std::optional<std::int32_t> row = free.take(count);
      std::int32_t run = 0, longest = 0;
      for (const int t : taken) longest = std::max(longest, run = t ? 0 : run + 1);
      REQUIRE(row.has_value() == (longest >= count));
      refused += !row;
      if (!row) continue;
      for (std::int32_t r = *row; r < *row + count; ++r) REQUIRE(taken[static_cast<std::size_t>(r)]++ == 0);
      held.emplace_back(*row, count);
    } else if (!held.empty()) {
      const std::size_t which = random_key(3).below(held.size(), i);
      const auto [row, length] = held[which];
      free.give(row, length);
      std::fill_n(taken.begin() + row, length, 0);
      held.erase(held.begin() + static_cast<std::ptrdiff_t>(which));
    }
  }
  CHECK(refused > 10);
  for (const auto& [row, length] : held) free.give(row, length);
  CHECK(free.take(rows) == 0);
  CHECK(!free.take(1));
}
#endif
