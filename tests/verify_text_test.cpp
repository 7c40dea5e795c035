/// Verifiers of text, case by case; all of them on a megabyte of anything.

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cmath>
#include <fstream>
#include <limits>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include <nlohmann/json.hpp>

#include <rlvr/core/random.hpp>
#include <rlvr/verify/combine.hpp>
#include <rlvr/verify/named.hpp>
#include <rlvr/verify/steps.hpp>

#include "catch.hpp"

using namespace rlvr;

namespace {

constexpr verdict right{1, true}, wrong{0, true}, unscored{0, false};

/// Always the same verdict.
struct says {
  verdict what;
  constexpr verdict operator()(std::string_view, std::string_view) const noexcept { return what; }
};

std::vector<std::string> names() {
  std::vector<std::string> out;
  std::string_view rest = verifier_names;
  for (;;) {
    const std::size_t at = rest.find(", ");
    out.emplace_back(rest.substr(0, at));
    if (at == std::string_view::npos) return out;
    rest.remove_prefix(at + 2);
  }
}

}  // namespace

TEST_CASE("prefix_credit", "[verify]") {
  const prefix_credit credit;
  CHECK(credit("3,4,5", "3,4,5") == right);
  CHECK(credit("3,4,", "3,4,5").reward == 4.0 / 6);
  CHECK(credit("3,4,6", "3,4,5").reward == 4.0 / 6);
  CHECK(credit("3,4,5,6", "3,4,5").reward == 5.0 / 6);
  CHECK(credit("", "3,4,5") == wrong);
  CHECK(credit("x3,4,5", "3,4,5") == wrong);
  CHECK(credit("", "") == right);
  CHECK(credit("1", "") == wrong);
  // The sums of verl's dense reward: the end of a sequence repeats the last character's reward.
  const prefix_credit ended{end_credit::prefix}, cut_off{end_credit::none};
  CHECK(ended("3,4,5", "3,4,5") == right);
  CHECK(ended("3,4,", "3,4,5").reward == 5.0 / 6);
  CHECK(ended("3,4,6", "3,4,5").reward == 4.0 / 6);
  CHECK(ended("", "3,4,5") == wrong);
  CHECK(ended("", "") == right);
  CHECK(cut_off("3,4,5", "3,4,5").reward == 5.0 / 6);
  CHECK(cut_off("", "") == wrong);
}

TEST_CASE("step_verifier", "[verify]") {
  // Steps are letters; those that the reference has are valid.
  const auto count = [](std::string_view text, std::string_view reference) noexcept {
    step_count n;
    for (char c : text) {
      ++n.total;
      n.valid += reference.find(c) != std::string_view::npos;
    }
    return n;
  };
  const step_verifier share{count}, every{count, step_rule::all};
  static_assert(text_verifier<std::remove_const_t<decltype(share)>>);
  CHECK(share("abcd", "ab").reward == 0.5);
  CHECK(share("", "ab") == wrong);
  CHECK(every("abcd", "ab") == wrong);
  CHECK(every("abba", "ab") == right);
  CHECK(every("", "ab") == wrong);
}

TEST_CASE("all_of, any_of and weighted_sum", "[verify]") {
  const says one{{1, true}}, half{{0.5, true}}, none{{0, false}}, minus{{-1, true}};
  CHECK(all_of(one, half)("", "").reward == 0.5);
  CHECK(all_of(one, one)("", "") == right);
  CHECK(all_of(half, minus, one)("", "").reward == -1);
  CHECK(all_of(one, none)("", "") == unscored);
  CHECK(all_of(none, one)("", "") == unscored);
  CHECK(any_of(minus, half)("", "").reward == 0.5);
  CHECK(any_of(minus, none)("", "").reward == -1);
  CHECK(any_of(none, minus)("", "").reward == -1);
  CHECK(any_of(none, none)("", "") == unscored);
  CHECK(weighted_sum({1, 0.5, 2}, one, half, minus)("", "").reward == -0.75);
  CHECK(weighted_sum({1, 0}, one, none)("", "") == unscored);
  CHECK_THROWS_WITH(weighted_sum({1, std::numeric_limits<double>::infinity()}, one, half),
                    "weighted_sum: weights[1] is inf");
  const all_of both(format_verifier{}, after_thinking<numeric_verifier>{});
  static_assert(text_verifier<std::remove_const_t<decltype(both)>>);
  CHECK(both("<think>5</think> 7", "7") == right);
  CHECK(both("<think>7</think> 5", "7") == wrong);
  CHECK(both("5</think> 7", "7") == wrong);
}

