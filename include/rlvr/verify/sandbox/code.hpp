#pragma once
/// The verifier of programs: runs Python code of a completion against asserts, in a sandbox.

#include <cstddef>
#include <cstdint>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <rlvr/core/error.hpp>
#include <rlvr/verify/exact.hpp>
#include <rlvr/verify/named.hpp>
#include <rlvr/verify/sandbox/process.hpp>
#include <rlvr/verify/verifier.hpp>

#if defined(__linux__)
#include <sys/random.h>
#endif

namespace rlvr {

/// Where the code of a completion stands.
enum class code_source {
  last_block,  ///< between the last ```python (or ```py, or bare ```) and the next ```; or the end
  whole        ///< the whole completion, as of a base model that goes on with a function
};

/// The code that a completion gives; nothing when it gives none. Linear.
constexpr std::optional<std::string_view> code_of(std::string_view completion, code_source source) {
  if (source == code_source::whole) return completion;
  // Fences alternate: one that opens, one that closes.
  std::optional<std::string_view> last;
  for (std::size_t at = completion.find("```"); at != std::string_view::npos; at = completion.find("```", at)) {
    at += 3;
    const std::size_t line = completion.find('\n', at);
    if (line == std::string_view::npos) break;
    const std::string_view language = detail::trimmed(completion.substr(at, line - at));
    const std::size_t close = completion.find("```", line);
    if (language.empty() || language == "python" || language == "py" || language == "python3")
      last = completion.substr(line + 1, close == std::string_view::npos ? close : close - line - 1);
    if (close == std::string_view::npos) break;
    at = close + 3;
  }
  return last;
}

/// Which interpreter runs the code, and how.
struct code_options {
  /// Path and options of a Python 3, e.g. {"/usr/bin/python3", "-s", "-S", "-B"}. Must be given: nothing is run
  /// unless it is asked for.
  std::vector<std::string> interpreter;
  code_source source = code_source::last_block;
  sandbox_limits limits = {};
  /// NAME=value. With a fixed hash seed (and without -I or -E, which ignore it) sets have one order in every run.
  std::vector<std::string> environment = {"PYTHONHASHSEED=0"};
};

/// How code fared against its tests.
enum class code_outcome {
  passed,        ///< the tests ran to their end
  failed,        ///< an assert or exception, an exit before the end, a limit, no code, or no Python
  tests_invalid  ///< there are no tests, or they do not compile
};

/// Reward 1 when the completion's code passes the asserts of the answer, else 0. Models text_verifier.
///
/// The answer holds tests in Python that are run after the code and see its names: MBPP's lines "assert f(2) == 4", or
/// HumanEval's check function and the call of it. When it has a line "<completion>", what stands before this line is
/// put before the code: a HumanEval prompt, or imports.
///
/// The code passes when the process writes, after the last test, a random word of this run that it is given behind the
/// tests. Output, exit status, exits and exceptions of the code do not count: sys.exit(0) or os._exit(0) before the
/// end is a failure, and so is a thread that ends the process. Code and tests are compiled apart, so that no open
/// quote or bracket of the code swallows the tests, and with asserts whatever -O says.
///
/// Not guaranteed: code and tests share one interpreter. Code that reads the word from its input, walks the frames of
/// the interpreter, or returns objects that are equal to everything can pass without solving the problem.
///
/// Unscored: tests that are empty or do not compile; and a failure of the system (no process, no memory) while it runs.
/// See run_sandboxed for the limits, the protections and what they do not cover. A run takes the start of the
/// interpreter, some 10 ms, and at most limits.wall_time; deterministic as far as the code is. May be called from
/// several threads at once.
class code_verifier {
 public:
  /// Runs a test program. Throws std::invalid_argument when no interpreter is named or its path is not absolute, and
  /// std::runtime_error when the program does not run to its end: no such interpreter, no protection by the kernel.
  explicit code_verifier(code_options options) : options_(std::move(options)) {
    require(!options_.interpreter.empty() && options_.interpreter[0].substr(0, 1) == "/",
            "code_verifier: interpreter must begin with the absolute path of a Python 3");
    options_.interpreter.insert(options_.interpreter.end(), {"-c", std::string(driver)});
    if (run("x = 1\n", "assert x == 1\n") != code_outcome::passed ||
        run("x = 1\n", "assert x == 2\n") != code_outcome::failed)
      throw std::runtime_error(
          concat("code_verifier: ", options_.interpreter[0], " does not run Python 3 within the limits"));
  }

