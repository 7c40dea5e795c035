#pragma once
/// Groups without variance learn by the entropy of their tokens.

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <span>
#include <vector>

#include <rlvr/advantage/advantage_estimator.hpp>
#include <rlvr/advantage/group_normalized.hpp>
#include <rlvr/advantage/token_rewards.hpp>

namespace rlvr {

/// Advantages per token, [T], 0 at masked tokens and in unscored rollouts. In a group of at least two scored rollouts
/// whose rewards are all equal,
///
///     all right:  A_t =  scale H_t                     (decisions made under uncertainty are confirmed most)
///     all wrong:  A_t = -scale (max_k H_k - H_t)       (certain tokens are blamed most, the least certain not at all)
///
/// H_t the entropy at token t in nats, the maximum over the rollout's active tokens; all other groups get Base's
/// advantage at every token. Entropies are constants: nothing is differentiated through them. Correct means a reward
/// above `correct_above`. No promise for equal rewards and shifts; Base's promises elsewhere. Throws what Base throws,
/// and std::invalid_argument for arrays that do not fit, a scale that is negative or not finite, a threshold that is
/// NaN, and an entropy of an active token that is negative or not finite, naming its index. O(T).
/// Source: RL-ZVP (Le et al. 2025, arXiv 2509.21880, equation 5).
template <advantage_estimator Base = group_normalized>
struct entropy_shaped {
  Base base = {};
  double scale = 0.1;
  double correct_above = 0.5;

  std::vector<double> operator()(std::span<const verdict> verdicts, const groups& g, std::span<const double> entropies,
                                 const token_layout& layout) const {
    layout.check("entropy_shaped");
    require(layout.size() == verdicts.size(), "entropy_shaped: ", layout.size(), " rollouts for ", verdicts.size(),
            " verdicts");
    require(entropies.size() == layout.tokens(), "entropy_shaped: ", entropies.size(), " entropies for ",
            layout.tokens(), " tokens");
    require(scale >= 0 && std::isfinite(scale), "entropy_shaped: scale is ", scale);
    require(!std::isnan(correct_above), "entropy_shaped: correct_above is ", correct_above);
    for (std::size_t t = 0; t < entropies.size(); ++t)
      require(!layout.active(t) || (entropies[t] >= 0 && std::isfinite(entropies[t])), "entropy_shaped: entropy ", t,
              " is ", entropies[t]);
    const std::vector<double> whole = base(verdicts, g);
    std::vector<double> out(layout.tokens());
    for (std::size_t group = 0; group < g.size(); ++group) {
      std::size_t scored = 0;
      bool differ = false;
      double reward = 0;
      for (std::size_t i = g.begin(group); i < g.end(group); ++i) {
        if (!verdicts[i].scored) continue;
        differ |= scored > 0 && verdicts[i].reward != reward;
        reward = verdicts[i].reward;
        ++scored;
      }
      const bool shaped = scored > 1 && !differ;
      for (std::size_t i = g.begin(group); i < g.end(group); ++i) {
        if (!verdicts[i].scored) continue;
        double most = 0;
        if (shaped && !(reward > correct_above))
          for (std::size_t t = layout.offsets[i]; t < layout.offsets[i + 1]; ++t)
            if (layout.active(t)) most = std::max(most, entropies[t]);
        for (std::size_t t = layout.offsets[i]; t < layout.offsets[i + 1]; ++t)
          if (layout.active(t))
            out[t] = !shaped ? whole[i] : reward > correct_above ? scale * entropies[t] : scale * (entropies[t] - most);
      }
    }
    detail::check_finite("entropy_shaped", "advantage", out);
    return out;
  }
};

}  // namespace rlvr
