#pragma once
/// The names that expressions know.

#include <string_view>

#include <rlvr/verify/math_expression.hpp>

namespace rlvr::detail {

struct named_operation {
  std::string_view name;
  operation op;
};
inline constexpr named_operation math_functions[] = {
    {"sin", operation::sin},       {"cos", operation::cos},       {"tan", operation::tan},
    {"cot", operation::cot},       {"sec", operation::sec},       {"csc", operation::csc},
    {"arcsin", operation::arcsin}, {"arccos", operation::arccos}, {"arctan", operation::arctan},
    {"sinh", operation::sinh},     {"cosh", operation::cosh},     {"tanh", operation::tanh},
    {"ln", operation::log},        {"log", operation::log10},     {"exp", operation::exp},
    {"sqrt", operation::sqrt}};
inline constexpr named_operation math_constants[] = {
    {"pi", operation::pi}, {"infty", operation::infinity}, {"inf", operation::infinity}};
/// Commands that are names of variables, besides all of one letter.
inline constexpr std::string_view math_letters[] = {
    "alpha",  "beta",  "gamma", "delta", "epsilon", "varepsilon", "zeta", "eta", "theta",  "iota", "kappa",
    "lambda", "mu",    "nu",    "xi",    "rho",     "sigma",      "tau",  "phi", "varphi", "chi",  "psi",
    "omega",  "Gamma", "Delta", "Theta", "Lambda",  "Sigma",      "Phi",  "Psi", "Omega",  "ell"};

}  // namespace rlvr::detail
