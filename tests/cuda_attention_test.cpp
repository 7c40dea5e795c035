/// The attention kernels of packed rows against plain double loops. Compiled twice: for the GPU's host double, lane by
/// lane, and with RLVR_TEST_ON_GPU for a GPU.

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <memory>
#include <string>
#include <vector>

#include <rlvr/backend/cuda/device.hpp>
#include <rlvr/backend/cuda/space.hpp>
#include <rlvr/core/random.hpp>

#include "catch.hpp"
#include "cuda/test_device.hpp"

namespace {

using namespace rlvr;
using cuda::bfloat16;

/// Numbers there.
template <class T>
class array {
 public:
  array(std::shared_ptr<cuda::device> where, const std::vector<T>& values)
      : device_(where), memory_(where, values.size() * sizeof(T)), size_(values.size()) {
    device_->upload(memory_.data(), values.data(), memory_.bytes());
  }
  T* data() const { return static_cast<T*>(memory_.data()); }
  cuda::operand operand() const { return {memory_.data(), cuda::scalar_type::bfloat16}; }
  std::vector<T> values() const {
    std::vector<T> out(size_);
    device_->download(out.data(), memory_.data(), memory_.bytes());
    return out;
  }

 private:
  std::shared_ptr<cuda::device> device_;
  cuda::buffer memory_;
  std::size_t size_;
};

std::vector<bfloat16> random_numbers(std::size_t n, std::uint64_t seed, double size) {
  std::vector<bfloat16> out(n);
  for (std::size_t i = 0; i < n; ++i)
    out[i] = bfloat16(static_cast<float>(size * (2 * random_key(seed).uniform(i) - 1)));
  return out;
}
double number(const bfloat16& x) {
  return static_cast<double>(static_cast<float>(x));
}

/// A sequence of rows, `length` long, behind `prefix` rows that begin at row `prefix_row`.
struct sequence {
  std::int32_t prefix_row, prefix, length;
};

/// Sequences packed as decoder's: q, keys and values side by side.
struct packed {
  cuda::attention_shape shape;
  std::int32_t rows = 0;
  std::vector<std::int32_t> positions, begins;  ///< per row; first row per sequence
  std::vector<sequence> sequences;
  std::vector<cuda::attention_task> forward, backward;
  std::vector<cuda::key_task> keys;
  std::vector<bfloat16> qkv, dout;

