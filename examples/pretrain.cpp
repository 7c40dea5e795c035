/// Makes a base model for the example task: a small Llama-type decoder that learns the completions of a corpus by
/// next-token cross-entropy, with AdamW. The same options give the same model on one build and machine type.

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <span>
#include <stdexcept>
#include <string>
#include <vector>

#include <CLI/CLI.hpp>
#include <nlohmann/json.hpp>

#include <rlvr/backend/decoder/files.hpp>
#include <rlvr/backend/decoder/model_folder.hpp>
#include <rlvr/backend/decoder/prompts.hpp>
#include <rlvr/backend/eigen/decoder.hpp>
#include <rlvr/core/norm.hpp>
#include <rlvr/core/policy.hpp>
#include <rlvr/optimize/adamw.hpp>
#include <rlvr/optimize/schedule.hpp>
#include <rlvr/ranges/views.hpp>
#include <rlvr/verify/exact.hpp>

#include "command_line.hpp"
#include "task.hpp"

namespace {

using rlvr::decoder::char_tokenizer;

struct options {
  std::string corpus = "noisy", out, held_out = "examples/data/chain_sum.jsonl";
  std::size_t steps = 6000, batch = 256, curriculum = 400, evaluate_every = 200, threads = 0;
  std::size_t hidden = 64, layers = 3, heads = 4, intermediate = 192;
  double learning_rate = 2e-3, noise = 0.3, stop_at_accuracy = 1;
  std::uint64_t seed = 1;
};

rlvr::decoder::config shape_of(const options& o, const char_tokenizer& tokenizer) {
  rlvr::decoder::config c;
  c.vocab_size = tokenizer.size();
  c.hidden_size = o.hidden;
  c.intermediate_size = o.intermediate;
  c.layers = o.layers;
  c.heads = c.kv_heads = o.heads;
  if (o.hidden % o.heads != 0)
    throw rlvr::decoder::input_error(rlvr::concat("--hidden ", o.hidden, " is not a multiple of --heads ", o.heads));
  c.head_dim = o.hidden / o.heads;
  c.max_positions = 64;
  c.eos = {tokenizer.eos()};
  c.pad = tokenizer.pad();
  validate(c);
  return c;
}

/// All of layout(c) in order: norms 1; matrices normal with deviation 1 / sqrt(inputs), those that write into the
/// residual stream divided by sqrt(2 layers), so that the stream's variance does not depend on the depth.
std::vector<float> initial_parameters(const rlvr::decoder::config& c, rlvr::random_key key) {
  const std::vector<rlvr::tensor_slot> slots = rlvr::decoder::layout(c);
  std::vector<float> theta(rlvr::decoder::parameter_count(slots), 1.0f);
  for (const rlvr::tensor_slot& slot : slots) {
    if (slot.shape.size() < 2) continue;
    const bool writes = slot.name.find("o_proj") != slot.name.npos || slot.name.find("down_proj") != slot.name.npos;
    const double deviation = 1 / std::sqrt(static_cast<double>(slot.shape[1] * (writes ? 2 * c.layers : 1)));
    for (std::size_t i = slot.offset; i < slot.offset + slot.size(); ++i)  // Box-Muller
      theta[i] = static_cast<float>(deviation * std::sqrt(-2 * std::log(key.uniform(i, 0))) *
                                    std::cos(6.283185307179586 * key.uniform(i, 1)));
  }
  return theta;
}

/// Examples as rollouts that somebody else wrote: one completion per prompt, the end of sequence included.
struct supervised_batch {
  rlvr::ragged<rlvr::token> prompts;
  rlvr::rollouts completions;

