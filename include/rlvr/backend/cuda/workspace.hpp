#pragma once
/// Memory of one call: arrays from the host in one transfer, and what a micro-batch or a sampling run needs.

#include <algorithm>
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

/// Device memory that grows and is kept from call to call.
class workspace {
 public:
  explicit workspace(std::shared_ptr<device> where) : device_(std::move(where)) {}
  /// At least so many bytes; what was there is lost when it grows. Throws out_of_memory, and has then nothing.
  void* reserve(std::size_t bytes) {
    if (memory_.bytes() < bytes) {
      memory_ = buffer();  // the two need not fit together
      memory_ = buffer(device_, bytes);
    }
    return memory_.data();
  }
  std::size_t bytes() const { return memory_.bytes(); }

 private:
  std::shared_ptr<device> device_;
  buffer memory_;
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

/// Whether a micro-batch is only scored, or differentiated too.
enum class pass { score, gradient };

/// A micro-batch of `rows` rows, `logit_rows` of which are taken through the vocabulary at a time.
struct batch_memory {
  std::vector<float*> x;  ///< the input of every layer and the output of the last; one buffer when only scored
  layer_activations activations;
  layer_gradients gradients;
  float *dx, *gathered, *scale, *logits, *dnormed, *dgathered;
  operand normed, dlogits;
  row_distribution* distributions;

  batch_memory(const model_shape& s, std::size_t rows, std::size_t logit_rows, scalar_type type, pass what, arena& a)
      : x(inputs(s, rows, what, a)),
        activations(s, rows, type, a),
        gradients(s, what == pass::gradient ? rows : 0, type, a) {
    const auto hidden = static_cast<std::size_t>(s.hidden), vocab = static_cast<std::size_t>(s.vocab);
    const std::size_t learning = what == pass::gradient ? 1 : 0;
    dx = a.take<float>(learning * rows * hidden);
    gathered = a.take<float>(logit_rows * hidden);
    normed = a.take(logit_rows * hidden, type);
    scale = a.take<float>(logit_rows);
    logits = a.take<float>(logit_rows * vocab);
    distributions = a.take<row_distribution>(logit_rows);
    dlogits = a.take(learning * logit_rows * vocab, type);
    dnormed = a.take<float>(learning * logit_rows * hidden);
    dgathered = a.take<float>(learning * logit_rows * hidden);
  }

 private:
  static std::vector<float*> inputs(const model_shape& s, std::size_t rows, pass what, arena& a) {
    std::vector<float*> out;
    for (std::size_t l = 0; l <= (what == pass::gradient ? s.layers.size() : 0); ++l)
      out.push_back(a.take<float>(rows * static_cast<std::size_t>(s.hidden)));
    return out;
  }
};

/// Keys and values of prompts, and of up to `slots` rollouts that are under way.
struct sampling_memory {
  struct cache {
    operand keys, values;
  };
  std::vector<cache> prompts, own;  ///< per layer
  float* last;                      ///< [prompts, hidden] output of the layers at each prompt's last token
  batch_memory batch;

  sampling_memory(const model_shape& s, std::size_t slots, std::size_t own_rows, std::size_t prompt_rows,
                  std::size_t prompt_count, std::size_t rows, std::size_t logit_rows, scalar_type type, arena& a)
      : prompts(caches(s, prompt_rows, type, a)),
        own(caches(s, slots * own_rows, type, a)),
        last(a.take<float>(prompt_count * static_cast<std::size_t>(s.hidden))),
        batch(s, rows, logit_rows, type, pass::score, a) {}

 private:
  static std::vector<cache> caches(const model_shape& s, std::size_t rows, scalar_type type, arena& a) {
    std::vector<cache> out;
    const std::size_t n = rows * static_cast<std::size_t>(s.kv_width);
    for (std::size_t l = 0; l < s.layers.size(); ++l) {
      const operand keys = a.take(n, type);
      out.push_back({keys, a.take(n, type)});
    }
    return out;
  }
};

/// Bytes on the device.
struct memory_plan {
  std::size_t parameters = 0;   ///< float masters
  std::size_t gradient = 0;     ///< one vector of the space
  std::size_t weights = 0;      ///< parameters in the compute type; 0 for float32, which uses the masters
  std::size_t micro_batch = 0;  ///< activations of `rows` rows, gradients of activations, logits
  std::size_t rows = 0;
  std::size_t sampling = 0;  ///< caches, activations and logits of `slots` rollouts
  std::size_t slots = 0;

  std::size_t training_total() const { return parameters + gradient + weights + micro_batch; }
  std::size_t sampling_total() const { return parameters + weights + sampling; }
};

inline std::size_t micro_batch_bytes(const model_shape& s, std::size_t rows, std::size_t logit_rows, scalar_type type,
                                     pass what) {
  arena count;
  batch_memory(s, rows, std::min(rows, logit_rows), type, what, count);
  return count.used();
}

/// The largest of `rows`, halved as often as needed, whose cost is within the budget; 1 when none is.
template <class Bytes>
std::size_t fitting(std::size_t rows, std::size_t budget, Bytes bytes) {
  while (rows > 1 && bytes(rows) > budget) rows = (rows + 1) / 2;
  return rows;
}

}  // namespace rlvr::cuda
