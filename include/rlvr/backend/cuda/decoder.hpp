#pragma once
/// The GPU reference policy: a Llama/Qwen/OLMo decoder with float masters.

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <utility>
#include <vector>

#include <rlvr/backend/cuda/device.hpp>
#include <rlvr/backend/cuda/error.hpp>
#include <rlvr/backend/cuda/network.hpp>
#include <rlvr/backend/cuda/packing.hpp>
#include <rlvr/backend/cuda/rope_memory.hpp>
#include <rlvr/backend/cuda/sampling.hpp>
#include <rlvr/backend/cuda/shape.hpp>
#include <rlvr/backend/cuda/space.hpp>
#include <rlvr/backend/cuda/workspace.hpp>
#include <rlvr/backend/decoder/config.hpp>
#include <rlvr/backend/decoder/layout.hpp>
#include <rlvr/core/error.hpp>
#include <rlvr/core/policy.hpp>
#include <rlvr/core/slice.hpp>
#include <rlvr/core/validate.hpp>

namespace rlvr::cuda {

struct decoder_options {
  scalar_type compute = scalar_type::bfloat16;  ///< of weights and activations. A bfloat16 rounding (2-4e-3) swallows
                                                ///< small steps: searches and finite differences want float32
  std::size_t micro_batch_rows = 0;  ///< tokens, shared prompts once, of one forward and backward pass; 0: up to 16384,
                                     ///< as memory allows. A rollout that is longer is a micro-batch of its own
  std::size_t logit_rows = 1024;     ///< rows that are taken through the vocabulary at once
  std::size_t rollouts_at_once = 0;  ///< slots of the sampler; 0: up to 1024, as memory allows
  std::size_t prompt_rows = 65536;   ///< tokens of prompts that the sampler keeps at once, if none is longer
  truncation sample_from{};
};

/// Models policy; its space models elementwise and tensor_layout.
/// The same bits whenever a call is repeated with the same options and the same free memory or fixed sizes.
/// Memory: plan() states it. One call at a time.
class decoder {
 public:
  using vector = device_vector;

  /// parameters: in the order of rlvr::decoder::layout(config), on the host; copied.
  /// Throws std::invalid_argument when their number is wrong, out_of_memory and device_error.
  decoder(std::shared_ptr<device> where, rlvr::decoder::config config, std::span<const float> parameters,
          decoder_options options = {})
      : decoder(std::move(where), std::move(config), options) {
    space_.upload(parameters, theta_);
    refresh(theta_.data(), 0, nullptr);
  }

  const rlvr::decoder::config& config() const { return config_; }
  const cuda::space& space() const { return space_; }
  const vector& parameters() const { return theta_; }
  void assign(const vector& theta) {
    check_size("assign", theta);
    refresh(theta.data(), 0, nullptr);
  }
  void assign(const vector& theta, double alpha, const vector& direction) {
    check_size("assign", theta);
    check_size("assign", direction);
    refresh(theta.data(), alpha, direction.data());
  }

