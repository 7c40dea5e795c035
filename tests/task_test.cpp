#include <cmath>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <set>
#include <string>
#include <string_view>
#include <unordered_set>
#include <vector>

#include "../examples/task.hpp"
#include "catch.hpp"
#include <nlohmann/json.hpp>
#include <rlvr/verify/exact.hpp>
#include <rlvr/verify/numeric.hpp>

namespace {

namespace files = std::filesystem;

#ifdef RLVR_SOURCE_DIR
const files::path data = files::path(RLVR_SOURCE_DIR) / "examples" / "data";
#else
const files::path data = files::path(__FILE__).parent_path().parent_path() / "examples" / "data";
#endif

/// The value of "a+b-c" with any spaces, by nothing but its characters.
int evaluate(std::string_view text) {
  int sum = 0, sign = 1, value = 0;
  for (char c : text) {
    if (c >= '0' && c <= '9') value = 10 * value + (c - '0');
    if (c != '+' && c != '-') continue;
    sum += sign * value;
    value = 0;
    sign = c == '-' ? -1 : 1;
  }
  return sum + sign * value;
}

int modulo_100(int x) { return ((x % 100) + 100) % 100; }

std::vector<nlohmann::json> lines_of(const files::path& path) {
  std::ifstream in(path);
  REQUIRE(in);
  std::vector<nlohmann::json> out;
  for (std::string line; std::getline(in, line);) out.push_back(nlohmann::json::parse(line));
  return out;
}

/// A completion without its signs and answer: the sums, in ordinary order.
std::vector<int> sums_of(const std::string& completion) {
  std::vector<int> out;
  for (std::size_t i = 0; completion[i] != '='; i += 3)
    out.push_back((completion[i + 2] - '0') * 10 + (completion[i + 1] - '0'));
  return out;
}

const chain::problem example{{'+', 47}, {'+', 85}, {'-', 9}};

}  // namespace

TEST_CASE("chain: the example of the docstring", "[task]") {
  const rlvr::random_key key(1);
  CHECK(chain::prompt_text(example) == "47+85-09=======");
  CHECK(chain::answer_text(example) == "23");
  CHECK(chain::completion_text(example, chain::procedure::correct, key) == "+23-32=23");
  CHECK(chain::completion_text(example, chain::procedure::no_carry, key) == "+22-32=23");
  CHECK(chain::completion_text(example, chain::procedure::direct, key) == "=23");
  CHECK(chain::completion_text(example, chain::procedure::noisy, key, 0.0) == "+23-32=23");
}

TEST_CASE("chain: without carry 47+85 is 22, and no borrow either", "[task]") {
  CHECK(chain::apply_without_carry(47, {'+', 85}) == 22);
  CHECK(chain::apply_without_carry(32, {'-', 9}) == 33);
  CHECK(chain::apply_without_carry(12, {'+', 34}) == 46);
  CHECK(chain::apply(12, {'-', 34}) == 78);
}

TEST_CASE("chain: answers are the prompt's value modulo 100, and both verifiers accept the worked completion",
          "[task]") {
  const rlvr::numeric_verifier numeric;
  const rlvr::exact_verifier exact{.marker = "="};
  std::size_t terms[6] = {};
  for (std::uint64_t i = 0; i < 2000; ++i) {
    const chain::problem p = chain::draw_problem(rlvr::random_key(5).fold(i));
    const std::string prompt = chain::prompt_text(p), answer = chain::answer_text(p);
    REQUIRE(p.size() >= chain::fewest_terms);
    REQUIRE(p.size() <= chain::most_terms);
    REQUIRE(prompt.find('=') == 3 * p.size() - 1);
    REQUIRE(prompt.size() == chain::prompt_width);
    REQUIRE(std::stoi(answer) == modulo_100(evaluate(prompt)));
    for (auto how : {chain::procedure::correct, chain::procedure::direct}) {
      const std::string completion = chain::completion_text(p, how, rlvr::random_key(0));
      REQUIRE(completion.size() + 1 <= chain::longest_completion);
      REQUIRE(numeric(completion, answer).reward == 1);
      REQUIRE(exact(completion, answer).reward == 1);
      REQUIRE((prompt + completion).find_first_not_of(chain::alphabet) == std::string::npos);
    }
    // Every sum shown is the value of the prompt up to there.
    const std::vector<int> sums = sums_of(chain::completion_text(p, chain::procedure::correct, rlvr::random_key(0)));
    for (std::size_t k = 0; k < sums.size(); ++k)
      REQUIRE(sums[k] == modulo_100(evaluate(std::string_view(prompt).substr(0, 3 * k + 5))));
    ++terms[p.size()];
  }
  // Four equally likely lengths: 500 expected, deviation 19; a false alarm has probability below 1e-9.
  for (std::size_t n = 2; n <= 5; ++n) CHECK(std::abs(static_cast<double>(terms[n]) - 500) < 130);
}

