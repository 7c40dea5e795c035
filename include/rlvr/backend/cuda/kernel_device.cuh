#pragma once
/// The kernels as a device: which block does what. Launcher has launch(grid_x, grid_y, kernel), and scratch() of
/// scratch_bytes: nothing is allocated in the middle of work.

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <numeric>
#include <span>
#include <type_traits>
#include <vector>

#include <rlvr/backend/cuda/attention_backward.cuh>
#include <rlvr/backend/cuda/attention_decode.cuh>
#include <rlvr/backend/cuda/attention_decode_floats.cuh>
#include <rlvr/backend/cuda/attention_forward.cuh>
#include <rlvr/backend/cuda/attention_kernels.cuh>
#include <rlvr/backend/cuda/device.hpp>
#include <rlvr/backend/cuda/gram_kernels.cuh>
#include <rlvr/backend/cuda/head_kernels.cuh>
#include <rlvr/backend/cuda/row_kernels.cuh>
#include <rlvr/backend/cuda/truncation_kernels.cuh>
#include <rlvr/backend/cuda/vector_kernels.cuh>
#include <rlvr/backend/cuda/vocabulary_kernels.cuh>
#include <rlvr/core/error.hpp>

namespace rlvr::cuda {

namespace detail {
/// Calls f with a null pointer of the operand's type.
template <class F>
void with_type(scalar_type type, F f) {
  if (type == scalar_type::float32)
    f(static_cast<float*>(nullptr));
  else
    f(static_cast<bfloat16*>(nullptr));
}
template <class S>
S* as(const operand& x) {
  return static_cast<S*>(x.data);
}
}  // namespace detail

inline constexpr std::size_t scratch_bytes = std::size_t{16} << 20;  ///< partial sums

/// Models device; derived from it are the GPU and its host double.
template <class Launcher>
class kernel_device : public device {
 public:
  using device::multiply;

  void scale(double a, float* y, std::size_t n) override {
    coordinates(kernels::scale_by{static_cast<float>(a)}, {y}, y, nullptr, n);
  }
  void axpy(double a, const float* x, float* y, std::size_t n) override {
    coordinates(kernels::add_multiple{a}, {y, x}, y, nullptr, n);
  }
  double dot(const float* x, const float* y, std::size_t n) override {
    double out = 0;
    sum_spans<1>(kernels::pair_sum{}, x, y, n, &out);
    return out;
  }
  void gram(std::span<const float* const> x, std::size_t n, double* out) override {
    require(x.size() >= 1 && x.size() <= kernels::most_gram_vectors, "cuda::gram: ", x.size(), " vectors, 1 to ",
            kernels::most_gram_vectors, " are possible");
    const std::size_t pairs = x.size() * (x.size() + 1) / 2;
    const std::int64_t count = static_cast<std::int64_t>(n), span = kernels::sum_span(count);
    const std::int64_t spans = (count + span - 1) / span;
    auto* partial = static_cast<double*>(self().scratch());
    double* sums = partial + static_cast<std::size_t>(spans) * pairs;
    if (x.size() <= 8)
      launch(spans, 1, kernels::gram_spans<1>(x, count, span, partial));
    else
      launch(spans, 1, kernels::gram_spans<2>(x, count, span, partial));
    launch(static_cast<std::int64_t>(pairs), 1,
           kernels::add_spans(partial, spans, static_cast<std::int64_t>(pairs), sums));
    std::vector<double> upper(pairs);
    download(upper.data(), sums, pairs * sizeof(double));
    for (std::size_t i = 0, at = 0; i < x.size(); ++i)
      for (std::size_t j = i; j < x.size(); ++j, ++at) out[i * x.size() + j] = out[j * x.size() + i] = upper[at];
  }
  void step(const float* theta, double alpha, const float* d, float* y, bfloat16* weights, std::size_t n) override {
    if (d)
      coordinates(kernels::add_multiple{alpha}, {theta, d}, y, weights, n);
    else
      coordinates(kernels::same{}, {theta}, y, weights, n);
  }
  step_report step_survival(const float* theta, double alpha, const float* d, scalar_type weights,
                            std::size_t n) override {
    double out[4];
    detail::with_type(weights, [&]<class S>(S*) { sum_spans<4>(kernels::survival_sums<S>{alpha}, theta, d, n, out); });
    return {out[0], out[1], out[2], out[3]};
  }
  void map(rlvr::detail::decay_towards f, float* y, std::size_t n, const float* x) override {
    coordinates(kernels::map_decay{f}, {y, x}, y, nullptr, n);
  }
  void map(rlvr::detail::decay_towards_square f, float* y, std::size_t n, const float* x) override {
    coordinates(kernels::map_decay_square{f}, {y, x}, y, nullptr, n);
  }
  void map(rlvr::detail::adamw_update f, float* y, std::size_t n, const float* m, const float* v) override {
    coordinates(kernels::map_adamw{f}, {y, m, v}, y, nullptr, n);
  }

