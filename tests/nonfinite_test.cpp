/// NaN and infinity wherever a number enters: an error that names the index or the documented outcome, and the
/// policy's parameters are what they were, bit for bit.

#include <cmath>
#include <cstddef>
#include <cstring>
#include <limits>
#include <optional>
#include <span>
#include <stdexcept>
#include <string>
#include <vector>

#include <rlvr/advantage/centred.hpp>
#include <rlvr/advantage/group_normalized.hpp>
#include <rlvr/backend/eigen/decoder.hpp>
#include <rlvr/backend/tabular/policy.hpp>
#include <rlvr/core/validate.hpp>
#include <rlvr/gradient/subset_gradients.hpp>
#include <rlvr/objective/reinforce.hpp>
#include <rlvr/optimize/adamw.hpp>
#include <rlvr/optimize/sgd.hpp>
#include <rlvr/search/search_direction.hpp>
#include <rlvr/train/grpo.hpp>
#include <rlvr/train/one_shot.hpp>

#include "catch.hpp"
#include "four_rows.hpp"
#include "small_decoders.hpp"

using namespace rlvr;
using four_rows::base_logits;
using four_rows::prompts_of;

namespace {

constexpr double inf = std::numeric_limits<double>::infinity();
const std::vector<double> bad_values{std::nan(""), inf, -inf};

/// NaNs are not equal to themselves, so bits are compared.
template <class T>
bool same_bits(const std::vector<T>& x, const std::vector<T>& y) {
  return x.size() == y.size() && std::memcmp(x.data(), y.data(), x.size() * sizeof(T)) == 0;
}

/// "error: message", or "" when nothing was thrown.
template <class F>
std::string error_of(F f) {
  try {
    f();
  } catch (const std::invalid_argument& e) {
    return e.what();
  }
  return "";
}

enum class site { none, sampled_log_prob, sampled_entropy, scored_log_prob, scored_entropy, gradient };

/// A tabular policy one of whose answers, the `call`-th of its kind, holds one bad number.
struct faulty : tabular::policy {
  using tabular::policy::policy;
  site where = site::none;
  std::size_t call = 0;
  double value = 0;
  mutable std::size_t sampled = 0, scored = 0, differentiated = 0;
  mutable bool reached = false;

  void spoil(std::vector<double>& numbers, site here, std::size_t now) const {
    if (where != here || now != call || numbers.empty()) return;
    numbers[numbers.size() / 2] = value;
    reached = true;
  }
  rollouts sample(const ragged<token>& prompts, std::span<const sample_request> requests,
                  const sampling_options& options, random_key key) const {
    rollouts r = tabular::policy::sample(prompts, requests, options, key);
    spoil(r.log_probs, site::sampled_log_prob, sampled);
    spoil(r.entropies, site::sampled_entropy, sampled++);
    return r;
  }
  token_scores score(const ragged<token>& prompts, const rollouts& r, double temperature) const {
    token_scores s = tabular::policy::score(prompts, r, temperature);
    spoil(s.log_probs, site::scored_log_prob, scored);
    spoil(s.entropies, site::scored_entropy, scored++);
    return s;
  }
  void accumulate_score(const ragged<token>& prompts, const rollouts& r, std::span<const double> coefficients,
                        double temperature, std::vector<double>& g) const {
    tabular::policy::accumulate_score(prompts, r, coefficients, temperature, g);
    spoil(g, site::gradient, differentiated++);
  }
};
static_assert(policy<faulty>);

/// The reward of prompt `at` is `value`.
struct judge {
  std::optional<std::size_t> at{};
  double value = 0;
  bool scored = true;
  verdict operator()(std::size_t p, std::span<const token> completion) const {
    if (p == at) return {value, scored};
    return {static_cast<std::size_t>(completion[0]) == p % 4 ? 1.0 : 0.0};
  }
};
using set = prompt_set<judge>;

const one_shot_options small{.rollouts = 512, .group_size = 16, .seed = 7};
const set good{prompts_of(32), {}};

template <class P, class A = centred>
auto run(P& policy, const one_shot_options& o = small, const set& train = good, const set& validation = good,
         const set& confirmation = good, const A& advantage = {}) {
  return one_shot(policy, train, validation, confirmation, advantage, o);
}

rollouts some_rollouts(const ragged<token>& prompts) {
  const std::vector<sample_request> requests = requests_for(prompts, 6);
  return tabular::policy(base_logits(), 5).sample(prompts, requests, {}, random_key(3));
}

}  // namespace

