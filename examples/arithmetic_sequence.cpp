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
#include <rlvr/backend/eigen/load.hpp>
#include <rlvr/optimize/adamw.hpp>
#include <rlvr/train/grpo.hpp>

#include "arithmetic_sequence.hpp"
#include "command_line.hpp"
#include "seed_table.hpp"

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
  bool whole = false;
  std::size_t seeds = 1, threads = 0;
};

constexpr double bar = 0.2;

/// One seed. Shows on stderr what the table gets, and returns the rollouts after which the bar was passed.
template <class Policy>
std::optional<std::size_t> train(Policy& policy, const sequence::task& task, const options& o,
                                 const rlvr::grpo_options& recipe, seed_table& table) {
  rlvr::adamw optimizer(policy.space(), {.learning_rate = o.learning_rate, .weight_decay = 0});
  const auto start = std::chrono::steady_clock::now();
  std::optional<std::size_t> passed;
  const auto look = [&](std::size_t rollouts, const rlvr::interval& test) {
    if (!passed && test.mean > bar) passed = rollouts;
    table.add(rollouts, test.mean);
    std::fprintf(stderr, "seed %llu, %7zu rollouts, %5.0f s: test reward %.3f [%.3f, %.3f]\n",
                 static_cast<unsigned long long>(recipe.seed), rollouts,
                 std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count(), test.mean, test.low,
                 test.high);
  };
  const auto result = rlvr::grpo(policy, task.train, task.test, rlvr::group_normalized{}, optimizer, recipe,
                                 [&](const rlvr::grpo_step& s) {
                                   if (s.held_out) look(s.rollouts, *s.held_out);
                                 });
  look(result.rollouts, result.held_out->moved);
  if (result.status != rlvr::grpo_status::finished)
    std::fprintf(stderr, "%s\n", std::string(to_string(result.status)).c_str());
  return passed;
}

void run(const options& o) {
  const sequence::task task = sequence::load_task(o.data);
  std::printf("%zu training and %zu test prompts, %zu x %u rollouts a step; the best possible test reward is %.3f\n\n",
              task.train.prompts.size(), task.test.prompts.size(), o.recipe.batch_prompts,
              static_cast<unsigned>(o.recipe.group_size), task.best_test_reward);
  seed_table table;
  std::string passed;
  for (std::size_t i = 0; i < o.seeds; ++i) {
    rlvr::grpo_options recipe = o.recipe;
    recipe.seed += i;
    auto model = rlvr::eigen::load_decoder<float>(o.data, {.threads = o.threads});
    sequence::until_decided cut(model);
    const auto at = o.whole ? train(model, task, o, recipe, table) : train(cut, task, o, recipe, table);
    passed += (i > 0 ? ", " : "") + (at ? std::to_string(*at) : "never");
  }
  table.print();
  std::printf("\nrollouts after which the test reward was above %.1f: %s\n", bar, passed.c_str());
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
  app.add_flag("--whole", o.whole, "Completions go on after their reward is decided");
  app.add_option("--seed", o.recipe.seed, "Seed of all draws");
  app.add_option("--seeds", o.seeds, "Runs, with this seed and those that follow it")->check(CLI::PositiveNumber);
  app.add_option("--threads", o.threads, "Threads; 0: one per hardware thread. Never changes the result");
  return run_program(app, argc, argv, [&] { run(o); });
}
