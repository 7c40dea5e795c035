#pragma once
/// Counter-based random numbers: the same draw whatever the batch size, thread, rank or device.

#include <array>
#include <cstddef>
#include <cstdint>

namespace rlvr {

using philox_block = std::array<std::uint32_t, 4>;

/// Philox 4x32 with 10 rounds: a bijection of the 128-bit counter for each 64-bit key.
/// Source: Salmon, Moraes, Dror, Shaw, "Parallel Random Numbers: As Easy as 1, 2, 3" (SC 2011), section 3.3;
/// checked against the known-answer vectors that the authors publish with Random123.
constexpr philox_block philox4x32_10(philox_block counter, std::array<std::uint32_t, 2> key) {
  for (int round = 0; round < 10; ++round) {
    const std::uint64_t a = std::uint64_t{0xD2511F53u} * counter[0];
    const std::uint64_t b = std::uint64_t{0xCD9E8D57u} * counter[2];
    counter = {static_cast<std::uint32_t>(b >> 32) ^ counter[1] ^ key[0], static_cast<std::uint32_t>(b),
               static_cast<std::uint32_t>(a >> 32) ^ counter[3] ^ key[1], static_cast<std::uint32_t>(a)};
    key[0] += 0x9E3779B9u;
    key[1] += 0xBB67AE85u;
  }
  return counter;
}

/// What a stream of random numbers is for. Folded into the key, so that no two uses share draws.
enum class purpose : std::uint64_t {
  rollout = 1,
  validation,
  confirmation,
  test,
  shuffle,
  initialise,
  corpus,
  selection
};

/// A 64-bit key from which draws are taken by position; a value, never a state.
/// Keys of different seeds, purposes and steps are made by folding: `random_key(seed).fold(purpose::rollout).fold(step)`.
class random_key {
 public:
  constexpr explicit random_key(std::uint64_t seed) : bits_(seed) {}

  /// The key for one value of one more coordinate (purpose, step, ...).
  constexpr random_key fold(std::uint64_t data) const {
    const philox_block out = block({low(data), high(data), 0x666f6c64u, 0u});
    return random_key((std::uint64_t{out[1]} << 32) | out[0]);
  }
  constexpr random_key fold(purpose what) const { return fold(static_cast<std::uint64_t>(what)); }

  /// 128 random bits at a counter.
  constexpr philox_block block(philox_block counter) const {
    return philox4x32_10(counter, {low(bits_), high(bits_)});
  }

  /// A double in (0, 1) from 64 random bits, of which 53 count.
  static constexpr double unit(std::uint32_t high_bits, std::uint32_t low_bits) {
    const std::uint64_t bits = ((std::uint64_t{high_bits} << 32) | low_bits) >> 11;
    const double u = (static_cast<double>(bits) + 0.5) * 0x1p-53;
    return u < 1 ? u : 1 - 0x1p-53;  // the largest value would be rounded up to 1
  }

  /// A double in (0, 1), 53 random bits, for one position of one rollout of one prompt.
  constexpr double uniform(std::uint64_t prompt, std::uint32_t rollout = 0, std::uint32_t position = 0) const {
    const philox_block out = block({position, rollout, low(prompt), high(prompt)});
    return unit(out[1], out[0]);
  }

  /// An integer in [0, n), n > 0, by multiplication with a 64-bit draw (bias below n / 2^64).
  constexpr std::uint64_t below(std::uint64_t n, std::uint64_t index) const {
    const philox_block out = block({0x62656c6fu, 0u, low(index), high(index)});
    const std::uint64_t x = (std::uint64_t{out[1]} << 32) | out[0];
    __extension__ using wide = unsigned __int128;
    return static_cast<std::uint64_t>((static_cast<wide>(x) * n) >> 64);
  }

  constexpr std::uint64_t bits() const { return bits_; }
  friend constexpr bool operator==(random_key, random_key) = default;

 private:
  static constexpr std::uint32_t low(std::uint64_t x) { return static_cast<std::uint32_t>(x); }
  static constexpr std::uint32_t high(std::uint64_t x) { return static_cast<std::uint32_t>(x >> 32); }
  std::uint64_t bits_;
};

/// Shuffles `size()` elements in place (Fisher-Yates), a pure function of the key.
template <class Sequence>
constexpr void shuffle(Sequence& values, random_key key) {
  for (std::size_t i = values.size(); i > 1; --i) {
    const auto j = static_cast<std::size_t>(key.below(i, i));
    if (j == i - 1) continue;
    auto held = values[i - 1];
    values[i - 1] = values[j];
    values[j] = held;
  }
}

}  // namespace rlvr
