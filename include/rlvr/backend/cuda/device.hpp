#pragma once
/// What the CUDA backend asks of a device: memory, and the kernels of a decoder. A GPU implements it, and so does the
/// host loop that the tests run. Pointers are the device's; calls are asynchronous and in order, except those that
/// return numbers.

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include <rlvr/backend/cuda/scalar.hpp>
#include <rlvr/optimize/adamw.hpp>

namespace rlvr::cuda {

/// Numbers of one type on the device.
struct operand {
  void* data = nullptr;
  scalar_type type = scalar_type::float32;

  operand offset(std::size_t n) const { return {static_cast<char*>(data) + n * size_of(type), type}; }
};

/// What a matrix product or a norm does with what is in its result.
enum class result_mode { assign, add };

/// Rows of `groups` vectors of `width`: vector g of row r begins at r * stride + g * width.
struct row_shape {
  std::int32_t rows, groups, width;
};
struct row_operand {
  operand at;
  std::int64_t stride;
};

/// A tile of queries: `query_rows` rows from `query_row` on. They see `prefix_length` keys from prefix row
/// `prefix_row`, and behind them the keys of their own sequence from own row `own_row`; the first of them stands at
/// `own_position` among its own, and each sees up to itself.
struct attention_task {
  std::int32_t query_row, query_rows, prefix_row, prefix_length, own_row, own_position;
};

/// A tile of keys and the end of the rows that may see them, for the gradient.
struct key_task {
  std::int32_t key_row, key_rows, query_end;
};

/// Keys and values, one row of `stride` numbers per position.
struct key_value_rows {
  operand keys, values;
  std::int64_t stride;
};

struct attention_shape {
  std::int32_t heads, kv_heads, head_dim;
  std::int32_t window;  ///< 0: everything
};

/// What becomes of rows of queries, keys and values before attention: bias added, RMSNorm of each head of queries and
/// keys, RoPE; keys and values also go to a cache. Null: left out.
struct head_preparation {
  const float* bias = nullptr;
  const float *q_norm = nullptr, *k_norm = nullptr;  ///< [head_dim]
  double eps = 0;
  float* scale = nullptr;  ///< [rows, heads + kv_heads] reciprocal roots, kept for the gradient
  const std::int32_t* positions = nullptr;
  const float *cosines = nullptr, *sines = nullptr;  ///< [position, head_dim / 2]
  operand cache{};                                   ///< rows of keys and values side by side
  const std::int32_t* cache_rows = nullptr;          ///< where each row goes
};

/// The next-token distribution of a row at a temperature: largest scaled logit, sum of exp(scaled logit - top),
/// entropy.
struct row_distribution {
  double top, sum, entropy;
};

/// What became of a displacement alpha d in rounded weights.
struct step_report {
  double wanted = 0;  ///< |alpha d|^2
  double made = 0;    ///< |w(theta + alpha d) - w(theta)|^2, w the rounding
  double along = 0;   ///< their inner product
  double moved = 0;   ///< coordinates whose weights changed

  /// Between what was wanted and what was made: near 1 when the displacement survives, 0 when every weight stayed, 1
  /// when there is none. Roundings are fair, so that along / wanted is about 1 whatever is swallowed: the few weights
  /// that move move too far.
  double cosine() const {
    if (wanted == 0) return 1;
    return made == 0 ? 0 : along / (std::sqrt(wanted) * std::sqrt(made));
  }
};

/// Rows of queries, and of queries and keys for the gradient, that attention_tasks and key_tasks are cut into.
struct attention_tiles {
  std::int32_t forward, backward;
};

class buffer;

class device {
 public:
  device() = default;
  device(const device&) = delete;
  device& operator=(const device&) = delete;
  virtual ~device() = default;

