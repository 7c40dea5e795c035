#pragma once
/// The end-to-end fixture of verl: a prompt `a,b:9,kS` asks for the next k terms of the arithmetic sequence a, b
/// modulo 9, separated by commas; E ends the sequence. Every character is a token.

#include <algorithm>
#include <cstddef>
#include <filesystem>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <rlvr/backend/decoder/errors.hpp>
#include <rlvr/backend/decoder/prompts.hpp>
#include <rlvr/core/error.hpp>
#include <rlvr/core/policy.hpp>
#include <rlvr/core/rollouts.hpp>
#include <rlvr/train/prompt_set.hpp>
#include <rlvr/verify/decoded.hpp>
#include <rlvr/verify/prefix_credit.hpp>

namespace sequence {

/// The text of token i: S, E, P and U (start of the answer, end, padding, unknown), digits, comma, colon.
inline constexpr std::string_view alphabet = "SEPU0123456789,:";

inline constexpr std::size_t longest_completion = 18;  ///< nine digits, eight commas, E

/// verl's train.parquet (800 draws of 736 prompts) and test.parquet (200 draws of 193) as sets: line i, from 0, of
/// all_prompts.jsonl is in the set when bit i % 4 of hexadecimal digit i / 4 is one. The file has 100 prompts twice;
/// the last of two is the one that counts.
inline constexpr std::string_view train_draws =
    "00cb8cfbfef8fbfafbffbddbf00873f3dffff98fefffe7fdff004f3f9eeee55b2bf1ffbef7f008f6ff67dedfeef37fffffff"
    "00cfeff77e2bfef9fdf7fefff00c7adfdbffddffff7fcffffe00cc1fffffbcf7ebfbff7ffff00cd7e6ffff5bf6fcfd565aff"
    "004fffdff8fbf46fbf7ff7fef00cff7f7dfbfee7e7ebbf9fbe";
inline constexpr std::string_view test_draws =
    "000473040107040504004265f0048c0c2000067010001802820080c061111aa4d40e00410a00040900982120110c800000d0"
    "0000100881d4010602080149a00085202400220000803000830003e00000430814040080c0200028190000a4090302a9ad42"
    "0080002007040b904080080380000080820401181814406047";
static_assert(train_draws.size() == 250 && test_draws.size() == 250);

inline bool holds(std::string_view draws, std::size_t i) {
  const char c = draws[i / 4];
  return ((c <= '9' ? c - '0' : c - 'a' + 10) >> (i % 4)) & 1;
}

inline std::vector<rlvr::token> encode(std::string_view text) {
  std::vector<rlvr::token> out;
  for (char c : text) {
    const std::size_t t = alphabet.find(c);
    if (t == alphabet.npos) throw rlvr::decoder::input_error(rlvr::concat("no token for '", std::string(1, c), "'"));
    out.push_back(static_cast<rlvr::token>(t));
  }
  return out;
}

/// Every token has a text, S, E, P and U too: one of them in the middle of an answer is a wrong character.
struct decode {
  std::string operator()(std::span<const rlvr::token> tokens) const {
    std::string out;
    for (rlvr::token t : tokens) out += alphabet[static_cast<std::size_t>(t)];
    return out;
  }
};

/// The answer to a prompt, without its E.
inline std::string answer_to(std::string_view prompt) {
  const auto digit = [&](std::size_t at) { return prompt.at(at) - '0'; };
  const int difference = digit(2) - digit(0) + 9;
  std::string out;
  for (int k = 0, term = digit(2); k < digit(6); ++k) {
    term = (term + difference) % 9;
    if (k > 0) out += ',';
    out += static_cast<char>('0' + term);
  }
  return out;
}

/// The policy in a world that ends a completion as soon as its reward is decided: with the first wrong character, or
/// the last right one. What would come behind cannot change the reward, so the gradient's expectation is the same, and
/// its noise, most of which comes from there, is gone. Models sampler and differentiable, as the policy does.
template <class P>
class until_decided {
 public:
  explicit until_decided(P& policy) : policy_(policy) {}

