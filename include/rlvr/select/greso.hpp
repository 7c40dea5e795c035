#pragma once
/// GRESO: prompts whose groups keep coming back without variance are skipped, at random and more and more often.

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <string_view>
#include <vector>

#include <rlvr/core/error.hpp>
#include <rlvr/select/selector.hpp>

namespace rlvr {

/// GRESO's published constants.
struct greso_options {
  double easy_at = 0.98;      ///< a group without variance and with mean reward from here on is easy
  double hard_at = 0.11;      ///< ... and up to here hard
  double start = 0.5;         ///< base probability of keeping a prompt after one such visit, for both sides
  double change = 0.01;       ///< of that probability per step
  double low = 0.05;          ///< its bounds
  double high = 0.95;
  double zero_variance = 0.25;  ///< share of groups without variance aimed at: a third of it easy, the rest hard
  double least = 0.01;        ///< a prompt is always kept with this probability
  std::uint64_t adapt_from = 0;  ///< the first step after which the probabilities move (the code: the second epoch)
};

/// What GRESO knows of a prompt: the probability with which it is kept, 1 unless its last visits had no variance.
struct greso_belief {
  double kept = 1;
};

/// Counts z, the consecutive visits without variance on the same side (easy or hard), and per side the probability p
/// that adapts once per step: minus `change` when the share of such groups among the step's visits was at least the
/// side's target, else plus. A prompt is kept with max(p^z, least). 1 byte per prompt: z counts to 127. Models tracker.
///
/// A step ends when an outcome of a later one arrives; outcomes that come later still count for the running step.
/// Source: GRESO (arXiv 2506.02177) and its code; a prompt never seen is kept.
class greso_tracker {
 public:
  static constexpr std::string_view state_name = "greso_tracker";
  static constexpr std::uint32_t state_version = 1;

  /// Throws std::invalid_argument for probabilities outside [0, 1] or bounds crossed.
  explicit greso_tracker(std::size_t pool, greso_options options = {})
      : o_(options), run_(pool), easy_(options.start), hard_(options.start) {
    require(0 <= o_.low && o_.low <= o_.start && o_.start <= o_.high && o_.high <= 1, "greso_tracker: bounds ", o_.low,
            ", ", o_.high, " and start ", o_.start);
    require(o_.least >= 0 && o_.least <= 1, "greso_tracker: least is ", o_.least);
    require(o_.zero_variance >= 0 && o_.zero_variance <= 1, "greso_tracker: zero_variance is ", o_.zero_variance);
    require(o_.hard_at < o_.easy_at, "greso_tracker: hard_at ", o_.hard_at, ", easy_at ", o_.easy_at);
    require(o_.change >= 0 && o_.change <= 1, "greso_tracker: change is ", o_.change);
  }

  std::size_t size() const { return run_.size(); }
  pool_clock clock() const { return {step_, visits_}; }

  greso_belief operator[](prompt_id id) const {
    const int z = run_[id];
    if (z == 0) return {};
    return {std::max(std::pow(z > 0 ? easy_ : hard_, std::abs(z)), o_.least)};
  }

  void observe(prompt_id id, const outcome& o) {
    if (o.step > step_) {
      adapt();
      step_ = o.step;
    }
    visits_ += 1;
    if (o.rollouts == 0) return;
    const int z = run_[id];
    const bool flat = o.variance == 0, easy = flat && o.mean >= o_.easy_at, hard = flat && o.mean <= o_.hard_at;
    seen_ += 1;
    seen_easy_ += easy;
    seen_hard_ += hard;
    run_[id] = static_cast<std::int8_t>(easy   ? std::min(std::max(z, 0) + 1, 127)
                                        : hard ? std::max(std::min(z, 0) - 1, -127)
                                               : 0);
  }

  double keep_easy() const { return easy_; }
  double keep_hard() const { return hard_; }

  template <class Self, class Visit>
  static void visit_state(Self& self, Visit&& visit) {
    visit(self.step_, "step");
    visit(self.visits_, "visits");
    visit(self.seen_, "seen");
    visit(self.seen_easy_, "seen easy");
    visit(self.seen_hard_, "seen hard");
    visit(self.easy_, "keep easy");
    visit(self.hard_, "keep hard");
    visit(self.run_, "run");
  }

 private:
  void adapt() {
    if (seen_ > 0 && step_ >= o_.adapt_from) {
      const auto move = [&](double p, double count, double target) {
        return std::clamp(count / seen_ >= target ? p - o_.change : p + o_.change, o_.low, o_.high);
      };
      easy_ = move(easy_, seen_easy_, o_.zero_variance / 3);
      hard_ = move(hard_, seen_hard_, o_.zero_variance * 2 / 3);
    }
    seen_ = seen_easy_ = seen_hard_ = 0;
  }

  greso_options o_;
  std::vector<std::int8_t> run_;  ///< z, negative on the hard side
  double easy_, hard_;
  double seen_ = 0, seen_easy_ = 0, seen_hard_ = 0;  ///< of the running step
  std::uint64_t step_ = 0;
  double visits_ = 0;
};

/// 1 for a prompt that is kept in this selection, 0 for one that is skipped: with draw_top random kept ones, and
/// skipped ones only when those run out.
struct kept_at_random {
  static constexpr std::string_view state_name = "kept_at_random";
  double operator()(const greso_belief& b, const pool_clock&, const prompt_draws& draws) const {
    return b.kept >= 1 || draws.uniform(0) < b.kept ? 1 : 0;
  }
};

using greso_selector = pool_selector<greso_tracker, kept_at_random, draw_top, keep_mixed>;

}  // namespace rlvr
