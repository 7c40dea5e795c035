#pragma once
/// How much memory a decoder takes, and how large micro-batches and sampling runs are within a budget.

#include <algorithm>
#include <cstddef>

#include <rlvr/backend/cuda/network.hpp>
#include <rlvr/backend/cuda/options.hpp>
#include <rlvr/backend/cuda/shape.hpp>
#include <rlvr/backend/cuda/workspace.hpp>
#include <rlvr/backend/decoder/config.hpp>
#include <rlvr/backend/decoder/layout.hpp>
#include <rlvr/core/error.hpp>

namespace rlvr::cuda {

/// Bytes on the device, and the sizes they follow from.
struct memory_plan {
  std::size_t parameters = 0;   ///< float masters
  std::size_t gradient = 0;     ///< one vector of the space
  std::size_t weights = 0;      ///< parameters in the compute type; 0 for float32, which uses the masters
  std::size_t micro_batch = 0;  ///< activations of `rows` rows, gradients of activations, logits
  std::size_t rows = 0;
  std::size_t planned_rows = 0;  ///< more than rows where the device refused what was free: then half of it is used
  std::size_t kept_layers = 0;   ///< whose activations are kept. One more is still there when the backward pass begins;
                                 ///< those of the others are computed again
  std::size_t sampling = 0;      ///< caches, activations and logits of `slots` rollouts
  std::size_t cache = 0;         ///< of it, keys and values of prompts and rollouts
  std::size_t slots = 0;
  std::size_t planned_slots = 0;  ///< as planned_rows
  std::size_t lists = 0;          ///< index lists and results

