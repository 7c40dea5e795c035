/// The law suites hold on the policies here, and each catches a model that breaks its law.

#include <cmath>
#include <limits>
#include <stdexcept>
#include <string>
#include <utility>

#include <rlvr/backend/tabular/policy.hpp>
#include <rlvr/core/slice.hpp>
#include <rlvr/core/validate.hpp>
#include <rlvr/laws/differentiable.hpp>
#include <rlvr/laws/inversion.hpp>
#include <rlvr/laws/policy.hpp>
#include <rlvr/laws/sampler.hpp>
#include <rlvr/laws/vector_space.hpp>

#include "archetypes.hpp"
#include "catch.hpp"

using namespace rlvr;

namespace {

std::string joined(const laws::violations& broken) {
  std::string out;
  for (const std::string& law : broken) out += law + "\n";
  return out;
}

/// Some law whose sentence contains `law` was found broken.
bool caught(const laws::violations& broken, const std::string& law) {
  return joined(broken).find(law) != std::string::npos;
}

void host_fill(std::vector<double>& v, std::size_t index) {
  for (std::size_t i = 0; i < v.size(); ++i) v[i] = 2 * random_key(50 + index).uniform(i) - 1;
}

/// The world of the policy laws: 3 prompts of 5 completions.
struct world {
  std::vector<double> logits{0.1, 0.9, -1.0, 0.4, 0.0, 1.5, -0.2, 0.3, 0.3, -2.0, 0.7, 0.0, -0.6, 1.1, 0.2};
  std::size_t completions = 5;
  ragged<token> prompts = tabular::policy(logits, completions).prompts();
  std::vector<sample_request> requests{{2, 40, 0}, {0, 1, 7}, {1, 60, 3}, {0, 80, 100}};
  sampling_options sampling{.temperature = 0.8};
  random_key key{77};
  rollouts r = tabular::policy(logits, completions).sample(prompts, requests, sampling, key);
  rollouts few = slice(r, 36, 48);
};

template <class P>
laws::violations sampler_violations(P policy) {
  const world w;
  return laws::sampler_laws(policy, w.prompts, w.requests, w.sampling, w.key);
}
template <class P>
laws::violations scorer_violations(P policy) {
  const world w;
  return laws::scorer_laws(policy, w.prompts, w.r, w.sampling.temperature);
}
template <class P>
laws::violations gradient_violations(P policy) {
  const world w;
  return laws::differentiable_laws(policy, w.prompts, w.few, w.sampling.temperature);
}
template <class P>
P make() {
  const world w;
  return P(w.logits, w.completions);
}

}  // namespace

TEST_CASE("laws hold on the tabular space and policy", "[laws]") {
  const tabular::space space({{"a", {2, 3}, 0}, {"b", {}, 6}, {"c", {5}, 7}});
  CHECK(joined(laws::vector_space_laws(space, host_fill)) == "");
  CHECK(joined(laws::elementwise_laws(space, host_fill)) == "");
  CHECK(joined(laws::tensor_layout_laws(space)) == "");

  tabular::policy policy = make<tabular::policy>();
  CHECK(joined(laws::vector_space_laws(policy.space(), host_fill)) == "");
  CHECK(joined(laws::tensor_layout_laws(policy.space())) == "");
  CHECK(joined(laws::parameterised_laws(policy, host_fill)) == "");
  CHECK(joined(sampler_violations(policy)) == "");
  CHECK(joined(scorer_violations(policy)) == "");
  CHECK(joined(gradient_violations(policy)) == "");
}

TEST_CASE("laws run on the archetypes, with test vectors made of gradients", "[laws][concepts]") {
  const world w;
  archetype::policy policy(w.logits, w.completions);
  const auto fill = laws::score_fill(policy, w.prompts, w.few);
  CHECK(joined(laws::vector_space_laws(policy.space(), fill)) == "");
  CHECK(joined(laws::parameterised_laws(policy, fill)) == "");
  CHECK(joined(laws::sampler_laws(policy, w.prompts, w.requests, w.sampling, w.key)) == "");
  CHECK(joined(laws::scorer_laws(policy, w.prompts, w.r, w.sampling.temperature)) == "");
  CHECK(joined(laws::differentiable_laws(policy, w.prompts, w.few, w.sampling.temperature)) == "");
}

TEST_CASE("slice cuts rollouts", "[laws]") {
  world w;
  w.r.verdicts.assign(w.r.size(), verdict{1, true});
  rollouts again = slice(w.r, 0, 50);
  append(again, slice(w.r, 50, w.r.size()));
  CHECK(again.offsets == w.r.offsets);
  CHECK(again.tokens == w.r.tokens);
  CHECK(again.log_probs == w.r.log_probs);
  CHECK(again.verdicts == w.r.verdicts);
  CHECK_NOTHROW(validate(slice(w.r, 3, 9), 3));
}

// Broken spaces
// ------------------------------------------------------------------------------------------------

