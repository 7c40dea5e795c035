/// What models a concept, and near-misses that must not.

#include <stdexcept>
#include <string>
#include <vector>

#include <rlvr/advantage/centred.hpp>
#include <rlvr/advantage/group_normalized.hpp>
#include <rlvr/backend/tabular/policy.hpp>
#include <rlvr/core/policy.hpp>
#include <rlvr/optimize/adamw.hpp>
#include <rlvr/search/line_search.hpp>
#include <rlvr/verify/decoded.hpp>
#include <rlvr/verify/exact.hpp>
#include <rlvr/verify/numeric.hpp>

#include "archetypes.hpp"
#include "catch.hpp"

using namespace rlvr;

namespace {

// vector_space
// -------------------------------------------------------------------------------------------------
static_assert(vector_space<archetype::space>);
static_assert(!elementwise<archetype::space>);
static_assert(!tensor_layout<archetype::space>);
static_assert(vector_space<tabular::space> && elementwise<tabular::space> && tensor_layout<tabular::space>);

struct space_without_dot {
  using vector = std::vector<double>;
  std::size_t dimension() const { return 0; }
  vector zero() const { return {}; }
  void assign(vector&, const vector&) const {}
  void scale(double, vector&) const {}
  void axpy(double, const vector&, vector&) const {}
};
static_assert(!vector_space<space_without_dot>);

struct space_with_float_dot : space_without_dot {
  float dot(const vector&, const vector&) const { return 0; }
};
static_assert(!vector_space<space_with_float_dot>, "dot accumulates in double");

struct space_with_double_dot : space_without_dot {
  double dot(const vector&, const vector&) const { return 0; }
};
static_assert(vector_space<space_with_double_dot>, "the near-misses miss by one thing only");

struct space_that_changes : space_with_double_dot {
  void scale(double, vector&) {}  // not const
};
static_assert(!vector_space<space_that_changes>);

struct space_of_fixed_vectors {
  struct vector {
    vector(const vector&) = delete;
    vector& operator=(const vector&) = delete;
  };
  std::size_t dimension() const { return 0; }
  vector zero() const;
  void assign(vector&, const vector&) const {}
  void scale(double, vector&) const {}
  void axpy(double, const vector&, vector&) const {}
  double dot(const vector&, const vector&) const { return 0; }
};
static_assert(!vector_space<space_of_fixed_vectors>, "vectors are movable");

struct space_with_unary_map_only : space_with_double_dot {
  template <class F>
  void map(F, vector&) const {}
};
static_assert(!elementwise<space_with_unary_map_only>);

struct space_with_unnamed_tensors : space_with_double_dot {
  std::vector<std::size_t> tensors() const { return {}; }
};
static_assert(!tensor_layout<space_with_unnamed_tensors>);

// policies
// -----------------------------------------------------------------------------------------------------
static_assert(policy<tabular::policy> && policy<archetype::policy>);
static_assert(sampler<archetype::sampler> && !scorer<archetype::sampler> &&
              !parameterised<archetype::sampler>);
static_assert(scorer<archetype::scorer> && !sampler<archetype::scorer>);
static_assert(std::same_as<space_t<archetype::policy>, archetype::space>);
static_assert(std::same_as<parameters_t<archetype::policy>, archetype::vector>);

struct sampler_without_key {
  rollouts sample(const ragged<token>&, std::span<const sample_request>, const sampling_options&) {
    return {};
  }
};
static_assert(!sampler<sampler_without_key>, "randomness comes from a key");

struct scorer_of_log_probs_only {
  std::vector<double> score(const ragged<token>&, const rollouts&, double) { return {}; }
};
static_assert(!scorer<scorer_of_log_probs_only>);

struct parameters_only {
  const tabular::space& space() const;
  const std::vector<double>& parameters() const;
  void assign(const std::vector<double>&);
  void assign(const std::vector<double>&, double, const std::vector<double>&);
};
static_assert(parameterised<parameters_only> && !differentiable<parameters_only>);

struct parameters_by_value {
  const tabular::space& space() const;
  std::vector<double> parameters() const;
  void assign(const std::vector<double>&);
  void assign(const std::vector<double>&, double, const std::vector<double>&);
};
static_assert(!parameterised<parameters_by_value>, "parameters() is a reference that stays valid");

struct parameters_without_step {
  const tabular::space& space() const;
  const std::vector<double>& parameters() const;
  void assign(const std::vector<double>&);
};
static_assert(!parameterised<parameters_without_step>);

struct returns_its_gradient : parameters_only {
  std::vector<double> accumulate_score(const ragged<token>&, const rollouts&, std::span<const double>,
                                       double);
};
static_assert(!differentiable<returns_its_gradient>, "gradients are added to, not returned");

// verifiers
// ----------------------------------------------------------------------------------------------------
static_assert(text_verifier<archetype::text_verifier> && rollout_verifier<archetype::rollout_verifier>);
static_assert(!rollout_verifier<archetype::text_verifier> && !text_verifier<archetype::rollout_verifier>);
static_assert(text_verifier<exact_verifier> && text_verifier<numeric_verifier>);

struct verifier_that_may_throw {
  verdict operator()(std::string_view, std::string_view) const { return {}; }
};
static_assert(!text_verifier<verifier_that_may_throw>);

struct verifier_of_bools {
  bool operator()(std::string_view, std::string_view) const noexcept { return true; }
  bool operator()(std::size_t, std::span<const token>) const { return true; }
};
static_assert(!text_verifier<verifier_of_bools> && !rollout_verifier<verifier_of_bools>,
              "a verdict says whether it was scored");

struct verifier_with_state {
  verdict operator()(std::string_view, std::string_view) noexcept { return {}; }
};
static_assert(!text_verifier<verifier_with_state>);

struct decode_to_string {
  std::string operator()(std::span<const token>) const { return {}; }
};
static_assert(rollout_verifier<decoded_verifier<archetype::text_verifier, decode_to_string>>);

// advantage estimators
// -----------------------------------------------------------------------------------------
static_assert(advantage_estimator<archetype::advantage_estimator>);
static_assert(advantage_estimator<centred> && advantage_estimator<group_normalized>);

struct advantages_of_rewards {
  std::vector<double> operator()(std::span<const double>, const groups&) const { return {}; }
};
static_assert(!advantage_estimator<advantages_of_rewards>, "verdicts, since unscored is not zero");

struct advantages_in_float {
  std::vector<float> operator()(std::span<const verdict>, const groups&) const { return {}; }
};
static_assert(!advantage_estimator<advantages_in_float>);

}  // namespace