  // Memory. allocate throws out_of_memory; new memory is not cleared.
  virtual void* allocate(std::size_t bytes) = 0;
  virtual void release(void* data) noexcept = 0;
  virtual std::size_t free_bytes() = 0;
  virtual void upload(void* to, const void* from, std::size_t bytes) = 0;  ///< returns when `from` may be reused
  virtual void download(void* to, const void* from, std::size_t bytes) = 0;  ///< returns when `to` is there
  virtual void copy(void* to, const void* from, std::size_t bytes) = 0;
  virtual void clear(void* to, std::size_t bytes) = 0;
  /// Throws the device_error of whatever failed since: a kernel that fails as it runs is told by a later call,
  /// under that call's name.
  virtual void synchronize() = 0;
  /// The cudaStream_t that all calls go to, for kernels of your own (see map.cuh).
  virtual void* stream() = 0;
  /// Memory that is kept only for a next call; a buffer for which there is too little room has it given back.
  std::vector<std::weak_ptr<buffer>> kept;

  // Vectors of n floats.
  virtual void scale(double a, float* y, std::size_t n) = 0;
  virtual void axpy(double a, const float* x, float* y, std::size_t n) = 0;
  virtual double dot(const float* x, const float* y, std::size_t n) = 0;
  /// out[i * M + j] <- <x_i, x_j>, each vector read once. At most 16 vectors.
  virtual void gram(std::span<const float* const> x, std::size_t n, double* out) = 0;
  /// y <- theta + alpha d (where y is not null), weights <- the same rounded (where not null).
  virtual void step(const float* theta, double alpha, const float* d, float* y, bfloat16* weights, std::size_t n) = 0;
  virtual step_report step_survival(const float* theta, double alpha, const float* d, scalar_type weights,
                                    std::size_t n) = 0;
  // The maps of adamw: y_i <- f(y_i, x_i), f(y_i, m_i, v_i).
  virtual void map(rlvr::detail::decay_towards f, float* y, std::size_t n, const float* x) = 0;
  virtual void map(rlvr::detail::decay_towards_square f, float* y, std::size_t n, const float* x) = 0;
  virtual void map(rlvr::detail::adamw_update f, float* y, std::size_t n, const float* m, const float* v) = 0;

  // Matrices, row-major. c[m,n] <- a b, transposed as `form` says, + addend, of c's type, where its data is not null.
  virtual void multiply(product_form form, std::int64_t m, std::int64_t n, std::int64_t k, operand a, operand b,
                        operand addend, operand c) = 0;
  /// c <- or += a b.
  void multiply(product_form form, std::int64_t m, std::int64_t n, std::int64_t k, operand a, operand b, operand c,
                result_mode mode) {
    multiply(form, m, n, k, a, b, mode == result_mode::add ? c : operand{}, c);
  }

  // Rows.
  virtual void embed(operand table, const std::int32_t* tokens, std::int32_t rows, std::int32_t width, float* x) = 0;
  /// dtable[tokens[t]] += sum of dx over its rows, given as lists: rows[begin[t]] .. rows[begin[t+1]].
  virtual void embed_backward(const float* dx, const std::int32_t* tokens, const std::int32_t* begin,
                              const std::int32_t* rows, std::int32_t distinct, std::int32_t width, float* dtable) = 0;
  virtual void cast(const float* x, operand y, std::size_t n) = 0;
  virtual void add(const float* x, float* y, std::size_t n) = 0;
  /// y[to[i]] <- x[from[i]]; without `to`, y[i].
  virtual void gather(const float* x, const std::int32_t* from, std::int32_t count, std::int32_t width, float* y,
                      const std::int32_t* to) = 0;
  /// y[rows[i]] += x[i]; rows are distinct.
  virtual void scatter_add(const float* x, const std::int32_t* rows, std::int32_t count, std::int32_t width,
                           float* y) = 0;
  virtual void add_bias(operand y, std::int32_t rows, std::int32_t width, const float* bias) = 0;
  virtual void bias_gradient(operand dy, std::int32_t rows, std::int32_t width, float* db) = 0;
  /// y <- w x r with r = 1 / sqrt(mean x^2 + eps), plus addend, laid out as y, where it is not null; r is kept, one per
  /// vector. x may be y.
  virtual void rms_norm(row_shape shape, row_operand x, const float* w, double eps, row_operand y, float* r,
                        const float* addend) = 0;
  /// dx <- or +=, dw +=; rounded <- dx, of floats, laid out alike, where it is not null. dx may be dy.
  virtual void rms_norm_backward(row_shape shape, row_operand dy, row_operand x, const float* w, const float* r,
                                 row_operand dx, float* dw, result_mode mode, operand rounded) = 0;
  /// qkv <- the rows of raw, [rows, (heads + 2 kv_heads) head_dim], prepared; it may be raw.
  virtual void prepare_heads(attention_shape shape, std::int32_t rows, operand raw, operand qkv,
                             const head_preparation& how) = 0;
  /// dqkv: the gradient of what was prepared on entry, of raw on return. Gradients of the norms' weights are added to;
  /// that of a bias is bias_gradient of the result.
  virtual void prepare_heads_backward(attention_shape shape, std::int32_t rows, operand dqkv, operand raw,
                                      const head_preparation& how, float* dq_norm, float* dk_norm) = 0;
  virtual void swiglu(operand gate_up, std::int32_t rows, std::int32_t width, operand out) = 0;
  virtual void swiglu_backward(operand dout, operand gate_up, std::int32_t rows, std::int32_t width,
                               operand dgate_up) = 0;