namespace {

using vec = std::vector<double>;

struct sound_space {
  using vector = vec;
  std::size_t dimension() const { return 12; }
  vec zero() const { return vec(12, 0.0); }
  void assign(vec& y, const vec& x) const { y = x; }
  void scale(double a, vec& y) const { tabular::space(12).scale(a, y); }
  void axpy(double a, const vec& x, vec& y) const { tabular::space(12).axpy(a, x, y); }
  double dot(const vec& x, const vec& y) const { return tabular::space(12).dot(x, y); }
  void map(auto f, vec& y, const auto&... x) const { tabular::space(12).map(f, y, x...); }
};

struct axpy_subtracts : sound_space {
  void axpy(double a, const vec& x, vec& y) const { sound_space::axpy(-a, x, y); }
};
struct axpy_overwrites : sound_space {
  void axpy(double a, const vec& x, vec& y) const {
    y = x;
    scale(a, y);
  }
};
struct axpy_forgets_a : sound_space {
  void axpy(double, const vec& x, vec& y) const { sound_space::axpy(1, x, y); }
};
struct axpy_scales_y : sound_space {
  void axpy(double a, const vec& x, vec& y) const {
    scale(a, y);
    sound_space::axpy(1, x, y);
  }
};
struct axpy_writes_x : sound_space {
  void axpy(double a, const vec& x, vec& y) const {
    sound_space::axpy(a, x, y);
    const_cast<vec&>(x)[0] = 0;
  }
};
struct axpy_leaves_the_tail : sound_space {
  void axpy(double a, const vec& x, vec& y) const {
    for (std::size_t i = 0; i + 1 < y.size(); ++i) y[i] += a * x[i];
  }
};
struct axpy_rounds : sound_space {
  void axpy(double a, const vec& x, vec& y) const {
    for (std::size_t i = 0; i < y.size(); ++i) y[i] = static_cast<float>(y[i] + a * x[i]);
  }
};
struct scale_assigns : sound_space {
  void scale(double a, vec& y) const { y.assign(12, a); }
};
struct scale_by_square : sound_space {
  void scale(double a, vec& y) const { sound_space::scale(a * a, y); }
};
struct assign_adds : sound_space {
  void assign(vec& y, const vec& x) const { sound_space::axpy(1, x, y); }
};
struct assign_nothing : sound_space {
  void assign(vec&, const vec&) const {}
};
struct dot_is_zero : sound_space {
  double dot(const vec&, const vec&) const { return 0; }
};
struct dot_is_not_symmetric : sound_space {
  double dot(const vec& x, const vec& y) const {
    return sound_space::dot(x, y) + 0.1 * (x[0] * y[1] - x[1] * y[0]);
  }
};
struct dot_of_first_coordinate : sound_space {
  double dot(const vec& x, const vec& y) const { return x[0] * y[0]; }
};
struct dot_wavers : sound_space {
  double dot(const vec& x, const vec& y) const { return sound_space::dot(x, y) * (1 + 1e-15 * ++calls); }
  mutable int calls = 0;
};
struct zero_is_one : sound_space {
  vec zero() const { return vec(12, 1.0); }
};
struct zero_is_dirty : sound_space {
  vec zero() const { return vec(12, ++calls > 5 ? 1e-3 : 0.0); }
  mutable int calls = 0;
};
struct no_dimension : sound_space {
  std::size_t dimension() const { return 0; }
};
struct map_misses_one : sound_space {
  void map(auto f, vec& y, const auto&... x) const {
    for (std::size_t i = 1; i < y.size(); ++i) y[i] = f(y[i], x[i]...);
  }
};
struct map_swaps_arguments : sound_space {
  void map(auto f, vec& y, const vec& x) const {
    for (std::size_t i = 0; i < y.size(); ++i) y[i] = f(x[i], x[i]);
  }
};

struct gaps : sound_space {
  std::vector<tensor_slot> slots;
  std::span<const tensor_slot> tensors() const { return slots; }
};

template <class S>
laws::violations space_violations() {
  return laws::vector_space_laws(S{}, host_fill);
}

}  // namespace

TEST_CASE("vector_space_laws catch broken spaces", "[laws]") {
  CHECK(joined(space_violations<sound_space>()) == "");
  CHECK(caught(space_violations<axpy_subtracts>(), "axpy: <y + a x, z>"));
  CHECK(caught(space_violations<axpy_overwrites>(), "axpy: <y + a x, z>"));
  CHECK(caught(space_violations<axpy_forgets_a>(), "axpy: <y + a x, z>"));
  CHECK(caught(space_violations<axpy_scales_y>(), "axpy: <y + a x, z>"));
  CHECK(caught(space_violations<axpy_writes_x>(), "axpy: leaves x alone"));
  CHECK(caught(space_violations<axpy_leaves_the_tail>(), "axpy: |y + a x|^2"));
  CHECK(caught(space_violations<axpy_rounds>(), "axpy: <y + a x, z>"));
  CHECK(caught(space_violations<scale_assigns>(), "scale: <a x, z>"));
  CHECK(caught(space_violations<scale_by_square>(), "scale: <a x, z>"));
  CHECK(caught(space_violations<assign_adds>(), "assign: y <- x overwrites"));
  CHECK(caught(space_violations<assign_nothing>(), "assign: y <- x overwrites"));
  CHECK(caught(space_violations<dot_is_zero>(), "dot: <v, v> > 0"));
  CHECK(caught(space_violations<dot_is_not_symmetric>(), "dot: <y, x> = <x, y>"));
  CHECK(caught(space_violations<dot_of_first_coordinate>(), "dot: Cauchy-Schwarz"));
  CHECK(caught(space_violations<dot_wavers>(), "dot: the same bits"));
  CHECK(caught(space_violations<zero_is_one>(), "zero: <0, 0> = 0"));
  CHECK(caught(space_violations<zero_is_dirty>(), "zero: a fresh vector is zero"));
  CHECK(caught(space_violations<no_dimension>(), "dimension"));
  // Rounding that float spaces are allowed is accepted when asked for.
  CHECK(joined(laws::vector_space_laws(axpy_rounds{},
                                       [](vec& v, std::size_t index) {
                                         host_fill(v, index);
                                         for (double& x : v) x = static_cast<float>(x);
                                       },
                                       {.tolerance = 1e-6})) == "");
}