  packed(cuda::attention_shape s, std::vector<sequence> all, cuda::attention_tiles tiles)
      : shape(s), sequences(std::move(all)) {
    for (std::size_t i = 0; i < sequences.size(); ++i) {
      const sequence& q = sequences[i];
      begins.push_back(rows);
      for (std::int32_t p = 0; p < q.length; ++p) positions.push_back(q.prefix + p);
      for (std::int32_t p = 0; p < q.length; p += tiles.forward)
        forward.push_back({rows + p, std::min(tiles.forward, q.length - p), q.prefix_row, q.prefix, rows, p});
      std::int32_t end = rows + q.length;
      for (std::size_t j = i + 1; j < sequences.size() && q.prefix == 0; ++j)
        if (sequences[j].prefix > 0 && sequences[j].prefix_row == begins[i]) end = rows_until(j);
      for (std::int32_t p = 0; p < q.length; p += tiles.backward) {
        const std::int32_t count = std::min(tiles.backward, q.length - p);
        backward.push_back({rows + p, count, q.prefix_row, q.prefix, rows, p});
        keys.push_back({rows + p, count, end});
      }
      rows += q.length;
    }
    qkv = random_numbers(static_cast<std::size_t>(rows * width()), 1, 1.5);
    dout = random_numbers(static_cast<std::size_t>(rows * q_width()), 2, 1);
  }
  std::int32_t q_width() const { return shape.heads * shape.head_dim; }
  std::int32_t kv_width() const { return shape.kv_heads * shape.head_dim; }
  std::int32_t width() const { return q_width() + 2 * kv_width(); }
  std::int32_t rows_until(std::size_t last) const {
    std::int32_t out = 0;
    for (std::size_t i = 0; i <= last; ++i) out += sequences[i].length;
    return out;
  }
  double at(std::int32_t row, std::int32_t column) const {
    return number(qkv[static_cast<std::size_t>(row * width() + column)]);
  }
  /// The rows that a query sees.
  std::vector<std::int32_t> seen(std::size_t s, std::int32_t i) const {
    std::vector<std::int32_t> out;
    const sequence& q = sequences[s];
    for (std::int32_t p = 0; p <= q.prefix + i; ++p)
      if (shape.window == 0 || q.prefix + i - p < shape.window)
        out.push_back(p < q.prefix ? q.prefix_row + p : begins[s] + p - q.prefix);
    return out;
  }
};

struct numbers {
  std::vector<double> out, log_sum, dqkv;
};
numbers exact(const packed& x) {
  const auto n = static_cast<std::size_t>(x.rows);
  numbers y{std::vector<double>(n * static_cast<std::size_t>(x.q_width())),
            std::vector<double>(n * static_cast<std::size_t>(x.shape.heads)),
            std::vector<double>(n * static_cast<std::size_t>(x.width()))};
  const std::int32_t dim = x.shape.head_dim;
  const double scale = 1 / std::sqrt(dim);
  for (std::size_t s = 0; s < x.sequences.size(); ++s)
    for (std::int32_t i = 0; i < x.sequences[s].length; ++i)
      for (std::int32_t head = 0; head < x.shape.heads; ++head) {
        const std::int32_t row = x.begins[s] + i, key_head = head / (x.shape.heads / x.shape.kv_heads);
        const std::int32_t q = head * dim, k = x.q_width() + key_head * dim, v = k + x.kv_width();
        const std::vector<std::int32_t> seen = x.seen(s, i);
        std::vector<double> p(seen.size()), pull(seen.size());
        double top = -1e300, sum = 0, delta = 0;
        for (std::size_t j = 0; j < seen.size(); ++j) {
          for (std::int32_t d = 0; d < dim; ++d) p[j] += scale * x.at(row, q + d) * x.at(seen[j], k + d);
          top = std::max(top, p[j]);
        }
        for (double& w : p) sum += w = std::exp(w - top);
        y.log_sum[static_cast<std::size_t>(row * x.shape.heads + head)] = top + std::log(sum);
        for (std::size_t j = 0; j < seen.size(); ++j) {
          p[j] /= sum;
          for (std::int32_t d = 0; d < dim; ++d) {
            const auto o = static_cast<std::size_t>(row * x.q_width() + q + d);
            const double value = x.at(seen[j], v + d), dout = number(x.dout[o]);
            y.out[o] += p[j] * value;
            pull[j] += dout * value;
            y.dqkv[static_cast<std::size_t>(seen[j] * x.width() + v + d)] += p[j] * dout;
          }
          delta += p[j] * pull[j];
        }
        for (std::size_t j = 0; j < seen.size(); ++j)
          for (std::int32_t d = 0; d < dim; ++d) {
            const double ds = scale * p[j] * (pull[j] - delta);
            y.dqkv[static_cast<std::size_t>(row * x.width() + q + d)] += ds * x.at(seen[j], k + d);
            y.dqkv[static_cast<std::size_t>(seen[j] * x.width() + k + d)] += ds * x.at(row, q + d);
          }
      }
  return y;
}

/// |got - expected| / |expected| of columns [from, to) of every row of `width`, where |expected| is not below `least` a
/// number.
double error(const std::vector<bfloat16>& got, const std::vector<double>& expected, std::int32_t width,
             std::int32_t from, std::int32_t to, double least) {
  double off = 0, size = 0, floor = 0;
  for (std::size_t i = 0; i < got.size(); ++i) {
    const auto column = static_cast<std::int32_t>(i % static_cast<std::size_t>(width));
    if (column < from || column >= to) continue;
    off += (number(got[i]) - expected[i]) * (number(got[i]) - expected[i]);
    size += expected[i] * expected[i];
    floor += least * least;
  }
  return std::sqrt(off / std::max(size, floor));
}

void check(cuda::attention_shape shape, const std::vector<sequence>& sequences) {
  constexpr auto type = cuda::scalar_type::bfloat16;
  const std::shared_ptr<cuda::device> d = make_device();
  const packed x(shape, sequences, d->tiles(type, shape.head_dim));
  std::string text;
  for (const sequence& s : sequences) text += std::to_string(s.prefix) + "+" + std::to_string(s.length) + " ";
  INFO("heads " << shape.heads << "/" << shape.kv_heads << " of " << shape.head_dim << ", window " << shape.window
                << ", lengths " << text);
  const float nan = std::numeric_limits<float>::quiet_NaN();
  const std::vector<bfloat16> nans(x.qkv.size(), bfloat16(nan));
  const std::vector<float> per_head(static_cast<std::size_t>(x.rows * shape.heads), nan);
  const array<bfloat16> qkv(d, x.qkv), dout(d, x.dout), out(d, {nans.begin(), nans.begin() + std::ssize(x.dout)}),
      dqkv(d, nans);
  const array<float> log_sum(d, per_head), delta(d, per_head);
  const array<std::int32_t> positions(d, x.positions);
  const array<cuda::attention_task> forward(d, x.forward), backward(d, x.backward);
  const array<cuda::key_task> keys(d, x.keys);
  const cuda::key_value_rows kv{qkv.operand().offset(static_cast<std::size_t>(x.q_width())),
                                qkv.operand().offset(static_cast<std::size_t>(x.q_width() + x.kv_width())), x.width()};
  d->attention(shape, forward.data(), static_cast<std::int32_t>(x.forward.size()), qkv.operand(), x.width(), kv, kv,
               out.operand(), x.q_width(), log_sum.data(), false);
  const numbers expected = exact(x);
  // A weight and a result are rounded to 2^-9, about 0.6 of that in the mean of squares.
  CHECK(error(out.values(), expected.out, x.q_width(), 0, x.q_width(), 0) < 3e-3);
  const std::vector<float> sums = log_sum.values();
  for (std::size_t i = 0; i < sums.size(); ++i)
    REQUIRE(static_cast<double>(sums[i]) == Approx(expected.log_sum[i]).margin(2e-5));

  d->attention_backward(shape, x.rows, backward.data(), static_cast<std::int32_t>(x.backward.size()), keys.data(),
                        static_cast<std::int32_t>(x.keys.size()), positions.data(), qkv.operand(), out.operand(),
                        dout.operand(), log_sum.data(), delta.data(), dqkv.operand());
  const std::int32_t q = x.q_width(), k = q + x.kv_width();
  const std::vector<bfloat16> gradient = dqkv.values();
  // dq and dk of a query that sees only itself are zero, and made of numbers near 1 rounded to 2^-9.
  CHECK(error(gradient, expected.dqkv, x.width(), 0, q, 0.1) < 8e-3);
  CHECK(error(gradient, expected.dqkv, x.width(), q, k, 0.1) < 8e-3);
  CHECK(error(gradient, expected.dqkv, x.width(), k, x.width(), 0) < 5e-3);
  for (const bfloat16& g : gradient) REQUIRE(std::isfinite(number(g)));
}

}  // namespace