TEST_CASE("gsm8k_verifier", "[verify]") {
  const gsm8k_verifier strict, flexible{.rule = gsm8k_rule::flexible};
  CHECK(strict("so #### 18", "18") == right);
  CHECK(strict("#### 1,800", "1800") == right);
  CHECK(strict("#### 1,800", "text\n#### 1,800") == right);
  CHECK(strict("#### -3", "-3") == right);
  CHECK(strict("#### 4 then #### 5", "5") == right);
  CHECK(strict("#### 5 then #### x", "5") == right);
  CHECK(strict("##### 5", "5") == right);
  for (const char* text : {"", "18", "####18", "####  18", "#### $18", "#### 18.", "#### 18.0", "#### x"})
    CHECK(strict(text, "18") == wrong);
  CHECK(gsm8k_verifier{.format_reward = 0.1}("#### 17", "18").reward == 0.1);
  CHECK(gsm8k_verifier{.format_reward = 0.1}("17", "18") == wrong);
  CHECK(flexible("it is 18 dollars", "18") == right);
  CHECK(flexible("-3", "-3") == right);
  CHECK(flexible("it is 18 .", "18") == right);
  for (const char* text : {"it is 18.", "1,8", "none", "18.0", "18 , then", "."}) CHECK(flexible(text, "18") == wrong);
  // 300 characters, not bytes.
  CHECK(strict("#### 18" + std::string(293, 'x'), "18") == right);
  CHECK(strict("#### 18" + std::string(294, 'x'), "18") == wrong);
  std::string accents;
  for (int i = 0; i < 293; ++i) accents += "\xc3\xa9";
  CHECK(strict("#### 18" + accents, "18") == right);
  static_assert(gsm8k_verifier{}("#### 7", "7").reward == 1, "usable in constant expressions");
}

TEST_CASE("boxed_verifier and last_boxed", "[verify]") {
  CHECK(last_boxed("\\boxed{1} and \\boxed{\\frac{1}{2}}.") == "\\frac{1}{2}");
  CHECK(last_boxed("\\boxed{}") == "");
  CHECK(last_boxed("\\boxed 5$ or \\boxed{6}") == "5");  // the spaced form takes precedence
  CHECK(!last_boxed("\\boxed{1} \\boxed{2"));            // no earlier box
  CHECK(!last_boxed("\\fbox{1}"));
  CHECK(!last_boxed("5"));
  const boxed_verifier boxed;
  CHECK(boxed("thus \\boxed{\\dfrac12}", "\\frac{1}{2}") == right);
  CHECK(boxed("thus \\boxed{0.5}", "1/2") == right);
  CHECK(boxed("thus \\boxed{10\\text{ units}}", "10") == right);
  CHECK(boxed("thus \\boxed{\\frac}", "\\frac") == right);  // no normal form: the text itself
  CHECK(boxed("1/2", "1/2") == wrong);
  CHECK(boxed("thus \\boxed{1,234}", "1234") == wrong);
}