TEST_CASE("elementwise_laws and tensor_layout_laws catch broken spaces", "[laws]") {
  CHECK(joined(laws::elementwise_laws(sound_space{}, host_fill)) == "");
  CHECK(caught(laws::elementwise_laws(map_misses_one{}, host_fill), "map: reaches each"));
  CHECK(caught(laws::elementwise_laws(map_swaps_arguments{}, host_fill), "map: y_i + x_i"));

  const auto layout = [](std::vector<tensor_slot> slots) {
    return laws::tensor_layout_laws(gaps{{}, std::move(slots)});
  };
  CHECK(joined(layout({{"a", {3}, 0}, {"b", {3, 3}, 3}})) == "");
  CHECK(caught(layout({{"a", {3}, 0}, {"b", {8}, 4}}), "b begins at 4"));
  CHECK(caught(layout({{"a", {3}, 0}, {"b", {10}, 2}}), "b begins at 2"));
  CHECK(caught(layout({{"a", {3}, 0}, {"b", {8}, 3}}), "end at 11"));
  CHECK(caught(layout({{"a", {3}, 0}, {"a", {9}, 3}}), "two are named a"));
  CHECK(caught(layout({{"", {12}, 0}}), "has no name"));
}

// Broken policies
// ----------------------------------------------------------------------------------------------

namespace {

/// The arguments of a call of sample, to be tampered with.
struct sample_call {
  const tabular::policy& policy;
  const ragged<token>& prompts;
  std::vector<sample_request> requests;
  sampling_options options;
  random_key key;
  rollouts sample() const { return policy.sample(prompts, requests, options, key); }
};

struct changed_sampler : tabular::policy {
  using change = rollouts (*)(sample_call);
  explicit changed_sampler(change function) : tabular::policy(make<tabular::policy>()), f(function) {}
  rollouts sample(const ragged<token>& prompts, std::span<const sample_request> requests,
                  const sampling_options& options, random_key key) const {
    return f({*this, prompts, {requests.begin(), requests.end()}, options, key});
  }
  change f;
};

rollouts log_probs_at_temperature_one(sample_call c) {
  rollouts out = c.sample();
  const token_scores scores = c.policy.score(c.prompts, out, 1.0);
  out.log_probs = scores.log_probs;
  out.entropies = scores.entropies;
  return out;
}

struct scores_at_temperature_one : tabular::policy {
  using tabular::policy::policy;
  token_scores score(const ragged<token>& prompts, const rollouts& r, double) const {
    return tabular::policy::score(prompts, r, 1.0);
  }
};
struct scores_depend_on_the_batch : tabular::policy {
  using tabular::policy::policy;
  token_scores score(const ragged<token>& prompts, const rollouts& r, double temperature) const {
    token_scores s = tabular::policy::score(prompts, r, temperature);
    if (r.size() == 1) s.log_probs[0] -= 1e-6;
    return s;
  }
};
struct scores_without_entropies : tabular::policy {
  using tabular::policy::policy;
  token_scores score(const ragged<token>& prompts, const rollouts& r, double temperature) const {
    return {tabular::policy::score(prompts, r, temperature).log_probs, {}};
  }
};

}  // namespace

