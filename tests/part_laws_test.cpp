// The laws of objectives and of the parts of selectors, on all models of the library and on near misses.

#include <cstdint>
#include <string>
#include <vector>

#include <rlvr/laws/objective.hpp>
#include <rlvr/laws/selector.hpp>
#include <rlvr/laws/selector_parts.hpp>
#include <rlvr/rlvr.hpp>

#include "catch.hpp"

using namespace rlvr;

namespace {

std::string all_of_them(const laws::violations& broken) {
  std::string text;
  for (const std::string& law : broken) text += law + "\n";
  return text;
}

/// An objective that breaks one law.
struct faulty {
  enum class fault { none, leaks_mask, looks_outside, own_weights, counts_calls, passes_nan } of = fault::none;
  mutable int calls = 0;
  template <class Real>
  void operator()(const token_batch<Real>& b, weights_of<Real> weights, coefficients_of<Real> out,
                  std::span<branch> branches) const {
    if (of != fault::passes_nan) ppo_clip{}(b, weights, out, branches);
    ++calls;
    for (std::size_t i = 0; i < b.size(); ++i)
      for (std::size_t t = b.begin(i); t < b.end(i); ++t) {
        if (of == fault::passes_nan) out[t] = b.active(t) ? b.advantages[i] * b.log_probs[t] : 0;
        if (of == fault::leaks_mask && !b.active(t)) out[t] = 1;
        if (of == fault::looks_outside && b.active(t) && t > 0) out[t] += 1e-9 * b.log_probs[t - 1];
        if (of == fault::own_weights) out[t] += b.active(t) ? 1 : 0;
        if (of == fault::counts_calls) out[t] *= calls;
      }
  }
};

}  // namespace

TEST_CASE("every objective keeps the laws", "[laws]") {
  const auto check = [](const char* name, const auto& o) {
    INFO(name);
    CHECK(all_of_them(laws::objective_laws(o)) == "");
  };
  check("policy_gradient", policy_gradient{});
  check("ppo_clip", ppo_clip{});
  check("dual clip", ppo_clip{.high = 0.28, .dual = 3});
  check("gspo", gspo{});
  check("gmpo", gmpo{});
  check("cispo", cispo{});
  check("masked_ratio", masked_ratio{});
  check("sapo", sapo{});
  check("topr", topr{});
  check("mini_rl", mini_rl{});
  check("dppo", dppo{});
  check("vespo", vespo{});
  check("dro", dro{});
  check("ratio_normalized_clip", ratio_normalized_clip{});
  check("unified_gradient", unified_gradient{});
  check("shaped_imitation", shaped_imitation{});
  check("clip_cov", clip_cov{});
  check("kl_cov", kl_cov{});
}

TEST_CASE("the laws of objectives see each law broken", "[laws]") {
  using enum faulty::fault;
  const auto broken = [](faulty::fault of) { return all_of_them(laws::objective_laws(faulty{of})); };
  CHECK(broken(none) == "");
  CHECK_THAT(broken(leaks_mask), Catch::Contains("exactly 0"));
  CHECK_THAT(broken(looks_outside), Catch::Contains("never looked at"));
  CHECK_THAT(broken(own_weights), Catch::Contains("weight times kappa"));
  CHECK_THAT(broken(counts_calls), Catch::Contains("same bits"));
  CHECK_THAT(broken(passes_nan), Catch::Contains("not finite is refused"));
  CHECK(laws::objective_laws(faulty{own_weights}).size() <= 6);  // each sentence once
}

