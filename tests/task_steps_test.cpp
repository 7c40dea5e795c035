/// Partial credit for the example task.

#include <string>
#include <type_traits>

#include "../examples/task_steps.hpp"
#include "catch.hpp"

using rlvr::verdict;

namespace {
const chain::step_verifier steps{};
constexpr const char* prompt = "47+85-09=======";  // +23-32=23
}  // namespace

TEST_CASE("chain::step_verifier gives the share of valid steps", "[task][verify]") {
  static_assert(rlvr::text_verifier<chain::step_verifier>);
  CHECK(steps("+23-32=23", prompt).reward == 1);
  CHECK(steps("+22-31=13", prompt).reward == Approx(2.0 / 3));  // wrong once, then consequent: 22 - 9 = 13
  CHECK(steps("+23-32=24", prompt).reward == Approx(2.0 / 3));
  CHECK(steps("+23-33=33", prompt).reward == Approx(2.0 / 3));
  CHECK(steps("+23-32=", prompt).reward == Approx(2.0 / 3));
  CHECK(steps("+23-32=23=23", prompt).reward == Approx(2.0 / 3));
  CHECK(steps("+23", prompt).reward == Approx(1.0 / 3));
  CHECK(steps("+23+32=23", prompt).reward == Approx(1.0 / 3));
  for (const char* text : {"", "=23", "-23-32=23", "+2", "+2x-32=23", "23"}) CHECK(steps(text, prompt).reward == 0);
  for (const char* text : {"", "47", "47+8", "47*85", "x7+85", "47+85-9"}) CHECK(steps("+23=32", text).reward == 0);
  CHECK(chain::step_verifier{.rule = rlvr::step_rule::all}("+23-32=23", prompt).reward == 1);
  CHECK(chain::step_verifier{.rule = rlvr::step_rule::all}("+23-32=24", prompt).reward == 0);
}

TEST_CASE("chain::step_verifier: right solutions get 1, and a wrong digit costs a step", "[task][verify]") {
  const rlvr::random_key key(5);
  for (std::uint64_t i = 0; i < 500; ++i) {
    const chain::problem p = chain::draw_problem(key.fold(i));
    const std::string text = chain::prompt_text(p);
    CHECK(steps(chain::completion_text(p, chain::procedure::correct, key), text).reward == 1);
    CHECK(steps(chain::completion_text(p, chain::procedure::direct, key), text).reward == 0);
    // Noise makes steps wrong, never what follows from them: with n terms, n - 1 steps and the answer.
    const std::string noisy = chain::completion_text(p, chain::procedure::noisy, key.fold(i), 1.0);
    CHECK(steps(noisy, text).reward == Approx(1.0 / static_cast<double>(p.size())));
  }
}
