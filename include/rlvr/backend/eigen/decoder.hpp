#pragma once
/// The CPU reference policy: a Llama/Qwen/OLMo decoder in float or double.

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <span>
#include <utility>
#include <vector>

#include <rlvr/backend/decoder/config.hpp>
#include <rlvr/backend/decoder/layout.hpp>
#include <rlvr/backend/decoder/rope.hpp>
#include <rlvr/backend/eigen/ordered_sum.hpp>
#include <rlvr/backend/eigen/rollout_chunk.hpp>
#include <rlvr/backend/eigen/sampling.hpp>
#include <rlvr/backend/eigen/space.hpp>
#include <rlvr/backend/eigen/thread_pool.hpp>
#include <rlvr/backend/eigen/transformer.hpp>
#include <rlvr/core/error.hpp>
#include <rlvr/core/policy.hpp>
#include <rlvr/core/slice.hpp>
#include <rlvr/core/validate.hpp>

namespace rlvr::eigen {

struct decoder_options {
  std::size_t threads = 0;            ///< 0: one per hardware thread. Never changes a result.
  std::size_t chunk_tokens = 1024;    ///< tokens of one gradient chunk, before equal prefixes are merged: the
                                      ///< granule of the sum. Another value changes gradients by rounding
  std::size_t slice_rollouts = 1024;  ///< most rollouts that one thread samples together. Never changes a result.
};

/// Models policy; its space models elementwise and tensor_layout. T is float or double.
/// One build gives the same bits for any number of threads: rows are computed in fixed tiles, gradients in chunks
/// of chunk_tokens that are summed in order.
/// Memory: parameters, and per thread up to three gradients and the activations of one chunk. One call at a time.
template <class T>
class decoder {
 public:
  using vector = typename eigen::space<T>::vector;

  /// parameters: in the order of rlvr::decoder::layout(config). They are copied.
  /// Throws std::invalid_argument when their number is wrong.
  template <class Scalar>
  decoder(rlvr::decoder::config config, const std::vector<Scalar>& parameters, decoder_options options = {})
      : decoder(std::move(config),
                vector(Eigen::Map<const Eigen::Matrix<Scalar, Eigen::Dynamic, 1>>(parameters.data(),
                                                                                  as_index(parameters.size()))
                           .template cast<T>()),
                options) {}

  /// The same for a vector that becomes the policy's own: a model that nearly fills the memory is there once.
  decoder(rlvr::decoder::config config, vector&& parameters, decoder_options options = {})
      : config_(std::move(config)),
        options_(options),
        shape_(config_),
        space_(rlvr::decoder::layout(config_)),
        pool_(options.threads),
        samplers_(pool_.size()),
        chunks_(pool_.size()),
        ends_(config_.vocab_size, 0) {
    require(as_index(space_.dimension()) == parameters.size(), "eigen::decoder: ", parameters.size(),
            " parameters, expected ", space_.dimension());
    require(options.chunk_tokens > 0, "eigen::decoder: chunk_tokens is 0");
    require(options.slice_rollouts > 0, "eigen::decoder: slice_rollouts is 0");
    theta_ = std::move(parameters);
    rope_.emplace_back(rlvr::decoder::rope_frequencies(config_.rope, config_.rope_theta, config_.head_dim),
                       config_.rope.attention_factor);
    if (std::any_of(shape_.layers.begin(), shape_.layers.end(), [](const layer_offsets& l) { return l.rope == 1; }))
      rope_.emplace_back(rlvr::decoder::rope_frequencies({}, config_.rope_theta, config_.head_dim));
    for (token t : config_.eos) ends_[static_cast<std::size_t>(t)] = 1;
  }

  const rlvr::decoder::config& config() const { return config_; }
  const eigen::space<T>& space() const { return space_; }
  const vector& parameters() const { return theta_; }
  void assign(const vector& theta) {
    check_size(theta);
    space_.assign(theta_, theta);
  }
  void assign(const vector& theta, double alpha, const vector& direction) {
    check_size(theta);
    check_size(direction);
    for (Eigen::Index i = 0; i < theta_.size(); ++i)
      theta_[i] = static_cast<T>(static_cast<double>(theta[i]) + alpha * static_cast<double>(direction[i]));
  }

