#pragma once
/// The pass over tokens that all objectives share.

#include <algorithm>
#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <span>
#include <stdexcept>
#include <string>
#include <type_traits>
#include <utility>

#include <rlvr/core/error.hpp>
#include <rlvr/objective/branch.hpp>
#include <rlvr/objective/token_batch.hpp>

namespace rlvr::detail {

/// A token array with the name that messages call it by.
template <class Real>
struct token_array {
  const char* name;
  std::span<const Real> values;
};

/// What a kernel says of one token.
template <class Real>
struct token_value {
  Real kappa;
  branch code = branch::active;
};

/// What becomes of a value: it is the coefficient, is added to it (penalties), or multiplies it (corrections).
enum class combine { assign, add, multiply };
enum class advantage_use { needed, unused };

/// Throws for sizes and arrays that are missing. O(B).
template <class Real, std::size_t N>
void check_arrays(const char* who, const token_batch<Real>& b, advantage_use use, std::span<const Real> weights,
                  std::size_t out, std::size_t codes, const std::array<token_array<Real>, N>& arrays) {
  validate(b, who);
  for (const token_array<Real>& a : arrays)
    require(b.tokens() == 0 || !a.values.empty(), who, ": ", a.name, " is not given");
  require(out == b.tokens(), who, ": room for ", out, " coefficients, but there are ", b.tokens(), " tokens");
  require(codes == 0 || codes == b.tokens(), who, ": room for ", codes, " branches, but there are ", b.tokens(),
          " tokens");
  require(weights.empty() || weights.size() == b.size(), who, ": ", weights.size(), " weights for ", b.size(),
          " sequences");
  for (std::size_t i = 0; i < weights.size(); ++i)
    require(is_finite(weights[i]), who, ": weight ", i, " is ", weights[i]);
  if (use == advantage_use::unused) return;
  require(b.tokens() == 0 || b.advantages.empty() != b.token_advantages.empty(), who, ": ",
          b.advantages.empty() ? "neither advantages nor token_advantages is given"
                               : "both advantages and token_advantages are given");
  for (std::size_t i = 0; i < b.advantages.size(); ++i)
    require(is_finite(b.advantages[i]), who, ": advantage ", i, " is ", b.advantages[i]);
}

/// Throws for the first active token of a sequence [begin, end) with an input that is not finite; when there is none,
/// says that the coefficient of token `at` overflows. Called when a value came out infinite or NaN.
template <class Real, std::size_t N>
[[noreturn]] void explain(const char* who, const token_batch<Real>& b, std::size_t begin, std::size_t end,
                          std::size_t at, const std::array<token_array<Real>, N>& arrays) {
  const std::size_t base = b.offsets.front();
  for (std::size_t t = begin; t < end; ++t) {
    if (!b.active(t)) continue;
    require(b.token_advantages.empty() || is_finite(b.token_advantages[t]), who, ": token_advantages[", base + t,
            "] is ", b.token_advantages.empty() ? Real(0) : b.token_advantages[t]);
    for (const token_array<Real>& a : arrays)
      require(is_finite(a.values[t]), who, ": ", a.name, "[", base + t, "] is ", a.values[t]);
  }
  std::string values;
  for (const token_array<Real>& a : arrays) values += concat(", ", a.name, "[", base + at, "] is ", a.values[at]);
  throw std::invalid_argument(concat(who, ": the coefficient of token ", base + at, " is not a finite number", values));
}

inline constexpr std::size_t block_length = 1024;

/// Values of tokens [begin, begin + n) into `kappa` and, if asked, `codes`. One loop without branches over contiguous
/// arrays. Adding 0 x makes the value NaN when an input is infinite or NaN, whatever the kernel's comparisons do.
template <bool Coded, class Real, class Kernel, class... In>
void fill(std::size_t n, Real* kappa, std::uint8_t* codes, const Real* advantages, const Kernel& kernel,
          const In*... in) {
  for (std::size_t t = 0; t < n; ++t) {
    const token_value<Real> v = kernel(advantages[t], in[t]...);
    Real sum = v.kappa + Real(0) * advantages[t];
    ((sum += Real(0) * in[t]), ...);
    kappa[t] = sum;
    if constexpr (Coded) codes[t] = static_cast<std::uint8_t>(v.code);
  }
}

/// Weight and mask of a block; false when a result is not finite. The flag is as wide as a value, for vector code.
template <combine How, class Real>
bool settle(std::size_t n, Real weight, const std::uint8_t* mask, const Real* kappa, Real* out) {
  using bits = std::conditional_t<sizeof(Real) == 4, std::uint32_t, std::uint64_t>;
  constexpr bits exponent = std::bit_cast<bits>(std::numeric_limits<Real>::infinity());
  bits bad = 0;
  const auto one = [&](Real value, Real& to) {
    if constexpr (How == combine::assign) to = value;
    if constexpr (How == combine::add) to += value;
    if constexpr (How == combine::multiply) to *= value;
    bad |= static_cast<bits>((std::bit_cast<bits>(to) & exponent) == exponent);
  };
  if (mask == nullptr)
    for (std::size_t t = 0; t < n; ++t) one(kappa[t] * weight, out[t]);
  else
    for (std::size_t t = 0; t < n; ++t) one(mask[t] != 0 ? kappa[t] * weight : Real(0), out[t]);
  return bad == 0;
}

/// Runs `kernel_of(i)(advantage, x...)` over the tokens of every sequence i, where x are the arrays' values, and
/// combines weight_i times its value into `out`; `codes` gets branches when not empty (combine::multiply keeps what
/// was there at tokens whose code is active). Empty weights are ones. Tokens outside the mask get 0.
/// Throws std::invalid_argument that names the array, the token (counted as offsets do) and the value; `out` and
/// `codes` then hold anything. One pass, O(T); no allocation.
template <combine How, class Real, std::size_t N, class KernelOf>
void each_token(const char* who, const token_batch<Real>& b, advantage_use use,
                std::type_identity_t<std::span<const Real>> weights, std::type_identity_t<std::span<Real>> out,
                std::span<branch> codes, const std::array<token_array<Real>, N>& arrays, const KernelOf& kernel_of) {
  check_arrays(who, b, use, weights, out.size(), codes.size(), arrays);
  alignas(64) Real kappa[block_length];
  alignas(64) Real constant[block_length];
  alignas(64) std::uint8_t code[block_length];
  const bool per_token = use == advantage_use::needed && b.advantages.empty();
  const bool from_sequence = use == advantage_use::needed && !per_token;
  for (std::size_t i = 0; i < b.size(); ++i) {
    const std::size_t begin = b.begin(i), end = b.end(i);
    if (begin == end) continue;
    const Real weight = weights.empty() ? Real(1) : weights[i];
    const auto kernel = kernel_of(i);
    if (!per_token)  // a loop over an array of equal advantages becomes vector code where one over a scalar does not
      std::fill_n(constant, std::min(end - begin, block_length), from_sequence ? b.advantages[i] : Real(0));
    for (std::size_t t = begin; t < end; t += block_length) {
      const std::size_t n = end - t < block_length ? end - t : block_length;
      const Real* advantages = per_token ? b.token_advantages.data() + t : constant;
      [&]<std::size_t... I>(std::index_sequence<I...>) {
        if (codes.empty())
          fill<false>(n, kappa, code, advantages, kernel, (arrays[I].values.data() + t)...);
        else
          fill<true>(n, kappa, code, advantages, kernel, (arrays[I].values.data() + t)...);
      }
      (std::make_index_sequence<N>{});
      const std::uint8_t* mask = b.mask.empty() ? nullptr : b.mask.data() + t;
      if (!settle<How>(n, weight, mask, kappa, out.data() + t)) {
        std::size_t at = t;
        while (is_finite(out[at])) ++at;
        explain(who, b, begin, end, at, arrays);
      }
      for (std::size_t k = 0; !codes.empty() && k < n; ++k) {
        const branch value = mask == nullptr || mask[k] != 0 ? static_cast<branch>(code[k]) : branch::masked;
        if (How != combine::multiply || value != branch::active) codes[t + k] = value;
      }
    }
  }
}

/// Sum over the active tokens of sequence i of f(t), in double, by eight running sums added in a fixed order: the same
/// bits whatever the instruction set and however the batch is cut. NaN and infinity pass through.
template <class Real, class F>
double sum_active(const token_batch<Real>& b, std::size_t i, const F& f) {
  double lane[8] = {};
  const std::size_t begin = b.begin(i), end = b.end(i);
  std::size_t t = begin;
  if (b.mask.empty()) {
    for (; t + 8 <= end; t += 8)
      for (std::size_t k = 0; k < 8; ++k) lane[k] += static_cast<double>(f(t + k));
    for (std::size_t k = 0; t < end; ++t, ++k) lane[k] += static_cast<double>(f(t));
  } else {
    const std::uint8_t* mask = b.mask.data();
    for (; t + 8 <= end; t += 8)
      for (std::size_t k = 0; k < 8; ++k) lane[k] += mask[t + k] != 0 ? static_cast<double>(f(t + k)) : 0.0;
    for (std::size_t k = 0; t < end; ++t, ++k) lane[k] += mask[t] != 0 ? static_cast<double>(f(t)) : 0.0;
  }
  return ((lane[0] + lane[4]) + (lane[2] + lane[6])) + ((lane[1] + lane[5]) + (lane[3] + lane[7]));
}

/// Active tokens of sequence i.
template <class Real>
std::size_t active_length(const token_batch<Real>& b, std::size_t i) {
  const std::size_t begin = b.begin(i), end = b.end(i);
  if (b.mask.empty()) return end - begin;
  const std::uint8_t* mask = b.mask.data();
  std::size_t n = 0;
  for (std::size_t t = begin; t < end; ++t) n += mask[t] != 0;
  return n;
}

}  // namespace rlvr::detail