  rollouts sample(const ragged<token>& prompts, std::span<const sample_request> requests,
                  const sampling_options& options, random_key key) {
    check_temperature("sample", options.temperature);
    require(options.max_tokens > 0, "cuda::decoder::sample: max_tokens is 0");
    std::size_t total = 0, longest = 0;
    for (const sample_request& q : requests) {
      check_prompt("sample", prompts, q.prompt);
      total += q.count;
      longest = std::max(longest, prompts[q.prompt].size());
    }
    if (total == 0) return {};
    extend_positions("sample", longest + options.max_tokens - 1);

    // Slices of requests whose prompts fit together.
    std::vector<std::size_t> begin{0};
    sampling_run::sizes n{.slots = 0,
                          .own_rows = std::max<std::size_t>(options.max_tokens - 1, 1),
                          .prompt_rows = 0,
                          .prompt_count = 0,
                          .rows = 0,
                          .logit_rows = 0};
    std::size_t rows = 0, count = 0;
    for (std::size_t q = 0; q < requests.size(); ++q) {
      const std::size_t length = prompts[requests[q].prompt].size();
      if (rows > 0 && rows + length > options_.prompt_rows) {
        begin.push_back(q);
        rows = count = 0;
      }
      n.prompt_rows = std::max(n.prompt_rows, rows += length);
      n.prompt_count = std::max(n.prompt_count, ++count);
    }
    begin.push_back(requests.size());
    const auto sized = [&](std::size_t slots) {
      sampling_run::sizes s = n;
      s.slots = slots;
      s.rows = std::max({longest, slots, std::min<std::size_t>(n.prompt_rows, 4096)});
      s.logit_rows = std::min(slots, options_.logit_rows);
      return s;
    };
    const auto bytes = [&](std::size_t slots) {
      arena counted;
      lay_out(sized(slots), counted);
      return counted.used();
    };
    const std::size_t most = std::min<std::size_t>(total, options_.rollouts_at_once ? options_.rollouts_at_once : 1024);
    n = sized(reserve(most, options_.rollouts_at_once == 0, bytes));
    plan_.slots = n.slots;
    plan_.sampling = bytes(n.slots);

    arena parts(memory_.reserve(plan_.sampling));
    sampling_memory memory = lay_out(n, parts);
    const network net = layers();
    sampling_run run(*space_.where(), net, n, memory, control_, results_);
    std::vector<rollouts> each;
    for (std::size_t i = 0; i + 1 < begin.size(); ++i)
      run.sample(prompts, requests.subspan(begin[i], begin[i + 1] - begin[i]), options, options_.sample_from, key,
                 ends_, each);
    rollouts out;
    for (const rollouts& r : each) append(out, r);
    return out;
  }

  token_scores score(const ragged<token>& prompts, const rollouts& r, double temperature) {
    token_scores out{std::vector<double>(r.tokens.size()), std::vector<double>(r.tokens.size())};
    run_batches("score", prompts, r, {}, temperature, pass::score, nullptr, &out);
    return out;
  }

  void accumulate_score(const ragged<token>& prompts, const rollouts& r, std::span<const double> coefficients,
                        double temperature, vector& g) {
    require(coefficients.size() == r.tokens.size(), "cuda::decoder::accumulate_score: ", coefficients.size(),
            " coefficients for ", r.tokens.size(), " tokens");
    check_size("accumulate_score", g);
    for (std::size_t t = 0; t < coefficients.size(); ++t)
      require(std::isfinite(coefficients[t]), "cuda::decoder::accumulate_score: coefficient ", t, " is ",
              coefficients[t]);
    run_batches("accumulate_score", prompts, r, coefficients, temperature, pass::gradient, g.data(), nullptr);
  }

  /// Bytes: of parameters, gradient and weights, and of the last micro-batch and sampling run.
  const memory_plan& plan() const { return plan_; }

 private:
  decoder(std::shared_ptr<device> where, rlvr::decoder::config config, decoder_options options)
      : config_(std::move(config)),
        options_(options),
        shape_(config_),
        space_(std::move(where), rlvr::decoder::layout(config_)),
        theta_(space_.where(), space_.dimension()),
        memory_(space_.where()),
        control_(space_.where()),
        results_(space_.where()),
        ends_(config_.vocab_size, 0) {
    require(options.logit_rows > 0, "cuda::decoder: logit_rows is 0");
    require(options.sample_from.top_p > 0 && options.sample_from.top_p <= 1, "cuda::decoder: top_p is ",
            options.sample_from.top_p);
    if (options.compute == scalar_type::bfloat16) weights_ = buffer(space_.where(), space_.dimension() * 2);
    for (const token t : config_.eos) ends_[static_cast<std::size_t>(t)] = 1;
    plan_.parameters = plan_.gradient = space_.dimension() * sizeof(float);
    plan_.weights = weights_.bytes();
  }

