#pragma once
/// Runs gnuplot. Scripts hold numbers and our own words, never a user's text; no shell is involved.

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <stdexcept>
#include <string>
#include <system_error>

#include <fcntl.h>
#include <spawn.h>
#include <sys/wait.h>

#include <rlvr/backend/decoder/files.hpp>

extern char** environ;

namespace report {

namespace detail {

/// Runs `gnuplot -d` (default settings) with its three streams bound to files and returns the exit status.
/// Throws std::runtime_error when it cannot be started.
inline int run_gnuplot(const std::filesystem::path& in, const std::filesystem::path& out,
                       const std::filesystem::path& err) {
  char program[] = "gnuplot", settings[] = "-d";
  char* arguments[] = {program, settings, nullptr};
  posix_spawn_file_actions_t streams;
  posix_spawn_file_actions_init(&streams);
  posix_spawn_file_actions_addopen(&streams, 0, in.c_str(), O_RDONLY, 0);
  posix_spawn_file_actions_addopen(&streams, 1, out.c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0644);
  posix_spawn_file_actions_addopen(&streams, 2, err.c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0644);
  pid_t child = 0;
  const int error = posix_spawnp(&child, program, &streams, nullptr, arguments, environ);
  posix_spawn_file_actions_destroy(&streams);
  if (error == ENOENT)
    throw std::runtime_error("cannot draw pictures: gnuplot is not installed (Debian, Ubuntu: package gnuplot-nox)");
  if (error != 0)
    throw std::runtime_error("cannot start gnuplot: " + std::generic_category().message(error));
  int status = 0;
  while (waitpid(child, &status, 0) < 0)
    if (errno != EINTR) throw std::runtime_error("cannot wait for gnuplot: " + std::generic_category().message(errno));
  return WIFEXITED(status) ? WEXITSTATUS(status) : 128;
}

}  // namespace detail

/// Throws std::runtime_error unless gnuplot can be started: to be asked before long work, not after it.
inline void require_gnuplot() {
  if (detail::run_gnuplot("/dev/null", "/dev/null", "/dev/null") != 0)
    throw std::runtime_error("cannot draw pictures: gnuplot ends with an error on an empty script");
}

/// Writes the picture that a script draws on its terminal's standard output. Two scratch files stand beside it while
/// gnuplot runs. Throws std::runtime_error with gnuplot's first words when it fails.
inline void draw(const std::string& script, const std::filesystem::path& picture) {
  std::filesystem::path source = picture, log = picture;
  source += ".gnuplot";
  log += ".log";
  rlvr::decoder::write_file(source, script);
  const int status = detail::run_gnuplot(source, picture, log);
  std::string words;
  if (status != 0) {
    words = rlvr::decoder::read_file(log);
    words.erase(0, words.find_first_not_of(" \n"));
    words.resize(std::min(words.find('\n'), words.size()));
  }
  std::filesystem::remove(source);
  std::filesystem::remove(log);
  if (status != 0) throw std::runtime_error("gnuplot could not draw " + picture.string() + ": " + words);
}

}  // namespace report
