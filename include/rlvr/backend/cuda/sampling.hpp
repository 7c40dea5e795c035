#pragma once
/// Continuous batched sampling with a key-value cache: a finished rollout leaves its slot to the next one. Prompts are
/// computed once for all their rollouts.

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include <rlvr/backend/cuda/device.hpp>
#include <rlvr/backend/cuda/network.hpp>
#include <rlvr/backend/cuda/packing.hpp>
#include <rlvr/backend/cuda/workspace.hpp>
#include <rlvr/core/ragged.hpp>
#include <rlvr/core/random.hpp>
#include <rlvr/core/rollouts.hpp>

namespace rlvr::cuda {

/// What of the distribution is sampled from. The log-probabilities and entropies that come with the rollouts are
/// those of the truncated distribution; a scorer's are of the whole one.
struct truncation {
  std::uint32_t top_k = 0;  ///< only the most likely tokens; 0: all
  double top_p = 1;         ///< only the fewest most likely tokens of so much probability
};

/// Rollouts of requests whose prompts fit into the cache together.
class sampling_run {
 public:
  struct sizes {
    std::size_t slots, own_rows, prompt_rows, prompt_count, rows, logit_rows;
  };

  sampling_run(device& d, const network& net, sizes n, sampling_memory& memory, workspace& control, workspace& results)
      : d_(d), net_(net), n_(n), m_(memory), control_(control), results_(results) {}

  /// Adds to `out`, one entry per rollout, in order.
  void sample(const ragged<token>& prompts, std::span<const sample_request> requests, const sampling_options& options,
              const truncation& cut, random_key key, std::span<const std::uint8_t> ends, std::vector<rollouts>& out) {
    prefill(prompts, requests);
    std::vector<rollout> queue;
    for (std::size_t q = 0; q < requests.size(); ++q)
      for (std::uint32_t i = 0; i < requests[q].count; ++i)
        queue.push_back({out.size() + queue.size(), requests[q].prompt, requests[q].first + i, place_of_[q], 0, 0, 0});
    out.resize(out.size() + queue.size());
    std::vector<rollout> active;
    std::vector<std::int32_t> free_slots;
    for (std::size_t s = n_.slots; s-- > 0;) free_slots.push_back(static_cast<std::int32_t>(s));
    for (std::size_t next = 0; next < queue.size() || !active.empty();) {
      const std::size_t continued = active.size();
      for (; next < queue.size() && !free_slots.empty(); ++next) {
        active.push_back(queue[next]);
        active.back().slot = free_slots.back();
        free_slots.pop_back();
      }
      const std::vector<drawn> tokens = advance(active, continued, options, cut, key);
      std::vector<rollout> going_on;
      for (std::size_t i = 0; i < active.size(); ++i) {
        rollout& a = active[i];
        rollouts& to = out[a.index];
        to.tokens.push_back(tokens[i].next);
        to.log_probs.push_back(tokens[i].log_prob);
        to.entropies.push_back(tokens[i].entropy);
        a.last = tokens[i].next;
        ++a.length;
        const bool ended = ends[static_cast<std::size_t>(a.last)] != 0;
        if (!ended && a.length < options.max_tokens) {
          going_on.push_back(a);
          continue;
        }
        to.offsets.push_back(to.tokens.size());
        to.prompts.push_back(a.prompt);
        to.finished.push_back(ended ? 1 : 0);
        free_slots.push_back(a.slot);
      }
      active.swap(going_on);
    }
  }

 private:
  struct rollout {
    std::size_t index;
    std::uint32_t prompt, draw;
    std::size_t place;  ///< of its prompt in the cache
    std::int32_t slot;
    std::uint32_t length;
    token last;
  };
  struct cached_prompt {
    std::int32_t row, length;
  };
  struct drawn {
    token next;
    double log_prob, entropy;
  };

  /// All prompts through the layers, as many at once as there are rows for.
  void prefill(const ragged<token>& prompts, std::span<const sample_request> requests) {
    cached_.clear();
    place_of_.clear();
    std::vector<std::uint32_t> distinct;
    for (const sample_request& q : requests) {
      const auto found = std::find(distinct.begin(), distinct.end(), q.prompt);
      place_of_.push_back(static_cast<std::size_t>(found - distinct.begin()));
      if (found == distinct.end()) distinct.push_back(q.prompt);
    }
    std::int32_t cache_row = 0;
    for (std::size_t begin = 0; begin < distinct.size();) {
      std::vector<std::int32_t> tokens, positions, cache_rows, last;
      std::vector<attention_task> tasks;
      const std::int32_t tile = d_.tiles(net_.type()).forward;
      std::size_t end = begin;
      for (; end < distinct.size(); ++end) {
        const std::span<const token> prompt = prompts[distinct[end]];
        if (end > begin && tokens.size() + prompt.size() > n_.rows) break;
        const auto row = static_cast<std::int32_t>(tokens.size()), length = static_cast<std::int32_t>(prompt.size());
        for (std::int32_t i = 0; i < length; ++i) {
          tokens.push_back(prompt[static_cast<std::size_t>(i)]);
          positions.push_back(i);
          cache_rows.push_back(cache_row + i);
        }
        for (std::int32_t i = 0; i < length; i += tile)
          tasks.push_back({row + i, std::min(tile, length - i), 0, 0, row, i});
        cached_.push_back({cache_row, length});
        cache_row += length;
        last.push_back(row + length - 1);
      }
      transfer t;
      const std::size_t at_tokens = t.put(tokens), at_positions = t.put(positions), at_rows = t.put(cache_rows),
                        at_tasks = t.put(tasks), at_last = t.put(last);
      t.send(d_, control_);
      packed_rows p;
      p.rows = static_cast<std::int32_t>(tokens.size());
      p.positions = t.get<std::int32_t>(at_positions);
      p.forward = t.get<attention_task>(at_tasks);
      p.forward_count = static_cast<std::int32_t>(tasks.size());
      float* x = m_.batch.x[0];
      net_.embed(t.get<std::int32_t>(at_tokens), p.rows, x);
      for (std::size_t l = 0; l < net_.shape().layers.size(); ++l)
        net_.forward(l, p.rows, p.positions, x, m_.batch.activations, x, [&](operand qkv) {
          store(qkv, t.get<std::int32_t>(at_rows), p.rows, m_.prompts[l]);
          net_.attend(l, p, m_.batch.activations);
        });
      const auto hidden = static_cast<std::size_t>(net_.shape().hidden);
      d_.gather(x, t.get<std::int32_t>(at_last), static_cast<std::int32_t>(last.size()), net_.shape().hidden,
                m_.last + begin * hidden);
      begin = end;
    }
  }

