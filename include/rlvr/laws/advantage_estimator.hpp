#pragma once
/// The laws of advantage_estimator.

#include <cmath>
#include <cstddef>
#include <limits>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <rlvr/advantage/advantage_estimator.hpp>
#include <rlvr/core/error.hpp>
#include <rlvr/core/random.hpp>
#include <rlvr/core/rollouts.hpp>
#include <rlvr/laws/report.hpp>

namespace rlvr::laws {

/// Whether an estimator promises something.
enum class promised { no, yes };

/// What multiplying all rewards by a positive number does to advantages: no promise, nothing, or the same to them.
enum class under_scaling { anything, invariant, proportional };

struct advantage_estimator_options {
  double tolerance = 1e-9;                 ///< for results that are equal in exact arithmetic
  lone_rollout lone = lone_rollout::zero;  ///< what the estimator was asked to do; reward also stands for anything else
  // What advantage_estimator says of estimators whose docstring does not say otherwise:
  promised shift = promised::yes;  ///< a constant added to the rewards of one group changes nothing
  promised equal = promised::yes;  ///< equal rewards give exact zeros
  // What only some promise:
  promised zero_sum = promised::no;  ///< the advantages of each group sum to zero
  promised local = promised::no;     ///< a group's advantages do not depend on the other groups
  under_scaling scale = under_scaling::anything;
  double least = -2, most = 2;  ///< the rewards that the estimator accepts
};

/// Tries what advantage_estimator promises on batches of its own: rewards of 0 and 1 and of any size, groups of
/// different sizes, unscored rollouts, other orders. `a` has whatever options it was made with.
///
/// Last, and only where nothing else was found broken, come the errors: an estimator that does not check its arguments
/// (check_verdicts does) may read or write where it must not, and findings would be lost with the process. For the same
/// reason an empty group, and then groups that reach past the verdicts, are passed only when all before was refused.
template <advantage_estimator A>
violations advantage_estimator_laws(const A& a, const advantage_estimator_options& options = {}) {
  report out({options.tolerance});
  constexpr double nan = std::numeric_limits<double>::quiet_NaN();

  // Eight groups of 4 to 11 rollouts; the even ones with rewards 0 and 1, the odd ones with any.
  std::vector<verdict> batch;
  groups g;
  for (std::size_t group = 0; group < 8; ++group) {
    for (std::size_t i = 0; i < 4 + group; ++i) {
      const double u = random_key(group).uniform(i);
      batch.push_back(
          {group % 2 == 0 ? static_cast<double>(i % 3 == 0) : options.least + (options.most - options.least) * u});
    }
    g.offsets.push_back(batch.size());
  }
  const std::vector<double> whole = a(batch, g);
  if (whole.size() != batch.size()) {
    out.fail(concat("shapes: ", whole.size(), " advantages for ", batch.size(), " verdicts"));
    return out.take();
  }
  for (std::size_t i = 0; i < whole.size(); ++i)
    if (!std::isfinite(whole[i])) {
      out.fail(concat("finite: advantage ", i, " is ", whole[i]));
      return out.take();
    }
  bool some = false;
  for (double x : whole) some = some || x != 0;
  out.check(some, "signal: rewards that differ give advantages other than zero");
  out.check(a(batch, g) == whole, "pure: the same arguments again");

  /// Compares with `whole`, rollout i of the batch standing at place[i].
  const auto compare = [&](const std::vector<double>& got, const std::vector<std::size_t>& place,
                           std::string_view law) {
    for (std::size_t i = 0; i < place.size(); ++i)
      if (!(place[i] < got.size() &&
            std::fabs(got[place[i]] - whole[i]) <= options.tolerance * (1 + std::fabs(whole[i])))) {
        out.fail(
            concat(law, ": advantage ", i, " was ", whole[i], " and is ", place[i] < got.size() ? got[place[i]] : nan));
        return;
      }
  };
  std::vector<std::size_t> same_place(batch.size()), mirrored(batch.size()), spread(batch.size());
  for (std::size_t i = 0; i < batch.size(); ++i) same_place[i] = i;

  if (options.shift == promised::yes)
    for (double constant : {3.0, -1000.0}) {
      std::vector<verdict> moved = batch;
      for (verdict& v : moved) v.reward += constant;
      compare(a(moved, g), same_place, concat("shift: adding ", constant, " to all rewards changes nothing"));
      moved = batch;
      for (std::size_t i = g.begin(3); i < g.end(3); ++i) moved[i].reward += constant;
      if (options.local == promised::yes)
        compare(a(moved, g), same_place, concat("shift: adding ", constant, " to one group's rewards changes nothing"));
    }
  if (options.zero_sum == promised::yes)
    for (std::size_t group = 0; group < g.size(); ++group) {
      double sum = 0, size = 0;
      for (std::size_t i = g.begin(group); i < g.end(group); ++i) {
        sum += whole[i];
        size += std::fabs(whole[i]);
      }
      out.near(sum, 0, 1 + size, concat("zero sum: of group ", group));
    }
  if (options.local == promised::yes) {
    std::vector<verdict> other = batch;
    for (std::size_t i = g.begin(5); i < g.end(5); ++i) other[i].reward = options.least;
    std::vector<double> got = a(other, g);
    for (std::size_t i = g.begin(5); i < g.end(5) && i < got.size(); ++i) got[i] = whole[i];
    compare(got, same_place, "local: another group's rewards change nothing");
  }
  if (options.scale != under_scaling::anything) {
    std::vector<verdict> larger = batch;
    for (verdict& v : larger) v.reward *= 4;
    std::vector<double> got = a(larger, g);
    if (options.scale == under_scaling::proportional)
      for (double& x : got) x /= 4;
    compare(got, same_place, "scale: four times the rewards");
  }
  {
    std::vector<verdict> turned(batch.size());
    for (std::size_t group = 0; group < g.size(); ++group)
      for (std::size_t i = g.begin(group); i < g.end(group); ++i) {
        mirrored[i] = g.begin(group) + g.end(group) - 1 - i;
        turned[mirrored[i]] = batch[i];
      }
    compare(a(turned, g), mirrored, "permutation: advantages follow their rollouts");
  }
  {
    std::vector<verdict> turned;
    groups order;
    std::vector<std::size_t> place(batch.size());
    for (std::size_t group = g.size(); group-- > 0;) {
      for (std::size_t i = g.begin(group); i < g.end(group); ++i) {
        place[i] = turned.size();
        turned.push_back(batch[i]);
      }
      order.offsets.push_back(turned.size());
    }
    compare(a(turned, order), place, "order: advantages follow their groups");
  }
  {
    // Before each rollout of every group an unscored one, with rewards that would show.
    std::vector<verdict> wider;
    groups wide;
    for (std::size_t group = 0; group < g.size(); ++group) {
      for (std::size_t i = g.begin(group); i < g.end(group); ++i) {
        wider.push_back({i % 3 == 0 ? nan : 100.0 * static_cast<double>(i), false});
        spread[i] = wider.size();
        wider.push_back(batch[i]);
      }
      wide.offsets.push_back(wider.size());
    }
    const std::vector<double> got = a(wider, wide);
    compare(got, spread, "unscored: enters no statistic");
    for (std::size_t i = 0; i < got.size(); ++i)
      if (!wider[i].scored && got[i] != 0) {
        out.fail(concat("unscored: has advantage ", got[i], ", expected exactly 0"));
        break;
      }
  }
  // 0.1 has no finite binary form: sums of it are not multiples of it.
  for (double reward : {0.0, 1.0, 0.1, -1e6, 1e-300})
    for (std::size_t size : {2u, 3u, 7u, 16u}) {
      if (options.equal == promised::no || (reward < 0 && options.least >= 0)) break;
      groups one;
      one.offsets.push_back(size);
      for (double x : a(std::vector<verdict>(size, verdict{reward}), one))
        if (x != 0) {
          out.fail(concat("equal: ", size, " rewards of ", reward, " give the advantage ", x, ", expected exactly 0"));
          break;
        }
    }
  {
    groups lone;
    lone.offsets = {0, 1, 3};
    const std::vector<double> got = a(std::vector<verdict>{{0.75}, {7.0, false}, {0.75}}, lone);
    for (std::size_t i : {0u, 2u})
      out.check(got.size() == 3 && (options.lone == lone_rollout::zero ? got[i] == 0 : got[i] != 0),
                concat("lone: one scored rollout in a group gets ",
                       options.lone == lone_rollout::zero ? "exactly 0" : "something"));
  }
  out.check(a(std::vector<verdict>{}, groups{}).empty(), "empty: no verdicts give no advantages");

  // Errors.
  if (out.count() > 0) {
    out.fail("errors: not tried while other laws are broken");
    return out.take();
  }
  for (double bad : {nan, std::numeric_limits<double>::infinity(), -std::numeric_limits<double>::infinity()}) {
    std::vector<verdict> damaged = batch;
    damaged[17].reward = bad;
    out.rejects([&] { (void)a(damaged, g); }, concat("errors: a scored reward of ", bad));
    try {
      (void)a(damaged, g);
    } catch (const std::invalid_argument& e) {
      out.check(std::string_view(e.what()).find("17") != std::string_view::npos,
                concat("errors: a scored reward of ", bad, " is named by its index"));
    } catch (...) {  // found by rejects
    }
  }
  const auto rejects = [&](const std::vector<std::size_t>& offsets, std::string_view law) {
    groups wrong;
    wrong.offsets = offsets;
    out.rejects([&] { (void)a(std::vector<verdict>{{0}, {1}, {0}, {1}}, wrong); }, law);
  };
  rejects({0, 2}, "errors: groups that do not cover the verdicts");
  if (out.count() == 0) rejects({0, 2, 2, 4}, "errors: an empty group");
  if (out.count() == 0) rejects({0, 2, 5}, "errors: groups that go past the verdicts");
  return out.take();
}

}  // namespace rlvr::laws