TEST_CASE("nonfinite: is_finite", "[nonfinite]") {
  using limits = std::numeric_limits<double>;
  for (const double x : {0.0, -0.0, 1.0, limits::max(), limits::lowest(), limits::denorm_min()}) CHECK(is_finite(x));
  for (const double x : bad_values) CHECK(!is_finite(x));
}

TEST_CASE("nonfinite: rewards are named by their index", "[nonfinite]") {
  const ragged<token> prompts = prompts_of(4);
  for (const double bad : bad_values) {
    INFO(bad);
    rollouts r = some_rollouts(prompts);
    verify(judge{}, r);
    const std::vector<verdict> before = r.verdicts;
    const std::string value = concat(bad);
    CHECK(error_of([&] { verify(judge{2, bad}, r); }) ==
          "verify: the verifier gave rollout 12 of prompt 2 the reward " + value);
    CHECK(r.verdicts == before);

    r.verdicts[9].reward = bad;
    const groups g = groups_of(r.prompts);
    CHECK(error_of([&] { validate(r, 4); }) == "rollouts: reward 9 is " + value);
    CHECK(error_of([&] { (void)centred{}(r.verdicts, g); }) == "advantages: reward 9 is " + value);
    CHECK(error_of([&] { (void)group_normalized{}(r.verdicts, g); }) == "advantages: reward 9 is " + value);
    CHECK(error_of([&] { (void)prompt_means(r.verdicts, g); }) == "prompt_means: reward 9 is " + value);

    // What is not scored is not looked at.
    verify(judge{2, bad, false}, r);
    CHECK_NOTHROW(validate(r, 4));
    for (double a : centred{}(r.verdicts, g)) CHECK(std::isfinite(a));
    CHECK(std::isnan(prompt_means(r.verdicts, g)[2]));
  }
}

TEST_CASE("nonfinite: advantages and coefficients are named by their index, sums stay as they are", "[nonfinite]") {
  const ragged<token> prompts = prompts_of(4);
  rollouts r = some_rollouts(prompts);
  verify(judge{}, r);
  tabular::policy policy(base_logits(), 5);
  const std::vector<double> advantages = centred{}(r.verdicts, groups_of(r.prompts));
  const std::vector<double> fine = reinforce_coefficients(r, advantages, 0.1);
  for (const double bad : bad_values) {
    const std::string value = concat(bad);
    std::vector<double> a = advantages, c = fine;
    a[5] = bad;
    c[7] = bad;
    CHECK(error_of([&] { (void)reinforce_coefficients(r, a, 1); }) ==
          "reinforce_coefficients: advantage 5 is " + value);
    CHECK(error_of([&] { (void)reinforce_coefficients(r, advantages, bad); }) ==
          "reinforce_coefficients: weight is " + value);

    sum_accumulator<tabular::space> sum(policy.space());
    sum.add(policy, prompts, r, fine, 1.0, r.size());
    const std::vector<double> before = sum.sum();
    CHECK(error_of([&] { sum.add(policy, prompts, r, c, 1.0, r.size()); }) ==
          "tabular::policy::accumulate_score: coefficient 7 is " + value);
    CHECK(error_of([&] { sum.add(policy, prompts, r, fine, bad, r.size()); }) != "");  // the temperature
    CHECK(same_bits(sum.sum(), before));
    CHECK(sum.count() == r.size());

    subset_gradients<tabular::space> subsets(policy.space(), {.subsets = 3});
    subsets.add(policy, prompts, r, fine, 1.0);
    const std::vector<double> total = subsets.total(policy.space());
    CHECK(error_of([&] { subsets.add(policy, prompts, r, c, 1.0); }) ==
          "subset_gradients: coefficient 7 is " + value);
    CHECK(same_bits(subsets.total(policy.space()), total));
    CHECK(subsets.rollouts_in_total() == r.size());
    CHECK(same_bits(policy.parameters(), base_logits()));
  }
}

