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
#include <rlvr/backend/cuda/attention_forward.cuh>
#include <rlvr/backend/cuda/attention_kernels.cuh>
#include <rlvr/backend/cuda/device.hpp>
#include <rlvr/backend/cuda/row_kernels.cuh>
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
S* as(const operand& x, S*) {
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
    coordinates(kernels::scale_by{static_cast<float>(a), y}, n);
  }
  void axpy(double a, const float* x, float* y, std::size_t n) override {
    coordinates(kernels::add_multiple{a, x, y}, n);
  }
  double dot(const float* x, const float* y, std::size_t n) override {
    double out = 0;
    sum_spans<1>(kernels::pair_sum{x, y}, n, &out);
    return out;
  }
  void gram(std::span<const float* const> x, std::size_t n, double* out) override {
    require(x.size() >= 1 && x.size() <= kernels::most_gram_vectors, "cuda::gram: ", x.size(), " vectors, 1 to ",
            kernels::most_gram_vectors, " are possible");
    const std::size_t pairs = x.size() * (x.size() + 1) / 2;
    const std::int64_t count = static_cast<std::int64_t>(n), span = kernels::sum_span(count);
    const std::int64_t spans = (count + span - 1) / span;
    auto* partial = static_cast<double*>(self().scratch());
    kernels::gram_spans kernel{
        .x = {}, .vectors = static_cast<int>(x.size()), .n = count, .span = span, .out = partial};
    for (std::size_t i = 0; i < x.size(); ++i) kernel.x[i] = x[i];
    double* sums = partial + static_cast<std::size_t>(spans) * pairs;
    launch(spans, 1, kernel);
    launch(static_cast<std::int64_t>(pairs), 1,
           kernels::add_spans(partial, spans, static_cast<std::int64_t>(pairs), sums));
    std::vector<double> upper(pairs);
    download(upper.data(), sums, pairs * sizeof(double));
    for (std::size_t i = 0, at = 0; i < x.size(); ++i)
      for (std::size_t j = i; j < x.size(); ++j, ++at) out[i * x.size() + j] = out[j * x.size() + i] = upper[at];
  }
  void step(const float* theta, double alpha, const float* d, float* y, bfloat16* weights, std::size_t n) override {
    coordinates(kernels::make_step{theta, alpha, d, y, weights}, n);
  }
  step_report step_survival(const float* theta, double alpha, const float* d, std::size_t n) override {
    double out[4];
    sum_spans<4>(kernels::survival_sums{theta, alpha, d}, n, out);
    return {out[0], out[1], out[2], out[3]};
  }
  void map(rlvr::detail::decay_towards f, float* y, std::size_t n, const float* x) override {
    coordinates(kernels::map_decay{f, x, y}, n);
  }
  void map(rlvr::detail::decay_towards_square f, float* y, std::size_t n, const float* x) override {
    coordinates(kernels::map_decay_square{f, x, y}, n);
  }
  void map(rlvr::detail::adamw_update f, float* y, std::size_t n, const float* m, const float* v) override {
    coordinates(kernels::map_adamw{f, m, v, y}, n);
  }

  void embed(operand table, const std::int32_t* tokens, std::int32_t rows, std::int32_t width, float* x) override {
    detail::with_type(table.type, [&]<class S>(S* type) {
      launch(rows, 1, kernels::embed_rows<S>{{}, detail::as(table, type), tokens, width, x});
    });
  }
  void embed_backward(const float* dx, const std::int32_t* tokens, const std::int32_t* begin, const std::int32_t* rows,
                      std::int32_t distinct, std::int32_t width, float* dtable) override {
    launch(distinct, 1, kernels::embed_gradient{{}, dx, tokens, begin, rows, width, dtable});
  }
  void cast(const float* x, operand y, std::size_t n) override {
    detail::with_type(y.type, [&]<class S>(S* type) {
      coordinates(kernels::cast_floats<S>{x, detail::as(y, type)}, n);
    });
  }
  void add(const float* x, float* y, std::size_t n) override { coordinates(kernels::add_floats{x, y}, n); }
  void gather(const float* x, const std::int32_t* from, std::int32_t count, std::int32_t width, float* y,
              const std::int32_t* to) override {
    launch(count, 1, kernels::gather_rows{{}, x, from, width, y, to});
  }
  void scatter_add(const float* x, const std::int32_t* rows, std::int32_t count, std::int32_t width,
                   float* y) override {
    launch(count, 1, kernels::scatter_sum{{}, x, rows, width, y});
  }
  void add_bias(operand y, std::int32_t rows, std::int32_t width, const float* bias) override {
    detail::with_type(y.type, [&]<class S>(S* type) {
      launch(rows, 1, kernels::bias_rows<S>{{}, detail::as(y, type), width, bias});
    });
  }
  void bias_gradient(operand dy, std::int32_t rows, std::int32_t width, float* db) override {
    detail::with_type(dy.type, [&]<class S>(S* type) {
      columns({rows, 1, width}, detail::as(dy, type), width, detail::as(operand{}, type), 0, nullptr, 0, db);
    });
  }
  void rms_norm(row_shape s, row_operand x, const float* w, double eps, row_operand y, float* r,
                const float* addend) override {
    detail::with_type(x.at.type, [&]<class X>(X* from) {
      detail::with_type(y.at.type, [&]<class Y>(Y* to) {
        launch(s.rows, s.groups,
               kernels::normalise<X, Y>{{},
                                        s.groups,
                                        s.width,
                                        detail::as(x.at, from),
                                        x.stride,
                                        w,
                                        static_cast<float>(eps),
                                        detail::as(y.at, to),
                                        y.stride,
                                        r,
                                        addend});
      });
    });
  }
  void rms_norm_backward(row_shape s, row_operand dy, row_operand x, const float* w, const float* r, row_operand dx,
                         float* dw, result_mode mode) override {
    // dy and x are of one type everywhere in a decoder.
    detail::with_type(x.at.type, [&]<class X>(X* from) {
      columns(s, detail::as(dy.at, from), dy.stride, detail::as(x.at, from), x.stride, r, s.groups, dw);
      detail::with_type(dx.at.type, [&]<class Y>(Y* to) {
        launch(s.rows, s.groups,
               kernels::normalise_gradient<X, X, Y>{{},
                                                    s.groups,
                                                    s.width,
                                                    detail::as(dy.at, from),
                                                    dy.stride,
                                                    detail::as(x.at, from),
                                                    x.stride,
                                                    w,
                                                    r,
                                                    detail::as(dx.at, to),
                                                    dx.stride,
                                                    mode == result_mode::add});
      });
    });
  }
  void prepare_heads(attention_shape shape, std::int32_t rows, operand raw, operand qkv,
                     const head_preparation& how) override {
    detail::with_type(qkv.type, [&]<class S>(S* type) {
      launch(rows, 1,
             kernels::prepare_row<S>{shape, detail::as(raw, type), detail::as(qkv, type), how,
                                     detail::as(how.cache, type)});
    });
  }
  void prepare_heads_backward(attention_shape s, std::int32_t rows, operand dqkv, operand raw,
                              const head_preparation& how, float* dq_norm, float* dk_norm) override {
    detail::with_type(dqkv.type, [&]<class S>(S* type) {
      S* d = detail::as(dqkv, type);
      launch(rows, 1, kernels::rotate_back<S>{s, d, how.positions, how.cosines, how.sines});
      if (!how.q_norm) return;
      const S* x = detail::as(raw, type);
      const std::int32_t keys = s.heads * s.head_dim, heads = s.heads + s.kv_heads;
      const std::int64_t stride = keys + 2 * s.kv_heads * s.head_dim;
      columns({rows, s.heads, s.head_dim}, d, stride, x, stride, how.scale, heads, dq_norm);
      columns({rows, s.kv_heads, s.head_dim}, d + keys, stride, x + keys, stride, how.scale + s.heads, heads, dk_norm);
      launch(rows, 1, kernels::normalise_heads_gradient<S>{s, d, x, how});
    });
  }
  void swiglu(operand gate_up, std::int32_t rows, std::int32_t width, operand out) override {
    detail::with_type(out.type, [&]<class S>(S* type) {
      launch(rows, 1, kernels::gate<S>{{}, detail::as(gate_up, type), width, detail::as(out, type)});
    });
  }
  void swiglu_backward(operand dout, operand gate_up, std::int32_t rows, std::int32_t width,
                       operand dgate_up) override {
    detail::with_type(dout.type, [&]<class S>(S* type) {
      launch(rows, 1,
             kernels::gate_gradient<S>{
                 {}, detail::as(dout, type), detail::as(gate_up, type), width, detail::as(dgate_up, type)});
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
    detail::with_type(q.type, [&]<class S>(S* type) {
      if constexpr (std::is_same_v<S, bfloat16>)
        if (!grouped && kernels::fits_registers(shape.head_dim))
          return kernels::with_width(shape.head_dim, [&]<int Width>(std::integral_constant<int, Width>) {
            launch(count, shape.heads,
                   kernels::attend_forward_in_registers<Width>{
                       shape, tasks, count, detail::as(q, type), q_stride, detail::as(prefix.keys, type),
                       detail::as(prefix.values, type), prefix.stride, detail::as(own.keys, type),
                       detail::as(own.values, type), own.stride, detail::as(out, type), out_stride, log_sum,
                       1 / std::sqrt(static_cast<float>(shape.head_dim))});
          });
      const auto run = [&]<int Queries>(std::integral_constant<int, Queries>, int heads_per_block) {
        launch(
            count, shape.heads / heads_per_block,
            kernels::attend_forward<S, Queries, kernels::forward_tile<S>>{
                shape, tasks, detail::as(q, type), q_stride, detail::as(prefix.keys, type),
                detail::as(prefix.values, type), prefix.stride, detail::as(own.keys, type),
                detail::as(own.values, type), own.stride, detail::as(out, type), out_stride, log_sum, heads_per_block});
      };
      int together = shape.heads / shape.kv_heads;  // the most heads of a group that fit and divide it
      for (int least = together; together > kernels::grouped_queries || least % together != 0;) --together;
      if (grouped)
        run(std::integral_constant<int, kernels::grouped_queries>(), together);
      else
        run(std::integral_constant<int, kernels::forward_tile<S>>(), 1);
    });
  }
  void attention_backward(attention_shape shape, std::int32_t rows, const attention_task* tasks, std::int32_t count,
                          const key_task* keys, std::int32_t key_count, const std::int32_t* positions, operand qkv,
                          operand out, operand dout, const float* log_sum, float* delta, operand dqkv) override {
    detail::with_type(qkv.type, [&]<class S>(S* type) {
      if constexpr (std::is_same_v<S, bfloat16>)
        if (kernels::fits_registers(shape.head_dim))
          return kernels::with_width(shape.head_dim, [&]<int Width>(std::integral_constant<int, Width>) {
            const kernels::attention_gradient_in_registers<Width> common{
                shape,
                detail::as(qkv, type),
                detail::as(out, type),
                detail::as(dout, type),
                log_sum,
                delta,
                detail::as(dqkv, type),
                1 / std::sqrt(static_cast<float>(shape.head_dim))};
            launch(count, shape.heads, kernels::attend_backward_queries_in_registers<Width>(common, tasks, count));
            launch(key_count, shape.kv_heads,
                   kernels::attend_backward_keys_in_registers<Width>(common, keys, positions));
          });
      launch(rows, 1,
             kernels::attention_delta<S>{
                 {}, shape.heads, shape.head_dim, detail::as(out, type), detail::as(dout, type), delta});
      const kernels::attention_gradient<S> common{shape,   positions, detail::as(qkv, type), detail::as(dout, type),
                                                  log_sum, delta,     detail::as(dqkv, type)};
      launch(count, shape.heads, kernels::attend_backward_queries<S>(common, tasks));
      launch(key_count, shape.kv_heads, kernels::attend_backward_keys<S>(common, keys));
    });
  }

  void truncate(float* logits, std::int32_t rows, std::int32_t vocab, double inverse_temperature, std::int32_t top_k,
                double top_p) override {
    launch(rows, 1, kernels::truncate_rows{{}, logits, vocab, static_cast<float>(inverse_temperature), top_k, top_p});
  }
  void distributions(const float* logits, std::int32_t rows, std::int32_t vocab, double inverse_temperature,
                     row_distribution* out) override {
    launch(rows, 1, kernels::softmax_rows{{}, logits, vocab, static_cast<float>(inverse_temperature), out});
  }
  void edge_log_probs(const float* logits, std::int32_t rows, std::int32_t vocab, double inverse_temperature,
                      const row_distribution* p, const std::int32_t* begin, const std::int32_t* next,
                      double* log_probs) override {
    launch(rows, 1,
           kernels::edge_scores{{}, logits, vocab, static_cast<float>(inverse_temperature), p, begin, next, log_probs});
  }
  void edge_gradient(const float* logits, std::int32_t rows, std::int32_t vocab, double inverse_temperature,
                     const row_distribution* p, const std::int32_t* begin, const std::int32_t* next,
                     const double* coefficients, operand dlogits) override {
    detail::with_type(dlogits.type, [&]<class S>(S* type) {
      launch(rows, 1,
             kernels::edge_gradients<S>{{},
                                        logits,
                                        vocab,
                                        static_cast<float>(inverse_temperature),
                                        p,
                                        begin,
                                        next,
                                        coefficients,
                                        detail::as(dlogits, type)});
    });
  }
  void draw(const float* logits, std::int32_t rows, std::int32_t vocab, double inverse_temperature,
            const row_distribution* p, const double* uniform, std::int32_t* next, double* log_probs) override {
    launch(
        rows, 1,
        kernels::draw_tokens{{}, logits, vocab, static_cast<float>(inverse_temperature), p, uniform, next, log_probs});
  }

 private:
  Launcher& self() { return static_cast<Launcher&>(*this); }
  template <class Kernel>
  void launch(std::int64_t x, std::int64_t y, const Kernel& kernel) {
    if (x > 0 && y > 0) self().launch(x, y, kernel);
  }
  template <class F>
  void coordinates(F f, std::size_t n) {
    const auto count = static_cast<std::int64_t>(n);
    launch((count + kernels::vector_span - 1) / kernels::vector_span, 1, kernels::for_coordinates<F>(f, count));
  }
  template <int N, class F>
  void sum_spans(F f, std::size_t n, double* out) {
    const kernels::span_sums<N, F> kernel(f, static_cast<std::int64_t>(n), static_cast<double*>(self().scratch()));
    const std::int64_t spans = (kernel.n + kernel.span - 1) / kernel.span;
    launch(spans, 1, kernel);
    launch(N, 1, kernels::add_spans(kernel.out, spans, N, kernel.out + spans * N));
    download(out, kernel.out + spans * N, N * sizeof(double));
  }
  template <class X, class D>
  void columns(row_shape s, const D* d, std::int64_t d_stride, const X* x, std::int64_t x_stride, const float* r,
               std::int64_t r_stride, float* out) {
    using kernel = kernels::column_spans<X, D>;
    const std::int64_t vectors = std::int64_t{s.rows} * s.groups;
    constexpr std::int64_t most_blocks = 65535;  // of a grid's y
    const std::int64_t most =
        std::min(static_cast<std::int64_t>(scratch_bytes / sizeof(float)) / s.width, most_blocks) * kernel::least_span;
    const std::int64_t span = std::max<std::int64_t>(1, (vectors + most - 1) / most) * kernel::least_span;
    const std::int64_t spans = (vectors + span - 1) / span;
    auto* partial = static_cast<float*>(self().scratch());
    launch((s.width + kernel::columns - 1) / kernel::columns, spans,
           kernel{{}, vectors, s.groups, s.width, span, d, d_stride, x, x_stride, r, r_stride, partial});
    launch((s.width + block_threads - 1) / block_threads, 1, kernels::add_columns{{}, partial, spans, s.width, out});
  }
};

}  // namespace rlvr::cuda
