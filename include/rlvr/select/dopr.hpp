#pragma once
/// DoPR's acquisition score: reward volatility plus an uncertainty bonus.

#include <cstddef>
#include <string_view>
#include <utility>

#include <rlvr/core/square_root.hpp>
#include <rlvr/select/beta_tracker.hpp>
#include <rlvr/select/draw.hpp>
#include <rlvr/select/filter.hpp>
#include <rlvr/select/reward_trackers.hpp>
#include <rlvr/select/selector.hpp>
#include <rlvr/select/visit_counter.hpp>

namespace rlvr {

/// sigma_i: the standard deviation of the rewards as believed, in [0, 1/2]. Of reward_belief its variance, of
/// beta_belief p (1 - p) at the posterior mean. 0 for a prompt never visited: there the bonus decides.
struct volatility {
  double operator()(const reward_belief& b) const { return vector_sqrt(b.variance); }
  double operator()(const beta_belief& b) const {
    const double weight = b.weight();
    return weight > 0 ? vector_sqrt(b.alpha * b.beta) / weight : 0;
  }
};

/// Whether the entropy at a prompt's last visit scales its bonus.
enum class modulation { none, entropy };

/// U_i = c H_i sqrt(ln(1 + t) / (1 + n_i)): t visits to the pool, n_i of them to the prompt (both faded when the counter
/// fades), H_i the normalised entropy at its last visit, 1 when never visited or with modulation::none. Source: UCB1's
/// bonus with the (1 + n) of DUMP (arXiv 2504.09710), modulated.
struct uncertainty_bonus {
  double scale = 0.5;
  modulation by = modulation::entropy;

  double operator()(const visit_belief& b, const pool_clock& now) const {
    const double share = by == modulation::entropy ? 1 : 0;  // arithmetic where a branch would not be vectorised
    return scale * (share * b.entropy + (1 - share)) * vector_sqrt(now.log1p_visits / (1 + b.visits));
  }
};

/// S_i = weight sigma_i + U_i. Only S = sigma + U, with weight 1, is attested by the paper; what stands for the two
/// terms is ours. Weight 0 leaves the bonus alone, bonus scale 0 the volatility.
/// Source: DoPR (arXiv 2602.00815); its formulas for sigma and U are not public.
struct dopr_score {
  static constexpr std::string_view state_name = "dopr_score";
  double weight = 1;
  uncertainty_bonus bonus = {};

  template <class Belief>
  double operator()(const joint_belief<Belief, visit_belief>& b, const pool_clock& now) const {
    return weight * volatility{}(b.first) + bonus(b.second, now);
  }
};

/// The DoPR selector: volatility from any reward tracker, visits from a counter, the prompts of largest S. Free to choose
/// among a whole pool, it returns to the same few prompts when the bonus is small: give it candidates (16 of an epoch), or
/// a bonus scale of at least 0.5.
///
///  - moving_reward_tracker(pool): exponentially weighted deviation of the rewards, the default; with weight 1 the
///    deviation of the last group.
///  - window_reward_tracker(pool, window): deviation of the pass rates of the last visits, the historical variance
///    score of 1-shot RLVR (arXiv 2504.20571).
///  - beta_tracker: sqrt(p (1 - p)) of a decayed posterior.
template <tracker Rewards = moving_reward_tracker>
using dopr_selector = pool_selector<joint_tracker<Rewards, visit_counter>, dopr_score, draw_top, keep_mixed>;

template <tracker Rewards>
dopr_selector<Rewards> make_dopr_selector(Rewards rewards, dopr_score score = {}, double visit_fade = 1) {
  const std::size_t pool = rewards.size();
  return dopr_selector<Rewards>({std::move(rewards), visit_counter(pool, visit_fade)}, score);
}
/// Of a fresh moving_reward_tracker.
inline dopr_selector<> make_dopr_selector(std::size_t pool, dopr_score score = {}, double visit_fade = 1) {
  return make_dopr_selector(moving_reward_tracker(pool), score, visit_fade);
}

}  // namespace rlvr