TEST_CASE("The archetypes run where their concepts are asked for", "[concepts]") {
  archetype::rollout_verifier first_token_is_prompt;
  rollouts r;
  r.offsets = {0, 1, 2};
  r.tokens = {0, 0};
  r.prompts = {0, 1};
  verify(first_token_is_prompt, r);
  CHECK(r.verdicts == std::vector<verdict>{{1, true}, {0, true}});

  const decoded_verifier decoded(archetype::text_verifier{}, decode_to_string{}, {"", "x"});
  CHECK(decoded(0, {}) == verdict{1, true});
  CHECK(decoded(1, {}) == verdict{0, true});

  archetype::policy p({0.0, 0.5, 1.0, -1.0}, 2);
  const auto space = p.space();
  {
    scoped_parameters<archetype::policy> scope(p);
    scope.move_along(2.0, space.from_host({1, 0, 0, 0}));
    CHECK(space.dot(p.parameters(), p.parameters()) == Approx(4 + 0.25 + 1 + 1));
  }
  CHECK(space.dot(p.parameters(), p.parameters()) == Approx(0.25 + 1 + 1));
}

TEST_CASE("scoped_parameters on a device that is lost", "[concepts]") {
  struct lost_policy {
    tabular::space inner{2};
    std::vector<double> theta{1, 2};
    bool lost = false;
    const tabular::space& space() const { return inner; }
    const std::vector<double>& parameters() const { return theta; }
    void assign(const std::vector<double>& x) {
      if (lost) throw std::runtime_error("the device is lost");
      theta = x;
    }
    void assign(const std::vector<double>& x, double a, const std::vector<double>& d) {
      assign(x);
      inner.axpy(a, d, theta);
    }
  };
  static_assert(parameterised<lost_policy>);
  lost_policy p;
  const auto leave = [&p](bool by_exception) {
    scoped_parameters scope(p);
    scope.move_along(1, {1, 1});
    p.lost = true;
    if (by_exception) throw std::runtime_error("the first error");
  };
  CHECK_THROWS_WITH(leave(true), "the first error");
  p.lost = false;
  CHECK_THROWS_WITH(leave(false), "the device is lost");
  CHECK(p.theta == std::vector<double>{3, 4});
}

TEST_CASE("the archetypes of the refinements model them, and algorithms run on them", "[concepts]") {
  static_assert(rlvr::elementwise<archetype::elementwise_space>);
  static_assert(!rlvr::tensor_layout<archetype::elementwise_space>);
  static_assert(rlvr::tensor_layout<archetype::tensor_space> && !rlvr::elementwise<archetype::tensor_space>);
  static_assert(!rlvr::elementwise<archetype::space> && !rlvr::tensor_layout<archetype::space>);
  static_assert(rlvr::line_objective<archetype::line_objective>);

  const archetype::elementwise_space space(3);
  auto theta = space.zero();
  const auto gradient = space.from_host({1.0, -2.0, 0.0});
  rlvr::adamw<archetype::elementwise_space> optimiser(space, {.learning_rate = 0.5});
  optimiser.step(space, theta, gradient);
  CHECK(space.dot(theta, gradient) == Approx(0.5 * 3).epsilon(1e-6));  // the first step is the sign

  archetype::line_objective parabola;
  const auto found = rlvr::geometric_search(parabola, 0.1);
  CHECK(found.status == rlvr::line_status::improved);
  CHECK(found.alpha == Approx(2).epsilon(0.2));
}
