#pragma once
/// Integers of any sign and, up to a cap, any size.

#include <bit>
#include <cstddef>
#include <cstdint>
#include <string_view>
#include <utility>
#include <vector>

namespace rlvr::detail {

/// An integer of at most `most_limbs` times 32 bits, 616 decimal digits: division and the greatest common
/// divisor are quadratic, and a verifier must stay linear. What would be larger is `overflowed()`, and so is everything
/// made of it.
class big_integer {
 public:
  static constexpr std::size_t most_limbs = 64;
  static constexpr std::size_t most_digits = 616;  ///< 10^616 < 2^(32 * 64)

  big_integer() = default;
  big_integer(std::int64_t value) : negative_(value < 0) {  // NOLINT: an integer is an integer
    std::uint64_t magnitude = value < 0 ? 0 - static_cast<std::uint64_t>(value) : static_cast<std::uint64_t>(value);
    for (; magnitude; magnitude >>= 32) limbs_.push_back(static_cast<std::uint32_t>(magnitude));
  }

  /// The value of decimal digits; overflowed when they are too many. Every character must be a digit.
  static big_integer of_digits(std::string_view digits) {
    while (!digits.empty() && digits.front() == '0') digits.remove_prefix(1);
    big_integer out;
    if (digits.size() > most_digits) return out.overflow();
    for (char c : digits) out.multiply_add(10, static_cast<std::uint32_t>(c - '0'));
    return out;
  }

  bool overflowed() const { return overflowed_; }
  bool is_zero() const { return limbs_.empty() && !overflowed_; }
  bool is_negative() const { return negative_; }
  bool is_one() const { return limbs_.size() == 1 && limbs_[0] == 1 && !negative_; }

  /// The nearest double, up to a relative error of 2^-52; infinite beyond the range.
  double to_double() const {
    double value = 0;
    for (std::size_t i = limbs_.size(); i-- > 0;) value = value * 4294967296.0 + limbs_[i];
    return negative_ ? -value : value;
  }

  big_integer operator-() const {
    big_integer out = *this;
    if (!out.limbs_.empty()) out.negative_ = !negative_;
    return out;
  }

  friend big_integer operator+(const big_integer& a, const big_integer& b) {
    if (a.overflowed_ || b.overflowed_) return big_integer().overflow();
    big_integer out;
    if (a.negative_ == b.negative_) {
      out.limbs_ = add(a.limbs_, b.limbs_);
      out.negative_ = a.negative_;
    } else if (compare(a.limbs_, b.limbs_) >= 0) {
      out.limbs_ = subtract(a.limbs_, b.limbs_);
      out.negative_ = a.negative_;
    } else {
      out.limbs_ = subtract(b.limbs_, a.limbs_);
      out.negative_ = b.negative_;
    }
    return out.canonical();
  }
  friend big_integer operator-(const big_integer& a, const big_integer& b) { return a + -b; }

  friend big_integer operator*(const big_integer& a, const big_integer& b) {
    if (a.overflowed_ || b.overflowed_) return big_integer().overflow();
    big_integer out;
    out.limbs_.assign(a.limbs_.size() + b.limbs_.size(), 0);
    for (std::size_t i = 0; i < a.limbs_.size(); ++i) {
      std::uint64_t carry = 0;
      for (std::size_t j = 0; j < b.limbs_.size(); ++j) {
        carry += out.limbs_[i + j] + std::uint64_t{a.limbs_[i]} * b.limbs_[j];
        out.limbs_[i + j] = static_cast<std::uint32_t>(carry);
        carry >>= 32;
      }
      out.limbs_[i + b.limbs_.size()] = static_cast<std::uint32_t>(carry);
    }
    out.negative_ = a.negative_ != b.negative_;
    return out.canonical();
  }

  /// Quotient and remainder of the magnitudes, the signs of a over b and of a (as / and % of int). b is not zero.
  static std::pair<big_integer, big_integer> divide(const big_integer& a, const big_integer& b) {
    if (a.overflowed_ || b.overflowed_ || b.limbs_.empty()) return {big_integer().overflow(), big_integer().overflow()};
    big_integer quotient, remainder;
    quotient.limbs_.assign(a.limbs_.size(), 0);
    if (b.limbs_.size() == 1) {
      std::uint64_t rest = 0;
      for (std::size_t i = a.limbs_.size(); i-- > 0;) {
        rest = rest << 32 | a.limbs_[i];
        quotient.limbs_[i] = static_cast<std::uint32_t>(rest / b.limbs_[0]);
        rest %= b.limbs_[0];
      }
      if (rest) remainder.limbs_ = {static_cast<std::uint32_t>(rest)};
    } else {
      // Bit by bit: at most 2048 shifts and subtractions of 64 limbs.
      for (std::size_t bit = 32 * a.limbs_.size(); bit-- > 0;) {
        remainder.shift_in(a.limbs_[bit / 32] >> (bit % 32) & 1);
        if (compare(remainder.limbs_, b.limbs_) >= 0) {
          remainder.limbs_ = subtract(remainder.limbs_, b.limbs_);
          trim(remainder.limbs_);
          quotient.limbs_[bit / 32] |= std::uint32_t{1} << (bit % 32);
        }
      }
    }
    quotient.negative_ = a.negative_ != b.negative_;
    remainder.negative_ = a.negative_;
    return {quotient.canonical(), remainder.canonical()};
  }