#ifndef RLVR_TEST_ON_GPU
namespace warp = cuda::warp;

TEST_CASE("cuda attention: fragments are those of the PTX manual", "[cuda]") {
  // Which number of a matrix the registers of a lane hold, as the manual's formulas for .bf16 have it.
  alignas(16) bfloat16 memory[16 * 24];
  for (int i = 0; i < 16 * 24; ++i) memory[i].bits = static_cast<std::uint16_t>(i);
  const auto held = [](const auto& m, int lane, int i) { return (m(lane, i / 2) >> (16 * (i % 2))) & 0xffffu; };
  warp::matrix_a a;
  warp::matrix_b b, of_columns;
  warp::load_a(a, memory, 24);
  warp::load_b(b, memory, 24);
  warp::load_b_of_columns(of_columns, memory, 24);
  for (int lane = 0; lane < 32; ++lane) {
    const int group = lane >> 2, in_group = lane % 4;
    for (int i = 0; i < 8; ++i) {
      const int row = (i < 2) || (i >= 4 && i < 6) ? group : group + 8;
      const int column = in_group * 2 + (i & 1) + (i >= 4 ? 8 : 0);
      CHECK(held(a, lane, i) == static_cast<unsigned>(row * 24 + column));
    }
    for (int half = 0; half < 2; ++half)
      for (int i = 0; i < 4; ++i) {
        const int row = in_group * 2 + (i & 1) + (i >= 2 ? 8 : 0), column = group + 8 * half;
        CHECK(held(b, lane, 4 * half + i) == static_cast<unsigned>(row * 24 + column));
        CHECK(held(of_columns, lane, 4 * half + i) == static_cast<unsigned>(column * 24 + row));
      }
  }
}

