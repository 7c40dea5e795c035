#pragma once
/// The program one_shot_rlvr without its command line, files and output, over any policy.

#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include <rlvr/advantage/centred.hpp>
#include <rlvr/backend/decoder/chat_template.hpp>
#include <rlvr/backend/decoder/prompts.hpp>
#include <rlvr/tokenizer/folder.hpp>
#include <rlvr/train/one_shot.hpp>
#include <rlvr/verify/decoded.hpp>
#include <rlvr/verify/named.hpp>

#include "progress.hpp"
#include "report.hpp"

namespace one_shot_program {

namespace files = std::filesystem;
using rlvr::decoder::input_error;
using rlvr::decoder::prompt_file;
using rlvr::tokenizer::folder_tokenizer;

struct options {
  files::path here = files::path(__FILE__).parent_path();
  std::string model = here / "models" / "noisy", prompts = here / "data" / "chain_train.jsonl",
              validation = here / "data" / "chain_validation.jsonl", test = here / "data" / "chain_test.jsonl",
              verifier = "exact_after_equals", chat = "none", device = "cpu", out = "results";
  std::size_t rollouts = 10240, steps = 1, threads = 0;
  std::uint32_t group_size = 16, max_tokens = 32;
  double temperature = 1;
  std::uint64_t seed = 0;
};

using judge = std::function<rlvr::verdict(std::size_t, std::span<const rlvr::token>)>;
using prompt_set = rlvr::prompt_set<judge>;

/// Every `stride`-th prompt of a file from `first` on, as tokens, with the verifier of their completions.
inline prompt_set read(const std::string& path, const folder_tokenizer& tokenizer, const options& o,
                       std::size_t first = 0, std::size_t stride = 1) {
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

/// Training prompts; those that choose the step, confirm it, and judge the result.
struct prompt_sets {
  prompt_set train, validation, confirmation, test;
};

/// The validation file's lines alternate between choosing and confirming, so that a file in some order gives two sets
/// of the same kind.
inline prompt_sets read_all(const folder_tokenizer& tokenizer, const options& o) {
  return {read(o.prompts, tokenizer, o), read(o.validation, tokenizer, o, 0, 2), read(o.validation, tokenizer, o, 1, 2),
          read(o.test, tokenizer, o)};
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

inline std::string advice_for(rlvr::one_shot_status status) {
  using enum rlvr::one_shot_status;
  switch (status) {
    case improved:
      return "";
    case not_confirmed:
      return "The best step did not beat the base on the confirmation prompts: take more rollouts, more validation "
             "prompts, or several small steps (--steps 10).";
    case no_improvement:
      return "No step along the direction beats the base: take more rollouts, or several small steps (--steps 10).";
    case no_signal:
      return "In every group all rollouts have the same reward, so there is no gradient: check --verifier and the "
             "answers, or take prompts that the model gets right sometimes.";
    case nothing_scored:
      return "No rollout could be scored: check --verifier and the answers.";
    case nonfinite_direction:
      return "The gradient is not finite: check the model's parameters.";
    case zero_direction:
      return "The gradient moves no probability: take more rollouts or other prompts.";
    case budget_spent:
      return "The best step may lie beyond those tried: accuracy was still rising at the largest, or still below the "
             "base at the smallest.";
  }
  return "";
}

inline report::comparison plain(const rlvr::comparison& c) {
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
    r.landscape.push_back(
        {p.point.alpha, p.accuracy.mean, p.accuracy.low, p.accuracy.high, p.point.entropy, p.point.kl, p.collapsed});
  if (result.confirmation) r.confirmation = plain(*result.confirmation);
  r.subset_cosine = {result.agreement.subsets, result.agreement.mean_cosine, result.agreement.cosines};
  r.correct_incorrect_cosine = result.correct_incorrect_cosine;
  r.noise_scale = result.agreement.noise_scale;
  return r;
}

/// What a run leaves behind.
struct outcome {
  report::one_shot report;
  std::vector<rlvr::line_point> landscape;
};

/// Runs the recipe on a base policy, calls save() while the policy is the improved one, and compares it with the base
/// on test prompts. The policy ends as the base.
template <rlvr::policy P, class Save>
outcome improve(P& policy, const prompt_sets& sets, const options& o, report::progress& bar, Save save) {
  const auto& space = policy.space();
  auto base = space.zero();
  space.assign(base, policy.parameters());

  rlvr::one_shot_options recipe;
  recipe.rollouts = o.rollouts;
  recipe.group_size = o.group_size;
  recipe.steps = o.steps;
  recipe.sampling = {.temperature = o.temperature, .max_tokens = o.max_tokens};
  recipe.seed = o.seed;
  stage_progress progress(bar);
  const auto result =
      rlvr::one_shot(policy, sets.train, sets.validation, sets.confirmation, rlvr::centred{}, recipe, progress);
  bar.finish();

  save();
  policy.assign(base);
  outcome out{plain(result, o), {}};
  for (const rlvr::landscape_point& p : result.landscape) out.landscape.push_back(p.point);
  // The best step found, taken or not; without one alpha is 0, and the base is compared with itself.
  out.report.test = plain(rlvr::compare(
      policy, sets.test, rlvr::requests_for(sets.test.prompts, recipe.evaluation_group), recipe.sampling,
      rlvr::random_key(o.seed).fold(rlvr::purpose::test), result.alpha > 0 ? *result.direction : base, result.alpha));
  out.report.seconds = progress.seconds();
  return out;
}

}  // namespace one_shot_program