  /// False when one is overflowed.
  friend bool operator==(const big_integer& a, const big_integer& b) {
    return !a.overflowed_ && !b.overflowed_ && a.negative_ == b.negative_ && a.limbs_ == b.limbs_;
  }

  /// The greatest common divisor, not negative; overflowed when one of them is.
  friend big_integer gcd(big_integer a, big_integer b) {
    if (a.overflowed_ || b.overflowed_) return big_integer().overflow();
    a.negative_ = b.negative_ = false;
    if (a.limbs_.empty() || b.is_one()) return b;
    if (b.limbs_.empty() || a.is_one()) return a;
    const std::size_t twos_a = a.drop_twos(), twos_b = b.drop_twos();
    while (!b.limbs_.empty()) {
      if (compare(a.limbs_, b.limbs_) > 0) std::swap(a.limbs_, b.limbs_);
      b.limbs_ = subtract(b.limbs_, a.limbs_);
      trim(b.limbs_);
      b.drop_twos();
    }
    for (std::size_t k = twos_a < twos_b ? twos_a : twos_b; k > 0; --k) a.shift_in(0);
    return a;
  }

 private:
  using limbs = std::vector<std::uint32_t>;

  static void trim(limbs& x) {
    while (!x.empty() && x.back() == 0) x.pop_back();
  }
  static int compare(const limbs& a, const limbs& b) {
    if (a.size() != b.size()) return a.size() < b.size() ? -1 : 1;
    for (std::size_t i = a.size(); i-- > 0;)
      if (a[i] != b[i]) return a[i] < b[i] ? -1 : 1;
    return 0;
  }
  static limbs add(const limbs& a, const limbs& b) {
    limbs out;
    std::uint64_t carry = 0;
    for (std::size_t i = 0; i < a.size() || i < b.size() || carry; ++i) {
      carry += std::uint64_t{i < a.size() ? a[i] : 0} + (i < b.size() ? b[i] : 0);
      out.push_back(static_cast<std::uint32_t>(carry));
      carry >>= 32;
    }
    return out;
  }
  /// a - b for a >= b.
  static limbs subtract(const limbs& a, const limbs& b) {
    limbs out(a.size());
    std::uint64_t borrow = 0;
    for (std::size_t i = 0; i < a.size(); ++i) {
      const std::uint64_t take = borrow + (i < b.size() ? b[i] : 0);
      borrow = take > a[i];
      out[i] = static_cast<std::uint32_t>(a[i] - take);
    }
    return out;
  }

  void multiply_add(std::uint32_t factor, std::uint32_t summand) {
    std::uint64_t carry = summand;
    for (std::uint32_t& limb : limbs_) {
      carry += std::uint64_t{limb} * factor;
      limb = static_cast<std::uint32_t>(carry);
      carry >>= 32;
    }
    if (carry) limbs_.push_back(static_cast<std::uint32_t>(carry));
  }
  void shift_in(std::uint32_t bit) {
    for (std::uint32_t& limb : limbs_) {
      const std::uint32_t out = limb >> 31;
      limb = limb << 1 | bit;
      bit = out;
    }
    if (bit) limbs_.push_back(bit);
  }

  /// Divides by two as often as it can, and says how often.
  std::size_t drop_twos() {
    if (limbs_.empty()) return 0;
    std::size_t words = 0;
    while (limbs_[words] == 0) ++words;
    limbs_.erase(limbs_.begin(), limbs_.begin() + static_cast<std::ptrdiff_t>(words));
    const int bits = std::countr_zero(limbs_[0]);
    if (bits > 0)
      for (std::size_t i = 0; i < limbs_.size(); ++i)
        limbs_[i] = limbs_[i] >> bits | (i + 1 < limbs_.size() ? limbs_[i + 1] << (32 - bits) : 0);
    trim(limbs_);
    return 32 * words + static_cast<std::size_t>(bits);
  }

  big_integer& overflow() {
    limbs_.clear();
    negative_ = false;
    overflowed_ = true;
    return *this;
  }
  big_integer& canonical() {
    trim(limbs_);
    if (limbs_.size() > most_limbs) return overflow();
    if (limbs_.empty()) negative_ = false;
    return *this;
  }

  limbs limbs_;  // the magnitude, least significant first, without leading zeros
  bool negative_ = false;
  bool overflowed_ = false;
};

}  // namespace rlvr::detail
