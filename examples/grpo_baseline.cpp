/// The many-step baseline of one_shot_rlvr: GRPO with AdamW from the same base model on the same prompts, test accuracy
/// against rollouts for several seeds.

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include <CLI/CLI.hpp>

#include <rlvr/advantage/group_normalized.hpp>
#include <rlvr/backend/decoder/prompts.hpp>
#include <rlvr/backend/eigen/decoder.hpp>
#include <rlvr/optimize/adamw.hpp>
#include <rlvr/tokenizer/folder.hpp>
#include <rlvr/train/grpo.hpp>
#include <rlvr/verify/decoded.hpp>
#include <rlvr/verify/named.hpp>

#include "command_line.hpp"
#include "seed_table.hpp"

namespace {

namespace files = std::filesystem;
using rlvr::tokenizer::folder_tokenizer;

struct options {
  files::path here = files::path(__FILE__).parent_path();
  std::string model = here / "models" / "noisy", prompts = here / "data" / "chain_train.jsonl",
              test = here / "data" / "chain_test.jsonl", verifier = "exact_after_equals";
  rlvr::grpo_options recipe{.steps = 100,
                            .batch_prompts = 64,
                            .group_size = 16,
                            .evaluate_every = 10,
                            .evaluation_group = 4,
                            .sampling = {.max_tokens = 32},
                            .seed = 1};
  double learning_rate = 1e-3;
  std::size_t seeds = 5, threads = 0;
};

struct decode {
  const folder_tokenizer* tokenizer;
  std::string operator()(std::span<const rlvr::token> tokens) const { return tokenizer->decode(tokens); }
};
using verifier = rlvr::decoded_verifier<rlvr::named_verifier, decode>;

rlvr::prompt_set<verifier> read(const std::string& path, const folder_tokenizer& tokenizer, const options& o) {
  rlvr::decoder::prompt_file file = rlvr::decoder::read_prompts(path);
  rlvr::ragged<rlvr::token> prompts;
  for (const std::string& p : file.prompts)
    prompts.push_back(tokenizer.encode_prompt(rlvr::decoder::chat_template::none, p));
  return {std::move(prompts),
          verifier(rlvr::named_verifier(o.verifier), decode{&tokenizer}, std::move(file.answers))};
}

void run(const options& o) {
  const auto model = rlvr::tokenizer::load_model(o.model);
  const auto train = read(o.prompts, model.tokenizer, o), test = read(o.test, model.tokenizer, o);
  seed_table table;
  for (std::size_t i = 0; i < o.seeds; ++i) {
    rlvr::grpo_options recipe = o.recipe;
    recipe.seed += i;
    rlvr::eigen::decoder<float> policy(model.cfg, model.parameters, {.threads = o.threads});
    rlvr::adamw optimizer(policy.space(), {.learning_rate = o.learning_rate, .weight_decay = 0});
    const auto result = rlvr::grpo(policy, train, test, rlvr::group_normalized{}, optimizer, recipe,
                                   [&](const rlvr::grpo_step& s) {
                                     if (s.held_out) table.add(s.rollouts, s.held_out->mean);
                                   });
    table.add(result.rollouts, result.held_out->moved.mean);
    const rlvr::interval& gain = result.held_out->difference;
    std::fprintf(stderr, "seed %llu: %s, difference %+.3f [%+.3f, %+.3f]\n",
                 static_cast<unsigned long long>(recipe.seed), std::string(to_string(result.status)).c_str(),
                 gain.mean, gain.low, gain.high);
  }
  table.print();
}

}  // namespace

int main(int argc, char** argv) {
  options o;
  CLI::App app{"GRPO with AdamW on the task of one_shot_rlvr: prints test accuracy against the number of rollouts."};
  app.option_defaults()->always_capture_default()->take_last();
  app.add_option("--model", o.model, "Model folder");
  app.add_option("--prompts", o.prompts, "Training prompts, one {\"prompt\", \"answer\"} per line");
  app.add_option("--test", o.test, "Prompts that accuracy is measured on; they decide nothing");
  app.add_option("--verifier", o.verifier, "How answers are judged: " + std::string(rlvr::verifier_names));
  app.add_option("--steps", o.recipe.steps, "Optimizer steps")->check(positive_number());
  app.add_option("--batch-prompts", o.recipe.batch_prompts, "Prompts of a step")->check(positive_number());
  app.add_option("--group-size", o.recipe.group_size, "Rollouts of each of them")->check(positive_number());
  app.add_option("--learning-rate", o.learning_rate, "Of AdamW")->check(positive_number());
  app.add_option("--max-tokens", o.recipe.sampling.max_tokens, "Longest completion in tokens")
      ->check(positive_number());
  app.add_option("--evaluate-every", o.recipe.evaluate_every, "Steps between looks at the test prompts")
      ->check(positive_number());
  app.add_option("--seed", o.recipe.seed, "Seed of all draws");
  app.add_option("--seeds", o.seeds, "Runs, with this seed and those that follow it")->check(positive_number());
  app.add_option("--threads", o.threads, "Threads; 0: one per hardware thread. Never changes the result");
  return run_program(app, argc, argv, [&] { run(o); });
}
