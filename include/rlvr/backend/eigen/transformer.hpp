#pragma once
/// The decoder's layers over a block of rows, forward and backward.

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <vector>

#include <rlvr/backend/decoder/shape.hpp>
#include <rlvr/backend/eigen/kernels.hpp>

namespace rlvr::eigen {

using rlvr::decoder::layer_offsets;

/// What the layers need of the sizes and offsets.
struct decoder_shape : rlvr::decoder::model_shape<std::size_t> {
  using rlvr::decoder::model_shape<std::size_t>::model_shape;

  /// Of `positions` up to a row, those that layer l sees, the latest.
  std::size_t visible(std::size_t l, std::size_t positions) const {
    const std::size_t window = layers[l].window;
    return window == 0 || positions <= window ? positions : window;
  }
  /// The keys of a row with so many positions, in all layers together.
  std::size_t attention_pairs(std::size_t positions) const {
    std::size_t sum = 0;
    for (std::size_t l = 0; l < layers.size(); ++l) sum += visible(l, positions);
    return sum;
  }
};

/// Rows that went through the layers and through the output matrix, and (row, key) pairs of attention in all layers
/// together, each within its window: what the flops of a pass are counted from.
struct work_count {
  std::size_t rows = 0, logit_rows = 0, attention_pairs = 0;
  work_count& operator+=(const work_count& o) {
    rows += o.rows;
    logit_rows += o.logit_rows;
    attention_pairs += o.attention_pairs;
    return *this;
  }
};

/// What a block keeps of its forward pass for the backward pass. All buffers are [rows, width].
template <class T>
struct block_activations {
  buffer<T> input, input_normed, input_scale;       // x, rms_norm(x), its reciprocal root
  buffer<T> qkv, raw_qkv, qk_scale;                 // after and before qk-norm and RoPE, reciprocal roots
  buffer<T> attention, log_sum;                     // [rows, q_width], [rows, heads]
  buffer<T> middle, middle_normed, middle_scale;    // x + attention output, its norm
  buffer<T> gate_up, gated;                         // [rows, 2 mlp], [rows, mlp]
  // With post_norm there is no norm of x and of middle; these are what the norms behind attention and MLP are taken of.
  buffer<T> attended, attended_scale, mapped, mapped_scale;
};

/// The layers of one decoder over flat parameters; holds no state of its own.
template <class T>
class transformer {
 public:
  /// rope: the tables that layer_offsets::rope counts.
  transformer(const decoder_shape& shape, std::span<const rope_table<T>> rope, const T* parameters)
      : s_(shape), rope_(rope), theta_(parameters) {}

  const decoder_shape& shape() const { return s_; }

  void embed(token t, T* x) const {
    std::memcpy(x, theta_ + s_.embedding + static_cast<std::size_t>(t) * s_.hidden, s_.hidden * sizeof(T));
  }

  /// First half of layer l: a.input -> a.qkv, with keys and queries normalised and rotated.
  /// `rows` real rows, the buffers padded to row_tile. position(r) is the row's position in its sequence.
  template <class Position>
  void project(std::size_t l, std::size_t rows, block_activations<T>& a, Position position) const {
    const layer_offsets& w = s_.layers[l];
    const std::size_t padded = padded_rows(rows);
    T* qkv = a.qkv.resize(padded * s_.qkv_width);
    if (s_.post_norm) clear_padding(a.input.data(), rows, s_.hidden);
    else norm(rows, a.input.data(), w.input_norm, a.input_normed, a.input_scale);
    linear(static_cast<const T*>(branch_input(a.input, a.input_normed)), padded, s_.hidden, theta_ + w.qkv, s_.qkv_width, qkv);
    if (s_.qkv_bias) add_bias(qkv, rows, s_.qkv_width, theta_ + w.qkv_bias);
    if (s_.qk_norm) {
      T* raw = a.raw_qkv.resize(padded * s_.qkv_width);
      std::memcpy(raw, qkv, rows * s_.qkv_width * sizeof(T));
      T* qk_scale = a.qk_scale.resize(padded * s_.qk_norms());
      for (std::size_t r = 0; r < rows; ++r)
        for_qk_norms(w, [&](std::size_t n, std::size_t from, std::size_t width, std::size_t weight) {
          const std::size_t at = r * s_.qkv_width + from;
          qk_scale[r * s_.qk_norms() + n] = rms_norm(raw + at, theta_ + weight, width, eps(), qkv + at);
        });
    }
    for (std::size_t r = 0; r < rows; ++r)
      rope_[w.rope].rotate(qkv + r * s_.qkv_width, s_.heads + s_.kv_heads, position(r), T{1});
  }