  void embed(operand table, const std::int32_t* tokens, std::int32_t rows, std::int32_t width, float* x) override {
    detail::with_type(table.type, [&]<class S>(S*) {
      launch(rows, 1, kernels::embed_rows<S>{detail::as<S>(table), tokens, width, x});
    });
  }
  void embed_backward(const float* dx, const std::int32_t* tokens, const std::int32_t* begin, const std::int32_t* rows,
                      std::int32_t distinct, std::int32_t width, float* dtable) override {
    launch(distinct, 1, kernels::embed_gradient{dx, tokens, begin, rows, width, dtable});
  }
  void cast(const float* x, operand y, std::size_t n) override {
    if (y.type == scalar_type::float32)
      coordinates(kernels::same{}, {x}, static_cast<float*>(y.data), nullptr, n);
    else
      coordinates(kernels::same{}, {x}, nullptr, static_cast<bfloat16*>(y.data), n);
  }
  void add(const float* x, float* y, std::size_t n) override {
    coordinates(kernels::add_floats{}, {y, x}, y, nullptr, n);
  }
  void gather(const float* x, const std::int32_t* from, std::int32_t count, std::int32_t width, float* y,
              const std::int32_t* to) override {
    launch(count, 1, kernels::gather_rows{x, from, width, y, to});
  }
  void scatter_add(const float* x, const std::int32_t* rows, std::int32_t count, std::int32_t width,
                   float* y) override {
    launch(count, 1, kernels::scatter_sum{x, rows, width, y});
  }
  void add_bias(operand y, std::int32_t rows, std::int32_t width, const float* bias) override {
    detail::with_type(y.type, [&]<class S>(S*) {
      launch(rows, 1, kernels::bias_rows<S>{detail::as<S>(y), width, bias});
    });
  }
  void bias_gradient(operand dy, std::int32_t rows, std::int32_t width, float* db) override {
    detail::with_type(dy.type, [&]<class S>(S*) {
      using kernel = kernels::column_spans<S>;
      const std::int64_t span = rows_per_block(rows, width, 512), spans = blocks_of(rows, span);
      auto* partial = static_cast<float*>(self().scratch());
      launch(blocks_of(width, kernel::columns), spans, kernel{rows, width, span, detail::as<S>(dy), partial});
      add_columns(partial, spans, width, db);
    });
  }
  void rms_norm(row_shape s, row_operand x, const float* w, double eps, row_operand y, float* r,
                const float* addend) override {
    detail::with_type(x.at.type, [&]<class X>(X*) {
      detail::with_type(y.at.type, [&]<class Y>(Y*) {
        launch(s.rows, s.groups,
               kernels::normalise<X, Y>{s.groups, s.width, detail::as<X>(x.at), x.stride, w, static_cast<float>(eps),
                                        detail::as<Y>(y.at), y.stride, r, addend});
      });
    });
  }
  void rms_norm_backward(row_shape s, row_operand dy, row_operand x, const float* w, const float* r, row_operand dx,
                         float* dw, result_mode mode, operand rounded) override {
    const std::int64_t vectors = std::int64_t{s.rows} * s.groups, span = rows_per_block(vectors, s.width, 16);
    auto* partial = static_cast<float*>(self().scratch());
    const auto run = [&]<class X, class Y, class Z>(X*, Y*, Z*) {
      launch(blocks_of(vectors, span), 1,
             kernels::normalise_gradient<X, Y, Z>{vectors, s.groups, s.width, span, detail::as<X>(dy.at), dy.stride,
                                                  detail::as<X>(x.at), x.stride, w, r, detail::as<Y>(dx.at), dx.stride,
                                                  mode == result_mode::add, detail::as<Z>(rounded), partial});
    };
    // dy and x are of one type everywhere in a decoder.
    detail::with_type(x.at.type, [&](auto* from) {
      if (dx.at.type == scalar_type::bfloat16)
        run(from, static_cast<bfloat16*>(nullptr), static_cast<bfloat16*>(nullptr));
      else
        detail::with_type(rounded.type, [&](auto* copy) { run(from, static_cast<float*>(nullptr), copy); });
    });
    add_columns(partial, blocks_of(vectors, span), s.width, dw);
  }
  void prepare_heads(attention_shape shape, std::int32_t rows, operand raw, operand qkv,
                     const head_preparation& how) override {
    detail::with_type(qkv.type, [&]<class S>(S*) {
      launch(rows, 1,
             kernels::prepare_row<S>{shape, detail::as<S>(raw), detail::as<S>(qkv), how, detail::as<S>(how.cache)});
    });
  }
  void prepare_heads_backward(attention_shape s, std::int32_t rows, operand dqkv, operand raw,
                              const head_preparation& how, float* dq_norm, float* dk_norm) override {
    const std::int64_t span = rows_per_block(rows, 2 * s.head_dim, 16), spans = blocks_of(rows, span);
    auto* q_partial = static_cast<float*>(self().scratch());
    float* k_partial = q_partial + spans * s.head_dim;
    detail::with_type(dqkv.type, [&]<class S>(S*) {
      launch(spans, 1,
             kernels::prepare_gradient<S>{s, rows, span, detail::as<S>(dqkv), detail::as<S>(raw), how, q_partial,
                                          k_partial});
    });
    if (!how.q_norm) return;
    add_columns(q_partial, spans, s.head_dim, dq_norm);
    add_columns(k_partial, spans, s.head_dim, dk_norm);
  }
  void swiglu(operand gate_up, std::int32_t rows, std::int32_t width, operand out) override {
    detail::with_type(out.type, [&]<class S>(S*) {
      launch(rows, 1, kernels::gate<S>{detail::as<S>(gate_up), width, detail::as<S>(out)});
    });
  }
  void swiglu_backward(operand dout, operand gate_up, std::int32_t rows, std::int32_t width,
                       operand dgate_up) override {
    detail::with_type(dout.type, [&]<class S>(S*) {
      launch(rows, 1,
             kernels::gate_gradient<S>{detail::as<S>(dout), detail::as<S>(gate_up), width, detail::as<S>(dgate_up)});
    });
  }