TEST_CASE("nonfinite: directions and log-probabilities in the search have their status", "[nonfinite]") {
  const ragged<token> prompts = prompts_of(4);
  const rollouts r = some_rollouts(prompts);
  auto flat = [](double) { return 0.0; };
  for (const double bad : bad_values) {
    INFO(bad);
    faulty policy(base_logits(), 5);
    std::vector<double> direction(20, 1.0);
    direction[13] = bad;
    const auto found = search_direction(policy, prompts, r, 1.0, direction, flat);
    CHECK(found.line.status == line_status::nonfinite_direction);
    CHECK(found.line.alpha == 0);
    CHECK(!calibrate_kl(policy, prompts, r, 1.0, direction));
    CHECK(same_bits(policy.parameters(), base_logits()));

    // A scorer whose answers are never finite: there is nothing to measure a step by.
    struct never_finite : tabular::policy {
      double value;
      never_finite(double v) : tabular::policy(base_logits(), 5), value(v) {}
      token_scores score(const ragged<token>& p, const rollouts& q, double temperature) const {
        token_scores s = tabular::policy::score(p, q, temperature);
        s.log_probs[3] = value;
        return s;
      }
    } broken(bad);
    direction.assign(20, 0.0);
    direction[0] = 1;
    CHECK(!calibrate_kl(broken, prompts, r, 1.0, direction));
    CHECK(same_bits(broken.parameters(), base_logits()));

    // No value, and no KL, that is not a number is ever chosen.
    const auto value = geometric_search([&](double a) { return a == 0 ? 0 : a < 2 ? a : bad; }, 0.5);
    CHECK(value.status == line_status::improved);
    CHECK(value.alpha < 2);
    const auto kl = geometric_search([&](double a) { return line_point{.value = a, .kl = a < 2 ? 0 : bad}; }, 0.5);
    CHECK(kl.status == line_status::improved);
    CHECK(kl.alpha < 2);
    CHECK(error_of([&] { (void)geometric_search([&](double) { return bad; }, 1); }) ==
          "line search: the value at alpha = 0 is " + concat(bad));
    CHECK(error_of([&] { (void)geometric_search(flat, bad); }).find("first_alpha is " + concat(bad)) !=
          std::string::npos);
  }
}

TEST_CASE("nonfinite: one bad reward anywhere in one_shot is an error that names it", "[nonfinite][one_shot]") {
  for (const double bad : bad_values)
    for (const std::size_t stage : {0u, 1u, 2u}) {
      INFO("stage " << stage << ", reward " << bad);
      tabular::policy policy(base_logits(), 5);
      set sets[] = {good, good, good};
      sets[stage].verify = judge{11, bad};
      const std::string message = error_of([&] { (void)run(policy, small, sets[0], sets[1], sets[2]); });
      CHECK_THAT(message, Catch::Contains("of prompt 11"));
      CHECK_THAT(message, Catch::Contains(concat(bad)));
      CHECK(same_bits(policy.parameters(), base_logits()));
    }
}

TEST_CASE("nonfinite: an estimator's bad advantage is an error that names it", "[nonfinite][one_shot]") {
  for (const double bad : bad_values) {
    tabular::policy policy(base_logits(), 5);
    const auto estimator = [&](std::span<const verdict> verdicts, const groups&) {
      std::vector<double> out(verdicts.size(), 0.5);
      out[17] = bad;
      return out;
    };
    CHECK(error_of([&] { (void)run(policy, small, good, good, good, estimator); }) ==
          "reinforce_coefficients: advantage 17 is " + concat(bad));
    CHECK(same_bits(policy.parameters(), base_logits()));
  }
}

