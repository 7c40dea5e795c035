/// The kernels over rows on the GPU's host double, several numbers at a time and one by one, against plain double
/// loops.

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <string>
#include <type_traits>
#include <vector>

#include <rlvr/backend/cuda/host_device.cuh>
#include <rlvr/core/random.hpp>

#include "catch.hpp"

namespace {

using namespace rlvr;
using cuda::bfloat16;

template <class S>
constexpr cuda::scalar_type type_of =
    std::is_same_v<S, float> ? cuda::scalar_type::float32 : cuda::scalar_type::bfloat16;
template <class S>
constexpr double rounding = std::is_same_v<S, float> ? 3e-6 : 6e-3;

/// Numbers on the device from `skip` on, and the same in double. What is not given is NaN.
template <class S>
struct array {
  std::size_t skip, size;
  std::vector<S> memory;

  array(std::size_t n, std::size_t offset) : skip(offset), size(n), memory(n + offset + 8, not_a_number()) {}
  array(std::size_t n, std::size_t offset, std::uint64_t seed, double centre = 0) : array(n, offset) {
    for (std::size_t i = 0; i < n; ++i)
      memory[skip + i] = static_cast<S>(static_cast<float>(centre + 2 * random_key(seed).uniform(i) - 1));
  }
  static S not_a_number() { return static_cast<S>(std::numeric_limits<float>::quiet_NaN()); }
  S* data() { return memory.data() + skip; }
  cuda::operand operand() { return {data(), type_of<S>}; }
  double operator[](std::size_t i) const { return static_cast<double>(static_cast<float>(memory[skip + i])); }
  std::vector<double> copy() const {
    std::vector<double> out;
    for (std::size_t i = 0; i < size; ++i) out.push_back((*this)[i]);
    return out;
  }
};

template <class S>
void near(const array<S>& got, const std::vector<double>& expected) {
  REQUIRE(got.size == expected.size());
  double worst = 0, size = 0;
  for (std::size_t i = 0; i < got.size; ++i) {
    const double off = std::fabs(got[i] - expected[i]);
    worst = off <= worst ? worst : off;  // NaN is far
    size = std::max(size, std::fabs(expected[i]));
  }
  CHECK(worst <= rounding<S> * size);
  for (std::size_t i = got.skip + got.size; i < got.memory.size(); ++i)
    REQUIRE(std::isnan(static_cast<float>(got.memory[i])));
}

double sigmoid(double x) {
  return 1 / (1 + std::exp(-x));
}

template <class S>
void check_gate(std::int32_t rows, std::int32_t width, std::size_t skip) {
  INFO("rows " << rows << ", width " << width << ", from " << skip);
  cuda::host_device d;
  const auto n = static_cast<std::size_t>(rows) * static_cast<std::size_t>(width), w = static_cast<std::size_t>(width);
  array<S> gate_up(2 * n, skip, 1), dout(n, skip, 2), out(n, skip), dgate_up(2 * n, skip);
  d.swiglu(gate_up.operand(), rows, width, out.operand());
  d.swiglu_backward(dout.operand(), gate_up.operand(), rows, width, dgate_up.operand());
  std::vector<double> y(n), dg(2 * n);
  for (std::size_t i = 0; i < n; ++i) {
    const std::size_t at = i / w * 2 * w + i % w;
    const double g = gate_up[at], u = gate_up[at + w], s = sigmoid(g);
    y[i] = g * s * u;
    dg[at] = dout[i] * u * s * (1 + g * (1 - s));
    dg[at + w] = dout[i] * g * s;
  }
  near(out, y);
  near(dgate_up, dg);
}

template <class X, class Y>
void check_norm(cuda::row_shape s, std::int64_t stride, std::size_t skip, bool with_addend) {
  INFO("rows " << s.rows << ", groups " << s.groups << " of " << s.width << ", stride " << stride << ", from " << skip);
  cuda::host_device d;
  const auto n = static_cast<std::size_t>(s.rows * stride), vectors = static_cast<std::size_t>(s.rows * s.groups);
  const auto width = static_cast<std::size_t>(s.width);
  array<X> x(n, skip, 3), dy(n, skip, 4);
  const std::int64_t out_stride = stride + 8;
  const auto out_n = static_cast<std::size_t>(s.rows * out_stride);
  array<float> w(width, skip, 5, 1), addend(out_n, skip, 6), r(vectors, 0), dw(width, skip, 7);
  array<Y> y(out_n, skip, 8), dx(out_n, skip, 9);
  array<bfloat16> rounded(out_n, skip, 9);  // as dx, where there are no vectors
  std::vector<double> normed = y.copy(), gradient = dy.copy(), added = dx.copy(), of_weights = dw.copy(), roots;
  for (std::size_t v = 0; v < vectors; ++v) {
    const std::size_t row = v / static_cast<std::size_t>(s.groups),
                      in_row = v % static_cast<std::size_t>(s.groups) * width,
                      at = row * static_cast<std::size_t>(stride) + in_row,
                      to = row * static_cast<std::size_t>(out_stride) + in_row;
    double squares = 0, along = 0;
    for (std::size_t i = 0; i < width; ++i) {
      squares += x[at + i] * x[at + i];
      along += dy[at + i] * w[i] * x[at + i];
    }
    const double root = 1 / std::sqrt(squares / static_cast<double>(width) + 0.25);
    roots.push_back(root);
    for (std::size_t i = 0; i < width; ++i) {
      normed[to + i] = w[i] * x[at + i] * root + (with_addend ? addend[to + i] : 0);
      gradient[at + i] = root * w[i] * dy[at + i] - root * root * root * along / static_cast<double>(width) * x[at + i];
      added[to + i] += gradient[at + i];
      of_weights[i] += dy[at + i] * x[at + i] * root;
    }
  }
  const auto row = [stride](auto& of) { return cuda::row_operand{of.operand(), stride}; };
  const auto out = [out_stride](auto& of) { return cuda::row_operand{of.operand(), out_stride}; };
  d.rms_norm(s, row(x), w.data(), 0.25, out(y), r.data(), with_addend ? addend.data() : nullptr);
  near(y, normed);
  near(r, roots);
  d.rms_norm_backward(s, row(dy), row(x), w.data(), r.data(), out(dx), dw.data(), cuda::result_mode::add,
                      rounded.operand());
  near(dx, added);
  near(rounded, added);
  near(dw, of_weights);
  d.rms_norm_backward(s, row(dy), row(x), w.data(), r.data(), row(dy), dw.data(), cuda::result_mode::assign, {});
  near(dy, gradient);
}

/// What heads go through, and its gradient.
template <class S>
void check_heads(cuda::attention_shape s, std::int32_t rows, std::size_t skip, bool with_norms, bool with_bias) {
  INFO("heads " << s.heads << "/" << s.kv_heads << " of " << s.head_dim << ", rows " << rows << ", from " << skip
                << (with_norms ? ", norms" : "") << (with_bias ? ", bias" : ""));
  cuda::host_device d;
  const auto dim = static_cast<std::size_t>(s.head_dim), half = dim / 2, count = static_cast<std::size_t>(rows);
  const auto turned = static_cast<std::size_t>(s.heads + s.kv_heads), kv = static_cast<std::size_t>(s.kv_heads) * dim;
  const std::size_t q_width = static_cast<std::size_t>(s.heads) * dim, width = q_width + 2 * kv;
  array<S> raw(count * width, skip, 11), qkv(count * width, skip), cache((count + 3) * 2 * kv, skip, 12),
      dqkv(count * width, skip, 13);
  array<float> bias(width, skip, 14), q_norm(dim, skip, 15, 1), k_norm(dim, skip, 16, 1), scale(count * turned, 0),
      angles(100 * half, skip, 17), dq_norm(dim, skip, 18), dk_norm(dim, skip, 19);
  array<float> cosines(angles.size, skip), sines(angles.size, skip);
  for (std::size_t i = 0; i < angles.size; ++i) {
    cosines.data()[i] = static_cast<float>(std::cos(3 * angles[i]));
    sines.data()[i] = static_cast<float>(std::sin(3 * angles[i]));
  }
  std::vector<std::int32_t> positions, places;
  for (std::int32_t r = 0; r < rows; ++r) {
    positions.push_back(r * 37 % 100);
    places.push_back(r + 2);
  }
  std::vector<double> prepared(count * width), roots, cached = cache.copy(), gradient = dqkv.copy(),
                                                      of_q = dq_norm.copy(), of_k = dk_norm.copy();
  for (std::size_t r = 0; r < count; ++r)
    for (std::size_t head = 0; head < turned + static_cast<std::size_t>(s.kv_heads); ++head) {
      const std::size_t at = r * width + head * dim, in_row = head * dim;
      const bool query = in_row < q_width, turns = head < turned;
      const auto value = [&](std::size_t i) { return raw[at + i] + (with_bias ? bias[in_row + i] : 0); };
      const auto weight = [&](std::size_t i) { return query ? q_norm[i] : k_norm[i]; };
      double squares = 0;
      for (std::size_t i = 0; i < dim; ++i) squares += value(i) * value(i);
      const double root = with_norms && turns ? 1 / std::sqrt(squares / static_cast<double>(dim) + 0.5) : 1;
      if (turns) roots.push_back(root);
      std::vector<double> x(dim), dx(dim);
      for (std::size_t i = 0; i < dim; ++i) x[i] = value(i) * root * (with_norms && turns ? weight(i) : 1);
      for (std::size_t i = 0; i < half; ++i) {
        const std::size_t angle = static_cast<std::size_t>(positions[r]) * half + i;
        const double c = turns ? cosines[angle] : 1, sine = turns ? sines[angle] : 0;
        prepared[at + i] = x[i] * c - x[i + half] * sine;
        prepared[at + i + half] = x[i + half] * c + x[i] * sine;
        dx[i] = dqkv[at + i] * c + dqkv[at + i + half] * sine;
        dx[i + half] = dqkv[at + i + half] * c - dqkv[at + i] * sine;
      }
      if (!query)
        for (std::size_t i = 0; i < dim; ++i)
          cached[static_cast<std::size_t>(places[r]) * 2 * kv + in_row - q_width + i] = prepared[at + i];
      double along = 0;
      for (std::size_t i = 0; i < dim; ++i) along += dx[i] * weight(i) * raw[at + i];
      for (std::size_t i = 0; i < dim; ++i) {
        gradient[at + i] = dx[i];
        if (!with_norms || !turns) continue;
        gradient[at + i] =
            root * weight(i) * dx[i] - root * root * root * along / static_cast<double>(dim) * raw[at + i];
        (query ? of_q : of_k)[i] += dx[i] * raw[at + i] * root;
      }
    }
  cuda::head_preparation how{.positions = positions.data(), .cosines = cosines.data(), .sines = sines.data()};
  if (with_bias) how.bias = bias.data();
  if (with_norms) {
    how.q_norm = q_norm.data();
    how.k_norm = k_norm.data();
    how.eps = 0.5;
    how.scale = scale.data();
  }
  cuda::head_preparation with_cache = how;
  with_cache.cache = cache.operand();
  with_cache.cache_rows = places.data();
  d.prepare_heads(s, rows, raw.operand(), qkv.operand(), with_cache);
  near(qkv, prepared);
  near(cache, cached);
  if (with_norms) near(scale, roots);
  if (with_bias) return;  // is no part of what is kept where there are norms
  d.prepare_heads(s, rows, raw.operand(), qkv.operand(), how);
  near(qkv, prepared);
  d.prepare_heads_backward(s, rows, dqkv.operand(), raw.operand(), how, dq_norm.data(), dk_norm.data());
  near(dqkv, gradient);
  if (with_norms) {
    near(dq_norm, of_q);
    near(dk_norm, of_k);
  }
}

}  // namespace

