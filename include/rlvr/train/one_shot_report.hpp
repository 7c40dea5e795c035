#pragma once
/// What one-shot RLVR is asked for, and what it answers.

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string_view>
#include <vector>

#include <rlvr/core/rollouts.hpp>
#include <rlvr/diagnose/interval.hpp>
#include <rlvr/diagnose/subset_cosine.hpp>
#include <rlvr/gradient/subset_gradients.hpp>
#include <rlvr/search/search_direction.hpp>
#include <rlvr/train/compare.hpp>

namespace rlvr {

struct one_shot_options {
  std::size_t rollouts = 10240;          ///< N, a multiple of group_size
  std::uint32_t group_size = 16;         ///< G rollouts a prompt; the first N / G prompts are used: shuffle sorted ones
  std::size_t steps = 1;                 ///< 1: the direction is the gradient; k: the displacement of k small steps
  double step_kl = 0.01;                 ///< predicted KL of each small step, nats per sequence
  std::uint32_t evaluation_group = 4;    ///< rollouts of each validation and confirmation prompt
  std::size_t calibration_rollouts = 512;
  sampling_options sampling{};
  std::uint64_t seed = 0;
  subset_options subsets{};
  direction_search_options search{};
  double collapsed_fraction = 0.5;       ///< of the base's entropy, see collapsed()
};

/// How a run ended. The policy has moved only when `improved`.
enum class one_shot_status {
  improved,             ///< an alpha beats the base on validation, and again on confirmation prompts
  not_confirmed,        ///< it does on validation, but the confirmation interval is not above zero
  no_improvement,       ///< no admissible alpha beats the base on validation
  no_signal,            ///< every group of the base had equal rewards, and there is no direction
  nothing_scored,       ///< no rollout of the base was scored, on the training or on the validation prompts
  nonfinite_direction,  ///< the direction, or the gradient of one of the k steps that lead there, is not finite
  zero_direction,       ///< the direction moves no log-probability, or could not be calibrated
  budget_spent          ///< accuracy was still rising at the largest alpha tried, or (alpha is 0) below at the smallest
};

constexpr std::string_view to_string(one_shot_status status) {
  switch (status) {
    case one_shot_status::improved: return "improved";
    case one_shot_status::not_confirmed: return "not_confirmed";
    case one_shot_status::no_improvement: return "no_improvement";
    case one_shot_status::no_signal: return "no_signal";
    case one_shot_status::nothing_scored: return "nothing_scored";
    case one_shot_status::nonfinite_direction: return "nonfinite_direction";
    case one_shot_status::zero_direction: return "zero_direction";
    case one_shot_status::budget_spent: return "budget_spent";
  }
  return "";
}

/// One alpha of the landscape: its accuracy on validation prompts with a 95% interval clustered by prompt, and what
/// is watched. The interval is accuracy_interval, because mean +- t s / sqrt(n) leaves [0, 1] near 0 and 1 and has
/// width 0 there; mean_interval where a prompt's mean reward, at any alpha, lies outside [0, 1] and so is no accuracy.
struct landscape_point {
  line_point point;
  interval accuracy;
  bool collapsed = false;
};

template <class Vector>
struct [[nodiscard]] one_shot_result {
  one_shot_status status = one_shot_status::no_signal;
  double alpha = 0;                        ///< the best step found; 0 when there is none
  std::optional<Vector> direction;         ///< what alpha multiplies; absent without signal or scored rollouts
  std::size_t steps = 0;                   ///< small steps taken, when k > 1 were asked for
  interval sampled;                        ///< accuracy of the base policy on the training prompts
  double informative = 0;                  ///< share of the base policy's groups whose rewards differ
  landscape_point base;                    ///< on validation prompts
  std::vector<landscape_point> landscape;  ///< by increasing alpha, the base first
  std::optional<kl_calibration> calibration;
  std::optional<comparison> confirmation;  ///< of alpha, when validation found one
  subset_agreement agreement;              ///< of the base policy's gradients on disjoint prompts
  double correct_incorrect_cosine = 0;     ///< about -1 on-policy: a test of the code
  double gradient_cosine = 1;              ///< of the direction with the base policy's gradient
};

enum class one_shot_stage { sample, verify, gradient, search, confirm };

struct ignore_stages {
  void operator()(one_shot_stage, std::size_t, std::size_t) const {}
};

namespace detail {

constexpr one_shot_status status_of(line_status line, double informative) {
  switch (line) {
    case line_status::improved: return one_shot_status::improved;
    case line_status::no_improvement: return one_shot_status::no_improvement;
    case line_status::nonfinite_direction: return one_shot_status::nonfinite_direction;
    case line_status::zero_direction:
      return informative == 0 ? one_shot_status::no_signal : one_shot_status::zero_direction;
    case line_status::budget_spent: return one_shot_status::budget_spent;
  }
  return one_shot_status::no_improvement;
}

}  // namespace detail

}  // namespace rlvr