TEST_CASE("sampler_laws catch broken samplers", "[laws]") {
  const auto broken = [](changed_sampler::change f, const std::string& law) {
    const laws::violations found = sampler_violations(changed_sampler(f));
    INFO(joined(found));
    CHECK(caught(found, law));
  };
  CHECK(joined(sampler_violations(changed_sampler([](sample_call c) { return c.sample(); }))) == "");
  // Draws.
  broken([](sample_call c) { return c.key = c.key.fold(c.requests.size()), c.sample(); },
         "pure: a request alone");
  broken(
      [](sample_call c) {
        static std::uint64_t calls = 0;
        return c.key = c.key.fold(++calls), c.sample();
      },
      "pure: the same arguments again");
  broken(
      [](sample_call c) {
        if (c.requests.front().prompt == 0) c.key = c.key.fold(1);
        return c.sample();
      },
      "pure: requests in reverse order");
  broken(
      [](sample_call c) {
        for (sample_request& r : c.requests) r.first = 0;
        return c.sample();
      },
      "first: a request cut in two");
  broken([](sample_call c) { return c.key = random_key(0), c.sample(); }, "key: another key");
  broken(
      [](sample_call c) {
        rollouts out;
        for (const sample_request& r : c.requests)
          for (std::uint32_t i = 0; i < r.count; ++i) {
            const sample_request one{r.prompt, 1, 0};
            append(out, c.policy.sample(c.prompts, {&one, 1}, c.options, c.key));
          }
        return out;
      },
      "rollout: rollouts of one prompt");
  // Log-probabilities.
  broken(
      [](sample_call c) {
        const double temperature = std::exchange(c.options.temperature, 0.05);
        rollouts out = c.sample();
        const token_scores scores = c.policy.score(c.prompts, out, temperature);
        out.log_probs = scores.log_probs;
        out.entropies = scores.entropies;
        return out;
      },
      "log_probs: surprise and entropy differ");
  broken(
      [](sample_call c) {
        rollouts out = c.sample();
        for (double& l : out.log_probs) l = std::exp(l);
        return out;
      },
      "log_probs: token 0");
  // Shapes.
  broken(
      [](sample_call c) {
        const rollouts out = c.sample();
        return slice(out, 0, out.size() - 1);
      },
      "shapes:");
  broken(
      [](sample_call c) {
        c.requests.push_back({0, 1, 0});
        return c.sample();
      },
      "shapes: 182 rollouts, asked for 181");
  broken(
      [](sample_call c) {
        c.requests = {c.requests.rbegin(), c.requests.rend()};
        return c.sample();
      },
      "shapes: rollout 0 does not belong to prompt 2");
  broken(
      [](sample_call c) {
        rollouts out = c.sample();
        out.verdicts.resize(out.size());
        return out;
      },
      "shapes: a sampler gives no verdicts");
  broken(
      [](sample_call c) {
        rollouts out = c.sample();
        out.entropies.clear();
        return out;
      },
      "shapes: rollouts: 0 entropies");
  broken(
      [](sample_call c) {
        rollouts out = c.sample();
        if (out.size() > 1) out.offsets[1] = 0;  // the first rollout has no token, the second has two
        return out;
      },
      "shapes: rollout 0 has 0 tokens");
  // Errors.
  broken(
      [](sample_call c) {
        if (!(c.options.temperature > 0) || std::isinf(c.options.temperature)) c.options.temperature = 1;
        return c.sample();
      },
      "errors: a temperature");
  broken(
      [](sample_call c) {
        if (c.options.max_tokens == 0) c.options.max_tokens = 1;
        return c.sample();
      },
      "errors: max_tokens 0");
  broken(
      [](sample_call c) {
        if (c.options.max_tokens == 0) throw std::runtime_error("what?");
        return c.sample();
      },
      "errors: max_tokens 0: expected std::invalid_argument, got another");
  broken(
      [](sample_call c) {
        for (sample_request& r : c.requests) r.prompt = r.prompt < c.prompts.size() ? r.prompt : 0;
        return c.sample();
      },
      "errors: a prompt index out of range");
  broken([](sample_call c) { return c.prompts[0].empty() ? rollouts{} : c.sample(); },
         "errors: an empty prompt");
  broken([](sample_call c) { return !c.prompts[0].empty() && c.prompts[0][0] < 0 ? rollouts{} : c.sample(); },
         "errors: a token outside the vocabulary");
}

TEST_CASE("sampler_laws: a wrong temperature in the log-probs shows with enough rollouts", "[laws]") {
  const world w;
  changed_sampler policy(log_probs_at_temperature_one);
  const std::vector<sample_request> many{{0, 3000, 0}, {1, 3000, 0}};
  CHECK(caught(laws::sampler_laws(policy, w.prompts, many, w.sampling, w.key),
               "log_probs: surprise and entropy differ"));
  auto sound = make<tabular::policy>();
  CHECK(joined(laws::sampler_laws(sound, w.prompts, many, w.sampling, w.key)) == "");
}

/// Draws letters that do not depend on each other; or, with one random number for all of a rollout, do. The last two
/// numbers are as random as those they should be.
struct letters {
  enum class numbers { one_each, one_for_all, rollout_and_position_swapped, position_from_one } use;
  enum class ends { never, at_the_rare_letter, never_said, always_said } end = ends::never;

  double number(random_key key, std::uint32_t prompt, std::uint32_t r, std::uint32_t t) const {
    switch (use) {
      case numbers::one_for_all: return key.uniform(prompt, r, 0);
      case numbers::rollout_and_position_swapped: return key.uniform(prompt, t, r);
      case numbers::position_from_one: return key.uniform(prompt, r, t + 1);
      default: return key.uniform(prompt, r, t);
    }
  }
  rollouts sample(const ragged<token>& prompts, std::span<const sample_request> requests,
                  const sampling_options& options, random_key key) const {
    require(options.max_tokens > 0 && options.temperature > 0 && is_finite(options.temperature), "letters: options");
    rollouts out;
    for (const auto& [prompt, count, first] : requests)
      for (std::uint32_t r = first; r < first + count; ++r) {
        require(prompt < prompts.size() && !prompts[prompt].empty() && prompts[prompt][0] >= 0 &&
                    prompts[prompt][0] < 2,
                "letters: prompt ", prompt);
        std::uint8_t ended = 0;
        for (std::uint32_t t = 0; t < options.max_tokens && !ended; ++t) {
          const bool rare = number(key, prompt, r, t) >= 0.75;
          ended = rare && end != ends::never;
          out.tokens.push_back(rare);
          out.log_probs.push_back(std::log(rare ? 0.25 : 0.75));
          out.entropies.push_back(-0.25 * std::log(0.25) - 0.75 * std::log(0.75));
        }
        out.offsets.push_back(out.tokens.size());
        out.prompts.push_back(prompt);
        out.finished.push_back(end == ends::never_said ? 0 : end == ends::always_said ? 1 : ended);
      }
    return out;
  }
};

TEST_CASE("sampler_laws: numbers of other places, and wrong flags, show", "[laws]") {
  ragged<token> prompts;
  prompts.push_back(std::vector<token>{0});
  const std::vector<sample_request> requests{{0, 100, 0}};
  const sampling_options sampling{.max_tokens = 6};
  const auto found = [&](letters policy) {
    return laws::sampler_laws(policy, prompts, requests, sampling, random_key(1));
  };
  using numbers = letters::numbers;
  using ends = letters::ends;
  CHECK(joined(found({numbers::one_each})) == "");
  CHECK(caught(found({numbers::one_for_all}), "not drawn independently"));
  for (ends e : {ends::never, ends::at_the_rare_letter}) {
    CHECK(joined(found({numbers::one_each, e})) == "");
    CHECK(caught(found({numbers::rollout_and_position_swapped, e}), "inversion: rollouts"));
    CHECK(caught(found({numbers::position_from_one, e}), "inversion: rollouts"));
  }
  CHECK(caught(found({numbers::one_each, ends::never_said}), "finished: is 0 for rollout"));
  CHECK(caught(found({numbers::one_each, ends::always_said}), "those cut have finished = 0"));
}

