/// Samples completions from a model folder and writes their log-probabilities, so that another implementation can
/// score the same text: tests/golden/check_model_folder.py compares them with transformers.

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include <CLI/CLI.hpp>
#include <nlohmann/json.hpp>

#include <rlvr/backend/decoder/files.hpp>
#include <rlvr/backend/decoder/model_folder.hpp>
#include <rlvr/backend/decoder/prompts.hpp>
#include <rlvr/backend/eigen/decoder.hpp>

#include "command_line.hpp"

namespace {

struct options {
  std::string model, prompts, out = "scores.json";
  std::size_t count = 64;
  std::uint32_t max_tokens = 32;
  double temperature = 1;
  std::uint64_t seed = 0;
};

void run(const options& o) {
  const rlvr::decoder::model_files model = rlvr::decoder::load_model(o.model);
  const rlvr::decoder::prompt_file file = rlvr::decoder::read_prompts(o.prompts);
  rlvr::ragged<rlvr::token> prompts;
  std::vector<rlvr::sample_request> requests;
  for (std::size_t i = 0; i < file.size() && i < o.count; ++i) {
    prompts.push_back(model.tokenizer.encode(file.prompts[i]));
    requests.push_back({.prompt = static_cast<std::uint32_t>(i)});
  }
  rlvr::eigen::decoder<float> policy(model.cfg, model.parameters);
  const rlvr::rollouts r = policy.sample(prompts, requests, {.temperature = o.temperature, .max_tokens = o.max_tokens},
                                         rlvr::random_key(o.seed));
  nlohmann::ordered_json cases = nlohmann::ordered_json::array();
  for (std::size_t i = 0; i < r.size(); ++i) {
    const std::vector<double> log_probs(r.log_probs.begin() + static_cast<std::ptrdiff_t>(r.offsets[i]),
                                        r.log_probs.begin() + static_cast<std::ptrdiff_t>(r.offsets[i + 1]));
    cases.push_back({{"prompt", file.prompts[i]},
                     {"completion", model.tokenizer.decode(r.completion(i))},
                     {"tokens", std::vector<rlvr::token>(r.completion(i).begin(), r.completion(i).end())},
                     {"log_probs", log_probs}});
  }
  rlvr::decoder::write_file(o.out, nlohmann::ordered_json{{"temperature", o.temperature}, {"cases", cases}}.dump(1));
}

}  // namespace

int main(int argc, char** argv) {
  options o;
  CLI::App app{"Samples completions from a model and writes their token log-probabilities as JSON."};
  app.option_defaults()->always_capture_default();
  app.add_option("--model", o.model, "Model folder")->required();
  app.add_option("--prompts", o.prompts, "One {\"prompt\", \"answer\"} per line")->required();
  app.add_option("--count", o.count, "How many of the prompts, one completion each");
  app.add_option("--temperature", o.temperature, "Sampling temperature");
  app.add_option("--max-tokens", o.max_tokens, "Longest completion in tokens, the end of sequence included");
  app.add_option("--seed", o.seed, "Seed of all draws");
  app.add_option("--out", o.out, "File to write");
  return run_program(app, argc, argv, [&] { run(o); });
}