TEST_CASE("chain: the splits are functions of the text alone, disjoint, and of the stated shares", "[task]") {
  using enum chain::split;
  const rlvr::random_key key(9);
  std::set<std::string> seen;
  for (auto part : {train, validation, test}) {
    const auto problems = chain::draw_problems(part, 300, key);
    REQUIRE(problems.size() == 300);
    for (const chain::problem& p : problems) {
      REQUIRE(chain::split_of(chain::prompt_text(p)) == part);
      REQUIRE(seen.insert(chain::prompt_text(p)).second);
    }
  }
  double share[3] = {};
  const int n = 20000;
  for (int i = 0; i < n; ++i) {
    const auto part = chain::split_of(chain::prompt_text(chain::draw_problem(key.fold(static_cast<std::uint64_t>(i)))));
    share[static_cast<std::size_t>(part)] += 1.0 / n;
  }
  // Deviation at most 0.0033: six of them and a little.
  CHECK(share[0] == Approx(0.7).margin(0.022));
  CHECK(share[1] == Approx(0.1).margin(0.015));
  CHECK(share[2] == Approx(0.2).margin(0.019));
}

TEST_CASE("chain: draws are pure functions of the key, a shorter list begins a longer one, and exclusion holds", "[task]") {
  const rlvr::random_key key(11);
  const auto longer = chain::draw_problems(chain::split::test, 50, key);
  const auto shorter = chain::draw_problems(chain::split::test, 20, key);
  for (std::size_t i = 0; i < 20; ++i)
    CHECK(chain::prompt_text(longer[i]) == chain::prompt_text(shorter[i]));
  const std::unordered_set<std::string> excluded{chain::prompt_text(longer[0]), chain::prompt_text(longer[7])};
  for (const chain::problem& p : chain::draw_problems(chain::split::test, 50, key, excluded))
    CHECK(!excluded.contains(chain::prompt_text(p)));
  const chain::example a = chain::draw_example({.from = chain::corpus::mix, .held_out = {}}, key), b = chain::draw_example({.from = chain::corpus::mix, .held_out = {}}, key);
  CHECK(a.prompt == b.prompt);
  CHECK(a.completion == b.completion);
}