TEST_CASE("scorer_laws catch broken scorers", "[laws]") {
  CHECK(caught(scorer_violations(make<scores_at_temperature_one>()), "score: equals the sampler's"));
  CHECK(caught(scorer_violations(make<scores_depend_on_the_batch>()), "score: a rollout alone"));
  CHECK(caught(scorer_violations(make<scores_without_entropies>()), "0 entropies"));
}

// Broken gradients
// ---------------------------------------------------------------------------------------------

namespace {

using coefficients_t = std::span<const double>;

struct overwrites : tabular::policy {
  using tabular::policy::policy;
  void accumulate_score(const ragged<token>& prompts, const rollouts& r, coefficients_t c, double t,
                        vec& g) const {
    vec fresh = space().zero();
    tabular::policy::accumulate_score(prompts, r, c, t, fresh);
    g = fresh;
  }
};
struct takes_the_mean : tabular::policy {
  using tabular::policy::policy;
  void accumulate_score(const ragged<token>& prompts, const rollouts& r, coefficients_t c, double t,
                        vec& g) const {
    vec scaled(c.begin(), c.end());
    for (double& x : scaled) x /= static_cast<double>(r.size());
    tabular::policy::accumulate_score(prompts, r, scaled, t, g);
  }
};
struct descends : tabular::policy {
  using tabular::policy::policy;
  void accumulate_score(const ragged<token>& prompts, const rollouts& r, coefficients_t c, double t,
                        vec& g) const {
    vec negated(c.begin(), c.end());
    for (double& x : negated) x = -x;
    tabular::policy::accumulate_score(prompts, r, negated, t, g);
  }
};
struct gradient_at_temperature_one : tabular::policy {
  using tabular::policy::policy;
  void accumulate_score(const ragged<token>& prompts, const rollouts& r, coefficients_t c, double,
                        vec& g) const {
    tabular::policy::accumulate_score(prompts, r, c, 1.0, g);
  }
};
struct decays : tabular::policy {
  using tabular::policy::policy;
  void accumulate_score(const ragged<token>& prompts, const rollouts& r, coefficients_t c, double t,
                        vec& g) const {
    tabular::policy::accumulate_score(prompts, r, c, t, g);
    for (std::size_t i = 0; i < g.size(); ++i) g[i] -= 1e-4 * parameters()[i];
  }
};
struct clips_coefficients : tabular::policy {
  using tabular::policy::policy;
  void accumulate_score(const ragged<token>& prompts, const rollouts& r, coefficients_t c, double t,
                        vec& g) const {
    vec clipped(c.begin(), c.end());
    for (double& x : clipped)
      if (x > 1) x = 1;
    tabular::policy::accumulate_score(prompts, r, clipped, t, g);
  }
};
struct steps_while_at_it : tabular::policy {
  using tabular::policy::policy;
  void accumulate_score(const ragged<token>& prompts, const rollouts& r, coefficients_t c, double t, vec& g) {
    tabular::policy::accumulate_score(prompts, r, c, t, g);
    vec theta = parameters();
    theta[0] += 1e-12;
    assign(theta);
  }
};
struct checks_too_late : tabular::policy {
  using tabular::policy::policy;
  void accumulate_score(const ragged<token>& prompts, const rollouts& r, coefficients_t c, double t,
                        vec& g) const {
    g[0] += 1;
    tabular::policy::accumulate_score(prompts, r, c, t, g);
    g[0] -= 1;
  }
};
struct does_not_check : tabular::policy {
  using tabular::policy::policy;
  void accumulate_score(const ragged<token>& prompts, const rollouts& r, coefficients_t c, double t,
                        vec& g) const {
    vec finite(c.begin(), c.end());
    finite.resize(r.tokens.size(), 0.0);
    for (double& x : finite)
      if (!std::isfinite(x)) x = 0;
    tabular::policy::accumulate_score(prompts, r, finite, t, g);
  }
};
struct believes_log_probs : tabular::policy {
  using tabular::policy::policy;
  void accumulate_score(const ragged<token>& prompts, const rollouts& r, coefficients_t c, double t,
                        vec& g) const {
    const vec now = score(prompts, r, t).log_probs;
    vec weighted(c.begin(), c.end());
    for (std::size_t i = 0; i < now.size() && i < c.size(); ++i) weighted[i] *= std::exp(now[i] - r.log_probs[i]);
    tabular::policy::accumulate_score(prompts, r, weighted, t, g);
  }
};
struct counts_rollouts : tabular::policy {
  using tabular::policy::policy;
  void accumulate_score(const ragged<token>& prompts, const rollouts& r, coefficients_t c, double t, vec& g) {
    ++calls;
    passed += r.size();
    tabular::policy::accumulate_score(prompts, r, c, t, g);
  }
  std::size_t calls = 0, passed = 0;
};
struct no_gradient : tabular::policy {
  using tabular::policy::policy;
  void accumulate_score(const ragged<token>&, const rollouts&, coefficients_t, double, vec&) const {}
};

struct assigns_opposite_steps : tabular::policy {
  using tabular::policy::policy;
  void assign(const vec& theta) { tabular::policy::assign(theta); }
  void assign(const vec& theta, double alpha, const vec& d) { tabular::policy::assign(theta, -alpha, d); }
};
struct steps_from_where_it_is : tabular::policy {
  using tabular::policy::policy;
  void assign(const vec& theta) { tabular::policy::assign(theta); }
  void assign(const vec&, double alpha, const vec& d) {
    const vec here = parameters();
    tabular::policy::assign(here, alpha, d);
  }
};
struct assigns_in_float : tabular::policy {
  using tabular::policy::policy;
  void assign(vec theta) {
    for (double& x : theta) x = static_cast<float>(x);
    tabular::policy::assign(theta);
  }
  void assign(const vec& theta, double alpha, const vec& d) { tabular::policy::assign(theta, alpha, d); }
};

template <class P>
laws::violations parameter_violations() {
  P policy = make<P>();
  return laws::parameterised_laws(policy, host_fill);
}

}  // namespace

