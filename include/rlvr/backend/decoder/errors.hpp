#pragma once
/// The two ways in which files fail a program: what the user gave is wrong, or the world does not cooperate.

#include <stdexcept>

namespace rlvr::decoder {

/// What the user gave cannot be used: a file that does not exist, a line that is not JSON, a field or tensor
/// that is missing, of the wrong shape or not supported. The message is one sentence naming file and line,
/// field or tensor. Programs exit with status 2.
struct input_error : std::invalid_argument {
  using std::invalid_argument::invalid_argument;
};

/// The world failed: a file that exists but cannot be read, a damaged file, a disk that is full. The message
/// names the path. Programs exit with status 1.
struct file_error : std::runtime_error {
  using std::runtime_error::runtime_error;
};

}  // namespace rlvr::decoder
