#pragma once
/// Kernels over rows of logits: nothing but the logits and their gradient is ever as wide as the vocabulary. One block
/// per row. Sums over the vocabulary are in double.

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>

#include <rlvr/backend/cuda/block.cuh>
#include <rlvr/backend/cuda/device.hpp>
#include <rlvr/backend/cuda/vector_kernels.cuh>

namespace rlvr::cuda::kernels {

inline constexpr float minus_infinity = -__builtin_huge_valf();

/// The weight of a token whose scaled logit lies so far below the top; 0 for -infinity.
RLVR_CUDA_KERNEL inline float weight_of(float below_top) {
  return std::exp(below_top);
}

/// Top, sum and energy = sum exp(l - top) (l - top), kept up while the top rises.
struct online_softmax {
  double sum, energy;
  float top;
  RLVR_CUDA_KERNEL void add(float l) {
    if (l <= top) {
      if (l == minus_infinity) return;
      const float w = weight_of(l - top);
      sum += static_cast<double>(w);
      energy += static_cast<double>(w) * static_cast<double>(l - top);
    } else if (l > top) {
      raise(l);
      sum += 1;
    } else {  // NaN
      sum += static_cast<double>(l);
      energy += static_cast<double>(l);
    }
  }
  RLVR_CUDA_KERNEL void raise(float to) {
    if (top != minus_infinity) {
      const double shift = static_cast<double>(top) - static_cast<double>(to), w = std::exp(shift);
      energy = w * (energy + sum * shift);
      sum *= w;
    }
    top = to;
  }
  RLVR_CUDA_KERNEL static online_softmax merge(online_softmax p, online_softmax q) {
    if (q.top > p.top)
      p.raise(q.top);
    else if (p.top > q.top)
      q.raise(p.top);
    p.sum += q.sum;
    p.energy += q.energy;
    return p;
  }
};

struct softmax_rows : on_host {
  const float* logits;
  std::int64_t vocab;
  float inverse_temperature;
  row_distribution* out;
  template <class Block>
  RLVR_CUDA_KERNEL void operator()(Block& b) const {
    const float* row = logits + b.x * vocab;
    const online_softmax all = b.reduce(
        vocab, online_softmax{0, 0, minus_infinity},
        [&](online_softmax& lane, std::int64_t v) { lane.add(row[v] * inverse_temperature); },
        [](const online_softmax& p, const online_softmax& q) { return online_softmax::merge(p, q); });
    b.each(1, [&](std::int64_t) {
      out[b.x] = {static_cast<double>(all.top), all.sum, std::log(all.sum) - all.energy / all.sum};
    });
  }
};

RLVR_CUDA_KERNEL inline double log_prob_of(float logit, float inverse_temperature, const row_distribution& p) {
  return static_cast<double>(logit * inverse_temperature) - p.top - std::log(p.sum);
}

struct edge_scores : on_host {
  const float* logits;
  std::int64_t vocab;
  float inverse_temperature;
  const row_distribution* p;
  const std::int32_t *begin, *next;
  double* log_probs;
  template <class Block>
  RLVR_CUDA_KERNEL void operator()(Block& b) const {
    b.each(begin[b.x + 1] - begin[b.x], [&](std::int64_t i) {
      const std::int64_t e = begin[b.x] + i;
      log_probs[e] = log_prob_of(logits[b.x * vocab + next[e]], inverse_temperature, p[b.x]);
    });
  }
};

template <class S>
struct edge_gradients : on_host {
  const float* logits;
  std::int64_t vocab;
  float inverse_temperature;
  const row_distribution* p;
  const std::int32_t *begin, *next;
  const double* coefficients;
  S* dlogits;
  template <class Block>
  RLVR_CUDA_KERNEL void operator()(Block& b) const {
    const std::int64_t first = begin[b.x], edges = begin[b.x + 1] - first;
    const double sum = b.reduce(
        edges, 0.0, [&](double& lane, std::int64_t i) { lane += coefficients[first + i]; },
        [](double x, double y) { return x + y; });
    const float* row = logits + b.x * vocab;
    S* out = dlogits + b.x * vocab;
    const auto top = static_cast<float>(p[b.x].top);
    const auto pull = static_cast<float>(-sum / p[b.x].sum) * inverse_temperature;
    const auto away = [&](std::int64_t v) { return pull * weight_of(row[v] * inverse_temperature - top); };
    b.each(vocab, [&](std::int64_t v) { store(out, v, away(v)); });
    b.each(edges, [&](std::int64_t i) {  // from the start, so that bfloat16 rounds once
      const std::int64_t v = next[first + i];
      store(out, v, away(v) + static_cast<float>(coefficients[first + i]) * inverse_temperature);
    });
  }
};

/// A block's threads own consecutive parts of the vocabulary, whose sums tell in which the draw falls.
struct draw_tokens : on_host {
  const float* logits;
  std::int64_t vocab;
  float inverse_temperature;
  const row_distribution* p;
  const double* uniform;
  std::int32_t* next;
  double* log_probs;
  std::size_t shared_bytes() const { return block_threads * sizeof(double); }
  template <class Block>
  RLVR_CUDA_KERNEL void operator()(Block& b) const {
    auto* part = b.template shared<double>();
    const float* row = logits + b.x * vocab;
    const auto top = static_cast<float>(p[b.x].top);
    const std::int64_t length = (vocab + block_threads - 1) / block_threads;
    const auto weight = [&](std::int64_t v) {
      return static_cast<double>(weight_of(row[v] * inverse_temperature - top));
    };
    b.each(block_threads, [&](std::int64_t t) {
      double sum = 0;
      for (std::int64_t v = t * length; v < (t + 1) * length && v < vocab; ++v) sum += weight(v);
      part[t] = sum;
    });
    b.each(1, [&](std::int64_t) {
      double total = 0;
      for (int t = 0; t < block_threads; ++t) total += part[t];
      double left = uniform[b.x] * total;
      int t = 0;
      while (t + 1 < block_threads && left >= part[t]) left -= part[t++];
      std::int64_t v = t * length;
      for (; v < vocab; ++v) {
        const double w = weight(v);
        if (left < w) break;
        left -= w;
      }
      if (v >= vocab)  // rounding at the very end: the last token that can come
        for (v = vocab - 1; v > 0 && weight(v) == 0;) --v;
      next[b.x] = static_cast<std::int32_t>(v);
      log_probs[b.x] = log_prob_of(row[v], inverse_temperature, p[b.x]);
    });
  }
};

/// Finds the least logit to keep bit by bit: floats are ordered like the integers made of them here.
struct truncate_rows : on_host {
  float* logits;
  std::int64_t vocab;
  float inverse_temperature;
  std::int64_t top_k;
  double top_p;

