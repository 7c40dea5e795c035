/// The kernels of a decode step, attention of one query and draws from rows of logits, against plain double loops.
/// Compiled twice: for the GPU's host double, lane by lane, and with RLVR_TEST_ON_GPU for a GPU.

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <functional>
#include <limits>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include <rlvr/backend/cuda/decoder.hpp>
#include <rlvr/backend/cuda/device.hpp>
#include <rlvr/backend/cuda/space.hpp>
#include <rlvr/core/random.hpp>

#include "catch.hpp"
#include "cuda/models.hpp"
#include "cuda/test_device.hpp"

namespace {

using namespace rlvr;
using cuda::bfloat16;

const float nan_float = std::numeric_limits<float>::quiet_NaN();
const float inf = std::numeric_limits<float>::infinity();

const std::shared_ptr<cuda::device>& where() {
  static const std::shared_ptr<cuda::device> device = make_device();
  return device;
}

/// Numbers there.
template <class T>
class array {
 public:
  explicit array(const std::vector<T>& values) : memory_(where(), values.size() * sizeof(T)), size_(values.size()) {
    where()->upload(memory_.data(), values.data(), memory_.bytes());
  }
  T* data() const { return static_cast<T*>(memory_.data()); }
  cuda::operand operand() const {
    return {memory_.data(), sizeof(T) == 4 ? cuda::scalar_type::float32 : cuda::scalar_type::bfloat16};
  }
  std::vector<T> values() const {
    std::vector<T> out(size_);
    where()->download(out.data(), memory_.data(), memory_.bytes());
    return out;
  }

 private:
  cuda::buffer memory_;
  std::size_t size_;
};

/// One query behind `prefix` keys that begin at row `prefix_row` of the prompts' cache, and `own` of its own, itself
/// the last of them.
struct context {
  std::int32_t prefix_row, prefix, own_row, own;
};

/// Caches whose rows are random where a query may look and NaN elsewhere, and queries beside numbers that are none.
template <class S>
struct decode_step {
  cuda::attention_shape shape;
  std::vector<context> contexts;
  std::int32_t rows = 0;
  std::vector<S> prompts, own, q;

  decode_step(cuda::attention_shape s, std::vector<context> all) : shape(s), contexts(std::move(all)) {
    for (const context& c : contexts) rows = std::max({rows, c.prefix_row + c.prefix, c.own_row + c.own});
    rows += 40;
    prompts.assign(static_cast<std::size_t>(rows * prompt_stride()), S(nan_float));
    own.assign(static_cast<std::size_t>(rows * stride()), S(nan_float));
    q.assign(contexts.size() * static_cast<std::size_t>(q_stride()), S(nan_float));
    std::uint64_t at = 0;
    const auto fill = [&](std::vector<S>& x, std::int64_t from, std::int64_t count) {
      for (std::int64_t i = from; i < from + count; ++i)
        x[static_cast<std::size_t>(i)] = S(static_cast<float>(3 * random_key(1).uniform(at++) - 1.5));
    };
    for (std::size_t i = 0; i < contexts.size(); ++i) {
      const context& c = contexts[i];
      fill(prompts, c.prefix_row * prompt_stride(), c.prefix * prompt_stride());
      fill(own, c.own_row * stride(), c.own * stride());
      fill(q, static_cast<std::int64_t>(i) * q_stride(), shape.heads * shape.head_dim);
    }
  }
  std::int32_t stride() const { return 2 * shape.kv_heads * shape.head_dim; }
  std::int32_t prompt_stride() const { return stride() + 16; }
  std::int32_t q_stride() const { return shape.heads * shape.head_dim + stride(); }