  // Attention.
  virtual attention_tiles tiles(scalar_type type, std::int32_t head_dim) const = 0;
  /// `grouped`: every task is one query, and heads that share keys may read them together. log_sum, where not null:
  /// [rows, heads].
  virtual void attention(attention_shape shape, const attention_task* tasks, std::int32_t count, operand q,
                         std::int64_t q_stride, key_value_rows prefix, key_value_rows own, operand out,
                         std::int64_t out_stride, float* log_sum, bool grouped) = 0;
  /// q, keys and values lie side by side in qkv, their gradients in dqkv. delta: scratch, [rows, heads].
  virtual void attention_backward(attention_shape shape, std::int32_t rows, const attention_task* tasks,
                                  std::int32_t count, const key_task* keys, std::int32_t key_count,
                                  const std::int32_t* positions, operand qkv, operand out, operand dout,
                                  const float* log_sum, float* delta, operand dqkv) = 0;

  // The vocabulary. logits: [rows, vocab] floats.
  /// Keeps the top_k largest logits (0: all) and of them the fewest whose probability reaches top_p; ties stay
  /// together. The others become -infinity. Probabilities are compared to within 2^-41 of the
  /// largest, of vocabularies above 2^18 less exactly.
  virtual void truncate(float* logits, std::int32_t rows, std::int32_t vocab, double inverse_temperature,
                        std::int32_t top_k, double top_p) = 0;
  virtual void distributions(const float* logits, std::int32_t rows, std::int32_t vocab, double inverse_temperature,
                             row_distribution* out) = 0;
  /// log_probs[e] for the edges e of row i, begin[i] <= e < begin[i+1], which lead to token next[e].
  virtual void edge_log_probs(const float* logits, std::int32_t rows, std::int32_t vocab, double inverse_temperature,
                              const row_distribution* p, const std::int32_t* begin, const std::int32_t* next,
                              double* log_probs) = 0;
  /// dlogits <- gradient of sum_e coefficient[e] log pi(next[e]). The edges of a row lead to distinct tokens; those to
  /// tokens that cannot come (logit -infinity) count nothing.
  virtual void edge_gradient(const float* logits, std::int32_t rows, std::int32_t vocab, double inverse_temperature,
                             const row_distribution* p, const std::int32_t* begin, const std::int32_t* next,
                             const double* coefficients, operand dlogits) = 0;
  /// p[i] <- the distribution of row i, next[i] <- the token at which its cumulative sum passes uniform[i].
  virtual void draw(const float* logits, std::int32_t rows, std::int32_t vocab, double inverse_temperature,
                    row_distribution* p, const double* uniform, std::int32_t* next, double* log_probs) = 0;
};

/// The GPU of that index, with a stream of its own: the calls of two devices have no order between them, so spaces and
/// policies whose vectors meet share one. Link with rlvr::cuda. Throws device_error when there is none.
std::shared_ptr<device> open_device(int index = 0);

}  // namespace rlvr::cuda
