#pragma once
/// Continuous batched sampling with a key-value cache: a finished rollout leaves its slot to the next one. Prompts are
/// computed once for the rollouts that follow them side by side.

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <map>
#include <optional>
#include <span>
#include <vector>

#include <rlvr/backend/cuda/device.hpp>
#include <rlvr/backend/cuda/network.hpp>
#include <rlvr/backend/cuda/options.hpp>
#include <rlvr/backend/cuda/row_ranges.hpp>
#include <rlvr/backend/cuda/workspace.hpp>
#include <rlvr/core/ragged.hpp>
#include <rlvr/core/random.hpp>
#include <rlvr/core/rollouts.hpp>

namespace rlvr::cuda {

/// The rollouts of requests. A prompt is computed when the first of its rollouts gets a slot, and kept while it has
/// rollouts under way.
class sampling_run {
 public:
  sampling_run(device& d, const network& net, sampling_sizes n, sampling_memory& memory, workspace& control,
               workspace& results)
      : d_(d),
        net_(net),
        n_(n),
        m_(memory),
        control_(control),
        results_(results),
        rows_(static_cast<std::int32_t>(n.prompt_rows)),
        cached_(n.prompt_count) {
    for (std::size_t s = n_.slots; s-- > 0;) free_slots_.push_back(static_cast<std::int32_t>(s));
    for (std::size_t place = n_.prompt_count; place-- > 0;) free_places_.push_back(place);
  }

  /// As many bytes as the lists of a prefill or of a step take, or more, and those of a step's results.
  static std::size_t list_bytes(const sampling_sizes& n) {
    constexpr std::size_t index = sizeof(std::int32_t), lists = 6, padding = 32;
    return std::max(n.rows, n.slots) * (4 * index + sizeof(attention_task) + sizeof(double)) +
           2 * n.prompt_count * index + lists * padding;
  }
  static std::size_t result_bytes(const sampling_sizes& n) {
    arena count;
    step_results(n.slots, count);
    return count.used();
  }

  /// One entry per rollout, in order.
  std::vector<rollouts> sample(const ragged<token>& prompts, std::span<const sample_request> requests,
                               const sampling_options& options, const truncation& cut, random_key key,
                               std::span<const std::uint8_t> ends) {
    std::vector<rollout> queue;
    for (const sample_request& q : requests)
      for (std::uint32_t i = 0; i < q.count; ++i) queue.push_back({queue.size(), q.prompt, q.first + i, 0, 0, 0, 0});
    std::vector<rollouts> out(queue.size());
    std::vector<rollout> active;
    for (std::size_t next = 0; next < queue.size() || !active.empty();) {
      const std::size_t continued = active.size();
      next = admit(prompts, queue, next, active);
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
        free_slots_.push_back(a.slot);
        if (--cached_[a.place].users == 0 && (next == queue.size() || queue[next].prompt != a.prompt)) forget(a.place);
      }
      active.swap(going_on);
    }
    return out;
  }

 private:
  struct rollout {
    std::size_t index;
    std::uint32_t prompt, draw;
    std::size_t place;  ///< of its prompt
    std::int32_t slot;
    std::uint32_t length;
    token last;
  };
  struct cached_prompt {
    std::uint32_t prompt = 0;
    std::int32_t row = 0, length = 0;  ///< in the cache
    std::size_t users = 0;
  };
  struct drawn {
    token next;
    double log_prob, entropy;
  };
  /// What a step says of `n` rollouts, on the device and, laid out alike, on the host.
  struct step_results {
    row_distribution* distributions;
    double* log_probs;
    std::int32_t* next;
    step_results(std::size_t n, arena& a)
        : distributions(a.take<row_distribution>(n)), log_probs(a.take<double>(n)), next(a.take<std::int32_t>(n)) {}
  };

  /// Gives free slots to rollouts from the front of the queue, and computes prompts that are new; returns where the
  /// queue then begins. New prompts wait until a sixteenth of the slots is free: then more of them share a pass.
  std::size_t admit(const ragged<token>& prompts, std::span<const rollout> queue, std::size_t next,
                    std::vector<rollout>& active) {
    const bool may_compute = active.empty() || 16 * free_slots_.size() >= n_.slots;
    std::vector<std::size_t> fresh;
    for (; next < queue.size() && !free_slots_.empty(); ++next) {
      rollout a = queue[next];
      const auto known = place_of_.find(a.prompt);
      if (known != place_of_.end()) {
        a.place = known->second;
      } else {
        const auto length = static_cast<std::int32_t>(prompts[a.prompt].size());
        if (!may_compute || free_places_.empty()) break;
        const std::optional<std::int32_t> row = rows_.take(length);
        if (!row) break;
        a.place = free_places_.back();
        free_places_.pop_back();
        cached_[a.place] = {a.prompt, *row, length, 0};
        place_of_.emplace(a.prompt, a.place);
        fresh.push_back(a.place);
      }
      ++cached_[a.place].users;
      a.slot = free_slots_.back();
      free_slots_.pop_back();
      active.push_back(a);
    }
    for (std::size_t begin = 0; begin < fresh.size();) begin = prefill(prompts, fresh, begin);
    return next;
  }
  void forget(std::size_t place) {
    const cached_prompt& p = cached_[place];
    rows_.give(p.row, p.length);
    place_of_.erase(p.prompt);
    free_places_.push_back(place);
  }