TEST_CASE("dapo_verifier", "[verify]") {
  const dapo_verifier dapo, box{.rule = dapo_rule::strict_box, .wrong_reward = -1};
  CHECK(dapo("... Answer: 42", "42") == right);
  CHECK(dapo("answer :\n $\\frac12$\nbye", "\\frac{1}{2}") == right);
  CHECK(dapo("Answer: 1\nAnswer: 2", "2") == right);
  CHECK(dapo("Answer: 1,234 dollars", "1234") == right);
  CHECK(dapo("Answer: x = 5", "5") == right);
  CHECK(dapo("42", "42") == wrong);
  CHECK(dapo("Answer: 42" + std::string(300, ' '), "42") == wrong);
  CHECK(dapo("Answer:", "42") == wrong);
  CHECK(box("\\boxed{42}", "42") == right);
  CHECK(box("\\boxed{42.}", "42").reward == -1);
  CHECK(box("\\boxed{42}" + std::string(100, ' '), "42").reward == -1);
  CHECK(box("\\boxed{42", "42").reward == -1);
  CHECK(dapo_verifier{.wrong_reward = -1}("", "42").reward == -1);
}

TEST_CASE("layouts beyond the cases of their authors", "[verify]") {
  const format_verifier think, lines{format_rule::think_answer};
  CHECK(think(" <think>a</think>b", "") == wrong);
  CHECK(think("<think>a</think>b</think>", "") == right);
  CHECK(lines("<think>\na\n</think>\n<answer>\nb\n</answer>\nmore", "") == right);  // as the original
  CHECK(lines("<think>\na\n</think>\n<answer>\nb\n</answer> more", "") == wrong);
  CHECK(lines("<think>\na\n</think>\n<answer>\nb</answer>", "") == wrong);
  CHECK(lines("<think>\na\n</think><answer>\nb\n</answer>", "") == wrong);
  CHECK(tag_pair_verifier{}("</think><think>", "") == wrong);
}

TEST_CASE("last_between and behind_last", "[verify]") {
  CHECK(last_between("<a>1</a><a>2</a>", "<a>", "</a>") == "2");
  CHECK(last_between("<a>1</a><a>2", "<a>", "</a>") == "1");
  CHECK(last_between("<a><a>1</a>", "<a>", "</a>") == "<a>1");
  CHECK(!last_between("</a>1<a>", "<a>", "</a>"));
  CHECK(behind_last("a</t>b</t>c", "</t>") == "c");
  CHECK(!behind_last("abc", "</t>"));
  const in_answer_tags<numeric_verifier> tags;
  CHECK(tags("<answer> 7 </answer> 8", "7") == right);
  CHECK(tags("7", "7") == wrong);
  CHECK(tags("7", "no number") == unscored);
}

TEST_CASE("choice_verifier", "[verify]") {
  const choice_verifier choice;
  for (const char* text :
       {"B", "(B)", "b)", "**B**", "B. Paris", "The answer is B.", "The answer is (B), not A.", "Answer: B",
        "**Answer:** B", "final answer is \\text{B}", "\\boxed{B}", "\\boxed{\\text{(B)}}", "A is wrong, so B",
        "A or C? The correct answer is **B**.", "Answer: C. No: answer: B"})
    CHECK(choice(text, "B") == right);
  for (const char* text : {"", "C", "The answer is C, not B", "Banana", "nothing", "answer: C and so B"})
    CHECK(choice(text, "B") == wrong);
  CHECK(choice("B", "none") == unscored);
  CHECK(choice("Z", "Z") == unscored);
}

