#pragma once
/// The CPU reference policy: a Llama/Qwen decoder in float or double.

#include <algorithm>
#include <cmath>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <mutex>
#include <span>
#include <utility>
#include <vector>

#include <rlvr/backend/decoder/config.hpp>
#include <rlvr/backend/decoder/layout.hpp>
#include <rlvr/backend/decoder/token_tree.hpp>
#include <rlvr/backend/eigen/sampling.hpp>
#include <rlvr/backend/eigen/space.hpp>
#include <rlvr/backend/eigen/thread_pool.hpp>
#include <rlvr/backend/eigen/transformer.hpp>
#include <rlvr/core/error.hpp>
#include <rlvr/core/policy.hpp>

namespace rlvr::eigen {

struct decoder_options {
  std::size_t threads = 0;            ///< 0: one per hardware thread. Never changes a result.
  std::size_t chunk_tokens = 2048;    ///< tokens of one gradient chunk, before equal prefixes are merged
  std::size_t slice_rollouts = 1024;  ///< most rollouts that one thread samples together. Never changes a result.
};

/// Models policy; its space models elementwise and tensor_layout. T is float or double.
/// One build gives the same bits for any number of threads: rows are computed in fixed tiles, gradients in chunks
/// of chunk_tokens that are summed in order.
/// Memory: parameters, and per thread one gradient and the activations of one chunk. One call at a time.
template <class T>
class decoder {
 public:
  using vector = typename eigen::space<T>::vector;

  /// parameters: in the order of rlvr::decoder::layout(config).
  /// Throws std::invalid_argument when their number is wrong.
  template <class Scalar>
  decoder(rlvr::decoder::config config, const std::vector<Scalar>& parameters, decoder_options options = {})
      : config_(std::move(config)),
        options_(options),
        shape_(config_),
        space_(rlvr::decoder::layout(config_)),
        pool_(options.threads),
        samplers_(pool_.size()),
        chunks_(pool_.size()),
        ends_(config_.vocab_size, 0) {
    require(parameters.size() == space_.dimension(), "eigen::decoder: ", parameters.size(), " parameters, expected ",
            space_.dimension());
    require(options.chunk_tokens > 0, "eigen::decoder: chunk_tokens is 0");
    require(options.slice_rollouts > 0, "eigen::decoder: slice_rollouts is 0");
    theta_ = Eigen::Map<const Eigen::Matrix<Scalar, Eigen::Dynamic, 1>>(parameters.data(), as_index(parameters.size()))
                 .template cast<T>();
    for (token t : config_.eos) ends_[static_cast<std::size_t>(t)] = 1;
  }

  const rlvr::decoder::config& config() const { return config_; }
  const eigen::space<T>& space() const { return space_; }
  const vector& parameters() const { return theta_; }
  void assign(const vector& theta) { theta_ = theta; }
  void assign(const vector& theta, double alpha, const vector& direction) {
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
    for (const rollouts& r : results) out.append(r);
    return out;
  }