  std::size_t training_total() const { return parameters + gradient + weights + micro_batch + lists; }
  std::size_t sampling_total() const { return parameters + weights + sampling + lists; }
};

/// Of free memory, what is planned with: the rest is for the library, and for memory that is in pieces.
inline std::size_t usable(std::size_t free) { return free - free / 8; }

/// The largest of `n`, halved as often as needed, whose cost is within the budget; 1 when none is.
template <class Bytes>
std::size_t fitting(std::size_t n, std::size_t budget, Bytes bytes) {
  while (n > 1 && bytes(n) > budget) n = (n + 1) / 2;
  return n;
}

inline std::size_t micro_batch_bytes(const model_shape& s, std::size_t rows, const decoder_options& o, pass what,
                                     std::size_t kept_layers) {
  arena count;
  batch_memory(s, rows, std::min(rows, o.logit_rows), o.compute, what, count, kept_layers);
  return count.used();
}
inline std::size_t most_micro_batch_rows(const decoder_options& o, std::size_t longest, std::size_t all) {
  return std::max(longest, std::min<std::size_t>(all, o.micro_batch_rows ? o.micro_batch_rows : 16384));
}

/// Rows of a micro-batch, if no rollout is longer, and how many of its layers keep their activations.
struct micro_batch_size {
  std::size_t rows, kept_layers;
};
/// The most rows for which all layers are kept within the budget: computing them again is a quarter of the work. Not
/// below 4096 for that, as each micro-batch reads and writes the whole gradient. Then as many layers as fit.
inline micro_batch_size fitting_micro_batch(const model_shape& s, std::size_t most, std::size_t longest,
                                            const decoder_options& o, pass what, std::size_t budget) {
  constexpr std::size_t least_rows = 4096;
  const std::size_t all = what == pass::gradient ? s.layers.size() - 1 : 0;
  const auto fits = [&](std::size_t rows, std::size_t kept) {
    return micro_batch_bytes(s, std::max(rows, longest), o, what, kept) <= budget;
  };
  micro_batch_size out{most, all};
  const bool chosen = o.micro_batch_rows == 0;
  while (chosen && out.rows / 2 >= std::max(least_rows, longest) && !fits(out.rows, all)) out.rows = (out.rows + 1) / 2;
  while (chosen && out.rows > 1 && !fits(out.rows, 0)) out.rows = (out.rows + 1) / 2;
  while (out.kept_layers > 0 && !fits(out.rows, out.kept_layers)) --out.kept_layers;
  return out;
}
/// What is tried next when the device refuses what seemed free: fewer layers kept, then once half of the rows, unless
/// they are the caller's.
inline micro_batch_size after_refusal(micro_batch_size size, std::size_t planned_rows, const decoder_options& o) {
  if (size.kept_layers > 0)
    --size.kept_layers;
  else if (o.micro_batch_rows == 0 && size.rows == planned_rows)
    size.rows = (size.rows + 1) / 2;
  return size;
}

/// What a sampling run's memory follows from, beside the number of slots.
struct sampling_work {
  std::size_t prompts, prompt_rows;  ///< in all
  std::size_t longest_prompt, max_tokens;
};
inline sampling_sizes sizes_of(const sampling_work& w, std::size_t slots, const decoder_options& o) {
  const std::size_t kept = std::max(w.longest_prompt, std::min(o.prompt_rows, slots * w.longest_prompt));
  const std::size_t prompt_rows = std::min(w.prompt_rows, kept);
  return {.slots = slots,
          .own_rows = std::max<std::size_t>(w.max_tokens - 1, 1),
          .prompt_rows = prompt_rows,
          .prompt_count = std::min(w.prompts, slots),
          .rows = std::max({w.longest_prompt, slots, std::min<std::size_t>(prompt_rows, 4096)}),
          .logit_rows = std::min(slots, o.logit_rows)};
}
inline std::size_t sampling_bytes(const model_shape& s, const sampling_sizes& n, scalar_type type) {
  arena count;
  sampling_memory(s, n, type, count);
  return count.used();
}
inline std::size_t most_slots(const decoder_options& o, std::size_t rollouts) {
  return std::min<std::size_t>(rollouts, o.rollouts_at_once ? o.rollouts_at_once : 1024);
}

/// A step of training, as far as memory depends on it.
struct workload {
  std::size_t prompts = 1;
  std::size_t rollouts_per_prompt = 1;
  std::size_t prompt_tokens = 1;      ///< of the longest
  std::size_t completion_tokens = 1;  ///< at most
};

/// What a decoder of config c would take of `budget` bytes, before there is a device: micro-batch and slots are what it
/// would choose if all prompts and rollouts were as long as the longest. Totals above the budget say that it does not
/// fit. `lists` is not counted. Throws input_error for an invalid config,
/// std::invalid_argument without prompts.
inline memory_plan plan_memory(const rlvr::decoder::config& c, const decoder_options& o, const workload& w,
                               std::size_t budget) {
  require(w.prompts > 0 && w.prompt_tokens > 0, "plan_memory: ", w.prompts, " prompts of ", w.prompt_tokens, " tokens");
  const model_shape s(c);
  memory_plan out;
  out.parameters = out.gradient = rlvr::decoder::parameter_count(rlvr::decoder::layout(c)) * sizeof(float);
  out.weights = o.compute == scalar_type::bfloat16 ? out.parameters / 2 : 0;
  const auto left = [&](std::size_t taken) { return usable(budget > taken ? budget - taken : 0); };

  const std::size_t own = std::max<std::size_t>(w.completion_tokens, 1) - 1, longest = w.prompt_tokens + own;
  const std::size_t all = w.prompts * (w.prompt_tokens + w.rollouts_per_prompt * own);
  const auto [rows, kept] = fitting_micro_batch(s, most_micro_batch_rows(o, longest, all), longest, o, pass::gradient,
                                                left(out.parameters + out.gradient + out.weights));
  out.planned_rows = out.rows = std::max(rows, longest);
  out.kept_layers = kept;
  out.micro_batch = micro_batch_bytes(s, out.rows, o, pass::gradient, kept);

  const sampling_work asked{w.prompts, w.prompts * w.prompt_tokens, w.prompt_tokens, own + 1};
  const auto run = [&](std::size_t slots) { return sampling_bytes(s, sizes_of(asked, slots, o), o.compute); };
  out.slots = most_slots(o, w.prompts * w.rollouts_per_prompt);
  if (o.rollouts_at_once == 0) out.slots = fitting(out.slots, left(out.parameters + out.weights), run);
  out.planned_slots = out.slots;
  out.sampling = run(out.slots);
  out.cache = cache_bytes(s, sizes_of(asked, out.slots, o), o.compute);
  return out;
}

}  // namespace rlvr::cuda
