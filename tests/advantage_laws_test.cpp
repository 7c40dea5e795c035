/// The laws that each estimator of advantages promises, and that the suite catches broken ones.

#include <cmath>
#include <functional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include <rlvr/advantage/beta_normalized.hpp>
#include <rlvr/advantage/by_outcome.hpp>
#include <rlvr/advantage/centred.hpp>
#include <rlvr/advantage/group_normalized.hpp>
#include <rlvr/advantage/length_weighted.hpp>
#include <rlvr/advantage/mean_normalized.hpp>
#include <rlvr/advantage/normalizer.hpp>
#include <rlvr/advantage/pass_at_k_normalized.hpp>
#include <rlvr/advantage/rank_based.hpp>
#include <rlvr/advantage/signal_scaled.hpp>
#include <rlvr/advantage/top_gap.hpp>
#include <rlvr/advantage/virtual_reward.hpp>
#include <rlvr/laws/advantage_estimator.hpp>

#include "advantage_worlds.hpp"
#include "catch.hpp"

using namespace rlvr;
using advantage_worlds::joined;
using laws::promised;
using laws::under_scaling;
using options = laws::advantage_estimator_options;

namespace {

template <class... A>
constexpr bool all_estimators = (advantage_estimator<A> && ...);
static_assert(all_estimators<centred, group_normalized, normalizer, signal_scaled, mean_normalized, top_gap,
                             pass_at_k_normalized, beta_normalized, virtual_reward, rank_based, constant_advantage,
                             correctness_relative, by_outcome<>, sign_weighted<centred>>);
static_assert(!advantage_estimator<length_weighted>);  // needs the lengths

constexpr promised yes = promised::yes, no = promised::no;

/// length_weighted and the like as estimators of two arguments: rollout i has 1 + i % 5 tokens, by reward, so that
/// lengths follow their rollouts.
template <class A>
struct with_lengths {
  A a;
  std::vector<double> operator()(std::span<const verdict> verdicts, const groups& g) const {
    std::vector<std::size_t> counts;
    for (const verdict& v : verdicts)
      counts.push_back(v.scored ? 1 + static_cast<std::size_t>(std::fabs(std::remainder(v.reward * 64, 5))) : 50);
    return a(verdicts, g, counts);
  }
};

using estimate = std::function<std::vector<double>(std::span<const verdict>, const groups&)>;
struct estimator {
  estimate f;
  std::vector<double> operator()(std::span<const verdict> v, const groups& g) const { return f(v, g); }
};

/// The suite is instantiated once, for `estimator`: it is long, and so is compiling it.
laws::violations advantage_estimator_laws(estimate a, const options& o = {}) {
  return laws::advantage_estimator_laws(estimator{std::move(a)}, o);
}

void check_caught(const laws::violations& broken, const std::string& law) {
  INFO("found: " << joined(broken) << "expected: " << law);
  CHECK(joined(broken).find(law) != std::string::npos);
}

}  // namespace

