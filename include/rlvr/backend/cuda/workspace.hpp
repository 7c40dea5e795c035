#pragma once
/// Memory of one call: arrays from the host in one transfer, and what a micro-batch or a sampling run needs.

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <span>
#include <utility>
#include <vector>

#include <rlvr/backend/cuda/device.hpp>
#include <rlvr/backend/cuda/network.hpp>
#include <rlvr/backend/cuda/shape.hpp>
#include <rlvr/backend/cuda/space.hpp>

namespace rlvr::cuda {

/// Whether a workspace keeps its memory between calls, or gives it back to buffers that need it then.
enum class workspace_memory { held, lent };

/// Device memory that grows and is kept from call to call.
class workspace {
 public:
  explicit workspace(std::shared_ptr<device> where, workspace_memory how = workspace_memory::held)
      : device_(std::move(where)), memory_(std::make_shared<buffer>()) {
    if (how == workspace_memory::held) return;
    std::erase_if(device_->kept, [](const std::weak_ptr<buffer>& memory) { return memory.expired(); });
    device_->kept.push_back(memory_);
  }
  /// At least so many bytes; what was there is lost when it grows. Throws out_of_memory, and has then nothing.
  void* reserve(std::size_t bytes) {
    if (memory_->bytes() < bytes) {
      *memory_ = buffer();  // the two need not fit together
      *memory_ = buffer(device_, bytes);
    }
    return memory_->data();
  }
  std::size_t bytes() const { return memory_->bytes(); }

 private:
  std::shared_ptr<device> device_;
  std::shared_ptr<buffer> memory_;
};

/// Collects arrays on the host and brings them to the device together.
class transfer {
 public:
  template <class T>
  std::size_t put(const std::vector<T>& values) {
    const std::size_t at = bytes_.size();
    bytes_.resize(at + (values.size() * sizeof(T) + 15) / 16 * 16);
    if (!values.empty()) std::memcpy(bytes_.data() + at, values.data(), values.size() * sizeof(T));
    return at;
  }
  void send(device& d, workspace& to) {
    memory_ = static_cast<char*>(to.reserve(bytes_.size()));
    if (!bytes_.empty()) d.upload(memory_, bytes_.data(), bytes_.size());
  }
  template <class T>
  const T* get(std::size_t at) const {
    return reinterpret_cast<const T*>(memory_ + at);
  }

 private:
  std::vector<char> bytes_;
  char* memory_ = nullptr;
};

/// A micro-batch of `rows` rows, `logit_rows` of which are taken through the vocabulary at a time.
struct batch_memory {
  std::vector<float*> x;  ///< the input of every layer and the output of the last; one buffer when only scored
  std::vector<layer_activations> kept;  ///< of the last layers, for their backward passes
  layer_activations activations;        ///< of the layers before, one after the other
  layer_gradients gradients;
  float *dx, *gathered, *scale, *logits, *dnormed, *dgathered;
  operand normed, dlogits;

  batch_memory(const model_shape& s, std::size_t some_rows, std::size_t some_logit_rows, scalar_type type, pass what,
               arena& a, std::size_t kept_layers = 0)
      : x(inputs(s, padded_rows(some_rows), what, a)),
        activations(s, padded_rows(some_rows), type, what, a),
        gradients(s, what == pass::gradient ? padded_rows(some_rows) : 0, type, a) {
    const std::size_t rows = padded_rows(some_rows), logit_rows = padded_rows(some_logit_rows);
    const auto hidden = static_cast<std::size_t>(s.hidden), vocab = static_cast<std::size_t>(s.vocab);
    const std::size_t learning = what == pass::gradient ? 1 : 0;
    dx = a.take<float>(learning * rows * hidden);
    gathered = a.take<float>(logit_rows * hidden);
    normed = a.take(logit_rows * hidden, type);
    scale = a.take<float>(logit_rows);
    logits = a.take<float>(logit_rows * vocab);
    dlogits = a.take(learning * logit_rows * vocab, type);
    dnormed = a.take<float>(learning * logit_rows * hidden);
    dgathered = a.take<float>(learning * logit_rows * hidden);
    for (std::size_t i = 0; i < kept_layers; ++i) kept.emplace_back(s, rows, type, what, a);
  }
  /// Where the activations of layer l of `layers` are.
  layer_activations& of(std::size_t l, std::size_t layers) {
    return l + kept.size() < layers ? activations : kept[l + kept.size() - layers];
  }

 private:
  static std::vector<float*> inputs(const model_shape& s, std::size_t rows, pass what, arena& a) {
    std::vector<float*> out;
    for (std::size_t l = 0; l <= (what == pass::gradient ? s.layers.size() : 0); ++l)
      out.push_back(a.take<float>(rows * static_cast<std::size_t>(s.hidden)));
    return out;
  }
};

/// Rollouts under way and their tokens but the last, prompts that are kept at once, rows of one pass, and how many of
/// them are taken through the vocabulary at a time.
struct sampling_sizes {
  std::size_t slots, own_rows, prompt_rows, prompt_count, rows, logit_rows;
};

/// Keys and values side by side, a row per position: of prompts, and of the slots' own tokens.
struct sampling_memory {
  std::vector<operand> prompts, own;  ///< per layer
  float* last;                        ///< [prompts, hidden] output of the layers at each prompt's last token
  batch_memory batch;

  sampling_memory(const model_shape& s, const sampling_sizes& n, scalar_type type, arena& a)
      : prompts(caches(s, n.prompt_rows, type, a)),
        own(caches(s, n.slots * n.own_rows, type, a)),
        last(a.take<float>(n.prompt_count * static_cast<std::size_t>(s.hidden))),
        batch(s, n.rows, n.logit_rows, type, pass::score, a) {}

  static std::vector<operand> caches(const model_shape& s, std::size_t rows, scalar_type type, arena& a) {
    std::vector<operand> out;
    for (std::size_t l = 0; l < s.layers.size(); ++l)
      out.push_back(a.take(rows * 2 * static_cast<std::size_t>(s.kv_width), type));
    return out;
  }
};

inline std::size_t cache_bytes(const model_shape& s, const sampling_sizes& n, scalar_type type) {
  arena count;
  sampling_memory::caches(s, n.prompt_rows, type, count);
  sampling_memory::caches(s, n.slots * n.own_rows, type, count);
  return count.used();
}

}  // namespace rlvr::cuda