  attention_tiles tiles(scalar_type type, std::int32_t head_dim) const override {
    if (type == scalar_type::float32) return {kernels::forward_tile<float>, kernels::backward_tile<float>};
    if (kernels::fits_registers(head_dim))
      return {kernels::attend_forward_in_registers<64>::queries, kernels::attention_gradient_in_registers<64>::rows};
    return {kernels::forward_tile<bfloat16>, kernels::backward_tile<bfloat16>};
  }
  void attention(attention_shape shape, const attention_task* tasks, std::int32_t count, operand q,
                 std::int64_t q_stride, key_value_rows prefix, key_value_rows own, operand out, std::int64_t out_stride,
                 float* log_sum, bool grouped) override {
    detail::with_type(q.type, [&]<class S>(S*) {
      const auto rows = [](const key_value_rows& x) {
        return kernels::key_values<S>{detail::as<S>(x.keys), detail::as<S>(x.values), static_cast<int>(x.stride)};
      };
      const kernels::attention_call<S> call{shape,
                                            tasks,
                                            detail::as<S>(q),
                                            q_stride,
                                            rows(prefix),
                                            rows(own),
                                            detail::as<S>(out),
                                            out_stride,
                                            log_sum,
                                            1 / std::sqrt(static_cast<float>(shape.head_dim)),
                                            count};
      if (grouped && kernels::fits_decode<S>(shape.head_dim))
        return kernels::with_width(shape.head_dim, [&]<int Width>(std::integral_constant<int, Width>) {
          const kernels::decode_kernel<S, Width> kernel{{call}};
          launch(kernel.blocks(count), 1, kernel);
        });
      if constexpr (std::is_same_v<S, bfloat16>)
        if (kernels::fits_registers(shape.head_dim))
          return kernels::with_width(shape.head_dim, [&]<int Width>(std::integral_constant<int, Width>) {
            launch(count, shape.heads, kernels::attend_forward_in_registers<Width>{call});
          });
      launch(count, shape.heads, kernels::attend_forward<S>{call});
    });
  }
  void attention_backward(attention_shape shape, std::int32_t rows, const attention_task* tasks, std::int32_t count,
                          const key_task* keys, std::int32_t key_count, const std::int32_t* positions, operand qkv,
                          operand out, operand dout, const float* log_sum, float* delta, operand dqkv) override {
    detail::with_type(qkv.type, [&]<class S>(S*) {
      const kernels::attention_gradient_call<S> call{
          shape, detail::as<S>(qkv), detail::as<S>(out), detail::as<S>(dout), log_sum, delta, detail::as<S>(dqkv)};
      if constexpr (std::is_same_v<S, bfloat16>)
        if (kernels::fits_registers(shape.head_dim))
          return kernels::with_width(shape.head_dim, [&]<int Width>(std::integral_constant<int, Width>) {
            const kernels::attention_gradient_in_registers<Width> common{
                call, 1 / std::sqrt(static_cast<float>(shape.head_dim))};
            launch(count, shape.heads, kernels::attend_backward_queries_in_registers<Width>{common, tasks, count});
            launch(key_count, shape.kv_heads,
                   kernels::attend_backward_keys_in_registers<Width>{common, keys, positions});
          });
      launch(rows, 1, kernels::attention_delta<S>{call});
      launch(count, shape.heads, kernels::attend_backward_queries<S>{{call}, tasks});
      launch(key_count, shape.kv_heads, kernels::attend_backward_keys<S>{{call}, keys, positions});
    });
  }