  /// Attention of layer l of the block's rows over kv. path(r) lists the rows of kv from the first position to row r;
  /// a layer with a window sees the end of it.
  template <class Path>
  void attention(std::size_t l, std::size_t rows, block_activations<T>& a, const keys_values<T>& kv, Path path,
                 std::vector<T>& scores) const {
    const std::size_t group = s_.heads / s_.kv_heads;
    T* out = a.attention.resize(padded_rows(rows) * s_.q_width);
    T* log_sum = a.log_sum.resize(rows * s_.heads);
    with_head_dim(s_.head_dim, [&](auto dim) {
      for (std::size_t r = 0; r < rows; ++r) {
        const std::span<const std::int32_t> keys = path(r).last(s_.visible(l, path(r).size()));
        if (scores.size() < padded_lanes(keys.size())) scores.resize(2 * padded_lanes(keys.size()));
        for (std::size_t h = 0; h < s_.heads; ++h) {
          const std::size_t at = h / group * s_.head_dim;
          log_sum[r * s_.heads + h] = attend<dim()>(
              a.qkv.data() + r * s_.qkv_width + h * s_.head_dim,
              keys_values<T>{kv.keys + at, kv.values + at, kv.stride}, keys, s_.head_dim, attention_scale(),
              scores.data(), out + r * s_.q_width + h * s_.head_dim);
        }
      }
    });
    clear_padding(out, rows, s_.q_width);
  }

  /// Second half of layer l: a.attention and a.input -> out, the next layer's input. out: [padded rows, hidden].
  void finish(std::size_t l, std::size_t rows, block_activations<T>& a, T* out) const {
    const layer_offsets& w = s_.layers[l];
    const std::size_t padded = padded_rows(rows);
    T* middle = a.middle.resize(padded * s_.hidden);
    T* attended = s_.post_norm ? a.attended.resize(padded * s_.hidden) : middle;
    linear(static_cast<const T*>(a.attention.data()), padded, s_.q_width, theta_ + w.output, s_.hidden, attended);
    if (s_.output_bias) add_bias(attended, rows, s_.hidden, theta_ + w.output_bias);
    if (s_.post_norm) norm(rows, attended, w.attention_norm, a.middle, a.attended_scale);
    add_scaled(T{1}, static_cast<const T*>(a.input.data()), middle, rows * s_.hidden);
    if (!s_.post_norm) norm(rows, middle, w.mlp_norm, a.middle_normed, a.middle_scale);
    T* gate_up = a.gate_up.resize(padded * 2 * s_.mlp);
    linear(static_cast<const T*>(branch_input(a.middle, a.middle_normed)), padded, s_.hidden, theta_ + w.gate_up,
           2 * s_.mlp, gate_up);
    T* gated = a.gated.resize(padded * s_.mlp);
    for (std::size_t r = 0; r < rows; ++r) swiglu(gate_up + r * 2 * s_.mlp, s_.mlp, gated + r * s_.mlp);
    clear_padding(gated, rows, s_.mlp);
    T* mapped = s_.post_norm ? a.mapped.resize(padded * s_.hidden) : out;
    linear(static_cast<const T*>(gated), padded, s_.mlp, theta_ + w.down, s_.hidden, mapped);
    if (s_.post_norm) norm(rows, mapped, w.down_norm, out, a.mapped_scale);
    add_scaled(T{1}, static_cast<const T*>(middle), out, rows * s_.hidden);
  }

  /// Final norm and output matrix: x: [rows, hidden] -> logits: [padded rows, vocab].
  void logits(const T* x, std::size_t rows, buffer<T>& normed_rows, buffer<T>& scales, buffer<T>& out) const {
    const std::size_t padded = padded_rows(rows);
    norm(rows, x, s_.final_norm, normed_rows, scales);
    linear(static_cast<const T*>(normed_rows.data()), padded, s_.hidden, theta_ + s_.head, s_.vocab, out.resize(padded * s_.vocab));
  }

  /// Gradient of logits: dlogits: [padded rows, vocab], padding zero -> dx: [rows, hidden] is overwritten; g is
  /// added to.
  void logits_backward(const T* dlogits, const T* x, const T* normed, const T* scale, std::size_t rows,
                       buffer<T>& scratch, T* dx, T* g) const {
    const std::size_t padded = padded_rows(rows);
    weight_gradient(dlogits, s_.vocab, normed, s_.hidden, padded, g + s_.head);
    T* dnormed = scratch.resize(padded * s_.hidden);
    linear_backward(dlogits, padded, s_.vocab, theta_ + s_.head, s_.hidden, dnormed);
    std::memset(dx, 0, rows * s_.hidden * sizeof(T));
    norm_backward(rows, dnormed, x, scale, s_.final_norm, dx, g);
  }

