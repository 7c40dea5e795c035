/// Big integers, expressions, math_equal and math_verifier.

#include <chrono>
#include <fstream>
#include <limits>
#include <numeric>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

#include <rlvr/core/random.hpp>
#include <rlvr/verify/hendrycks.hpp>
#include <rlvr/verify/math.hpp>

#include "catch.hpp"

using namespace rlvr;
using detail::big_integer;
using detail::comparison;
using detail::rational;
using nlohmann::json;

namespace {

std::vector<json> rows_of([[maybe_unused]] const std::string& name) {
  std::vector<json> rows;
#ifdef RLVR_SHARED_DATA
  std::ifstream file(std::string(RLVR_SHARED_DATA) + "/verifier_cases/" + name);
  for (std::string line; std::getline(file, line);) rows.push_back(json::parse(line));
#endif
  if (rows.empty()) WARN("skipped: the shared data are not here: " << name);
  return rows;
}

struct pair_case {
  const char* a;
  const char* b;
};

void all_are(comparison expected, const std::vector<pair_case>& cases) {
  for (const pair_case& c : cases) {
    INFO(c.a << "   " << c.b);
    CHECK(static_cast<int>(math_equal(c.a, c.b)) == static_cast<int>(expected));
    CHECK(static_cast<int>(math_equal(c.b, c.a)) == static_cast<int>(expected));
  }
}

}  // namespace

TEST_CASE("big_integer computes like int64 where both can", "[verify][math]") {
  const random_key key(3);
  for (std::uint64_t i = 0; i < 3000; ++i) {
    const auto draw = [&](std::uint64_t k) {
      const auto magnitude = static_cast<std::int64_t>(key.below(std::uint64_t{1} << (1 + (i + k) % 31), 4 * i + k));
      return key.below(2, 4 * i + k + 2) ? magnitude : -magnitude;
    };
    const std::int64_t a = draw(0), b = draw(1);
    CHECK(big_integer(a) + big_integer(b) == big_integer(a + b));
    CHECK(big_integer(a) - big_integer(b) == big_integer(a - b));
    CHECK(big_integer(a) * big_integer(b) == big_integer(a * b));
    CHECK((big_integer(a) - big_integer(b)).is_negative() == (a < b));
    CHECK(big_integer(a).to_double() == static_cast<double>(a));
    if (b != 0) {
      CHECK(big_integer::divide(a, b).first == big_integer(a / b));
      CHECK(big_integer::divide(a, b).second == big_integer(a % b));
    }
    CHECK(gcd(big_integer(a), big_integer(b)) == big_integer(std::gcd(a, b)));
  }
  CHECK(big_integer(std::numeric_limits<std::int64_t>::min()).to_double() == -0x1p63);
}

TEST_CASE("big_integer: laws beyond 64 bits, and the cap", "[verify][math]") {
  const random_key key(4);
  const auto draw = [&](std::uint64_t k) {
    std::string digits;
    for (std::uint64_t i = 0, n = 1 + key.below(120, 1000 * k); i < n; ++i)
      digits += static_cast<char>('0' + key.below(10, 1000 * k + 1 + i));
    return big_integer::of_digits(digits);
  };
  for (std::uint64_t i = 0; i < 200; ++i) {
    const big_integer a = draw(3 * i), b = draw(3 * i + 1), c = draw(3 * i + 2);
    CHECK((a + b) * c == a * c + b * c);
    CHECK(a - b + b == a);
    CHECK(gcd(a * c, b * c) == gcd(a, b) * c);
    if (!b.is_zero()) {
      const auto [quotient, remainder] = big_integer::divide(a, b);
      CHECK(quotient * b + remainder == a);
      CHECK((remainder - b).is_negative());
    }
  }
  CHECK(big_integer::of_digits(std::string(600, '9')) + 1 == big_integer::of_digits("1" + std::string(600, '0')));
  const big_integer large = big_integer::of_digits(std::string(600, '9'));
  CHECK((large * large).overflowed());
  CHECK(big_integer::of_digits(std::string(700, '9')).overflowed());
  CHECK(!(large * large == large * large));
  CHECK(rational(1, 0).undefined());
  CHECK((rational(1) / rational(0) + rational(1)).undefined());
  CHECK(rational(6, -4) == rational(-3, 2));
  CHECK(rational::of_decimal("0", "125") == rational(1, 8));
}

