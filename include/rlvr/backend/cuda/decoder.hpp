#pragma once
/// The GPU reference policy: a Llama/Qwen/OLMo decoder with float masters.

#include <algorithm>
#include <cmath>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <memory>
#include <set>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include <rlvr/backend/cuda/device.hpp>
#include <rlvr/backend/cuda/error.hpp>
#include <rlvr/backend/cuda/network.hpp>
#include <rlvr/backend/cuda/options.hpp>
#include <rlvr/backend/cuda/packing.hpp>
#include <rlvr/backend/cuda/plan.hpp>
#include <rlvr/backend/cuda/rope_memory.hpp>
#include <rlvr/backend/cuda/sampling.hpp>
#include <rlvr/backend/cuda/scoring.hpp>
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

/// Takes parameters in pieces.
struct parameter_sink {
  const space& to;
  device_vector& theta;
  void operator()(std::size_t offset, std::span<const float> values) const { to.upload(offset, values, theta); }
};

/// Models policy; its space models elementwise and tensor_layout.
/// The same bits whenever a call is repeated with the same options and the same free memory or fixed sizes.
/// Memory: plan() states it. All that a call needs is there before it begins to work, or out_of_memory says what it
/// needs beside what: a gradient is then as it was. After a device_error part of the sum may have been added to it: it
/// is to be thrown away, as differentiable says (a copy that keeps it whole would cost as much memory as the
/// parameters). Parameters are then as they were, and later calls return what they would have returned, if the device
/// still works: some of CUDA's errors last until the process ends. Where the device refuses what seemed free, fewer
/// layers keep their activations; then, where sizes are chosen here, half of them is tried, and the plan says so. What
/// a call worked in is kept for the next one, until a vector or another policy of the device needs the room. One call
/// at a time.
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

  /// The same for parameters that come in pieces: fill(put) calls put(offset, std::span<const float>) until all are
  /// there. The host needs no room for all of them.
  template <class Fill>
    requires std::invocable<Fill&, parameter_sink&>
  decoder(std::shared_ptr<device> where, rlvr::decoder::config config, Fill fill, decoder_options options = {})
      : decoder(std::move(where), std::move(config), options) {
    parameter_sink put{space_, theta_};
    fill(put);
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
    std::size_t total = 0;
    sampling_work work{.prompts = 0, .prompt_rows = 0, .longest_prompt = 0, .max_tokens = options.max_tokens};
    std::set<std::uint32_t> seen;
    for (const sample_request& q : requests) {
      check_prompt("sample", prompts, q.prompt);
      total += q.count;
      work.longest_prompt = std::max(work.longest_prompt, prompts[q.prompt].size());
      if (seen.insert(q.prompt).second) work.prompt_rows += prompts[q.prompt].size();
    }
    work.prompts = seen.size();
    if (total == 0) return {};
    extend_positions("sample", work.longest_prompt + options.max_tokens - 1);

    const auto sized = [&](std::size_t slots) { return sizes_of(work, slots, options_); };
    const auto bytes = [&](std::size_t slots) { return sampling_bytes(shape_, sized(slots), options_.compute); };
    const std::size_t most = most_slots(options_, total);
    require(most * sized(most).own_rows <= std::numeric_limits<std::int32_t>::max(), "cuda::decoder::sample: ", most,
            " rollouts at once of up to ", options.max_tokens, " tokens");
    reserve_lists("sample", sampling_run::list_bytes(sized(most)), sampling_run::result_bytes(sized(most)));
    const bool chosen = options_.rollouts_at_once == 0;
    const std::size_t planned = chosen ? fitting(most, free_for_work(), bytes) : most;
    plan_.planned_slots = planned;
    const auto plan = [&](std::size_t some) {
      plan_.slots = some;
      plan_.sampling = bytes(some);
      plan_.cache = cache_bytes(shape_, sized(some), options_.compute);
      return concat(some, " rollouts at once, ", plan_.cache, " bytes of it their cache");
    };
    const std::size_t slots = reserve("sample", planned, plan, bytes, [&](std::size_t some) {
      return chosen && some == planned ? (some + 1) / 2 : some;
    });
    const sampling_sizes n = sized(slots);

    arena parts(memory_.reserve(plan_.sampling));
    sampling_memory memory(shape_, n, options_.compute, parts);
    const network net = layers(options_.compute);
    sampling_run run(*space_.where(), net, n, memory, control_, results_);
    rollouts out;
    for (const rollouts& r : run.sample(prompts, requests, options, options_.sample_from, key, ends_)) append(out, r);
    return out;
  }

  token_scores score(const ragged<token>& prompts, const rollouts& r, double temperature) {
    return score_as("score", options_.compute, prompts, r, temperature);
  }
  /// The same in float32, from the masters.
  token_scores score_precisely(const ragged<token>& prompts, const rollouts& r, double temperature) {
    return score_as("score_precisely", scalar_type::float32, prompts, r, temperature);
  }

  void accumulate_score(const ragged<token>& prompts, const rollouts& r, std::span<const double> coefficients,
                        double temperature, vector& g) {
    require(coefficients.size() == r.tokens.size(), "cuda::decoder::accumulate_score: ", coefficients.size(),
            " coefficients for ", r.tokens.size(), " tokens");
    check_size("accumulate_score", g);
    for (std::size_t t = 0; t < coefficients.size(); ++t)
      require(std::isfinite(coefficients[t]), "cuda::decoder::accumulate_score: coefficient ", t, " is ",
              coefficients[t]);
    run_batches("accumulate_score", options_.compute, prompts, r, coefficients, temperature, g.data(), nullptr);
  }

  /// Whether weights and activations are bfloat16.
  bool rounds() const { return options_.compute == scalar_type::bfloat16; }
  /// What a step from the current parameters makes of all weights in the type that this policy computes with (norms
  /// and biases are floats even so). Reads parameters and direction once. Throws std::invalid_argument for a direction
  /// of another size.
  step_report survival(double alpha, const vector& direction) const {
    check_size("survival", direction);
    return space_.survival(theta_, alpha, direction, options_.compute);
  }

  /// Bytes: of parameters, gradient and weights, and of the last micro-batch and sampling run, refused ones too.
  const memory_plan& plan() const { return plan_; }

 private:
  decoder(std::shared_ptr<device> where, rlvr::decoder::config config, decoder_options options)
      : config_(std::move(config)),
        options_(options),
        shape_(config_),
        space_(std::move(where), rlvr::decoder::layout(config_)),
        memory_(space_.where(), workspace_memory::lent),
        control_(space_.where()),
        results_(space_.where()),
        ends_(config_.vocab_size, 0) {
    options_.sample_from.top_k = std::min(options_.sample_from.top_k, static_cast<std::uint32_t>(config_.vocab_size));
    require(options.logit_rows > 0, "cuda::decoder: logit_rows is 0");
    require(options.sample_from.top_p > 0 && options.sample_from.top_p <= 1, "cuda::decoder: top_p is ",
            options.sample_from.top_p);
    for (const token t : config_.eos) ends_[static_cast<std::size_t>(t)] = 1;
    plan_.parameters = plan_.gradient = space_.dimension() * sizeof(float);
    plan_.weights = rounds() ? space_.dimension() * sizeof(bfloat16) : 0;
    try {
      theta_ = vector(space_.where(), space_.dimension());
      if (rounds()) weights_ = buffer(space_.where(), plan_.weights);
    } catch (const out_of_memory&) {
      theta_ = {};  // and its bytes are free
      throw out_of_memory(concat("a decoder of ", plan_.parameters, " bytes of parameters and ", plan_.weights,
                                 " of weights, to be trained with ", plan_.gradient, " more of gradient,"),
                          plan_.parameters + plan_.weights, space_.where()->free_bytes());
    }
  }

  /// theta_ and weights_ <- theta + alpha d in one pass.
  void refresh(const float* theta, double alpha, const float* d) {
    space_.where()->step(theta, alpha, d, theta_.data(), static_cast<bfloat16*>(weights_.data()), space_.dimension());
  }
  network layers(scalar_type compute) {
    const bool rounded = compute == scalar_type::bfloat16;
    const operand weights{rounded ? weights_.data() : theta_.data(), compute};
    return network(*space_.where(), shape_, theta_.data(), weights, rope_.tables());
  }
  /// Bytes for a workspace, or out_of_memory that says for what, and beside what.
  void grab(workspace& to, const char* where, const std::string& what, std::size_t bytes) {
    try {
      to.reserve(bytes);
    } catch (const out_of_memory&) {
      throw out_of_memory(
          concat(where, " of ", what, ", beside ", plan_.parameters, " bytes of parameters, ", plan_.weights,
                 " of weights, ", plan_.gradient, " of each gradient and ", plan_.lists, " of lists,"),
          bytes, space_.where()->free_bytes());
    }
  }
  void reserve_lists(const char* where, std::size_t lists, std::size_t results) {
    grab(control_, where, "index lists", lists);
    grab(results_, where, "results", results);
    plan_.lists = control_.bytes() + results_.bytes();
  }

  std::size_t free_for_work() { return usable(space_.where()->free_bytes() + kept_bytes(*space_.where())); }

  /// Makes room for `size`. When what seemed free is refused all the same (memory is in pieces), tries less(size), and
  /// so on while that needs less. Returns what there is room for; throws out_of_memory. plan(size) makes it the plan
  /// and names it.
  template <class Size, class Plan, class Bytes, class Less>
  Size reserve(const char* where, Size size, Plan plan, Bytes bytes, Less less) {
    for (;;) {
      try {
        grab(memory_, where, plan(size), bytes(size));
        return size;
      } catch (const out_of_memory&) {
        const Size next = less(size);
        if (bytes(next) >= bytes(size)) throw;
        size = next;
      }
    }
  }

  /// Where micro-batches of at most so many rows begin and end, and the most rows and completion tokens of one.
  struct cut_batches {
    std::vector<std::size_t> begin{0};
    std::size_t rows = 0, tokens = 0;

    cut_batches(const ragged<token>& prompts, const rollouts& r, std::span<const std::size_t> active,
                std::size_t most) {
      std::size_t own_rows = 0, own_tokens = 0;
      for (std::size_t k = 0; k < active.size(); ++k) {
        const std::size_t prompt = r.prompts[active[k]], length = r.length(active[k]);
        const bool shared = k > begin.back() && r.prompts[active[k - 1]] == prompt;
        if (own_rows > 0 && own_rows + length - 1 + (shared ? 0 : prompts[prompt].size()) > most) {
          begin.push_back(k);
          own_rows = own_tokens = 0;
        }
        own_rows += length - 1 + (shared && own_rows > 0 ? 0 : prompts[prompt].size());
        own_tokens += length;
        rows = std::max(rows, own_rows);
        tokens = std::max(tokens, own_tokens);
      }
      begin.push_back(active.size());
    }
  };

  token_scores score_as(const char* where, scalar_type compute, const ragged<token>& prompts, const rollouts& r,
                        double temperature) {
    token_scores out{std::vector<double>(r.tokens.size()), std::vector<double>(r.tokens.size())};
    run_batches(where, compute, prompts, r, {}, temperature, nullptr, &out);
    return out;
  }
  void run_batches(const char* where, scalar_type compute, const ragged<token>& prompts, const rollouts& r,
                   std::span<const double> coefficients, double temperature, float* g, token_scores* scores) {
    const std::vector<std::size_t> active = choose(where, prompts, r, coefficients, temperature);
    if (active.empty()) return;
    decoder_options options = options_;
    options.compute = compute;
    const pass what = g ? pass::gradient : pass::score;
    std::size_t longest = 0, all = 0;
    for (std::size_t k = 0; k < active.size(); ++k) {
      const std::size_t prompt = r.prompts[active[k]], own = r.length(active[k]) - 1;
      longest = std::max(longest, prompts[prompt].size() + own);
      all += own + (k > 0 && r.prompts[active[k - 1]] == prompt ? 0 : prompts[prompt].size());
    }
    const std::size_t most = most_micro_batch_rows(options, longest, all);
    const auto cut = [&](std::size_t at_most) {
      cut_batches out(prompts, r, active, at_most);
      reserve_lists(where, packing::most_bytes(out.rows, out.tokens), scoring_run::result_bytes(out.rows, out.tokens));
      return out;
    };
    (void)cut(most);  // lists before activations, which take what is free
    const micro_batch_size planned = fitting_micro_batch(shape_, most, longest, options, what, free_for_work());
    const auto bytes = [&](const micro_batch_size& some) {
      return micro_batch_bytes(shape_, std::max(some.rows, longest), options, what, some.kept_layers);
    };
    plan_.planned_rows = std::max(longest, planned.rows);
    const auto plan = [&](const micro_batch_size& some) {
      plan_.rows = std::max(longest, some.rows);
      plan_.kept_layers = some.kept_layers;
      plan_.micro_batch = bytes(some);
      return concat(plan_.rows, " rows");
    };
    (void)reserve(where, planned, plan, bytes,
                  [&](const micro_batch_size& some) { return after_refusal(some, planned.rows, options); });
    const cut_batches batches = cut(plan_.rows);
    grab(memory_, where, concat(plan_.rows, " rows"), plan_.micro_batch);  // again, where longer lists took its room
    arena parts(memory_.reserve(plan_.micro_batch));
    const std::size_t logit_rows = std::min(plan_.rows, options.logit_rows);
    batch_memory memory(shape_, plan_.rows, logit_rows, options.compute, what, parts, plan_.kept_layers);

    const network net = layers(options.compute);
    scoring_run run(*space_.where(), net, {1.0 / temperature, options.sample_from, logit_rows, g}, memory, control_,
                    results_);
    const auto members = [&](std::size_t k) {
      return std::span(active).subspan(batches.begin[k], batches.begin[k + 1] - batches.begin[k]);
    };
    const auto pack = [&](std::size_t k) {
      return packing(prompts, r, coefficients, members(k), space_.where()->tiles(options.compute, shape_.head_dim));
    };
    packing now = pack(0);
    for (std::size_t k = 0; k + 1 < batches.begin.size(); ++k) {
      run.start(now);
      packing next = k + 2 < batches.begin.size() ? pack(k + 1) : packing{};  // while the device works
      if (scores) run.collect(now, r, members(k), *scores);
      now = std::move(next);
    }
    space_.where()->synchronize();  // a failure is told here
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
