#pragma once
/// The decoder's layers on a device, over packed rows, forward and backward. The residual stream and all gradients of
/// parameters are floats; weights and what lies between matrix products are of the compute type.

#include <cstddef>
#include <cstdint>

#include <rlvr/backend/cuda/device.hpp>
#include <rlvr/backend/cuda/shape.hpp>

namespace rlvr::cuda {

/// Hands out consecutive parts of one allocation; without memory it only counts.
class arena {
 public:
  explicit arena(void* memory = nullptr) : memory_(static_cast<char*>(memory)) {}
  void* take(std::size_t bytes) {
    void* at = memory_ ? memory_ + used_ : nullptr;
    used_ += (bytes + 255) / 256 * 256;
    return at;
  }
  template <class T>
  T* take(std::size_t n) {
    return static_cast<T*>(take(n * sizeof(T)));
  }
  operand take(std::size_t n, scalar_type type) { return {take(n * size_of(type)), type}; }
  std::size_t used() const { return used_; }

 private:
  char* memory_;
  std::size_t used_ = 0;
};

/// What one layer makes of `rows` rows, and keeps for its backward pass. With post_norm, attended and mapped are what
/// the norms behind attention and MLP are taken of.
struct layer_activations {
  operand normed, qkv, raw_qkv, attention, middle_normed, gate_up, gated;
  float *scale, *qk_scale, *log_sum, *middle, *middle_scale, *attended, *attended_scale, *mapped, *mapped_scale;

  layer_activations(const model_shape& s, std::size_t rows, scalar_type type, arena& a) {
    const auto n = [rows](std::int32_t width) { return rows * static_cast<std::size_t>(width); };
    normed = a.take(n(s.hidden), type);
    qkv = a.take(n(s.qkv_width), type);
    raw_qkv = s.qk_norm ? a.take(n(s.qkv_width), type) : qkv;
    attention = a.take(n(s.q_width), type);
    middle_normed = a.take(n(s.hidden), type);
    gate_up = a.take(n(2 * s.mlp), type);
    gated = a.take(n(s.mlp), type);
    scale = a.take<float>(rows);
    qk_scale = a.take<float>(n(s.qk_norm ? s.qk_norms() : 0));
    log_sum = a.take<float>(n(s.heads));
    middle = a.take<float>(n(s.hidden));
    middle_scale = a.take<float>(rows);
    attended = a.take<float>(n(s.post_norm ? s.hidden : 0));
    attended_scale = a.take<float>(rows);
    mapped = a.take<float>(n(s.post_norm ? s.hidden : 0));
    mapped_scale = a.take<float>(rows);
  }
};

/// What a backward pass needs beside them.
struct layer_gradients {
  operand out, gated, gate_up, attention, qkv;
  float *normed, *branch, *delta;

  layer_gradients(const model_shape& s, std::size_t rows, scalar_type type, arena& a) {
    const auto n = [rows](std::int32_t width) { return rows * static_cast<std::size_t>(width); };
    out = a.take(n(s.hidden), type);
    gated = a.take(n(s.mlp), type);
    gate_up = a.take(n(2 * s.mlp), type);
    attention = a.take(n(s.q_width), type);
    qkv = a.take(n(s.qkv_width), type);
    normed = a.take<float>(n(s.hidden));
    branch = a.take<float>(n(s.post_norm ? s.hidden : 0));
    delta = a.take<float>(n(s.heads));
  }
};

/// Rows of sequences, on the device. forward and backward are cut into tiles of the device's sizes.
struct packed_rows {
  std::int32_t rows = 0;
  const std::int32_t* positions = nullptr;
  const attention_task *forward = nullptr, *backward = nullptr;
  std::int32_t forward_count = 0, backward_count = 0;
  const key_task* keys = nullptr;
  std::int32_t key_count = 0;
};

/// cos and sin of RoPE: [position, head_dim / 2], scaled and plain.
struct rope_tables {
  const float *cosines[2], *sines[2];
};

class network {
 public:
  /// theta: the float masters, of which norms and biases are read; weights: all parameters in the compute type.
  network(device& d, const model_shape& shape, const float* theta, operand weights, rope_tables rope)
      : d_(d), s_(shape), theta_(theta), weights_(weights), rope_(rope) {}

