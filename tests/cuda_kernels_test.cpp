/// The CUDA kernels on the GPU's host double against plain double loops.

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <functional>
#include <limits>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include <rlvr/backend/cuda/host_device.cuh>
#include <rlvr/backend/cuda/space.hpp>
#include <rlvr/backend/eigen/space.hpp>
#include <rlvr/core/random.hpp>
#include <rlvr/optimize/adamw.hpp>
#include <rlvr/optimize/sgd.hpp>

#include "catch.hpp"

namespace {

using namespace rlvr;

std::vector<float> random_floats(std::size_t n, std::uint64_t seed) {
  std::vector<float> out(n);
  for (std::size_t i = 0; i < n; ++i) out[i] = static_cast<float>(2 * random_key(seed).uniform(i) - 1);
  return out;
}

cuda::space space_of(std::size_t n) {
  return {std::make_shared<cuda::host_device>(), {{"x", {n}, 0}}};
}
cuda::device_vector vector_of(const cuda::space& s, const std::vector<float>& x) {
  cuda::device_vector out = s.zero();
  s.upload(x, out);
  return out;
}

}  // namespace

TEST_CASE("cuda bfloat16: rounds to nearest, ties to even", "[cuda]") {
  const auto rounded = [](float x) { return static_cast<float>(cuda::bfloat16(x)); };
  CHECK(rounded(1.f) == 1.f);
  CHECK(rounded(1.f + 0x1p-8f) == 1.f);                // a tie, down to even
  CHECK(rounded(1.f + 3 * 0x1p-8f) == 1.f + 0x1p-6f);  // a tie, up to even
  CHECK(rounded(1.f + 0x1.01p-8f) == 1.f + 0x1p-7f);
  CHECK(rounded(-3.1415926f) == -3.140625f);
  CHECK(rounded(std::numeric_limits<float>::max()) == std::numeric_limits<float>::infinity());
  CHECK(std::isnan(rounded(std::numeric_limits<float>::quiet_NaN())));
  std::uint32_t bits = 0x7f800001u;  // a NaN whose upper half alone would be infinity
  float x;
  std::memcpy(&x, &bits, 4);
  CHECK(std::isnan(rounded(x)));
}

TEST_CASE("cuda space: dot and gram are double sums over any length", "[cuda]") {
  for (const std::size_t n : {1, 255, 257, 16384, 16385, 70001}) {
    const cuda::space s = space_of(n);
    std::vector<std::vector<float>> host;
    std::vector<cuda::device_vector> x;
    std::vector<const cuda::device_vector*> all;
    for (std::uint64_t k = 0; k < 21; ++k) {
      host.push_back(random_floats(n, k));
      x.push_back(vector_of(s, host.back()));
    }
    for (const cuda::device_vector& v : x) all.push_back(&v);
    for (const std::size_t count : {1, 2, 3, 4, 5, 8, 9, 12, 13, 16, 17, 21}) {
      if (n == 70001 && count % 2 == 0) continue;  // time
      const std::vector<double> gram = s.gram(std::span(all).first(count));
      for (std::size_t i = 0; i < count; ++i)
        for (std::size_t j = 0; j < count; ++j) {
          double expected = 0;
          for (std::size_t c = 0; c < n; ++c)
            expected += static_cast<double>(host[i][c]) * static_cast<double>(host[j][c]);
          CHECK(gram[i * count + j] == Approx(expected).margin(1e-12 * static_cast<double>(n)));
          if (i == 0) CHECK(s.dot(x[0], x[j]) == Approx(expected).margin(1e-12 * static_cast<double>(n)));
        }
    }
    const std::vector<const float*> many(17, x[0].data());
    std::vector<double> out(17 * 17);
    CHECK_THROWS_WITH(s.where()->gram(many, n, out.data()), Catch::Contains("17 vectors"));
  }
}

