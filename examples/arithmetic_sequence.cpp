/// GRPO from random weights: a small Llama learns to continue arithmetic sequences from a dense reward alone. The
/// checkpoint and its task are the end-to-end fixture of verl, whose own test asks for a mean reward above 0.2.

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <optional>
#include <string>

#include <CLI/CLI.hpp>

#include <rlvr/advantage/group_normalized.hpp>
#include <rlvr/backend/decoder/config.hpp>
#include <rlvr/backend/decoder/model_folder.hpp>
#include <rlvr/backend/eigen/decoder.hpp>
#include <rlvr/optimize/adamw.hpp>
#include <rlvr/train/grpo.hpp>

#include "arithmetic_sequence.hpp"
#include "command_line.hpp"

namespace {

struct options {
  std::string data;
  rlvr::grpo_options recipe{.steps = 800,
                            .batch_prompts = 100,
                            .group_size = 8,
                            .evaluate_every = 20,
                            .evaluation_group = 8,
                            .sampling = {.max_tokens = sequence::longest_completion}};
  double learning_rate = 2e-4;
  std::size_t threads = 0;
};

constexpr double bar = 0.2;

void print(std::size_t rollouts, double train, const rlvr::interval& test, double entropy, double seconds) {
  std::printf("%9zu  %6.3f  %6.3f [%5.3f, %5.3f]  %7.3f  %7.1f\n", rollouts, train, test.mean, test.low, test.high,
              entropy, seconds);
  std::fflush(stdout);
}

void run(const options& o) {
  const sequence::task task = sequence::load_task(o.data);
  const rlvr::decoder::config config = rlvr::decoder::load_config(o.data);
  rlvr::eigen::decoder<float> model(config, rlvr::decoder::load_parameters<float>(o.data, config),
                                    {.threads = o.threads});
  sequence::until_decided policy(model);
  rlvr::adamw optimizer(policy.space(), {.learning_rate = o.learning_rate, .weight_decay = 0});
  std::printf(
      "%zu parameters, %zu training and %zu test prompts, %zu x %u rollouts a step; "
      "the best possible test reward is %.3f\n",
      policy.space().dimension(), task.train.prompts.size(), task.test.prompts.size(), o.recipe.batch_prompts,
      static_cast<unsigned>(o.recipe.group_size), task.best_test_reward);
  std::printf(" rollouts   train    test [95%% interval]    entropy  seconds\n");

  const auto start = std::chrono::steady_clock::now();
  std::optional<std::size_t> passed;
  const auto result = rlvr::grpo(
      policy, task.train, task.test, rlvr::group_normalized{}, optimizer, o.recipe, [&](const rlvr::grpo_step& s) {
        if (!s.held_out) return;
        if (!passed && s.held_out->mean > bar) passed = s.rollouts;
        print(s.rollouts, s.reward, *s.held_out, s.entropy,
              std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count());
      });

  const rlvr::comparison& test = *result.held_out;
  std::printf("%s after %zu rollouts in %zu steps\n", std::string(to_string(result.status)).c_str(), result.rollouts,
              result.steps);
  std::printf("test reward %.3f [%.3f, %.3f] before, %.3f [%.3f, %.3f] after, difference %.3f [%.3f, %.3f]\n",
              test.base.mean, test.base.low, test.base.high, test.moved.mean, test.moved.low, test.moved.high,
              test.difference.mean, test.difference.low, test.difference.high);
  if (passed)
    std::printf("the test reward was above %.1f after %zu rollouts\n", bar, *passed);
  else
    std::printf("the test reward was not seen above %.1f before the last step\n", bar);
}

}  // namespace

int main(int argc, char** argv) {
  options o;
  CLI::App app{
      "GRPO from random weights on verl's arithmetic sequences: prints the mean reward on test prompts against "
      "the number of rollouts."};
  app.option_defaults()->always_capture_default()->take_last();
  app.add_option("--data", o.data, "Folder with config.json, model.safetensors and all_prompts.jsonl")->required();
  app.add_option("--steps", o.recipe.steps, "Optimizer steps")->check(CLI::PositiveNumber);
  app.add_option("--batch-prompts", o.recipe.batch_prompts, "Prompts of a step")->check(CLI::PositiveNumber);
  app.add_option("--group-size", o.recipe.group_size, "Rollouts of each of them")->check(CLI::PositiveNumber);
  app.add_option("--learning-rate", o.learning_rate, "Of Adam")->check(CLI::PositiveNumber);
  app.add_option("--warmup-steps", o.recipe.warmup_steps, "Steps in which the learning rate rises");
  app.add_option("--last-factor", o.recipe.last_factor, "What the learning rate falls to, as a share; 1: stays");
  app.add_option("--temperature", o.recipe.sampling.temperature, "Sampling temperature")->check(CLI::PositiveNumber);
  app.add_option("--evaluate-every", o.recipe.evaluate_every, "Steps between looks at the test prompts")
      ->check(CLI::PositiveNumber);
  app.add_option("--seed", o.recipe.seed, "Seed of all draws");
  app.add_option("--threads", o.threads, "Threads; 0: one per hardware thread. Never changes the result");
  return run_program(app, argc, argv, [&] { run(o); });
}