TEST_CASE("chain: the corpora hold what they say", "[task]") {
  const std::size_t n = 4000;
  double steps = 0, wrong_steps = 0, direct = 0, correct = 0, faulty = 0;
  for (std::size_t i = 0; i < n; ++i) {
    const rlvr::random_key key = rlvr::random_key(21).fold(i);
    const chain::example clean = chain::draw_example({.from = chain::corpus::clean, .held_out = {}}, key),
                         noisy = chain::draw_example({.from = chain::corpus::noisy, .held_out = {}}, key),
                         mix = chain::draw_example({.from = chain::corpus::mix, .held_out = {}}, key);
    for (const chain::example& e : {clean, noisy, mix}) REQUIRE(chain::split_of(e.prompt) == chain::split::train);
    const int answer = modulo_100(evaluate(clean.prompt));
    REQUIRE(std::stoi(clean.completion.substr(clean.completion.find('=') + 1)) == answer);

    // A noisy step differs from the right result of the value it started from in exactly one digit.
    const std::vector<int> sums = sums_of(noisy.completion);
    int before = std::stoi(noisy.prompt.substr(0, 2));
    for (std::size_t k = 0; k < sums.size(); ++k) {
      const int value = std::stoi(noisy.prompt.substr(3 * k + 3, 2));
      const int right = modulo_100(noisy.prompt[3 * k + 2] == '-' ? before - value : before + value);
      REQUIRE((sums[k] % 10 != right % 10) + (sums[k] / 10 != right / 10) <= 1);
      wrong_steps += sums[k] != right;
      steps += 1;
      before = sums[k];
    }
    REQUIRE(std::stoi(noisy.completion.substr(noisy.completion.find('=') + 1)) == before);

    if (mix.completion.front() == '=') direct += 1;
    else if (std::stoi(mix.completion.substr(mix.completion.find('=') + 1)) == modulo_100(evaluate(mix.prompt))) correct += 1;
    else faulty += 1;
  }
  // About 10,000 steps: deviation 0.0046. Shares of 4,000: deviation below 0.008.
  CHECK(wrong_steps / steps == Approx(0.3).margin(0.03));
  CHECK(direct / n == Approx(0.4).margin(0.05));
  CHECK(correct / n > 0.25 - 0.05);  // no carry is right when nothing carries
  CHECK(faulty / n < 0.35 + 0.05);
  CHECK(faulty / n > 0.15);
}

TEST_CASE("chain: corpora by name", "[task]") {
  CHECK(chain::corpus_named("noisy") == chain::corpus::noisy);
  CHECK(chain::corpus_named("mix") == chain::corpus::mix);
  CHECK(chain::corpus_named("clean") == chain::corpus::clean);
  CHECK_THROWS_WITH(chain::corpus_named("loud"), "corpus: \"loud\" is not one of clean, noisy, mix");
}

TEST_CASE("chain: the shipped prompt files are disjoint, of their split, and rightly answered", "[task]") {
  std::set<std::string> seen;
  const auto check = [&](const char* name, std::size_t count) {
    const auto lines = lines_of(data / name);
    CHECK(lines.size() == count);
    for (const nlohmann::json& line : lines) {
      const std::string prompt = line.at("prompt"), answer = line.at("answer");
      REQUIRE(seen.insert(prompt).second);
      REQUIRE(answer.size() == 2);
      REQUIRE(std::stoi(answer) == modulo_100(evaluate(prompt)));
    }
    return lines;
  };
  check("chain_sum.jsonl", 120);
  for (const auto& line : check("chain_train.jsonl", 4096))
    REQUIRE(chain::split_of(line.at("prompt").get<std::string>()) == chain::split::train);
  for (const auto& line : check("chain_validation.jsonl", 1024))
    REQUIRE(chain::split_of(line.at("prompt").get<std::string>()) == chain::split::validation);
  for (const auto& line : check("chain_test.jsonl", 2048))
    REQUIRE(chain::split_of(line.at("prompt").get<std::string>()) == chain::split::test);
}

TEST_CASE("chain: chain_sum.jsonl is what reasoning-gym asked", "[task]") {
#ifdef RLVR_SHARED_DATA
  const files::path source = files::path(RLVR_SHARED_DATA) / "reasoning_gym" / "chain_sum.jsonl";
  if (!files::exists(source)) {
    WARN("skipped: no shared data");
    return;
  }
  const auto ours = lines_of(data / "chain_sum.jsonl");
  std::set<std::string> seen;
  std::size_t at = 0;
  for (const nlohmann::json& line : lines_of(source)) {
    if (line["metadata"]["num_digits"] > 2 || line["metadata"]["num_terms"] > 5) continue;
    const std::string expression = line["metadata"]["expression"], answer = line.at("answer");
    if (!seen.insert(expression).second) continue;
    REQUIRE(at < ours.size());
    const std::string prompt = ours[at++].at("prompt");
    CHECK(evaluate(prompt) == std::stoi(answer));
    CHECK(evaluate(prompt) == evaluate(expression));
    CHECK(prompt.find('=') + 1 == 3 * line["metadata"]["num_terms"].get<std::size_t>());
  }
  CHECK(at == ours.size());
#else
  WARN("skipped: no shared data");
#endif
}
