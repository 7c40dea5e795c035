#pragma once
/// The pieces of a Llama/Qwen/OLMo block, forward and backward. Every row's result depends on that row alone, bit for
/// bit: sums run over fixed lanes and matrix products over fixed tiles of rows.

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <span>
#include <type_traits>
#include <utility>
#include <vector>

#include <rlvr/backend/eigen/eigen_core.hpp>
#include <rlvr/core/exponential.hpp>
#include <rlvr/core/rollouts.hpp>

namespace rlvr::eigen {

template <class T>
using matrix = Eigen::Matrix<T, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
template <class T>
using matrix_map = Eigen::Map<matrix<T>>;
template <class T>
using const_matrix_map = Eigen::Map<const matrix<T>>;

/// Rows of one matrix product. Eigen's GEMM gives other bits for other row counts; a fixed one, with the last tile
/// padded, makes a row's result independent of how many rows there are.
inline constexpr std::size_t row_tile = 64;

inline std::size_t padded_rows(std::size_t rows) { return (rows + row_tile - 1) / row_tile * row_tile; }
inline Eigen::Index as_index(std::size_t n) { return static_cast<Eigen::Index>(n); }

/// Scratch that grows and keeps its memory. New memory is zero.
template <class T>
class buffer {
 public:
  T* resize(std::size_t n) {
    if (static_cast<std::size_t>(data_.size()) < n) {
      vector larger = vector::Zero(as_index(n + n / 4));  // Eigen's resize frees first, and keeps that on bad_alloc
      data_.swap(larger);
    }
    return data_.data();
  }
  T* data() { return data_.data(); }
  const T* data() const { return data_.data(); }

