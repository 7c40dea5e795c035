/// One-shot RLVR on the CPU: a better model from one policy gradient and a line search, with the evidence for it.

#include <algorithm>
#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <functional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include <CLI/CLI.hpp>

#include <rlvr/advantage/centred.hpp>
#include <rlvr/backend/decoder/chat_template.hpp>
#include <rlvr/backend/decoder/model_folder.hpp>
#include <rlvr/backend/decoder/prompts.hpp>
#include <rlvr/backend/eigen/decoder.hpp>
#include <rlvr/tokenizer/folder.hpp>
#include <rlvr/train/one_shot.hpp>
#include <rlvr/verify/decoded.hpp>
#include <rlvr/verify/named.hpp>
#include <rlvr/xtensor/npy.hpp>
#include <rlvr/xtensor/tables.hpp>

#include "command_line.hpp"
#include "gnuplot.hpp"
#include "pictures.hpp"
#include "progress.hpp"
#include "report.hpp"

namespace {

namespace files = std::filesystem;
using rlvr::decoder::input_error;
using rlvr::decoder::prompt_file;
using rlvr::tokenizer::folder_tokenizer;

struct options {
  files::path here = files::path(__FILE__).parent_path();
  std::string model = here / "models" / "noisy", prompts = here / "data" / "chain_train.jsonl",
              validation = here / "data" / "chain_validation.jsonl", test = here / "data" / "chain_test.jsonl",
              verifier = "exact_after_equals", chat = "none", out = "results";
  std::size_t rollouts = 10240, steps = 1, threads = 0;
  std::uint32_t group_size = 16, max_tokens = 32;
  double temperature = 1;
  std::uint64_t seed = 0;
};

using judge = std::function<rlvr::verdict(std::size_t, std::span<const rlvr::token>)>;
using prompt_set = rlvr::prompt_set<judge>;

/// Every `stride`-th prompt of a file from `first` on, as tokens, with the verifier of their completions.
prompt_set read(const std::string& path, const folder_tokenizer& tokenizer, const options& o, std::size_t first = 0,
                std::size_t stride = 1) {
  const prompt_file file = rlvr::decoder::read_prompts(path);
  const rlvr::decoder::chat_template chat = rlvr::decoder::chat_template_named(o.chat);
  prompt_set out;
  std::vector<std::string> answers;
  for (std::size_t i = first; i < file.size(); i += stride) {
    try {
      out.prompts.push_back(tokenizer.encode_prompt(chat, file.prompts[i]));
    } catch (const input_error& e) {
      throw input_error(rlvr::concat(path, ", line ", file.lines[i], ": ", std::string_view(e.what())));
    }
    answers.push_back(file.answers[i]);
  }
  if (out.prompts.empty()) throw input_error(path + ": too few prompts: validation and confirmation need one each");
  out.verify = rlvr::with_verifier(o.verifier, [&](auto text_verifier) -> judge {
    return rlvr::decoded_verifier(
        text_verifier, [&tokenizer](std::span<const rlvr::token> tokens) { return tokenizer.decode(tokens); }, answers);
  });
  return out;
}

/// Shows the stages of the recipe and measures them: the time since the last call belongs to the stage of this one.
class stage_progress {
 public:
  explicit stage_progress(report::progress& bar) : bar_(bar) {}

  void operator()(rlvr::one_shot_stage stage, std::size_t done, std::size_t total) {
    const clock::time_point now = clock::now();
    seconds_[static_cast<std::size_t>(stage)] += std::chrono::duration<double>(now - last_).count();
    last_ = now;
    bar_.update(names[static_cast<std::size_t>(stage)], done, total);
  }

  report::stage_seconds seconds() const { return {seconds_[0], seconds_[1], seconds_[2], seconds_[3] + seconds_[4]}; }

 private:
  using clock = std::chrono::steady_clock;
  static constexpr std::array<std::string_view, 5> names{"sampling", "verifying", "gradient", "search", "confirmation"};
  report::progress& bar_;
  clock::time_point last_ = clock::now();
  std::array<double, 5> seconds_{};
};

std::string advice_for(rlvr::one_shot_status status) {
  using enum rlvr::one_shot_status;
  switch (status) {
    case improved: return "";
    case not_confirmed:
      return "The best step did not beat the base on the confirmation prompts: take more rollouts, more validation "
             "prompts, or several small steps (--steps 10).";
    case no_improvement:
      return "No step along the direction beats the base: take more rollouts, or several small steps (--steps 10).";
    case no_signal:
      return "In every group all rollouts have the same reward, so there is no gradient: check --verifier and the "
             "answers, or take prompts that the model gets right sometimes.";
    case nonfinite_direction: return "The gradient is not finite: check the model's parameters.";
    case zero_direction: return "The gradient moves no probability: take more rollouts or other prompts.";
    case budget_spent: return "Accuracy was still rising at the largest step tried: run again from the largest step.";
  }
  return "";
}

report::comparison plain(const rlvr::comparison& c) {
  return {c.base.mean, c.moved.mean, c.difference.mean, c.difference.low, c.difference.high};
}

template <class Vector>
report::one_shot plain(const rlvr::one_shot_result<Vector>& result, const options& o) {
  report::one_shot r;
  r.rollouts = o.rollouts;
  r.prompts = o.rollouts / o.group_size;
  r.group_size = o.group_size;
  r.seed = o.seed;
  r.base = {result.base.accuracy.mean, result.base.accuracy.low, result.base.accuracy.high, result.base.point.entropy};
  r.alpha = result.alpha;
  r.status = to_string(result.status);
  r.advice = advice_for(result.status);
  for (const rlvr::landscape_point& p : result.landscape)
    r.landscape.push_back({p.point.alpha, p.accuracy.mean, p.accuracy.low, p.accuracy.high, p.point.entropy,
                           p.point.kl, p.collapsed});
  if (result.confirmation) r.confirmation = plain(*result.confirmation);
  r.subset_cosine = {result.agreement.subsets, result.agreement.mean_cosine, result.agreement.cosines};
  r.correct_incorrect_cosine = result.correct_incorrect_cosine;
  r.noise_scale = result.agreement.noise_scale;
  return r;
}

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
  std::printf("cosine between correct and incorrect part: %s (-1 up to sampling noise by an identity; it tests the "
              "code)\n",
              text("%.3f", r.correct_incorrect_cosine, "unknown").c_str());
  std::printf("seconds: sample %.2f, verify %.2f, gradient %.2f, search %.2f\n", r.seconds.sample, r.seconds.verify,
              r.seconds.gradient, r.seconds.search);
}

