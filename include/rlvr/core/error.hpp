#pragma once
/// The channel for broken preconditions: std::invalid_argument that names argument, index and value.

#include <cstdio>
#include <stdexcept>
#include <string>
#include <string_view>
#include <type_traits>

// Without signed zeros gcc takes x * 0 for 0, also where x is NaN.
#if (defined(__FINITE_MATH_ONLY__) && __FINITE_MATH_ONLY__) || defined(__NO_SIGNED_ZEROS__)
#error "rlvr: -ffast-math, -Ofast and their parts drop checks for NaN and infinity. Add -fno-fast-math behind them."
#endif

namespace rlvr {

namespace detail {

inline void append_part(std::string& out, std::string_view part) { out += part; }

template <class T>
  requires std::is_arithmetic_v<T>
void append_part(std::string& out, T part) {
  if constexpr (std::is_floating_point_v<T>) {
    char text[32];
    std::snprintf(text, sizeof text, "%.9g", static_cast<double>(part));
    out += part == part ? text : "nan";  // whatever its sign
  } else {
    out += std::to_string(part);
  }
}

}  // namespace detail

/// Joins text and numbers into one message.
template <class... Parts>
std::string concat(const Parts&... parts) {
  std::string out;
  (detail::append_part(out, parts), ...);
  return out;
}

/// Throws std::invalid_argument with the joined parts when `ok` is false.
/// The message is only built when it is needed.
template <class... Parts>
void require(bool ok, const Parts&... parts) {
  if (!ok) throw std::invalid_argument(concat(parts...));
}

/// Whether x is neither infinite nor NaN. std::isfinite costs <cmath>, two thirds of what <vector> costs.
constexpr bool is_finite(double x) { return x - x == 0; }

}  // namespace rlvr
