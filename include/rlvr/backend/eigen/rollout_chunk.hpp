#pragma once
/// Scores and gradients of a few rollouts on one thread.

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include <rlvr/backend/decoder/token_tree.hpp>
#include <rlvr/backend/eigen/kernels.hpp>
#include <rlvr/backend/eigen/transformer.hpp>
#include <rlvr/core/ragged.hpp>
#include <rlvr/core/rollouts.hpp>

namespace rlvr::eigen {

/// Some rollouts, whole, as one forest of prefixes, and what one thread needs to score or differentiate them.
/// Keeps its memory from chunk to chunk.
template <class T>
class rollout_chunk {
 public:
  std::vector<std::int32_t> path_edges;  ///< edge of every token of the chunk's rollouts, in order
  std::vector<double> log_probs, entropies;  ///< per edge
  std::vector<T> gradient;
  work_count work;

  void build(const decoder_shape& shape, const ragged<token>& prompts, const rollouts& r,
             std::span<const double> coefficients, std::span<const std::size_t> active, std::size_t begin,
             std::size_t end) {
    tree_.clear();
    path_edges.clear();
    std::int32_t row = rlvr::decoder::token_tree::none;
    for (std::size_t i = begin; i < end; ++i) {
      const std::size_t at = active[i];
      if (i == begin || r.prompts[at] != r.prompts[active[i - 1]]) row = tree_.add_prompt(prompts[r.prompts[at]]);
      tree_.add_completion(row, r.completion(at),
                          coefficients.empty() ? coefficients : coefficients.subspan(r.offsets[at], r.length(at)),
                          path_edges);
    }
    sources_.clear();
    for (std::size_t row_index = 0; row_index < tree_.rows(); ++row_index)
      for (std::int32_t e = tree_.first_edge(row_index); e != rlvr::decoder::token_tree::none;
           e = edge(e).sibling)
        if (edge(e).scored) {
          sources_.push_back(row_index);
          break;
        }
    work = {tree_.rows(), sources_.size(), 0};
    for (std::size_t i = 0; i < tree_.rows(); ++i)
      work.attention_pairs += shape.attention_pairs(tree_.path(i).size());
  }