void run(const options& o) {
  auto model = rlvr::tokenizer::load_model(o.model);
  const prompt_set train = read(o.prompts, model.tokenizer, o);
  // Lines alternate, so that a file in some order gives two sets of the same kind.
  const prompt_set validation = read(o.validation, model.tokenizer, o, 0, 2);
  const prompt_set confirmation = read(o.validation, model.tokenizer, o, 1, 2);
  const prompt_set test = read(o.test, model.tokenizer, o);
  rlvr::decoder::staged_folder folder(o.out, {"report.json", "landscape.csv", "landscape.npy", "landscape.svg",
                                              "subset_cosine.npy", "subset_cosine.svg", "model"});
  report::require_gnuplot();

  rlvr::eigen::decoder<float> policy(model.cfg, model.parameters, {.threads = o.threads});
  std::vector<float>().swap(model.parameters);  // the policy has its own
  const auto& space = policy.space();
  auto base = space.zero();
  space.assign(base, policy.parameters());
  std::printf("%s: %zu parameters; %zu rollouts of %zu prompts\n", o.model.c_str(), space.dimension(), o.rollouts,
              o.rollouts / o.group_size);
  std::fflush(stdout);

  rlvr::one_shot_options recipe;
  recipe.rollouts = o.rollouts;
  recipe.group_size = o.group_size;
  recipe.steps = o.steps;
  recipe.sampling = {.temperature = o.temperature, .max_tokens = o.max_tokens};
  recipe.seed = o.seed;
  report::progress bar;
  stage_progress progress(bar);
  const auto result = rlvr::one_shot(policy, train, validation, confirmation, rlvr::centred{}, recipe, progress);
  bar.finish();

  auto improved = space.zero();
  space.assign(improved, policy.parameters());
  policy.assign(base);

  report::one_shot r = plain(result, o);
  // The best step found, taken or not; without one alpha is 0, and the base is compared with itself.
  r.test = plain(rlvr::compare(policy, test, rlvr::requests_for(test.prompts, recipe.evaluation_group),
                               recipe.sampling, rlvr::random_key(o.seed).fold(rlvr::purpose::test),
                               result.alpha > 0 ? *result.direction : base, result.alpha));
  r.seconds = progress.seconds();
  print(r);

  const files::path& out = folder.path();
  std::vector<rlvr::line_point> points;
  for (const rlvr::landscape_point& p : result.landscape) points.push_back(p.point);
  rlvr::decoder::write_file(out / "report.json", report::to_json(r));
  rlvr::decoder::write_file(out / "landscape.csv", report::to_csv(r.landscape));
  rlvr::save_npy(out / "landscape.npy", rlvr::landscape_table(points));
  rlvr::save_npy(out / "subset_cosine.npy", rlvr::square_matrix(r.subset_cosine.matrix));
  report::draw(report::landscape_script(r), out / "landscape.svg");
  report::draw(report::cosine_script(r), out / "subset_cosine.svg");
  files::create_directory(out / "model");
  write_model(out / "model", model.cfg, model.tokenizer, std::span<const float>(improved.data(), space.dimension()),
              rlvr::decoder::storage::f32);
  folder.commit();
  std::printf("written to %s\n", o.out.c_str());
}

}  // namespace

int main(int argc, char** argv) {
  options o;
  CLI::App app{"One-shot RLVR: samples a large batch of rollouts from a model, takes one policy gradient, searches the "
               "step along it on validation prompts, and writes the improved model with the evidence for it."};
  app.option_defaults()->always_capture_default()->take_last();
  app.add_option("--model", o.model,
                 "Model folder: config.json, tokenizer.json, tokenizer_config.json and the weights, in one file or "
                 "several");
  app.add_option("--prompts", o.prompts,
                 "Training prompts, one {\"prompt\", \"answer\"} per line; N / G of them are used");
  app.add_option("--validation", o.validation,
                 "Prompts that choose the step (odd lines) and confirm it (even lines)");
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
  app.add_option("--threads", o.threads, "Threads; 0: one per hardware thread. Never changes the result");
  app.add_option("--out", o.out, "Folder to write; an older result there is replaced");
  return run_program(app, argc, argv, [&] { run(o); });
}