TEST_CASE("countdown_verifier", "[verify]") {
  const countdown_verifier tiny, gym{countdown_rule::reasoning_gym};
  const auto answer = [](const std::string& s) { return "<answer>" + s + "</answer>"; };
  for (const char* text : {"6/(1-3/4)", "6 / ( 1 - 3 / 4 )", "-(6/(3/4-1))", "+6/(1-(3/4))"}) {
    CHECK(tiny(answer(text), "24: 1, 3, 4, 6") == right);
    CHECK(gym(text, "24: 1, 3, 4, 6") == right);
  }
  CHECK(tiny("thought\n" + answer("1") + answer("44+3"), "47: 44 3") == right);
  CHECK(tiny(answer("44+3") + "\n", "47: 44 3") == wrong);  // only the last line
  CHECK(tiny("44+3", "47: 44 3") == wrong);
  for (const char* text : {"44-3", "45+2", "44+3+0", "2**3", "44//3", "44+3=47", "(44)(3)", "4e3", "44+", "044+3",
                           "44+3.0", "44/0", "(44+3", "import os", "99999999999999999999+44+3"})
    CHECK(tiny(answer(text), "47: 44 3").reward == 0.1);
  CHECK(gym("44-3", "47: 44 3").reward == 0.05);
  CHECK(gym("2**3", "8: 2 3").reward == 0.01);
  CHECK(gym("", "47: 44 3").reward == 0.01);
  CHECK(tiny(answer("1/3+1/3+1/3"), "1: 1 1 1 3 3 3") == right);  // exact
  CHECK(tiny(answer("1"), "1") == unscored);
  std::string nested = "1";
  for (int i = 0; i < 65; ++i) nested = "(" + nested + ")";
  CHECK(tiny(answer(nested.substr(1, nested.size() - 2)), "1: 1") == right);
  CHECK(tiny(answer(nested), "1: 1").reward == 0.1);
}

TEST_CASE("countdown_verifier on the cases of reasoning-gym", "[verify][data]") {
#ifdef RLVR_SHARED_DATA
  const auto numbers = [](const nlohmann::json& from) {
    std::string out = std::to_string(from.at("target").get<int>()) + ":";
    for (const auto& n : from.at("numbers")) out += " " + std::to_string(n.get<int>());
    return out;
  };
  const countdown_verifier gym{countdown_rule::reasoning_gym};
  std::ifstream cases(std::string(RLVR_SHARED_DATA) + "/verifier_cases/reasoning_gym.jsonl");
  if (!cases) WARN("skipped: the shared data are not here");
  for (std::string line; std::getline(cases, line);) {
    const nlohmann::json row = nlohmann::json::parse(line);
    if (row.at("rule") != "rg_countdown") continue;
    INFO(line);
    CHECK(gym(row.at("prediction").get<std::string>(), numbers(row.at("gold"))).reward ==
          row.at("expected").get<double>());
  }
  std::ifstream games(std::string(RLVR_SHARED_DATA) + "/reasoning_gym/countdown.jsonl");
  for (std::string line; std::getline(games, line);) {
    const nlohmann::json row = nlohmann::json::parse(line);
    INFO(line);
    const std::string reference = numbers(row.at("metadata")), solution = row.at("answer").get<std::string>();
    CHECK(gym(solution, reference) == right);
    CHECK(gym(solution + "+1", reference).reward == 0.05);
    CHECK(countdown_verifier{}("<answer>" + solution + "</answer>", reference) == right);
  }
#else
  WARN("skipped: built without the shared data");
#endif
}

TEST_CASE("prm800k_verifier beyond the original's table", "[verify]") {
  const prm800k_verifier prm800k;
  const auto equal = [](const char* a, const char* b) { return prm800k_equal(a, b); };
  CHECK(prm800k("so \\boxed{\\frac{1}{2}}", "1/2") == right);
  CHECK(prm800k("1/2", "1/2") == wrong);
  CHECK(equal("12 inches", "12"));
  CHECK(equal("3 million", "3\\cdot 10^6"));
  CHECK(equal("(1, 2)", "( 1,2 )"));
  CHECK(equal("(x+1)^2", "x^2+2x+1"));
  CHECK(equal("\\sqrt{8}", "2\\sqrt{2}"));
  CHECK(equal("(1+1, x)", "(2.0, x)") == false);  // an integer equals integers only
  CHECK(equal("(x+x, 1)", "(2x, 1)"));
  CHECK(!equal("(1, 2)", "[1, 2]"));
  CHECK(!equal("(1, 2)", "(1, 2, 3)"));
  CHECK(!equal("2/4", "1/2"));  // not in lowest terms
  CHECK(!equal("0.3333333333", "1/3"));
  CHECK(!equal("x+y+z", "z+y+x"));         // three letters
  CHECK(!equal("x^{2}x^{12}", "x^{14}"));  // a power of two digits
  CHECK(!equal("", "1"));
  CHECK(prm800k_plain("1 2 3") == "1+23");
  CHECK(prm800k_plain("1,234,567") == "1234567");
  CHECK(prm800k_plain("- 5") == "-5");
  CHECK(prm800k_plain("-0.0") == "0");
  CHECK(prm800k_plain("007") == "7");
  CHECK(prm800k_plain("\\frac{\\frac12}{3}") == "(1/2)/3");
  CHECK(prm800k_plain("\\frac") == "/");
  CHECK(prm800k_plain("\\frac{1") == "/1");
  std::string nested = "1";
  for (int i = 0; i < 60; ++i) nested = "\\frac{" + nested + "}{2}";
  CHECK(prm800k_plain(nested) == prm800k_plain(nested));
  CHECK(prm800k_plain(nested).find("\\frac") == 0);  // too deep: as it stands
}

