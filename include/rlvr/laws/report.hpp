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
#include <set>
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

/// Collects violations. A law that is seen broken many times is one sentence, with the numbers of the first time.
class report {
 public:
  explicit report(const law_options& options) : tolerance_(options.tolerance) {}

  void fail(std::string_view law, std::string_view numbers = {}) {
    ++count_;
    if (!said_.emplace(law).second) return;
    broken_.push_back(concat(law, numbers));
  }
  void check(bool holds, std::string_view law) {
    if (!holds) fail(law);
  }
  /// |got - expected| <= tolerance * scale; false for NaN.
  void near(double got, double expected, double scale, std::string_view law) {
    if (!(std::fabs(got - expected) <= tolerance_ * scale))
      fail(law, concat(": got ", text(got), ", expected ", text(expected)));
  }
  /// The same value, bit for bit but for the sign of zero.
  void same(double got, double expected, std::string_view law) {
    if (!(got == expected)) fail(law, concat(": got ", text(got), ", expected exactly ", text(expected)));
  }
  /// |got - expected| <= tolerance * (|got| + |expected| + scale) in the norm of the space; scale stands for
  /// cancelled terms.
  template <vector_space S>
  void near(const S& space, const vector_t<S>& got, const vector_t<S>& expected, double scale,
            std::string_view law) {
    const double off = distance(space, got, expected);
    if (!(off <= tolerance_ * (norm(space, got) + norm(space, expected) + scale)))
      fail(law, concat(": off by ", text(off), " where the norm is ", text(norm(space, expected))));
  }
  /// got - expected is exactly zero.
  template <vector_space S>
  void same(const S& space, const vector_t<S>& got, const vector_t<S>& expected, std::string_view law) {
    const double off = distance(space, got, expected);
    if (!(off == 0)) fail(law, concat(": off by ", text(off), ", expected exactly equal"));
  }
  /// f() throws std::invalid_argument.
  template <class F>
  void rejects(const F& f, std::string_view law) {
    try {
      f();
    } catch (const std::invalid_argument&) {
      return;
    } catch (const std::exception& e) {
      return fail(law, concat(": expected std::invalid_argument, got another exception: ", std::string_view(e.what())));
    }
    fail(law, ": expected std::invalid_argument");
  }

  double tolerance() const { return tolerance_; }
  /// How many checks have failed.
  std::size_t count() const { return count_; }
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
  std::size_t count_ = 0;
  std::set<std::string> said_;
  violations broken_;
};

/// What a suite finds; where it throws, that it did, so that what others found is not lost.
template <class Suite>
violations tried(std::string_view name, const Suite& suite) {
  try {
    return suite();
  } catch (const std::exception& e) {
    return {concat(name, ": threw ", std::string_view(e.what()))};
  }
}

}  // namespace rlvr::laws