TEST_CASE("every estimator keeps the laws it promises", "[laws][advantage]") {
  const options group_wise{.zero_sum = yes, .local = yes};
  const auto with = [](options o, under_scaling scale) {
    o.scale = scale;
    return o;
  };
  CHECK(joined(advantage_estimator_laws(centred{}, with(group_wise, under_scaling::proportional))) == "");
  CHECK(joined(advantage_estimator_laws(centred{.against = baseline::leave_one_out},
                                        with(group_wise, under_scaling::proportional))) == "");
  CHECK(joined(advantage_estimator_laws(group_normalized{}, group_wise)) == "");
  CHECK(joined(advantage_estimator_laws(group_normalized{.epsilon = 0}, with(group_wise, under_scaling::invariant))) ==
        "");
  CHECK(joined(advantage_estimator_laws(normalizer{}, group_wise)) == "");
  CHECK(joined(advantage_estimator_laws(normalizer{.lone = lone_rollout::reward},
                                        {.lone = lone_rollout::reward, .zero_sum = yes, .local = yes})) == "");
  // Leave-one-out deviations differ inside a group: no zero sum.
  CHECK(joined(advantage_estimator_laws(leave_one_out_normalized(), {.local = yes})) == "");
  CHECK(joined(advantage_estimator_laws(batch_normalized(), {.zero_sum = yes})) == "");
  CHECK(joined(advantage_estimator_laws(batch_normalized(deviation_of::centred), {.zero_sum = yes})) == "");
  CHECK(joined(advantage_estimator_laws(
            normalizer{.spread = moment_scope::batch, .of = deviation_of::centred, .deviation = {.epsilon = 0}},
            {.zero_sum = yes, .scale = under_scaling::invariant})) == "");
  CHECK(joined(advantage_estimator_laws(normalizer{.baseline = moment_scope::batch, .spread = moment_scope::batch},
                                        {.lone = lone_rollout::zero})) == "");
  CHECK(joined(advantage_estimator_laws(normalizer{.baseline = moment_scope::none, .spread = moment_scope::none},
                                        {.lone = lone_rollout::reward,
                                         .shift = no,
                                         .equal = no,
                                         .local = yes,
                                         .scale = under_scaling::proportional})) == "");
  CHECK(joined(advantage_estimator_laws(with_lengths<normalizer>{token_whitened()}, {.shift = no})) == "");
  CHECK(joined(advantage_estimator_laws(with_lengths<length_weighted>{}, {.shift = no, .local = yes})) == "");
  CHECK(joined(advantage_estimator_laws(signal_scaled{},
                                        {.shift = no, .zero_sum = yes, .scale = under_scaling::proportional})) == "");
  CHECK(joined(advantage_estimator_laws(signal_scaled{.counted = signal_kind::informative_group},
                                        {.zero_sum = yes, .scale = under_scaling::proportional})) == "");
  CHECK(joined(advantage_estimator_laws(
            mean_normalized{.epsilon = 0},
            {.shift = no, .zero_sum = yes, .local = yes, .scale = under_scaling::invariant, .least = 0})) == "");
  CHECK(joined(advantage_estimator_laws(top_gap{scaling::none},
                                        {.local = yes, .scale = under_scaling::proportional})) == "");
  CHECK(joined(advantage_estimator_laws(top_gap{}, {.local = yes})) == "");
  CHECK(joined(advantage_estimator_laws(pass_at_k_normalized{.k = 2}, {.shift = no, .zero_sum = yes, .local = yes})) ==
        "");
  CHECK(joined(advantage_estimator_laws(beta_normalized{}, {.shift = no, .zero_sum = yes, .least = 0, .most = 1})) ==
        "");
  CHECK(joined(advantage_estimator_laws(virtual_reward{},
                                        {.lone = lone_rollout::reward, .shift = no, .equal = no, .local = yes})) == "");
  CHECK(joined(advantage_estimator_laws(rank_based{}, with(group_wise, under_scaling::invariant))) == "");
  CHECK(joined(advantage_estimator_laws(rank_based{.zero = rank_zero::best},
                                        {.local = yes, .scale = under_scaling::invariant})) == "");
  CHECK(joined(advantage_estimator_laws(by_outcome<>{}, {.shift = no, .local = yes})) == "");
  CHECK(joined(advantage_estimator_laws(sign_weighted<>{.positive = 0.1}, {.local = yes})) == "");
  CHECK(joined(advantage_estimator_laws(correctness_relative{},
                                        {.lone = lone_rollout::reward, .shift = no, .equal = no, .local = yes})) == "");
  CHECK(joined(advantage_estimator_laws(constant_advantage{1},
                                        {.lone = lone_rollout::reward, .equal = no, .local = yes})) == "");
}

TEST_CASE("the laws tell estimators that promise from those that do not", "[laws][advantage]") {
  check_caught(advantage_estimator_laws(leave_one_out_normalized(), {.zero_sum = yes}), "zero sum: of group");
  check_caught(advantage_estimator_laws(sign_weighted<>{.positive = 0.1}, {.zero_sum = yes}), "zero sum: of group");
  check_caught(advantage_estimator_laws(batch_normalized(), {.local = yes}), "local: ");
  check_caught(advantage_estimator_laws(batch_normalized(), {.local = yes}), "shift: adding 3 to one group");
  check_caught(advantage_estimator_laws(centred{}, {.scale = under_scaling::invariant}), "scale: ");
  check_caught(advantage_estimator_laws(group_normalized{}, {.scale = under_scaling::proportional}), "scale: ");
  check_caught(advantage_estimator_laws(signal_scaled{}), "shift: adding 3 to all");
  check_caught(advantage_estimator_laws(virtual_reward{}, {.shift = no}), "equal: 2 rewards of 0 give");
  check_caught(advantage_estimator_laws(virtual_reward{}, {.shift = no, .equal = no}), "lone: ");
  check_caught(advantage_estimator_laws([](std::span<const verdict> v, const groups& g) {
                 std::vector<double> out = centred{}(v, g);
                 for (std::size_t i = 0; i < out.size(); ++i)  // the first group counts double
                   if (i < (g.size() ? g.end(0) : 0)) out[i] *= 2;
                 return out;
               }),
               "order: advantages follow their groups");
}