 private:
  using vector = Eigen::Matrix<T, Eigen::Dynamic, 1>;
  vector data_;
};

inline constexpr std::size_t lanes = 16;

/// Sum over fixed lanes, combined as a fixed tree.
template <class T>
T sum_lanes(const T (&lane)[lanes]) {
  T part[lanes / 2];
  for (std::size_t l = 0; l < 8; ++l) part[l] = lane[l] + lane[l + 8];
  for (std::size_t l = 0; l < 4; ++l) part[l] += part[l + 4];
  return (part[0] + part[2]) + (part[1] + part[3]);
}

template <class T>
T dot(const T* a, const T* b, std::size_t n) {
  T lane[lanes] = {};
  std::size_t i = 0;
  for (; i + lanes <= n; i += lanes)
    for (std::size_t l = 0; l < lanes; ++l) lane[l] += a[i + l] * b[i + l];
  for (std::size_t l = 0; i < n; ++i, ++l) lane[l] += a[i] * b[i];
  return sum_lanes(lane);
}

template <class T>
void add_scaled(T a, const T* x, T* y, std::size_t n) {
  for (std::size_t i = 0; i < n; ++i) y[i] += a * x[i];
}

/// A vector of one head's size: known at compile time, in registers; 0 stands for any size.
template <std::size_t Dim, class T>
struct head_vector {
  using type = Eigen::Matrix<T, static_cast<int>(Dim), 1>;
  static T dot(const T* a, const T* b, std::size_t) {
    return Eigen::Map<const type>(a).dot(Eigen::Map<const type>(b));
  }
  static void add_scaled(T a, const T* x, T* y, std::size_t) {
    Eigen::Map<type>(y) += a * Eigen::Map<const type>(x);
  }
};
template <class T>
struct head_vector<0, T> {
  static T dot(const T* a, const T* b, std::size_t n) { return eigen::dot(a, b, n); }
  static void add_scaled(T a, const T* x, T* y, std::size_t n) { eigen::add_scaled(a, x, y, n); }
};

/// y <- x w^T. x: [rows, in], w: [out, in], y: [rows, out]; rows is a multiple of row_tile.
template <class T>
void linear(const T* x, std::size_t rows, std::size_t in, const T* w, std::size_t out, T* y) {
  const const_matrix_map<T> weight(w, as_index(out), as_index(in));
  for (std::size_t r = 0; r < rows; r += row_tile)
    matrix_map<T>(y + r * out, row_tile, as_index(out)).noalias() =
        const_matrix_map<T>(x + r * in, row_tile, as_index(in)) * weight.transpose();
}

/// dx <- dy w. dy: [rows, out], w: [out, in], dx: [rows, in]; rows is a multiple of row_tile.
template <class T>
void linear_backward(const T* dy, std::size_t rows, std::size_t out, const T* w, std::size_t in, T* dx) {
  const const_matrix_map<T> weight(w, as_index(out), as_index(in));
  for (std::size_t r = 0; r < rows; r += row_tile)
    matrix_map<T>(dx + r * in, row_tile, as_index(in)).noalias() =
        const_matrix_map<T>(dy + r * out, row_tile, as_index(out)) * weight;
}

/// dw <- dw + dy^T x over all rows.
template <class T>
void weight_gradient(const T* dy, std::size_t out, const T* x, std::size_t in, std::size_t rows, T* dw) {
  matrix_map<T>(dw, as_index(out), as_index(in)).noalias() +=
      const_matrix_map<T>(dy, as_index(rows), as_index(out)).transpose() *
      const_matrix_map<T>(x, as_index(rows), as_index(in));
}

template <class T>
void add_bias(T* y, std::size_t rows, std::size_t n, const T* bias) {
  for (std::size_t r = 0; r < rows; ++r) add_scaled(T{1}, bias, y + r * n, n);
}

template <class T>
void bias_gradient(const T* dy, std::size_t rows, std::size_t n, T* db) {
  for (std::size_t r = 0; r < rows; ++r) add_scaled(T{1}, dy + r * n, db, n);
}

/// y <- w x / sqrt(mean(x^2) + eps); returns the reciprocal root.
template <class T>
T rms_norm(const T* x, const T* w, std::size_t n, T eps, T* y) {
  const T r = T{1} / std::sqrt(dot(x, x, n) / static_cast<T>(n) + eps);
  for (std::size_t i = 0; i < n; ++i) y[i] = w[i] * (x[i] * r);
  return r;
}

/// dx <- dx + gradient of rms_norm, dw <- dw + gradient; r is what rms_norm returned. dx may not be dy.
template <class T>
void rms_norm_backward(const T* dy, const T* x, const T* w, std::size_t n, T r, T* dx, T* dw) {
  T lane[lanes] = {};
  std::size_t i = 0;
  for (; i + lanes <= n; i += lanes)
    for (std::size_t l = 0; l < lanes; ++l) lane[l] += dy[i + l] * w[i + l] * x[i + l];
  for (std::size_t l = 0; i < n; ++i, ++l) lane[l] += dy[i] * w[i] * x[i];
  const T pull = r * r * r * sum_lanes(lane) / static_cast<T>(n);
  for (i = 0; i < n; ++i) dx[i] += r * w[i] * dy[i] - pull * x[i];
  for (i = 0; i < n; ++i) dw[i] += dy[i] * (x[i] * r);
}

/// cos and sin of position * frequency for the rotate-half layout (pairs i, i + d/2).
template <class T>
class rope_table {
 public:
  /// frequencies: one per pair, radians per position; cos and sin are multiplied by factor.
  explicit rope_table(std::vector<double> frequencies, double factor = 1)
      : half_(frequencies.size()), frequencies_(std::move(frequencies)), factor_(factor) {}

  /// Makes sure that positions below `count` are there.
  void extend(std::size_t count) {
    cos_.reserve(count * half_);  // so that no push_back fails and leaves the tables at different lengths
    sin_.reserve(count * half_);
    for (std::size_t p = cos_.size() / half_; p < count; ++p)
      for (const double frequency : frequencies_) {
        const double angle = static_cast<double>(p) * frequency;
        cos_.push_back(static_cast<T>(std::cos(angle) * factor_));
        sin_.push_back(static_cast<T>(std::sin(angle) * factor_));
      }
  }