  rollouts sample(const ragged<token>& prompts, std::span<const sample_request> requests,
                  const sampling_options& options, random_key key) {
    check_temperature("sample", options.temperature);
    require(options.max_tokens > 0, "eigen::decoder::sample: max_tokens is 0");
    std::size_t total = 0, longest = 0;
    for (const sample_request& q : requests) {
      check_prompt("sample", prompts, q.prompt);
      total += q.count;
      longest = std::max(longest, prompts[q.prompt].size());
    }
    extend_positions("sample", longest + options.max_tokens - 1);

    // Small slices for balance among threads; rows do not know what slice they are in.
    const std::size_t slice = std::clamp(total / (4 * pool_.size()) + 1, std::min<std::size_t>(64, options_.slice_rollouts),
                                         options_.slice_rollouts);
    std::vector<sample_request> parts;
    std::vector<std::size_t> begin{0};
    std::size_t filled = 0;
    for (sample_request q : requests)
      while (q.count > 0) {
        sample_request part = q;
        part.count = static_cast<std::uint32_t>(std::min<std::size_t>(q.count, slice - filled));
        parts.push_back(part);
        q.first += part.count;
        q.count -= part.count;
        filled += part.count;
        if (filled == slice) {
          begin.push_back(parts.size());
          filled = 0;
        }
      }
    if (begin.back() != parts.size()) begin.push_back(parts.size());

    std::vector<rollouts> results(begin.size() - 1);
    std::vector<work_count> work(pool_.size());
    const transformer<T> net = network();
    pool_.parallel_for(results.size(), [&](std::size_t i, std::size_t worker) {
      results[i] = samplers_[worker].sample(
          net, prompts, std::span<const sample_request>(parts).subspan(begin[i], begin[i + 1] - begin[i]), options,
          key, ends_);
      work[worker] += samplers_[worker].work;
    });
    work_ = {};
    for (const work_count& w : work) work_ += w;
    rollouts out;
    for (const rollouts& r : results) append(out, r);
    return out;
  }

  token_scores score(const ragged<token>& prompts, const rollouts& r, double temperature) {
    const std::vector<std::size_t> chunk_of = plan("score", prompts, r, {}, temperature);
    token_scores out{std::vector<double>(r.tokens.size()), std::vector<double>(r.tokens.size())};
    std::vector<work_count> work(pool_.size());
    pool_.parallel_for(chunk_of.size() - 1, [&](std::size_t k, std::size_t worker) {
      rollout_chunk<T>& c = chunks_[worker];
      c.build(shape_, prompts, r, {}, active_, chunk_of[k], chunk_of[k + 1]);
      c.score(network(), static_cast<T>(1.0 / temperature));
      std::size_t e = 0;
      for (std::size_t i = chunk_of[k]; i < chunk_of[k + 1]; ++i)
        for (std::size_t t = r.offsets[active_[i]]; t < r.offsets[active_[i] + 1]; ++t, ++e) {
          const auto edge = static_cast<std::size_t>(c.path_edges[e]);
          out.log_probs[t] = c.log_probs[edge];
          out.entropies[t] = c.entropies[edge];
        }
      work[worker] += c.work;
    });
    work_ = {};
    for (const work_count& w : work) work_ += w;
    return out;
  }

  void accumulate_score(const ragged<token>& prompts, const rollouts& r, std::span<const double> coefficients,
                        double temperature, vector& g) {
    require(coefficients.size() == r.tokens.size(), "eigen::decoder::accumulate_score: ", coefficients.size(),
            " coefficients for ", r.tokens.size(), " tokens");
    require(g.size() == theta_.size(), "eigen::decoder::accumulate_score: gradient of ", g.size(),
            " coordinates, expected ", theta_.size());
    for (std::size_t t = 0; t < coefficients.size(); ++t)
      require(std::isfinite(coefficients[t]), "eigen::decoder::accumulate_score: coefficient ", t, " is ",
              coefficients[t]);
    const std::vector<std::size_t> chunk_of = plan("accumulate_score", prompts, r, coefficients, temperature);
    std::vector<work_count> work(pool_.size());
    ordered_sum<T> sum(std::span<T>(g.data(), static_cast<std::size_t>(g.size())), 2 * pool_.size());
    pool_.parallel_for(chunk_of.size() - 1, [&](std::size_t k, std::size_t worker) {
      rollout_chunk<T>& c = chunks_[worker];
      try {
        c.build(shape_, prompts, r, coefficients, active_, chunk_of[k], chunk_of[k + 1]);
        c.differentiate(network(), static_cast<T>(1.0 / temperature), static_cast<std::size_t>(theta_.size()));
        sum.add(k, c.gradient);
      } catch (...) {
        sum.abandon();
        throw;
      }
      work[worker] += c.work;
    });
    work_ = {};
    for (const work_count& w : work) work_ += w;
  }