  void truncate(float* logits, std::int32_t rows, std::int32_t vocab, double inverse_temperature, std::int32_t top_k,
                double top_p) override {
    launch(rows, 1, kernels::truncate_rows{logits, vocab, static_cast<float>(inverse_temperature), top_k, top_p});
  }
  void distributions(const float* logits, std::int32_t rows, std::int32_t vocab, double inverse_temperature,
                     row_distribution* out) override {
    launch(rows, 1, kernels::softmax_rows{logit_rows(logits, vocab, inverse_temperature), out});
  }
  void edge_log_probs(const float* logits, std::int32_t rows, std::int32_t vocab, double inverse_temperature,
                      const row_distribution* p, const std::int32_t* begin, const std::int32_t* next,
                      double* log_probs) override {
    launch(rows, 1, kernels::edge_scores{logit_rows(logits, vocab, inverse_temperature), p, begin, next, log_probs});
  }
  void edge_gradient(const float* logits, std::int32_t rows, std::int32_t vocab, double inverse_temperature,
                     const row_distribution* p, const std::int32_t* begin, const std::int32_t* next,
                     const double* coefficients, operand dlogits) override {
    detail::with_type(dlogits.type, [&]<class S>(S*) {
      launch(rows, 1,
             kernels::edge_gradients<S>{logit_rows(logits, vocab, inverse_temperature), p, begin, next, coefficients,
                                        detail::as<S>(dlogits)});
    });
  }
  void draw(const float* logits, std::int32_t rows, std::int32_t vocab, double inverse_temperature, row_distribution* p,
            const double* uniform, std::int32_t* next, double* log_probs) override {
    launch(rows, 1, kernels::draw_tokens{logit_rows(logits, vocab, inverse_temperature), uniform, p, next, log_probs});
  }

 private:
  Launcher& self() { return static_cast<Launcher&>(*this); }
  static kernels::logit_rows logit_rows(const float* logits, std::int32_t vocab, double inverse_temperature) {
    return {logits, vocab, static_cast<float>(inverse_temperature)};
  }
  template <class Kernel>
  void launch(std::int64_t x, std::int64_t y, const Kernel& kernel) {
    if (x > 0 && y > 0) self().launch(x, y, kernel);
  }
  /// y_i <- f(x_i...), and the same rounded, both where not null.
  template <class F, std::size_t Inputs>
  void coordinates(F f, const float* const (&x)[Inputs], float* y, bfloat16* rounded, std::size_t n) {
    const kernels::map_vectors<static_cast<int>(Inputs), F> kernel(f, static_cast<std::int64_t>(n), x, y, rounded);
    launch((kernel.n + kernel.tile - 1) / kernel.tile, 1, kernel);
  }
  template <int N, class F>
  void sum_spans(F f, const float* x, const float* y, std::size_t n, double* out) {
    const kernels::span_sums<N, F> kernel(f, static_cast<std::int64_t>(n), x, y,
                                          static_cast<double*>(self().scratch()));
    const std::int64_t spans = (kernel.n + kernel.span - 1) / kernel.span;
    launch(spans, 1, kernel);
    launch(N, 1, kernels::add_spans(kernel.out, spans, N, kernel.out + spans * N));
    download(out, kernel.out + spans * N, N * sizeof(double));
  }
  static std::int64_t blocks_of(std::int64_t n, std::int64_t span) { return (n + span - 1) / span; }
  /// Of sums over rows, so that the blocks' sums of `width` columns fit scratch and a grid. A function of the sizes
  /// alone: the same bits every time.
  static std::int64_t rows_per_block(std::int64_t rows, std::int64_t width, std::int64_t least) {
    constexpr std::int64_t most_blocks = 65535;  // of a grid's y
    return std::max(least, blocks_of(rows, std::min<std::int64_t>(scratch_bytes / sizeof(float) / width, most_blocks)));
  }
  void add_columns(const float* partial, std::int64_t spans, std::int64_t width, float* out) {
    launch(blocks_of(width, kernels::add_columns::columns), 1, kernels::add_columns{partial, spans, width, out});
  }
};

}  // namespace rlvr::cuda
