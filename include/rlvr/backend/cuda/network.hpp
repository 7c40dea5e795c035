#pragma once
/// The decoder's layers on a device, over packed rows, forward and backward. The residual stream and all gradients of
/// parameters are floats; weights and what lies between matrix products are of the compute type. All buffers have room
/// for padded_rows.

#include <cstddef>
#include <cstdint>

#include <rlvr/backend/cuda/device.hpp>
#include <rlvr/backend/cuda/shape.hpp>

namespace rlvr::cuda {

/// Products are taken of whole tiles of rows: numbers of rows that differ by less use the same algorithm of the
/// library, and have the same bits. What is in the rows behind the last does not matter.
inline constexpr std::int32_t product_rows = 16;
template <class Size>
constexpr Size padded_rows(Size rows) {
  return (rows + static_cast<Size>(product_rows - 1)) / static_cast<Size>(product_rows) *
         static_cast<Size>(product_rows);
}

/// Whether a micro-batch is only scored, or differentiated too.
enum class pass { score, gradient };

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

/// What one layer makes of `rows` rows, and keeps for its backward pass, for which alone raw_qkv is not qkv. With
/// post_norm, attended and mapped are what the norms behind attention and MLP are taken of.
struct layer_activations {
  operand normed, qkv, raw_qkv, attention, middle_normed, gate_up, gated;
  float *scale, *qk_scale, *log_sum, *middle, *middle_scale, *attended, *attended_scale, *mapped, *mapped_scale;