TEST_CASE("nonfinite: one bad number in any answer of the policy never moves it astray", "[nonfinite][one_shot]") {
  for (const std::size_t steps : {1u, 4u}) {
    one_shot_options options = small;
    options.steps = steps;
    std::size_t spoiled = 0, refused = 0, still = 0;
    for (const site where : {site::sampled_log_prob, site::sampled_entropy, site::scored_log_prob,
                             site::scored_entropy, site::gradient})
      for (const double bad : bad_values)
        for (std::size_t call = 0;; ++call) {
          INFO("site " << static_cast<int>(where) << ", call " << call << ", value " << bad << ", steps " << steps);
          faulty policy(base_logits(), 5);
          policy.where = where;
          policy.call = call;
          policy.value = bad;
          std::string message;
          bool improved = false;
          try {
            const auto result = run(policy, options);
            improved = result.status == one_shot_status::improved;
            CHECK(std::isfinite(result.alpha));
            if (improved) {
              tabular::policy expected(base_logits(), 5);
              expected.assign(base_logits(), result.alpha, *result.direction);
              CHECK(same_bits(policy.parameters(), expected.parameters()));
              for (double x : policy.parameters()) CHECK(std::isfinite(x));
              for (const landscape_point& p : result.landscape)
                if (p.point.alpha == result.alpha) CHECK((std::isfinite(p.point.value) && std::isfinite(p.point.kl)));
            }
            // The first batch's gradient is a sum of subsets; two parts behind it are for diagnosis only.
            const std::size_t subsets = options.subsets.subsets;
            if (where == site::gradient && policy.reached && (call < subsets || call >= subsets + 2)) {
              CHECK(result.status == one_shot_status::nonfinite_direction);
              CHECK(result.steps == (call < subsets ? 0 : call - subsets - 1));
            }
          } catch (const std::invalid_argument& e) {
            message = e.what();
            CHECK_THAT(message, Catch::Contains("is " + concat(bad)) || Catch::Contains("is nan"));
          }
          if (!improved) CHECK(same_bits(policy.parameters(), base_logits()));
          if (!policy.reached) break;
          ++spoiled;
          refused += !message.empty();
          still += !improved;
        }
    CHECK(spoiled > 150);  // every call of every kind was spoiled once with each value
    CHECK(refused > 0);
    CHECK(still > refused);
    CHECK(still < spoiled);
  }
}

TEST_CASE("nonfinite: parameters that are not finite are refused and kept", "[nonfinite][one_shot]") {
  for (const double bad : {std::nan(""), inf}) {
    std::vector<double> logits = base_logits();
    logits[8] = bad;
    tabular::policy policy(logits, 5);
    CHECK_THAT(error_of([&] { (void)run(policy); }), Catch::Contains("rollouts: log_probs[16] is nan"));
    CHECK(same_bits(policy.parameters(), logits));
  }
  // A logit of -infinity is a completion that is never drawn: no step can be measured by parameters of infinite norm.
  std::vector<double> logits = base_logits();
  logits[4] = -inf;
  tabular::policy policy(logits, 5);
  CHECK(run(policy).status == one_shot_status::zero_direction);
  CHECK(same_bits(policy.parameters(), logits));
}

TEST_CASE("nonfinite: options of one_shot", "[nonfinite][one_shot]") {
  for (const double bad : bad_values) {
    const auto rejected = [&](auto change) {
      one_shot_options o = small;
      change(o);
      tabular::policy policy(base_logits(), 5);
      const std::string message = error_of([&] { (void)run(policy, o); });
      CHECK(same_bits(policy.parameters(), base_logits()));
      return message;
    };
    CHECK_THAT(rejected([&](auto& o) { o.sampling.temperature = bad; }), Catch::Contains("emperature"));
    CHECK_THAT(rejected([&](auto& o) { o.collapsed_fraction = bad; }), Catch::Contains("fraction is"));
    CHECK_THAT(rejected([&](auto& o) { o.search.kl = bad; }), Catch::Contains("kl is"));
    CHECK_THAT(rejected([&](auto& o) { o.search.alpha_base = bad; }), Catch::Contains("alpha_base is"));
    CHECK_THAT(rejected([&](auto& o) { o.search.displacement = bad; }), Catch::Contains("displacement is"));
    CHECK_THAT(rejected([&](auto& o) { o.search.line.factor = bad; }), Catch::Contains("factor is"));
    CHECK_THAT(rejected([&](auto& o) { o.search.calibration.displacement = bad; }), Catch::Contains("displacement is"));
    if (bad != inf) {  // a limit may be infinite
      CHECK_THAT(rejected([&](auto& o) { o.search.line.guards.max_kl = bad; }), Catch::Contains("max_kl is"));
      CHECK_THAT(rejected([&](auto& o) { o.search.line.guards.max_length_ratio = bad; }),
                 Catch::Contains("max_length_ratio is"));
      CHECK_THAT(rejected([&](auto& o) { o.search.line.guards.min_entropy_ratio = bad; }),
                 Catch::Contains("min_entropy_ratio is"));
    }
    CHECK_THAT(rejected([&](auto& o) { o.step_kl = bad; }), Catch::Contains("step_kl is"));
  }
}