  const model_shape& shape() const { return s_; }
  scalar_type type() const { return weights_.type; }

  void embed(const std::int32_t* tokens, std::int32_t rows, float* x) const {
    d_.embed(weights_.offset(s_.embedding), tokens, rows, s_.hidden, x);
  }

  /// x through layer l to out, which may be x. attend(qkv) fills a.attention.
  template <class Attend>
  void forward(std::size_t l, std::int32_t rows, const std::int32_t* positions, const float* x, layer_activations& a,
               float* out, Attend attend) const {
    const layer_offsets& w = s_.layers[l];
    if (s_.post_norm)
      d_.cast(x, a.normed, count(rows, s_.hidden));
    else
      norm(rows, x, w.input_norm, a.normed, a.scale, result_mode::assign);
    linear(rows, a.normed, s_.hidden, w.qkv, s_.qkv_width, a.raw_qkv);
    if (s_.qkv_bias) d_.add_bias(a.raw_qkv, rows, s_.qkv_width, theta_ + w.qkv_bias);
    if (s_.qk_norm) {
      d_.copy(a.qkv.data, a.raw_qkv.data, count(rows, s_.qkv_width) * size_of(type()));
      for_qk_norms(rows, w, [&](row_shape shape, std::size_t at, std::size_t weight, std::size_t scale) {
        d_.rms_norm(shape, {a.raw_qkv.offset(at), s_.qkv_width}, theta_ + weight, s_.eps,
                    {a.qkv.offset(at), s_.qkv_width}, a.qk_scale + scale, result_mode::assign);
      });
    }
    rotate(l, rows, positions, a.qkv, 1);
    attend(a.qkv);
    if (s_.post_norm) {
      linear(rows, a.attention, s_.q_width, w.output, s_.hidden, f32(a.attended));
      if (s_.output_bias) d_.add_bias(f32(a.attended), rows, s_.hidden, theta_ + w.output_bias);
      copy(x, a.middle, rows);
      norm(rows, a.attended, w.attention_norm, f32(a.middle), a.attended_scale, result_mode::add);
      d_.cast(a.middle, a.middle_normed, count(rows, s_.hidden));
    } else {
      copy(x, a.middle, rows);
      linear(rows, a.attention, s_.q_width, w.output, s_.hidden, f32(a.middle), result_mode::add);
      if (s_.output_bias) d_.add_bias(f32(a.middle), rows, s_.hidden, theta_ + w.output_bias);
      norm(rows, a.middle, w.mlp_norm, a.middle_normed, a.middle_scale, result_mode::assign);
    }
    linear(rows, a.middle_normed, s_.hidden, w.gate_up, 2 * s_.mlp, a.gate_up);
    d_.swiglu(a.gate_up, rows, s_.mlp, a.gated);
    if (!out) return;  // recomputed for the backward pass, which needs no output, but what its norm was taken of
    copy(a.middle, out, rows);
    if (s_.post_norm) {
      linear(rows, a.gated, s_.mlp, w.down, s_.hidden, f32(a.mapped));
      norm(rows, a.mapped, w.down_norm, f32(out), a.mapped_scale, result_mode::add);
    } else {
      linear(rows, a.gated, s_.mlp, w.down, s_.hidden, f32(out), result_mode::add);
    }
  }

  /// Attention of packed rows over themselves.
  void attend(std::size_t l, const packed_rows& p, const layer_activations& a) const {
    const key_value_rows kv = keys_values(a.qkv);
    d_.attention(s_.attention(l), p.forward, p.forward_count, a.qkv, s_.qkv_width, kv, kv, a.attention, s_.q_width,
                 a.log_sum, false);
  }
  key_value_rows keys_values(operand qkv) const {
    return {qkv.offset(static_cast<std::size_t>(s_.q_width)),
            qkv.offset(static_cast<std::size_t>(s_.q_width + s_.kv_width)), s_.qkv_width};
  }

