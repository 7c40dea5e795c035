#pragma once
/// Keeps the most likely tokens of rows of logits.

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>

#include <rlvr/backend/cuda/attention_warp.cuh>
#include <rlvr/backend/cuda/block.cuh>
#include <rlvr/backend/cuda/row_access.cuh>
#include <rlvr/backend/cuda/vocabulary_kernels.cuh>
#include <rlvr/backend/cuda/warp_lanes.cuh>

namespace rlvr::cuda::kernels {

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
/// integers, ranks, made of them here. What is counted are tokens for top_k, for top_p their weights as fixed-point
/// numbers. They are summed in limbs, so short that no vocabulary overflows 32 bits. A part of the row whose highest
/// rank is too low is not read again: of top_k most are not, since as many tokens as there are parts above the k-th
/// highest of those ranks lie above it.
struct truncate_rows {
  static constexpr int digit_bits = 11, bins = 1 << digit_bits, per_thread = bins / block_threads;
  static constexpr int limbs = 3, most_limb_bits = 14;
  float* logits;
  std::int64_t vocab;
  float inverse_temperature;
  std::int64_t top_k;
  double top_p;

  /// The highest of a part of the row.
  struct part_top {
    std::uint32_t rank;
    float logit;  ///< but for NaN
  };
  struct memory {
    unsigned amount[limbs][bins];
    unsigned long long part[block_threads];
    unsigned long long above, enough;  ///< the amount above the bins that are looked at; where to stop
    std::uint32_t least;               ///< the digits found so far
  };
  std::size_t shared_bytes() const {
    return sizeof(memory) + static_cast<std::size_t>(row_parts::count(vocab)) * sizeof(part_top);
  }

  template <class Block>
  RLVR_CUDA_KERNEL void operator()(Block& b) const {
    memory& m = *b.template shared<memory>();
    auto* tops = reinterpret_cast<part_top*>(&m + 1);
    find_tops(b, tops);
    std::uint32_t least = 0;
    if (top_k > 0 && top_k < vocab) {
      const auto enough = [this](unsigned long long) { return static_cast<unsigned long long>(top_k); };
      least = threshold(b, m, tops, floor_of_top_k(b, m, tops), enough, [](float) { return 1ull; });
      cut(b, tops, least);
    }
    if (top_p >= 1) return;
    const float top = b.reduce(
        row_parts::count(vocab), minus_infinity,
        [&](float& lane, std::int64_t i) { lane = std::fmax(lane, tops[i].logit); },
        [](float p, float q) { return std::fmax(p, q); });
    const auto unit = static_cast<float>(1ull << (limbs * limb_bits() - 1));  // weights are at most 1
    const auto amount = [&](float l) {
      const float w = std::exp((l - top) * inverse_temperature) * unit;
      return w >= 1 ? static_cast<unsigned long long>(w) : 0ull;  // NaN is none
    };
    const auto enough = [this](unsigned long long all) {
      const auto some = static_cast<unsigned long long>(std::ceil(top_p * static_cast<double>(all)));
      return some < 1 ? 1ull : some < all ? some : all;
    };
    cut(b, tops, threshold(b, m, tops, least, enough, amount));
  }

 private:
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
  /// f(part) for every part of the row, a warp each.
  template <class F>
  RLVR_CUDA_KERNEL void parts(F f) const {
    struct nothing {};
    warp::team<nothing, row_parts::warps> team;
    team.warps([&](int w, nothing&) {
      for (std::int64_t part = w; part < row_parts::count(vocab); part += row_parts::warps) f(part);
    });
    team.meet();
  }
  /// f(logit, token) for every token of a part.
  template <class F>
  RLVR_CUDA_KERNEL void read_tokens(const float* row, std::int64_t part, F f) const {
    row_parts::tokens l;
    row_parts::read_part(l, row, vocab, part);
    warp::lanes([&](int lane) {
      RLVR_CUDA_UNROLL
      for (int i = 0; i < 4 * row_parts::reads; ++i) {
        const std::int64_t v = part * row_parts::length + row_parts::token_of(lane, i);
        if (v < vocab) f(l(lane, i / 4)[i % 4], v);
      }
    });
  }