  struct results {
    std::vector<S> out;
    std::vector<float> log_sum;
  };
  results run() const {
    std::vector<cuda::attention_task> tasks;
    for (const context& c : contexts)
      tasks.push_back({static_cast<std::int32_t>(tasks.size()), 1, c.prefix_row, c.prefix, c.own_row, c.own - 1});
    const std::size_t width = static_cast<std::size_t>(shape.heads * shape.head_dim);
    const array<S> out(std::vector<S>(contexts.size() * width, S(nan_float)));
    const array<float> log_sum(std::vector<float>(contexts.size() * static_cast<std::size_t>(shape.heads), nan_float));
    const array<cuda::attention_task> list(tasks);
    const array<S> there(q), first(prompts), second(own);
    const auto rows_of = [&](const array<S>& x, std::int64_t apart) {
      const cuda::operand keys = x.operand();
      return cuda::key_value_rows{keys, keys.offset(static_cast<std::size_t>(stride() / 2)), apart};
    };
    where()->attention(shape, list.data(), static_cast<std::int32_t>(tasks.size()), there.operand(), q_stride(),
                       rows_of(first, prompt_stride()), rows_of(second, stride()), out.operand(),
                       static_cast<std::int64_t>(width), log_sum.data(), true);
    return {out.values(), log_sum.values()};
  }
};

template <class T>
double number(const T& x) {
  return static_cast<double>(static_cast<float>(x));
}

template <class S>
void check(cuda::attention_shape shape, const std::vector<context>& contexts) {
  decode_step<S> x(shape, contexts);
  std::string text;
  for (const context& c : contexts) text += std::to_string(c.prefix) + "+" + std::to_string(c.own) + " ";
  INFO("heads " << shape.heads << "/" << shape.kv_heads << " of " << shape.head_dim << ", window " << shape.window
                << ", keys " << text);
  const auto r = x.run();
  const std::int32_t dim = shape.head_dim;
  double off = 0, size = 0;
  for (std::size_t i = 0; i < contexts.size(); ++i) {
    const context& c = contexts[i];
    const std::int32_t all = c.prefix + c.own, first = shape.window > 0 ? std::max(0, all - shape.window) : 0;
    for (std::int32_t head = 0; head < shape.heads; ++head) {
      const std::int32_t key_head = head / (shape.heads / shape.kv_heads);
      const auto cached = [&](std::int32_t position, std::int32_t column) {
        const bool shared = position < c.prefix;
        const std::int32_t row = shared ? c.prefix_row + position : c.own_row + position - c.prefix;
        const std::int32_t stride = shared ? x.prompt_stride() : x.stride();
        return number((shared ? x.prompts : x.own)[static_cast<std::size_t>(row * stride + column)]);
      };
      std::vector<double> score(static_cast<std::size_t>(all)), expected(static_cast<std::size_t>(dim));
      double top = -1e300, sum = 0;
      for (std::int32_t p = first; p < all; ++p) {
        double& s = score[static_cast<std::size_t>(p)];
        for (std::int32_t e = 0; e < dim; ++e)
          s += number(x.q[i * static_cast<std::size_t>(x.q_stride()) + static_cast<std::size_t>(head * dim + e)]) *
               cached(p, key_head * dim + e) / std::sqrt(dim);
        top = std::max(top, s);
      }
      for (std::int32_t p = first; p < all; ++p) {
        const double w = std::exp(score[static_cast<std::size_t>(p)] - top);
        sum += w;
        for (std::int32_t e = 0; e < dim; ++e)
          expected[static_cast<std::size_t>(e)] += w * cached(p, (shape.kv_heads + key_head) * dim + e);
      }
      const std::size_t of = i * static_cast<std::size_t>(shape.heads) + static_cast<std::size_t>(head);
      REQUIRE(static_cast<double>(r.log_sum[of]) == Approx(top + std::log(sum)).margin(2e-5));
      for (std::size_t e = 0; e < expected.size(); ++e) {
        const double got = number(r.out[of * static_cast<std::size_t>(dim) + e]);
        off += (got - expected[e] / sum) * (got - expected[e] / sum);
        size += expected[e] / sum * (expected[e] / sum);
      }
    }
  }
  // A weight and a result are rounded to 2^-9, about 0.6 of that in the mean of squares; in float to 2^-24.
  CHECK(std::sqrt(off / size) < (sizeof(S) == 2 ? 3e-3 : 1e-6));
  const auto again = x.run();
  CHECK(std::memcmp(again.out.data(), r.out.data(), r.out.size() * sizeof(S)) == 0);
}

}  // namespace

TEST_CASE("cuda decode: heads of every width, groups of every size", "[cuda]") {
  const std::vector<context> some{{3, 30, 7, 45}, {3, 30, 60, 2}};
  for (const std::int32_t head_dim : {8, 16, 40, 64, 72, 80, 96, 120, 128}) check<bfloat16>({4, 2, head_dim, 0}, some);
  for (const std::int32_t group : {1, 3, 4, 5, 7, 8, 9, 11, 14, 16, 24}) check<bfloat16>({group, 1, 16, 0}, some);
  check<bfloat16>({9, 3, 128, 0}, some);
  for (const std::int32_t head_dim : {4, 16, 20, 32, 64, 68, 100, 128}) check<float>({4, 2, head_dim, 0}, some);
  for (const std::int32_t group : {1, 3, 4, 5, 7, 8, 9, 16}) check<float>({group, 1, 16, 0}, some);
  check<float>({9, 3, 128, 0}, some);
}