TEST_CASE("math_equal: numbers", "[verify][math]") {
  all_are(comparison::equal, {{"18", "18.0"},
                              {"1,234", "1234"},
                              {"1{,}234{,}567", "1234567"},
                              {"1,\\!234", "1234"},
                              {"1\\,234", "1,234"},
                              {"\\$1,234.50", "1234.5"},
                              {"\\frac{1}{2}", "0.5"},
                              {"\\dfrac12", "1/2"},
                              {"\\frac{2}{4}", "\\tfrac{1}{2}"},
                              {"-\\frac{1}{2}", "\\frac{-1}{2}"},
                              {"3\\frac{1}{2}", "\\frac{7}{2}"},
                              {"3 1/2", "3.5"},
                              {"-2\\frac34", "-2.75"},
                              {"50\\%", "50"},
                              {"50\\%", "\\frac{1}{2}"},
                              {"12.5 percent", "0.125"},
                              {"0.333333333", "\\frac13"},
                              {"10^{20}+1", "100000000000000000001"},
                              {"2^{100}", "1267650600228229401496703205376"},
                              {"90^\\circ", "90"},
                              {"5 \\text{ cm}^2", "5"},
                              {"5 cm", "5\\text{ meters}"},
                              {"10\\text{ units}", "10"},
                              {"\\$32", "32 dollars"},
                              {"1011_2", "1011_{2}"},
                              {"2516_8", "2516"},
                              {"$42$", "42."},
                              {"\\text{42}", "42"},
                              {"5!", "120"},
                              {"\\binom{5}{2}", "10"},
                              {"|-3|", "3"},
                              {"\\lfloor 3.7 \\rfloor", "3"},
                              {"-\xe2\x88\x9e", "-\\infty"}});
  all_are(comparison::different, {{"18", "19"},
                                  {"18", "-18"},
                                  {"0.33", "\\frac13"},
                                  {"3.14", "\\pi"},
                                  {"1234", "12345"},
                                  {"10^{20}+1", "10^{20}"},
                                  {"100000000000000000001", "100000000000000000000"},
                                  {"0.1000000000000000000001", "0.1"},
                                  {"50\\%", "5"},
                                  {"3\\frac12", "\\frac32"},
                                  {"\\infty", "-\\infty"},
                                  {"\\infty", "5"},
                                  {"1011_2", "1010_2"}});
  all_are(comparison::undecided, {{"\\frac{1}{0}", "\\frac{2}{0}"}, {"1011_2", "1011_3"}});
}

TEST_CASE("math_equal: expressions", "[verify][math]") {
  all_are(comparison::equal, {{"x^2-1", "(x-1)(x+1)"},
                              {"2x+3", "3+2x"},
                              {"p - q", "-q+p"},
                              {"\\sqrt{12}", "2\\sqrt3"},
                              {"\\frac{1}{\\sqrt2}", "\\frac{\\sqrt{2}}{2}"},
                              {"\\sqrt[3]{8}", "2"},
                              {"\\sqrt[3]{-8}", "-2"},
                              {"\\sin^2 x+\\cos^2 x", "1"},
                              {"\\sin 2x", "2\\sin x\\cos x"},
                              {"\\log_2 8", "3"},
                              {"\\ln e^2", "2"},
                              {"e^{i\\pi}", "-1"},
                              {"(1+i)^2", "2i"},
                              {"\\frac{3}{4}i", "0.75i"},
                              {"\\frac{\\pi}{2}", "\\pi/2"},
                              {"2\xcf\x80", "2\\pi"},
                              {"x^{10}", "x^10"},
                              {"x**2", "x^2"},
                              {"\\frac{a}{b}+\\frac{c}{d}", "\\frac{ad+bc}{bd}"},
                              {"a_1+a_2", "a_{2}+a_{1}"},
                              {"\\left(x+1\\right)^2", "x^2+2x+1"},
                              {"sqrt(2)/2", "\\frac{1}{\\sqrt{2}}"},
                              {"x=5", "5"},
                              {"f(x)=x^2", "x^2"},
                              {"y=2x+1", "y = 1+2x"},
                              {"2x+y=1", "4x+2y=2"},
                              {"2x+y=1", "y=1-2x"},
                              {"1 + 2 = 3", "3"},
                              {"\\log_2 8 = 6/2 = 3", "3"},
                              {"\\alpha=3", "3"},
                              {"1=y=x=3", "3"},
                              {"e=\\frac12", "0.5"},
                              {"\\tan A=\\frac34", "0.75"},
                              {"x<\\infty", "(-\\infty,\\infty)"},
                              {"\\alpha^2", "\\alpha\\cdot\\alpha"}});
  all_are(comparison::different, {{"x^2-1", "(x-1)^2"},
                                  {"x", "y"},
                                  {"\\sqrt{x^2}", "x"},
                                  {"\\sqrt2", "1.41"},
                                  {"2x+y=1", "2x+y=2"},
                                  {"x=5", "x=6"},
                                  {"a_1", "a_2"},
                                  {"e", "2.7"},
                                  {"1=3", "3"},
                                  {"1=3", "1"},
                                  {"3=1+1=3", "3"},
                                  {"\\log_2 8 = 5", "5"},
                                  {"\\infty=5", "5"}});
  all_are(comparison::undecided, {{"\\int_0^1 x dx", "\\frac12"},
                                  {"\\sum_{k=1}^n k", "\\frac{n(n+1)}{2}"},
                                  {"((", "5"},
                                  {"x+", "x"},
                                  {"3=x", "x"},
                                  {"2x=4", "4"},
                                  {"4=2x=4", "4"},
                                  {"\\frac{1}", "1"},
                                  {"10^{10^{10}}", "10^{10^{11}}"}});
}