TEST_CASE("differentiable_laws catch broken gradients", "[laws]") {
  const auto broken = [](auto policy, const std::string& law) {
    const laws::violations found = gradient_violations(policy);
    INFO(joined(found));
    CHECK(caught(found, law));
  };
  broken(make<overwrites>(), "accumulate: adds to g");
  broken(make<overwrites>(), "accumulate: calling twice gives 2 g");
  broken(make<takes_the_mean>(), "sum: batch cut before rollout 1:");
  broken(make<takes_the_mean>(), "zero coefficients: rollouts from 1 on masked");
  broken(make<descends>(), "gradient: finite difference");
  broken(make<gradient_at_temperature_one>(), "gradient: finite difference");
  broken(make<decays>(), "zero coefficients: contribute exactly nothing");
  broken(make<clips_coefficients>(), "linear:");
  broken(make<steps_while_at_it>(), "parameters: accumulate_score leaves them alone");
  broken(make<checks_too_late>(), "errors: a coefficient too many: leaves g as it is");
  broken(make<does_not_check>(), "errors: a coefficient too few: expected std::invalid_argument");
  broken(make<does_not_check>(), "errors: a coefficient that is not finite");
  broken(make<no_gradient>(), "gradient: is not zero");
  broken(make<believes_log_probs>(), "rollouts: other log-probs");
}

TEST_CASE("differentiable_laws: one mistake is one or two sentences, and many rollouts cost few passes", "[laws]") {
  world w;
  const sample_request many{0, 320, 0};
  w.few = make<tabular::policy>().sample(w.prompts, {&many, 1}, w.sampling, w.key);
  auto mean = make<takes_the_mean>();
  const laws::violations found = laws::differentiable_laws(mean, w.prompts, w.few);
  INFO(joined(found));
  CHECK(caught(found, "sum: batch cut before rollout "));
  CHECK(found.size() <= 5);

  auto counting = make<counts_rollouts>();
  CHECK(joined(laws::differentiable_laws(counting, w.prompts, w.few)) == "");
  INFO(counting.calls << " calls, " << counting.passed << " rollouts");
  CHECK(counting.calls < 320 + 80);
  CHECK(counting.passed < 60 * 320);
}

TEST_CASE("parameterised_laws catch broken assignment", "[laws]") {
  CHECK(caught(parameter_violations<assigns_opposite_steps>(), "theta + alpha direction"));
  CHECK(caught(parameter_violations<steps_from_where_it_is>(), "theta + alpha direction"));
  CHECK(caught(parameter_violations<assigns_in_float>(), "parameters <- theta, bit for bit"));
  CHECK(caught(parameter_violations<assigns_in_float>(), "assign: alpha = 0") == false);
}

// Policies whose parts do not go together
// ----------------------------------------------------------------------------------------------

namespace {

/// Logits theta[i, k] + bias[k], by three copies of a tabular policy: one each to sample, score and differentiate with.
class biased {
 public:
  enum class fault {
    none,
    no_bias_gradient,
    no_row_gradient,
    one_coordinate_missing,
    assign_leaves_scorer,
    step_leaves_scorer,
    sampler_stays,
    sampler_misses_steps,
    gradient_stays,
    gradient_misses_assignment,
    gradient_misses_steps,
    scorer_throws,
    scorer_forgets_tokens
  };

  explicit biased(fault broken, double bias = 0.3) : broken_(broken), theta_(world().logits) {
    for (int k = 1; k <= 5; ++k) theta_.push_back(bias * k);
    refresh(true, true, true);
  }

  const tabular::space& space() const { return space_; }
  const vec& parameters() const { return theta_; }
  void assign(const vec& theta) {
    theta_ = theta;
    refresh(broken_ != fault::sampler_stays, broken_ != fault::assign_leaves_scorer,
            broken_ != fault::gradient_stays && broken_ != fault::gradient_misses_assignment);
  }
  void assign(const vec& theta, double alpha, const vec& d) {
    theta_ = theta;
    space_.axpy(alpha, d, theta_);
    refresh(broken_ != fault::sampler_stays && broken_ != fault::sampler_misses_steps,
            broken_ != fault::step_leaves_scorer,
            broken_ != fault::gradient_stays && broken_ != fault::gradient_misses_steps);
  }
  rollouts sample(const ragged<token>& prompts, std::span<const sample_request> requests,
                  const sampling_options& options, random_key key) const {
    return sampler_.sample(prompts, requests, options, key);
  }
  token_scores score(const ragged<token>& prompts, const rollouts& r, double temperature) const {
    if (broken_ == fault::scorer_throws) throw std::runtime_error("the device is lost");
    token_scores out = scorer_.score(prompts, r, temperature);
    if (broken_ == fault::scorer_forgets_tokens) out.log_probs.pop_back();
    return out;
  }
  void accumulate_score(const ragged<token>& prompts, const rollouts& r, coefficients_t c, double temperature,
                        vec& g) const {
    vec table = gradient_.space().zero();
    gradient_.accumulate_score(prompts, r, c, temperature, table);
    for (std::size_t i = 0; i < table.size(); ++i) {
      if (!(broken_ == fault::no_row_gradient && i / 5 == 1) && !(broken_ == fault::one_coordinate_missing && i == 7))
        g[i] += table[i];
      if (broken_ != fault::no_bias_gradient) g[15 + i % 5] += table[i];
    }
  }

