/// A batch from Python, and its coefficients back: padded [B, T] arrays in .npy files. from_python.py writes such a
/// batch, runs this program on it and checks what comes back.
///
///   log_probs.npy, old_log_probs.npy  [B, T] float  log pi of the tokens now, and when the update began
///   tokens.npy, mask.npy              [B, T]        token ids; 1 for tokens that are trained on, 0 for padding
///   rewards.npy                       [B] float     NaN: could not be scored
///   groups.npy                        [B]           which prompt; rows of one prompt side by side

#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <span>
#include <utility>
#include <vector>

#include <CLI/CLI.hpp>
#include <xtensor/xadapt.hpp>
#include <xtensor/xtensor.hpp>

#include <rlvr/advantage/group_normalized.hpp>
#include <rlvr/objective/aggregation.hpp>
#include <rlvr/objective/ppo_clip.hpp>
#include <rlvr/objective/reinforce.hpp>
#include <rlvr/xtensor/npy.hpp>
#include <rlvr/xtensor/padded.hpp>
#include <rlvr/xtensor/padded_batch.hpp>

#include "command_line.hpp"

namespace {

struct options {
  std::filesystem::path batch = RLVR_SOURCE_DIR "/examples/data/python_batch", out = "coefficients";
  double clip_low = 0.2, clip_high = 0.28;
};

/// One array of the batch, in the type needed here; the values stay what they are.
template <class T, std::size_t N>
xt::xtensor<T, N> load(const options& o, const char* name) {
  return rlvr::load_npy<T, N>(o.batch / name, rlvr::npy_conversion::exact);
}

void run(const options& o) {
  const auto mask = load<bool, 2>(o, "mask.npy");
  const auto tokens = load<rlvr::token, 2>(o, "tokens.npy");
  const auto log_probs = load<double, 2>(o, "log_probs.npy"), old_log_probs = load<double, 2>(o, "old_log_probs.npy");
  const auto rewards = load<double, 1>(o, "rewards.npy");
  const auto ids = load<std::int64_t, 1>(o, "groups.npy");
  rlvr::require(rewards.size() == mask.shape(0) && ids.size() == mask.shape(0), "rewards.npy and groups.npy have ",
                rewards.size(), " and ", ids.size(), " entries, but mask.npy has ", mask.shape(0), " rows");

  const rlvr::groups groups = rlvr::groups_of_ids(ids);
  const std::vector<double> advantages = rlvr::group_normalized{}(rlvr::verdicts_of(rewards), groups);

  // PPO with clip-higher, over the padded arrays where they lie.
  const std::vector<std::size_t> rows = rlvr::row_offsets(mask.shape(0), mask.shape(1));
  rlvr::token_batch<double> batch;
  batch.offsets = rows;
  batch.advantages = advantages;
  batch.log_probs = rlvr::flat(log_probs, mask.shape(), "log_probs.npy");
  batch.old_log_probs = rlvr::flat(old_log_probs, mask.shape(), "old_log_probs.npy");
  batch.mask = rlvr::mask_of(mask);
  batch.groups = groups.offsets;
  const std::vector<double> weights = rlvr::sequence_weights(batch, rlvr::token_mean);
  xt::xtensor<double, 2> ppo(mask.shape());
  std::vector<rlvr::branch> branches(mask.size());
  rlvr::ppo_clip{.low = o.clip_low, .high = o.clip_high}(batch, weights, rlvr::flat(ppo), branches);

  // REINFORCE, over ragged rollouts: what a policy of this library would be given.
  rlvr::ragged<rlvr::token> completions = rlvr::unpad(tokens, mask);
  rlvr::rollouts rollouts;
  rollouts.tokens = std::move(completions.values);
  rollouts.offsets = std::move(completions.offsets);
  for (std::size_t g = 0; g < groups.size(); ++g)
    rollouts.prompts.insert(rollouts.prompts.end(), groups.size(g), static_cast<std::uint32_t>(g));
  const std::vector<double> reinforce =
      rlvr::reinforce_coefficients(rollouts, advantages, 1.0 / static_cast<double>(rollouts.size()));

  std::filesystem::create_directories(o.out);
  rlvr::save_npy(o.out / "advantages.npy", xt::adapt(advantages));
  rlvr::save_npy(o.out / "ppo.npy", ppo);
  rlvr::save_npy(o.out / "reinforce.npy", xt::adapt(reinforce));
  const rlvr::branch_counts counts = rlvr::count_branches(branches);
  std::printf("%zu rollouts of %zu prompts, %zu tokens; clipped high %.1f%%, low %.1f%%; written to %s\n",
              rollouts.size(), groups.size(), counts.unmasked(), 100 * counts.share(rlvr::branch::clipped_high),
              100 * counts.share(rlvr::branch::clipped_low), o.out.c_str());
}

}  // namespace

int main(int argc, char** argv) {
  options o;
  CLI::App app{"Reads a batch of .npy files and writes advantages and coefficients as .npy files."};
  app.option_defaults()->always_capture_default();
  app.add_option("--batch", o.batch, "Folder of the batch");
  app.add_option("--out", o.out, "Folder to write to");
  app.add_option("--clip-low", o.clip_low, "How far the ratio may fall");
  app.add_option("--clip-high", o.clip_high, "How far the ratio may rise");
  return run_program(app, argc, argv, [&] { run(o); });
}
