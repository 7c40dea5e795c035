/// The verifiers against the test cases of other projects, and against GSM8K's labelled solutions.

#include <algorithm>
#include <cmath>
#include <fstream>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

#include <rlvr/verify/boxed.hpp>
#include <rlvr/verify/choice.hpp>
#include <rlvr/verify/close.hpp>
#include <rlvr/verify/dapo.hpp>
#include <rlvr/verify/format.hpp>
#include <rlvr/verify/gsm8k.hpp>
#include <rlvr/verify/hendrycks.hpp>
#include <rlvr/verify/numeric.hpp>
#include <rlvr/verify/prm800k.hpp>
#include <rlvr/verify/shaping.hpp>
#include <rlvr/verify/tags.hpp>
#include <rlvr/verify/words.hpp>

#include "catch.hpp"

using namespace rlvr;
using nlohmann::json;

namespace {

/// The rows of a file of the shared data; none, with a warning, when it is not here.
std::vector<json> rows_of([[maybe_unused]] const std::string& name) {
  std::vector<json> rows;
#ifdef RLVR_SHARED_DATA
  std::ifstream file(std::string(RLVR_SHARED_DATA) + "/" + name);
  for (std::string line; std::getline(file, line);) rows.push_back(json::parse(line));
#endif
  if (rows.empty()) WARN("skipped: the shared data are not here: " << name);
  return rows;
}

std::string text(const json& row, const char* key) {
  return row.at(key).get<std::string>();
}

/// The rows of one rule; `file` is under verifier_cases.
std::vector<json> cases(const std::string& file, const std::string& rule) {
  std::vector<json> rows;
  for (json& row : rows_of("verifier_cases/" + file + ".jsonl"))
    if (row.at("rule") == rule) rows.push_back(std::move(row));
  return rows;
}

template <class V>
void agrees(const V& verifier, const json& row) {
  INFO(row.dump());
  const verdict v = verifier(text(row, "prediction"), row.contains("gold") ? text(row, "gold") : "");
  if (row.at("expected").is_null()) {
    CHECK(!v.scored);
  } else {
    CHECK(v.scored);
    CHECK(std::abs(v.reward - row.at("expected").get<double>()) < 1e-12);
  }
}

}  // namespace

TEST_CASE("gsm8k_verifier agrees with the labels of GSM8K's example model solutions", "[verify][data]") {
  std::size_t total = 0, strict = 0, flexible = 0;
  for (const json& row : rows_of("gsm8k/example_model_solutions.jsonl")) {
    std::string gold = text(row, "ground_truth");
    gold.replace(gold.rfind("A: "), 3, "#### ");
    for (const auto& [name, entry] : row.items()) {
      if (!entry.is_object()) continue;
      ++total;
      std::string solution = text(entry, "solution");
      if (const std::size_t at = solution.rfind("A: "); at != std::string::npos) solution.replace(at, 3, "#### ");
      const bool correct = entry.at("is_correct").get<bool>();
      strict += (gsm8k_verifier{}(solution, gold).reward == 1) == correct;
      flexible += (gsm8k_verifier{.rule = gsm8k_rule::flexible}(solution, gold).reward == 1) == correct;
    }
  }
  if (total == 0) return;
  CHECK(total == 5276);
  CHECK(strict == 5276);
  CHECK(flexible == 5274);
}

TEST_CASE("gsm8k_verifier finds the answers of GSM8K itself", "[verify][data]") {
  std::size_t total = 0;
  for (const char* part : {"train", "test"})
    for (const json& row : rows_of(std::string("gsm8k/") + part + ".jsonl")) {
      ++total;
      const std::string answer = text(row, "answer");
      if (gsm8k_verifier{}(answer, answer).reward != 1) FAIL_CHECK(answer);
      if (gsm8k_verifier{}(answer + "0", answer).reward != 0) FAIL_CHECK(answer);
    }
  if (total > 0) CHECK(total == 8792);
}

TEST_CASE("SkyRL's and open-instruct's GSM8K cases", "[verify][data]") {
  for (const json& row : cases("skyrl_gsm8k", "gsm8k_strict")) agrees(gsm8k_verifier{}, row);
  for (const json& row : cases("open_instruct_verifiers", "gsm8k_last_number")) agrees(numeric_verifier{}, row);
}

TEST_CASE("hendrycks_equal on the cases of hendrycks/math", "[verify][data]") {
  for (const json& row : cases("hendrycks_is_equiv", "hendrycks_is_equiv")) {
    INFO(row.dump());
    CHECK(hendrycks_equal(text(row, "gold"), text(row, "prediction")) == row.at("expected").get<bool>());
    CHECK(boxed_verifier{}("so \\boxed{" + text(row, "prediction") + "}.", text(row, "gold")).reward ==
          row.at("expected").get<bool>());
  }
  for (const json& row : cases("open_instruct_strip_string", "hendrycks_strip_string")) {
    INFO(row.dump());
    CHECK(hendrycks_normalized(text(row, "input")) == text(row, "expected"));
  }
}

