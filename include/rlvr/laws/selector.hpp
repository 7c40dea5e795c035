#pragma once
/// The laws of selector.

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <string_view>
#include <vector>

#include <rlvr/core/error.hpp>
#include <rlvr/core/random.hpp>
#include <rlvr/core/saved_state.hpp>
#include <rlvr/laws/report.hpp>
#include <rlvr/select/selector.hpp>

namespace rlvr::laws {

namespace detail {

/// selector_laws' findings, collected in `laws` so that they are kept when the selector throws.
template <selector S, class Outcomes>
void check_selector(report& laws, S& s, Outcomes& outcomes) {
  const std::size_t n = s.size();
  const auto chosen = [](const S& from, std::size_t k, std::uint64_t seed) {
    std::vector<prompt_id> out(k);
    from.select(out, random_key(seed));
    return out;
  };
  const auto distinct = [](std::vector<prompt_id> ids) {
    std::sort(ids.begin(), ids.end());
    return std::adjacent_find(ids.begin(), ids.end()) == ids.end();
  };
  const auto observe = [&](S& to, std::uint64_t from, std::uint64_t end) {
    for (std::uint64_t i = from; i < end; ++i)
      to.observe(static_cast<prompt_id>(random_key(5).below(n, i)), outcomes(i, 1 + i / 4));
  };

  std::vector<prompt_id> candidates;
  for (std::size_t i = n; i > 0; i -= std::min<std::size_t>(i, 2)) candidates.push_back(static_cast<prompt_id>(i - 1));
  for (std::uint64_t round = 0; round < 6; ++round) {
    for (const std::size_t k : {std::size_t{0}, std::size_t{1}, std::size_t{2}, n / 2, n}) {
      const std::vector<prompt_id> ids = chosen(s, k, round);
      laws.check(distinct(ids), "select gives distinct ids");
      laws.check(std::all_of(ids.begin(), ids.end(), [&](prompt_id id) { return id < n; }), "ids are of the pool");
      laws.check(ids == chosen(s, k, round), "select is a pure function of state and key");
    }
    std::vector<prompt_id> some(2);
    s.select(some, random_key(round), candidates);
    laws.check(distinct(some), "select gives distinct candidates");
    for (const prompt_id id : some)
      laws.check(std::find(candidates.begin(), candidates.end(), id) != candidates.end(), "ids are of the candidates");
    observe(s, 9 * round, 9 * round + 9);
  }

  s.observe(2, outcomes(1, 1));  // late
  s.observe(2, outcomes(2, 40));
  s.observe(2, outcomes(3, 40));  // twice in a step
  s.observe(2, outcome{.step = 40});  // nothing scored
  laws.check(!s.keep(outcome{}), "a group without scored rollouts is not kept");

  const std::vector<std::byte> before = save_state(s);
  S again = s, other = s;
  observe(again, 60, 75);
  restore_state(again, before);
  laws.check(save_state(again) == before, "a restored state is the saved one");
  for (std::uint64_t round = 0; round < 4; ++round) {
    laws.check(chosen(s, n / 2, round) == chosen(again, n / 2, round), "a restored selector goes on with the same ids");
    observe(s, 80 + 7 * round, 87 + 7 * round);
    observe(again, 80 + 7 * round, 87 + 7 * round);
  }
  laws.check(save_state(again) == save_state(s), "a restored selector learns the same");
  laws.check(save_state(other) == before, "copies go their own ways");

  std::vector<std::byte> damaged = before;
  for (std::size_t at = 0; at < damaged.size(); at += 1 + damaged.size() / 61) {
    damaged[at] ^= std::byte{4};
    try {
      restore_state(other, damaged);
      laws.fail("a saved state with a changed byte is refused", concat(": with byte ", at, " changed it was not"));
    } catch (const state_error&) {
    }
    damaged[at] ^= std::byte{4};
  }
  laws.check(save_state(other) == before, "a refused state leaves the selector unchanged");

  // Errors, from the harmless to those that a selector which does not check may read or write outside its arrays for.
  if (laws.count() > 0) return laws.fail("errors: not tried while other laws are broken");
  const std::vector<std::byte> unchanged = save_state(s);
  const auto rejects = [&](const auto& f, std::string_view law) {
    S trial = s;
    laws.rejects([&] { f(trial); }, law);
    if (laws.count() == 0) laws.check(save_state(trial) == unchanged, "what is refused leaves the state unchanged");
  };
  const auto refuses_candidates = [&](const std::vector<prompt_id>& ids, std::string_view law) {
    rejects(
        [&](S& trial) {
          std::vector<prompt_id> out(2);
          trial.select(out, random_key(1), ids);
        },
        law);
  };
  for (const double mean : {std::nan(""), -0.1, 1.5})
    rejects([&](S& trial) { trial.observe(1, outcome{.rollouts = 1, .mean = mean, .step = 41}); },
            "an outcome with a mean outside [0, 1] is refused");
  refuses_candidates({4, 1, 4}, "a candidate given twice is refused");
  refuses_candidates({4}, "more ids than candidates are refused");
  rejects(
      [&](S& trial) {
        std::vector<prompt_id> out(n + 1);
        trial.select(out, random_key(1));
      },
      "more ids than prompts are refused");
  const auto unknown = static_cast<prompt_id>(n);
  if (laws.count() == 0) refuses_candidates({0, unknown}, "a candidate outside the pool is refused");
  if (laws.count() == 0)
    rejects([&](S& trial) { trial.observe(unknown, outcomes(0, 41)); }, "an outcome of an unknown prompt is refused");
}

}  // namespace detail

/// Tries on a copy of s: distinct ids from the pool or the candidates, the same for the same (state, key); late,
/// repeated and unscored outcomes; a restored state goes on with the same ids; damaged bytes refused; and last, where
/// all that holds, bad input refused with the state unchanged. `outcomes` is called with an index and a step and gives
/// what is observed. The pool has at least 5 prompts. A selector that throws where it must not has that reported.
/// O(100 selections).
template <selector S, class Outcomes>
violations selector_laws(S s, Outcomes&& outcomes) {
  report laws{law_options{}};
  if (s.size() < 5) {
    laws.fail(concat("selector_laws: the pool has ", s.size(), " prompts, 5 are needed"));
    return laws.take();
  }
  try {
    detail::check_selector(laws, s, outcomes);
  } catch (const std::exception& e) {
    laws.fail(concat("throws, given what is allowed: ", std::string_view(e.what())));
  }
  return laws.take();
}

}  // namespace rlvr::laws