  token_scores score(const ragged<token>& prompts, const rollouts& r, double temperature) {
    const std::vector<std::size_t> chunk_of = plan("score", prompts, r, {}, temperature);
    token_scores out{std::vector<double>(r.tokens.size()), std::vector<double>(r.tokens.size())};
    std::vector<work_count> work(pool_.size());
    pool_.parallel_for(chunk_of.size() - 1, [&](std::size_t k, std::size_t worker) {
      chunk& c = chunks_[worker];
      c.build(prompts, r, {}, active_, chunk_of[k], chunk_of[k + 1]);
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
    std::mutex mutex;
    std::condition_variable turn_changed;
    std::size_t turn = 0;
    bool failed = false;
    pool_.parallel_for(chunk_of.size() - 1, [&](std::size_t k, std::size_t worker) {
      chunk& c = chunks_[worker];
      try {
        c.build(prompts, r, coefficients, active_, chunk_of[k], chunk_of[k + 1]);
        c.differentiate(network(), static_cast<T>(1.0 / temperature), static_cast<std::size_t>(theta_.size()));
      } catch (...) {
        const std::lock_guard lock(mutex);
        failed = true;
        turn_changed.notify_all();
        throw;
      }
      work[worker] += c.work;
      // Chunks join the sum in their order, whoever computed them.
      std::unique_lock lock(mutex);
      turn_changed.wait(lock, [&] { return turn == k || failed; });
      if (failed) return;
      add_scaled(T{1}, static_cast<const T*>(c.gradient.data()), g.data(), static_cast<std::size_t>(g.size()));
      ++turn;
      turn_changed.notify_all();
    });
    work_ = {};
    for (const work_count& w : work) work_ += w;
  }

  /// What the last call of sample, score or accumulate_score computed.
  const work_count& last_work() const { return work_; }

 private:
  /// Some rollouts, whole, as one forest of prefixes, and what one thread needs to differentiate it.
  struct chunk {
    rlvr::decoder::token_tree tree;
    std::vector<std::int32_t> path_edges;  ///< edge of every token of the chunk's rollouts, in order
    std::vector<double> log_probs, entropies;  ///< per edge
    std::vector<T> gradient;
    work_count work;

    void build(const ragged<token>& prompts, const rollouts& r, std::span<const double> coefficients,
               std::span<const std::size_t> active, std::size_t begin, std::size_t end) {
      tree.clear();
      path_edges.clear();
      std::int32_t row = rlvr::decoder::token_tree::none;
      for (std::size_t i = begin; i < end; ++i) {
        const std::size_t at = active[i];
        if (i == begin || r.prompts[at] != r.prompts[active[i - 1]]) row = tree.add_prompt(prompts[r.prompts[at]]);
        tree.add_completion(row, r.completion(at),
                            coefficients.empty() ? coefficients : coefficients.subspan(r.offsets[at], r.length(at)),
                            path_edges);
      }
      sources.clear();
      for (std::size_t row_index = 0; row_index < tree.rows(); ++row_index)
        for (std::int32_t e = tree.first_edge(row_index); e != rlvr::decoder::token_tree::none;
             e = edge(e).sibling)
          if (edge(e).scored) {
            sources.push_back(row_index);
            break;
          }
      work = {tree.rows(), sources.size(), 0};
      for (std::size_t i = 0; i < tree.rows(); ++i) work.attention_pairs += tree.path(i).size();
    }

    void score(const transformer<T>& net, T inverse_temperature) {
      blocks.resize(std::max<std::size_t>(blocks.size(), 1));
      embed(net, blocks[0]);
      for (std::size_t l = 0; l < net.shape().layers.size(); ++l)
        layer(net, l, blocks[0], blocks[0].input.data());
      log_probs.assign(tree.edges().size(), 0);
      entropies.assign(tree.edges().size(), 0);
      for_source_blocks(net, blocks[0].input.data(), [&](std::size_t begin, std::size_t rows, const T*) {
        T* weight = weights.resize(net.shape().vocab);
        for (std::size_t n = 0; n < rows; ++n) {
          T* row = logits.data() + n * net.shape().vocab;
          const token_distribution p = softmax(row, net.shape().vocab, inverse_temperature, weight);
          for_scored(sources[begin + n], [&](std::int32_t e) {
            log_probs[static_cast<std::size_t>(e)] =
                p.log_prob(static_cast<double>(row[static_cast<std::size_t>(edge(e).next)]));
            entropies[static_cast<std::size_t>(e)] = p.entropy;
          });
        }
      });
    }

    /// gradient <- sum over edges of coefficient * grad log-prob.
    void differentiate(const transformer<T>& net, T inverse_temperature, std::size_t parameters) {
      const std::size_t layers = net.shape().layers.size(), hidden = net.shape().hidden, vocab = net.shape().vocab;
      const std::size_t padded = padded_rows(tree.rows());
      blocks.resize(std::max(blocks.size(), layers + 1));
      embed(net, blocks[0]);
      for (std::size_t l = 0; l < layers; ++l) layer(net, l, blocks[l], blocks[l + 1].input.resize(padded * hidden));
      gradient.assign(parameters, T{0});

      T* d = dx.resize(padded * hidden);
      std::fill_n(d, padded * hidden, T{0});
      for_source_blocks(net, blocks[layers].input.data(), [&](std::size_t begin, std::size_t rows, const T* x) {
        T* weight = weights.resize(vocab);
        for (std::size_t n = 0; n < rows; ++n) {
          T* row = logits.data() + n * vocab;
          const token_distribution p = softmax(row, vocab, inverse_temperature, weight);
          double sum = 0;
          for_scored(sources[begin + n], [&](std::int32_t e) { sum += edge(e).coefficient; });
          const T pull = static_cast<T>(-sum / p.sum) * inverse_temperature;
          for (std::size_t v = 0; v < vocab; ++v) row[v] = pull * weight[v];
          for_scored(sources[begin + n], [&](std::int32_t e) {
            row[static_cast<std::size_t>(edge(e).next)] += static_cast<T>(edge(e).coefficient) * inverse_temperature;
          });
        }
        std::fill_n(logits.data() + rows * vocab, (padded_rows(rows) - rows) * vocab, T{0});
        T* dsource = dsources.resize(padded_rows(rows) * hidden);
        net.logits_backward(logits.data(), x, normed.data(), scales.data(), rows, dnormed, dsource, gradient.data());
        for (std::size_t n = 0; n < rows; ++n)
          add_scaled(T{1}, static_cast<const T*>(dsource + n * hidden), d + sources[begin + n] * hidden, hidden);
      });
      for (std::size_t l = layers; l > 0; --l)
        net.backward(
            l - 1, tree.rows(), blocks[l - 1], [&](std::size_t r) { return tree.path(r); },
            [&](std::size_t r) { return tree.position(r); }, scratch, d, gradient.data());
      T* embedding = gradient.data() + net.shape().embedding;
      for (std::size_t r = 0; r < tree.rows(); ++r)
        add_scaled(T{1}, static_cast<const T*>(d + r * hidden),
                   embedding + static_cast<std::size_t>(tree.token_at(r)) * hidden, hidden);
    }

   private:
    const rlvr::decoder::token_tree::edge& edge(std::int32_t e) const {
      return tree.edges()[static_cast<std::size_t>(e)];
    }
    template <class F>
    void for_scored(std::size_t row, F f) const {
      for (std::int32_t e = tree.first_edge(row); e != rlvr::decoder::token_tree::none; e = edge(e).sibling)
        if (edge(e).scored) f(e);
    }
    void embed(const transformer<T>& net, block_activations<T>& a) const {
      const std::size_t hidden = net.shape().hidden;
      T* x = a.input.resize(padded_rows(tree.rows()) * hidden);
      for (std::size_t r = 0; r < tree.rows(); ++r) net.embed(tree.token_at(r), x + r * hidden);
    }
    void layer(const transformer<T>& net, std::size_t l, block_activations<T>& a, T* out) {
      const decoder_shape& s = net.shape();
      net.project(l, tree.rows(), a, [&](std::size_t r) { return tree.position(r); });
      const T* qkv = a.qkv.data();
      net.attention(tree.rows(), a,
                    keys_values<T>{qkv + s.q_width, qkv + s.q_width + s.kv_width, s.qkv_width},
                    [&](std::size_t r) { return tree.path(r); }, scratch.scores);
      net.finish(l, tree.rows(), a, out);
    }
    /// Gathers the rows that score something, some at a time, and computes their logits.
    template <class F>
    void for_source_blocks(const transformer<T>& net, const T* x, F f) {
      const std::size_t hidden = net.shape().hidden;
      const std::size_t block = std::max(row_tile, (std::size_t{1} << 20) / net.shape().vocab / row_tile * row_tile);
      for (std::size_t begin = 0; begin < sources.size(); begin += block) {
        const std::size_t rows = std::min(block, sources.size() - begin);
        T* from = gathered.resize(padded_rows(rows) * hidden);
        for (std::size_t n = 0; n < rows; ++n)
          std::copy_n(x + sources[begin + n] * hidden, hidden, from + n * hidden);
        net.logits(from, rows, normed, scales, logits);
        f(begin, rows, from);
      }
    }

    std::vector<std::size_t> sources;  ///< rows whose next-token distribution scores something
    std::vector<block_activations<T>> blocks;
    typename transformer<T>::backward_scratch scratch;
    buffer<T> gathered, normed, scales, logits, weights, dx, dsources, dnormed;
  };

  transformer<T> network() const { return transformer<T>(shape_, rope_, theta_.data()); }

  static void check_temperature(const char* where, double temperature) {
    require(temperature > 0 && std::isfinite(temperature), "eigen::decoder::", where, ": temperature ", temperature,
            " is not positive");
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
    rope_.extend(count, config_.head_dim, config_.rope_theta);
  }

  /// Chooses the rollouts that count (active_) and cuts them into chunks; a function of the arguments alone.
  std::vector<std::size_t> plan(const char* where, const ragged<token>& prompts, const rollouts& r,
                                std::span<const double> coefficients, double temperature) {
    check_temperature(where, temperature);
    require(r.offsets.back() == r.tokens.size() && r.prompts.size() == r.size(), "eigen::decoder::", where,
            ": rollouts whose arrays differ in size");
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
  rope_table<T> rope_;
  thread_pool pool_;
  std::vector<slice_sampler<T>> samplers_;
  std::vector<chunk> chunks_;
  std::vector<std::uint8_t> ends_;
  std::vector<std::size_t> active_;
  work_count work_;
};

}  // namespace rlvr::eigen