TEST_CASE("cuda space: a sum of any length is made of few spans that cover it", "[cuda]") {
  for (const std::int64_t n : {std::int64_t{1}, std::int64_t{16384}, std::int64_t{16385}, std::int64_t{1} << 27,
                               (std::int64_t{1} << 27) + 1, std::int64_t{4'022'468'096}, std::int64_t{1} << 40}) {
    const std::int64_t span = cuda::kernels::sum_span(n), spans = (n + span - 1) / span;
    CHECK(span % cuda::kernels::vector_span == 0);
    CHECK(spans <= cuda::kernels::most_sum_spans);
    CHECK((n <= 16384 || 4 * spans > std::min(cuda::kernels::most_sum_spans, n / 16384)));
    // What the largest sum leaves behind fits the memory that is there.
    CHECK((spans + 1) * 136 * sizeof(double) <= cuda::scratch_bytes);
  }
}

TEST_CASE("cuda space: adamw and sgd run on the device, with the bits of the CPU", "[cuda]") {
  const std::size_t n = 20000;
  const auto where = std::make_shared<cuda::host_device>();
  const cuda::space s(where, {{"x", {n}, 0}});
  const eigen::space<float> e({{"x", {n}, 0}});
  const std::vector<float> start = random_floats(n, 1);
  cuda::device_vector theta = vector_of(s, start), g = s.zero();
  Eigen::VectorXf expected = Eigen::Map<const Eigen::VectorXf>(start.data(), n);
  const auto compare = [&](auto& ours, auto& theirs) {
    for (std::uint64_t step = 0; step < 4; ++step) {
      const std::vector<float> gradient = random_floats(n, 10 + step);
      s.upload(gradient, g);
      where->calls = {};
      ours.step(s, theta, g, 1.0 / static_cast<double>(1 + step));
      CHECK(where->calls.uploads + where->calls.downloads + where->calls.waits == 0);
      const Eigen::VectorXf same = Eigen::Map<const Eigen::VectorXf>(gradient.data(), n);
      theirs.step(e, expected, same, 1.0 / static_cast<double>(1 + step));
      std::vector<float> got(n);
      s.download(theta, got);
      float far = 0;
      for (std::size_t i = 0; i < n; ++i)
        far = std::max(far, std::abs(got[i] - expected[static_cast<Eigen::Index>(i)]));
#ifdef FP_FAST_FMAF  // products and sums may be fused, here and there in different ways
      CHECK(far <= 0x1p-21f);
#else
      CHECK(far == 0);
#endif
    }
  };
  adamw ours(s, {.learning_rate = 0.1}), back(s, {.beta1 = 0, .weight_decay = 0});
  adamw theirs(e, {.learning_rate = 0.1}), back_theirs(e, {.beta1 = 0, .weight_decay = 0});
  compare(ours, theirs);
  compare(back, back_theirs);
  sgd moved(s, {.momentum = 0.9, .weight_decay = 0.1});
  sgd moved_theirs(e, {.momentum = 0.9, .weight_decay = 0.1});
  compare(moved, moved_theirs);
}

TEST_CASE("cuda space: what survives the rounding of weights", "[cuda]") {
  constexpr auto bf16 = cuda::scalar_type::bfloat16, f32 = cuda::scalar_type::float32;
  const std::size_t n = 5000;
  const cuda::space s = space_of(n);
  std::vector<float> theta(n), d = random_floats(n, 2);
  for (std::size_t i = 0; i < n; ++i) theta[i] = 1.f + 0.5f * static_cast<float>(i % 2);
  const cuda::device_vector t = vector_of(s, theta), g = vector_of(s, d);
  const cuda::step_report none = s.survival(t, 1e-4, g, bf16), all = s.survival(t, 0.5, g, bf16);
  CHECK(none.moved == 0);
  CHECK(none.made == 0);
  CHECK(none.wanted == Approx(1e-8 * s.dot(g, g)));
  CHECK(all.moved > 0.98 * n);
  CHECK(all.along == Approx(all.wanted).epsilon(0.01));
  CHECK(all.made == Approx(all.wanted).epsilon(0.01));
  CHECK(none.cosine() == 0);
  CHECK(all.cosine() > 0.9999);
  CHECK(s.survival(t, 0, g, bf16).cosine() == 1);

  // Between the two: steps of a quarter of the spacing. One weight in four goes a whole one, the others stay: <made,
  // wanted> is |wanted|^2, but |made|^2 four times that.
  std::vector<float> spread(n), up(n, 1.f);
  for (std::size_t i = 0; i < n; ++i) spread[i] = 1.f + static_cast<float>(i) / static_cast<float>(n);
  const cuda::device_vector a = vector_of(s, spread), b = vector_of(s, up);
  const cuda::step_report some = s.survival(a, 0x1p-9, b, bf16);
  CHECK(some.moved == Approx(n / 4).epsilon(0.02));
  CHECK(some.along == Approx(some.wanted).epsilon(0.02));
  CHECK(some.made == Approx(4 * some.wanted).epsilon(0.02));
  CHECK(some.cosine() == Approx(0.5).epsilon(0.02));

  // Floats keep that step; one of a quarter of their own spacing moves none.
  const cuda::step_report kept = s.survival(a, 0x1p-9, b, f32), lost = s.survival(a, 0x1p-25, b, f32);
  CHECK(kept.cosine() > 0.999999);
  CHECK(kept.moved == n);
  CHECK(lost.cosine() == 0);
  CHECK(lost.moved == 0);
  CHECK(lost.wanted == n * 0x1p-50);
}

TEST_CASE("cuda space: the fused step is the parameters and their rounding", "[cuda]") {
  const std::size_t n = 40000;
  const cuda::space s = space_of(n);
  const std::vector<float> theta = random_floats(n, 1), d = random_floats(n, 2);
  const cuda::device_vector t = vector_of(s, theta), g = vector_of(s, d);
  cuda::device_vector y = s.zero();
  const cuda::buffer weights(s.where(), 2 * n);
  s.where()->step(t.data(), 0.37, g.data(), y.data(), static_cast<cuda::bfloat16*>(weights.data()), n);
  std::vector<float> moved(n);
  s.download(y, moved);
  const auto* rounded = static_cast<const cuda::bfloat16*>(weights.data());
  std::size_t wrong = 0;
  for (std::size_t i = 0; i < n; ++i) {
    const auto expected = static_cast<float>(static_cast<double>(theta[i]) + 0.37 * static_cast<double>(d[i]));
    wrong += moved[i] != expected || rounded[i].bits != cuda::bfloat16(expected).bits;
  }
  CHECK(wrong == 0);
}

TEST_CASE("cuda kernels: maps of every length and alignment", "[cuda]") {
  cuda::host_device d;
  // Exactly as long as needed, so that an address sanitizer sees what is read behind the end.
  const auto at = [](std::size_t offset, const std::vector<float>& x) {
    std::vector<float> out(offset, -9.f);
    out.insert(out.end(), x.begin(), x.end());
    out.shrink_to_fit();
    return out;
  };
  // Numbers of few bits: no product or sum below is rounded, so it does not matter which the compiler fuses.
  const auto few_bits = [](std::size_t n, std::uint64_t seed) {
    std::vector<float> out = random_floats(n, seed);
    for (float& x : out) x = std::round(x * 256) / 256;
    return out;
  };
  for (const std::size_t n : {0, 1, 3, 4, 15, 16, 17, 1023, 1025, 2047, 2048, 2049, 4095, 4096, 4097, 8195})
    for (const std::size_t ox : {0, 1, 2, 3, 4})
      for (const std::size_t oy : {std::size_t{0}, std::size_t{1}, ox}) {
        CAPTURE(n, ox, oy);
        const std::vector<float> x = at(ox, few_bits(n, 1)), y = at(oy, few_bits(n, 2));
        const std::vector<float> v = at(ox, std::vector<float>(n, 0.25f));
        // y mapped by `map` is expected(x_i, y_i), and nothing before and behind it has changed.
        const auto check = [&](auto map, auto expected) {
          std::vector<float> got = y;
          got.insert(got.end(), 5, -9.f);
          map(got.data() + oy);
          std::size_t wrong = 0;
          for (std::size_t i = 0; i < got.size(); ++i) wrong += (i < oy || i >= oy + n) && got[i] != -9.f;
          for (std::size_t i = 0; i < n; ++i) wrong += got[oy + i] != expected(x[ox + i], y[oy + i]);
          CHECK(wrong == 0);
        };
        const float* from = x.data() + ox;
        check([&](float* to) { d.scale(0.375, to, n); }, [](float, float b) { return b * 0.375f; });
        check([&](float* to) { d.add(from, to, n); }, [](float a, float b) { return a + b; });
        check([&](float* to) { d.cast(from, {to, cuda::scalar_type::float32}, n); }, [](float a, float) { return a; });
        const auto multiple = [](float a, float b) { return b + 0.375f * a; };
        check([&](float* to) { d.axpy(0.375, from, to, n); }, multiple);
        check([&](float* to) { d.step(from, 0.0, nullptr, to, nullptr, n); }, [](float a, float) { return a; });
        check([&](float* to) { d.step(to, 0.375, from, to, nullptr, n); }, multiple);
        const detail::decay_towards mean{0.75};
        check([&](float* to) { d.map(mean, to, n, from); }, [&](float a, float b) { return mean(b, a); });
        const detail::decay_towards_square square{0.75};
        check([&](float* to) { d.map(square, to, n, from); }, [&](float a, float b) { return square(b, a); });
        const detail::adamw_update update{0.75, 0.125, 0.5, 1};
        check([&](float* to) { d.map(update, to, n, from, v.data() + ox); },
              [&](float a, float b) { return update(b, a, 0.25f); });

        // Rounded, alone and beside the floats; and with no step.
        std::vector<cuda::bfloat16> cast(oy + n + 5), stepped = cast, still = cast;
        std::vector<float> moved(n);
        d.cast(from, {cast.data() + oy, cuda::scalar_type::bfloat16}, n);
        d.step(from, 0.375, y.data() + oy, moved.data(), stepped.data() + oy, n);
        d.step(from, 0.375, nullptr, nullptr, still.data() + oy, n);
        std::size_t wrong = 0;
        for (std::size_t i = 0; i < cast.size(); ++i)
          wrong += (i < oy || i >= oy + n) && (cast[i].bits != 0 || stepped[i].bits != 0 || still[i].bits != 0);
        for (std::size_t i = 0; i < n; ++i) {
          const float expected = multiple(y[oy + i], x[ox + i]);
          const std::uint16_t bits = cuda::bfloat16(x[ox + i]).bits;
          wrong += cast[oy + i].bits != bits || still[oy + i].bits != bits || moved[i] != expected ||
                   stepped[oy + i].bits != cuda::bfloat16(expected).bits;
        }
        CHECK(wrong == 0);
      }
}

TEST_CASE("cuda kernels: sums of every length have the same bits wherever the vectors lie", "[cuda]") {
  cuda::host_device d;
  constexpr std::size_t most = 16;
  for (const std::size_t n : {0, 1, 3, 4, 15, 16, 17, 63, 64, 65, 127, 128, 129, 1023, 1024, 1025, 4095, 4097, 16385}) {
    CAPTURE(n);
    std::vector<std::vector<float>> x;
    for (std::uint64_t k = 0; k < most; ++k) x.push_back(random_floats(n, k));
    // Vector k moved by offset(k) floats, exactly as long as needed.
    const auto moved = [&](auto offset, auto use) {
      std::vector<std::vector<float>> copies;
      std::vector<const float*> places;
      for (std::size_t k = 0; k < most; ++k) {
        copies.emplace_back(offset(k) + n);
        std::copy(x[k].begin(), x[k].end(), copies[k].begin() + static_cast<std::ptrdiff_t>(offset(k)));
        places.push_back(copies[k].data() + offset(k));
      }
      use(places);
    };
    for (const std::size_t count : {1, 2, 3, 4, 5, 7, 8, 9, 12, 16}) {
      std::vector<double> gram(count * count), again(count * count);
      moved([](std::size_t) { return 0; },
            [&](const std::vector<const float*>& at) { d.gram(std::span(at).first(count), n, gram.data()); });
      std::size_t far = 0;
      for (std::size_t i = 0; i < count; ++i)
        for (std::size_t j = 0; j < count; ++j) {
          double sum = 0, size = 0;
          for (std::size_t c = 0; c < n; ++c) {
            const double product = static_cast<double>(x[i][c]) * static_cast<double>(x[j][c]);
            sum += product;
            size += std::abs(product);
          }
          // Two sums of n terms in double, in any two orders.
          far += !(std::abs(gram[i * count + j] - sum) <= 0x1p-52 * static_cast<double>(n) * size);
        }
      CHECK(far == 0);
      moved([](std::size_t k) { return k % 4; },
            [&](const std::vector<const float*>& at) { d.gram(std::span(at).first(count), n, again.data()); });
      CHECK(gram == again);
    }
    double sum = 0;
    cuda::step_report survived;
    moved([](std::size_t) { return 0; },
          [&](const std::vector<const float*>& at) {
            sum = d.dot(at[0], at[1], n);
            survived = d.step_survival(at[0], 1e-3, at[1], cuda::scalar_type::bfloat16, n);
          });
    for (const std::size_t offset : {1, 2, 3})
      moved([&](std::size_t k) { return k == 0 ? offset : 0; },
            [&](const std::vector<const float*>& at) {
              CHECK(d.dot(at[0], at[1], n) == sum);
              const cuda::step_report again = d.step_survival(at[0], 1e-3, at[1], cuda::scalar_type::bfloat16, n);
              CHECK(again.wanted == survived.wanted);
              CHECK(again.made == survived.made);
              CHECK(again.along == survived.along);
              CHECK(again.moved == survived.moved);
            });
  }
}

TEST_CASE("cuda kernels: the tree of a sum", "[cuda]") {
  // Written out: a span's threads take four coordinates in turn and are merged in halves, then the spans' sums
  // likewise.
  cuda::host_device d;
  const auto merged = [](std::vector<double> lanes) {
    for (std::size_t half = lanes.size() / 2; half > 0; half /= 2)
      for (std::size_t t = 0; t < half; ++t) lanes[t] += lanes[t + half];
    return lanes[0];
  };
  for (const std::size_t n : {1000, 16384, 40003}) {
    const std::vector<float> x = random_floats(n, 1), y = random_floats(n, 2);
    std::vector<double> spans(256);
    for (std::size_t from = 0; from < n; from += 16384) {
      std::vector<double> lanes(256);
      for (std::size_t c = from; c < std::min(n, from + 16384); ++c)
        lanes[(c - from) / 4 % 256] += static_cast<double>(x[c]) * static_cast<double>(y[c]);
      spans[from / 16384] = merged(lanes);
    }
    CHECK(d.dot(x.data(), y.data(), n) == merged(spans));
  }
}

TEST_CASE("cuda kernels: what is not finite in one vector stays out of the others' products", "[cuda]") {
  cuda::host_device d;
  const std::size_t n = 1000;
  for (const std::size_t count : {2, 3, 5, 9, 16})
    for (const float bad : {std::numeric_limits<float>::infinity(), std::numeric_limits<float>::quiet_NaN()}) {
      std::vector<std::vector<float>> x;
      std::vector<const float*> at;
      for (std::uint64_t k = 0; k < count; ++k) x.push_back(random_floats(n, k));
      const std::size_t spoiled = count / 2;
      x[spoiled][567] = bad;
      for (const std::vector<float>& v : x) at.push_back(v.data());
      std::vector<double> gram(count * count);
      d.gram(at, n, gram.data());
      std::size_t wrong = 0;
      for (std::size_t i = 0; i < count; ++i)
        for (std::size_t j = 0; j < count; ++j)
          wrong += std::isfinite(gram[i * count + j]) == (i == spoiled || j == spoiled);
      CHECK(wrong == 0);
    }
}

TEST_CASE("cuda kernels: distributions, draws and gradients over the vocabulary", "[cuda]") {
  cuda::host_device d;
  const float inf = std::numeric_limits<float>::infinity();
  for (const std::size_t vocab : {1, 2, 300, 5001}) {
    std::vector<float> logits = random_floats(3 * vocab, 7);
    for (std::size_t v = 0; v < vocab; ++v) {
      logits[v] *= 30;                                       // a peaked row
      if (vocab > 2 && v % 3) logits[2 * vocab + v] = -inf;  // a truncated row
    }
    const double inverse = 1 / 0.7;
    std::vector<cuda::row_distribution> p(3);
    d.distributions(logits.data(), 3, static_cast<int>(vocab), inverse, p.data());
    for (std::size_t row = 0; row < 3; ++row) {
      std::vector<double> probability(vocab);
      double top = -inf, sum = 0, entropy = 0;
      for (std::size_t v = 0; v < vocab; ++v)
        top = std::max(top, static_cast<double>(logits[row * vocab + v]) * inverse);
      for (std::size_t v = 0; v < vocab; ++v)
        sum += probability[v] = std::exp(static_cast<double>(logits[row * vocab + v]) * inverse - top);
      for (double& q : probability) {
        q /= sum;
        if (q > 0) entropy -= q * std::log(q);
      }
      CHECK(p[row].top == Approx(top).epsilon(1e-6));
      CHECK(std::log(p[row].sum) == Approx(std::log(sum)).margin(1e-5));
      CHECK(p[row].entropy == Approx(entropy).margin(1e-5));

      // Draws at the middle of tokens' intervals.
      double below = 0;
      for (std::size_t v = 0; v < vocab; ++v) {
        const double u = below + probability[v] / 2;
        below += probability[v];
        if (probability[v] < 1e-5) continue;
        std::int32_t next = -1;
        double log_prob = 0;
        d.draw(logits.data() + row * vocab, 1, static_cast<int>(vocab), inverse, &p[row], &u, &next, &log_prob);
        CHECK(next == static_cast<std::int32_t>(v));
        CHECK(log_prob == Approx(std::log(probability[v])).margin(2e-5));
      }
      for (const double u : {0x1p-54, 1 - 0x1p-54}) {
        std::int32_t next = -1;
        double log_prob = 0;
        d.draw(logits.data() + row * vocab, 1, static_cast<int>(vocab), inverse, &p[row], &u, &next, &log_prob);
        REQUIRE(next >= 0);
        REQUIRE(next < static_cast<std::int32_t>(vocab));
        CHECK(probability[static_cast<std::size_t>(next)] > 0);
      }

      std::vector<std::int32_t> begin{0, 2}, next{0, static_cast<std::int32_t>(vocab) - 1};
      if (vocab == 1) begin[1] = 1;
      const std::vector<double> c{0.5, -2};
      // What cannot come counts nothing.
      const double total = vocab == 1 || probability[vocab - 1] == 0 ? c[0] : c[0] + c[1];
      std::vector<float> gradient(vocab);
      d.edge_gradient(logits.data() + row * vocab, 1, static_cast<int>(vocab), inverse, &p[row], begin.data(),
                      next.data(), c.data(), {gradient.data(), cuda::scalar_type::float32});
      for (std::size_t v = 0; v < vocab; ++v) {
        double expected = -total * probability[v];
        if (v == 0) expected += c[0];
        if (vocab > 1 && v + 1 == vocab && probability[v] > 0) expected += c[1];
        CHECK(static_cast<double>(gradient[v]) == Approx(expected * inverse).margin(1e-5));
      }
      std::vector<cuda::bfloat16> rounded(vocab);  // once, where an edge leads too
      d.edge_gradient(logits.data() + row * vocab, 1, static_cast<int>(vocab), inverse, &p[row], begin.data(),
                      next.data(), c.data(), {rounded.data(), cuda::scalar_type::bfloat16});
      for (std::size_t v = 0; v < vocab; ++v) CHECK(rounded[v].bits == cuda::bfloat16(gradient[v]).bits);
    }
  }
}

TEST_CASE("cuda kernels: no draw is a token that cannot come, whichever way sums are rounded", "[cuda]") {
  cuda::host_device d;
  const std::size_t vocab = 300;
  for (std::uint64_t seed = 0; seed < 32; ++seed) {
    std::vector<float> logits = random_floats(vocab, seed);
    std::fill(logits.end() - 9, logits.end(), -std::numeric_limits<float>::infinity());
    const double u = 1 - 0x1p-53;
    cuda::row_distribution p;
    std::int32_t next = -1;
    double log_prob = 0;
    d.draw(logits.data(), 1, static_cast<int>(vocab), 1.0, &p, &u, &next, &log_prob);
    CHECK(next == static_cast<std::int32_t>(vocab) - 10);
    CHECK(std::isfinite(log_prob));
  }
}

TEST_CASE("cuda kernels: truncation keeps ties together and never everything out", "[cuda]") {
  cuda::host_device d;
  const float inf = std::numeric_limits<float>::infinity();
  const auto cut = [&](std::vector<float> logits, int k, double top_p) {
    d.truncate(logits.data(), 1, static_cast<int>(logits.size()), 1.0, k, top_p);
    std::string kept;
    for (const float l : logits) kept += l == -inf ? '.' : 'x';
    return kept;
  };
  const std::vector<float> logits{1, 3, 2, -1, 2, -5};
  CHECK(cut(logits, 0, 1.0) == "xxxxxx");
  CHECK(cut(logits, 1, 1.0) == ".x....");
  CHECK(cut(logits, 2, 1.0) == ".xx.x.");
  CHECK(cut(logits, 3, 1.0) == ".xx.x.");
  CHECK(cut(logits, 4, 1.0) == "xxx.x.");
  CHECK(cut(logits, 100, 1.0) == "xxxxxx");
  CHECK(cut(logits, 0, 1e-9) == ".x....");
  CHECK(cut(logits, 0, 0.54) == ".xx.x.");  // e^3 is 0.529 of the sum
  CHECK(cut(logits, 0, 0.52) == ".x....");
  CHECK(cut(logits, 2, 0.51) == ".x....");
  const float nan = std::numeric_limits<float>::quiet_NaN();
  CHECK(cut({1, -inf, -inf}, 2, 1.0) == "x..");  // there are fewer than two
  CHECK(cut({-inf, -inf}, 0, 0.5) == "..");
  CHECK(cut({nan, 1, 2}, 0, 0.5) == "x.x");  // NaN is told by the distribution that follows
  CHECK(cut({0.f, -0.f, -1e-30f}, 1, 1.0) == "x..");
}

TEST_CASE("cuda kernels: truncation of long rows is what its definition says", "[cuda]") {
  cuda::host_device d;
  const float inf = std::numeric_limits<float>::infinity();
  for (const std::size_t vocab : {300, 4999, 300'000}) {
    std::vector<float> same(vocab, 3.f);  // the largest sums
    d.truncate(same.data(), 1, static_cast<int>(vocab), 1.0, 7, 0.01);
    CHECK(std::count(same.begin(), same.end(), 3.f) == static_cast<std::ptrdiff_t>(vocab));
    std::vector<float> logits = random_floats(vocab, 21);
    for (std::size_t v = 0; v < vocab; ++v) logits[v] = std::round(logits[v] * 4000) / 500;  // with ties
    std::vector<float> sorted = logits;
    std::sort(sorted.begin(), sorted.end(), std::greater<>());
    for (const double inverse : {1.0, 1 / 0.6}) {
      for (const int k : {1, 2, 7, 50, 299}) {
        std::vector<float> row = logits;
        d.truncate(row.data(), 1, static_cast<int>(vocab), inverse, k, 1.0);
        std::size_t wrong = 0;
        for (std::size_t v = 0; v < vocab; ++v)
          wrong += row[v] != (logits[v] >= sorted[static_cast<std::size_t>(k) - 1] ? logits[v] : -inf);
        CHECK(wrong == 0);
      }
      double all = 0;
      for (const float l : sorted) all += std::exp((static_cast<double>(l) - static_cast<double>(sorted[0])) * inverse);
      for (const double top_p : {1e-6, 0.1, 0.5, 0.9, 0.99, 0.9999}) {
        double sum = 0;
        std::size_t k = 0;
        while (sum < top_p * all)
          sum += std::exp((static_cast<double>(sorted[k++]) - static_cast<double>(sorted[0])) * inverse);
        std::vector<float> row = logits;
        d.truncate(row.data(), 1, static_cast<int>(vocab), inverse, 0, top_p);
        std::size_t wrong = 0;
        for (std::size_t v = 0; v < vocab; ++v) wrong += row[v] != (logits[v] >= sorted[k - 1] ? logits[v] : -inf);
        CHECK(wrong == 0);
      }
    }
  }
}