  RLVR_CUDA_KERNEL static std::uint32_t rank_of(float x) {
    std::uint32_t u;
    std::memcpy(&u, &x, sizeof u);
    return u & 0x80000000u ? ~u : u | 0x80000000u;
  }
  /// The largest rank such that what lies at or above it amounts to `enough`.
  template <class Block, class Amount>
  RLVR_CUDA_KERNEL std::uint32_t threshold(Block& b, double enough, Amount amount) const {
    const float* row = logits + b.x * vocab;
    std::uint32_t least = 0;
    for (std::uint32_t bit = 0x80000000u; bit != 0; bit >>= 1) {
      const double above = b.reduce(
          vocab, 0.0,
          [&](double& lane, std::int64_t v) {
            if (rank_of(row[v]) >= (least | bit)) lane += amount(row[v]);
          },
          [](double p, double q) { return p + q; });
      if (above >= enough) least |= bit;
    }
    return least;
  }
  template <class Block>
  RLVR_CUDA_KERNEL void cut(Block& b, std::uint32_t least) const {
    float* row = logits + b.x * vocab;
    b.each(vocab, [&](std::int64_t v) {
      if (rank_of(row[v]) < least) row[v] = minus_infinity;
    });
  }
  template <class Block>
  RLVR_CUDA_KERNEL void operator()(Block& b) const {
    if (top_k > 0 && top_k < vocab) cut(b, threshold(b, static_cast<double>(top_k), [](float) { return 1.0; }));
    if (top_p >= 1) return;
    const float* row = logits + b.x * vocab;
    const float top = b.reduce(
        vocab, minus_infinity, [&](float& lane, std::int64_t v) { lane = row[v] > lane ? row[v] : lane; },
        [](float p, float q) { return p > q ? p : q; });
    const auto weight = [&](float l) { return static_cast<double>(weight_of((l - top) * inverse_temperature)); };
    const double total = b.reduce(
        vocab, 0.0, [&](double& lane, std::int64_t v) { lane += weight(row[v]); },
        [](double p, double q) { return p + q; });
    cut(b, threshold(b, top_p * total, weight));
  }
};

}  // namespace rlvr::cuda::kernels
