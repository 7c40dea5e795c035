#pragma once
/// The smallest policy: a softmax over K completions for each prompt. Every expectation can be enumerated, so it
/// is what the algorithms are proved on.

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include <rlvr/backend/tabular/space.hpp>
#include <rlvr/core/error.hpp>
#include <rlvr/core/policy.hpp>
#include <rlvr/core/validate.hpp>

namespace rlvr::tabular {

/// pi(k | i) = softmax(theta[i, :] / temperature)[k] for prompts i < P and completions k < K.
/// A prompt is one token, its row i; a completion is one token, its column k. Models policy.
class policy {
 public:
  /// logits: [P, K] row-major, so that P = logits.size() / completions.
  /// Throws std::invalid_argument when completions is 0 or does not divide logits.size().
  policy(std::vector<double> logits, std::size_t completions)
      : completions_(completions), theta_(std::move(logits)), space_(shape(theta_.size(), completions)) {}

  std::size_t prompt_count() const { return theta_.size() / completions_; }
  std::size_t completion_count() const { return completions_; }

  /// Prompts 0 .. P-1 as this policy reads them.
  ragged<token> prompts() const {
    ragged<token> out;
    for (std::size_t i = 0; i < prompt_count(); ++i) out.push_back(std::vector<token>{static_cast<token>(i)});
    return out;
  }

  const tabular::space& space() const { return space_; }
  const std::vector<double>& parameters() const { return theta_; }
  void assign(const std::vector<double>& theta) {
    check_size(theta);
    theta_ = theta;
  }
  void assign(const std::vector<double>& theta, double alpha, const std::vector<double>& direction) {
    check_size(theta);
    check_size(direction);
    for (std::size_t i = 0; i < theta_.size(); ++i) theta_[i] = theta[i] + alpha * direction[i];
  }

  /// pi(. | row) at a temperature. O(K).
  std::vector<double> distribution(std::size_t row, double temperature = 1.0) const {
    const double* logits = theta_.data() + row * completions_;
    double top = logits[0], sum = 0;
    for (std::size_t k = 1; k < completions_; ++k) top = std::fmax(top, logits[k]);
    std::vector<double> p(completions_);
    for (std::size_t k = 0; k < completions_; ++k) sum += p[k] = std::exp((logits[k] - top) / temperature);
    for (double& v : p) v /= sum;
    return p;
  }

  rollouts sample(const ragged<token>& prompts, std::span<const sample_request> requests,
                  const sampling_options& options, random_key key) const {
    check_temperature(options.temperature);
    require(options.max_tokens > 0, "tabular::policy::sample: max_tokens is 0");
    rollouts out;
    for (const sample_request& request : requests) {
      require(request.prompt < prompts.size(), "tabular::policy::sample: prompt ", request.prompt,
              ", but there are ", prompts.size());
      const std::vector<double> p = distribution(row_of(prompts, request.prompt), options.temperature);
      const double h = entropy(p);
      for (std::uint32_t i = 0; i < request.count; ++i) {
        const std::uint32_t r = request.first + i;
        double left = key.uniform(request.prompt, r, 0);
        std::size_t k = 0;
        while (k + 1 < completions_ && left >= p[k]) left -= p[k++];
        out.tokens.push_back(static_cast<token>(k));
        out.offsets.push_back(out.tokens.size());
        out.log_probs.push_back(std::log(p[k]));
        out.entropies.push_back(h);
        out.prompts.push_back(request.prompt);
        out.finished.push_back(1);
      }
    }
    return out;
  }

  token_scores score(const ragged<token>& prompts, const rollouts& r, double temperature) const {
    check(prompts, r, temperature);
    token_scores out;
    for (std::size_t i = 0; i < r.size(); ++i) {
      const std::vector<double> p = distribution(row_of(prompts, r.prompts[i]), temperature);
      out.log_probs.push_back(std::log(p[static_cast<std::size_t>(r.tokens[i])]));
      out.entropies.push_back(entropy(p));
    }
    return out;
  }