TEST_CASE("math_equal: lists, intervals, sets, matrices, words", "[verify][math]") {
  all_are(comparison::equal,
          {{"(3,\\frac{\\pi}{2})", "\\left( 3, \\frac{\\pi}{2} \\right)"},
           {"1,2,3", "3, 2, 1"},
           {"\\{1,2\\}", "\\{2,1\\}"},
           {"\\{1,2\\}", "2,1"},
           {"1 \\text{ and } 2", "2,1"},
           {"x=1 or x=2", "1,2"},
           {"x=1, x=2", "\\{1,2\\}"},
           {"1\\pm\\sqrt2", "1+\\sqrt{2},1-\\sqrt{2}"},
           {"[0,1)", "[0, 1.0)"},
           {"(-\\infty,2)\\cup(3,\\infty)", "(3,\\infty) \\cup (-\\infty,2)"},
           {"x \\in [-2,7]", "[-2,7]"},
           {"-2 \\le x \\le 7", "[-2,7]"},
           {"x > 3", "(3,\\infty)"},
           {"3 < x", "x>3"},
           {"x\\leq 3", "(-\\infty,3]"},
           {"\\begin{pmatrix} 1 & 2 \\\\ 3 & 4 \\end{pmatrix}", "\\begin{bmatrix}1&2\\\\3&\\frac{8}{2}\\end{bmatrix}"},
           {"\\emptyset", "\\varnothing"},
           {"\\text{Evelyn}", "evelyn"},
           {"\\text{(C)}", "C"},
           {"\\text{east}", "\\textbf{East}"}});
  all_are(comparison::different, {{"(1,2)", "(2,1)"},
                                  {"(1,2)", "[1,2]"},
                                  {"(1,2)", "(1,2,3)"},
                                  {"\\{1,2\\}", "\\{1,3\\}"},
                                  {"1,2", "1"},
                                  {"x>3", "x<3"},
                                  {"x>3", "x\\ge 3"},
                                  {"\\begin{pmatrix} 1 & 2 \\end{pmatrix}", "\\begin{pmatrix} 1 & 3 \\end{pmatrix}"},
                                  {"\\begin{pmatrix} 1 & 2 \\end{pmatrix}", "\\begin{pmatrix} 1 \\\\ 2 \\end{pmatrix}"},
                                  {"\\text{Evelyn}", "\\text{Angela}"},
                                  {"\\text{even}", "\\text{odd}"},
                                  {"\\text{B}", "C"}});
}

TEST_CASE("math_verifier on the cases of TRL and NeMo-RL", "[verify][math][data]") {
  const auto text = [](const json& row, const char* key) { return row.at(key).get<std::string>(); };
  for (const json& row : rows_of("trl_accuracy.jsonl")) {
    INFO(row.dump());
    const math_verifier math{math_source::boxed};
    std::string close = "</think>";
    if (row.contains("reasoning_delimiters")) close = row.at("reasoning_delimiters").at(0).get<std::string>();
    const verdict v = row.at("rule") == "trl_accuracy"
                          ? math(text(row, "prediction"), text(row, "gold"))
                          : after_thinking<math_verifier>{math, close}(text(row, "prediction"), text(row, "gold"));
    CHECK(v.scored == !row.at("expected").is_null());
    if (v.scored && !row.at("expected").is_null()) CHECK(v.reward == row.at("expected").get<double>());
  }
  for (const json& row : rows_of("nemo_rl.jsonl")) {
    INFO(row.dump());
    if (row.at("rule") == "boxed_math")
      CHECK(math_verifier{}(text(row, "prediction"), text(row, "gold")).reward == row.at("expected").get<double>());
    if (row.at("rule") == "nemo_rl_math_expression_in_answer_tag") {
      // What stands in the tags is the answer itself: box it for the extraction.
      const std::string prediction = text(row, "prediction");
      const auto given = last_between(prediction, "<answer>", "</answer>");
      const bool equal = given && math_equal(*given, text(row, "gold")) == comparison::equal;
      CHECK(equal == (row.at("expected") == 1.0));
    }
  }
}