  /// x: the layer's input. dx: the gradient of the layer's output on entry and of its input on return. g is added to.
  void backward(std::size_t l, const packed_rows& p, const float* x, layer_activations& a, layer_gradients& b,
                float* dx, float* g) const {
    const layer_offsets& w = s_.layers[l];
    const std::int32_t rows = p.rows;
    forward(l, rows, p.positions, x, a, nullptr, [&](operand) { attend(l, p, a); });
    if (s_.post_norm) {
      linear(rows, a.gated, s_.mlp, w.down, s_.hidden, f32(a.mapped));
      norm(rows, a.mapped, w.down_norm, f32(b.branch), a.mapped_scale, result_mode::assign);
    }

    branch_gradient(rows, dx, a.mapped, a.mapped_scale, w.down_norm, b, g);
    linear_backward(rows, b.out, s_.hidden, w.down, s_.mlp, b.gated, a.gated, g);
    d_.swiglu_backward(b.gated, a.gate_up, rows, s_.mlp, b.gate_up);
    linear_backward(rows, b.gate_up, 2 * s_.mlp, w.gate_up, s_.hidden, f32(b.normed), a.middle_normed, g);
    input_gradient(rows, a.middle, a.middle_scale, w.mlp_norm, b, dx, g);

    branch_gradient(rows, dx, a.attended, a.attended_scale, w.attention_norm, b, g);
    if (s_.output_bias) d_.bias_gradient(b.out, rows, s_.hidden, g + w.output_bias);
    linear_backward(rows, b.out, s_.hidden, w.output, s_.q_width, b.attention, a.attention, g);
    d_.attention_backward(s_.attention(l), rows, p.backward, p.backward_count, p.keys, p.key_count, p.positions, a.qkv,
                          a.attention, b.attention, a.log_sum, b.delta, b.qkv);
    rotate(l, rows, p.positions, b.qkv, -1);
    if (s_.qk_norm)
      for_qk_norms(rows, w, [&](row_shape shape, std::size_t at, std::size_t weight, std::size_t scale) {
        d_.rms_norm_backward(shape, {b.qkv.offset(at), s_.qkv_width}, {a.raw_qkv.offset(at), s_.qkv_width},
                             theta_ + weight, a.qk_scale + scale, {b.qkv.offset(at), s_.qkv_width}, g + weight,
                             result_mode::assign);
      });
    if (s_.qkv_bias) d_.bias_gradient(b.qkv, rows, s_.qkv_width, g + w.qkv_bias);
    linear_backward(rows, b.qkv, s_.qkv_width, w.qkv, s_.hidden, f32(b.normed), a.normed, g);
    input_gradient(rows, x, a.scale, w.input_norm, b, dx, g);
  }

  /// Final norm and output matrix: x: [rows, hidden] -> logits: [rows, vocab].
  void logits(const float* x, std::int32_t rows, operand normed, float* scale, float* out) const {
    norm(rows, x, s_.final_norm, normed, scale, result_mode::assign);
    linear(rows, normed, s_.hidden, s_.head, s_.vocab, f32(out));
  }
  /// dx <- gradient of x; g is added to. dnormed: scratch, [rows, hidden].
  void logits_backward(std::int32_t rows, operand dlogits, const float* x, operand normed, const float* scale,
                       float* dnormed, float* dx, float* g) const {
    linear_backward(rows, dlogits, s_.vocab, s_.head, s_.hidden, f32(dnormed), normed, g);
    d_.rms_norm_backward({rows, 1, s_.hidden}, wide(dnormed), wide(x), theta_ + s_.final_norm, scale, wide(dx),
                         g + s_.final_norm, result_mode::assign);
  }

