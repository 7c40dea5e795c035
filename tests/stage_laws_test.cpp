/// The law suites of the stages' concepts hold on the models here, and each catches a model that breaks its law.

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <limits>
#include <span>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <rlvr/advantage/centred.hpp>
#include <rlvr/advantage/group_normalized.hpp>
#include <rlvr/backend/tabular/policy.hpp>
#include <rlvr/laws/advantage_estimator.hpp>
#include <rlvr/laws/line_objective.hpp>
#include <rlvr/laws/verifier.hpp>
#include <rlvr/search/policy_line.hpp>
#include <rlvr/verify/decoded.hpp>
#include <rlvr/verify/exact.hpp>
#include <rlvr/verify/named.hpp>
#include <rlvr/verify/numeric.hpp>

#include "catch.hpp"

using namespace rlvr;

namespace {

constexpr double not_a_number = std::numeric_limits<double>::quiet_NaN();
constexpr double infinite = std::numeric_limits<double>::infinity();

std::string joined(const laws::violations& broken) {
  std::string out;
  for (const std::string& law : broken) out += law + "\n";
  return out;
}

/// Exactly what breaks `law` was noticed.
void check_caught(const laws::violations& broken, const std::string& law) {
  INFO("found: " << joined(broken) << "expected: " << law);
  CHECK(joined(broken).find(law) != std::string::npos);
}

// Verifiers
// ----------------------------------------------------------------------------------------------------

using judgement = verdict (*)(std::string_view, std::string_view);
struct text_judge {
  judgement judge;
  verdict operator()(std::string_view completion, std::string_view answer) const noexcept {
    return judge(completion, answer);
  }
};

laws::violations numeric_laws(judgement judge) {
  return laws::text_verifier_laws(text_judge{judge}, "17", "so it is 17", "I do not know");
}

verdict sound(std::string_view completion, std::string_view answer) {
  return numeric_verifier{}(completion, answer);
}

}  // namespace

TEST_CASE("text_verifier_laws hold on the verifiers", "[laws][verify]") {
  CHECK(joined(laws::text_verifier_laws(exact_verifier{}, "17", "17", "I do not know")) == "");
  CHECK(joined(laws::text_verifier_laws(exact_verifier{.marker = "="}, "17", "12+5=17", "17")) == "");
  CHECK(joined(laws::text_verifier_laws(numeric_verifier{}, "1,234.50", "that is 1234.5", "none")) == "");
  CHECK(joined(numeric_laws(sound)) == "");
}

TEST_CASE("text_verifier_laws hold on the verifiers of correctness by name", "[laws][verify]") {
  struct example {
    std::string_view name, answer, right;
  };
  for (const auto& [name, answer, right] : std::vector<example>{
           {"exact_in_answer_tags", "17", "so <answer>17</answer>"},
           {"gsm8k", "17", "12 + 5 = 17\n#### 17"},
           {"gsm8k_flexible", "17", "the answer is 17"},
           {"boxed", "17", "so \\boxed{17}"},
           {"math", "\\frac{1}{2}", "the answer is \\boxed{0.5}"},
           {"math_boxed", "x^2+1", "so \\boxed{1+x^2}"},
           {"math_after_thinking", "[1, 2)", "<think>hm</think> \\boxed{[1,2)}"},
           {"math_in_answer_tags", "(1, 2)", "<answer>(1,2)</answer>"},
           {"choice", "B", "The answer is (B)."}}) {
    INFO(name);
    CHECK(joined(laws::text_verifier_laws(named_verifier(name), answer, right, "I do not know")) == "");
  }
}