  void accumulate_score(const ragged<token>& prompts, const rollouts& r, std::span<const double> coefficients,
                        double temperature, std::vector<double>& g) const {
    check(prompts, r, temperature);
    require(coefficients.size() == r.tokens.size(), "tabular::policy::accumulate_score: ", coefficients.size(),
            " coefficients for ", r.tokens.size(), " tokens");
    require(g.size() == theta_.size(), "tabular::policy::accumulate_score: gradient of ", g.size(),
            " coordinates, expected ", theta_.size());
    for (std::size_t i = 0; i < coefficients.size(); ++i)
      require(std::isfinite(coefficients[i]), "tabular::policy::accumulate_score: coefficient ", i, " is ",
              coefficients[i]);
    for (std::size_t i = 0; i < r.size(); ++i) {
      if (coefficients[i] == 0) continue;
      const std::size_t row = row_of(prompts, r.prompts[i]);
      const std::vector<double> p = distribution(row, temperature);
      const double c = coefficients[i] / temperature;
      for (std::size_t k = 0; k < completions_; ++k) g[row * completions_ + k] -= c * p[k];
      g[row * completions_ + static_cast<std::size_t>(r.tokens[i])] += c;
    }
  }

  /// sum_i sum_k weights[i, k] pi(k | i): for weights = rewards / P the expected reward. weights is [P, K].
  double expectation(std::span<const double> weights, double temperature = 1.0) const {
    require(weights.size() == theta_.size(), "tabular::policy::expectation: ", weights.size(),
            " weights, expected ", theta_.size());
    double sum = 0;
    for (std::size_t i = 0; i < prompt_count(); ++i) {
      const std::vector<double> p = distribution(i, temperature);
      for (std::size_t k = 0; k < completions_; ++k) sum += weights[i * completions_ + k] * p[k];
    }
    return sum;
  }

  /// The exact gradient of expectation(weights) with respect to the parameters: [P, K].
  std::vector<double> expectation_gradient(std::span<const double> weights, double temperature = 1.0) const {
    require(weights.size() == theta_.size(), "tabular::policy::expectation_gradient: ", weights.size(),
            " weights, expected ", theta_.size());
    std::vector<double> g(theta_.size());
    for (std::size_t i = 0; i < prompt_count(); ++i) {
      const std::vector<double> p = distribution(i, temperature);
      const double* w = weights.data() + i * completions_;
      double mean = 0;
      for (std::size_t k = 0; k < completions_; ++k) mean += p[k] * w[k];
      for (std::size_t k = 0; k < completions_; ++k)
        g[i * completions_ + k] = p[k] * (w[k] - mean) / temperature;
    }
    return g;
  }

 private:
  static std::vector<tensor_slot> shape(std::size_t size, std::size_t completions) {
    require(completions > 0 && size > 0 && size % completions == 0, "tabular::policy: ", size,
            " logits cannot be rows of ", completions, " completions");
    return {tensor_slot{"logits", {size / completions, completions}, 0}};
  }
  static void check_temperature(double temperature) {
    require(temperature > 0 && std::isfinite(temperature), "tabular::policy: temperature ", temperature,
            " is not positive");
  }
  void check_size(const std::vector<double>& x) const {
    require(x.size() == theta_.size(), "tabular::policy::assign: a vector of ", x.size(), " coordinates, expected ",
            theta_.size());
  }
  static double entropy(const std::vector<double>& p) {
    double h = 0;
    for (double v : p)
      if (v > 0) h -= v * std::log(v);
    return h;
  }
  std::size_t row_of(const ragged<token>& prompts, std::size_t prompt) const {
    const std::span<const token> row = prompts[prompt];
    require(row.size() == 1 && row[0] >= 0 && static_cast<std::size_t>(row[0]) < prompt_count(),
            "tabular::policy: prompt ", prompt, " is not one token below ", prompt_count());
    return static_cast<std::size_t>(row[0]);
  }
  void check(const ragged<token>& prompts, const rollouts& r, double temperature) const {
    check_temperature(temperature);
    validate_offsets(r);
    for (std::size_t i = 0; i < r.size(); ++i) {
      require(r.prompts[i] < prompts.size(), "tabular::policy: rollout ", i, " has prompt ", r.prompts[i],
              ", but there are ", prompts.size());
      require(r.length(i) == 1 && r.tokens[i] >= 0 && static_cast<std::size_t>(r.tokens[i]) < completions_,
              "tabular::policy: rollout ", i, " is not one token below ", completions_);
    }
  }

  std::size_t completions_;
  std::vector<double> theta_;
  tabular::space space_;
};

}  // namespace rlvr::tabular