 private:
  static operand f32(const float* x) { return {const_cast<float*>(x), scalar_type::float32}; }
  row_operand wide(const float* x) const { return {f32(x), s_.hidden}; }
  static std::size_t count(std::int32_t rows, std::int32_t width) {
    return static_cast<std::size_t>(rows) * static_cast<std::size_t>(width);
  }
  void copy(const float* from, float* to, std::int32_t rows) const {
    if (from != to) d_.copy(to, from, count(rows, s_.hidden) * sizeof(float));
  }

  void norm(std::int32_t rows, const float* x, std::size_t weight, operand y, float* scale, result_mode mode) const {
    d_.rms_norm({rows, 1, s_.hidden}, wide(x), theta_ + weight, s_.eps, {y, s_.hidden}, scale, mode);
  }
  void linear(std::int32_t rows, operand x, std::int32_t in, std::size_t weight, std::int32_t out, operand y,
              result_mode mode = result_mode::assign) const {
    d_.multiply(product_form::nt, rows, out, in, x, weights_.offset(weight), y, mode);
  }
  /// dx <- dy w, gradient of w += dy^T x.
  void linear_backward(std::int32_t rows, operand dy, std::int32_t out, std::size_t weight, std::int32_t in, operand dx,
                       operand x, float* g) const {
    d_.multiply(product_form::nn, rows, in, out, dy, weights_.offset(weight), dx, result_mode::assign);
    d_.multiply(product_form::tn, out, in, rows, dy, x, f32(g + weight), result_mode::add);
  }
  /// b.out <- the gradient of what a branch adds to the residual stream, before its norm.
  void branch_gradient(std::int32_t rows, const float* dx, const float* unnormed, const float* scale,
                       std::size_t weight, layer_gradients& b, float* g) const {
    if (s_.post_norm)
      d_.rms_norm_backward({rows, 1, s_.hidden}, wide(dx), wide(unnormed), theta_ + weight, scale, {b.out, s_.hidden},
                           g + weight, result_mode::assign);
    else
      d_.cast(dx, b.out, count(rows, s_.hidden));
  }
  /// dx += the gradient, in b.normed, of what a branch takes from the residual stream x.
  void input_gradient(std::int32_t rows, const float* x, const float* scale, std::size_t weight, layer_gradients& b,
                      float* dx, float* g) const {
    if (s_.post_norm)
      d_.add(b.normed, dx, count(rows, s_.hidden));
    else
      d_.rms_norm_backward({rows, 1, s_.hidden}, wide(b.normed), wide(x), theta_ + weight, scale, wide(dx), g + weight,
                           result_mode::add);
  }
  void rotate(std::size_t l, std::int32_t rows, const std::int32_t* positions, operand qkv, int direction) const {
    const std::size_t table = s_.layers[l].rope;
    d_.rotate(qkv, s_.qkv_width, rows, s_.heads + s_.kv_heads, s_.head_dim, positions, rope_.cosines[table],
              rope_.sines[table], direction);
  }
  /// f(shape, first coordinate, offset of the weight, offset of the reciprocal roots) for queries and for keys.
  template <class F>
  void for_qk_norms(std::int32_t rows, const layer_offsets& w, F f) const {
    const auto keys = static_cast<std::size_t>(s_.q_width);
    if (s_.post_norm) {
      f(row_shape{rows, 1, s_.q_width}, std::size_t{0}, w.q_norm, std::size_t{0});
      f(row_shape{rows, 1, s_.kv_width}, keys, w.k_norm, count(rows, 1));
    } else {
      f(row_shape{rows, s_.heads, s_.head_dim}, std::size_t{0}, w.q_norm, std::size_t{0});
      f(row_shape{rows, s_.kv_heads, s_.head_dim}, keys, w.k_norm, count(rows, s_.heads));
    }
  }

  device& d_;
  const model_shape& s_;
  const float* theta_;
  operand weights_;
  rope_tables rope_;
};

}  // namespace rlvr::cuda