TEST_CASE("cuda decode: contexts on both sides of every turn of the warps", "[cuda]") {
  std::vector<context> own, behind_one;
  for (const std::int32_t length : {1, 2, 15, 16, 17, 31, 32, 33, 63, 64, 65, 79, 80, 81, 127, 128, 129, 200}) {
    own.push_back({0, 0, own.empty() ? 5 : own.back().own_row + own.back().own, length});
    behind_one.push_back({0, 1, own.back().own_row, length});
  }
  check<bfloat16>({2, 1, 16, 0}, own);
  check<bfloat16>({2, 1, 16, 0}, behind_one);
  check<float>({2, 1, 8, 0}, own);
  check<float>({2, 1, 8, 0}, behind_one);
  // The first of its own keys at every place of a turn.
  std::vector<context> shared;
  for (std::int32_t prefix = 1; prefix < 35; ++prefix) shared.push_back({2, prefix, 40 * prefix, 1 + prefix % 20});
  check<bfloat16>({2, 1, 8, 0}, shared);
  check<float>({2, 1, 8, 0}, shared);
}

TEST_CASE("cuda decode: windows", "[cuda]") {
  const std::vector<context> some{{0, 0, 0, 150}, {0, 70, 150, 1}, {0, 70, 160, 30}, {0, 70, 200, 90}, {9, 3, 300, 2}};
  for (const std::int32_t window : {1, 2, 15, 16, 17, 64, 65, 100, 1000}) {
    check<bfloat16>({2, 1, 16, window}, some);
    check<float>({2, 1, 16, window}, some);
  }
}

TEST_CASE("cuda decode: heads that are not read by 16 bytes, or too wide", "[cuda]") {
  const std::vector<context> some{{3, 30, 7, 45}, {3, 30, 60, 2}, {0, 0, 100, 140}};
  check<bfloat16>({4, 2, 6, 0}, some);
  check<bfloat16>({2, 1, 136, 9}, some);
  check<float>({4, 2, 6, 0}, some);
  check<float>({2, 1, 132, 20}, some);
}

TEST_CASE("cuda decode: a query that is not a number is told", "[cuda]") {
  decode_step<bfloat16> x({2, 1, 16, 0}, {{0, 20, 0, 3}, {0, 20, 10, 3}});
  x.q[1] = bfloat16(nan_float);
  const auto r = x.run();
  for (std::size_t i = 0; i < r.out.size(); ++i) CHECK(std::isnan(number(r.out[i])) == (i < 16));
}

TEST_CASE("cuda decode: what is sampled is scored as it was sampled", "[cuda]") {
  // A step's attention looks at the cache, a score's at packed rows. bfloat16 rounds to 2^-9, over two layers.
  const cuda_models::batch b;
  for (const cuda::scalar_type compute : {cuda::scalar_type::float32, cuda::scalar_type::bfloat16})
    for (const char* family : {"qwen3", "olmo3"}) {
      std::vector<sample_request> requests{{0, 6, 0}, {2, 4, 3}, {1, 2, 0}, {0, 2, 40}};
      if (compute == cuda::scalar_type::bfloat16) requests = {{0, 4, 0}};
      if (compute == cuda::scalar_type::bfloat16 && std::string_view(family) != "qwen3") continue;  // time
      INFO(family << (compute == cuda::scalar_type::float32 ? " in float" : " in bfloat16"));
      const decoder::config c = cuda_models::small(family, 16);
      cuda::decoder model(where(), c, cuda_models::parameters(c), {.compute = compute, .rollouts_at_once = 9});
      const rollouts r = model.sample(b.prompts, requests, {0.9, 20}, random_key(3));
      CHECK(r.tokens.size() > 20);
      const token_scores scores = model.score(b.prompts, r, 0.9);
      double log_prob = 0, entropy = 0;
      for (std::size_t t = 0; t < r.tokens.size(); ++t) {
        log_prob = std::max(log_prob, std::fabs(scores.log_probs[t] - r.log_probs[t]));
        entropy = std::max(entropy, std::fabs(scores.entropies[t] - r.entropies[t]));
      }
      CHECK(log_prob < (compute == cuda::scalar_type::float32 ? 2e-5 : 0.1));
      CHECK(entropy < (compute == cuda::scalar_type::float32 ? 2e-5 : 0.1));
      const rollouts again = model.sample(b.prompts, requests, {0.9, 20}, random_key(3));
      CHECK(again.tokens == r.tokens);
      CHECK(again.log_probs == r.log_probs);
    }
}

