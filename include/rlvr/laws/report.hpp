#pragma once
/// What a law suite returns, and how it judges.
///
/// A law suite is a template without a test framework: it takes a model of a concept, tries what the concept
/// promises, and returns the laws it saw broken, with numbers. An empty list means that nothing was caught:
///
///     for (const std::string& broken : rlvr::laws::vector_space_laws(space, fill)) FAIL(broken);

#include <cmath>
#include <cstddef>
#include <cstdio>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <rlvr/core/error.hpp>
#include <rlvr/core/norm.hpp>
#include <rlvr/core/vector_space.hpp>

namespace rlvr::laws {

/// The laws broken, one sentence each.
using violations = std::vector<std::string>;

/// How far rounding may carry results that are equal in exact arithmetic, relative to the sizes involved.
/// About 1e-10 for spaces of doubles, 1e-5 for floats.
struct law_options {
  double tolerance = 1e-10;
};

/// A new vector equal to x.
template <vector_space S>
vector_t<S> copy_of(const S& space, const vector_t<S>& x) {
  vector_t<S> y = space.zero();
  space.assign(y, x);
  return y;
}

/// Collects violations.
class report {
 public:
  explicit report(const law_options& options) : tolerance_(options.tolerance) {}

  void fail(std::string_view law) { broken_.emplace_back(law); }
  void check(bool holds, std::string_view law) {
    if (!holds) fail(law);
  }
  /// |got - expected| <= tolerance * scale; false for NaN.
  void near(double got, double expected, double scale, std::string_view law) {
    if (!(std::fabs(got - expected) <= tolerance_ * scale))
      fail(concat(law, ": got ", text(got), ", expected ", text(expected)));
  }
  /// The same value, bit for bit but for the sign of zero.
  void same(double got, double expected, std::string_view law) {
    if (!(got == expected)) fail(concat(law, ": got ", text(got), ", expected exactly ", text(expected)));
  }
  /// |got - expected| <= tolerance * (|got| + |expected| + scale) in the norm of the space; scale stands for
  /// cancelled terms.
  template <vector_space S>
  void near(const S& space, const vector_t<S>& got, const vector_t<S>& expected, double scale,
            std::string_view law) {
    const double off = distance(space, got, expected);
    if (!(off <= tolerance_ * (norm(space, got) + norm(space, expected) + scale)))
      fail(concat(law, ": off by ", text(off), " where the norm is ", text(norm(space, expected))));
  }
  /// got - expected is exactly zero.
  template <vector_space S>
  void same(const S& space, const vector_t<S>& got, const vector_t<S>& expected, std::string_view law) {
    const double off = distance(space, got, expected);
    if (!(off == 0)) fail(concat(law, ": off by ", text(off), ", expected exactly equal"));
  }
  /// f() throws std::invalid_argument.
  template <class F>
  void rejects(const F& f, std::string_view law) {
    try {
      f();
    } catch (const std::invalid_argument&) {
      return;
    } catch (const std::exception& e) {
      return fail(concat(
          law, ": expected std::invalid_argument, got another exception: ", std::string_view(e.what())));
    }
    fail(concat(law, ": expected std::invalid_argument"));
  }

  double tolerance() const { return tolerance_; }
  std::size_t count() const { return broken_.size(); }
  violations take() { return std::move(broken_); }

  /// Nine significant digits.
  static std::string text(double x) {
    char buffer[32];
    std::snprintf(buffer, sizeof buffer, "%.9g", x);
    return buffer;
  }

 private:
  template <vector_space S>
  static double distance(const S& space, const vector_t<S>& x, const vector_t<S>& y) {
    vector_t<S> difference = copy_of(space, x);
    space.axpy(-1.0, y, difference);
    return norm(space, difference);
  }

  double tolerance_;
  violations broken_;
};

}  // namespace rlvr::laws
