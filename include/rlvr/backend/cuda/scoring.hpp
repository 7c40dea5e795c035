#pragma once
/// Micro-batches of rollouts through the network: scored, or differentiated.

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include <rlvr/backend/cuda/device.hpp>
#include <rlvr/backend/cuda/network.hpp>
#include <rlvr/backend/cuda/options.hpp>
#include <rlvr/backend/cuda/packing.hpp>
#include <rlvr/backend/cuda/workspace.hpp>
#include <rlvr/core/policy.hpp>
#include <rlvr/core/rollouts.hpp>

namespace rlvr::cuda {

/// What is done with every micro-batch.
struct scoring_task {
  double inverse_temperature;
  truncation cut;
  std::size_t logit_rows;  ///< taken through the vocabulary at once
  float* gradient;         ///< added to; null: only scored
};

/// Micro-batches one after the other, in the order of the device: `start` returns while it works, so that the host can
/// pack the next.
class scoring_run {
 public:
  scoring_run(device& d, const network& net, scoring_task task, batch_memory& memory, workspace& control,
              workspace& results)
      : d_(d), net_(net), task_(task), m_(memory), control_(control), results_(results) {}

  /// Bytes of results of so many rows and completion tokens.
  static std::size_t result_bytes(std::size_t rows, std::size_t completion_tokens) {
    return rows * sizeof(row_distribution) + completion_tokens * sizeof(double) + 512;
  }

  void start(const packing& p) {
    transfer t;
    const std::size_t at_tokens = t.put(p.tokens), at_positions = t.put(p.positions), at_forward = t.put(p.forward),
                      at_backward = t.put(p.backward), at_keys = t.put(p.keys), at_sources = t.put(p.sources),
                      at_begin = t.put(p.edge_begin), at_next = t.put(p.edge_next), at_c = t.put(p.coefficients),
                      at_embedded = t.put(p.embedded), at_embedded_begin = t.put(p.embedded_begin),
                      at_embedded_rows = t.put(p.embedded_rows);
    t.send(d_, control_);
    const packed_rows rows{.rows = p.rows(),
                           .positions = t.get<std::int32_t>(at_positions),
                           .forward = t.get<attention_task>(at_forward),
                           .backward = t.get<attention_task>(at_backward),
                           .forward_count = static_cast<std::int32_t>(p.forward.size()),
                           .backward_count = static_cast<std::int32_t>(p.backward.size()),
                           .keys = t.get<key_task>(at_keys),
                           .key_count = static_cast<std::int32_t>(p.keys.size())};
    const model_shape& s = net_.shape();
    const std::size_t layers = s.layers.size();
    const bool differentiates = task_.gradient != nullptr;
    const auto x_of = [&](std::size_t l) { return m_.x[differentiates ? l : 0]; };
    net_.embed(t.get<std::int32_t>(at_tokens), rows.rows, m_.x[0]);
    for (std::size_t l = 0; l < layers; ++l)
      net_.forward(l, rows.rows, rows.positions, x_of(l), m_.of(l, layers), x_of(l + 1),
                   [&] { net_.attend(l, rows, m_.of(l, layers)); });

    const std::size_t sources = p.sources.size();
    arena parts(results_.reserve(result_bytes(sources, p.edge_next.size())));
    distributions_ = parts.take<row_distribution>(sources);
    log_probs_ = parts.take<double>(p.edge_next.size());
    if (differentiates)
      d_.clear(m_.dx, static_cast<std::size_t>(rows.rows) * static_cast<std::size_t>(s.hidden) * sizeof(float));
    for (std::size_t at = 0; at < sources; at += task_.logit_rows) {
      const auto count = static_cast<std::int32_t>(std::min(task_.logit_rows, sources - at));
      const std::int32_t* from = t.get<std::int32_t>(at_sources) + at;
      const std::int32_t* begin = t.get<std::int32_t>(at_begin) + at;
      const std::int32_t* next = t.get<std::int32_t>(at_next);
      row_distribution* of = distributions_ + at;
      d_.gather(x_of(layers), from, count, s.hidden, m_.gathered, nullptr);
      net_.logits(m_.gathered, count, m_.normed, m_.scale, m_.logits);
      if (task_.cut.cuts())
        d_.truncate(m_.logits, count, s.vocab, task_.inverse_temperature, static_cast<std::int32_t>(task_.cut.top_k),
                    task_.cut.top_p);
      d_.distributions(m_.logits, count, s.vocab, task_.inverse_temperature, of);
      if (!differentiates) {
        d_.edge_log_probs(m_.logits, count, s.vocab, task_.inverse_temperature, of, begin, next, log_probs_);
        continue;
      }
      d_.edge_gradient(m_.logits, count, s.vocab, task_.inverse_temperature, of, begin, next, t.get<double>(at_c),
                       m_.dlogits);
      net_.logits_backward(count, m_.dlogits, m_.gathered, m_.normed, m_.scale, m_.dnormed, m_.dgathered,
                           task_.gradient);
      d_.scatter_add(m_.dgathered, from, count, s.hidden, m_.dx);
    }
    if (!differentiates) return;
    net_.begin_backward(rows.rows, m_.dx, m_.gradients);
    for (std::size_t l = layers; l-- > 0;) {
      layer_activations& a = m_.of(l, layers);
      if (l + m_.kept.size() + 1 < layers) net_.recompute(l, rows, m_.x[l], a, m_.gradients);
      net_.backward(l, rows, m_.x[l], a, m_.gradients, m_.dx, task_.gradient);
    }
    d_.embed_backward(m_.dx, t.get<std::int32_t>(at_embedded), t.get<std::int32_t>(at_embedded_begin),
                      t.get<std::int32_t>(at_embedded_rows), static_cast<std::int32_t>(p.embedded.size()), s.hidden,
                      task_.gradient + s.embedding);
  }

  /// Scores of the micro-batch that was started last, made of rollouts `some` of r. Waits for them.
  void collect(const packing& p, const rollouts& r, std::span<const std::size_t> some, token_scores& to) const {
    std::vector<row_distribution> of_source(p.sources.size());
    std::vector<double> of_edge(p.edge_next.size()), entropy(p.edge_next.size());
    d_.download(of_source.data(), distributions_, of_source.size() * sizeof(row_distribution));
    d_.download(of_edge.data(), log_probs_, of_edge.size() * sizeof(double));
    for (std::size_t i = 0; i < of_source.size(); ++i)
      for (std::int32_t e = p.edge_begin[i]; e < p.edge_begin[i + 1]; ++e)
        entropy[static_cast<std::size_t>(e)] = of_source[i].entropy;
    std::size_t k = 0;
    for (const std::size_t i : some)
      for (std::size_t token_index = r.offsets[i]; token_index < r.offsets[i + 1]; ++token_index, ++k) {
        const auto e = static_cast<std::size_t>(p.edge_of_token[k]);
        to.log_probs[token_index] = of_edge[e];
        to.entropies[token_index] = entropy[e];
      }
  }

 private:
  device& d_;
  const network& net_;
  scoring_task task_;
  batch_memory& m_;
  workspace &control_, &results_;
  row_distribution* distributions_ = nullptr;
  double* log_probs_ = nullptr;
};

}  // namespace rlvr::cuda
