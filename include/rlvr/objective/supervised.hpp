#pragma once
/// Supervised methods as advantages of the plain policy gradient: SFT, STaR, rejection-sampling fine-tuning, and the
/// gate between imitation and reinforcement.

#include <algorithm>
#include <cstddef>
#include <span>
#include <vector>

#include <rlvr/core/error.hpp>
#include <rlvr/core/rollouts.hpp>
#include <rlvr/core/validate.hpp>

namespace rlvr {

/// STaR: A_i = 1 for scored rollouts with reward > threshold, 0 for the others, so that policy_gradient ascends
/// their log-likelihood; with all ones it is SFT. To average over the tokens that are imitated and not over all, put
/// the others outside the mask. [B]. O(B). Throws std::invalid_argument for a scored reward or a threshold that is NaN.
/// Source: Zelikman et al. 2022, arXiv 2203.14465.
inline std::vector<double> imitated(std::span<const verdict> verdicts, double threshold = 0) {
  require(threshold == threshold, "imitated: threshold is ", threshold);
  std::vector<double> out(verdicts.size());
  for (std::size_t i = 0; i < verdicts.size(); ++i) {
    require(!verdicts[i].scored || verdicts[i].reward == verdicts[i].reward, "imitated: reward ", i, " is ",
            verdicts[i].reward);
    out[i] = verdicts[i].scored && verdicts[i].reward > threshold ? 1.0 : 0.0;
  }
  return out;
}

/// Rejection-sampling fine-tuning: as imitated(), but of equal completions of a prompt only the first counts. [B].
/// O(B log B) comparisons of completions. Throws std::invalid_argument for damaged offsets, verdicts that are missing,
/// a scored reward or a threshold that is NaN. Source: Yuan et al. 2023, arXiv 2308.01825.
inline std::vector<double> imitated_once(const rollouts& r, double threshold = 0) {
  validate_offsets(r);
  require(r.verdicts.size() == r.size(), "imitated_once: ", r.verdicts.size(), " verdicts for ", r.size(), " rollouts");
  std::vector<double> out = imitated(r.verdicts, threshold);
  std::vector<std::size_t> order;
  for (std::size_t i = 0; i < out.size(); ++i)
    if (out[i] > 0) order.push_back(i);
  const auto compare = [&r](std::size_t x, std::size_t y) {
    if (r.prompts[x] != r.prompts[y]) return r.prompts[x] < r.prompts[y] ? -1 : 1;
    const auto a = r.completion(x), b = r.completion(y);
    if (std::equal(a.begin(), a.end(), b.begin(), b.end())) return 0;
    return std::lexicographical_compare(a.begin(), a.end(), b.begin(), b.end()) ? -1 : 1;
  };
  std::sort(order.begin(), order.end(), [&](std::size_t x, std::size_t y) {
    const int c = compare(x, y);
    return c != 0 ? c < 0 : x < y;
  });
  for (std::size_t k = 1; k < order.size(); ++k)
    if (compare(order[k - 1], order[k]) == 0) out[order[k]] = 0;
  return out;
}

/// What a prompt is trained by: a demonstration, or its own rollouts.
enum class hybrid_phase { imitate, reinforce };

/// HPT's gate: imitate one demonstration (and drop the rollouts) when the share of right rollouts of the prompt is at
/// most `gate`, reinforce otherwise. O(1). Throws std::invalid_argument for a share outside [0, 1] or NaN gate.
/// Source: HPT, Lv et al. 2025, arXiv 2509.04419; code: switch_gate 0 (only when none is right), 2/8 for weak models.
inline hybrid_phase hybrid_gate(double success_share, double gate = 0) {
  require(success_share >= 0 && success_share <= 1, "hybrid_gate: success_share is ", success_share);
  require(gate == gate, "hybrid_gate: gate is ", gate);
  return success_share <= gate ? hybrid_phase::imitate : hybrid_phase::reinforce;
}

}  // namespace rlvr
