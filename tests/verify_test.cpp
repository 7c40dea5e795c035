/// Verifiers: exact, numeric, decoded, named.

#include <chrono>
#include <fstream>
#include <string>

#include <nlohmann/json.hpp>

#include <rlvr/core/random.hpp>
#include <rlvr/verify/decoded.hpp>
#include <rlvr/verify/exact.hpp>
#include <rlvr/verify/named.hpp>
#include <rlvr/verify/numeric.hpp>

#include "catch.hpp"

using namespace rlvr;

namespace {

constexpr verdict right{1, true}, wrong{0, true}, unscored{0, false};

std::string bytes(std::size_t length, random_key key, const std::string& alphabet) {
  std::string text(length, ' ');
  for (std::size_t i = 0; i < length; ++i)
    text[i] =
        alphabet.empty() ? static_cast<char>(key.below(256, i)) : alphabet[key.below(alphabet.size(), i)];
  return text;
}

}  // namespace

TEST_CASE("exact_verifier trims and compares", "[verify]") {
  const exact_verifier exact;
  CHECK(exact("17", "17") == right);
  CHECK(exact(" \t17\r\n", "17 ") == right);
  CHECK(exact("1 7", "17") == wrong);
  CHECK(exact("17.", "17") == wrong);
  CHECK(exact("", "17") == wrong);
  CHECK(exact("  ", "") == right);
  CHECK(exact(std::string_view("1\0007", 3), "1") == wrong);
}

TEST_CASE("exact_verifier takes the text behind the last marker", "[verify]") {
  const exact_verifier equals{.marker = "="};
  CHECK(equals("12+5=17", "17") == right);
  CHECK(equals("12+5=16=17\n", "17") == right);
  CHECK(equals("17=16", "17") == wrong);
  CHECK(equals("17", "17") == wrong);
  CHECK(equals("17=", "") == right);
  CHECK(equals("", "") == wrong);
  const exact_verifier hashes{.marker = "####"};
  CHECK(hashes("so ##### 5", "5") == right);
  CHECK(hashes("so #### 4 #### 5", "5") == right);
  CHECK(hashes("###", "") == wrong);
}

TEST_CASE("numeric_verifier compares decimals as text", "[verify]") {
  const numeric_verifier numeric;
  SECTION("equal") {
    for (const char* text :
         {"18",    "+18",    "018",    "18.",        "18.0",   "18.000",    "the answer is 18.",
          "$18",   "18%",    "(18)",   "9 * 2 = 18", "x=18\n", "18 apples", "000018.00",
          "3, 18", "1,2,18", "1.5.18", "10-18",      "GPT-18", "f(2)-18",   "v1.2.18",
          "18..."})
      CHECK(numeric(text, "18") == right);
    for (const char* text : {"1234.5", "1,234.50", "-7 1,234.5", "0,001,234.5", "01,234.5"})
      CHECK(numeric(text, "1234.5") == right);
    for (const char* text : {"-3", "x = -3", "-3.0", "--3", "(-3)", "5 -3", "$-3"})
      CHECK(numeric(text, "-3") == right);
    for (const char* text : {"0", "-0", "0.00", "-0.0", "00", ".0", "0,000"})
      CHECK(numeric(text, "0") == right);
    for (const char* text : {".5", "0.5", "0.50", "00.5", "= .5"}) CHECK(numeric(text, "0.5") == right);
    CHECK(numeric("-.5", "-0.5") == right);
    CHECK(numeric("12,345,678", "12345678") == right);
    CHECK(numeric("12345678901234567890123.1", "12,345,678,901,234,567,890,123.10") == right);
  }
  SECTION("not equal") {
    for (const char* text : {"17", "180", "1.8", "-18", "18.01", "0.18", "18 17", "", "none", "-", ".", ",",
                             "1,8", "18,019", "1818", "18e5", "18/2", "eighteen"})
      CHECK(numeric(text, "18") == wrong);
    CHECK(numeric("10 - 3", "-3") == wrong);
    CHECK(numeric("10-3", "-3") == wrong);
    CHECK(numeric("12345678901234567890123", "12345678901234567890124") == wrong);
    CHECK(numeric("0.1000000000000000000001", "0.1") == wrong);
    CHECK(numeric("12,34", "1234") == wrong);        // not thousands
    CHECK(numeric("1234,567", "1234567") == wrong);  // four digits before the comma
    CHECK(numeric("1,2345", "12345") == wrong);      // four behind it
    CHECK(numeric("5...3", "0.3") == wrong);
    CHECK(numeric("5...3", "3") == right);
  }
  SECTION("the answer may be a whole solution") {
    CHECK(numeric("18", "She sells 9 for $2.\n#### 18") == right);
    CHECK(numeric("18", "no number") == unscored);
    CHECK(numeric("", "") == unscored);
  }
  static_assert(numeric_verifier{}("= 07.0", "7").reward == 1, "usable in constant expressions");
}

