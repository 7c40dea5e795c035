#pragma once
/// The weakest types that model each concept: what is not promised, they do not have. An algorithm that runs
/// on them asks for no more than its concept.

#include <cstddef>
#include <span>
#include <string_view>
#include <utility>
#include <vector>

#include <rlvr/backend/tabular/policy.hpp>
#include <rlvr/core/policy.hpp>

namespace archetype {

class space;

/// A vector that the host can move and nothing else, as if it lay on a device.
class vector {
 public:
  vector(vector&&) = default;
  vector& operator=(vector&&) = default;
  vector(const vector&) = delete;
  vector& operator=(const vector&) = delete;

 private:
  friend class space;
  friend class policy;
  explicit vector(std::vector<double> values) : values_(std::move(values)) {}
  std::vector<double> values_;
};

/// vector_space and nothing more: neither elementwise nor tensor_layout, not copyable, not default
/// constructible.
class space {
 public:
  using vector = archetype::vector;

  explicit space(std::size_t dimension) : inner_(dimension) {}
  space(space&&) = default;
  space(const space&) = delete;
  space& operator=(const space&) = delete;

  std::size_t dimension() const { return inner_.dimension(); }
  vector zero() const { return vector(inner_.zero()); }
  void assign(vector& y, const vector& x) const { inner_.assign(y.values_, x.values_); }
  void scale(double a, vector& y) const { inner_.scale(a, y.values_); }
  void axpy(double a, const vector& x, vector& y) const { inner_.axpy(a, x.values_, y.values_); }
  double dot(const vector& x, const vector& y) const { return inner_.dot(x.values_, y.values_); }

 protected:
  static std::vector<double>& values_of(vector& x) { return x.values_; }
  static const std::vector<double>& values_of(const vector& x) { return x.values_; }

 public:
  /// For tests only: a vector from the host.
  vector from_host(std::vector<double> values) const { return vector(std::move(values)); }

 private:
  rlvr::tabular::space inner_;
};

/// elementwise and nothing more.
class elementwise_space : public space {
 public:
  using space::space;
  template <class F, class... X>
  void map(F f, vector& y, const X&... x) const {
    for (std::size_t i = 0; i < values_of(y).size(); ++i) values_of(y)[i] = f(values_of(y)[i], values_of(x)[i]...);
  }
};

/// tensor_layout and nothing more: one tensor.
class tensor_space : public space {
 public:
  explicit tensor_space(std::size_t dimension) : space(dimension), tensors_{{"x", {dimension}, 0}} {}
  std::span<const rlvr::tensor_slot> tensors() const { return tensors_; }

 private:
  std::vector<rlvr::tensor_slot> tensors_;
};

/// line_objective and nothing more: a number, not const, not copyable.
struct line_objective {
  line_objective() = default;
  line_objective(const line_objective&) = delete;
  double operator()(double alpha) { return 1 - (alpha - 2) * (alpha - 2); }
};

/// sampler, scorer and differentiable, and nothing more: the tabular policy with opaque vectors. Its space is
/// made anew for each caller, its members are not const, and it can be neither copied nor moved.
class policy {
 public:
  policy(std::vector<double> logits, std::size_t completions)
      : inner_(std::move(logits), completions), parameters_(inner_.parameters()) {}
  policy(const policy&) = delete;
  policy& operator=(const policy&) = delete;

  archetype::space space() const { return archetype::space(inner_.space().dimension()); }
  const vector& parameters() const { return parameters_; }
  void assign(const vector& theta) {
    parameters_.values_ = theta.values_;
    inner_.assign(theta.values_);
  }
  void assign(const vector& theta, double alpha, const vector& direction) {
    inner_.assign(theta.values_, alpha, direction.values_);
    parameters_.values_ = inner_.parameters();
  }

  rlvr::rollouts sample(const rlvr::ragged<rlvr::token>& prompts,
                        std::span<const rlvr::sample_request> requests, const rlvr::sampling_options& options,
                        rlvr::random_key key) {
    return inner_.sample(prompts, requests, options, key);
  }
  rlvr::token_scores score(const rlvr::ragged<rlvr::token>& prompts, const rlvr::rollouts& r,
                           double temperature) {
    return inner_.score(prompts, r, temperature);
  }
  void accumulate_score(const rlvr::ragged<rlvr::token>& prompts, const rlvr::rollouts& r,
                        std::span<const double> coefficients, double temperature, vector& g) {
    inner_.accumulate_score(prompts, r, coefficients, temperature, g.values_);
  }

 private:
  rlvr::tabular::policy inner_;
  vector parameters_;
};

/// sampler only.
struct sampler {
  sampler() = default;
  sampler(const sampler&) = delete;
  rlvr::rollouts sample(const rlvr::ragged<rlvr::token>&, std::span<const rlvr::sample_request>,
                        const rlvr::sampling_options&, rlvr::random_key) {
    return {};
  }
};

/// scorer only.
struct scorer {
  scorer() = default;
  scorer(const scorer&) = delete;
  rlvr::token_scores score(const rlvr::ragged<rlvr::token>&, const rlvr::rollouts&, double) { return {}; }
};

/// text_verifier and nothing more.
struct text_verifier {
  text_verifier() = default;
  text_verifier(text_verifier&&) = default;
  rlvr::verdict operator()(std::string_view completion, std::string_view answer) const noexcept {
    return {completion == answer ? 1.0 : 0.0, true};
  }
};

/// rollout_verifier and nothing more.
struct rollout_verifier {
  rollout_verifier() = default;
  rollout_verifier(const rollout_verifier&) = delete;
  rlvr::verdict operator()(std::size_t prompt, std::span<const rlvr::token> completion) const {
    return {!completion.empty() && completion[0] == static_cast<rlvr::token>(prompt) ? 1.0 : 0.0, true};
  }
};

/// advantage_estimator and nothing more.
struct advantage_estimator {
  advantage_estimator() = default;
  advantage_estimator(const advantage_estimator&) = delete;
  std::vector<double> operator()(std::span<const rlvr::verdict> verdicts, const rlvr::groups&) const {
    return std::vector<double>(verdicts.size());
  }
};

}  // namespace archetype
