#include <rlvr/rlvr.hpp>

#include <cstdio>

int main() {
  // A policy with 20 prompts and 10 completions each, all equally likely; completion 7i mod 10 answers prompt i.
  rlvr::tabular::policy policy(std::vector<double>(20 * 10), 10);
  const auto verifier = [](std::size_t prompt, std::span<const rlvr::token> completion) {
    return rlvr::verdict{.reward = completion[0] == static_cast<int>(7 * prompt % 10) ? 1.0 : 0.0};
  };
  const rlvr::prompt_set prompts{policy.prompts(), verifier};

  // 1,280 rollouts in groups of 64, one policy gradient, one line search.
  const auto result = rlvr::one_shot(policy, prompts, prompts, prompts, rlvr::centred{},
                                     {.rollouts = 20 * 64, .group_size = 64, .evaluation_group = 64});

  for (const auto& [point, accuracy, collapsed] : result.landscape)
    std::printf("alpha %7.0f  accuracy %.3f [%.3f, %.3f]  KL %.3f\n", point.alpha, accuracy.mean, accuracy.low,
                accuracy.high, point.kl);
  std::printf("%s: the policy moved by alpha = %.0f\n", to_string(result.status).data(), result.alpha);
}
