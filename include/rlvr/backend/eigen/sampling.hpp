#pragma once
/// Batched sampling with a key-value cache. Rollouts that have said the same so far are one row.

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include <rlvr/backend/decoder/token_tree.hpp>
#include <rlvr/backend/eigen/kernels.hpp>
#include <rlvr/backend/eigen/transformer.hpp>
#include <rlvr/core/ragged.hpp>
#include <rlvr/core/random.hpp>
#include <rlvr/core/rollouts.hpp>

namespace rlvr::eigen {

/// Samples one slice of requests on one thread; keeps its memory from slice to slice.
template <class T>
class slice_sampler {
 public:
  /// The rollouts of `requests`, in order. `ends[v]` is nonzero for end-of-sequence tokens.
  rollouts sample(const transformer<T>& net, const ragged<token>& prompts, std::span<const sample_request> requests,
                  const sampling_options& options, random_key key, std::span<const std::uint8_t> ends) {
    work = {};
    start(net, prompts, requests);
    std::vector<draw> draws;
    std::vector<std::uint32_t> lengths(rollout_count_, 0);
    std::vector<std::uint8_t> finished(rollout_count_, 0);
    for (std::uint32_t t = 0; t < options.max_tokens && !members_.empty(); ++t) {
      draw_tokens(net, requests, options, key, t, draws);
      std::vector<member> going_on;
      children_.clear();
      for (std::size_t i = 0; i < members_.size(); ++i) {
        const draw& d = draws[draws.size() - members_.size() + i];
        ++lengths[d.rollout];
        if (ends[static_cast<std::size_t>(d.next)]) finished[d.rollout] = 1;
        else if (t + 1 < options.max_tokens) going_on.push_back({members_[i], child(members_[i].node, d.next)});
      }
      advance(net, going_on);
    }
    return assemble(requests, draws, lengths, finished);
  }

  work_count work;

 private:
  /// A rollout and the distinct prefix (node) it stands at. Members of a node stand side by side.
  struct member {
    std::uint32_t rollout, request, index;
    std::uint32_t node;
    member() = default;
    member(std::uint32_t r, std::uint32_t q, std::uint32_t i, std::uint32_t n) : rollout(r), request(q), index(i), node(n) {}
    member(const member& m, std::uint32_t n) : member(m.rollout, m.request, m.index, n) {}
  };
  struct draw {
    std::uint32_t rollout;
    token next;
    double log_prob, entropy;
  };
  struct child_node {
    std::uint32_t parent;
    token next;
  };

  void start(const transformer<T>& net, const ragged<token>& prompts, std::span<const sample_request> requests) {
    tree_.clear();
    std::vector<std::int32_t> last(requests.size());
    for (std::size_t q = 0; q < requests.size(); ++q) last[q] = tree_.add_prompt(prompts[requests[q].prompt]);

    const decoder_shape& s = net.shape();
    keys_.resize(s.layers.size());
    values_.resize(s.layers.size());
    cached_ = 0;
    T* x = block_.input.resize(padded_rows(tree_.rows()) * s.hidden);
    for (std::size_t r = 0; r < tree_.rows(); ++r) net.embed(tree_.token_at(r), x + r * s.hidden);
    forward(
        net, tree_.rows(), [&](std::size_t r) { return tree_.position(r); },
        [&](std::size_t r) { return tree_.path(r); });

    // Requests whose prompts are equal stand at one node.
    members_.clear();
    paths_.clear();
    path_begin_.assign(1, 0);
    std::vector<std::int32_t> rows;
    rollout_count_ = 0;
    std::vector<std::uint32_t> node_of(tree_.rows(), 0);
    std::vector<std::uint8_t> seen(tree_.rows(), 0);
    for (std::size_t q = 0; q < requests.size(); ++q) {
      const auto row = static_cast<std::size_t>(last[q]);
      if (!seen[row]) {
        seen[row] = 1;
        node_of[row] = static_cast<std::uint32_t>(rows.size());
        rows.push_back(last[q]);
        const std::span<const std::int32_t> path = tree_.path(row);
        paths_.insert(paths_.end(), path.begin(), path.end());
        path_begin_.push_back(paths_.size());
      }
      for (std::uint32_t i = 0; i < requests[q].count; ++i)
        members_.push_back({static_cast<std::uint32_t>(rollout_count_++), static_cast<std::uint32_t>(q),
                            requests[q].first + i, node_of[row]});
    }
    sort_by_node(rows.size());
    T* nodes = nodes_.resize(padded_rows(rows.size()) * s.hidden);
    for (std::size_t n = 0; n < rows.size(); ++n)
      std::copy_n(block_.input.data() + static_cast<std::size_t>(rows[n]) * s.hidden, s.hidden, nodes + n * s.hidden);
  }

  /// block_.input through all layers; the rows' keys and values join the cache. The result is in block_.input.
  template <class Position, class Path>
  void forward(const transformer<T>& net, std::size_t rows, Position position, Path path) {
    const decoder_shape& s = net.shape();
    const std::size_t total = cached_ + rows;
    for (std::size_t l = 0; l < s.layers.size(); ++l) {
      net.project(l, rows, block_, position);
      keys_[l].resize(total * s.kv_width);
      values_[l].resize(total * s.kv_width);
      for (std::size_t r = 0; r < rows; ++r) {
        const T* from = block_.qkv.data() + r * s.qkv_width + s.q_width;
        std::copy_n(from, s.kv_width, keys_[l].data() + (cached_ + r) * s.kv_width);
        std::copy_n(from + s.kv_width, s.kv_width, values_[l].data() + (cached_ + r) * s.kv_width);
      }
      net.attention(l, rows, block_, keys_values<T>{keys_[l].data(), values_[l].data(), s.kv_width}, path, scores_);
      net.finish(l, rows, block_, block_.input.data());
    }
    cached_ = total;
    work.rows += rows;
    for (std::size_t r = 0; r < rows; ++r) work.attention_pairs += s.attention_pairs(path(r).size());
  }