TEST_CASE("text_verifier_laws catch broken verifiers", "[laws][verify]") {
  check_caught(numeric_laws([](std::string_view, std::string_view) { return verdict{0}; }),
               "right: a right completion");
  check_caught(numeric_laws([](std::string_view c, std::string_view a) {
                 const verdict v = sound(c, a);
                 return v.reward > 0 ? v : verdict{0, false};
               }),
               "wrong: a completion without an answer is scored");
  check_caught(numeric_laws([](std::string_view c, std::string_view a) {
                 return verdict{sound(c, a).reward > 0 ? 1.0 : -1.0};
               }),
               "wrong: a completion without an answer has reward 0");
  check_caught(numeric_laws([](std::string_view c, std::string_view a) {
                 return c.size() > 299 ? verdict{not_a_number} : sound(c, a);
               }),
               "finite: the reward of \"((((");
  check_caught(numeric_laws([](std::string_view c, std::string_view a) {
                 return a.empty() ? verdict{infinite, false} : sound(c, a);
               }),
               "finite: the reward of \"\" is inf");
  check_caught(numeric_laws([](std::string_view c, std::string_view a) {
                 static int calls = 0;
                 return ++calls > 300 ? verdict{0.5} : sound(c, a);
               }),
               "pure: another verdict");
  check_caught(numeric_laws([](std::string_view c, std::string_view a) {
                 const char* text = c.data();  // reads to the NUL, as if it were a C string
                 const bool all = text != nullptr && c == "so it is 17" && text[c.size()] == '7';
                 return all ? verdict{0} : sound(c, a);
               }),
               "view: what stands behind");
  check_caught(numeric_laws([](std::string_view c, std::string_view a) {
                 volatile std::size_t steps = 0;
                 for (std::size_t i = 0; i < c.size(); ++i)
                   for (std::size_t j = 0; j < c.size(); ++j) steps = steps + 1;
                 return sound(c, a);
               }),
               "linear: ");
}

TEST_CASE("rollout_verifier_laws hold on a decoded verifier and catch broken ones", "[laws][verify]") {
  const tabular::policy policy(std::vector<double>(12, 0.0), 4);
  const std::vector<sample_request> requests{{0, 5, 0}, {1, 6, 0}, {2, 3, 0}};
  const rollouts r = policy.sample(policy.prompts(), requests, {}, random_key(3));
  const auto decode = [](std::span<const token> completion) { return std::to_string(completion[0]); };
  const decoded_verifier verifier(numeric_verifier{}, decode, {"0", "2", "1"});
  CHECK(joined(laws::rollout_verifier_laws(verifier, r)) == "");

  int calls = 0;
  check_caught(laws::rollout_verifier_laws(
                   [&](std::size_t, std::span<const token>) { return verdict{static_cast<double>(++calls)}; }, r),
               "pure: another verdict on rollout");
  check_caught(laws::rollout_verifier_laws(
                   [](std::size_t p, std::span<const token>) { return verdict{p == 1 ? not_a_number : 0}; }, r),
               "finite: the reward of rollout 5 is nan");
  const token* where = r.tokens.data();
  check_caught(laws::rollout_verifier_laws(
                   [&](std::size_t, std::span<const token> c) {
                     return verdict{c.data() >= where && c.data() < where + r.tokens.size() ? 1.0 : 0.0};
                   },
                   r),
               "pure: another verdict on rollout 13 of prompt 2");
  CHECK(joined(laws::rollout_verifier_laws(
            [](std::size_t, std::span<const token>) { return verdict{not_a_number, false}; }, r)) == "");
}

// Advantages
// ---------------------------------------------------------------------------------------------------

namespace {

using estimate = std::function<std::vector<double>(std::vector<verdict>, const groups&)>;
struct estimator {
  estimate f;
  std::vector<double> operator()(std::span<const verdict> verdicts, const groups& g) const {
    return f({verdicts.begin(), verdicts.end()}, g);
  }
};

laws::violations advantage_violations(estimate f) { return laws::advantage_estimator_laws(estimator{f}); }

/// centred{} on verdicts that were changed before.
template <class Change>
laws::violations after(Change change) {
  return advantage_violations([change](std::vector<verdict> verdicts, const groups& g) {
    change(verdicts);
    return centred{}(verdicts, g);
  });
}

/// The advantages of centred{}, changed.
template <class Change>
laws::violations changed(Change change) {
  return advantage_violations([change](std::vector<verdict> verdicts, const groups& g) {
    std::vector<double> out = centred{}(verdicts, g);
    change(out, verdicts);
    return out;
  });
}

}  // namespace

TEST_CASE("advantage_estimator_laws hold on the estimators", "[laws][advantage]") {
  CHECK(joined(laws::advantage_estimator_laws(centred{})) == "");
  CHECK(joined(laws::advantage_estimator_laws(centred{.against = baseline::leave_one_out})) == "");
  CHECK(joined(laws::advantage_estimator_laws(centred{.lone = lone_rollout::reward},
                                              {.lone = lone_rollout::reward})) == "");
  CHECK(joined(laws::advantage_estimator_laws(group_normalized{})) == "");
  CHECK(joined(laws::advantage_estimator_laws(group_normalized{.ddof = 0, .epsilon = 0})) == "");
  CHECK(joined(laws::advantage_estimator_laws(group_normalized{.lone = lone_rollout::reward},
                                              {.lone = lone_rollout::reward})) == "");
}