TEST_CASE("every tracker and every draw keeps the laws", "[laws]") {
  const auto outcomes = [](std::uint64_t i, std::uint64_t step) {
    return binary_outcome(static_cast<std::uint32_t>(random_key(2).below(9, i)), 8, step);
  };
  const auto number = [](double a, double b) { return a == b; };
  const auto beta = [](beta_belief a, beta_belief b) { return a.alpha == b.alpha && a.beta == b.beta; };
  const auto reward = [](reward_belief a, reward_belief b) { return a.mean == b.mean && a.variance == b.variance; };
  const auto visits = [](visit_belief a, visit_belief b) { return a.visits == b.visits && a.entropy == b.entropy; };
  const auto gain = [](gain_belief a, gain_belief b) {
    return a.visits == b.visits && a.mean == b.mean && a.variance == b.variance;
  };
  using variance = gain_of_rate<rate_variance>;
  CHECK(all_of_them(laws::tracker_laws(beta_tracker<>(7, {.keep = {0.5}, .fade = 0.9}), outcomes, beta)) == "");
  CHECK(all_of_them(laws::tracker_laws(beta_tracker<keep_by_divergence>(7), outcomes, beta)) == "");
  CHECK(all_of_them(laws::tracker_laws(moving_reward_tracker(7), outcomes, reward)) == "");
  CHECK(all_of_them(laws::tracker_laws(window_reward_tracker(7, 3), outcomes, reward)) == "");
  CHECK(all_of_them(laws::tracker_laws(visit_counter(7, 0.9), outcomes, visits)) == "");
  CHECK(all_of_them(laws::tracker_laws(gain_tracker<variance>(7, 0.9), outcomes, gain)) == "");
  CHECK(all_of_them(laws::tracker_laws(moving_gain_tracker<variance>(7, 0.5), outcomes, number)) == "");
  CHECK(all_of_them(laws::tracker_laws(predicted_rates(7), outcomes, number)) == "");
  // a window over the whole pool forgets another prompt's visit: the one tracker in which visits are not independent
  CHECK_THAT(all_of_them(laws::tracker_laws(gain_window_tracker<variance>(7, 3), outcomes, gain)),
             Catch::Contains("no belief but its prompt's"));

  CHECK(all_of_them(laws::draw_laws(draw_top{})) == "");
  CHECK(all_of_them(laws::draw_laws(draw_proportional{})) == "");
  CHECK(all_of_them(laws::draw_laws(draw_softmax{0.1})) == "");
  CHECK(all_of_them(laws::draw_laws(draw_uniform{})) == "");
  CHECK(all_of_them(laws::draw_laws(draw_mixed<draw_top>{0.6})) == "");
  CHECK(all_of_them(laws::draw_laws(draw_pairs{})) == "");
  const auto first = [](const candidate_list& from, auto&&, std::span<prompt_id> out, random_key) {
    for (prompt_id& id : out) id = from[0];
  };
  CHECK_THAT(all_of_them(laws::draw_laws(first)), Catch::Contains("distinct") && Catch::Contains("refused"));
}

TEST_CASE("entropies of groups keep the laws", "[laws]") {
  tabular::policy policy(std::vector<double>(2 * 5), 5);
  const ragged<token> prompts = policy.prompts();
  const rollouts r = policy.sample(prompts, requests_for(prompts, 9), {}, random_key(1));
  CHECK(all_of_them(laws::group_entropy_laws(answer_entropy<>{}, r, 9)) == "");
  CHECK(all_of_them(laws::group_entropy_laws(token_entropy{5}, r, 9)) == "");
  CHECK(all_of_them(laws::group_entropy_laws(no_entropy{}, r, 9)) == "");
  const auto negative = [](const rollouts&, std::size_t begin, std::size_t end) {
    return static_cast<double>(begin) - static_cast<double>(end);
  };
  CHECK_THAT(all_of_them(laws::group_entropy_laws(negative, r, 9)), Catch::Contains("[0, 1]"));
}

namespace {

/// Takes whatever it is told, and then cannot select; or gives an id twice and gives up at the 40th selection.
struct careless : uniform_selector {
  enum class fault { none, takes_everything, gives_up } of;
  static constexpr std::string_view state_name = "careless";
  static constexpr std::uint32_t state_version = 1;
  bool spoilt = false;
  mutable int calls = 0;

  explicit careless(fault which) : uniform_selector(make_uniform(9)), of(which) {}
  void select(std::span<prompt_id> out, random_key key) const {
    if (spoilt || (of == fault::gives_up && ++calls > 40)) throw std::runtime_error("there is nothing to select by");
    uniform_selector::select(out, key);
    if (of == fault::gives_up && out.size() > 1) out[1] = out[0];
  }
  using uniform_selector::select;
  void observe(prompt_id id, const outcome& o) {
    const bool bad = id >= size() || !(o.mean >= 0 && o.mean <= 1);
    if (of == fault::takes_everything && bad)
      spoilt = true;
    else
      uniform_selector::observe(id, o);
  }
  template <class Self, class Visit>
  static void visit_state(Self& self, Visit&& visit) {
    uniform_selector::visit_state(self, visit);
  }
};

}  // namespace

TEST_CASE("selector_laws keep their findings from selectors that do not check, and from those that throw", "[laws]") {
  const auto outcomes = [](std::uint64_t i, std::uint64_t step) {
    return binary_outcome(static_cast<std::uint32_t>(random_key(2).below(9, i)), 8, step);
  };
  const auto broken = [&](careless::fault of) { return laws::selector_laws(careless(of), outcomes); };
  CHECK(all_of_them(broken(careless::fault::none)) == "");
  CHECK_THAT(all_of_them(broken(careless::fault::takes_everything)), Catch::Contains("mean outside [0, 1] is refused"));
  const laws::violations found = broken(careless::fault::gives_up);
  CHECK_THAT(all_of_them(found), Catch::Contains("distinct ids"));
  CHECK(found.back() == "throws, given what is allowed: there is nothing to select by");
}
