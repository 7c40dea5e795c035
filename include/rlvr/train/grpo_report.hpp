#pragma once
/// What GRPO is asked for, and what it answers.

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string_view>
#include <vector>

#include <rlvr/core/rollouts.hpp>
#include <rlvr/diagnose/interval.hpp>
#include <rlvr/train/compare.hpp>

namespace rlvr {

struct grpo_options {
  std::size_t steps = 100;                ///< to take
  std::size_t first_step = 0;             ///< number of the first one: a run that goes on begins where the last ended
  std::size_t batch_prompts = 64;         ///< prompts of a step; at most as many as there are for training
  std::uint32_t group_size = 16;          ///< G rollouts of each of them
  double max_gradient_norm = 1.0;         ///< longer gradients are shortened to it; infinity: never
  std::size_t warmup_steps = 0;           ///< see warmup_cosine
  double last_factor = 1.0;               ///< of the learning rate, at the end of the cosine; 1: no decay
  std::size_t schedule_steps = 0;         ///< number of the step where the cosine ends; 0: this run's last. Runs that
                                          ///< go on from each other name the end of the last of them
  std::size_t evaluate_every = 10;        ///< steps; 0: held-out prompts are never looked at
  std::uint32_t evaluation_group = 4;     ///< rollouts of each held-out prompt
  sampling_options sampling{};
  std::uint64_t seed = 0;
};

/// How a run ended. The policy has moved unless no step was taken.
enum class grpo_status {
  finished,             ///< all steps were taken
  no_signal,            ///< all were taken, but every group of every step had equal rewards
  nonfinite_gradient,   ///< stopped before a step whose gradient is not finite
  nonfinite_parameters  ///< stopped before a step that would have made the parameters not finite
};

constexpr std::string_view to_string(grpo_status status) {
  switch (status) {
    case grpo_status::finished: return "finished";
    case grpo_status::no_signal: return "no_signal";
    case grpo_status::nonfinite_gradient: return "nonfinite_gradient";
    case grpo_status::nonfinite_parameters: return "nonfinite_parameters";
  }
  return "";
}

/// One step: all of it is about the policy that sampled, before the step moves it.
struct grpo_step {
  std::size_t step = 0;              ///< its number: first_step plus the steps that this run took before
  std::size_t rollouts = 0;          ///< training rollouts that this run has learned from before this step
  double reward = 0;                 ///< mean over the batch's prompts; NaN when nothing was scored
  double entropy = 0;                ///< nats, mean over tokens
  double length = 0;                 ///< tokens, mean over rollouts
  double informative = 0;            ///< share of the groups whose rewards differ
  double gradient_norm = 0;          ///< before clipping
  double learning_rate_factor = 1;   ///< of this step
  std::optional<interval> held_out{};  ///< reward on held-out prompts, when this step looked
};

struct [[nodiscard]] grpo_result {
  grpo_status status = grpo_status::finished;
  std::size_t steps = 0;               ///< taken
  std::size_t rollouts = 0;            ///< sampled for training
  std::optional<comparison> held_out;  ///< of the first and the last policy, paired by prompt
  std::vector<grpo_step> history;
};

struct ignore_steps {
  void operator()(const grpo_step&) const {}
};

}  // namespace rlvr
