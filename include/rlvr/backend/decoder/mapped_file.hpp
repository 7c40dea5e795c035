#pragma once
/// The bytes of a file, without a copy where the system can map it.

#include <cstddef>
#include <filesystem>
#include <span>
#include <string>
#include <utility>

#if __has_include(<sys/mman.h>)
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#endif

#include <rlvr/backend/decoder/files.hpp>

namespace rlvr::decoder {

/// The bytes of a file: mapped into memory, or read where that is not possible (a pipe, an empty file, a system
/// without mmap). While it is mapped nobody may shorten the file; files that are replaced by renaming, as all are
/// that this library writes, are safe.
class mapped_file {
 public:
  /// Throws input_error when there is no such file, file_error when it cannot be read.
  explicit mapped_file(const std::filesystem::path& path) {
#if __has_include(<sys/mman.h>)
    const int file = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
    struct stat about {};
    if (file >= 0 && ::fstat(file, &about) == 0 && S_ISREG(about.st_mode) && about.st_size > 0) {
      const auto size = static_cast<std::size_t>(about.st_size);
      void* const at = ::mmap(nullptr, size, PROT_READ, MAP_PRIVATE, file, 0);
      if (at != MAP_FAILED) mapped_ = {static_cast<const char*>(at), size};
    }
    if (file >= 0) ::close(file);  // the mapping stays
    if (mapped_.data()) return;
#endif
    read_ = read_file(path);
  }
  mapped_file(mapped_file&& other) noexcept
      : mapped_(std::exchange(other.mapped_, {})), read_(std::move(other.read_)) {}
  mapped_file& operator=(mapped_file&&) = delete;
  ~mapped_file() {
#if __has_include(<sys/mman.h>)
    if (mapped_.data()) ::munmap(const_cast<char*>(mapped_.data()), mapped_.size());
#endif
  }

  /// Valid while this object lives and is not moved from.
  std::span<const char> bytes() const {
    return mapped_.data() ? mapped_ : std::span<const char>(read_);
  }

 private:
  std::span<const char> mapped_;
  std::string read_;
};

}  // namespace rlvr::decoder
