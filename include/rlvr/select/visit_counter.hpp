#pragma once
/// How often each prompt was visited and how undecided the policy was there; and two trackers side by side.

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <string_view>
#include <utility>
#include <vector>

#include <rlvr/select/decay.hpp>
#include <rlvr/select/selector.hpp>

namespace rlvr {

/// What a visit_counter knows of a prompt.
struct visit_belief {
  double visits = 0;   ///< faded
  double entropy = 1;  ///< of the last visit; 1 when never visited
};

/// Visits per prompt, n <- fade^(steps since the last visit) n + 1, and the entropy of the last one. clock().visits is
/// the sum over the pool. With fade 1 the counts are exact up to 2^24. 12 bytes per prompt. Models tracker.
class visit_counter {
 public:
  static constexpr std::string_view state_name = "visit_counter";
  static constexpr std::uint32_t state_version = 1;

  /// Throws std::invalid_argument for a fade outside (0, 1].
  explicit visit_counter(std::size_t pool, double fade = 1) : visits_(pool, fade), entropy_(pool, 1.f) {}

  std::size_t size() const { return visits_.size(); }
  pool_clock clock() const { return {visits_.step(), visits_.total()}; }

  visit_belief operator[](prompt_id id) const { return {visits_[id], static_cast<double>(entropy_[id])}; }

  void observe(prompt_id id, const outcome& o) {
    visits_.add(id, o.step);
    entropy_[id] = static_cast<float>(o.entropy);
  }

  template <class Self, class Visit>
  static void visit_state(Self& self, Visit&& visit) {
    fading_visits::visit_state(self.visits_, visit);
    visit(self.entropy_, "entropy");
  }

 private:
  fading_visits visits_;
  std::vector<float> entropy_;
};

/// Two beliefs of one prompt.
template <class First, class Second>
struct joint_belief {
  First first;
  Second second;
};

/// Two trackers of one pool that see the same outcomes; the clock is the second's. Models tracker.
template <tracker First, tracker Second>
class joint_tracker {
 public:
  static constexpr detail::joined_name state_name{First::state_name, " and ", Second::state_name};
  static constexpr std::uint32_t state_version = First::state_version * 100 + Second::state_version;

  /// Throws std::invalid_argument when the pools differ in size.
  joint_tracker(First first, Second second) : first_(std::move(first)), second_(std::move(second)) {
    require(first_.size() == second_.size(), "joint_tracker: pools of ", first_.size(), " and ", second_.size(),
            " prompts");
  }

  std::size_t size() const { return first_.size(); }
  pool_clock clock() const { return second_.clock(); }
  joint_belief<belief_t<First>, belief_t<Second>> operator[](prompt_id id) const { return {first_[id], second_[id]}; }

  void observe(prompt_id id, const outcome& o) {
    first_.observe(id, o);
    second_.observe(id, o);
  }

  template <class Self, class Visit>
  static void visit_state(Self& self, Visit&& visit) {
    First::visit_state(self.first_, visit);
    Second::visit_state(self.second_, visit);
  }

 private:
  First first_;
  Second second_;
};

}  // namespace rlvr
