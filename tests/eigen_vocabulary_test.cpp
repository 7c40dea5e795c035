/// One-shot RLVR with signal at a real vocabulary: a random Qwen3-shaped model over 151,936 tokens, the Qwen3 tokenizer
/// and chat template, questions of GSM8K, and a verifier with partial credit that the model satisfies sometimes.

#include <cstddef>
#include <filesystem>
#include <span>
#include <string>
#include <vector>

#include <rlvr/advantage/centred.hpp>
#include <rlvr/backend/decoder/chat_template.hpp>
#include <rlvr/backend/decoder/files.hpp>
#include <rlvr/backend/decoder/json.hpp>
#include <rlvr/backend/decoder/prompts.hpp>
#include <rlvr/backend/eigen/decoder.hpp>
#include <rlvr/tokenizer/parse.hpp>
#include <rlvr/train/one_shot.hpp>
#include <rlvr/verify/decoded.hpp>
#include <rlvr/verify/prefix_credit.hpp>

#include "../examples/random_model.hpp"
#include "catch.hpp"

using namespace rlvr;

TEST_CASE("eigen: gradient, search and confirmation find a better model at a real vocabulary", "[eigen][vocabulary]") {
#ifdef RLVR_SHARED_DATA
  const std::filesystem::path shared = RLVR_SHARED_DATA;
#else
  const std::filesystem::path shared;
#endif
  const std::filesystem::path tokens = shared / "tokenizer_qwen3" / "tokenizer.reconstructed.json",
                              questions = shared / "gsm8k" / "test.jsonl";
  if (shared.empty() || !std::filesystem::exists(tokens) || !std::filesystem::exists(questions)) {
    WARN("skipped: the folder of shared data is absent");
    return;
  }
  const tokenizer::bpe tokenizer =
      tokenizer::parse_bpe(decoder::parse_json(decoder::read_file(tokens), "tokenizer.json"), "tokenizer.json",
                           R"({"eos_token": "<|im_end|>"})", "tokenizer_config.json");
  const auto decode = [&](std::span<const token> ids) { return tokenizer.decode(ids); };
  const decoder::prompt_file file = decoder::read_prompts(questions);
  using verifier = decoded_verifier<prefix_credit, decltype(decode)>;
  const auto part = [&](std::size_t first, std::size_t count) {
    ragged<token> prompts;
    for (std::size_t i = first; i < first + count; ++i)
      prompts.push_back(tokenizer.encode(decoder::chat_prompt(decoder::chat_template::qwen3, file.prompts[i])));
    // An answer that begins with a space earns 0.2, one that begins with " T" 0.4.
    return prompt_set<verifier>{std::move(prompts),
                                verifier(prefix_credit{}, decode, std::vector<std::string>(count, " The"))};
  };

  decoder::config config = random_model::qwen3_shape(151936, 16, 2);
  config.eos = {tokenizer.eos().value()};
  REQUIRE(tokenizer.size() <= config.vocab_size);
  eigen::decoder<float> policy(config, random_model::parameters(config, 6, random_key(1)), {.threads = 2});
  const auto result = one_shot(policy, part(0, 12), part(12, 12), part(24, 12), centred{},
                               {.rollouts = 12 * 16,
                                .group_size = 16,
                                .evaluation_group = 8,
                                .calibration_rollouts = 64,
                                .sampling = {.max_tokens = 1},
                                .seed = 1});
  CAPTURE(to_string(result.status), result.alpha, result.informative, result.base.accuracy.mean);
  REQUIRE(result.status == one_shot_status::improved);
  CHECK(result.informative > 0.2);
  CHECK(result.calibration.has_value());
  CHECK(result.agreement.mean_cosine > 0);
  REQUIRE(result.confirmation.has_value());
  CAPTURE(result.confirmation->base.mean, result.confirmation->moved.mean, result.confirmation->difference.low);
  CHECK(result.confirmation->base.mean > 0);
  CHECK(result.confirmation->difference.low > 0.01);
  CHECK(result.confirmation->moved.mean > 1.5 * result.confirmation->base.mean);
}
