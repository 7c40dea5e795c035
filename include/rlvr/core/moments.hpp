#pragma once
/// Mean and variance in float64, centred. One-pass sums of squares in float32 turn equal rewards into
/// advantages of several thousand; nothing here subtracts two large numbers.

#include <cmath>
#include <cstddef>
#include <span>

namespace rlvr {

/// Count, mean and centred sum of squares of a sample; add one value (Welford) or merge two samples
/// (Chan, Golub, LeVeque 1983).
struct moments {
  std::size_t count = 0;
  double mean = 0;
  double squares = 0;  ///< sum of (x - mean)^2

  void add(double x) {
    ++count;
    const double delta = x - mean;
    mean += delta / static_cast<double>(count);
    squares += delta * (x - mean);
  }

  void merge(const moments& other) {
    if (other.count == 0) return;
    if (count == 0) {
      *this = other;
      return;
    }
    const double n = static_cast<double>(count), m = static_cast<double>(other.count);
    const double delta = other.mean - mean;
    mean += delta * (m / (n + m));
    squares += other.squares + delta * delta * (n * m / (n + m));
    count += other.count;
  }

  /// Sum of squares over count - ddof; 0 when count <= ddof.
  double variance(std::size_t ddof = 1) const {
    return count > ddof ? squares / static_cast<double>(count - ddof) : 0.0;
  }
  double deviation(std::size_t ddof = 1) const { return std::sqrt(variance(ddof)); }
};

/// Two passes: the mean, then centred squares. Equal values give exactly that mean and variance 0.
/// O(n).
inline moments moments_of(std::span<const double> values) {
  moments m;
  m.count = values.size();
  if (values.empty()) return m;
  const double origin = values.front();
  double sum = 0;
  for (double x : values) sum += x - origin;
  m.mean = origin + sum / static_cast<double>(m.count);
  double residue = 0;
  for (double x : values) {
    const double d = x - m.mean;
    m.squares += d * d;
    residue += d;
  }
  m.squares -= residue * residue / static_cast<double>(m.count);
  if (m.squares < 0) m.squares = 0;
  return m;
}

}  // namespace rlvr