 private:
  tabular::policy logits() const {
    vec out(theta_.begin(), theta_.begin() + 15);
    for (std::size_t i = 0; i < 15; ++i) out[i] += theta_[15 + i % 5];
    return {out, 5};
  }
  void refresh(bool sampler, bool scorer, bool gradient) {
    if (sampler) sampler_ = logits();
    if (scorer) scorer_ = logits();
    if (gradient) gradient_ = logits();
  }

  fault broken_;
  vec theta_;
  tabular::space space_{{{"table", {3, 5}, 0}, {"bias", {5}, 15}}};
  tabular::policy sampler_{vec(15), 5}, scorer_{sampler_}, gradient_{sampler_};
};

laws::violations policy_violations(auto&& policy) {
  const world w;
  return laws::policy_laws(policy, host_fill, w.prompts, w.requests, w.sampling, w.key);
}

}  // namespace

TEST_CASE("policy_laws hold on the tabular policy, the archetype and a policy of three copies", "[laws]") {
  const world w;
  CHECK(joined(policy_violations(make<tabular::policy>())) == "");
  CHECK(joined(policy_violations(biased(biased::fault::none))) == "");
  CHECK(joined(policy_violations(biased(biased::fault::none, 0))) == "");
  archetype::policy policy(w.logits, w.completions);
  const archetype::space space = policy.space();
  const auto fill = [&](archetype::vector& v, std::size_t index) {
    vec x(space.dimension());
    host_fill(x, index);
    v = space.from_host(std::move(x));
  };
  CHECK(joined(laws::policy_laws(policy, fill, w.prompts, w.requests, w.sampling, w.key)) == "");
}

TEST_CASE("policy_laws catch parts that do not follow assign, and a part that throws loses nothing", "[laws]") {
  using enum biased::fault;
  const auto broken = [](biased::fault f, const std::string& law) {
    const laws::violations found = policy_violations(biased(f));
    INFO(static_cast<int>(f) << ": " << joined(found));
    CHECK(caught(found, law));
  };
  broken(assign_leaves_scorer, "assign(theta): the scorer has the new parameters");
  broken(step_leaves_scorer, "assign(theta, alpha, d): the scorer has the new parameters");
  broken(sampler_stays, "assign(theta, alpha, d): the sampler has the scorer's parameters");
  broken(sampler_stays, "assign(theta): the sampler has the scorer's parameters");
  broken(sampler_misses_steps, "assign(theta, alpha, d): the sampler has the scorer's parameters");
  broken(gradient_stays, "along a step, after assign(theta, alpha, d)");
  broken(gradient_misses_steps, "along a step, after assign(theta, alpha, d)");
  broken(gradient_misses_assignment, "assign(theta): the gradient is at the new parameters");
  broken(scorer_throws, "scorer_laws: threw the device is lost");
  broken(scorer_forgets_tokens, "score: 180 log-probs and 181 entropies for 181 tokens");
  broken(scorer_forgets_tokens, "assignment_laws: threw score: 180 log-probs for 181 tokens");
  CHECK(policy_violations(biased(sampler_stays)).size() <= 4);
}

TEST_CASE("differentiable_laws see a tensor and a coordinate that the gradient leaves out", "[laws]") {
  using enum biased::fault;
  const world w;
  const auto with_fill = [&](biased policy) {
    return laws::differentiable_laws(policy, host_fill, w.prompts, w.few, w.sampling.temperature);
  };
  const auto without = [&](biased policy) {
    return laws::differentiable_laws(policy, w.prompts, w.few, w.sampling.temperature);
  };
  for (const double bias : {0.3, 0.0}) {
    CHECK(joined(with_fill(biased(none, bias))) == "");
    CHECK(joined(without(biased(none, bias))) == "");
    for (const auto f : {no_bias_gradient, no_row_gradient, one_coordinate_missing})
      CHECK(caught(with_fill(biased(f, bias)), "gradient: finite difference of the log-probs along test vector 0"));
    CHECK(caught(without(biased(no_row_gradient, bias)), "along test vector 0"));
    CHECK(caught(without(biased(one_coordinate_missing, bias)), "along test vector 0"));
    CHECK(caught(without(biased(no_bias_gradient, bias)), "along test vector 0") == (bias != 0));
  }
}

TEST_CASE("differentiable_laws take shorter steps where the policy bends, and say which", "[laws]") {
  // At this temperature a step of 0.01 is half a nat.
  const world w;
  auto sound = make<tabular::policy>();
  CHECK(joined(laws::differentiable_laws(sound, w.prompts, w.few, 0.02)) == "");
  auto scaled = make<descends>();
  CHECK_THAT(joined(laws::differentiable_laws(scaled, w.prompts, w.few, 0.02)),
             Catch::Contains(" with step ") && Catch::Contains("no step from 0.01 to 3.90625e-05 comes nearer"));
}

