#pragma once
/// A text verifier chosen by name, for command lines and configuration files.

#include <stdexcept>
#include <string_view>
#include <utility>

#include <rlvr/core/error.hpp>
#include <rlvr/verify/exact.hpp>
#include <rlvr/verify/numeric.hpp>

namespace rlvr {

/// The names that with_verifier knows.
inline constexpr std::string_view verifier_names = "exact, exact_after_equals, numeric";

/// Calls f with the verifier of that name and returns what it returns; f takes any text_verifier and has one
/// return type.
///
/// | name | verifier |
/// |---|---|
/// | exact | exact_verifier{} |
/// | exact_after_equals | exact_verifier{.marker = "="} |
/// | numeric | numeric_verifier{} |
///
/// Throws std::invalid_argument that lists the names when there is none of that name.
template <class F>
decltype(auto) with_verifier(std::string_view name, F&& f) {
  if (name == "exact") return std::forward<F>(f)(exact_verifier{});
  if (name == "exact_after_equals") return std::forward<F>(f)(exact_verifier{.marker = "="});
  if (name == "numeric") return std::forward<F>(f)(numeric_verifier{});
  throw std::invalid_argument(concat("unknown verifier \"", name, "\"; known are ", verifier_names));
}

}  // namespace rlvr
