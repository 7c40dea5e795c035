#pragma once
/// What DoPR is asked for, and what it answers.

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string_view>
#include <vector>

#include <rlvr/core/rollouts.hpp>
#include <rlvr/diagnose/interval.hpp>
#include <rlvr/select/outcome.hpp>
#include <rlvr/select/selector.hpp>
#include <rlvr/train/compare.hpp>

namespace rlvr {

/// The defaults are the recipe under which steps of one prompt were measured to be safe: candidates from the epoch and
/// a bound on the KL of a step.
struct dopr_options {
  std::size_t steps = 1000;       ///< to take; each costs step_prompts * group_size rollouts
  std::size_t first_step = 0;     ///< number of the first one: a run that goes on begins where the last one ended
  std::size_t step_prompts = 1;   ///< k, prompts of a step
  std::uint32_t group_size = 16;  ///< G, rollouts of each of them
  std::size_t candidates = 16;    ///< for each of the k: the step chooses among the epoch's next k * candidates
                                  ///< prompts, at most the pool. 0: always among the whole pool, where a selector can
                                  ///< return to the same few prompts until the policy is worse everywhere else
  std::size_t explore_steps = 0;  ///< the first steps take the epoch's prompts as they come, whatever the selector says
  double max_gradient_norm = 1.0;  ///< longer gradients are shortened to it; infinity: never
  double max_step_kl = 0.03;       ///< nats per sequence, on the step's own prompts: longer steps are shortened to it;
                                   ///< infinity: never, at one scoring pass per step less. Steps of dozens of prompts
                                   ///< need no bound and are held back by it
  reward_range rewards{};              ///< what the verifier can give
  std::size_t evaluate_every = 64;     ///< steps; 0: held-out prompts are never looked at
  std::uint32_t evaluation_group = 1;  ///< rollouts of each held-out prompt
  sampling_options sampling{};
  std::uint64_t seed = 0;
};

/// How a run ended. The policy has moved unless no update was taken.
enum class dopr_status {
  finished,             ///< all steps were taken
  no_signal,            ///< all were taken, but no group was kept or none had rewards that differ
  no_step_within_kl,    ///< all were taken, but of every update the bound on KL left nothing: max_step_kl is too small
  nonfinite_gradient,   ///< stopped before an update whose gradient is not finite
  nonfinite_parameters  ///< stopped before an update that would have made the parameters not finite
};

constexpr std::string_view to_string(dopr_status status) {
  switch (status) {
    case dopr_status::finished: return "finished";
    case dopr_status::no_signal: return "no_signal";
    case dopr_status::no_step_within_kl: return "no_step_within_kl";
    case dopr_status::nonfinite_gradient: return "nonfinite_gradient";
    case dopr_status::nonfinite_parameters: return "nonfinite_parameters";
  }
  return "";
}

/// One step. All but the last three numbers are about the policy that sampled, before the step moves it.
struct dopr_step {
  std::size_t step = 0;
  std::size_t rollouts = 0;            ///< charged before this step
  std::vector<prompt_id> prompts{};    ///< rolled out
  double reward = 0;                   ///< mean over these prompts; NaN when nothing was scored
  double entropy = 0;                  ///< in [0, 1], mean over these prompts, of the measure that the run was given
  std::size_t kept = 0;                ///< groups that the selector kept; without any there is no update
  std::optional<interval> held_out{};  ///< reward on held-out prompts, when this step looked
  double gradient_norm = 0;            ///< before clipping
  double kl = 0;                       ///< of the update as taken, nats per sequence; 0 when there is no bound on it
  double share = 0;                    ///< of the optimizer's step that was taken: below 1 where KL bound it, 0
                                       ///< without an update
};

struct [[nodiscard]] dopr_result {
  dopr_status status = dopr_status::finished;
  std::size_t steps = 0;               ///< taken
  std::size_t rollouts = 0;            ///< sampled for training: of every group, kept or not
  std::size_t held_out_rollouts = 0;   ///< sampled to look at held-out prompts
  std::size_t visits = 0;              ///< groups
  std::size_t rejected = 0;            ///< groups that the selector did not keep
  std::optional<comparison> held_out;  ///< of the first and the last policy, paired by prompt
  std::vector<dopr_step> history;
};

struct ignore_dopr_steps {
  void operator()(const dopr_step&) const {}
};

}  // namespace rlvr