  /// What the backward pass of a block needs beside the activations.
  struct backward_scratch {
    buffer<T> gated, gate_up, normed, attention, qkv, branch;
    std::vector<T> scores;
  };

  /// Gradient of layer l over rows that hold whole sequences. dx: [padded rows, hidden], padding zero, is the
  /// gradient of the layer's output on entry and of its input on return; g is added to.
  template <class Path, class Position>
  void backward(std::size_t l, std::size_t rows, const block_activations<T>& a, Path path, Position position,
                backward_scratch& b, T* dx, T* g) const {
    const layer_offsets& w = s_.layers[l];
    const std::size_t padded = padded_rows(rows), h = s_.hidden;

    T* dgated = b.gated.resize(padded * s_.mlp);
    const T* dmapped = dx;
    if (s_.post_norm) dmapped = norm_gradient(rows, dx, a.mapped.data(), a.mapped_scale.data(), w.down_norm, b.branch, g);
    linear_backward(dmapped, padded, h, theta_ + w.down, s_.mlp, dgated);
    weight_gradient(dmapped, h, a.gated.data(), s_.mlp, padded, g + w.down);
    T* dgate_up = b.gate_up.resize(padded * 2 * s_.mlp);
    for (std::size_t r = 0; r < rows; ++r)
      swiglu_backward(dgated + r * s_.mlp, a.gate_up.data() + r * 2 * s_.mlp, s_.mlp, dgate_up + r * 2 * s_.mlp);
    clear_padding(dgate_up, rows, 2 * s_.mlp);
    T* dnormed = b.normed.resize(padded * h);
    linear_backward(dgate_up, padded, 2 * s_.mlp, theta_ + w.gate_up, h, dnormed);
    weight_gradient(dgate_up, 2 * s_.mlp, branch_input(a.middle, a.middle_normed), h, padded, g + w.gate_up);
    if (s_.post_norm) add_scaled(T{1}, static_cast<const T*>(dnormed), dx, rows * h);
    else norm_backward(rows, dnormed, a.middle.data(), a.middle_scale.data(), w.mlp_norm, dx, g);

    T* dattention = b.attention.resize(padded * s_.q_width);
    const T* dattended = dx;
    if (s_.post_norm)
      dattended = norm_gradient(rows, dx, a.attended.data(), a.attended_scale.data(), w.attention_norm, b.branch, g);
    linear_backward(dattended, padded, h, theta_ + w.output, s_.q_width, dattention);
    weight_gradient(dattended, h, a.attention.data(), s_.q_width, padded, g + w.output);
    if (s_.output_bias) bias_gradient(dattended, rows, h, g + w.output_bias);

    T* dqkv = b.qkv.resize(padded * s_.qkv_width);
    std::memset(dqkv, 0, padded * s_.qkv_width * sizeof(T));
    attention_backward(l, rows, a, path, dattention, b.scores, dqkv);
    for (std::size_t r = 0; r < rows; ++r)
      rope_[w.rope].rotate(dqkv + r * s_.qkv_width, s_.heads + s_.kv_heads, position(r), T{-1});
    if (s_.qk_norm) qk_norm_backward(l, rows, a, dqkv, g);
    if (s_.qkv_bias) bias_gradient(dqkv, rows, s_.qkv_width, g + w.qkv_bias);
    linear_backward(dqkv, padded, s_.qkv_width, theta_ + w.qkv, h, dnormed);
    weight_gradient(dqkv, s_.qkv_width, branch_input(a.input, a.input_normed), h, padded, g + w.qkv);
    if (s_.post_norm) add_scaled(T{1}, static_cast<const T*>(dnormed), dx, rows * h);
    else norm_backward(rows, dnormed, a.input.data(), a.input_scale.data(), w.input_norm, dx, g);
  }

 private:
  T eps() const { return static_cast<T>(s_.eps); }
  T attention_scale() const { return static_cast<T>(1.0 / std::sqrt(static_cast<double>(s_.head_dim))); }

  static void clear_padding(T* x, std::size_t rows, std::size_t width) {
    std::memset(x + rows * width, 0, (padded_rows(rows) - rows) * width * sizeof(T));
  }