  void score(const transformer<T>& net, T inverse_temperature) {
    blocks_.resize(std::max<std::size_t>(blocks_.size(), 1));
    embed(net, blocks_[0]);
    for (std::size_t l = 0; l < net.shape().layers.size(); ++l)
      layer(net, l, blocks_[0], blocks_[0].input.data());
    log_probs.assign(tree_.edges().size(), 0);
    entropies.assign(tree_.edges().size(), 0);
    for_source_blocks(net, blocks_[0].input.data(), [&](std::size_t begin, std::size_t rows, const T*) {
      T* weight = weights_.resize(padded_lanes(net.shape().vocab));
      for (std::size_t n = 0; n < rows; ++n) {
        T* row = logits_.data() + n * net.shape().vocab;
        const token_distribution p = softmax(row, net.shape().vocab, inverse_temperature, weight);
        for_scored(sources_[begin + n], [&](std::int32_t e) {
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
    const std::size_t padded = padded_rows(tree_.rows());
    blocks_.resize(std::max(blocks_.size(), layers + 1));
    embed(net, blocks_[0]);
    for (std::size_t l = 0; l < layers; ++l) layer(net, l, blocks_[l], blocks_[l + 1].input.resize(padded * hidden));
    gradient.assign(parameters, T{0});

    T* d = dx_.resize(padded * hidden);
    std::fill_n(d, padded * hidden, T{0});
    for_source_blocks(net, blocks_[layers].input.data(), [&](std::size_t begin, std::size_t rows, const T* x) {
      T* weight = weights_.resize(padded_lanes(vocab));
      for (std::size_t n = 0; n < rows; ++n) {
        T* row = logits_.data() + n * vocab;
        const token_distribution p = softmax(row, vocab, inverse_temperature, weight);
        double sum = 0;
        for_scored(sources_[begin + n], [&](std::int32_t e) { sum += edge(e).coefficient; });
        const T pull = static_cast<T>(-sum / p.sum) * inverse_temperature;
        for (std::size_t v = 0; v < vocab; ++v) row[v] = pull * weight[v];
        for_scored(sources_[begin + n], [&](std::int32_t e) {
          row[static_cast<std::size_t>(edge(e).next)] += static_cast<T>(edge(e).coefficient) * inverse_temperature;
        });
      }
      std::fill_n(logits_.data() + rows * vocab, (padded_rows(rows) - rows) * vocab, T{0});
      T* dsource = dsources_.resize(padded_rows(rows) * hidden);
      net.logits_backward(logits_.data(), x, normed_.data(), scales_.data(), rows, dnormed_, dsource, gradient.data());
      for (std::size_t n = 0; n < rows; ++n)
        add_scaled(T{1}, static_cast<const T*>(dsource + n * hidden), d + sources_[begin + n] * hidden, hidden);
    });
    for (std::size_t l = layers; l > 0; --l)
      net.backward(
          l - 1, tree_.rows(), blocks_[l - 1], [&](std::size_t r) { return tree_.path(r); },
          [&](std::size_t r) { return tree_.position(r); }, scratch_, d, gradient.data());
    T* embedding = gradient.data() + net.shape().embedding;
    for (std::size_t r = 0; r < tree_.rows(); ++r)
      add_scaled(T{1}, static_cast<const T*>(d + r * hidden),
                 embedding + static_cast<std::size_t>(tree_.token_at(r)) * hidden, hidden);
  }

 private:
  const rlvr::decoder::token_tree::edge& edge(std::int32_t e) const {
    return tree_.edges()[static_cast<std::size_t>(e)];
  }
  template <class F>
  void for_scored(std::size_t row, F f) const {
    for (std::int32_t e = tree_.first_edge(row); e != rlvr::decoder::token_tree::none; e = edge(e).sibling)
      if (edge(e).scored) f(e);
  }
  void embed(const transformer<T>& net, block_activations<T>& a) const {
    const std::size_t hidden = net.shape().hidden;
    T* x = a.input.resize(padded_rows(tree_.rows()) * hidden);
    for (std::size_t r = 0; r < tree_.rows(); ++r) net.embed(tree_.token_at(r), x + r * hidden);
  }
  void layer(const transformer<T>& net, std::size_t l, block_activations<T>& a, T* out) {
    const decoder_shape& s = net.shape();
    net.project(l, tree_.rows(), a, [&](std::size_t r) { return tree_.position(r); });
    const T* qkv = a.qkv.data();
    net.attention(l, tree_.rows(), a,
                  keys_values<T>{qkv + s.q_width, qkv + s.q_width + s.kv_width, s.qkv_width},
                  [&](std::size_t r) { return tree_.path(r); }, scratch_.scores);
    net.finish(l, tree_.rows(), a, out);
  }
  /// Gathers the rows that score something, some at a time, and computes their logits.
  template <class F>
  void for_source_blocks(const transformer<T>& net, const T* x, F f) {
    const std::size_t hidden = net.shape().hidden;
    const std::size_t block = std::max(row_tile, (std::size_t{1} << 20) / net.shape().vocab / row_tile * row_tile);
    for (std::size_t begin = 0; begin < sources_.size(); begin += block) {
      const std::size_t rows = std::min(block, sources_.size() - begin);
      T* from = gathered_.resize(padded_rows(rows) * hidden);
      for (std::size_t n = 0; n < rows; ++n)
        std::copy_n(x + sources_[begin + n] * hidden, hidden, from + n * hidden);
      net.logits(from, rows, normed_, scales_, logits_);
      f(begin, rows, from);
    }
  }

  rlvr::decoder::token_tree tree_;
  std::vector<std::size_t> sources_;  ///< rows whose next-token distribution scores something
  std::vector<block_activations<T>> blocks_;
  typename transformer<T>::backward_scratch scratch_;
  buffer<T> gathered_, normed_, scales_, logits_, weights_, dx_, dsources_, dnormed_;
};

}  // namespace rlvr::eigen
