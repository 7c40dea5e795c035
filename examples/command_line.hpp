#pragma once
/// How the example programs end: 0 done, 1 the world failed, 2 bad input; a failure is one sentence on stderr.

#include <cstdio>
#include <exception>
#include <stdexcept>
#include <string>

#include <CLI/CLI.hpp>

/// Accepts numbers above 0. (CLI11's own check answers with the largest double, written out.)
inline CLI::Validator positive_number() {
  return CLI::Validator(
      [](std::string& text) {
        double value = 0;
        const bool ok = CLI::detail::lexical_cast(text, value) && value > 0;
        return ok ? std::string() : text + " is not a number above 0";
      },
      "POSITIVE");
}

/// Parses the command line and calls run(); the result is the program's exit status.
template <class Run>
int run_program(CLI::App& app, int argc, char** argv, Run run) {
  const char* name = argc > 0 ? argv[0] : "";
  try {
    app.parse(argc, argv);
    run();
    return 0;
  } catch (const CLI::ParseError& e) {
    return app.exit(e) == 0 ? 0 : 2;
  } catch (const std::invalid_argument& e) {
    std::fprintf(stderr, "%s: %s\n", name, e.what());
    return 2;
  } catch (const std::exception& e) {
    std::fprintf(stderr, "%s: %s\n", name, e.what());
    return 1;
  }
}