  /// theta_ and weights_ <- theta + alpha d in one pass.
  void refresh(const float* theta, double alpha, const float* d) {
    space_.where()->step(theta, alpha, d, theta_.data(), static_cast<bfloat16*>(weights_.data()), space_.dimension());
  }
  network layers() {
    const operand weights = options_.compute == scalar_type::bfloat16 ? operand{weights_.data(), scalar_type::bfloat16}
                                                                      : operand{theta_.data(), scalar_type::float32};
    return network(*space_.where(), shape_, theta_.data(), weights, rope_.tables());
  }
  sampling_memory lay_out(const sampling_run::sizes& n, arena& a) const {
    return sampling_memory(shape_, n.slots, n.own_rows, n.prompt_rows, n.prompt_count, n.rows, n.logit_rows,
                           options_.compute, a);
  }

  /// Makes room for n, or where it may be chosen for as much of it as the memory allows. When that is refused all the
  /// same (memory is in pieces), half of it is tried once. Returns what there is room for; throws out_of_memory.
  template <class Bytes>
  std::size_t reserve(std::size_t n, bool chosen, Bytes bytes) {
    if (chosen) {
      const std::size_t free = space_.where()->free_bytes() + memory_.bytes();
      n = fitting(n, free - free / 8, bytes);  // the rest is for small arrays and for the library
    }
    try {
      memory_.reserve(bytes(n));
    } catch (const out_of_memory&) {
      if (!chosen || n == 1) throw;
      n = (n + 1) / 2;
      memory_.reserve(bytes(n));
    }
    return n;
  }

  void run_batches(const char* where, const ragged<token>& prompts, const rollouts& r,
                   std::span<const double> coefficients, double temperature, pass what, float* g,
                   token_scores* scores) {
    const std::vector<std::size_t> active = choose(where, prompts, r, coefficients, temperature);
    if (active.empty()) return;
    std::size_t longest = 0, all = 0;
    for (std::size_t k = 0; k < active.size(); ++k) {
      const std::size_t prompt = r.prompts[active[k]], own = r.length(active[k]) - 1;
      longest = std::max(longest, prompts[prompt].size() + own);
      all += own + (k > 0 && r.prompts[active[k - 1]] == prompt ? 0 : prompts[prompt].size());
    }
    const auto bytes = [&](std::size_t rows) {
      return micro_batch_bytes(shape_, std::max(rows, longest), options_.logit_rows, options_.compute, what);
    };
    const bool chosen = options_.micro_batch_rows == 0;
    const std::size_t most = std::max(longest, std::min<std::size_t>(all, chosen ? 16384 : options_.micro_batch_rows));
    const std::size_t rows = std::max(longest, reserve(most, chosen, bytes));
    plan_.rows = rows;
    plan_.micro_batch = bytes(rows);
    arena parts(memory_.reserve(plan_.micro_batch));
    batch_memory memory(shape_, rows, std::min(rows, options_.logit_rows), options_.compute, what, parts);

    for (std::size_t begin = 0; begin < active.size();) {
      std::size_t end = begin, filled = 0;
      for (; end < active.size(); ++end) {
        const std::uint32_t prompt = r.prompts[active[end]];
        const bool shared = end > begin && r.prompts[active[end - 1]] == prompt;
        const std::size_t more = r.length(active[end]) - 1 + (shared ? 0 : prompts[prompt].size());
        if (end > begin && filled + more > rows) break;
        filled += more;
      }
      const std::span<const std::size_t> some = std::span(active).subspan(begin, end - begin);
      const packing p(prompts, r, coefficients, some, space_.where()->tiles(options_.compute));
      run_batch(p, memory, 1.0 / temperature, what, g, scores, r, some);
      begin = end;
    }
  }