  layer_activations(const model_shape& s, std::size_t rows, scalar_type type, pass what, arena& a) {
    const auto n = [rows](std::int32_t width) { return rows * static_cast<std::size_t>(width); };
    normed = a.take(n(s.hidden), type);
    qkv = a.take(n(s.qkv_width), type);
    raw_qkv = s.qk_norm && what == pass::gradient ? a.take(n(s.qkv_width), type) : qkv;
    attention = a.take(n(s.q_width), type);
    middle_normed = a.take(n(s.hidden), type);
    gate_up = a.take(n(s.gate_up_width), type);
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
    gate_up = a.take(n(s.gate_up_width), type);
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

/// Rows of a cache of keys and values.
struct cache_target {
  operand at{};
  const std::int32_t* rows = nullptr;
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

  /// x through layer l to out, which may be x. attend() fills a.attention. Where there is a cache, row r's keys and
  /// values go to its row cache.rows[r].
  template <class Attend>
  void forward(std::size_t l, std::int32_t rows, const std::int32_t* positions, const float* x, layer_activations& a,
               float* out, Attend attend, cache_target cache = {}) const {
    const layer_offsets& w = s_.layers[l];
    if (s_.post_norm)
      d_.cast(x, a.normed, count(rows, s_.hidden));
    else
      norm(rows, x, w.input_norm, a.normed, a.scale);
    linear(rows, a.normed, s_.hidden, w.qkv, s_.qkv_width, a.raw_qkv);
    prepare(l, rows, positions, a, cache);
    attend();
    if (s_.post_norm) {
      linear(rows, a.attention, s_.q_width, w.output, s_.hidden, f32(a.attended));
      if (s_.output_bias) d_.add_bias(f32(a.attended), rows, s_.hidden, theta_ + w.output_bias);
      norm(rows, a.attended, w.attention_norm, f32(a.middle), a.attended_scale, x);
      d_.cast(a.middle, a.middle_normed, count(rows, s_.hidden));
    } else {
      linear(rows, a.attention, s_.q_width, w.output, s_.hidden, f32(a.middle), f32(x));
      if (s_.output_bias) d_.add_bias(f32(a.middle), rows, s_.hidden, theta_ + w.output_bias);
      norm(rows, a.middle, w.mlp_norm, a.middle_normed, a.middle_scale);
    }
    linear(rows, a.middle_normed, s_.hidden, w.gate_up, s_.gate_up_width, a.gate_up);
    d_.swiglu(a.gate_up, rows, s_.mlp, a.gated);
    if (!out) return;  // recomputed for the backward pass, which needs no output
    if (s_.post_norm) {
      linear(rows, a.gated, s_.mlp, w.down, s_.hidden, f32(a.mapped));
      norm(rows, a.mapped, w.down_norm, f32(out), a.mapped_scale, a.middle);
    } else {
      linear(rows, a.gated, s_.mlp, w.down, s_.hidden, f32(out), f32(a.middle));
    }
  }

  /// Attention of packed rows over themselves.
  void attend(std::size_t l, const packed_rows& p, const layer_activations& a) const {
    const key_value_rows kv = keys_values(a.qkv);
    d_.attention(attention_of(s_, l), p.forward, p.forward_count, a.qkv, s_.qkv_width, kv, kv, a.attention, s_.q_width,
                 a.log_sum, false);
  }
  key_value_rows keys_values(operand qkv) const {
    return {qkv.offset(static_cast<std::size_t>(s_.q_width)),
            qkv.offset(static_cast<std::size_t>(s_.q_width + s_.kv_width)), s_.qkv_width};
  }

  /// a <- what forward made of the layer's input x, again.
  void recompute(std::size_t l, const packed_rows& p, const float* x, layer_activations& a, layer_gradients& b) const {
    forward(l, p.rows, p.positions, x, a, nullptr, [&] { attend(l, p, a); });
    if (!s_.post_norm) return;
    linear(p.rows, a.gated, s_.mlp, s_.layers[l].down, s_.hidden, f32(a.mapped));
    norm(p.rows, a.mapped, s_.layers[l].down_norm, f32(b.branch), a.mapped_scale);
  }
  /// Before the backward of the last layer. dx: the gradient of its output.
  void begin_backward(std::int32_t rows, const float* dx, layer_gradients& b) const {
    if (!s_.post_norm) d_.cast(dx, b.out, count(rows, s_.hidden));
  }
  /// x: the layer's input; a: what forward made of it. dx: the gradient of the layer's output on entry and of its input
  /// on return. g is added to. Layers follow one another from the last to the first.
  void backward(std::size_t l, const packed_rows& p, const float* x, const layer_activations& a, layer_gradients& b,
                float* dx, float* g) const {
    const layer_offsets& w = s_.layers[l];
    const std::int32_t rows = p.rows;
    branch_gradient(rows, dx, a.mapped, a.mapped_scale, w.down_norm, b, g);
    linear_backward(rows, b.out, s_.hidden, w.down, s_.mlp, b.gated, a.gated, g);
    d_.swiglu_backward(b.gated, a.gate_up, rows, s_.mlp, b.gate_up);
    linear_backward(rows, b.gate_up, s_.gate_up_width, w.gate_up, s_.hidden, f32(b.normed), a.middle_normed, g);
    input_gradient(rows, a.middle, a.middle_scale, w.mlp_norm, b, dx, g);

    branch_gradient(rows, dx, a.attended, a.attended_scale, w.attention_norm, b, g);
    if (s_.output_bias) d_.bias_gradient(b.out, rows, s_.hidden, g + w.output_bias);
    linear_backward(rows, b.out, s_.hidden, w.output, s_.q_width, b.attention, a.attention, g);
    d_.attention_backward(attention_of(s_, l), rows, p.backward, p.backward_count, p.keys, p.key_count, p.positions,
                          a.qkv, a.attention, b.attention, a.log_sum, b.delta, b.qkv);
    d_.prepare_heads_backward(attention_of(s_, l), rows, b.qkv, a.raw_qkv, preparation(l, p.positions, a), g + w.q_norm,
                              g + w.k_norm);
    if (s_.qk_norm && s_.post_norm)
      for_wide_norms(rows, w, [&](row_shape shape, std::size_t at, std::size_t weight, std::size_t scale) {
        d_.rms_norm_backward(shape, {b.qkv.offset(at), s_.qkv_width}, {a.raw_qkv.offset(at), s_.qkv_width},
                             theta_ + weight, a.qk_scale + scale, {b.qkv.offset(at), s_.qkv_width}, g + weight,
                             result_mode::assign, {});
      });
    if (s_.qkv_bias) d_.bias_gradient(b.qkv, rows, s_.qkv_width, g + w.qkv_bias);
    linear_backward(rows, b.qkv, s_.qkv_width, w.qkv, s_.hidden, f32(b.normed), a.normed, g);
    input_gradient(rows, x, a.scale, w.input_norm, b, dx, g);
  }

  /// Final norm and output matrix: x: [rows, hidden] -> logits: [rows, vocab].
  void logits(const float* x, std::int32_t rows, operand normed, float* scale, float* out) const {
    norm(rows, x, s_.final_norm, normed, scale);
    linear(rows, normed, s_.hidden, s_.head, s_.vocab, f32(out));
  }
  /// dx <- gradient of x; g is added to. dnormed: scratch, [rows, hidden].
  void logits_backward(std::int32_t rows, operand dlogits, const float* x, operand normed, const float* scale,
                       float* dnormed, float* dx, float* g) const {
    linear_backward(rows, dlogits, s_.vocab, s_.head, s_.hidden, f32(dnormed), normed, g);
    d_.rms_norm_backward({rows, 1, s_.hidden}, wide(dnormed), wide(x), theta_ + s_.final_norm, scale, wide(dx),
                         g + s_.final_norm, result_mode::assign, {});
  }

 private:
  static operand f32(const float* x) { return {const_cast<float*>(x), scalar_type::float32}; }
  row_operand wide(const float* x) const { return {f32(x), s_.hidden}; }
  static std::size_t count(std::int32_t rows, std::int32_t width) {
    return static_cast<std::size_t>(rows) * static_cast<std::size_t>(width);
  }

  /// y <- the norm of x, plus addend where there is one.
  void norm(std::int32_t rows, const float* x, std::size_t weight, operand y, float* scale,
            const float* addend = nullptr) const {
    d_.rms_norm({rows, 1, s_.hidden}, wide(x), theta_ + weight, s_.eps, {y, s_.hidden}, scale, addend);
  }
  /// y <- x w^T, plus addend where there is one.
  void linear(std::int32_t rows, operand x, std::int32_t in, std::size_t weight, std::int32_t out, operand y,
              operand addend = {}) const {
    d_.multiply(product_form::nt, padded_rows(rows), out, in, x, weights_.offset(weight), addend, y);
  }
  /// dx <- dy w, gradient of w += dy^T x.
  void linear_backward(std::int32_t rows, operand dy, std::int32_t out, std::size_t weight, std::int32_t in, operand dx,
                       operand x, float* g) const {
    d_.multiply(product_form::nn, padded_rows(rows), in, out, dy, weights_.offset(weight), {}, dx);
    d_.multiply(product_form::tn, out, in, rows, dy, x, f32(g + weight), f32(g + weight));
  }
  /// b.out <- the gradient of what a branch adds to the residual stream, before its norm; without one it is there.
  void branch_gradient(std::int32_t rows, const float* dx, const float* unnormed, const float* scale,
                       std::size_t weight, layer_gradients& b, float* g) const {
    if (s_.post_norm)
      d_.rms_norm_backward({rows, 1, s_.hidden}, wide(dx), wide(unnormed), theta_ + weight, scale, {b.out, s_.hidden},
                           g + weight, result_mode::assign, {});
  }
  /// dx += the gradient, in b.normed, of what a branch takes from the residual stream x; b.out <- dx for the branch
  /// before, where there is no norm between.
  void input_gradient(std::int32_t rows, const float* x, const float* scale, std::size_t weight, layer_gradients& b,
                      float* dx, float* g) const {
    if (s_.post_norm)
      d_.add(b.normed, dx, count(rows, s_.hidden));
    else
      d_.rms_norm_backward({rows, 1, s_.hidden}, wide(b.normed), wide(x), theta_ + weight, scale, wide(dx), g + weight,
                           result_mode::add, b.out);
  }
  /// What is between the product and attention. Norms of each head are part of it; norms over all heads come before.
  head_preparation preparation(std::size_t l, const std::int32_t* positions, const layer_activations& a) const {
    const layer_offsets& w = s_.layers[l];
    head_preparation how{.positions = positions, .cosines = rope_.cosines[w.rope], .sines = rope_.sines[w.rope]};
    if (s_.qk_norm && !s_.post_norm) {
      how.q_norm = theta_ + w.q_norm;
      how.k_norm = theta_ + w.k_norm;
      how.eps = s_.eps;
      how.scale = a.qk_scale;
    }
    return how;
  }
  /// a.qkv <- a.raw_qkv, prepared.
  void prepare(std::size_t l, std::int32_t rows, const std::int32_t* positions, layer_activations& a,
               cache_target cache) const {
    const layer_offsets& w = s_.layers[l];
    head_preparation how = preparation(l, positions, a);
    how.cache = cache.at;
    how.cache_rows = cache.rows;
    operand from = a.raw_qkv;
    if (s_.qkv_bias && !s_.qk_norm) how.bias = theta_ + w.qkv_bias;
    if (s_.qkv_bias && s_.qk_norm) d_.add_bias(a.raw_qkv, rows, s_.qkv_width, theta_ + w.qkv_bias);  // raw is kept
    if (s_.qk_norm && s_.post_norm) {
      if (a.raw_qkv.data != a.qkv.data)
        d_.copy(a.qkv.data, a.raw_qkv.data, count(rows, s_.qkv_width) * size_of(type()));
      for_wide_norms(rows, w, [&](row_shape shape, std::size_t at, std::size_t weight, std::size_t scale) {
        d_.rms_norm(shape, {a.raw_qkv.offset(at), s_.qkv_width}, theta_ + weight, s_.eps,
                    {a.qkv.offset(at), s_.qkv_width}, a.qk_scale + scale, nullptr);
      });
      from = a.qkv;
    }
    d_.prepare_heads(attention_of(s_, l), rows, from, a.qkv, how);
  }
  /// f(shape, first coordinate, offset of the weight, offset of the reciprocal roots) for all queries and all keys.
  template <class F>
  void for_wide_norms(std::int32_t rows, const layer_offsets& w, F f) const {
    f(row_shape{rows, 1, s_.q_width}, std::size_t{0}, w.q_norm, std::size_t{0});
    f(row_shape{rows, 1, s_.kv_width}, static_cast<std::size_t>(s_.q_width), w.k_norm, count(rows, 1));
  }

  device& d_;
  const model_shape& s_;
  const float* theta_;
  operand weights_;
  rope_tables rope_;
};

}  // namespace rlvr::cuda
