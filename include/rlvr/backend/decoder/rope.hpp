#pragma once
/// Rotary embeddings: the frequencies of a head's pairs, plain or scaled for longer contexts.

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <vector>

namespace rlvr::decoder {

enum class rope_kind { plain, llama3, yarn };

/// How the frequencies theta^(-2i/d) are changed. Fields that a kind does not name are ignored by it.
struct rope_scaling {
  rope_kind kind = rope_kind::plain;
  double factor = 1;                   ///< llama3, yarn: slow pairs turn this much slower
  std::size_t original_positions = 0;  ///< llama3, yarn: context before the scaling
  double low_freq_factor = 1;          ///< llama3
  double high_freq_factor = 4;         ///< llama3
  double beta_fast = 32;               ///< yarn: turns within the original context from which a pair is kept
  double beta_slow = 1;                ///< yarn: turns up to which it is scaled
  bool truncate = true;                ///< yarn: the range between is widened to whole pairs
  double attention_factor = 1;         ///< yarn: cos and sin are multiplied by it

  friend bool operator==(const rope_scaling&, const rope_scaling&) = default;
};

/// The attention factor of yarn when none is given: 0.1 ln(factor) + 1, and 1 for factors up to 1.
inline double yarn_attention_factor(double factor, double mscale = 1) {
  return factor <= 1 ? 1.0 : 0.1 * mscale * std::log(factor) + 1.0;
}

/// Radians per position of the pairs i, i + d/2: d/2 frequencies, fastest first.
/// llama3: pairs of wavelength below L / high are kept, above L / low divided by the factor, between both mixed, with
/// L = original_positions. yarn: the same with a ramp over the pair's number.
/// Requires: head_dim even, theta > 0, a valid scaling (validate(config) checks it).
/// Source: transformers 4.57, modeling_rope_utils.py; arXiv 2309.00071 for yarn.
inline std::vector<double> rope_frequencies(const rope_scaling& s, double theta, std::size_t head_dim) {
  constexpr double two_pi = 6.283185307179586476925286766559;
  const double d = static_cast<double>(head_dim), original = static_cast<double>(s.original_positions);
  std::vector<double> out(head_dim / 2);
  for (std::size_t i = 0; i < out.size(); ++i) out[i] = std::pow(theta, -2.0 * static_cast<double>(i) / d);
  if (s.kind == rope_kind::llama3) {
    for (double& f : out) {
      const double turns = original * f / two_pi;  // within the original context
      const double kept = std::clamp((turns - s.low_freq_factor) / (s.high_freq_factor - s.low_freq_factor), 0.0, 1.0);
      f = (1 - kept) * f / s.factor + kept * f;
    }
  }
  if (s.kind == rope_kind::yarn) {
    const auto pair_of = [&](double turns) {
      return d * std::log(original / (turns * two_pi)) / (2 * std::log(theta));
    };
    double low = pair_of(s.beta_fast), high = pair_of(s.beta_slow);
    if (s.truncate) {
      low = std::floor(low);
      high = std::ceil(high);
    }
    low = std::max(low, 0.0);
    high = std::min(high, d - 1);
    if (low == high) high += 0.001;
    for (std::size_t i = 0; i < out.size(); ++i) {
      const double scaled = std::clamp((static_cast<double>(i) - low) / (high - low), 0.0, 1.0);
      out[i] = out[i] / s.factor * scaled + out[i] * (1 - scaled);
    }
  }
  return out;
}

}  // namespace rlvr::decoder