TEST_CASE("advantage_estimator_laws catch broken estimators", "[laws][advantage]") {
  check_caught(laws::advantage_estimator_laws(centred{.lone = lone_rollout::reward}), "lone: ");
  check_caught(laws::advantage_estimator_laws(centred{}, {.lone = lone_rollout::reward}), "lone: ");
  check_caught(changed([](auto& a, auto&) { a.push_back(0); }), "shapes: ");
  check_caught(changed([](auto& a, auto&) { a.empty() ? void() : void(a[0] = not_a_number); }), "finite: ");
  check_caught(changed([](auto& a, auto&) { a.assign(a.size(), 0.0); }), "signal: ");
  int calls = 0;
  check_caught(changed([&](auto& a, auto&) {
                 for (double& x : a) x *= 1 + 1e-12 * calls;
                 ++calls;
               }),
               "pure: ");
  check_caught(advantage_violations([](std::vector<verdict> verdicts, const groups&) {
                 std::vector<double> out;
                 for (const verdict& v : verdicts) out.push_back(v.scored ? v.reward : 0);
                 return out;
               }),
               "shift: ");
  check_caught(changed([](auto& a, auto&) {
                 for (std::size_t i = 1; i < a.size(); ++i) a[i] += 1e-3 * a[i - 1];
               }),
               "permutation: ");
  check_caught(after([](auto& verdicts) {
                 for (verdict& v : verdicts)
                   if (!v.scored) v = {0, true};
               }),
               "unscored: enters no statistic");
  check_caught(changed([](auto& a, auto& verdicts) {
                 for (std::size_t i = 0; i < a.size(); ++i)
                   if (!verdicts[i].scored) a[i] = -1;
               }),
               "unscored: has advantage -1");
  check_caught(advantage_violations([](std::vector<verdict> verdicts, const groups& g) {
                 // The plain mean, over the deviation: what is left of 0.1 - mean is divided by epsilon.
                 std::vector<double> out = centred{}(verdicts, g);
                 for (std::size_t group = 0; group < g.size(); ++group) {
                   double sum = 0, count = 0, squares = 0;
                   for (std::size_t i = g.begin(group); i < g.end(group); ++i)
                     if (verdicts[i].scored) sum += verdicts[i].reward, ++count;
                   for (std::size_t i = g.begin(group); i < g.end(group); ++i)
                     if (verdicts[i].scored) squares += std::pow(verdicts[i].reward - sum / count, 2);
                   for (std::size_t i = g.begin(group); i < g.end(group); ++i)
                     if (verdicts[i].scored)
                       out[i] = (verdicts[i].reward - sum / count) / (std::sqrt(squares / count) + 1e-6);
                 }
                 return out;
               }),
               "equal: 3 rewards of 0.1");
  check_caught(advantage_violations([](std::vector<verdict> verdicts, const groups& g) {
                 if (g.total() != verdicts.size()) return std::vector<double>(verdicts.size());
                 return centred{}(verdicts, g);
               }),
               "errors: groups that do not cover");
  check_caught(advantage_violations([](std::vector<verdict> verdicts, const groups& g) {
                 groups full;
                 for (std::size_t i = 0; i < g.size(); ++i)
                   if (g.size(i) > 0) full.offsets.push_back(g.end(i));
                 return centred{}(verdicts, full);
               }),
               "errors: an empty group");
  check_caught(after([](auto& verdicts) {
                 for (verdict& v : verdicts)
                   if (!std::isfinite(v.reward)) v.reward = 0;
               }),
               "errors: a scored reward of nan");
  check_caught(advantage_violations([](std::vector<verdict> verdicts, const groups& g) {
                 try {
                   return centred{}(verdicts, g);
                 } catch (const std::invalid_argument&) {
                   throw std::invalid_argument("something is wrong");
                 }
               }),
               "is named by its index");
}

