#pragma once
/// What a prompt selector is, and the one that is put together from a tracker, a utility, a draw and a filter.

#include <algorithm>
#include <array>
#include <cmath>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <span>
#include <utility>
#include <vector>

#include <rlvr/core/error.hpp>
#include <rlvr/core/random.hpp>
#include <rlvr/core/saved_state.hpp>
#include <rlvr/select/draw.hpp>
#include <rlvr/select/filter.hpp>
#include <rlvr/select/outcome.hpp>

namespace rlvr {

/// Which prompts to roll out next, from a pool of size() prompts with ids 0, 1, ... The size is fixed: for a pool that
/// grows, make the selector with room for all that may come, and select from the known ids as candidates.
///
///  - `s.select(out, key)`: fills out with distinct ids of the pool; `s.select(out, key, candidates)`: of the distinct
///    ids given. A pure function of (state, key): the same key gives the same ids until something is observed. Throws
///    std::invalid_argument for more ids than there are, and for a candidate that is unknown or given twice.
///  - `s.observe(id, o)`: learns that a visit to prompt id had outcome o; nothing else changes the state. Outcomes may
///    come late and in any order, also of groups that a filter rejected; the state may depend on the order. An id
///    observed twice in a step has been visited twice. Throws std::invalid_argument for an unknown id or an impossible
///    outcome, with the state unchanged.
///  - `s.keep(o)`: whether a group with that outcome is worth training on.
///  - A value: copies go their own ways. save_state and restore_state go on exactly where the saved one stood.
template <class S>
concept selector = has_state<S> && requires(S& s, const S& c, std::span<prompt_id> out,
                                            std::span<const prompt_id> candidates, random_key key, const outcome& o) {
  { c.size() } -> std::same_as<std::size_t>;
  c.select(out, key);
  c.select(out, key, candidates);
  s.observe(prompt_id{}, o);
  { c.keep(o) } -> std::same_as<bool>;
};

/// How far a pool has come. The logarithms are taken once per selection, not once per prompt.
struct pool_clock {
  std::uint64_t step = 0;  ///< the largest step observed
  double visits = 0;       ///< t: visits to all prompts, faded where the tracker's counts fade
  double log_visits = 0;   ///< ln max(t, 1)
  double log1p_visits = 0; ///< ln(1 + t)

  pool_clock() = default;
  pool_clock(std::uint64_t step_, double visits_)
      : step(step_), visits(visits_), log_visits(std::log(std::max(visits_, 1.0))), log1p_visits(std::log1p(visits_)) {}
};

/// What is believed of each prompt of a pool, and how belief decays.
///
///  - `t[id]`: the belief as of the clock's step, by value; O(1), no check of id.
///  - `t.observe(id, o)`: O(1); id and o have been checked.
///  - `t.clock()`.
///  - Decay is lazy: a step touches only the prompts that it visited. A prompt's belief is kept as of the step of its
///    last visit; a visit at step s first fades it over the steps in between; one at an earlier step than the last
///    counts as one at the last.
template <class T>
concept tracker = has_state<T> && requires(T& t, const T& c, prompt_id id, const outcome& o) {
  { c.size() } -> std::same_as<std::size_t>;
  c[id];
  t.observe(id, o);
  { c.clock() } -> std::same_as<pool_clock>;
};

/// What is believed of one prompt.
template <tracker T>
using belief_t = decltype(std::declval<const T&>()[prompt_id{}]);

/// The random numbers of one prompt in one selection.
class prompt_draws {
 public:
  prompt_draws(random_key key, prompt_id id) : key_(key), id_(id) {}
  double uniform(std::uint32_t position) const { return key_.uniform(id_, 0, position); }
  /// Two independent ones from one block.
  std::array<double, 2> uniform_pair(std::uint32_t position) const {
    const philox_block b = key_.block({position, 1u, id_, 0u});
    return {random_key::unit(b[1], b[0]), random_key::unit(b[3], b[2])};
  }

 private:
  random_key key_;
  prompt_id id_;
};

/// What makes a prompt worth a rollout: u(belief, clock, draws) is its score, larger is better; pure. Utilities that
/// draw nothing take (belief, clock). U::state_name, if there, is part of its selector's.
template <class U, class T>
concept utility_of = tracker<T> && (requires(const U& u, belief_t<T> b, const pool_clock& now) {
                       { u(b, now) } -> std::same_as<double>;
                     } || requires(const U& u, belief_t<T> b, const pool_clock& now, const prompt_draws& draws) {
                       { u(b, now, draws) } -> std::same_as<double>;
                     });

/// A selector made of parts: the tracker believes, the utility scores, the draw chooses, the filter keeps. Models
/// selector. Selecting is one pass over the candidates; observing is O(1). The state is the tracker's, in
/// the name of utility and tracker: that of another rule is refused, while draw and filter may be others, as options.
template <tracker Tracker, class Utility, draw Draw = draw_top, class Filter = keep_all>
  requires utility_of<Utility, Tracker>
class pool_selector {
 public:
  static constexpr detail::joined_name state_name{detail::name_of<Utility>(), " over ", Tracker::state_name};
  static constexpr auto state_version = Tracker::state_version;

  explicit pool_selector(Tracker tracker, Utility utility = {}, Draw draw = {}, Filter filter = {})
      : tracker_(std::move(tracker)), utility_(utility), draw_(draw), filter_(filter) {
    require(tracker_.size() > 0, "pool_selector: the pool is empty");
    require(tracker_.size() <= std::numeric_limits<prompt_id>::max(), "pool_selector: a pool of ", tracker_.size(),
            " prompts, ids have 32 bits");
  }

  std::size_t size() const { return tracker_.size(); }
  const Tracker& tracker() const { return tracker_; }

  void select(std::span<prompt_id> out, random_key key) const { choose(candidate_list(size()), out, key); }
  void select(std::span<prompt_id> out, random_key key, std::span<const prompt_id> candidates) const {
    check_candidates(candidates, size());
    choose(candidate_list(candidates), out, key);
  }

  /// The score of one prompt under that key. Throws std::invalid_argument for an unknown id.
  double score(prompt_id id, random_key key) const {
    require(id < size(), "pool_selector: prompt ", id, " in a pool of ", size());
    const pool_clock now = tracker_.clock();
    if constexpr (requires { utility_(tracker_[id], now); })
      return utility_(tracker_[id], now);
    else
      return utility_(tracker_[id], now, prompt_draws(key.fold(0), id));
  }

  void observe(prompt_id id, const outcome& o) {
    check_observation(id, o, size());
    tracker_.observe(id, o);
  }

  bool keep(const outcome& o) const { return filter_(o); }

  template <class Self, class Visit>
  static void visit_state(Self& self, Visit&& visit) {
    Tracker::visit_state(self.tracker_, visit);
  }

 private:
  /// Flattened: a score that is not inlined is not turned into vector instructions.
  [[gnu::flatten]] void choose(const candidate_list& candidates, std::span<prompt_id> out, random_key key) const {
    const pool_clock now = tracker_.clock();
    if constexpr (requires(prompt_id id) { utility_(tracker_[id], now); }) {
      draw_(candidates, [&](prompt_id id) { return utility_(tracker_[id], now); }, out, key);
    } else {
      const random_key own = key.fold(0);
      draw_(candidates, [&](prompt_id id) { return utility_(tracker_[id], now, prompt_draws(own, id)); }, out, key);
    }
  }

  Tracker tracker_;
  Utility utility_;
  Draw draw_;
  Filter filter_;
};

}  // namespace rlvr