TEST_CASE("numeric_verifier: writing a number differently does not change the verdict", "[verify]") {
  const numeric_verifier numeric;
  const random_key key(17);
  for (std::uint64_t i = 0; i < 2000; ++i) {
    const std::uint64_t value = key.below(std::uint64_t{1} << (4 * (i % 15) + 1), 2 * i);
    const std::string digits = std::to_string(value);
    std::string commas = digits;
    for (std::size_t at = digits.size(); at > 3; at -= 3) commas.insert(at - 3, 1, ',');
    const std::string sign = key.below(2, 2 * i + 1) ? "-" : "";
    const std::string fraction = i % 3 ? "." + std::to_string(i) : "";
    for (const std::string& text : {sign + digits + fraction, sign + commas + fraction,
                                    sign + "00" + digits + fraction + (fraction.empty() ? ".0" : "000"),
                                    "so 5 = " + sign + commas + fraction + (fraction.empty() ? "." : " ok.")})
      CHECK(numeric(text, sign + digits + fraction) == right);
    CHECK(numeric(sign + std::to_string(value + 1) + fraction, sign + digits + fraction) == wrong);
  }
}

TEST_CASE("verifiers are total and linear on a megabyte of anything", "[verify]") {
  const std::size_t n = 1 << 20;
  const random_key key(23);
  std::vector<std::string> texts{std::string(n, '0'), std::string(n, ','), std::string(n, '.'),
                                 std::string(n, '-'), std::string(n, '='), std::string(n, ' '),
                                 std::string(n, '9')};
  for (const char* alphabet : {"", "0,", "0.", "-1", "1,234", ".5", "= 1", "0123456789,.-+= a"})
    texts.push_back(bytes(n, key, alphabet));
  std::string thousands = "1";
  while (thousands.size() < n) thousands += ",000";
  texts.push_back(thousands);

  const auto begin = std::chrono::steady_clock::now();
  for (const std::string& text : texts)
    for (const std::string& other : {text, std::string("7")})
      with_verifier("numeric", [&](const auto& v) {
        const verdict forth = v(text, other), back = v(other, text);
        CHECK((forth.reward == 0 || forth.reward == 1));
        if (forth.scored && back.scored) CHECK(forth == back);
        if (forth.scored && text == other) CHECK(forth == right);
      });
  for (const std::string& text : texts) {
    CHECK(exact_verifier{}(text, text) == right);
    (void)exact_verifier{.marker = "=="}(text, "1");
  }
  // 80 calls over 1 MB: milliseconds each; a quadratic scan would take hours.
  CHECK(std::chrono::steady_clock::now() - begin < std::chrono::seconds(60));
}