  void run_batch(const packing& p, batch_memory& m, double inverse_temperature, pass what, float* g,
                 token_scores* scores, const rollouts& r, std::span<const std::size_t> some) {
    device& d = *space_.where();
    const network net = layers();
    transfer t;
    const std::size_t at_tokens = t.put(p.tokens), at_positions = t.put(p.positions), at_forward = t.put(p.forward),
                      at_backward = t.put(p.backward), at_keys = t.put(p.keys), at_sources = t.put(p.sources),
                      at_begin = t.put(p.edge_begin), at_next = t.put(p.edge_next), at_c = t.put(p.coefficients),
                      at_embedded = t.put(p.embedded), at_embedded_begin = t.put(p.embedded_begin),
                      at_embedded_rows = t.put(p.embedded_rows);
    t.send(d, control_);
    const packed_rows rows{.rows = p.rows(),
                           .positions = t.get<std::int32_t>(at_positions),
                           .forward = t.get<attention_task>(at_forward),
                           .backward = t.get<attention_task>(at_backward),
                           .forward_count = static_cast<std::int32_t>(p.forward.size()),
                           .backward_count = static_cast<std::int32_t>(p.backward.size()),
                           .keys = t.get<key_task>(at_keys),
                           .key_count = static_cast<std::int32_t>(p.keys.size())};
    const std::size_t layer_count = shape_.layers.size(), hidden = static_cast<std::size_t>(shape_.hidden);
    const auto x_of = [&](std::size_t l) { return m.x[what == pass::gradient ? l : 0]; };
    net.embed(t.get<std::int32_t>(at_tokens), rows.rows, m.x[0]);
    for (std::size_t l = 0; l < layer_count; ++l)
      net.forward(l, rows.rows, rows.positions, x_of(l), m.activations, x_of(l + 1),
                  [&](operand) { net.attend(l, rows, m.activations); });

    const std::size_t sources = p.sources.size(), edges = p.edge_next.size();
    arena parts(results_.reserve(sources * sizeof(row_distribution) + edges * sizeof(double) + 512));
    auto* distributions = parts.take<row_distribution>(sources);
    auto* log_probs = parts.take<double>(edges);
    if (what == pass::gradient) d.clear(m.dx, static_cast<std::size_t>(rows.rows) * hidden * sizeof(float));
    const std::size_t block = std::min(plan_.rows, options_.logit_rows);
    for (std::size_t at = 0; at < sources; at += block) {
      const auto count = static_cast<std::int32_t>(std::min(block, sources - at));
      const std::int32_t* from = t.get<std::int32_t>(at_sources) + at;
      const std::int32_t* begin = t.get<std::int32_t>(at_begin) + at;
      const std::int32_t* next = t.get<std::int32_t>(at_next);
      d.gather(x_of(layer_count), from, count, shape_.hidden, m.gathered);
      net.logits(m.gathered, count, m.normed, m.scale, m.logits);
      d.distributions(m.logits, count, shape_.vocab, inverse_temperature, distributions + at);
      if (what == pass::score) {
        d.edge_log_probs(m.logits, count, shape_.vocab, inverse_temperature, distributions + at, begin, next,
                         log_probs);
        continue;
      }
      d.edge_gradient(m.logits, count, shape_.vocab, inverse_temperature, distributions + at, begin, next,
                      t.get<double>(at_c), m.dlogits);
      net.logits_backward(count, m.dlogits, m.gathered, m.normed, m.scale, m.dnormed, m.dgathered, g);
      d.scatter_add(m.dgathered, from, count, shape_.hidden, m.dx);
    }
    if (what == pass::score) {
      std::vector<row_distribution> of_source(sources);
      std::vector<double> of_edge(edges);
      d.download(of_source.data(), distributions, sources * sizeof(row_distribution));
      d.download(of_edge.data(), log_probs, edges * sizeof(double));
      std::vector<double> entropy(edges);
      for (std::size_t i = 0; i < sources; ++i)
        for (std::int32_t e = p.edge_begin[i]; e < p.edge_begin[i + 1]; ++e)
          entropy[static_cast<std::size_t>(e)] = of_source[i].entropy;
      std::size_t k = 0;
      for (const std::size_t i : some)
        for (std::size_t token_index = r.offsets[i]; token_index < r.offsets[i + 1]; ++token_index, ++k) {
          const auto e = static_cast<std::size_t>(p.edge_of_token[k]);
          scores->log_probs[token_index] = of_edge[e];
          scores->entropies[token_index] = entropy[e];
        }
      return;
    }
    for (std::size_t l = layer_count; l-- > 0;) net.backward(l, rows, m.x[l], m.activations, m.gradients, m.dx, g);
    d.embed_backward(m.dx, t.get<std::int32_t>(at_embedded), t.get<std::int32_t>(at_embedded_begin),
                     t.get<std::int32_t>(at_embedded_rows), static_cast<std::int32_t>(p.embedded.size()), shape_.hidden,
                     g + shape_.embedding);
    d.synchronize();  // a failure is told here, and `control_` may be overwritten
  }