TEST_CASE("cuda attention: a product of fragments is a product of matrices", "[cuda]") {
  const std::vector<bfloat16> left = random_numbers(256, 3, 1), right = random_numbers(256, 4, 1);
  warp::matrix_a a;
  warp::matrix_b b;
  warp::load_a(a, left.data(), 16);
  warp::load_b(b, right.data(), 16);
  warp::accumulator c[1][2];
  warp::clear(c);
  warp::multiply(c[0], a, b);
  warp::multiply(c[0], a, b);
  const warp::matrix_a again = warp::rounded(c[0]);
  for (int i = 0; i < 16; ++i)
    for (int j = 0; j < 16; ++j) {
      double expected = 0;
      for (int k = 0; k < 16; ++k)
        expected += 2 * number(left[static_cast<std::size_t>(i * 16 + k)]) *
                    number(right[static_cast<std::size_t>(k * 16 + j)]);
      const int lane = i % 8 * 4 + j % 8 / 2;
      CHECK(static_cast<double>(c[0][j / 8](lane, i / 8 * 2 + j % 2)) == Approx(expected).margin(1e-5));
      CHECK(static_cast<double>(warp::unpack(again(lane, i / 8 + j / 8 * 2), j % 2)) ==
            Approx(expected).epsilon(0.004).margin(1e-5));
    }
}
#endif

TEST_CASE("cuda attention: heads of every width, groups of every size", "[cuda]") {
  for (const std::int32_t head_dim : {8, 16, 64, 80, 96, 128}) check({2, 1, head_dim, 0}, {{0, 0, 75}});
  for (const std::int32_t heads : {1, 2, 4, 8}) check({heads, 1, 16, 0}, {{0, 0, 67}});
  check({6, 3, 24, 0}, {{0, 0, 33}, {0, 0, 40}});
}

TEST_CASE("cuda attention: lengths on both sides of every tile", "[cuda]") {
  for (const std::int32_t length : {1, 2, 16, 31, 32, 33, 63, 64, 65, 127, 128, 129, 200})
    check({2, 1, 16, 0}, {{0, 0, length}});
  check({2, 2, 16, 0}, {{0, 0, 1}, {0, 0, 70}, {0, 0, 1}, {0, 0, 130}, {0, 0, 5}});
}

TEST_CASE("cuda attention: windows", "[cuda]") {
  for (const std::int32_t window : {1, 7, 20, 32, 33, 34, 64, 95, 1000}) {
    check({2, 1, 16, window}, {{0, 0, 200}});
    check({2, 1, 16, window}, {{0, 0, 50}, {0, 50, 30}, {0, 50, 90}, {0, 0, 9}});
  }
}

TEST_CASE("cuda attention: sequences that share a prefix", "[cuda]") {
  check({4, 2, 16, 0}, {{0, 0, 40}, {0, 40, 1}, {0, 40, 33}, {0, 40, 100}, {174, 0, 7}, {174, 7, 3}});
  check({2, 1, 64, 0}, {{0, 0, 130}, {0, 130, 20}, {0, 130, 64}});
  check({2, 1, 16, 0}, {{0, 0, 1}, {0, 1, 1}, {0, 1, 70}});
}

TEST_CASE("cuda attention: heads of 128 over several tiles", "[cuda]") {
  for (const std::int32_t length : {64, 65, 96, 97, 150}) check({2, 1, 128, 0}, {{0, 0, length}});
  check({4, 2, 128, 0}, {{0, 0, 70}, {0, 70, 100}, {0, 70, 33}, {0, 0, 31}});
  check({2, 2, 128, 40}, {{0, 0, 150}, {0, 0, 33}, {150, 33, 70}});
}

TEST_CASE("cuda attention: heads that tensor cores do not take", "[cuda]") {
  check({2, 1, 6, 0}, {{0, 0, 70}});
  check({2, 1, 136, 9}, {{0, 0, 40}, {0, 40, 10}});
}