namespace {

struct drawn {
  cuda::row_distribution p;
  std::int32_t next;
  double log_prob;
};
/// From equal rows, which begin `shift` numbers behind an aligned place.
std::vector<drawn> draw(const std::vector<float>& logits, std::size_t shift, double inverse_temperature,
                        const std::vector<double>& uniform) {
  const std::size_t n = uniform.size(), vocab = logits.size();
  std::vector<float> memory(shift, nan_float);
  for (std::size_t i = 0; i < n; ++i) memory.insert(memory.end(), logits.begin(), logits.end());
  const array<float> rows(memory);
  const array<double> u(uniform), log_probs(uniform);
  const array<cuda::row_distribution> p{std::vector<cuda::row_distribution>(n)};
  const array<std::int32_t> next(std::vector<std::int32_t>(n, -1));
  where()->draw(rows.data() + shift, static_cast<std::int32_t>(n), static_cast<std::int32_t>(vocab),
                inverse_temperature, p.data(), u.data(), next.data(), log_probs.data());
  std::vector<drawn> out;
  const auto ps = p.values();
  const auto nexts = next.values();
  const auto lps = log_probs.values();
  for (std::size_t i = 0; i < n; ++i) out.push_back({ps[i], nexts[i], lps[i]});
  return out;
}

/// Weights below the top, in double.
std::vector<double> weights_of(const std::vector<float>& logits, double inverse_temperature) {
  const float top = *std::max_element(logits.begin(), logits.end());
  std::vector<double> out;
  for (const float l : logits) out.push_back(std::exp((number(l) - number(top)) * inverse_temperature));
  return out;
}

}  // namespace

