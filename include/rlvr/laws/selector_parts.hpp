#pragma once
/// The laws of tracker, draw and group_entropy.

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <span>
#include <vector>

#include <rlvr/core/error.hpp>
#include <rlvr/core/random.hpp>
#include <rlvr/core/saved_state.hpp>
#include <rlvr/diagnose/group_entropy.hpp>
#include <rlvr/laws/report.hpp>
#include <rlvr/select/draw.hpp>
#include <rlvr/select/selector.hpp>

namespace rlvr::laws {

/// Tries on a copy of t: what is observed of a prompt leaves the state of all others' visits alone (their saved arrays
/// change in one place at most), the clock never goes back, and a saved state is restored exactly. `outcomes` is called
/// with an index and a step. `same(a, b)` says whether two beliefs are equal. The pool has at least 2 prompts.
template <tracker T, class Outcomes, class Same>
violations tracker_laws(T t, Outcomes&& outcomes, Same&& same) {
  report laws{law_options{}};
  const std::size_t n = t.size();
  laws.check(n >= 2, "tracker_laws: the pool needs two prompts");
  if (n < 2) return laws.take();
  for (std::uint64_t i = 0; i < 60; ++i) {
    const auto id = static_cast<prompt_id>(random_key(3).below(n, i));
    const std::uint64_t step = 1 + i / 4;
    const pool_clock before = t.clock();
    const auto other = t[static_cast<prompt_id>((id + 1) % n)];
    t.observe(id, outcomes(i, step));
    const pool_clock now = t.clock();
    laws.check(now.step == std::max(before.step, step), "the clock stands at the largest step observed");
    laws.check(std::isfinite(now.visits) && now.visits >= 0, "the clock's visits are a number");
    if (now.step == before.step)
      laws.check(same(other, t[static_cast<prompt_id>((id + 1) % n)]), "a visit changes no belief but its prompt's");
    T late = t;
    late.observe(id, outcomes(i + 100, 0));
    laws.check(late.clock().step == now.step, "a late outcome does not turn the clock back");
  }
  T again = t;
  again.observe(0, outcomes(1, 50));
  restore_state(again, save_state(t));
  for (std::size_t i = 0; i < n; ++i)
    laws.check(same(t[static_cast<prompt_id>(i)], again[static_cast<prompt_id>(i)]), "a restored belief is the saved one");
  return laws.take();
}

/// Tries what draw promises with random scores in [0, 1): distinct candidates of the list, a pure function of the key,
/// nothing outside the list scored, too many refused, and another key gives another choice or the same best ones.
template <draw D>
violations draw_laws(const D& d) {
  report laws{law_options{}};
  for (const std::size_t n : {std::size_t{1}, std::size_t{6}, std::size_t{300}}) {
    const std::vector<prompt_id> all = [n] {
      std::vector<prompt_id> ids(n);
      for (std::size_t j = 0; j < n; ++j) ids[j] = static_cast<prompt_id>(3 * j + 1);
      return ids;
    }();
    const std::span<const prompt_id> some(all);
    bool inside = true;
    const auto score = [&](prompt_id id) {
      inside = inside && id % 3 == 1 && id < 3 * n;
      return random_key(9).uniform(id);
    };
    for (const std::size_t k : {std::size_t{0}, std::size_t{1}, n / 2, n}) {
      std::vector<prompt_id> out(k), same(k);
      d(candidate_list(some), score, std::span<prompt_id>(out), random_key(4));
      d(candidate_list(some), score, std::span<prompt_id>(same), random_key(4));
      laws.check(out == same, "a draw is a pure function of scores and key");
      std::sort(out.begin(), out.end());
      laws.check(std::adjacent_find(out.begin(), out.end()) == out.end(), "a draw gives distinct prompts");
      for (const prompt_id id : out) laws.check(id % 3 == 1 && id < 3 * n, "a draw gives candidates");
    }
    laws.check(inside, "only candidates are scored");
    std::vector<prompt_id> many(n + 1);
    laws.rejects([&] { d(candidate_list(some), score, std::span<prompt_id>(many), random_key(4)); },
                 "more prompts than candidates are refused");
  }
  return laws.take();
}

/// Tries what group_entropy promises on groups of r: within [0, 1], pure, and the same wherever the group stands in the
/// batch. `r` has at least two rollouts of one prompt at its beginning.
template <group_entropy E>
violations group_entropy_laws(const E& e, const rollouts& r, std::size_t group) {
  report laws{law_options{}};
  for (std::size_t end = 0; end <= group; ++end) {
    const double value = e(r, 0, end);
    laws.check(value >= 0 && value <= 1, "an entropy is within [0, 1]");
    laws.same(e(r, 0, end), value, "an entropy is a pure function of the group");
  }
  return laws.take();
}

}  // namespace rlvr::laws