  /// What the last call of sample, score or accumulate_score computed.
  const work_count& last_work() const { return work_; }

 private:
  transformer<T> network() const { return transformer<T>(shape_, std::span<const rope_table<T>>(rope_), theta_.data()); }

  static void check_temperature(const char* where, double temperature) {
    require(temperature > 0 && std::isfinite(temperature) && std::isfinite(static_cast<T>(1.0 / temperature)),
            "eigen::decoder::", where, ": temperature ", temperature, " is not positive, or too small to divide by");
  }

  void check_size(const vector& x) const {
    require(x.size() == theta_.size(), "eigen::decoder::assign: a vector of ", x.size(), " coordinates, expected ",
            theta_.size());
  }

  void check_prompt(const char* where, const ragged<token>& prompts, std::size_t prompt) const {
    require(prompt < prompts.size(), "eigen::decoder::", where, ": prompt ", prompt, ", but there are ",
            prompts.size());
    require(!prompts[prompt].empty(), "eigen::decoder::", where, ": prompt ", prompt, " is empty");
    for (token t : prompts[prompt]) check_token(where, t);
  }
  void check_token(const char* where, token t) const {
    require(t >= 0 && static_cast<std::size_t>(t) < config_.vocab_size, "eigen::decoder::", where, ": token ", t,
            " is outside the vocabulary of ", config_.vocab_size);
  }

  void extend_positions(const char* where, std::size_t count) {
    require(count <= config_.max_positions, "eigen::decoder::", where, ": sequences of ", count,
            " tokens, but max_position_embeddings is ", config_.max_positions);
    for (rope_table<T>& table : rope_) table.extend(count);
  }

  /// Chooses the rollouts that count (active_) and cuts them into chunks; a function of the arguments alone.
  std::vector<std::size_t> plan(const char* where, const ragged<token>& prompts, const rollouts& r,
                                std::span<const double> coefficients, double temperature) {
    check_temperature(where, temperature);
    validate_offsets(r);
    active_.clear();
    std::vector<std::size_t> chunk_of{0};
    std::size_t tokens = 0, longest = 0;
    for (std::size_t i = 0; i < r.size(); ++i) {
      if (i == 0 || r.prompts[i] != r.prompts[i - 1]) check_prompt(where, prompts, r.prompts[i]);
      for (token t : r.completion(i)) check_token(where, t);
      bool counts = coefficients.empty() && r.length(i) > 0;
      for (std::size_t t = r.offsets[i]; t < r.offsets[i + 1] && !coefficients.empty(); ++t)
        counts = counts || coefficients[t] != 0;
      if (!counts) continue;
      const bool same_prompt = !active_.empty() && tokens > 0 && r.prompts[active_.back()] == r.prompts[i];
      const std::size_t prompt = prompts[r.prompts[i]].size();
      const std::size_t cost = r.length(i) + (same_prompt ? 0 : prompt);
      if (tokens > 0 && tokens + cost > options_.chunk_tokens) {
        chunk_of.push_back(active_.size());
        tokens = prompt + r.length(i);
      } else {
        tokens += cost;
      }
      active_.push_back(i);
      longest = std::max(longest, prompt + r.length(i) - 1);
    }
    if (chunk_of.back() != active_.size()) chunk_of.push_back(active_.size());
    extend_positions(where, longest);
    return chunk_of;
  }

  rlvr::decoder::config config_;
  decoder_options options_;
  decoder_shape shape_;
  eigen::space<T> space_;
  vector theta_;
  std::vector<rope_table<T>> rope_;  ///< scaled, and plain where layers need it
  thread_pool pool_;
  std::vector<slice_sampler<T>> samplers_;
  std::vector<rollout_chunk<T>> chunks_;
  std::vector<std::uint8_t> ends_;
  std::vector<std::size_t> active_;
  work_count work_;
};

}  // namespace rlvr::eigen