TEST_CASE("cuda rows: embedding", "[cuda]") {
  cuda::host_device d;
  const std::vector<std::int32_t> tokens{4, 0, 4, 2};
  for (const std::size_t skip : {std::size_t{0}, std::size_t{1}})
    for (const std::int32_t width : {3, 8, 1028}) {
      const auto w = static_cast<std::size_t>(width);
      array<bfloat16> table(5 * w, skip, 20);
      array<float> x(4 * w, skip);
      d.embed(table.operand(), tokens.data(), 4, width, x.data());
      std::vector<double> expected;
      for (const std::int32_t t : tokens)
        for (std::size_t i = 0; i < w; ++i) expected.push_back(table[static_cast<std::size_t>(t) * w + i]);
      near(x, expected);
    }
}

TEST_CASE("cuda rows: SwiGLU and its gradient", "[cuda]") {
  for (const std::size_t skip : {std::size_t{0}, std::size_t{1}, std::size_t{4}})
    for (const std::int32_t width : {1, 7, 8, 12, 64, 3072}) {
      check_gate<float>(3, width, skip);
      check_gate<bfloat16>(3, width, skip);
    }
}

TEST_CASE("cuda rows: RMSNorm and its gradient", "[cuda]") {
  for (const std::size_t skip : {std::size_t{0}, std::size_t{1}})
    for (const std::int32_t width : {1, 6, 8, 12, 1024, 2100})
      for (const std::int32_t groups : {1, 3}) {
        const std::int64_t stride = width * groups;
        check_norm<float, float>({37, groups, width}, stride, skip, true);
        check_norm<float, bfloat16>({3, groups, width}, stride + 8, skip, false);
        check_norm<bfloat16, bfloat16>({17, groups, width}, stride + 3, skip, false);
      }
  check_norm<float, float>({1100, 1, 24}, 24, 0, false);  // several spans of rows
}

TEST_CASE("cuda rows: heads before attention, and their gradient", "[cuda]") {
  for (const std::size_t skip : {std::size_t{0}, std::size_t{1}})
    for (const std::int32_t head_dim : {2, 6, 8, 16, 24, 128})
      for (const bool norms : {false, true}) {
        check_heads<float>({4, 2, head_dim, 0}, 35, skip, norms, false);
        check_heads<bfloat16>({4, 2, head_dim, 0}, 35, skip, norms, false);
        check_heads<float>({3, 1, head_dim, 0}, 2, skip, norms, true);
        check_heads<bfloat16>({16, 8, head_dim, 0}, 2, skip, norms, true);
      }
}
