/// One-shot RLVR: a better model from one policy gradient and a line search, with the evidence for it.

#include <algorithm>
#include <cstddef>
#include <cstdio>
#include <filesystem>
#include <span>
#include <string>
#include <vector>

#include <CLI/CLI.hpp>

#include <rlvr/backend/decoder/chat_template.hpp>
#include <rlvr/backend/decoder/model_folder.hpp>
#include <rlvr/tokenizer/folder.hpp>
#include <rlvr/train/one_shot.hpp>
#include <rlvr/verify/named.hpp>
#include <rlvr/xtensor/npy.hpp>
#include <rlvr/xtensor/tables.hpp>

#include "command_line.hpp"
#include "devices.hpp"
#include "gnuplot.hpp"
#include "one_shot_program.hpp"
#include "pictures.hpp"
#include "progress.hpp"
#include "report.hpp"

namespace {

namespace files = std::filesystem;
using one_shot_program::options;

void print(const report::one_shot& r) {
  using report::detail::text;
  std::printf("\n%s\n", report::to_table(r).c_str());
  if (std::any_of(r.landscape.begin(), r.landscape.end(), [](const auto& p) { return p.collapsed; }))
    std::printf("collapsed: entropy below %g of the base's, and accuracy below the base's\n\n",
                rlvr::one_shot_options{}.collapsed_fraction);
  std::printf("status         %s\n", r.status.c_str());
  if (!r.advice.empty()) std::printf("advice         %s\n", r.advice.c_str());
  std::printf("confirmation   %s\n", report::to_sentence(r.confirmation).c_str());
  std::printf("test           %s\n\n", report::to_sentence(r.test).c_str());
  std::printf("cosine between gradients of %zu disjoint prompt subsets: %s on average\n", r.subset_cosine.subsets,
              text("%.3f", r.subset_cosine.mean, "unknown").c_str());
  std::printf("noise scale: %s rollouts; the batch has %zu\n", text("%.0f", r.noise_scale, "unknown").c_str(),
              r.rollouts);
  std::printf(
      "cosine between correct and incorrect part: %s (-1 up to sampling noise by an identity; it tests the "
      "code)\n",
      text("%.3f", r.correct_incorrect_cosine, "unknown").c_str());
  std::printf("seconds: sample %.2f, verify %.2f, gradient %.2f, search %.2f\n", r.seconds.sample, r.seconds.verify,
              r.seconds.gradient, r.seconds.search);
}

template <class Device>
void run(const Device& device, const options& o) {
  auto model = rlvr::tokenizer::load_model(o.model);
  const one_shot_program::prompt_sets sets = one_shot_program::read_all(model.tokenizer, o);
  rlvr::decoder::staged_folder folder(o.out, {"report.json", "landscape.csv", "landscape.npy", "landscape.svg",
                                              "subset_cosine.npy", "subset_cosine.svg", "model"});
  report::require_gnuplot();

  auto policy = device.load(model.cfg, model.parameters, o.threads);
  std::vector<float>().swap(model.parameters);  // the policy has its own
  std::printf("%s: %zu parameters; %zu rollouts of %zu prompts\n", o.model.c_str(), policy.space().dimension(),
              o.rollouts, o.rollouts / o.group_size);
  std::fflush(stdout);
  report::progress bar;
  const files::path& out = folder.path();
  const one_shot_program::outcome result = one_shot_program::improve(policy, sets, o, bar, [&] {
    files::create_directory(out / "model");
    write_model(out / "model", model.cfg, model.tokenizer, devices::parameter_reader(policy),
                rlvr::decoder::storage::f32);
  });
  const report::one_shot& r = result.report;
  print(r);

  rlvr::decoder::write_file(out / "report.json", report::to_json(r));
  rlvr::decoder::write_file(out / "landscape.csv", report::to_csv(r.landscape));
  rlvr::save_npy(out / "landscape.npy", rlvr::landscape_table(result.landscape));
  rlvr::save_npy(out / "subset_cosine.npy", rlvr::square_matrix(r.subset_cosine.matrix));
  report::draw(report::landscape_script(r), out / "landscape.svg");
  report::draw(report::cosine_script(r), out / "subset_cosine.svg");
  folder.commit();
  std::printf("written to %s\n", o.out.c_str());
}

}  // namespace

int main(int argc, char** argv) {
  options o;
  CLI::App app{
      "One-shot RLVR: samples a large batch of rollouts from a model, takes one policy gradient, searches the "
      "step along it on validation prompts, and writes the improved model with the evidence for it."};
  app.option_defaults()->always_capture_default()->take_last();
  app.add_option("--model", o.model,
                 "Model folder: config.json, tokenizer.json, tokenizer_config.json and the weights, in one file or "
                 "several");
  app.add_option("--prompts", o.prompts,
                 "Training prompts, one {\"prompt\", \"answer\"} per line; the first N / G are used: shuffle a sorted "
                 "file");
  app.add_option("--validation", o.validation, "Prompts that choose the step (odd lines) and confirm it (even lines)");
  app.add_option("--test", o.test, "Prompts that decide nothing: base and improved model are compared on them");
  app.add_option("--template", o.chat,
                 "How a prompt is put to a chat model: " + std::string(rlvr::decoder::chat_template_names));
  app.add_option("--verifier", o.verifier, "How answers are judged: " + std::string(rlvr::verifier_names));
  app.add_option("--rollouts", o.rollouts, "N, completions to sample in all; a multiple of the group size")
      ->check(positive_number());
  app.add_option("--group-size", o.group_size, "G, completions of each prompt")->check(positive_number());
  app.add_option("--temperature", o.temperature, "Sampling temperature, of training and of every accuracy")
      ->check(positive_number());
  app.add_option("--max-tokens", o.max_tokens, "Longest completion in tokens, the end of sequence included")
      ->check(positive_number());
  app.add_option("--steps", o.steps,
                 "1: search along the gradient; k: spend the rollouts on k small steps and search along their sum")
      ->check(positive_number());
  app.add_option("--seed", o.seed, "Seed of all draws");
  app.add_option("--device", o.device, devices::help)->check(CLI::IsMember(devices::names));
  app.add_option("--threads", o.threads, "Threads of the CPU; 0: one per hardware thread. Never changes the result");
  app.add_option("--out", o.out, "Folder to write; an older result there is replaced");
  return run_program(app, argc, argv,
                     [&] { devices::with_device(o.device, [&](const auto& device) { run(device, o); }); });
}