  /// Prompts from `begin` on through the layers, as many as there are rows for; returns where they end.
  std::size_t prefill(const ragged<token>& prompts, std::span<const std::size_t> places, std::size_t begin) {
    std::vector<std::int32_t> tokens, positions, cache_rows, last, to;
    std::vector<attention_task> tasks;
    const std::int32_t tile = d_.tiles(net_.type(), net_.shape().head_dim).forward;
    std::size_t end = begin;
    for (; end < places.size(); ++end) {
      const cached_prompt& p = cached_[places[end]];
      const std::span<const token> prompt = prompts[p.prompt];
      if (end > begin && tokens.size() + prompt.size() > n_.rows) break;
      const auto row = static_cast<std::int32_t>(tokens.size());
      for (std::int32_t i = 0; i < p.length; ++i) {
        tokens.push_back(prompt[static_cast<std::size_t>(i)]);
        positions.push_back(i);
        cache_rows.push_back(p.row + i);
      }
      for (std::int32_t i = 0; i < p.length; i += tile)
        tasks.push_back({row + i, std::min(tile, p.length - i), 0, 0, row, i});
      last.push_back(row + p.length - 1);
      to.push_back(static_cast<std::int32_t>(places[end]));
    }
    transfer t;
    const std::size_t at_tokens = t.put(tokens), at_positions = t.put(positions), at_rows = t.put(cache_rows),
                      at_tasks = t.put(tasks), at_last = t.put(last), at_to = t.put(to);
    t.send(d_, control_);
    packed_rows p;
    p.rows = static_cast<std::int32_t>(tokens.size());
    p.positions = t.get<std::int32_t>(at_positions);
    p.forward = t.get<attention_task>(at_tasks);
    p.forward_count = static_cast<std::int32_t>(tasks.size());
    float* x = m_.batch.x[0];
    net_.embed(t.get<std::int32_t>(at_tokens), p.rows, x);
    for (std::size_t l = 0; l < net_.shape().layers.size(); ++l)
      net_.forward(
          l, p.rows, p.positions, x, m_.batch.activations, x, [&] { net_.attend(l, p, m_.batch.activations); },
          {m_.prompts[l], t.get<std::int32_t>(at_rows)});
    d_.gather(x, t.get<std::int32_t>(at_last), static_cast<std::int32_t>(last.size()), net_.shape().hidden, m_.last,
              t.get<std::int32_t>(at_to));
    return end;
  }

  key_value_rows cached(operand cache) const {
    const std::int32_t width = net_.shape().kv_width;
    return {cache, cache.offset(static_cast<std::size_t>(width)), 2 * width};
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
        net_.forward(
            l, rows, t.get<std::int32_t>(at_positions), x, m_.batch.activations, x,
            [&] {
              d_.attention(attention_of(s, l), t.get<attention_task>(at_tasks), rows, m_.batch.activations.qkv,
                           s.qkv_width, cached(m_.prompts[l]), cached(m_.own[l]), m_.batch.activations.attention,
                           s.q_width, nullptr, true);
            },
            {m_.own[l], t.get<std::int32_t>(at_rows)});
    }
    d_.gather(m_.last, t.get<std::int32_t>(at_last), static_cast<std::int32_t>(last.size()), s.hidden,
              x + continued * hidden, nullptr);

    const std::size_t n = active.size();
    const double inverse = 1.0 / options.temperature;
    arena parts(results_.reserve(result_bytes(n_)));
    const step_results r(n, parts);
    float* logits = m_.batch.logits;
    for (std::size_t at = 0; at < n; at += n_.logit_rows) {
      const auto some = static_cast<std::int32_t>(std::min(n_.logit_rows, n - at));
      net_.logits(x + at * hidden, some, m_.batch.normed, m_.batch.scale, logits);
      if (cut.cuts())
        d_.truncate(logits, some, s.vocab, inverse, static_cast<std::int32_t>(cut.top_k), cut.top_p);
      d_.draw(logits, some, s.vocab, inverse, r.distributions + at, t.get<double>(at_uniform) + at, r.next + at,
              r.log_probs + at);
    }
    host_results_.resize(parts.used());
    d_.download(host_results_.data(), r.distributions, host_results_.size());  // a step's only wait
    arena same(host_results_.data());
    const step_results h(n, same);
    std::vector<drawn> out;
    for (std::size_t i = 0; i < n; ++i) out.push_back({h.next[i], h.log_probs[i], h.distributions[i].entropy});
    return out;
  }

  device& d_;
  const network& net_;
  sampling_sizes n_;
  sampling_memory& m_;
  workspace &control_, &results_;
  std::vector<char> host_results_;
  row_ranges rows_;  ///< of the prompts' cache
  std::vector<cached_prompt> cached_;
  std::map<std::uint32_t, std::size_t> place_of_;  ///< prompt -> index in cached_
  std::vector<std::size_t> free_places_;
  std::vector<std::int32_t> free_slots_;
};

}  // namespace rlvr::cuda