TEST_CASE("numeric_verifier agrees with the labels of GSM8K's example model solutions", "[verify][data]") {
#ifdef RLVR_SHARED_DATA
  std::ifstream file(std::string(RLVR_SHARED_DATA) + "/gsm8k/example_model_solutions.jsonl");
  if (!file) {
    WARN("skipped: the shared data are not here");
    return;
  }
  std::size_t agree = 0, total = 0;
  for (std::string line; std::getline(file, line);) {
    const nlohmann::json row = nlohmann::json::parse(line);
    for (const auto& [name, entry] : row.items()) {
      if (!entry.is_object()) continue;
      ++total;
      const verdict v = numeric_verifier{}(entry.at("solution").get<std::string>(),
                                           row.at("ground_truth").get<std::string>());
      agree += v.scored && (v.reward == 1) == entry.at("is_correct").get<bool>();
    }
  }
  CHECK(total == 5276);
  CHECK(agree == total);
#else
  WARN("skipped: built without the shared data");
#endif
}

TEST_CASE("decoded_verifier decodes and looks the answer up", "[verify]") {
  const auto letters = [](std::span<const token> tokens) {
    std::string text;
    for (token t : tokens)
      if (t != 0) text += static_cast<char>('0' + t);  // 0 is the end of the sequence
    return text;
  };
  const decoded_verifier v(numeric_verifier{}, letters, {"12", "3", "?"});
  static_assert(rollout_verifier<std::remove_const_t<decltype(v)>>);
  CHECK(v(0, std::vector<token>{1, 2, 0}) == right);
  CHECK(v(1, std::vector<token>{1, 2, 0}) == wrong);
  CHECK(v(2, std::vector<token>{1, 2, 0}) == unscored);
  CHECK_THROWS_AS(v(3, std::vector<token>{1}), std::invalid_argument);

  rollouts r;
  r.offsets = {0, 3, 4, 5};
  r.tokens = {1, 2, 0, 3, 3};
  r.prompts = {0, 1, 2};
  verify(v, r);
  CHECK(r.verdicts == std::vector<verdict>{right, right, unscored});
  r.prompts[2] = 9;
  CHECK_THROWS_AS(verify(v, r), std::invalid_argument);
  CHECK(r.verdicts == std::vector<verdict>{right, right, unscored});
}

TEST_CASE("verify rejects a reward that is not finite, and leaves the rollouts alone", "[verify]") {
  const auto broken = [](std::size_t prompt, std::span<const token>) -> verdict {
    return {prompt == 1 ? std::numeric_limits<double>::quiet_NaN() : 1.0, true};
  };
  const auto abstains = [](std::size_t, std::span<const token>) -> verdict {
    return {std::numeric_limits<double>::quiet_NaN(), false};
  };
  rollouts r;
  r.offsets = {0, 1, 2};
  r.tokens = {1, 2};
  r.prompts = {0, 1};
  CHECK_THROWS_WITH(verify(broken, r), "verify: the verifier gave rollout 1 of prompt 1 the reward nan");
  CHECK(r.verdicts.empty());
  verify(abstains, r);
  CHECK(!r.verdicts[0].scored);
}

TEST_CASE("with_verifier selects by name", "[verify]") {
  const auto judge = [](std::string_view name, std::string_view completion) {
    return with_verifier(name, [&](const auto& v) { return v(completion, "17").reward; });
  };
  CHECK(judge("exact", "17") == 1);
  CHECK(judge("exact", "=17") == 0);
  CHECK(judge("exact_after_equals", "12+5=17") == 1);
  CHECK(judge("numeric", "about 17.0") == 1);
  CHECK_THROWS_WITH(judge("box", "17"),
                    "unknown verifier \"box\"; known are " + std::string(verifier_names));
  // Every name in the list is known.
  std::string names(verifier_names);
  for (std::size_t at; !names.empty(); names.erase(0, at == std::string::npos ? at : at + 2)) {
    at = names.find(", ");
    CHECK_NOTHROW(judge(names.substr(0, at), "17"));
  }
}