TEST_CASE("advantage_estimator_laws keep their findings from estimators that trust groups", "[laws][advantage]") {
  // Such a one is never given an empty group, nor groups that go past the verdicts: it could take the process with it.
  std::size_t malformed = 0;
  const auto trusting = [&](double factor) {
    return advantage_violations([&malformed, factor](std::vector<verdict> verdicts, const groups& g) {
      bool sound = g.total() <= verdicts.size();
      for (std::size_t i = 0; i < g.size(); ++i) sound = sound && g.size(i) > 0;
      malformed += !sound;
      for (verdict& v : verdicts)
        if (!std::isfinite(v.reward)) v.reward = 0;
      groups covering = g;
      covering.offsets.back() = verdicts.size();
      std::vector<double> out = centred{}(verdicts, sound ? covering : groups_of(std::vector<std::uint32_t>(4)));
      if (!out.empty()) out[0] *= factor;
      return out;
    });
  };
  const laws::violations otherwise_right = trusting(1), wrong_as_well = trusting(2);
  CHECK(malformed == 0);
  check_caught(otherwise_right, "errors: a scored reward of nan: expected");
  check_caught(otherwise_right, "errors: groups that do not cover the verdicts: expected");
  check_caught(wrong_as_well, "permutation: ");
  CHECK(wrong_as_well.back() == "errors: not tried while other laws are broken");
}

TEST_CASE("check_verdicts names what is wrong", "[advantage]") {
  const std::vector<verdict> two{{1}, {not_a_number, false}}, odd{{1}, {infinite}};
  const auto by = [](std::vector<std::size_t> offsets) { return groups{std::move(offsets)}; };
  CHECK_NOTHROW(check_verdicts(two, by({0, 1, 2})));
  CHECK_NOTHROW(check_verdicts({}, {}));
  CHECK_THROWS_WITH(check_verdicts(odd, by({0, 2})), "advantages: reward 1 is inf");
  CHECK_THROWS_WITH(check_verdicts(two, by({1, 2})), "advantages: groups begin at 1, expected 0");
  CHECK_THROWS_WITH(check_verdicts(two, by({0, 2, 2})), "advantages: group 1 is [2, 2), which is empty");
  CHECK_THROWS_WITH(check_verdicts(two, by({0, 3})), "advantages: groups of 3 rollouts for 2 verdicts");
}

// Line objectives
// ----------------------------------------------------------------------------------------------

TEST_CASE("line_objective_laws hold on functions and on policy_line", "[laws][search]") {
  const std::vector<double> alphas{0.1, 3, 1000};
  auto parabola = [](double alpha) { return alpha - alpha * alpha; };
  CHECK(joined(laws::line_objective_laws(parabola, alphas)) == "");
  auto wild = [](double alpha) { return line_point{.value = alpha > 10 ? not_a_number : alpha, .kl = alpha > 10 ? not_a_number : alpha}; };
  CHECK(joined(laws::line_objective_laws(wild, alphas)) == "");

  tabular::policy policy({0.1, 0.9, -1.0, 0.4, 0.0, 1.5}, 3);
  const ragged<token> prompts = policy.prompts();
  const std::vector<sample_request> requests{{0, 50, 0}, {1, 50, 0}};
  const std::vector<double> direction{1, 0, -1, 0, 2, 0};
  const auto judge = [](std::size_t p, std::span<const token> c) {
    return verdict{c[0] == static_cast<token>(p) ? 1.0 : 0.0};
  };
  const auto line = [&] { return policy_line(policy, prompts, requests, {}, random_key(5), judge, direction); };
  auto first = line(), second = line();
  CHECK(joined(laws::line_objective_laws(first, second, alphas)) == "");
}

TEST_CASE("line_objective_laws catch broken objectives", "[laws][search]") {
  const std::vector<double> alphas{0.1, 3};
  const auto caught = [&](auto f, const std::string& law) {
    check_caught(laws::line_objective_laws(f, alphas), law);
  };
  caught([](double alpha) { return 1 / alpha; }, "base: the value at alpha = 0 is inf");
  caught([](double) { return line_point{.kl = 0.1}; }, "base: kl at alpha = 0");
  caught([](double) { return line_point{.entropy = not_a_number}; }, "base: the entropy");
  caught([](double) { return line_point{.length = -1}; }, "base: the length");
  caught([seed = 0u](double) mutable { return random_key(++seed).uniform(0); }, "pure: at alpha = 3");
  caught([last = 0.0](double alpha) mutable { return line_point{.kl = std::exchange(last, alpha)}; },
         "pure: at alpha = 0.1");
}
