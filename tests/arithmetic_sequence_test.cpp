/// verl's end-to-end fixture: a real checkpoint with random weights learns from a dense reward.

#include <cstddef>
#include <filesystem>
#include <string>
#include <vector>

#include <rlvr/advantage/group_normalized.hpp>
#include <rlvr/backend/decoder/config.hpp>
#include <rlvr/backend/decoder/model_folder.hpp>
#include <rlvr/backend/decoder/prompts.hpp>
#include <rlvr/backend/eigen/decoder.hpp>
#include <rlvr/core/policy.hpp>
#include <rlvr/core/validate.hpp>
#include <rlvr/optimize/adamw.hpp>
#include <rlvr/train/grpo.hpp>

#include "../examples/arithmetic_sequence.hpp"
#include "catch.hpp"

namespace {

using namespace rlvr;

using network = eigen::decoder<float>;
static_assert(sampler<sequence::until_decided<network>> && differentiable<sequence::until_decided<network>>);

std::filesystem::path folder() {
  return std::filesystem::path(RLVR_SHARED_DATA) / "tiny_llama_arithmetic_sequence";
}

bool absent() {
  if (std::filesystem::exists(folder())) return false;
  WARN("skipped: there is no " << folder().filename().string() << " in the shared data");
  return true;
}

}  // namespace

TEST_CASE("arithmetic sequence: the answers of the file are those of the rule", "[arithmetic_sequence]") {
  CHECK(sequence::answer_to("1,0:9,3S") == "8,7,6");
  CHECK(sequence::answer_to("0,0:9,0S").empty());
  if (absent()) return;
  const decoder::prompt_file file = decoder::read_prompts(folder() / "all_prompts.jsonl");
  REQUIRE(file.prompts.size() == 1000);
  for (std::size_t i = 0; i < 1000; ++i) {
    REQUIRE(file.answers[i] == sequence::answer_to(file.prompts[i]) + "E");
    CHECK(sequence::decode{}(sequence::encode(file.prompts[i])) == file.prompts[i]);
  }

  const sequence::task task = sequence::load_task(folder());
  CHECK(task.test.prompts.size() == 193);
  CHECK(task.train.prompts.size() == 736 - 29);
  CHECK(task.best_test_reward == Approx(0.765).margin(0.001));
  for (std::size_t i = 0; i < task.test.prompts.size(); ++i)
    for (std::size_t j = 0; j < task.train.prompts.size(); ++j)
      REQUIRE(sequence::decode{}(task.test.prompts[i]) != sequence::decode{}(task.train.prompts[j]));
}

TEST_CASE("arithmetic sequence: completions end where their reward is decided, and keep it", "[arithmetic_sequence]") {
  if (absent()) return;
  const decoder::config config = decoder::load_config(folder());
  network whole(config, decoder::load_parameters<float>(folder(), config));
  sequence::until_decided cut(whole);
  const sequence::task task = sequence::load_task(folder());
  const sampling_options sampling{.max_tokens = sequence::longest_completion};
  const std::vector<sample_request> requests = requests_for(task.test.prompts, 4);
  rollouts a = whole.sample(task.test.prompts, requests, sampling, random_key(1));
  rollouts b = cut.sample(task.test.prompts, requests, sampling, random_key(1));
  validate(b, task.test.prompts.size());
  verify(task.test.verify, a);
  verify(task.test.verify, b);
  CHECK((a.verdicts == b.verdicts));
  CHECK(a.prompts == b.prompts);
  std::size_t right = 0;
  for (std::size_t i = 0; i < a.size(); ++i) {
    REQUIRE(b.length(i) >= 1);
    REQUIRE(b.length(i) <= a.length(i));
    for (std::size_t t = 0; t < b.length(i); ++t) {
      REQUIRE(b.completion(i)[t] == a.completion(i)[t]);
      REQUIRE(b.log_probs[b.offsets[i] + t] == a.log_probs[a.offsets[i] + t]);
      REQUIRE(b.entropies[b.offsets[i] + t] == a.entropies[a.offsets[i] + t]);
    }
    right += b.verdicts[i].reward > 0;
  }
  CHECK(right > 0);
}

// The start of examples/arithmetic_sequence.cpp, with the first four characters only: the model learns that an answer
// begins with a digit, and which ones are likely.
TEST_CASE("arithmetic sequence: rewards on test prompts rise from random weights", "[arithmetic_sequence]") {
  if (absent()) return;
  const decoder::config config = decoder::load_config(folder());
  network model(config, decoder::load_parameters<float>(folder(), config));
  sequence::until_decided policy(model);
  const sequence::task task = sequence::load_task(folder());
  adamw optimizer(policy.space(), {.learning_rate = 2e-4, .weight_decay = 0});
  const grpo_result result = grpo(policy, task.train, task.test, group_normalized{}, optimizer,
                                  {.steps = 60,
                                   .batch_prompts = 100,
                                   .group_size = 8,
                                   .evaluate_every = 60,
                                   .evaluation_group = 16,
                                   .sampling = {.max_tokens = 4}});
  REQUIRE(result.status == grpo_status::finished);
  CHECK(result.rollouts == 48000);
  CHECK(result.held_out->base.mean < 0.02);
  CAPTURE(result.held_out->base.mean, result.held_out->moved.mean, result.held_out->difference.low);
  CHECK(result.held_out->difference.low > 0);
  CHECK(result.held_out->moved.mean > 1.5 * result.held_out->base.mean);
  CHECK(result.history.back().entropy < 0.95 * result.history.front().entropy);
}