namespace {

const grpo_options few_steps{.steps = 6, .batch_prompts = 16, .group_size = 8, .evaluate_every = 2, .seed = 7};

}  // namespace

TEST_CASE("nonfinite: one bad reward or advantage in grpo is an error that names it", "[nonfinite][grpo]") {
  for (const double bad : bad_values) {
    INFO(bad);
    tabular::policy policy(base_logits(), 5);
    sgd optimizer(policy.space());
    const set ill{prompts_of(32), judge{11, bad}};
    for (const auto& sets : {std::pair{&ill, &good}, std::pair{&good, &ill}}) {
      const std::string message =
          error_of([&] { (void)grpo(policy, *sets.first, *sets.second, centred{}, optimizer, few_steps); });
      CHECK_THAT(message, Catch::Contains("of prompt 11") && Catch::Contains(concat(bad)));
      CHECK(same_bits(policy.parameters(), base_logits()));
    }
    std::size_t batches = 0;
    const auto estimator = [&](std::span<const verdict> verdicts, const groups&) {
      std::vector<double> out(verdicts.size(), 0.5);
      if (++batches == 3) out[17] = bad;
      return out;
    };
    CHECK(error_of([&] { (void)grpo(policy, good, good, estimator, optimizer, few_steps); }) ==
          "reinforce_coefficients: advantage 17 is " + concat(bad));
    CHECK(batches == 3);
    CHECK(same_bits(policy.parameters(), base_logits()));
  }
}

TEST_CASE("nonfinite: one bad number in any answer of the policy leaves grpo at parameters that it had",
          "[nonfinite][grpo]") {
  const auto check = [](auto make_optimizer) {
    for (const site where : {site::none, site::sampled_log_prob, site::sampled_entropy, site::gradient})
      for (const double bad : bad_values)
        for (std::size_t call = 0;; ++call) {
          INFO("site " << static_cast<int>(where) << ", call " << call << ", value " << bad);
          faulty policy(base_logits(), 5);
          policy.where = where;
          policy.call = call;
          policy.value = bad;
          auto optimizer = make_optimizer(policy.space());
          std::vector<double> last;  // where the latest batch was sampled
          const grpo_result result = grpo(policy, good, good, centred{}, optimizer, few_steps,
                                          [&](const grpo_step&) { last = policy.parameters(); });
          for (const double x : policy.parameters()) CHECK(std::isfinite(x));
          if (where == site::gradient && policy.reached) {
            CHECK(result.status == grpo_status::nonfinite_gradient);
            CHECK(result.steps == call);
            CHECK(result.history.size() == call + 1);
            CHECK(same_bits(policy.parameters(), last));
          } else {  // log-probs and entropies of samples are shown, and enter no gradient
            CHECK(result.status == grpo_status::finished);
            CHECK(result.steps == few_steps.steps);
          }
          if (!policy.reached) break;
        }
  };
  check([](const tabular::space& s) { return sgd(s, {.learning_rate = 2, .momentum = 0.9}); });
  check([](const tabular::space& s) { return adamw(s, {.learning_rate = 0.1}); });
}

TEST_CASE("nonfinite: a gradient that nobody looked at spoils its own coordinate of theta only",
          "[nonfinite][optimize]") {
  const tabular::space space(3);
  const auto check = [&](auto make_optimizer) {
    for (const double bad : bad_values) {
      auto sound = make_optimizer(), spoiled = make_optimizer();
      std::vector<double> x{1, -2, 3}, y = x;
      for (const double middle : {bad, 0.5}) {  // and stays in the state, where there is one
        sound.step(space, x, {0.1, 0.2, -0.3}, 1.0);
        spoiled.step(space, y, {0.1, middle, -0.3}, 1.0);
        CHECK(!std::isfinite(y[1]));
        CHECK((x[0] == y[0] && x[2] == y[2]));
      }
    }
  };
  check([&] { return sgd(space, {.learning_rate = 0.1}); });
  check([&] { return sgd(space, {.learning_rate = 0.1, .momentum = 0.9, .form = momentum_form::nesterov}); });
  check([&] { return adamw(space); });
}

