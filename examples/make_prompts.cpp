/// Writes the prompt files of the example task: chain_train.jsonl, chain_validation.jsonl, chain_test.jsonl and, from
/// a file of reasoning-gym problems, chain_sum.jsonl. A pure function of its options.

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <unordered_set>
#include <vector>

#include <nlohmann/json.hpp>

#include <rlvr/backend/decoder/errors.hpp>
#include <rlvr/backend/decoder/files.hpp>
#include <rlvr/backend/decoder/json.hpp>
#include <rlvr/backend/decoder/prompts.hpp>
#include <rlvr/core/error.hpp>

#include "command_line.hpp"
#include "task.hpp"

namespace {

using rlvr::decoder::input_error;

std::string line_of(const chain::problem& p) {
  const nlohmann::ordered_json line = {{"prompt", chain::prompt_text(p)}, {"answer", chain::answer_text(p)}};
  return line.dump() + "\n";
}

/// A reasoning-gym chain_sum expression such as "80 + 31 - 9", or nothing when it does not fit the task: another
/// number of terms, or a term of more than two digits.
std::optional<chain::problem> convert(std::string_view expression) {
  chain::problem p{{}};
  int digits = 0;
  for (char c : expression) {
    if (c == ' ') continue;
    if (c >= '0' && c <= '9') {
      if (++digits > 2) return std::nullopt;
      p.back().value = 10 * p.back().value + (c - '0');
    } else if ((c == '+' || c == '-') && digits > 0) {
      p.push_back({c, 0});
      digits = 0;
    } else {
      throw std::invalid_argument("the expression holds '" + std::string(1, c) + "' where a number or a sign belongs");
    }
  }
  if (digits == 0) throw std::invalid_argument("the expression ends without a number");
  if (p.size() < chain::fewest_terms || p.size() > chain::most_terms) return std::nullopt;
  return p;
}

/// The lines of chain_sum.jsonl from the file's {"answer", "metadata": {"expression"}} lines.
std::string convert_file(const std::string& path) {
  const std::string text = rlvr::decoder::read_file(path);
  std::string out;
  std::unordered_set<std::string> seen;
  std::size_t number = 0;
  for (std::size_t at = 0; at < text.size();) {
    const std::size_t end = std::min(text.find('\n', at), text.size());
    const std::string here = rlvr::concat(path, ", line ", ++number);
    const nlohmann::json line = rlvr::decoder::parse_json(std::string_view(text).substr(at, end - at), here);
    at = end + 1;
    try {
      const auto p = convert(line.at("metadata").at("expression").get<std::string>());
      if (!p) continue;
      const int answer = std::stoi(line.at("answer").get<std::string>());
      if ((answer % 100 + 100) % 100 != std::stoi(chain::answer_text(*p)))
        throw std::invalid_argument("the answer is not the expression's value");
      if (seen.insert(chain::prompt_text(*p)).second) out += line_of(*p);
    } catch (const nlohmann::json::exception& e) {
      throw input_error(here + ": " + e.what());
    } catch (const std::logic_error& e) {
      throw input_error(here + ": " + e.what());
    }
  }
  return out;
}

struct options {
  std::string out = "examples/data", chain_sum;
  std::size_t train = 4096, validation = 1024, test = 2048;
  std::uint64_t seed = 1;
};

void run(const options& o) {
  const std::filesystem::path folder = o.out;
  std::filesystem::create_directories(folder);
  if (!o.chain_sum.empty()) rlvr::decoder::write_file(folder / "chain_sum.jsonl", convert_file(o.chain_sum));

  // Held out of every split, so that it is new to whatever was trained on ours.
  std::unordered_set<std::string> held_out;
  if (std::filesystem::exists(folder / "chain_sum.jsonl"))
    for (const std::string& prompt : rlvr::decoder::read_prompts(folder / "chain_sum.jsonl").prompts)
      held_out.insert(prompt);

  const rlvr::random_key key = rlvr::random_key(o.seed).fold(rlvr::purpose::corpus);
  const auto write = [&](const char* name, chain::split part, std::size_t count) {
    std::string text;
    const rlvr::random_key part_key = key.fold(static_cast<std::uint64_t>(part));
    for (const chain::problem& p : chain::draw_problems(part, count, part_key, held_out)) text += line_of(p);
    rlvr::decoder::write_file(folder / name, text);
  };
  write("chain_train.jsonl", chain::split::train, o.train);
  write("chain_validation.jsonl", chain::split::validation, o.validation);
  write("chain_test.jsonl", chain::split::test, o.test);
}

}  // namespace

int main(int argc, char** argv) {
  options o;
  CLI::App app{"Writes the prompt files of the example task."};
  app.option_defaults()->always_capture_default()->take_last();
  app.add_option("--out", o.out, "Folder to write into");
  app.add_option("--train", o.train, "Training prompts")->check(positive_number());
  app.add_option("--validation", o.validation, "Validation prompts")->check(positive_number());
  app.add_option("--test", o.test, "Test prompts")->check(positive_number());
  app.add_option("--seed", o.seed, "Seed of all draws");
  app.add_option("--chain-sum", o.chain_sum,
                 "reasoning-gym's chain_sum problems, one JSON object per line: those that fit the task are written to "
                 "chain_sum.jsonl. Without it the chain_sum.jsonl in --out is left as it is");
  return run_program(app, argc, argv, [&] { run(o); });
}