  /// out <- RMSNorm of the rows of x, padding zero; scales <- the reciprocal roots. x may not be out.
  void norm(std::size_t rows, const T* x, std::size_t weight, T* out, buffer<T>& scales) const {
    T* scale = scales.resize(padded_rows(rows));
    for (std::size_t r = 0; r < rows; ++r)
      scale[r] = rms_norm(x + r * s_.hidden, theta_ + weight, s_.hidden, eps(), out + r * s_.hidden);
    clear_padding(out, rows, s_.hidden);
  }
  void norm(std::size_t rows, const T* x, std::size_t weight, buffer<T>& out, buffer<T>& scales) const {
    norm(rows, x, weight, out.resize(padded_rows(rows) * s_.hidden), scales);
  }

  /// What attention or MLP is applied to.
  const T* branch_input(const buffer<T>& x, const buffer<T>& normed) const {
    return s_.post_norm ? x.data() : normed.data();
  }

  /// The norms of queries and keys: f(n, first coordinate, width, offset of the weight) for each.
  template <class F>
  void for_qk_norms(const layer_offsets& w, F f) const {
    if (s_.post_norm) {
      f(std::size_t{0}, std::size_t{0}, s_.q_width, w.q_norm);
      f(std::size_t{1}, s_.q_width, s_.kv_width, w.k_norm);
    } else {
      for (std::size_t h = 0; h < s_.heads + s_.kv_heads; ++h)
        f(h, h * s_.head_dim, s_.head_dim, h < s_.heads ? w.q_norm : w.k_norm);
    }
  }

  /// The gradient of x in norm(x), in `out`, padding zero; g is added to.
  const T* norm_gradient(std::size_t rows, const T* dnormed, const T* x, const T* scale, std::size_t weight,
                         buffer<T>& out, T* g) const {
    T* dx = out.resize(padded_rows(rows) * s_.hidden);
    std::memset(dx, 0, padded_rows(rows) * s_.hidden * sizeof(T));
    norm_backward(rows, dnormed, x, scale, weight, dx, g);
    return dx;
  }

  void norm_backward(std::size_t rows, const T* dnormed, const T* x, const T* scale, std::size_t weight, T* dx,
                     T* g) const {
    for (std::size_t r = 0; r < rows; ++r)
      rms_norm_backward(dnormed + r * s_.hidden, x + r * s_.hidden, theta_ + weight, s_.hidden, scale[r],
                        dx + r * s_.hidden, g + weight);
  }

  template <class Path>
  void attention_backward(std::size_t l, std::size_t rows, const block_activations<T>& a, Path path, const T* dattention,
                          std::vector<T>& scores, T* dqkv) const {
    const std::size_t group = s_.heads / s_.kv_heads;
    with_head_dim(s_.head_dim, [&](auto dim) {
      for (std::size_t r = 0; r < rows; ++r) {
        const std::span<const std::int32_t> keys = path(r).last(s_.visible(l, path(r).size()));
        if (scores.size() < padded_lanes(keys.size())) scores.resize(2 * padded_lanes(keys.size()));
        for (std::size_t h = 0; h < s_.heads; ++h) {
          const std::size_t q = r * s_.qkv_width + h * s_.head_dim, out = r * s_.q_width + h * s_.head_dim;
          const std::size_t k = s_.q_width + h / group * s_.head_dim, v = k + s_.kv_width;
          attend_backward<dim()>(dattention + out, a.attention.data() + out, a.log_sum.data()[r * s_.heads + h],
                                 a.qkv.data() + q,
                                 keys_values<T>{a.qkv.data() + k, a.qkv.data() + v, s_.qkv_width}, keys, s_.head_dim,
                                 attention_scale(), scores.data(), dqkv + q, dqkv + k, dqkv + v);
        }
      }
    });
  }

  void qk_norm_backward(std::size_t l, std::size_t rows, const block_activations<T>& a, T* dqkv, T* g) const {
    const layer_offsets& w = s_.layers[l];
    std::vector<T> incoming(s_.post_norm ? s_.q_width : s_.head_dim);
    for (std::size_t r = 0; r < rows; ++r)
      for_qk_norms(w, [&](std::size_t n, std::size_t from, std::size_t width, std::size_t weight) {
        T* d = dqkv + r * s_.qkv_width + from;
        std::memcpy(incoming.data(), d, width * sizeof(T));
        std::memset(d, 0, width * sizeof(T));
        rms_norm_backward(static_cast<const T*>(incoming.data()), a.raw_qkv.data() + r * s_.qkv_width + from,
                          theta_ + weight, width, a.qk_scale.data()[r * s_.qk_norms() + n], d, g + weight);
      });
  }

  const decoder_shape& s_;
  std::span<const rope_table<T>> rope_;
  const T* theta_;
};

}  // namespace rlvr::eigen
