#pragma once
/// The laws of optimizer.

#include <cstddef>
#include <limits>
#include <utility>

#include <rlvr/core/error.hpp>
#include <rlvr/core/norm.hpp>
#include <rlvr/core/vector_space.hpp>
#include <rlvr/laws/report.hpp>
#include <rlvr/optimize/optimizer.hpp>

namespace rlvr::laws {

/// What optimizer_laws needs: a call gives a new optimizer, which need not be copyable or movable.
template <class Make, class S>
concept makes_optimizer = optimizer<decltype(std::declval<const Make&>()()), S>;

/// Tries what optimizer promises. `make()` returns a new optimizer for `space`, always with the same options and a
/// learning rate above 0. `fill` as for vector_space_laws, which should hold. Only the operations of the space are
/// used, so that the vectors may live on a device. About 30 steps.
template <vector_space S, makes_optimizer<S> Make, class Fill>
violations optimizer_laws(const S& space, const Make& make, const Fill& fill, const law_options& options = {}) {
  report out(options);
  const auto filled = [&](std::size_t index) {
    vector_t<S> v = space.zero();
    fill(v, index);
    return v;
  };
  const vector_t<S> x = filled(0), y = filled(1), start = filled(2);
  const auto first_step = [&](const vector_t<S>& gradient, double factor) {
    auto o = make();
    vector_t<S> theta = space.zero();
    o.step(space, theta, gradient, factor);
    return theta;
  };

  // The direction and the length of a step.
  const vector_t<S> whole = first_step(x, 1.0);
  const double length = norm(space, whole);
  out.check(space.dot(whole, x) > 0, "ascent: the first step from 0 leads uphill");
  {
    vector_t<S> half = first_step(x, 0.5);
    space.scale(2.0, half);
    out.near(space, half, whole, length, "factor: the first step from 0 is proportional to it");
    auto o = make();
    vector_t<S> theta = copy_of(space, start);
    o.step(space, theta, y, 1.0);
    const vector_t<S> before = copy_of(space, theta);
    o.step(space, theta, x, 0.0);
    out.same(space, theta, before, "factor: 0 leaves theta as it is");
  }
  const vector_t<S> still = first_step(space.zero(), 1.0);
  out.same(space.dot(still, still), 0, "zero gradient: without momentum or weight to decay, nothing moves");

  // A function of the state and the arguments.
  const double factors[] = {1.0, 0.25, 0.5};
  const vector_t<S>* const gradients[] = {&x, &y, &x};
  const auto run = [&](auto between) {
    auto o = make();
    vector_t<S> theta = copy_of(space, start);
    for (std::size_t i = 0; i < 3; ++i) {
      between(o, theta);
      o.step(space, theta, *gradients[i], factors[i]);
    }
    return theta;
  };
  const vector_t<S> end = run([](auto&, vector_t<S>&) {});
  out.same(space, run([](auto&, vector_t<S>&) {}), end, "pure: the same steps again");
  {
    auto other = make();
    vector_t<S> elsewhere = copy_of(space, y);
    out.same(space, run([&](auto&, vector_t<S>&) { other.step(space, elsewhere, y, 1.0); }), end,
             "state: steps of another optimizer change nothing");
  }
  {
    auto o = make();
    vector_t<S> even = copy_of(space, start), odd = space.zero();
    o.step(space, even, *gradients[0], factors[0]);
    space.assign(odd, even);
    o.step(space, odd, *gradients[1], factors[1]);
    space.assign(even, odd);
    o.step(space, even, *gradients[2], factors[2]);
    out.same(space, even, end, "state: theta may be another object at each step");
  }
  {
    auto o = make();
    vector_t<S> theta = copy_of(space, start), reused = space.zero();
    for (std::size_t i = 0; i < 3; ++i) {
      space.assign(reused, *gradients[i]);
      o.step(space, theta, reused, factors[i]);
      out.same(space, reused, *gradients[i], "gradient: is not changed");
      space.scale(-1.0, reused);
    }
    out.same(space, theta, end, "state: the gradient may be written over after a step");
  }

  // Errors.
  for (const double bad : {-1.0, std::numeric_limits<double>::infinity(), std::numeric_limits<double>::quiet_NaN()}) {
    const vector_t<S> after = run([&](auto& o, vector_t<S>& theta) {
      const vector_t<S> before = copy_of(space, theta);
      out.rejects([&] { o.step(space, theta, y, bad); }, concat("errors: factor ", bad));
      out.same(space, theta, before, concat("errors: factor ", bad, " leaves theta as it is"));
    });
    out.same(space, after, end, concat("errors: factor ", bad, " leaves the state as it is"));
  }
  return out.take();
}

}  // namespace rlvr::laws