  /// The rollouts that count.
  std::vector<std::size_t> choose(const char* where, const ragged<token>& prompts, const rollouts& r,
                                  std::span<const double> coefficients, double temperature) {
    check_temperature(where, temperature);
    validate_offsets(r);
    std::vector<std::size_t> active;
    std::size_t longest = 0;
    for (std::size_t i = 0; i < r.size(); ++i) {
      if (i == 0 || r.prompts[i] != r.prompts[i - 1]) check_prompt(where, prompts, r.prompts[i]);
      for (const token t : r.completion(i)) check_token(where, t);
      bool counts = coefficients.empty() && r.length(i) > 0;
      for (std::size_t t = r.offsets[i]; t < r.offsets[i + 1] && !coefficients.empty(); ++t)
        counts = counts || coefficients[t] != 0;
      if (!counts) continue;
      active.push_back(i);
      longest = std::max(longest, prompts[r.prompts[i]].size() + r.length(i) - 1);
    }
    extend_positions(where, longest);
    return active;
  }

  void extend_positions(const char* where, std::size_t count) {
    require(count <= config_.max_positions, "cuda::decoder::", where, ": sequences of ", count,
            " tokens, but max_position_embeddings is ", config_.max_positions);
    rope_.extend(space_.where(), config_, count);
  }

  void check_size(const char* where, const vector& x) const {
    require(x.size() == theta_.size(), "cuda::decoder::", where, ": a vector of ", x.size(), " coordinates, expected ",
            theta_.size());
  }
  static void check_temperature(const char* where, double temperature) {
    require(temperature > 0 && std::isfinite(temperature) && std::isfinite(static_cast<float>(1.0 / temperature)),
            "cuda::decoder::", where, ": temperature ", temperature, " is not positive, or too small to divide by");
  }
  void check_prompt(const char* where, const ragged<token>& prompts, std::size_t prompt) const {
    require(prompt < prompts.size(), "cuda::decoder::", where, ": prompt ", prompt, ", but there are ", prompts.size());
    require(!prompts[prompt].empty(), "cuda::decoder::", where, ": prompt ", prompt, " is empty");
    for (const token t : prompts[prompt]) check_token(where, t);
  }
  void check_token(const char* where, token t) const {
    require(t >= 0 && static_cast<std::size_t>(t) < config_.vocab_size, "cuda::decoder::", where, ": token ", t,
            " is outside the vocabulary of ", config_.vocab_size);
  }

  rlvr::decoder::config config_;
  decoder_options options_;
  model_shape shape_;
  cuda::space space_;
  vector theta_;
  buffer weights_;  ///< bfloat16; empty for float32
  workspace memory_, control_, results_;
  rope_memory rope_;
  std::vector<std::uint8_t> ends_;
  memory_plan plan_;
};

}  // namespace rlvr::cuda
