#pragma once
/// What some selectors want to know of a visit beyond its rewards, measured only for those.

#include <cmath>
#include <cstddef>
#include <limits>
#include <map>
#include <span>
#include <utility>
#include <vector>

#include <rlvr/core/error.hpp>
#include <rlvr/core/policy.hpp>
#include <rlvr/core/ragged.hpp>
#include <rlvr/core/rollouts.hpp>
#include <rlvr/core/slice.hpp>
#include <rlvr/select/beta_tracker.hpp>
#include <rlvr/select/gain_trackers.hpp>
#include <rlvr/select/selector.hpp>

namespace rlvr {

/// Whether S learns from outcome::divergence. A template of types, as pool_selector, does when one of them does.
/// Specialise it for a selector of another kind: one of your own, one derived from such a template, one whose template
/// takes a value beside its types. Otherwise it is told 0.
template <class S>
constexpr bool learns_from_divergence = false;
template <>
inline constexpr bool learns_from_divergence<keep_by_divergence> = true;
template <template <class...> class S, class... Parts>
constexpr bool learns_from_divergence<S<Parts...>> = (learns_from_divergence<Parts> || ...);

/// Whether S learns from outcome::diversity; likewise.
template <class S>
constexpr bool learns_from_diversity = false;
template <>
inline constexpr bool learns_from_diversity<gain_promotion> = true;
template <template <class...> class S, class... Parts>
constexpr bool learns_from_diversity<S<Parts...>> = (learns_from_diversity<Parts> || ...);

/// The last response to each prompt, and how far the policy has moved since on it: from the one that sampled it to the
/// one that samples now. Memory: one rollout per prompt that was visited. Source: SPO (arXiv 2509.13232). Its recipe
/// compares the policies that the updates of the two visits made, both scored anew; here `then` is what the sampler
/// wrote, so that a sampler that rounds otherwise than policy.score adds its noise.
class last_responses {
 public:
  /// D_i = mean_t |log pi_then(y_t) - log pi_now(y_t)| over the tokens y of the last response to prompt ids[i], in
  /// nats; 0 without one, and the largest number when it is not finite. One policy.score of those responses. Throws
  /// what the policy does, and std::invalid_argument when it returns another number of log-probs.
  template <scorer P>
  std::vector<double> divergences(P& policy, const ragged<token>& prompts, std::span<const prompt_id> ids,
                                  double temperature) const {
    rollouts last;
    std::vector<std::size_t> where;
    for (std::size_t i = 0; i < ids.size(); ++i)
      if (const auto found = of_prompt_.find(ids[i]); found != of_prompt_.end()) {
        append(last, found->second);
        where.push_back(i);
      }
    std::vector<double> out(ids.size(), 0.0);
    if (last.empty()) return out;
    const std::vector<double> now = policy.score(prompts, last, temperature).log_probs;
    require(now.size() == last.tokens.size(), "last_responses: the scorer returned ", now.size(), " log_probs for ",
            last.tokens.size(), " tokens");
    for (std::size_t k = 0; k < last.size(); ++k) {
      double sum = 0;
      for (std::size_t t = last.offsets[k]; t < last.offsets[k + 1]; ++t) sum += std::abs(last.log_probs[t] - now[t]);
      const double mean = sum / static_cast<double>(last.length(k));
      out[where[k]] = std::isfinite(mean) ? mean : std::numeric_limits<double>::max();
    }
    return out;
  }

  /// Rollout i of r is the last response to its prompt; one without tokens is passed over. Throws as slice does, and
  /// std::invalid_argument for rollouts without prompts or log-probs.
  void remember(const rollouts& r, std::size_t i) {
    rollouts one = slice(r, i, i + 1);
    if (one.tokens.empty()) return;
    require(!one.prompts.empty() && !one.log_probs.empty(), "last_responses: rollouts without prompts or log_probs");
    of_prompt_[r.prompts[i]] = std::move(one);
  }

 private:
  std::map<prompt_id, rollouts> of_prompt_;
};

}  // namespace rlvr
