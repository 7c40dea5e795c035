#pragma once
/// What a CUDA decoder may be told.

#include <cstddef>
#include <cstdint>

#include <rlvr/backend/cuda/scalar.hpp>

namespace rlvr::cuda {

/// What is left of each next-token distribution. Samples, scores and gradients are all of what is left, so that a
/// gradient is of what was sampled. A token outside has log-probability -infinity; its coefficient counts nothing.
struct truncation {
  std::uint32_t top_k = 0;  ///< only the most likely tokens; 0: all
  double top_p = 1;         ///< only the fewest most likely tokens of so much probability

  bool cuts() const { return top_k > 0 || top_p < 1; }
};

struct decoder_options {
  scalar_type compute = scalar_type::bfloat16;  ///< of weights and activations. A bfloat16 rounding (2-4e-3) swallows
                                                ///< small steps: a search reports what survives of each, and takes
                                                ///< differences and KL in float32 all the same
  std::size_t micro_batch_rows = 0;  ///< tokens, shared prompts once, of one forward and backward pass; 0: up to 16384,
                                     ///< as memory allows. A rollout that is longer is a micro-batch of its own
  std::size_t logit_rows = 2048;     ///< rows that are taken through the vocabulary at once: each time the gradient of
                                     ///< the output matrix is read and written
  std::size_t rollouts_at_once = 0;  ///< slots of the sampler; 0: up to 1024, as memory allows
  std::size_t prompt_rows = 65536;   ///< tokens of prompts that the sampler keeps at once, if none is longer
  truncation sample_from{};
};

}  // namespace rlvr::cuda
