/// Prompt files: what is read, and every fault with file and line.

#include <filesystem>
#include <string>
#include <vector>

#include <rlvr/backend/decoder/prompts.hpp>

#include "catch.hpp"

using namespace rlvr::decoder;

namespace {

std::string error_of(std::string_view text) {
  try {
    parse_prompts(text, "p.jsonl");
  } catch (const input_error& e) {
    return e.what();
  }
  return "no error";
}

}  // namespace

TEST_CASE("prompts: lines, blank lines, numbers, other fields") {
  const prompt_file p = parse_prompts(
      "{\"prompt\": \"1+1=\", \"answer\": \"2\"}\n\n \t\r\n{\"answer\": 3, \"prompt\": \"é\\n\", \"level\": "
      "[1]}\r\n"
      "{\"prompt\": \"x\", \"answer\": -0.5}\n{\"prompt\": \"y\", \"answer\": \"\"}",
      "p");
  CHECK(p.size() == 4);
  CHECK(p.prompts == std::vector<std::string>{"1+1=", "é\n", "x", "y"});
  CHECK(p.answers == std::vector<std::string>{"2", "3", "-0.5", ""});
  CHECK(p.lines == std::vector<std::size_t>{1, 4, 5, 6});
  CHECK(parse_prompts("{\"question\": \"2+2?\", \"answer\": \"#### 4\"}", "p").prompts[0] == "2+2?");
  CHECK(parse_prompts("{\"question\": \"q\", \"prompt\": \"p\", \"answer\": \"4\"}", "p").prompts[0] == "p");
}

TEST_CASE("prompts: every fault has its line") {
  const std::string good = "{\"prompt\": \"1\", \"answer\": \"2\"}\n";
  CHECK(error_of("") == "p.jsonl: no prompts");
  CHECK(error_of("\n \n") == "p.jsonl: no prompts");
  CHECK(error_of(good) == "no error");
  CHECK(error_of(good + "\n{\"prompt\": \"1\"") == "p.jsonl, line 3: not JSON (error at byte 15)");
  CHECK(error_of(good + "prompt,answer\n") == "p.jsonl, line 2: not JSON (error at byte 1)");
  CHECK(error_of(good + "[]\n") == "p.jsonl, line 2: not a JSON object");
  CHECK(error_of(good + "{\"answer\": \"2\"}\n") == "p.jsonl, line 2: no field \"prompt\"");
  CHECK(error_of("{\"prompt\": 4, \"answer\": \"2\"}\n") ==
        "p.jsonl, line 1: prompt is 4, expected a string");
  CHECK(error_of("{\"prompt\": \"\", \"answer\": \"2\"}\n") == "p.jsonl, line 1: the prompt is empty");
  CHECK(error_of("{\"prompt\": \"1\"}\n") == "p.jsonl, line 1: no field \"answer\"");
  CHECK(error_of("{\"prompt\": \"1\", \"answer\": null}\n") == "p.jsonl, line 1: no field \"answer\"");
  CHECK(error_of("{\"prompt\": \"1\", \"answer\": [2]}\n") ==
        "p.jsonl, line 1: answer is [2], expected a string or a number");
  CHECK(error_of("{\"prompt\": \"1\", \"answer\": 100000000000000000000}\n") ==
        "p.jsonl, line 1: write the answer 1e+20 as a string, to keep its text");
  CHECK(error_of("{\"prompt\": \"1\", \"prompt\": \"2\", \"answer\": 1}\n") ==
        "p.jsonl, line 1: key \"prompt\" appears twice");
  CHECK(error_of("\xEF\xBB\xBF" + good) == "p.jsonl, line 1: not JSON (a NUL byte or a byte order mark)");
}

TEST_CASE("prompts: files") {
  CHECK_THROWS_WITH(read_prompts("no/such/file.jsonl"), "no file no/such/file.jsonl");
  CHECK_THROWS_AS(read_prompts("no/such/file.jsonl"), input_error);
  CHECK_THROWS_AS(read_prompts(std::filesystem::temp_directory_path()), file_error);
}
