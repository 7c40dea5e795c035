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
#include <rlvr/core/exponential.hpp>
#include <rlvr/objective/branch.hpp>
#include <rlvr/objective/token_batch.hpp>

namespace rlvr::detail {

/// A token array with the name that messages call it by.
template <class Real>
struct token_array {
  const char* name;
  std::span<const Real> values;
};

/// The unsigned integer of a value's width.
template <class Real>
using bits_of = std::conditional_t<sizeof(Real) == 4, std::uint32_t, std::uint64_t>;

/// A branch as wide as a value: vector code that chooses between bytes and between values at once is slow.
template <class Real>
struct wide_branch {
  bits_of<Real> value;

  constexpr wide_branch(branch b) : value(static_cast<bits_of<Real>>(b)) {}
  /// This branch, or where the condition holds another.
  constexpr wide_branch or_if(bool condition, branch other) const {
    wide_branch out = other;
    out.value = condition ? out.value : value;
    return out;
  }
};

/// What a kernel says of one token.
template <class Real>
struct token_value {
  Real kappa;
  wide_branch<Real> code = branch::active;
};

/// A kernel in two passes over a block: second(advantage, first(advantage, x...), x...). A processor looks some hundred
/// instructions ahead, and where one token's depend on each other over a longer way than that, vector units idle.
template <class First, class Second>
struct two_pass_kernel {
  First first;
  Second second;
};
template <class First, class Second>
two_pass_kernel(First, Second) -> two_pass_kernel<First, Second>;

/// x, clamped to [least, most], least < 0 < most, by two integer instructions: the bits of negative numbers grow with
/// the magnitude. A NaN becomes least or most; infinite and NaN inputs are found elsewhere. Written so that
/// gcc 12 sees a minimum at once: a conversion of the choice, or std::min's references, would leave a branch.
template <class Real>
Real clamp_around_zero(Real x, Real least, Real most) {
  using bits = bits_of<Real>;
  using signed_bits = std::make_signed_t<bits>;
  const bits own = std::bit_cast<bits>(x), low = std::bit_cast<bits>(least), raised = own < low ? own : low;
  const signed_bits value = static_cast<signed_bits>(raised), high = std::bit_cast<signed_bits>(most);
  return std::bit_cast<Real>(value < high ? value : high);
}

/// x >= 0, clamped to [least, most], in the same way; most where most < least. Neither may be -0.
template <class Real>
Real clamp_positive(Real x, Real least, Real most) {
  using bits = bits_of<Real>;
  const bits own = std::bit_cast<bits>(x), low = std::bit_cast<bits>(least), high = std::bit_cast<bits>(most);
  const bits raised = own > low ? own : low;
  return std::bit_cast<Real>(raised < high ? raised : high);
}

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

inline constexpr std::size_t block_length = 128;
/// How many tokens ahead of a block memory is asked for: the processor itself does so late in a long loop body.
inline constexpr std::size_t fetched_ahead = 512;

/// Tokens [begin, begin + n) of one sequence: kernel, mask (`keep` has all bits set, or none), weight and combination
/// in one loop (two for a two_pass_kernel) without branches over contiguous arrays. False when a result is not finite.
/// Adding 0 x makes a result NaN when an input is infinite or NaN, whatever the kernel's comparisons do; magnitudes are
/// compared as integers, whose maximum is vector code. `advantages` is an array, or the one of all tokens. flatten: a
/// call that is left in the loop costs a factor of ten.
template <combine How, bool Coded, class Real, class Advantages, class Kernel, class... In>
[[gnu::flatten]] bool fill(std::size_t n, Real weight, const bits_of<Real>* keep, Real* out, bits_of<Real>* codes,
                           Advantages advantages, Kernel kernel, const In*... in) {
  using bits = bits_of<Real>;
  constexpr bool each = std::is_pointer_v<Advantages>;
  constexpr bool twice = requires { kernel.first; };
  const auto advantage = [advantages](std::size_t t) {
    if constexpr (each)
      return advantages[t];
    else
      return advantages;
  };
  alignas(64) Real first[twice ? block_length : 1];
  if constexpr (twice)
    for (std::size_t t = 0; t < n; ++t) first[t] = kernel.first(advantage(t), in[t]...);
  bits largest = 0;
  for (std::size_t t = 0; t < n; ++t) {
    const Real a = advantage(t);
    token_value<Real> v{};
    if constexpr (twice)
      v = kernel.second(a, first[t], in[t]...);
    else
      v = kernel(a, in[t]...);
    Real nothing = 0;
    if constexpr (each) nothing += Real(0) * a;
    ((nothing += Real(0) * in[t]), ...);
    Real value = (v.kappa + nothing) * weight;
    value = std::bit_cast<Real>(std::bit_cast<bits>(value) & keep[t]);
    if constexpr (How == combine::add) value += out[t];
    if constexpr (How == combine::multiply) value *= out[t];
    out[t] = value;
    if constexpr (Coded) codes[t] = v.code.value & keep[t];
    const bits magnitude = std::bit_cast<bits>(value) & (~bits{0} >> 1);
    largest = magnitude > largest ? magnitude : largest;
  }
  return largest < std::bit_cast<bits>(std::numeric_limits<Real>::infinity());
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
  using bits = bits_of<Real>;
  check_arrays(who, b, use, weights, out.size(), codes.size(), arrays);
  alignas(64) bits keep[block_length];
  alignas(64) bits code[block_length];
  if (b.mask.empty()) std::fill_n(keep, block_length, ~bits{0});
  const bool per_token = use == advantage_use::needed && b.advantages.empty();
  for (std::size_t i = 0; i < b.size(); ++i) {
    const std::size_t begin = b.begin(i), end = b.end(i);
    if (begin == end) continue;
    const Real weight = weights.empty() ? Real(1) : weights[i];
    const Real advantage = use == advantage_use::needed && !per_token ? b.advantages[i] : Real(0);
    const auto kernel = kernel_of(i);
    for (std::size_t t = begin; t < end; t += block_length) {
      const std::size_t n = end - t < block_length ? end - t : block_length;
      for (std::size_t k = t + fetched_ahead; k < std::min(t + fetched_ahead + n, b.tokens()); k += 64 / sizeof(Real)) {
        for (const token_array<Real>& a : arrays) __builtin_prefetch(a.values.data() + k);
        __builtin_prefetch(out.data() + k, 1);
      }
      if (!b.mask.empty()) {
        const std::uint8_t* mask = b.mask.data() + t;
        for (std::size_t k = 0; k < n; ++k) keep[k] = bits{0} - static_cast<bits>(mask[k] != 0);
      }
      const auto run = [&]<bool Coded, std::size_t... I>(auto advantages, std::index_sequence<I...>) {
        return fill<How, Coded>(n, weight, keep, out.data() + t, code, advantages, kernel,
                                (arrays[I].values.data() + t)...);
      };
      constexpr auto all = std::make_index_sequence<N>{};
      const Real* own = per_token ? b.token_advantages.data() + t : nullptr;
      const bool sound = per_token ? (codes.empty() ? run.template operator()<false>(own, all)
                                                    : run.template operator()<true>(own, all))
                                   : (codes.empty() ? run.template operator()<false>(advantage, all)
                                                    : run.template operator()<true>(advantage, all));
      if (!sound) {
        std::size_t at = t;
        while (is_finite(out[at])) ++at;
        explain(who, b, begin, end, at, arrays);
      }
      if (codes.empty()) continue;
      static_assert(static_cast<bits>(branch::masked) == 0, "keep makes it so");
      branch* to = codes.data() + t;
      for (std::size_t k = 0; k < n; ++k) {
        const branch value = static_cast<branch>(code[k]);
        to[k] = How != combine::multiply || value != branch::active ? value : to[k];
      }
    }
  }
}

/// Sum over the active tokens of sequence i of f(t), in double, by 32 running sums added in a fixed order: the same
/// bits whatever the instruction set and however the batch is cut. f is called at tokens outside the mask too. NaN and
/// infinity pass through.
template <class Real, class F>
[[gnu::flatten]] double sum_active(const token_batch<Real>& b, std::size_t i, const F f) {
  constexpr std::size_t lanes = 32;
  double lane[lanes] = {};
  const std::size_t begin = b.begin(i), end = b.end(i);
  const std::uint8_t* mask = b.mask.data();
  const auto add = [&](std::size_t t, std::size_t n) {
    if (mask == nullptr)
      for (std::size_t k = 0; k < n; ++k) lane[k] += static_cast<double>(f(t + k));
    else
      for (std::size_t k = 0; k < n; ++k) {
        const auto value = f(t + k);
        lane[k] += static_cast<double>(select(mask[t + k] != 0, value, decltype(f(t))(0)));
      }
  };
  std::size_t t = begin;
  for (; t + lanes <= end; t += lanes) add(t, lanes);
  add(t, end - t);
  for (std::size_t half = lanes / 2; half > 0; half /= 2)
    for (std::size_t k = 0; k < half; ++k) lane[k] += lane[k + half];
  return lane[0];
}

}  // namespace rlvr::detail