  /// One token for every member, in the order of members_.
  void draw_tokens(const transformer<T>& net, std::span<const sample_request> requests, const sampling_options& options,
                   random_key key, std::uint32_t t, std::vector<draw>& draws) {
    const std::size_t vocab = net.shape().vocab, hidden = net.shape().hidden;
    const std::size_t nodes = path_begin_.size() - 1;
    const std::size_t block = std::max(row_tile, (std::size_t{1} << 20) / vocab / row_tile * row_tile);
    const T inverse_temperature = static_cast<T>(1.0 / options.temperature);
    T* weights = weights_.resize(padded_lanes(vocab));
    std::size_t m = 0;
    for (std::size_t begin = 0; begin < nodes; begin += block) {
      const std::size_t rows = std::min(block, nodes - begin);
      net.logits(nodes_.data() + begin * hidden, rows, normed_, scales_, logits_);
      for (std::size_t n = 0; n < rows; ++n) {
        T* logits = logits_.data() + n * vocab;
        const token_distribution p = softmax(logits, vocab, inverse_temperature, weights);
        for (; m < members_.size() && members_[m].node == begin + n; ++m) {
          const sample_request& request = requests[members_[m].request];
          double left = key.uniform(request.prompt, members_[m].index, t) * p.sum;
          std::size_t v = 0;
          while (v + 1 < vocab && left >= static_cast<double>(weights[v])) left -= static_cast<double>(weights[v++]);
          draws.push_back({members_[m].rollout, static_cast<token>(v), p.log_prob(static_cast<double>(logits[v])),
                           p.entropy});
        }
      }
    }
    work.logit_rows += nodes;
  }

  /// The node for `next` below `parent`; members come node by node, so only the newest children can match.
  std::uint32_t child(std::uint32_t parent, token next) {
    for (std::size_t c = children_.size(); c > 0 && children_[c - 1].parent == parent; --c)
      if (children_[c - 1].next == next) return static_cast<std::uint32_t>(c - 1);
    children_.push_back({parent, next});
    return static_cast<std::uint32_t>(children_.size() - 1);
  }

  /// Makes the children the nodes and runs them through the layers.
  void advance(const transformer<T>& net, std::vector<member>& going_on) {
    members_.swap(going_on);
    const std::size_t nodes = children_.size(), hidden = net.shape().hidden;
    sort_by_node(nodes);
    std::vector<std::int32_t> paths;
    std::vector<std::size_t> path_begin{0};
    T* x = block_.input.resize(padded_rows(nodes) * hidden);
    for (std::size_t n = 0; n < nodes; ++n) {
      const std::size_t parent = children_[n].parent;
      paths.insert(paths.end(), paths_.begin() + as_index(path_begin_[parent]),
                   paths_.begin() + as_index(path_begin_[parent + 1]));
      paths.push_back(static_cast<std::int32_t>(cached_ + n));
      path_begin.push_back(paths.size());
      net.embed(children_[n].next, x + n * hidden);
    }
    paths_.swap(paths);
    path_begin_.swap(path_begin);
    if (nodes == 0) return;
    forward(
        net, nodes, [&](std::size_t n) { return path_begin_[n + 1] - path_begin_[n] - 1; },
        [&](std::size_t n) {
          return std::span<const std::int32_t>(paths_).subspan(path_begin_[n], path_begin_[n + 1] - path_begin_[n]);
        });
    std::copy_n(block_.input.data(), nodes * hidden, nodes_.resize(padded_rows(nodes) * hidden));
  }

  /// Counting sort, stable.
  void sort_by_node(std::size_t nodes) {
    std::vector<std::size_t> begin(nodes + 1, 0);
    for (const member& m : members_) ++begin[m.node + 1];
    for (std::size_t n = 0; n < nodes; ++n) begin[n + 1] += begin[n];
    std::vector<member> sorted(members_.size());
    for (const member& m : members_) sorted[begin[m.node]++] = m;
    members_.swap(sorted);
  }

  rollouts assemble(std::span<const sample_request> requests, std::span<const draw> draws,
                    std::span<const std::uint32_t> lengths, const std::vector<std::uint8_t>& finished) const {
    rollouts out;
    for (std::uint32_t n : lengths) out.offsets.push_back(out.offsets.back() + n);
    out.tokens.resize(draws.size());
    out.log_probs.resize(draws.size());
    out.entropies.resize(draws.size());
    std::vector<std::size_t> at(out.offsets.begin(), out.offsets.end() - 1);
    for (const draw& d : draws) {
      const std::size_t i = at[d.rollout]++;
      out.tokens[i] = d.next;
      out.log_probs[i] = d.log_prob;
      out.entropies[i] = d.entropy;
    }
    for (const sample_request& q : requests) out.prompts.insert(out.prompts.end(), q.count, q.prompt);
    out.finished = finished;
    return out;
  }

  rlvr::decoder::token_tree tree_;
  block_activations<T> block_;
  std::vector<std::vector<T>> keys_, values_;
  std::size_t cached_ = 0, rollout_count_ = 0;
  buffer<T> nodes_, normed_, scales_, logits_, weights_;
  std::vector<T> scores_;
  std::vector<member> members_;
  std::vector<child_node> children_;
  std::vector<std::int32_t> paths_;
  std::vector<std::size_t> path_begin_;
};

}  // namespace rlvr::eigen