TEST_CASE("math_equal: an answer of MATH equals its normal form", "[verify][math][data]") {
  std::size_t total = 0, equal = 0, different = 0;
  for (const json& row : rows_of("oracle_normalisers.jsonl")) {
    const auto origin = row.at("origin").get<std::string>();
    if (origin.rfind("math500", 0) != 0) continue;
    const auto input = row.at("input").get<std::string>();
    if (input.find("\\begin") != std::string::npos) continue;  // of \\\\ it keeps only one backslash
    ++total;
    const comparison c = math_equal(input, hendrycks_normalized(input).value_or(input));
    equal += c == comparison::equal;
    different += c == comparison::different;
    if (c == comparison::different) WARN(input);
    if (c == comparison::undecided) WARN("undecided " << input);
  }
  if (total == 0) return;
  CHECK(total == 294);
  CHECK(different == 0);
  CHECK(equal == total);
}

TEST_CASE("math_equal on random texts of mathematics: reflexive, symmetric, never more than milliseconds",
          "[verify][math]") {
  const std::vector<std::string> parts{"1",
                                       "2",
                                       "10",
                                       "0.5",
                                       "x",
                                       "y",
                                       "e",
                                       "i",
                                       "+",
                                       "-",
                                       "*",
                                       "/",
                                       "^",
                                       "_",
                                       "=",
                                       ",",
                                       "(",
                                       ")",
                                       "[",
                                       "]",
                                       "{",
                                       "}",
                                       "|",
                                       "!",
                                       " ",
                                       "%",
                                       "<",
                                       "\\le ",
                                       "\\frac",
                                       "\\sqrt",
                                       "\\pi",
                                       "\\sin",
                                       "\\log",
                                       "\\infty",
                                       "\\pm",
                                       "\\cup",
                                       "\\in ",
                                       "\\text{",
                                       " cm",
                                       "\\{",
                                       "\\}",
                                       "\\begin{pmatrix}",
                                       "\\end{pmatrix}",
                                       "&",
                                       "\\\\",
                                       "\\binom",
                                       "\\lfloor",
                                       "\\rfloor",
                                       "999999999999999999999",
                                       "\\cdot",
                                       "\\left",
                                       "\\right",
                                       "$",
                                       "1,000",
                                       "word"};
  const random_key key(41);
  const auto draw = [&](std::uint64_t k) {
    const random_key text_key = key.fold(k);
    std::string text;
    for (std::uint64_t i = 0, n = 1 + text_key.below(k % 8 == 0 ? 120 : 12, 0); i < n; ++i)
      text += parts[text_key.below(parts.size(), i + 1)];
    return text;
  };
  std::size_t equal = 0;
  for (std::uint64_t k = 0; k < 20000; ++k) {
    const std::string a = draw(2 * k), b = draw(2 * k + 1);
    const comparison forth = math_equal(a, b), back = math_equal(b, a);
    if (forth != back) FAIL_CHECK(a << "   " << b);
    if (math_equal(a, a) != comparison::equal) FAIL_CHECK(a);
    equal += forth == comparison::equal;
    // An answer padded with blanks and dollar signs is the same answer.
    if (a.back() != '\\' && math_equal(a, " $" + a + "$ ") == comparison::different) FAIL_CHECK(a);
  }
  CHECK(equal < 2000);
}

TEST_CASE("math_equal stays fast on what is meant to be slow", "[verify][math]") {
  const auto repeated = [](std::string_view unit, std::size_t length) {
    std::string out;
    while (out.size() + unit.size() <= length) out += unit;
    return out;
  };
  const std::vector<std::string> texts{repeated("1/3+", 3990) + "1",
                                       repeated("9", 610) + "^{4096}",
                                       repeated("1,", 3990) + "2",
                                       repeated("(", 3990),
                                       repeated("2^", 3990) + "2",
                                       repeated("\\pm 1", 3990),
                                       repeated("x=1,", 3990) + "y=2",
                                       repeated("\\{1,", 3990),
                                       repeated("(1,2)\\cup", 3990) + "(3,4)",
                                       repeated("1/" + std::string(300, '7') + "+", 3900) + "1",
                                       repeated("(1+x)^{999}", 3990),
                                       repeated("\\binom{1000}{500}", 3990)};
  for (const std::string& a : texts)
    for (const std::string& b : {a + "+1", repeated("2", 50), texts[2], texts[6]}) {
      const auto begin = std::chrono::steady_clock::now();
      (void)math_equal(a, b);
      INFO(a.substr(0, 40) << "   " << b.substr(0, 40));
      CHECK(std::chrono::steady_clock::now() - begin < std::chrono::seconds(2));
    }
}