  void push_back(const chain::example& e, const char_tokenizer& tokenizer) {
    std::vector<rlvr::token> tokens = tokenizer.encode(e.completion);
    tokens.push_back(tokenizer.eos());
    completions.prompts.push_back(static_cast<std::uint32_t>(prompts.size()));
    completions.tokens.insert(completions.tokens.end(), tokens.begin(), tokens.end());
    completions.offsets.push_back(completions.tokens.size());
    prompts.push_back(tokenizer.encode(e.prompt));
  }
};

/// Sampled accuracy on prompts of the validation split: one rollout, and at least one right of 16.
struct accuracy {
  double pass_at_1 = 0, pass_at_16 = 0;
};
template <rlvr::sampler P>
accuracy measure(P& policy, const char_tokenizer& tokenizer, const std::vector<chain::problem>& problems,
                 rlvr::random_key key) {
  rlvr::ragged<rlvr::token> prompts;
  std::vector<rlvr::sample_request> requests;
  for (const chain::problem& p : problems) {
    requests.push_back({static_cast<std::uint32_t>(prompts.size()), 16});
    prompts.push_back(tokenizer.encode(chain::prompt_text(p)));
  }
  const rlvr::rollouts r = policy.sample(prompts, requests, {.max_tokens = chain::longest_completion}, key);
  const rlvr::exact_verifier verify{.marker = "="};
  accuracy out;
  for (const rlvr::group_view group : r | rlvr::views::groups) {
    const std::string answer = chain::answer_text(problems[group.prompt()]);
    double right = 0;
    for (const auto completion : group.completions()) right += verify(tokenizer.decode(completion), answer).reward;
    out.pass_at_1 += right / static_cast<double>(r.size());
    out.pass_at_16 += (right > 0) / static_cast<double>(problems.size());
  }
  return out;
}

void run(const options& o, const std::string& command) {
  chain::corpus_options corpus{.from = chain::corpus_named(o.corpus), .noise = o.noise, .held_out = {}};
  const char_tokenizer tokenizer(chain::alphabet);
  const rlvr::decoder::config config = shape_of(o, tokenizer);
  for (const std::string& prompt : rlvr::decoder::read_prompts(o.held_out).prompts) corpus.held_out.insert(prompt);
  std::vector<std::string> files = rlvr::decoder::model_file_names();
  files.push_back("pretrain.json");
  rlvr::decoder::staged_folder folder(o.out, files);

  const rlvr::random_key key(o.seed), corpus_key = key.fold(rlvr::purpose::corpus);
  rlvr::eigen::decoder<float> policy(config, initial_parameters(config, key.fold(rlvr::purpose::initialise)),
                                     {.threads = o.threads});
  const auto& space = policy.space();
  auto theta = space.zero(), gradient = space.zero();
  space.assign(theta, policy.parameters());
  rlvr::adamw<rlvr::space_t<rlvr::eigen::decoder<float>>> optimiser(
      space, {.learning_rate = o.learning_rate, .beta2 = 0.98});

  const rlvr::random_key validation_key = key.fold(rlvr::purpose::validation);
  const std::vector<chain::problem> problems = chain::draw_problems(chain::split::validation, 256, validation_key);
  std::printf("%zu parameters, corpus %s, %zu steps of %zu examples\n", space.dimension(), o.corpus.c_str(), o.steps,
              o.batch);
  const auto start = std::chrono::steady_clock::now();
  accuracy reached;
  double loss = 0, seconds = 0;
  std::size_t step = 0;
  while (step < o.steps) {
    corpus.most = chain::most_terms;
    if (o.curriculum > 0) corpus.most = std::min(corpus.most, chain::fewest_terms + step / o.curriculum);
    supervised_batch batch;
    for (std::size_t i = 0; i < o.batch; ++i)
      batch.push_back(chain::draw_example(corpus, corpus_key.fold(step).fold(i)), tokenizer);
    const std::size_t tokens = batch.completions.tokens.size();
    const bool evaluate = (step + 1) % o.evaluate_every == 0 || step + 1 == o.steps;
    if (evaluate) {
      loss = 0;
      for (double log_prob : policy.score(batch.prompts, batch.completions, 1.0).log_probs)
        loss -= log_prob / static_cast<double>(tokens);
    }

    space.scale(0, gradient);
    policy.accumulate_score(batch.prompts, batch.completions,
                            std::vector<double>(tokens, 1 / static_cast<double>(tokens)), 1.0, gradient);
    const double length = rlvr::norm(space, gradient);
    if (!std::isfinite(length)) throw std::runtime_error(rlvr::concat("the gradient of step ", step, " is not finite"));
    if (length > 1) space.scale(1 / length, gradient);
    optimiser.step(space, theta, gradient, rlvr::warmup_cosine(step, 100, o.steps, 0.1));
    policy.assign(theta);
    ++step;

    if (!evaluate) continue;
    reached = measure(policy, tokenizer, problems, validation_key.fold(step));
    seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    std::printf("step %6zu   loss %.4f   pass@1 %.3f   pass@16 %.3f   %.0f s\n", step, loss, reached.pass_at_1,
                reached.pass_at_16, seconds);
    std::fflush(stdout);
    if (reached.pass_at_1 >= o.stop_at_accuracy) break;
  }

  write_model(folder.path(), config, tokenizer, std::span<const float>(theta.data(), space.dimension()),
              rlvr::decoder::storage::f32);
  const nlohmann::ordered_json record = {{"command", command}, {"seed", o.seed}, {"steps", step}, {"loss", loss},
                                         {"validation_pass@1", reached.pass_at_1},
                                         {"validation_pass@16", reached.pass_at_16}, {"seconds", seconds}};
  rlvr::decoder::write_file(folder.path() / "pretrain.json", record.dump(2) + "\n");
  folder.commit();
}

}  // namespace

int main(int argc, char** argv) {
  options o;
  CLI::App app{"Makes a base model for the example task."};
  app.option_defaults()->always_capture_default()->take_last();
  app.add_option("--corpus", o.corpus,
                 "What to learn from: noisy (each step may get a wrong digit), mix (correct, without carry, and direct "
                 "answers) or clean");
  app.add_option("--noise", o.noise, "Probability of a wrong digit per step, for noisy")->check(CLI::Range(0.0, 1.0));
  app.add_option("--steps", o.steps, "Optimiser steps at most")->check(positive_number());
  app.add_option("--batch", o.batch, "Examples per step")->check(positive_number());
  app.add_option("--curriculum", o.curriculum,
                 "Steps with two terms at most, then as many with three, and so on; 0: all lengths from the start");
  app.add_option("--learning-rate", o.learning_rate, "Peak learning rate: 100 steps of warm-up, cosine to a tenth")
      ->check(positive_number());
  app.add_option("--hidden", o.hidden, "Width of the decoder")->check(positive_number());
  app.add_option("--layers", o.layers, "Layers")->check(positive_number());
  app.add_option("--heads", o.heads, "Attention heads")->check(positive_number());
  app.add_option("--intermediate", o.intermediate, "Width of the MLP")->check(positive_number());
  app.add_option("--stop-at-accuracy", o.stop_at_accuracy, "Stop as soon as pass@1 on validation prompts reaches this");
  app.add_option("--evaluate-every", o.evaluate_every, "Steps between two measurements")->check(positive_number());
  app.add_option("--held-out", o.held_out, "Prompts that the corpus must not contain, besides the other splits");
  app.add_option("--seed", o.seed, "Seed of all draws");
  app.add_option("--threads", o.threads, "Threads; 0: one per hardware thread. Never changes the result");
  app.add_option("--out", o.out, "Model folder to write")->required();
  std::string command = "examples/pretrain";
  for (int i = 1; i < argc; ++i) command += std::string(" ") + argv[i];
  return run_program(app, argc, argv, [&] { run(o, command); });
}