TEST_CASE("close_verifier, decimal_credit and letter case", "[verify]") {
  const close_verifier close;
  CHECK(close(" 3.14 ", "3.1416") == right);
  CHECK(close("+1e2", "100") == right);
  CHECK(close("-1", "1") == wrong);
  for (const char* text : {"", "x", "1 2", "+-1", "inf", "nan", "1e999", "1_0"}) {
    CHECK(close(text, "1") == wrong);
    CHECK(close("1", text) == unscored);
  }
  const decimal_credit credit;
  CHECK(credit("1,234.50", "1234.5") == right);
  CHECK(credit("-0", "0") == right);
  CHECK(credit("it is 7", "7").reward == Approx(1.0 / 7));
  CHECK(credit("\xc3\xa9 7", "7").reward == Approx(1.0 / 3));
  CHECK(credit("", "7") == wrong);
  CHECK(credit("7", "") == wrong);
  CHECK(credit("x", "x") == right);
  CHECK(credit("-7", "7").reward == 0.5);
  const exact_verifier folded{.letters = letter_case::ignored};
  CHECK(folded("  YES ", "yes") == right);
  CHECK(folded("yes!", "yes") == wrong);
  CHECK(exact_verifier{}("YES", "yes") == wrong);
  CHECK(words_verifier{words_rule::letters}("<think>no</think> A-1", "a1") == right);
  CHECK(words_verifier{words_rule::letters}("a2", "a1") == wrong);
}

TEST_CASE("shaping at its ends", "[verify]") {
  const overlong_penalty penalty{.longest = 100, .cache = 20};
  CHECK(penalty.at(80) == 0);
  CHECK(penalty.at(81) == -0.05);
  CHECK(penalty.at(100) == -1);
  CHECK(penalty.at(std::numeric_limits<std::size_t>::max()) == -1);
  CHECK(overlong_penalty{.longest = 10, .cache = 0}.at(10) == 0);
  CHECK(overlong_penalty{.longest = 10, .cache = 0}.at(11) == -1);
  CHECK(penalty(std::string(90, 'x'), "").reward == -0.5);
  CHECK(penalty(0, std::vector<token>(90)).reward == -0.5);
  CHECK(cosine_curve{.longest = 0}.at(true, 5) == 0.5);
  const cosine_shaped<exact_verifier> shaped{.curve = {.longest = 4}};
  CHECK(shaped("12", "12").reward == Approx(0.75));
  CHECK(shaped("13", "12").reward == Approx(-0.75));
  CHECK(cosine_shaped<numeric_verifier>{}("1", "?") == unscored);
  CHECK(repetition_penalty{.n = 0}("a a", "").reward == 0);
  CHECK(repetition_penalty{.n = 1}("a A b", "").reward == Approx(-1.0 / 3));
}