TEST_CASE("nonfinite: options of grpo", "[nonfinite][grpo]") {
  for (const double bad : bad_values) {
    const auto rejected = [&](auto change) {
      grpo_options o = few_steps;
      change(o);
      tabular::policy policy(base_logits(), 5);
      sgd optimizer(policy.space());
      const std::string message = error_of([&] { (void)grpo(policy, good, good, centred{}, optimizer, o); });
      CHECK(same_bits(policy.parameters(), base_logits()));
      return message;
    };
    CHECK_THAT(rejected([&](auto& o) { o.sampling.temperature = bad; }), Catch::Contains("emperature"));
    CHECK_THAT(rejected([&](auto& o) { o.last_factor = bad; }), Catch::Contains("last_factor is " + concat(bad)));
    if (bad != inf)  // no limit
      CHECK_THAT(rejected([&](auto& o) { o.max_gradient_norm = bad; }),
                 Catch::Contains("max_gradient_norm is " + concat(bad)));
  }
}

TEST_CASE("nonfinite: the Eigen decoder", "[nonfinite][eigen]") {
  const decoder::config c = rlvr::testing::small_decoder("llama");
  const std::vector<float> theta = rlvr::testing::small_parameters<float>(c);

  ragged<token> prompts;
  for (token t = 2; t < 10; ++t) prompts.push_back(std::vector<token>{t, 3});
  const std::vector<sample_request> requests = requests_for(prompts, 4);
  const sampling_options sampling{.max_tokens = 5};
  for (const float bad : {std::nanf(""), static_cast<float>(inf), -static_cast<float>(inf)}) {
    INFO(bad);
    // Coefficients: named, and the gradient stays as it is.
    eigen::decoder<float> sound(c, theta, {.threads = 2});
    const rollouts r = sound.sample(prompts, requests, sampling, random_key(1));
    std::vector<double> coefficients(r.tokens.size(), 1.0);
    auto g = sound.space().zero();
    sound.accumulate_score(prompts, r, coefficients, 1.0, g);
    const std::vector<float> before(g.begin(), g.end());
    coefficients[6] = static_cast<double>(bad);
    CHECK(error_of([&] { sound.accumulate_score(prompts, r, coefficients, 1.0, g); }) ==
          "eigen::decoder::accumulate_score: coefficient 6 is " + concat(bad));
    CHECK(same_bits(std::vector<float>(g.begin(), g.end()), before));

    // Parameters, one in every tensor at a time: whatever is sampled is a token, and one_shot leaves them alone.
    for (const tensor_slot& slot : sound.space().tensors()) {
      INFO(slot.name);
      std::vector<float> damaged = theta;
      damaged[slot.offset] = bad;
      eigen::decoder<float> policy(c, damaged, {.threads = 2});
      const rollouts drawn = policy.sample(prompts, requests, sampling, random_key(1));
      for (token t : drawn.tokens) CHECK((t >= 0 && t < 13));
      CHECK_NOTHROW(validate(drawn, prompts.size()));
      const auto task = prompt_set{prompts, [](std::size_t p, std::span<const token> completion) {
                                     return verdict{completion[0] % 4 == static_cast<token>(p % 4) ? 1.0 : 0.0};
                                   }};
      bool moved = false;
      try {
        moved = one_shot(policy, task, task, task, centred{},
                         {.rollouts = 64, .group_size = 8, .sampling = sampling})
                    .status == one_shot_status::improved;
      } catch (const std::invalid_argument& e) {
        CHECK_THAT(std::string(e.what()), Catch::Contains("is nan"));
      }
      if (!moved)
        CHECK(same_bits(std::vector<float>(policy.parameters().begin(), policy.parameters().end()), damaged));
    }
  }
}