TEST_CASE("the normalisers on the tables of the originals", "[verify][data]") {
  std::size_t total = 0, hendrycks = 0, minerva = 0, prm800k = 0;
  for (const json& row : rows_of("verifier_cases/oracle_normalisers.jsonl")) {
    ++total;
    const std::string input = text(row, "input");
    const json& outputs = row.at("outputs");
    const auto agree = [&](const char* name, const std::optional<std::string>& ours) {
      const json& theirs = outputs.at(name);
      const bool same = theirs.contains("ok") ? ours == text(theirs, "ok") : !ours;
      if (!same) WARN(name << ": " << row.dump() << " we: " << ours.value_or("(nothing)"));
      return same;
    };
    hendrycks += agree("hendrycks_strip_string", hendrycks_normalized(input));
    prm800k += agree("prm800k_mathd_normalize", prm800k_normalized(input));
    minerva += agree("dapo_normalize_final_answer", minerva_normalized(input));
  }
  CHECK(hendrycks == total);
  CHECK(minerva == total);
  CHECK(prm800k == total);
}

TEST_CASE("prm800k_plain on the table of the original", "[verify][data]") {
  // Where pylatexenc does more: it sets the letters of formulas in \\( \\), \\[ \\] and \\begin{align*} in italics and
  // their powers high, and \\textbf in bold; trims such formulas and begins a line before those of a line of their own;
  // knows arrays. And where Python's float does: exponents, and digits that are not ASCII.
  const std::vector<std::string> different{"0341", "0342", "0388", "0395", "0410", "0479", "0561", "0564",
                                           "0579", "0632", "0659", "0724", "0827", "0934", "0939"};
  std::size_t total = 0, math500 = 0;
  for (const json& row : rows_of("verifier_cases/oracle_normalisers.jsonl")) {
    INFO(row.dump());
    const std::string id = text(row, "id").substr(std::string("oracle_normalisers/").size());
    const bool same = prm800k_plain(text(row, "input")) == text(row.at("outputs").at("prm800k_normalize"), "ok");
    CHECK(same == (std::find(different.begin(), different.end(), id) == different.end()));
    total += same;
    math500 += same && text(row, "origin").rfind("math500", 0) == 0;
  }
  if (total == 0) return;
  CHECK(total == 937);
  CHECK(math500 == 301);
}

TEST_CASE("prm800k_equal agrees with the original's grades", "[verify][data]") {
  for (const char* file : {"hendrycks_is_equiv", "trl_accuracy"})
    for (const json& row : rows_of(std::string("verifier_cases/") + file + ".jsonl")) {
      if (!row.contains("oracle") || !row.at("oracle").contains("prm800k_grade_answer")) continue;
      INFO(row.dump());
      // The oracle compared the last box, where there is one, of both sides.
      const std::string gold = text(row, "gold"), prediction = text(row, "prediction");
      const bool equal = prm800k_equal(last_boxed(prediction).value_or(prediction), last_boxed(gold).value_or(gold));
      CHECK(equal == row.at("oracle").at("prm800k_grade_answer").get<bool>());
    }
}

TEST_CASE("reasoning-gym's and NeMo-RL's scores of short answers", "[verify][data]") {
  // Not implemented: rg_strip_latex (0009-0019), a normal form without a score of its own; of letter_jumble,
  // word_sorting and spell_backward (0042-0046) what is less than right, which these cases do not show.
  for (const json& row : cases("reasoning_gym", "rg_decimal_reward")) agrees(decimal_credit{}, row);
  for (const json& row : cases("reasoning_gym", "rg_string_match"))
    agrees(exact_verifier{.letters = letter_case::ignored}, row);
  for (const json& row : cases("reasoning_gym", "rg_float_match")) {
    INFO(row.dump());
    const json& p = row.at("params");
    const close_verifier close{p.at("rel_tol").get<double>(), p.at("abs_tol").get<double>()};
    const verdict v = close(text(row, "prediction"), text(row, "gold"));
    CHECK(v.reward == row.at("expected").get<double>());
    CHECK(v.scored == (text(row, "gold") != "abc"));  // an answer that is no number is not held against anyone
  }
  for (const char* rule : {"rg_letter_jumble", "rg_word_sorting", "rg_spell_backward"})
    for (const json& row : cases("reasoning_gym", rule)) {
      INFO(row.dump());
      CHECK(exact_verifier{}(text(row, "prediction"), text(row.at("gold"), "answer")).reward ==
            row.at("expected").get<double>());
    }
  for (const json& row : cases("nemo_rl", "nemo_rl_exact_alphanumeric"))
    agrees(in_answer_tags<words_verifier>{{words_rule::letters}}, row);
}