namespace {

/// Draws from the distribution that it reports with a share of another mixed in.
struct mixes : tabular::policy {
  using tabular::policy::policy;
  double share = 0.03, factor = 1;
  rollouts sample(const ragged<token>& prompts, std::span<const sample_request> requests,
                  const sampling_options& options, random_key key) const {
    rollouts out = tabular::policy::sample(prompts, requests, options, key);
    std::size_t i = 0;
    for (const sample_request& request : requests)
      for (std::uint32_t r = request.first; r < request.first + request.count; ++r, ++i) {
        const vec p = distribution(static_cast<std::size_t>(prompts[request.prompt][0]), options.temperature);
        double left = key.uniform(request.prompt, r);
        token y = 0;
        for (; y < 4 && left >= (1 - share) * p[static_cast<std::size_t>(y)] + share / 5; ++y)
          left -= (1 - share) * p[static_cast<std::size_t>(y)] + share / 5;
        out.tokens[i] = y;
        out.log_probs[i] = std::log(p[static_cast<std::size_t>(y)]);
        out.entropies[i] *= factor;
      }
    return out;
  }
  token_scores score(const ragged<token>& prompts, const rollouts& r, double temperature) const {
    token_scores out = tabular::policy::score(prompts, r, temperature);
    for (double& h : out.entropies) h *= factor;
    return out;
  }
};

/// Log-probs of a softmax that was not divided by all of its sum.
struct sums_above_one : tabular::policy {
  using tabular::policy::policy;
  token_scores score(const ragged<token>& prompts, const rollouts& r, double temperature) const {
    token_scores out = tabular::policy::score(prompts, r, temperature);
    for (double& l : out.log_probs) l += 1e-6;
    return out;
  }
};

}  // namespace

TEST_CASE("inversion_laws see a sampler that draws from another distribution than it reports", "[laws]") {
  const world w;
  mixes policy = make<mixes>();
  const auto found = [&](laws::inversion_options options = {}) {
    return laws::inversion_laws(policy, w.prompts, w.requests, w.sampling, w.key, options);
  };
  CHECK(caught(found(), "inversion: the cumulative distribution that is scored"));
  CHECK(caught(laws::sampler_laws(policy, w.prompts, w.requests, w.sampling, w.key), "inversion: "));
  CHECK(found({.scored_tokens = 8}).empty());  // pays for draws of token 0 only
  policy.share = 0;
  CHECK(joined(found()) == "");
  policy.factor = 1.000001;
  CHECK(joined(found()).find("score: the entropy is that of the probabilities: got ") == 0);
  sums_above_one above = make<sums_above_one>();
  CHECK(caught(laws::inversion_laws(above, w.prompts, w.requests, w.sampling, w.key), "score: probabilities sum to 1"));
}

TEST_CASE("law suites refuse what they cannot try, by name", "[laws]") {
  const world w;
  auto policy = make<tabular::policy>();
  const auto sampler_with = [&](std::vector<sample_request> requests, sampling_options sampling = {}) {
    return laws::sampler_laws(policy, w.prompts, requests, sampling, w.key);
  };
  CHECK_THROWS_WITH(sampler_with({}),
                    "sampler_laws: 0 requests, of at most 0 rollouts each; one of two rollouts is needed");
  CHECK_THROWS_WITH(sampler_with({{0, 1, 0}}), Catch::Contains("of at most 1 rollouts each"));
  CHECK_THROWS_WITH(sampler_with({{0, 2, 0}, {3, 2, 0}}), "sampler_laws: request 1 is of prompt 3, but there are 3");
  CHECK_THROWS_WITH(sampler_with(w.requests, {.temperature = 0}), "sampler_laws: temperature is 0");
  CHECK_THROWS_WITH(sampler_with(w.requests, {.max_tokens = 0}), "sampler_laws: max_tokens is 0");
  CHECK_THROWS_WITH(laws::policy_laws(policy, host_fill, w.prompts, {}, w.sampling, w.key),
                    Catch::Contains("policy_laws: 0 requests"));
  CHECK_THROWS_WITH(laws::scorer_laws(policy, w.prompts, rollouts{}, 0.8), "scorer_laws: there are no tokens");

  const auto gradient_with = [&](const rollouts& r) { return laws::differentiable_laws(policy, w.prompts, r); };
  CHECK_THROWS_WITH(gradient_with({}), "differentiable_laws: there are no tokens");
  CHECK_THROWS_WITH(gradient_with(slice(w.r, 0, 1)), "differentiable_laws: 1 rollouts, two are needed");
  rollouts odd = slice(w.r, 0, 2);
  odd.prompts[1] = 9;
  CHECK_THROWS_WITH(gradient_with(odd), "differentiable_laws: rollout 1 is of prompt 9, but there are 3");
  odd.prompts.pop_back();
  CHECK_THROWS_WITH(gradient_with(odd), "rollouts: 1 prompts for 2 rollouts");
}

TEST_CASE("reports say a law once, and count what failed", "[laws]") {
  laws::report out(laws::law_options{});
  for (int i = 0; i < 5; ++i) out.near(i, -1, 1, "minus one");
  out.fail("another");
  out.fail("another");
  CHECK(out.count() == 7);
  CHECK(out.take() == laws::violations{"minus one: got 0, expected -1", "another"});
}