  /// Rotates (and scales by the factor) `heads` vectors of head_dim in place; direction -1 is the gradient.
  void rotate(T* x, std::size_t heads, std::size_t position, T direction) const {
    const T* c = cos_.data() + position * half_;
    const T* s = sin_.data() + position * half_;
    for (std::size_t h = 0; h < heads; ++h, x += 2 * half_)
      for (std::size_t i = 0; i < half_; ++i) {
        const T a = x[i], b = x[i + half_], sine = direction * s[i];
        x[i] = a * c[i] - b * sine;
        x[i + half_] = b * c[i] + a * sine;
      }
  }

 private:
  std::size_t half_;
  std::vector<double> frequencies_;
  double factor_;
  std::vector<T> cos_, sin_;
};

/// Keys and values of all rows: row r of head h is at data + r * stride + h * head_dim.
template <class T>
struct keys_values {
  const T* keys;
  const T* values;
  std::size_t stride;
};

inline std::size_t padded_lanes(std::size_t n) { return (n + lanes - 1) / lanes * lanes; }

/// x_j <- e^(x_j - shift) for j < n, and 0 up to padded_lanes(n), for which there is room: whole vectors, no remainder.
template <class T>
void exponentials(T* x, std::size_t n, T shift) {
  const std::size_t padded = padded_lanes(n);
  for (std::size_t j = n; j < padded; ++j) x[j] = shift;
  for (std::size_t j = 0; j < padded; j += lanes)
    for (std::size_t l = 0; l < lanes; ++l) x[j + l] = vector_exp(x[j + l] - shift);
  for (std::size_t j = n; j < padded; ++j) x[j] = 0;
}

/// Sum of x up to padded_lanes(n), whose padding is 0.
template <class T>
T sum_padded(const T* x, std::size_t n) {
  T lane[lanes] = {};
  for (std::size_t j = 0; j < n; j += lanes)
    for (std::size_t l = 0; l < lanes; ++l) lane[l] += x[j + l];
  return sum_lanes(lane);
}

/// Calls f with head_dim as a compile-time constant where it is a usual one, else with 0.
template <class F>
void with_head_dim(std::size_t head_dim, F f) {
  switch (head_dim) {
    case 16: return f(std::integral_constant<std::size_t, 16>());
    case 32: return f(std::integral_constant<std::size_t, 32>());
    case 64: return f(std::integral_constant<std::size_t, 64>());
    case 128: return f(std::integral_constant<std::size_t, 128>());
    default: return f(std::integral_constant<std::size_t, 0>());
  }
}

/// One query head over the rows of `path`: out <- sum_j softmax(scale q.k_j) v_j. Returns the log-sum-exp of the
/// scores. `scores` has room for padded_lanes(path.size()).
template <std::size_t Dim, class T>
T attend(const T* q, const keys_values<T>& kv, std::span<const std::int32_t> path, std::size_t head_dim, T scale,
         T* scores, T* out) {
  using head = head_vector<Dim, T>;
  const std::size_t n = path.size();
  T top = -std::numeric_limits<T>::infinity();
  for (std::size_t j = 0; j < n; ++j) {
    scores[j] = scale * head::dot(q, kv.keys + static_cast<std::size_t>(path[j]) * kv.stride, head_dim);
    top = scores[j] > top ? scores[j] : top;
  }
  exponentials(scores, n, top);
  const T sum = sum_padded(scores, n);
  const T share = T{1} / sum;
  const auto weigh = [&](T* to) {
    for (std::size_t j = 0; j < n; ++j)
      head::add_scaled(scores[j] * share, kv.values + static_cast<std::size_t>(path[j]) * kv.stride, to, head_dim);
  };
  if constexpr (Dim > 0) {  // a local array stays in registers
    T local[Dim] = {};
    weigh(local);
    for (std::size_t i = 0; i < Dim; ++i) out[i] = local[i];
  } else {
    for (std::size_t i = 0; i < head_dim; ++i) out[i] = 0;
    weigh(out);
  }
  return top + std::log(sum);
}

/// The gradient of attend: dq, and the rows of dkeys and dvalues, are added to. out and lse are the forward results.
template <std::size_t Dim, class T>
void attend_backward(const T* dout, const T* out, T lse, const T* q, const keys_values<T>& kv,
                     std::span<const std::int32_t> path, std::size_t head_dim, T scale, T* scores, T* dq, T* dkeys,
                     T* dvalues) {
  using head = head_vector<Dim, T>;
  const std::size_t n = path.size();
  const T mean = head::dot(dout, out, head_dim);
  for (std::size_t j = 0; j < n; ++j)
    scores[j] = scale * head::dot(q, kv.keys + static_cast<std::size_t>(path[j]) * kv.stride, head_dim);
  exponentials(scores, n, lse);
  const auto pull = [&](T* to) {
    for (std::size_t j = 0; j < n; ++j) {
      const std::size_t at = static_cast<std::size_t>(path[j]) * kv.stride;
      const T p = scores[j];
      const T ds = scale * p * (head::dot(dout, kv.values + at, head_dim) - mean);
      head::add_scaled(ds, kv.keys + at, to, head_dim);
      head::add_scaled(ds, q, dkeys + at, head_dim);
      head::add_scaled(p, dout, dvalues + at, head_dim);
    }
  };
  if constexpr (Dim > 0) {
    T local[Dim] = {};
    pull(local);
    for (std::size_t i = 0; i < Dim; ++i) dq[i] += local[i];
  } else {
    pull(dq);
  }
}

/// h <- silu(gate) up, with gate and up side by side: [2 n].
template <class T>
void swiglu(const T* gate_up, std::size_t n, T* h) {
  for (std::size_t i = 0; i < n; ++i) {
    const T g = gate_up[i];
    h[i] = g / (T{1} + vector_exp(-g)) * gate_up[n + i];
  }
}

/// d(gate_up) <- the gradient of swiglu.
template <class T>
void swiglu_backward(const T* dh, const T* gate_up, std::size_t n, T* dgate_up) {
  for (std::size_t i = 0; i < n; ++i) {
    const T g = gate_up[i], u = gate_up[n + i];
    const T sigmoid = T{1} / (T{1} + vector_exp(-g));
    dgate_up[i] = dh[i] * u * sigmoid * (T{1} + g * (T{1} - sigmoid));
    dgate_up[n + i] = dh[i] * g * sigmoid;
  }
}

/// The next-token distribution of one row at a temperature.
struct token_distribution {
  double top;       ///< largest logit / temperature
  double sum;       ///< sum of exp(logit / temperature - top)
  double entropy;   ///< nats