TEST_CASE("format rewards on the cases of TRL, open-r1, verifiers and NeMo-RL", "[verify][data]") {
  for (const json& row : cases("trl_think_format", "think_format")) agrees(format_verifier{}, row);
  for (const json& row : cases("verifiers_think", "verifiers_think_format"))
    agrees(format_verifier{format_rule::one_think}, row);
  for (const json& row : cases("verifiers_think", "think_parser")) {
    INFO(row.dump());
    CHECK(detail::trimmed(behind_last(text(row, "prediction"), "</think>").value_or("")) ==
          text(row, "expected_extraction"));
  }
  for (const json& row : cases("open_r1_format", "openr1_format"))
    agrees(format_verifier{format_rule::think_answer}, row);
  for (const json& row : cases("open_r1_format", "openr1_reasoning_steps")) agrees(reasoning_steps_verifier{}, row);
  for (const json& row : cases("open_r1_format", "openr1_tag_count")) agrees(tag_count_verifier{}, row);
  for (const json& row : cases("open_r1_format", "openr1_code_format"))
    agrees(code_format_verifier{"```" + text(row, "language")}, row);
  for (const json& row : cases("nemo_rl", "nemo_rl_format")) {
    const json& tags = row.at("params");
    agrees(tag_pair_verifier{.think = text(tags, "think_tag"), .answer = text(tags, "answer_tag")}, row);
  }
  for (const json& row : cases("reasoning_gym", "rg_extract_answer")) {
    const std::string tag = text(row.at("params"), "tag_name");
    CHECK(detail::trimmed(last_between(text(row, "prediction"), "<" + tag + ">", "</" + tag + ">").value_or("")) ==
          text(row, "expected_extraction"));
  }
}

TEST_CASE("shaping rewards on the cases of TRL and open-r1", "[verify][data]") {
  for (const json& row : cases("shaping_rewards", "openr1_repetition_penalty")) {
    const json& p = row.at("params");
    agrees(
        repetition_penalty{.n = p.at("ngram_size").get<std::size_t>(), .greatest = p.at("max_penalty").get<double>()},
        row);
  }
  for (const json& row : cases("shaping_rewards", "trl_repetition_penalty")) {
    INFO(row.dump());
    const json& p = row.at("params");
    const repetition_penalty penalty{.n = p.at("ngram_size").get<std::size_t>(),
                                     .greatest = p.at("max_penalty").get<double>()};
    const auto ids = row.at("token_ids").get<std::vector<token>>();
    CHECK(std::abs(penalty(0, ids).reward - row.at("expected").get<double>()) < 1e-12);
  }
  for (const json& row : cases("shaping_rewards", "soft_overlong_punishment")) {
    INFO(row.dump());
    const json& p = row.at("params");
    const overlong_penalty penalty{.longest = p.at("max_completion_len").get<std::size_t>(),
                                   .cache = p.at("soft_punish_cache").get<std::size_t>()};
    CHECK(penalty.at(p.at("length").get<std::size_t>()) == row.at("expected").get<double>());
  }
  for (const char* rule : {"openr1_cosine", "trl_cosine"})
    for (const json& row : cases("shaping_rewards", rule)) {
      INFO(row.dump());
      const json& p = row.at("params");
      const cosine_curve curve{.shortest_right = p.at("max_value_correct").get<double>(),
                               .longest_right = p.at("min_value_correct").get<double>(),
                               .shortest_wrong = p.at("min_value_wrong").get<double>(),
                               .longest_wrong = p.at("max_value_wrong").get<double>(),
                               .longest = p.at("max_len").get<std::size_t>(),
                               .end = rule[0] == 't' ? cosine_end::clamped : cosine_end::periodic};
      const double reward = curve.at(row.at("correct").get<bool>(), p.at("length").get<std::size_t>());
      CHECK(std::abs(reward - row.at("expected").get<double>()) <= row.at("tolerance").get<double>());
    }
}

TEST_CASE("last_choice on Math-Verify's cases of strings", "[verify][data]") {
  for (const json& row : cases("math_verify_string_extraction", "multiple_choice_extract")) {
    INFO(row.dump());
    std::string letters;
    for (const json& s : row.at("params").at("strings")) letters += s.get<std::string>();
    const std::optional<char> choice = last_choice(text(row, "prediction"), letters);
    const json& expected = row.at("expected_extraction");
    CHECK(choice.has_value() == !expected.is_null());
    if (choice && !expected.is_null()) CHECK(detail::lower(*choice) == detail::lower(expected.get<std::string>()[0]));
  }
}

TEST_CASE("words_verifier on the cases of open-instruct", "[verify][data]") {
  for (const json& row : cases("open_instruct_verifiers", "puzzle_matcher")) agrees(words_verifier{}, row);
  const words_verifier f1{words_rule::f1};
  for (const json& row : cases("open_instruct_verifiers", "f1")) {
    INFO(row.dump());
    double best = 0;  // a list of answers: the best of them counts
    const json& gold = row.at("gold");
    for (const json& one : gold.is_array() ? gold : json::array({gold}))
      best = std::max(best, f1(text(row, "prediction"), one.get<std::string>()).reward);
    CHECK(std::abs(best - row.at("expected").get<double>()) < 1e-12);
  }
}
