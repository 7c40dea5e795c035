#pragma once
/// Kernels over rows of logits: nothing but the logits and their gradient is ever as wide as the vocabulary. One block
/// per row. Sums over the vocabulary are in double, or of integers, which have no order.

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
    const float* row = logits + b.x * vocab;
    const auto coefficient = [&](std::int64_t i) {
      return row[next[first + i]] == minus_infinity ? 0.0 : coefficients[first + i];
    };
    const double sum = b.reduce(
        edges, 0.0, [&](double& lane, std::int64_t i) { lane += coefficient(i); },
        [](double x, double y) { return x + y; });
    S* out = dlogits + b.x * vocab;
    const auto top = static_cast<float>(p[b.x].top);
    const auto pull = static_cast<float>(-sum / p[b.x].sum) * inverse_temperature;
    const auto away = [&](std::int64_t v) { return pull * weight_of(row[v] * inverse_temperature - top); };
    b.each(vocab, [&](std::int64_t v) { store(out, v, away(v)); });
    b.each(edges, [&](std::int64_t i) {  // from the start, so that bfloat16 rounds once
      const std::int64_t v = next[first + i];
      store(out, v, away(v) + static_cast<float>(coefficient(i)) * inverse_temperature);
    });
  }
};

/// A block's threads own consecutive parts of the vocabulary, whose sums tell in which the draw falls. The parts come
/// through shared memory, as many tokens of each at a time as threads that stand side by side can read at once.
struct draw_tokens : on_host {
  static constexpr int window = 32, stride = window + 1;
  const float* logits;
  std::int64_t vocab;
  float inverse_temperature;
  const row_distribution* p;
  const double* uniform;
  std::int32_t* next;
  double* log_probs;
  std::size_t shared_bytes() const { return block_threads * (sizeof(double) + stride * sizeof(float)); }
  template <class Block>
  RLVR_CUDA_KERNEL void operator()(Block& b) const {
    auto* part = b.template shared<double>();
    auto* weights = reinterpret_cast<float*>(part + block_threads);
    const float* row = logits + b.x * vocab;
    const auto top = static_cast<float>(p[b.x].top);
    const std::int64_t length = (vocab + block_threads - 1) / block_threads;
    const auto weight = [&](std::int64_t v) {
      return static_cast<double>(weight_of(row[v] * inverse_temperature - top));
    };
    b.each(block_threads, [&](std::int64_t t) { part[t] = 0; });
    for (std::int64_t at = 0; at < length; at += window) {
      b.each(block_threads * window, [&](std::int64_t i) {
        const std::int64_t t = i / window, own = at + i % window, v = t * length + own;
        weights[t * stride + i % window] =
            own < length && v < vocab ? weight_of(row[v] * inverse_temperature - top) : 0.f;
      });
      b.each(block_threads, [&](std::int64_t t) {
        double sum = part[t];
        for (int i = 0; i < window; ++i) sum += static_cast<double>(weights[t * stride + i]);
        part[t] = sum;
      });
    }
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

/// Adds to a number in shared memory; of integers, whose sum has no order. 32 bits: wider sums are loops of
/// compare-and-swap on the device.
RLVR_CUDA_KERNEL inline void add_shared(unsigned* to, unsigned amount) {
#ifdef __CUDACC__
  atomicAdd(to, amount);
#else
  *to += amount;
#endif
}

/// Finds the least logit to keep by radix selection, 11 bits of the logits at a time: floats are ordered like the
/// integers made of them here. What is counted are tokens for top_k, for top_p their weights as fixed-point numbers.
/// They are summed in limbs, so short that no vocabulary overflows 32 bits.
struct truncate_rows : on_host {
  static constexpr int digit_bits = 11, bins = 1 << digit_bits, per_thread = bins / block_threads;
  static constexpr int limbs = 3, most_limb_bits = 14;
  float* logits;
  std::int64_t vocab;
  float inverse_temperature;
  std::int64_t top_k;
  double top_p;

  struct memory {
    unsigned amount[limbs][bins];
    unsigned long long part[block_threads];
    unsigned long long above, enough;  ///< the amount above the bins that are looked at; where to stop
    std::uint32_t least;               ///< the digits found so far
  };
  std::size_t shared_bytes() const { return sizeof(memory); }

  RLVR_CUDA_BOTH int limb_bits() const {
    int bits = 32;
    for (std::int64_t most = vocab - 1; most > 0; most >>= 1) --bits;
    return bits < most_limb_bits ? bits : most_limb_bits;
  }
  RLVR_CUDA_KERNEL static std::uint32_t rank_of(float x) {
    std::uint32_t u;
    std::memcpy(&u, &x, sizeof u);
    return u & 0x80000000u ? ~u : u | 0x80000000u;
  }
  /// The largest rank such that what lies at or above it amounts to enough(amount of all), which is at least 1 and at
  /// most that.
  template <class Block, class Enough, class Amount>
  RLVR_CUDA_KERNEL std::uint32_t threshold(Block& b, Enough enough, Amount amount) const {
    const float* row = logits + b.x * vocab;
    memory& m = *b.template shared<memory>();
    const int limb = limb_bits();
    const auto amount_of = [&](std::int64_t bin) {
      unsigned long long sum = 0;
      for (int i = 0; i < limbs; ++i) sum += static_cast<unsigned long long>(m.amount[i][bin]) << (i * limb);
      return sum;
    };
    b.each(1, [&](std::int64_t) {
      m.above = 0;
      m.least = 0;
    });
    for (int known = 0; known < 32; known += digit_bits) {
      const int width = 32 - known < digit_bits ? 32 - known : digit_bits, shift = 32 - known - width;
      const std::uint32_t least = m.least;
      b.each(limbs * bins, [&](std::int64_t i) { m.amount[i / bins][i % bins] = 0; });
      b.each(vocab, [&](std::int64_t v) {
        const std::uint32_t rank = rank_of(row[v]);
        if (known > 0 && (rank ^ least) >> (32 - known) != 0) return;
        unsigned long long more = amount(row[v]);
        for (int i = 0; more > 0; ++i, more >>= limb)
          add_shared(&m.amount[i][(rank >> shift) & ((1u << width) - 1)],
                     static_cast<unsigned>(more & ((1ull << limb) - 1)));
      });
      b.each(block_threads, [&](std::int64_t t) {
        unsigned long long sum = 0;
        for (std::int64_t i = t * per_thread; i < (t + 1) * per_thread; ++i) sum += amount_of(i);
        m.part[t] = sum;
      });
      b.each(1, [&](std::int64_t) {
        if (known == 0) {
          unsigned long long all = 0;
          for (int t = 0; t < block_threads; ++t) all += m.part[t];
          m.enough = enough(all);
        }
        int t = block_threads - 1;
        while (t > 0 && m.above + m.part[t] < m.enough) m.above += m.part[t--];
        int bin = (t + 1) * per_thread - 1;
        while (bin > t * per_thread && m.above + amount_of(bin) < m.enough) m.above += amount_of(bin--);
        m.least = least | static_cast<std::uint32_t>(bin) << shift;
      });
    }
    return m.least;
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
    if (top_k > 0 && top_k < vocab) {
      const auto enough = [this](unsigned long long) { return static_cast<unsigned long long>(top_k); };
      cut(b, threshold(b, enough, [](float) { return 1ull; }));
    }
    if (top_p >= 1) return;
    const float* row = logits + b.x * vocab;
    const float top = b.reduce(
        vocab, minus_infinity, [&](float& lane, std::int64_t v) { lane = row[v] > lane ? row[v] : lane; },
        [](float p, float q) { return p > q ? p : q; });
    const auto unit = static_cast<float>(1ull << (limbs * limb_bits() - 1));  // weights are at most 1
    const auto amount = [&](float l) {
      const float w = weight_of((l - top) * inverse_temperature) * unit;
      return w >= 1 ? static_cast<unsigned long long>(w) : 0ull;  // NaN is none
    };
    const auto enough = [this](unsigned long long all) {
      const auto some = static_cast<unsigned long long>(std::ceil(top_p * static_cast<double>(all)));
      return some < 1 ? 1ull : some < all ? some : all;
    };
    cut(b, threshold(b, enough, amount));
  }
};

}  // namespace rlvr::cuda::kernels