  template <class Block>
  RLVR_CUDA_KERNEL void find_tops(Block& b, part_top* tops) const {
    const float* row = logits + b.x * vocab;
    parts([&](std::int64_t part) {
      row_parts::tokens l;
      row_parts::read_part(l, row, vocab, part);
      warp::registers<std::uint32_t, 1> rank;
      warp::registers<float, 1> logit;
      warp::lanes([&](int lane) {
        rank(lane, 0) = 0;
        logit(lane, 0) = minus_infinity;
        RLVR_CUDA_UNROLL
        for (int i = 0; i < 4 * row_parts::reads; ++i) {
          const float x = l(lane, i / 4)[i % 4];
          rank(lane, 0) = rank_of(x) > rank(lane, 0) ? rank_of(x) : rank(lane, 0);
          logit(lane, 0) = std::fmax(logit(lane, 0), x);
        }
      });
      warp::merge_lanes<1>(rank, [](std::uint32_t p, std::uint32_t q) { return p > q ? p : q; });
      warp::merge_lanes<1>(logit, [](float p, float q) { return std::fmax(p, q); });
      warp::lanes([&](int lane) {
        if (lane == 0) tops[part] = {rank(lane, 0), logit(lane, 0)};
      });
    });
  }
  /// A rank that at least top_k tokens reach.
  template <class Block>
  RLVR_CUDA_KERNEL std::uint32_t floor_of_top_k(Block& b, memory& m, const part_top* tops) const {
    const std::int64_t count = row_parts::count(vocab);
    if (count < top_k) return 0;
    b.each(count, [&](std::int64_t i) {
      std::int64_t above = 0;
      for (std::int64_t j = 0; j < count; ++j)
        above += tops[j].rank > tops[i].rank || (tops[j].rank == tops[i].rank && j < i) ? 1 : 0;
      if (above + 1 == top_k) m.least = tops[i].rank;
    });
    return m.least;
  }
  /// The largest rank such that what lies at or above it amounts to enough(amount of all), which is at least 1 and at
  /// most that. What lies below `floor` is not counted.
  template <class Block, class Enough, class Amount>
  RLVR_CUDA_KERNEL std::uint32_t threshold(Block& b, memory& m, const part_top* tops, std::uint32_t floor,
                                           Enough enough, Amount amount) const {
    const float* row = logits + b.x * vocab;
    const int limb = limb_bits();
    const auto amount_of = [&](std::int64_t bin) {
      unsigned long long sum = 0;
      for (int i = 0; i < limbs; ++i) sum += static_cast<unsigned long long>(m.amount[i][bin]) << (i * limb);
      return sum;
    };
    std::uint32_t least = 0;
    for (int known = 0; known < 32; known += digit_bits) {
      const int width = 32 - known < digit_bits ? 32 - known : digit_bits, shift = 32 - known - width;
      const std::uint32_t lowest = least > floor ? least : floor;
      b.each(limbs * bins, [&](std::int64_t i) { m.amount[i / bins][i % bins] = 0; });
      parts([&](std::int64_t part) {
        if (tops[part].rank < lowest) return;
        read_tokens(row, part, [&](float l, std::int64_t) {
          const std::uint32_t rank = rank_of(l);
          if (rank < lowest || (known > 0 && (rank ^ least) >> (32 - known) != 0)) return;
          unsigned long long more = amount(l);
          for (int i = 0; more > 0; ++i, more >>= limb)
            add_shared(&m.amount[i][(rank >> shift) & ((1u << width) - 1)],
                       static_cast<unsigned>(more & ((1ull << limb) - 1)));
        });
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
          m.above = 0;
          m.enough = enough(all);
        }
        int t = block_threads - 1;
        while (t > 0 && m.above + m.part[t] < m.enough) m.above += m.part[t--];
        int bin = (t + 1) * per_thread - 1;
        while (bin > t * per_thread && m.above + amount_of(bin) < m.enough) m.above += amount_of(bin--);
        m.least = least | static_cast<std::uint32_t>(bin) << shift;
      });
      least = m.least;
    }
    return least;
  }
  template <class Block>
  RLVR_CUDA_KERNEL void cut(Block& b, const part_top* tops, std::uint32_t least) const {
    float* row = logits + b.x * vocab;
    parts([&](std::int64_t part) {
      if (tops[part].rank < least && row_parts::whole(row, vocab, part))
        warp::lanes([&](int lane) {
          RLVR_CUDA_UNROLL
          for (int r = 0; r < row_parts::reads; ++r)
            write(row + part * row_parts::length + row_parts::token_of(lane, 4 * r),
                  numbers<4>{minus_infinity, minus_infinity, minus_infinity, minus_infinity});
        });
      else
        read_tokens(row, part, [&](float l, std::int64_t v) {
          if (rank_of(l) < least) row[v] = minus_infinity;
        });
    });
  }
};

}  // namespace rlvr::cuda::kernels
