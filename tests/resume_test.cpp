// A run that goes on from disk is the run that never stopped.

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <ios>
#include <iterator>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include <rlvr/advantage/group_normalized.hpp>
#include <rlvr/backend/decoder/model_folder.hpp>
#include <rlvr/backend/eigen/load.hpp>
#include <rlvr/core/saved_state.hpp>
#include <rlvr/optimize/adamw.hpp>
#include <rlvr/select/dopr.hpp>
#include <rlvr/train/dopr.hpp>
#include <rlvr/train/grpo.hpp>

#include "catch.hpp"
#include "scratch_folder.hpp"
#include "small_decoders.hpp"

namespace {

using namespace rlvr;
namespace fs = std::filesystem;

using policy_type = eigen::decoder<float>;
using space_type = eigen::space<float>;

/// Rewards even tokens.
struct judge {
  verdict operator()(std::size_t, std::span<const token> completion) const {
    return {completion[0] % 2 == 0 ? 1.0 : 0.0};
  }
};

prompt_set<judge> pool() {
  ragged<token> prompts;
  for (token t = 0; t < 10; ++t) prompts.push_back(std::vector<token>{t, 2});
  return {std::move(prompts), {}};
}

const decoder::config shape = testing::small_decoder("qwen3");
const decoder::char_tokenizer tokenizer("01");
const adamw_options rate{.learning_rate = 1e-2};

policy_type base() { return policy_type(shape, testing::small_parameters<float>(shape), {.threads = 1}); }

/// A vector of parameters on disk, as a model's weights are.
void write_vector(const fs::path& folder, const space_type::vector& v) {
  save_model(folder, shape, tokenizer, std::span<const float>(v.data(), static_cast<std::size_t>(v.size())),
             decoder::storage::f32);
}
space_type::vector read_vector(const fs::path& folder, const space_type& space) {
  space_type::vector v = space.zero();
  decoder::load_parameters(folder, shape, [&](std::size_t n) { return std::span(v.data(), n); });
  return v;
}

void write_run(const fs::path& folder, const policy_type& policy, const adamw<space_type>& optimizer) {
  write_vector(folder / "policy", policy.parameters());
  write_vector(folder / "mean", optimizer.state().mean);
  write_vector(folder / "square", optimizer.state().square);
}
/// What write_run wrote, and went on from.
struct resumed_run {
  policy_type policy;
  adamw<space_type> optimizer;

  resumed_run(const fs::path& folder, std::size_t steps)
      : policy(eigen::load_decoder(folder / "policy", {.threads = 1})),
        optimizer(policy.space(), rate,
                  {.mean = read_vector(folder / "mean", policy.space()),
                   .square = read_vector(folder / "square", policy.space()),
                   .steps = steps}) {}
};

}  // namespace

TEST_CASE("a run of grpo goes on from disk bit for bit", "[grpo][decoder]") {
  const testing::scratch_folder dir;
  const auto prompts = pool();
  grpo_options o{.steps = 9, .batch_prompts = 4, .group_size = 4, .warmup_steps = 2, .last_factor = 0.1,
                 .schedule_steps = 9, .evaluate_every = 0, .sampling = {.max_tokens = 3}, .seed = 5};
  policy_type whole = base();
  adamw all(whole.space(), rate);
  const grpo_result one = grpo(whole, prompts, prompts, group_normalized{}, all, o);
  REQUIRE(one.status == grpo_status::finished);
  {
    policy_type policy = base();
    adamw optimizer(policy.space(), rate);
    o.steps = 4;
    CHECK(grpo(policy, prompts, prompts, group_normalized{}, optimizer, o).steps == 4);
    write_run(dir.path, policy, optimizer);
  }
  resumed_run run(dir.path, 4);
  auto& [policy, optimizer] = run;
  CHECK(policy.parameters() != whole.parameters());
  o.first_step = 4;
  o.steps = 5;
  const grpo_result two = grpo(policy, prompts, prompts, group_normalized{}, optimizer, o);
  CHECK(policy.parameters() == whole.parameters());
  CHECK(optimizer.state().mean == all.state().mean);
  CHECK(optimizer.state().square == all.state().square);
  CHECK(optimizer.state().steps == 9);
  CHECK(two.history.back().gradient_norm == one.history.back().gradient_norm);
}

TEST_CASE("a run of dopr goes on from disk bit for bit", "[dopr][decoder]") {
  const testing::scratch_folder dir;
  const auto prompts = pool();
  dopr_options o{.steps = 12, .group_size = 8, .candidates = 3, .evaluate_every = 0, .sampling = {.max_tokens = 3},
                 .seed = 5};
  policy_type whole = base();
  auto learned = make_dopr_selector(10);
  adamw all(whole.space(), rate);
  REQUIRE(dopr(whole, prompts, prompts, learned, group_normalized{}, all, o).status == dopr_status::finished);
  std::size_t updates = 0;
  {
    policy_type policy = base();
    auto selector = make_dopr_selector(10);
    adamw optimizer(policy.space(), rate);
    o.steps = 5;
    CHECK(dopr(policy, prompts, prompts, selector, group_normalized{}, optimizer, o).steps == 5);
    write_run(dir.path, policy, optimizer);
    updates = optimizer.state().steps;
    const std::vector<std::byte> bytes = save_state(selector);
    std::ofstream(dir.path / "selector", std::ios::binary)
        .write(reinterpret_cast<const char*>(bytes.data()), static_cast<std::streamsize>(bytes.size()));
  }
  resumed_run run(dir.path, updates);
  auto& [policy, optimizer] = run;
  auto selector = make_dopr_selector(10);
  const std::string bytes = decoder::read_file(dir.path / "selector");
  restore_state(selector, std::as_bytes(std::span(bytes)));
  o.first_step = 5;
  o.steps = 7;
  CHECK(dopr(policy, prompts, prompts, selector, group_normalized{}, optimizer, o).steps == 7);
  CHECK(policy.parameters() == whole.parameters());
  CHECK(save_state(selector) == save_state(learned));
  CHECK(optimizer.state().mean == all.state().mean);
  CHECK(optimizer.state().steps == all.state().steps);
}