  const auto& space() const { return policy_.space(); }
  const auto& parameters() const { return policy_.parameters(); }
  template <class... Vector>
  void assign(const Vector&... arguments) {
    policy_.assign(arguments...);
  }

  rlvr::rollouts sample(const rlvr::ragged<rlvr::token>& prompts, std::span<const rlvr::sample_request> requests,
                        const rlvr::sampling_options& options, rlvr::random_key key) {
    const rlvr::rollouts whole = policy_.sample(prompts, requests, options, key);
    rlvr::rollouts out;
    for (std::size_t i = 0; i < whole.size(); ++i) {
      const std::string answer = answer_to(decode{}(prompts[whole.prompts[i]])), said = decode{}(whole.completion(i));
      std::size_t right = 0;
      while (right < answer.size() && right < said.size() && said[right] == answer[right]) ++right;
      const std::size_t decided = right < answer.size() ? right + 1 : std::max(right, std::size_t{1});
      const std::size_t first = whole.offsets[i], last = first + std::min(said.size(), decided);
      for (std::size_t t = first; t < last; ++t) {
        out.tokens.push_back(whole.tokens[t]);
        out.log_probs.push_back(whole.log_probs[t]);
        out.entropies.push_back(whole.entropies[t]);
      }
      out.offsets.push_back(out.tokens.size());
      out.prompts.push_back(whole.prompts[i]);
      out.finished.push_back(1);
    }
    return out;
  }

  void accumulate_score(const rlvr::ragged<rlvr::token>& prompts, const rlvr::rollouts& r,
                        std::span<const double> coefficients, double temperature, rlvr::parameters_t<P>& g) {
    policy_.accumulate_score(prompts, r, coefficients, temperature, g);
  }

 private:
  P& policy_;
};

using verifier = rlvr::decoded_verifier<rlvr::prefix_credit, decode>;
inline constexpr rlvr::prefix_credit credit{.end = rlvr::end_credit::none};  ///< verl gives nothing for the E
using prompt_set = rlvr::prompt_set<verifier>;

struct task {
  prompt_set train, test;
  double best_test_reward = 0;  ///< mean over the test prompts of n / (n + 1) for answers of n characters
};

/// The prompts of all_prompts.jsonl, in verl's split; the 29 prompts that verl has on both sides are left to the test
/// set. Answers are without their E.
/// Throws input_error when the file is missing or has other prompts.
inline task load_task(const std::filesystem::path& folder) {
  const rlvr::decoder::prompt_file file = rlvr::decoder::read_prompts(folder / "all_prompts.jsonl");
  if (file.prompts.size() != 4 * test_draws.size())
    throw rlvr::decoder::input_error(rlvr::concat((folder / "all_prompts.jsonl").string(), ": ", file.prompts.size(),
                                                  " prompts, expected ", 4 * test_draws.size()));
  rlvr::ragged<rlvr::token> train, test;
  std::vector<std::string> train_answers, test_answers;
  double best = 0;
  for (std::size_t i = 0; i < file.prompts.size(); ++i) {
    const std::string answer = file.answers[i].substr(0, file.answers[i].find('E'));
    if (holds(test_draws, i)) {
      test.push_back(encode(file.prompts[i]));
      test_answers.push_back(answer);
      best += static_cast<double>(answer.size()) / static_cast<double>(answer.size() + 1);
    } else if (holds(train_draws, i)) {
      train.push_back(encode(file.prompts[i]));
      train_answers.push_back(answer);
    }
  }
  best /= static_cast<double>(test.size());
  return {{std::move(train), verifier(credit, {}, std::move(train_answers))},
          {std::move(test), verifier(credit, {}, std::move(test_answers))},
          best};
}

}  // namespace sequence