TEST_CASE("cuda decode: a draw is the token at which the sum of probabilities passes the uniform number", "[cuda]") {
  // Rows that end within a read, a run, a part of the vocabulary, and that are not aligned.
  for (const std::size_t vocab : {1, 3, 4, 31, 33, 511, 512, 513, 515, 1024, 4096, 5001, 151'936}) {
    std::vector<float> logits(vocab);
    for (std::size_t v = 0; v < vocab; ++v)
      logits[v] = static_cast<float>(12 * random_key(4).uniform(v) - (v / 700 % 3 == 1 ? 400 : 0));
    for (std::size_t v = 512; v < 1024 && vocab > 1024; ++v) logits[v] = -inf;  // a part in which none can come
    std::vector<double> uniform{0, 1 - 0x1p-53};
    for (std::uint64_t i = 0; i < (vocab > 10'000 ? 4 : 60); ++i) uniform.push_back(random_key(5).uniform(i));
    for (const double inverse : {1.0, 1 / 0.6}) {
      INFO(vocab << " tokens, inverse temperature " << inverse);
      const std::vector<double> weight = weights_of(logits, inverse);
      double all = 0, energy = 0;
      for (const double w : weight) {
        all += w;
        if (w > 0) energy += w * std::log(w);
      }
      const std::vector<drawn> aligned = draw(logits, 0, inverse, uniform), shifted = draw(logits, 1, inverse, uniform);
      for (std::size_t i = 0; i < uniform.size(); ++i) {
        const drawn& x = aligned[i];
        REQUIRE(x.next >= 0);
        REQUIRE(x.next < static_cast<std::int32_t>(vocab));
        const double own = weight[static_cast<std::size_t>(x.next)];
        double below = 0;
        for (std::size_t v = 0; v < static_cast<std::size_t>(x.next); ++v) below += weight[v];
        CHECK(own > 0);
        CHECK(below <= (uniform[i] + 1e-6) * all);
        CHECK(below + own >= (uniform[i] - 1e-6) * all);
        CHECK(x.log_prob == Approx(std::log(own / all)).margin(4e-6));
        CHECK(x.p.top == Approx(number(*std::max_element(logits.begin(), logits.end())) * inverse).epsilon(1e-6));
        CHECK(std::log(x.p.sum) == Approx(std::log(all)).margin(1e-6));
        CHECK(x.p.entropy == Approx(std::log(all) - energy / all).margin(4e-6));
        CHECK(shifted[i].next == x.next);
        CHECK(shifted[i].log_prob == x.log_prob);
        CHECK(std::memcmp(&shifted[i].p, &x.p, sizeof x.p) == 0);
      }
    }
  }
}

TEST_CASE("cuda decode: draws come as often as they are likely", "[cuda]") {
  // 20000 draws from tokens of three parts of the vocabulary. Of 1101 - 1 degrees of freedom chi^2 is further than 8 of
  // its standard deviations, 47, from its mean less than once in 1e9 (exponential bounds of its tails).
  const std::size_t vocab = 1101, draws = 20'000, at_once = 1000;
  std::vector<float> logits(vocab);
  for (std::size_t v = 0; v < vocab; ++v) logits[v] = static_cast<float>(2 * random_key(6).uniform(v));
  std::vector<double> count(vocab);
  for (std::size_t at = 0; at < draws; at += at_once) {
    std::vector<double> uniform;
    for (std::size_t i = at; i < at + at_once; ++i) uniform.push_back(random_key(7).uniform(i));
    for (const drawn& x : draw(logits, 0, 1.0, uniform)) count[static_cast<std::size_t>(x.next)] += 1;
  }
  const std::vector<double> weight = weights_of(logits, 1.0);
  double all = 0, chi = 0;
  for (const double w : weight) all += w;
  for (std::size_t v = 0; v < vocab; ++v) {
    const double expected = static_cast<double>(draws) * weight[v] / all;
    REQUIRE(expected > 5);
    chi += (count[v] - expected) * (count[v] - expected) / expected;
  }
  CHECK(std::fabs(chi - 1100) < 8 * 47);
}

TEST_CASE("cuda decode: a row that is no distribution is told", "[cuda]") {
  for (const std::size_t vocab : {1, 5, 700}) {
    const auto told = [&](const std::vector<float>& logits) {
      const drawn x = draw(logits, 0, 1.0, {0.5})[0];
      CHECK(x.next >= 0);
      CHECK(x.next < static_cast<std::int32_t>(vocab));
      CHECK(!std::isfinite(x.p.entropy));
    };
    for (const float bad : {nan_float, inf}) {
      std::vector<float> logits(vocab, 1.f);
      logits[vocab / 2] = bad;
      told(logits);
    }
    told(std::vector<float>(vocab, -inf));
  }
}

TEST_CASE("cuda decode: what top-k and top-p keep does not depend on where a row lies", "[cuda]") {
  // Ten parts of the vocabulary; as many, fewer and more tokens than parts are kept, with ties among and across them.
  const std::size_t vocab = 5001;
  std::vector<float> logits(vocab);
  for (std::size_t v = 0; v < vocab; ++v)
    logits[v] = std::round(static_cast<float>(40 * random_key(9).uniform(v))) / 4 - (v / 512 == 3 ? 50.f : 0.f);
  std::vector<float> sorted = logits;
  std::sort(sorted.begin(), sorted.end(), std::greater<>());
  const auto kept = [&](std::size_t shift, std::int32_t k, double top_p) {
    std::vector<float> memory(shift + vocab, 0);
    std::copy(logits.begin(), logits.end(), memory.begin() + static_cast<std::ptrdiff_t>(shift));
    const array<float> there(memory);
    where()->truncate(there.data() + shift, 1, static_cast<std::int32_t>(vocab), 1.0, k, top_p);
    const std::vector<float> out = there.values();
    return std::vector<float>(out.begin() + static_cast<std::ptrdiff_t>(shift), out.end());
  };
  for (const std::size_t shift : {0, 1})
    for (const std::int32_t k : {0, 1, 9, 10, 11, 400, 5000})
      for (const double top_p : {1.0, 0.8}) {
        INFO("shifted by " << shift << ", top_k " << k << ", top_p " << top_p);
        float least = k > 0 ? sorted[static_cast<std::size_t>(k) - 1] : -inf;
        double all = 0, sum = 0;
        for (const float l : logits) all += l >= least ? std::exp(number(l)) : 0;
        if (top_p < 1)
          for (std::size_t i = 0; sum < top_p * all; ++i) {
            sum += std::exp(number(sorted[i]));
            least = sorted[i];
          }
        const std::vector<float> got = kept(shift, k, top_p);
        std::size_t wrong = 0;
        for (std::size_t v = 0; v < vocab; ++v) wrong += got[v] != (logits[v] >= least ? logits[v] : -inf);
        CHECK(wrong == 0);
      }
}
