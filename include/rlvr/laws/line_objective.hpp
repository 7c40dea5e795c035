#pragma once
/// The laws of line_objective.

#include <cmath>
#include <cstddef>
#include <span>
#include <vector>

#include <rlvr/core/error.hpp>
#include <rlvr/laws/report.hpp>
#include <rlvr/search/line_objective.hpp>

namespace rlvr::laws {

/// Tries what line_objective promises at 0 and at these alphas: the same point for the same alpha in whatever
/// order, and a finite base. Two evaluations of each; an objective that remembers its alphas is only as
/// well tested as its memory, so hand over a second one of the same making as `again`.
template <line_objective F, line_objective G>
violations line_objective_laws(F& f, G& again, std::span<const double> alphas,
                               const law_options& options = {}) {
  report out(options);
  std::vector<double> steps{0.0};
  steps.insert(steps.end(), alphas.begin(), alphas.end());
  std::vector<line_point> forward;
  for (double alpha : steps) forward.push_back(evaluate_at(f, alpha));

  const line_point& base = forward.front();
  out.check(std::isfinite(base.value), concat("base: the value at alpha = 0 is ", base.value));
  out.near(base.kl, 0, 1, "base: kl at alpha = 0");
  out.check(base.entropy >= 0 && std::isfinite(base.entropy),
            concat("base: the entropy at alpha = 0 is ", base.entropy));
  out.check(base.length >= 0 && std::isfinite(base.length),
            concat("base: the length at alpha = 0 is ", base.length));

  const auto same = [](double x, double y) { return x == y || (std::isnan(x) && std::isnan(y)); };
  for (std::size_t i = steps.size(); i-- > 0;) {
    const line_point point = evaluate_at(again, steps[i]);
    if (!same(point.value, forward[i].value) || !same(point.kl, forward[i].kl) ||
        !same(point.entropy, forward[i].entropy) || !same(point.length, forward[i].length) ||
        !same(point.survival, forward[i].survival))
      out.fail(concat("pure: at alpha = ", steps[i], " the value was ", forward[i].value, " and is ", point.value,
                      ", or what is watched differs"));
  }
  return out.take();
}

/// The same with f itself evaluated twice.
template <line_objective F>
violations line_objective_laws(F& f, std::span<const double> alphas, const law_options& options = {}) {
  return line_objective_laws(f, f, alphas, options);
}

}  // namespace rlvr::laws