TEST_CASE("every verifier is total and linear on a megabyte of anything", "[verify]") {
  const std::size_t n = 1 << 20;
  const random_key key(29);
  std::vector<std::string> texts;
  std::string random(n, ' ');
  for (std::size_t i = 0; i < n; ++i) random[i] = static_cast<char>(key.below(256, i));
  texts.push_back(random);
  for (const char* unit : {"",
                           "{",
                           "}",
                           "\\",
                           "9",
                           "1/2+",
                           "((",
                           "\\boxed{",
                           "\\boxed ",
                           "\\frac",
                           "\\frac{",
                           "\\sqrt",
                           "\\text{ ",
                           "\\text{",
                           "$",
                           "#### ",
                           "#### -",
                           "Answer:",
                           "answer ",
                           "answer is",
                           "answer      is  ",
                           "<answer>",
                           "</answer>",
                           "<think>",
                           "</think>",
                           "\n</answer>",
                           "<think>\n\n</think>\n<answer>\n",
                           "Step 1",
                           "a b ",
                           "a",
                           "B ",
                           "1,234",
                           "=",
                           "^",
                           "-",
                           "|",
                           "\\{",
                           "x=1,",
                           "(1,2)\\cup",
                           "\\begin{pmatrix}",
                           "\\pm",
                           "\xc3\xa9",
                           "\x80",
                           "5 cm ",
                           "answer is $. ",
                           "\\boxed{1} and ",
                           "1;(2,3);",
                           "x \\approx ",
                           "\\sum_{k=1}^{9}",
                           "\\frac{1}{2",
                           "meters",
                           "^ ^ \\circ",
                           "```python "}) {
    std::string text;
    while (*unit && text.size() < n) text += unit;
    texts.push_back(text);
  }
  // A whole answer of each, where the verifiers look for it.
  for (std::size_t k = 0, last = texts.size(); k < last; k += 6)
    texts.push_back("<think>\n</think>\\boxed{" + texts[k] + "}");

  // Every verifier in a thread of its own, four at a time.
  struct timing {
    double slowest = 0;
    std::string which, not_finite;
  };
  const std::vector<std::string> all = names();
  std::vector<timing> timings(all.size());
  const auto time = [&](std::size_t which_name) {
    const named_verifier v(all[which_name]);
    timing& out = timings[which_name];
    for (std::size_t k = 0; k < texts.size(); ++k)
      for (int side = 0; side < (k == 0 ? 3 : k % 3 == 0 ? 2 : 1); ++side) {  // completion, answer, both
        const std::string small = "7", *completion = side == 1 ? &small : &texts[k],
                          *answer = side == 0 ? &small : &texts[k];
        const auto begin = std::chrono::steady_clock::now();
        const verdict judged = v(*completion, *answer);
        const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
        const std::string here = all[which_name] + " on text " + std::to_string(k) + ", side " + std::to_string(side);
        if (!std::isfinite(judged.reward)) out.not_finite = here;
        if (seconds > out.slowest) {
          out.slowest = seconds;
          out.which = here;
        }
      }
  };
  std::atomic<std::size_t> next{0};
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t)
    threads.emplace_back([&] {
      for (std::size_t i = next++; i < all.size(); i = next++) time(i);
    });
  for (std::thread& t : threads) t.join();
  double slowest = 0;
  std::string which;
  for (const timing& t : timings) {
    CHECK(t.not_finite == "");
    if (t.slowest > slowest) which = t.which;
    slowest = std::max(slowest, t.slowest);
  }
  INFO(which << ": " << slowest << " s");
  CHECK(slowest < 60);  // seconds, with a sanitizer too; a quadratic scan of a megabyte takes minutes
}

TEST_CASE("named_verifier knows every name, and no other", "[verify]") {
  CHECK(names().size() == 36);
  for (const std::string& name : names()) CHECK_NOTHROW(named_verifier(name));
  CHECK_THROWS_AS(named_verifier("none"), std::invalid_argument);
  CHECK(named_verifier("math_in_answer_tags")("<answer>\\frac{1}{2}</answer>", "0.5") == right);
  CHECK(named_verifier("math_after_thinking")("<think>\\boxed{3}</think> the answer is $4$.", "4") == right);
  CHECK(named_verifier("prefix_credit_verl")("3,4,", "3,4,5").reward == 5.0 / 6);
}