  double log_prob(double scaled_logit) const { return scaled_logit - top - std::log(sum); }
};

/// logits: [n] are divided by the temperature in place; weights[v] <- exp(logits[v] - top), with room for
/// padded_lanes(n). NaN logits give NaN.
template <class T>
token_distribution softmax(T* logits, std::size_t n, T inverse_temperature, T* weights) {
  T top = -std::numeric_limits<T>::infinity();
  for (std::size_t v = 0; v < n; ++v) {
    logits[v] *= inverse_temperature;
    top = logits[v] > top ? logits[v] : top;
  }
  for (std::size_t v = 0; v < n; ++v) weights[v] = logits[v];
  exponentials(weights, n, top);
  double sum[8] = {}, energy[8] = {};
  std::size_t v = 0;
  for (; v + 8 <= n; v += 8)
    for (std::size_t l = 0; l < 8; ++l) {
      sum[l] += static_cast<double>(weights[v + l]);
      energy[l] += static_cast<double>(weights[v + l]) * static_cast<double>(logits[v + l] - top);
    }
  for (std::size_t l = 0; v < n; ++v, ++l) {
    sum[l] += static_cast<double>(weights[v]);
    energy[l] += static_cast<double>(weights[v]) * static_cast<double>(logits[v] - top);
  }
  double total = 0, mean = 0;
  for (std::size_t l = 0; l < 8; ++l) {
    total += sum[l];
    mean += energy[l];
  }
  return {static_cast<double>(top), total, std::log(total) - mean / total};
}

}  // namespace rlvr::eigen