  void store(operand qkv, const std::int32_t* rows, std::int32_t count, const sampling_memory::cache& to) const {
    const key_value_rows from = net_.keys_values(qkv);
    d_.scatter_rows(from.keys, from.stride, rows, count, net_.shape().kv_width, to.keys);
    d_.scatter_rows(from.values, from.stride, rows, count, net_.shape().kv_width, to.values);
  }

  /// One token for each. The first `continued` have said something, which goes through the layers first.
  std::vector<drawn> advance(std::span<const rollout> active, std::size_t continued, const sampling_options& options,
                             const truncation& cut, random_key key) {
    std::vector<std::int32_t> tokens, positions, cache_rows, last;
    std::vector<attention_task> tasks;
    std::vector<double> uniform;
    const auto own_rows = static_cast<std::int32_t>(n_.own_rows);
    for (std::size_t i = 0; i < active.size(); ++i) {
      const rollout& a = active[i];
      uniform.push_back(key.uniform(a.prompt, a.draw, a.length));
      if (i >= continued) {
        last.push_back(static_cast<std::int32_t>(a.place));
        continue;
      }
      const cached_prompt& p = cached_[a.place];
      const auto said = static_cast<std::int32_t>(a.length) - 1;  // before the token that goes in now
      tokens.push_back(a.last);
      positions.push_back(p.length + said);
      cache_rows.push_back(a.slot * own_rows + said);
      tasks.push_back({static_cast<std::int32_t>(i), 1, p.row, p.length, a.slot * own_rows, said});
    }
    transfer t;
    const std::size_t at_tokens = t.put(tokens), at_positions = t.put(positions), at_rows = t.put(cache_rows),
                      at_tasks = t.put(tasks), at_last = t.put(last), at_uniform = t.put(uniform);
    t.send(d_, control_);
    const model_shape& s = net_.shape();
    const auto hidden = static_cast<std::size_t>(s.hidden);
    float* x = m_.batch.x[0];
    const auto rows = static_cast<std::int32_t>(continued);
    if (rows > 0) {
      net_.embed(t.get<std::int32_t>(at_tokens), rows, x);
      for (std::size_t l = 0; l < s.layers.size(); ++l)
        net_.forward(l, rows, t.get<std::int32_t>(at_positions), x, m_.batch.activations, x, [&](operand qkv) {
          store(qkv, t.get<std::int32_t>(at_rows), rows, m_.own[l]);
          d_.attention(s.attention(l), t.get<attention_task>(at_tasks), rows, qkv, s.qkv_width,
                       {m_.prompts[l].keys, m_.prompts[l].values, s.kv_width},
                       {m_.own[l].keys, m_.own[l].values, s.kv_width}, m_.batch.activations.attention, s.q_width,
                       nullptr, true);
        });
    }
    d_.gather(m_.last, t.get<std::int32_t>(at_last), static_cast<std::int32_t>(last.size()), s.hidden,
              x + continued * hidden);

    const std::size_t n = active.size();
    arena parts(results_.reserve(n_.slots * (sizeof(row_distribution) + sizeof(double) + sizeof(std::int32_t)) + 1024));
    auto* distributions = parts.take<row_distribution>(n);
    auto* log_probs = parts.take<double>(n);
    auto* next = parts.take<std::int32_t>(n);
    for (std::size_t at = 0; at < n; at += n_.logit_rows) {
      const auto some = static_cast<std::int32_t>(std::min(n_.logit_rows, n - at));
      const double inverse = 1.0 / options.temperature;
      float* logits = m_.batch.logits;
      net_.logits(x + at * hidden, some, m_.batch.normed, m_.batch.scale, logits);
      if (cut.top_k > 0 || cut.top_p < 1)
        d_.truncate(logits, some, s.vocab, inverse, static_cast<std::int32_t>(cut.top_k), cut.top_p);
      d_.distributions(logits, some, s.vocab, inverse, distributions + at);
      d_.draw(logits, some, s.vocab, inverse, distributions + at, t.get<double>(at_uniform) + at, next + at,
              log_probs + at);
    }
    std::vector<row_distribution> p(n);
    std::vector<double> l(n);
    std::vector<std::int32_t> v(n);
    d_.download(p.data(), distributions, n * sizeof(row_distribution));
    d_.download(l.data(), log_probs, n * sizeof(double));
    d_.download(v.data(), next, n * sizeof(std::int32_t));
    std::vector<drawn> out;
    for (std::size_t i = 0; i < n; ++i) out.push_back({v[i], l[i], p[i].entropy});
    return out;
  }

  device& d_;
  const network& net_;
  sizes n_;
  sampling_memory& m_;
  workspace &control_, &results_;
  std::vector<cached_prompt> cached_;
  std::vector<std::size_t> place_of_;
};

}  // namespace rlvr::cuda
