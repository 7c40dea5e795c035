#pragma once
/// Exact fractions.

#include <cmath>
#include <cstdint>
#include <string_view>
#include <utility>

#include <rlvr/verify/big_integer.hpp>

namespace rlvr::detail {

/// A fraction in lowest terms with positive denominator, or `undefined()`: a division by zero, or an integer
/// beyond the cap of big_integer. Everything made of an undefined fraction is undefined.
class rational {
 public:
  rational(std::int64_t value = 0) : numerator_(value) {}  // NOLINT: an integer is a fraction
  rational(big_integer numerator, big_integer denominator)
      : numerator_(std::move(numerator)), denominator_(std::move(denominator)) {
    const big_integer divisor = gcd(numerator_, denominator_);
    undefined_ = divisor.overflowed() || numerator_.overflowed() || denominator_.overflowed() || denominator_.is_zero();
    if (undefined_) return;
    if (!divisor.is_one()) {
      numerator_ = big_integer::divide(numerator_, divisor).first;
      denominator_ = big_integer::divide(denominator_, divisor).first;
    }
    if (denominator_.is_negative()) {
      numerator_ = -numerator_;
      denominator_ = -denominator_;
    }
  }

  /// whole.fraction, both of digits only and not both empty.
  static rational of_decimal(std::string_view whole, std::string_view fraction) {
    while (!fraction.empty() && fraction.back() == '0') fraction.remove_suffix(1);
    const big_integer scale = power_of_ten(fraction.size());
    return {big_integer::of_digits(whole) * scale + big_integer::of_digits(fraction), scale};
  }

  bool undefined() const { return undefined_; }
  bool is_integer() const { return !undefined_ && denominator_.is_one(); }

  /// The nearest double up to rounding; infinite or NaN when numerator or denominator are beyond the range.
  double to_double() const { return numerator_.to_double() / denominator_.to_double(); }

  rational operator-() const {
    rational out = *this;
    out.numerator_ = -numerator_;
    return out;
  }
  friend rational operator+(const rational& a, const rational& b) {
    if (a.undefined_ || b.undefined_) return none();
    return {a.numerator_ * b.denominator_ + b.numerator_ * a.denominator_, a.denominator_ * b.denominator_};
  }
  friend rational operator-(const rational& a, const rational& b) { return a + -b; }
  friend rational operator*(const rational& a, const rational& b) {
    if (a.undefined_ || b.undefined_) return none();
    return {a.numerator_ * b.numerator_, a.denominator_ * b.denominator_};
  }
  friend rational operator/(const rational& a, const rational& b) {
    if (a.undefined_ || b.undefined_) return none();
    return {a.numerator_ * b.denominator_, a.denominator_ * b.numerator_};
  }
  /// False when one is undefined.
  friend bool operator==(const rational& a, const rational& b) {
    return !a.undefined_ && !b.undefined_ && a.numerator_ == b.numerator_ && a.denominator_ == b.denominator_;
  }

 private:
  static rational none() {
    rational out;
    out.undefined_ = true;
    return out;
  }
  static big_integer power_of_ten(std::size_t exponent) {
    big_integer out = 1, square = 10;
    for (; exponent > 0 && !out.overflowed(); exponent /= 2) {
      if (exponent % 2) out = out * square;
      if (exponent > 1) square = square * square;
    }
    return out;
  }

  big_integer numerator_ = 0;
  big_integer denominator_ = 1;
  bool undefined_ = false;
};

}  // namespace rlvr::detail