  verdict operator()(std::string_view completion, std::string_view answer) const noexcept {
    try {
      const code_outcome outcome = judge(completion, answer);
      return {.reward = outcome == code_outcome::passed ? 1.0 : 0.0, .scored = outcome != code_outcome::tests_invalid};
    } catch (...) {  // the world failed: the completion is not to blame
      return {.reward = 0, .scored = false};
    }
  }

  /// The same with its reason. Throws std::runtime_error when the system fails.
  code_outcome judge(std::string_view completion, std::string_view answer) const {
    constexpr std::string_view mark = "<completion>\n";
    std::string code;
    std::size_t at = answer.find(mark);
    while (at != std::string_view::npos && at > 0 && answer[at - 1] != '\n') at = answer.find(mark, at + 1);
    if (at != std::string_view::npos) {
      code = answer.substr(0, at);
      answer.remove_prefix(at + mark.size());
    }
    if (detail::trimmed(answer).empty()) return code_outcome::tests_invalid;
    const std::optional<std::string_view> given = code_of(completion, options_.source);
    if (!given) return code_outcome::failed;
    const code_outcome outcome = run(code.append(*given), answer);
    // Code that finds the word for tests that do not compile gains nothing by it.
    return outcome == code_outcome::tests_invalid && run({}, answer) != outcome ? code_outcome::failed : outcome;
  }

 private:
  // Two words: one that says that the tests do not compile, which is believed only when they do not without the code
  // either, and one for the end.
  static constexpr std::string_view driver = R"(
import os
def _run(read, write, leave):
    def take(n):
        parts = []
        while n > 0:
            part = read(3, n)
            if not part: leave(2)
            parts.append(part)
            n -= len(part)
        return b''.join(parts)
    word, sizes = take(32), take(42).split()
    code, tests = take(int(sizes[0])), take(int(sizes[1]))
    try:
        tests = compile(tests, 'tests', 'exec', dont_inherit=True, optimize=0)
    except BaseException:
        write(4, word)
        leave(2)
    del word
    names, run = {'__name__': '__main__', '__builtins__': __builtins__}, exec
    run(compile(code, 'code', 'exec', dont_inherit=True, optimize=0), names)
    run(tests, names)
    write(4, take(32))
    leave(0)
_run(os.read, os.write, os._exit)
)";

  static std::string random_word() {
    unsigned char bytes[16] = {};
#if defined(__linux__)
    if (::getrandom(bytes, sizeof bytes, 0) != static_cast<ssize_t>(sizeof bytes))
      throw std::runtime_error("code_verifier: getrandom failed");
#endif
    std::string out;
    for (const unsigned char byte : bytes) out.append({"0123456789abcdef"[byte >> 4], "0123456789abcdef"[byte & 15]});
    return out;
  }

  code_outcome run(std::string_view code, std::string_view tests) const {
    const std::string no_tests = random_word(), end = random_word();
    const auto size = [](std::size_t n) {
      const std::string digits = std::to_string(n);
      return digits + std::string(21 - digits.size(), ' ');
    };
    std::string input = no_tests + size(code.size()) + size(tests.size());
    input.append(code).append(tests).append(end);
    const sandbox_result result = run_sandboxed(options_.interpreter, options_.environment, input, options_.limits);
    if (result.report == no_tests) return code_outcome::tests_invalid;
    const bool passed = result.end == sandbox_result::ending::exited && result.code == 0 && result.report == end;
    return passed ? code_outcome::passed : code_outcome::failed;
  }

  code_options options_;
};

/// As with_verifier(name, f), and knows one name more: "python_asserts", code_verifier(code). To give `code` is to
/// allow that the programs of the model are run. Throws what code_verifier throws.
template <class F>
decltype(auto) with_verifier(std::string_view name, const code_options& code, F&& f) {
  if (name == "python_asserts") return std::forward<F>(f)(code_verifier(code));
  return with_verifier(name, std::forward<F>(f));
}

}  // namespace rlvr
