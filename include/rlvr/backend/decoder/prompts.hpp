#pragma once
/// Prompts with their answers, one {"prompt": ..., "answer": ...} per line; "question" is another name for "prompt".

#include <cstddef>
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include <rlvr/backend/decoder/errors.hpp>
#include <rlvr/backend/decoder/files.hpp>
#include <rlvr/backend/decoder/json.hpp>
#include <rlvr/core/error.hpp>

namespace rlvr::decoder {

/// P prompts, their answers, and the lines (from 1) they stand on, for messages.
struct prompt_file {
  std::vector<std::string> prompts;  ///< [P] not empty
  std::vector<std::string> answers;  ///< [P]
  std::vector<std::size_t> lines;    ///< [P]

  std::size_t size() const { return prompts.size(); }
};

/// Reads JSON lines. Blank lines and other fields are ignored. An answer is a string or a number, which
/// stands for its shortest JSON text. `origin` names the file in messages. Throws input_error naming file and
/// line when a line is not a JSON object with both fields, or there is none.
inline prompt_file parse_prompts(std::string_view text, const std::string& origin) {
  prompt_file out;
  std::size_t number = 0;
  while (!text.empty()) {
    ++number;
    const std::size_t end = text.find('\n');
    const std::string_view line = text.substr(0, end);
    text.remove_prefix(end == text.npos ? text.size() : end + 1);
    if (line.find_first_not_of(" \t\r") == line.npos) continue;

    const std::string here = concat(origin, ", line ", number);
    const nlohmann::json root = parse_json(line, here);
    const detail::field_reader fields(root, here);
    const nlohmann::json* answer = fields.find("answer");
    auto prompt = fields.text("prompt");
    if (!prompt) prompt = fields.text("question");
    if (!prompt) throw input_error(here + ": no field \"prompt\"");
    if (prompt->empty()) throw input_error(here + ": the prompt is empty");
    if (!answer) throw input_error(here + ": no field \"answer\"");
    if (!answer->is_string() && !answer->is_number()) fields.fail("answer", *answer, "a string or a number");
    std::string expected = answer->is_string() ? answer->get<std::string>() : answer->dump();
    // A number that a double cannot hold, or that is written unusually, would silently become another text.
    if (answer->is_number() && line.find(expected) == line.npos)
      throw input_error(concat(here, ": write the answer ", expected, " as a string, to keep its text"));
    out.prompts.push_back(*prompt);
    out.answers.push_back(std::move(expected));
    out.lines.push_back(number);
  }
  if (out.prompts.empty()) throw input_error(origin + ": no prompts");
  return out;
}

/// parse_prompts of a file.
/// Throws input_error also when there is no such file, file_error when it cannot be read.
inline prompt_file read_prompts(const std::filesystem::path& path) {
  return parse_prompts(read_file(path), path.string());
}

}  // namespace rlvr::decoder
