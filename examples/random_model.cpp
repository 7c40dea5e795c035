/// Writes a random model of a Qwen3 shape with a real tokenizer: something to try a whole pipeline on, at a real
/// vocabulary, before a checkpoint is there.

#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <span>
#include <string>
#include <vector>

#include <CLI/CLI.hpp>
#include <nlohmann/json.hpp>

#include <rlvr/backend/decoder/files.hpp>
#include <rlvr/backend/decoder/model_folder.hpp>
#include <rlvr/core/random.hpp>
#include <rlvr/tokenizer/folder.hpp>

#include "command_line.hpp"
#include "random_model.hpp"

namespace {

struct options {
  std::string tokenizer, eos = "<|im_end|>", out;
  std::size_t vocabulary = 151936, hidden = 64, layers = 4;
  double spread = 5;
  std::uint64_t seed = 0;
};

void run(const options& o) {
  rlvr::decoder::staged_folder folder(o.out, rlvr::decoder::model_file_names());
  rlvr::decoder::write_file(folder.path() / "tokenizer.json", rlvr::decoder::read_file(o.tokenizer));
  rlvr::decoder::write_file(folder.path() / "tokenizer_config.json", nlohmann::json{{"eos_token", o.eos}}.dump());
  const rlvr::tokenizer::folder_tokenizer tokenizer(folder.path());
  rlvr::decoder::config config = random_model::qwen3_shape(o.vocabulary, o.hidden, o.layers);
  if (const auto eos = tokenizer.eos()) config.eos = {*eos};
  const std::vector<float> parameters = random_model::parameters(config, o.spread, rlvr::random_key(o.seed));
  write_model(folder.path(), config, tokenizer, std::span<const float>(parameters), rlvr::decoder::storage::bf16);
  folder.commit();
  std::printf("%s: %zu parameters\n", o.out.c_str(), parameters.size());
}

}  // namespace

int main(int argc, char** argv) {
  options o;
  CLI::App app{"Writes a random model of a Qwen3 shape, with a tokenizer that is given."};
  app.option_defaults()->always_capture_default()->take_last();
  app.add_option("--tokenizer", o.tokenizer, "A tokenizer.json")->required();
  app.add_option("--eos", o.eos, "The token that ends a completion");
  app.add_option("--vocabulary", o.vocabulary, "Rows of the embedding and output matrices")->check(positive_number());
  app.add_option("--hidden", o.hidden, "Width")->check(positive_number());
  app.add_option("--layers", o.layers, "Layers")->check(positive_number());
  app.add_option("--spread", o.spread, "Standard deviation of the logits")->check(positive_number());
  app.add_option("--seed", o.seed, "Seed of the parameters");
  app.add_option("--out", o.out, "Folder to write; an older model there is replaced")->required();
  return run_program(app, argc, argv, [&] { run(o); });
}
