#pragma once
/// Files and folders that are there whole or not at all, also after a crash: written aside, synced, then renamed.

#include <cerrno>
#include <concepts>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <memory>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

#if __has_include(<unistd.h>)
#include <fcntl.h>
#include <unistd.h>
#endif

#include <rlvr/backend/decoder/errors.hpp>
#include <rlvr/core/error.hpp>

namespace rlvr::decoder {

namespace detail {

using file_handle = std::unique_ptr<std::FILE, int (*)(std::FILE*)>;

[[noreturn]] inline void fail_io(std::string_view what, const std::filesystem::path& path, int error) {
  throw file_error(concat("cannot ", what, " ", path.string(), ": ", std::generic_category().message(error)));
}

/// Appends to a file; throws file_error naming the path that the file will have.
struct file_sink {
  std::FILE* file;
  const std::filesystem::path& path;
  void operator()(std::string_view bytes) const {
    if (!bytes.empty() && std::fwrite(bytes.data(), 1, bytes.size(), file) != bytes.size()) fail_io("write", path, errno);
  }
};

/// Puts what was written to a file onto the disk. Throws file_error naming the path that the file will have.
inline void sync(std::FILE* file, const std::filesystem::path& path) {
  bool done = std::fflush(file) == 0;
#if _POSIX_FSYNC > 0
  done = done && ::fsync(::fileno(file)) == 0;
#endif
  if (!done) fail_io("write", path, errno);
}

/// Puts the names in the folder of `path` onto the disk, where the system can. Returns 0, or an errno.
inline int sync_folder_of([[maybe_unused]] const std::filesystem::path& path) {
#if _POSIX_FSYNC > 0
  const std::filesystem::path folder = path.has_parent_path() ? path.parent_path() : ".";
  const int file = ::open(folder.c_str(), O_RDONLY | O_CLOEXEC);
  if (file < 0) return errno == EACCES ? 0 : errno;  // a folder that may be written, but not read
  const int error = ::fsync(file) == 0 ? 0 : errno;
  ::close(file);
  return error == EINVAL ? 0 : error;  // a file system that cannot sync folders
#else
  return 0;
#endif
}

/// The file that a name stands for, behind all links, there or not. Throws file_error naming a link that leads nowhere.
inline std::filesystem::path behind_links(std::filesystem::path path) {
  constexpr int most = 40;
  std::error_code error;
  for (int i = 0; std::filesystem::is_symlink(std::filesystem::symlink_status(path, error)); ++i) {
    if (i == most) fail_io("write", path, ELOOP);
    const std::filesystem::path next = std::filesystem::read_symlink(path, error);
    if (error) fail_io("write", path, error.value());
    path = path.parent_path() / next;
  }
  return path;
}

/// A sibling of `path` that `create` could create.
/// create returns 0, or an errno; EEXIST asks for another name.
template <class F>
std::filesystem::path create_sibling(const std::filesystem::path& path, F create) {
  for (int i = 0;; ++i) {
    std::filesystem::path aside = path;
    aside += ".tmp" + std::to_string(i);
    const int error = create(aside);
    if (error == 0) return aside;
    if (error != EEXIST || i == 1000) fail_io("write", path, error);
  }
}

}  // namespace detail

/// The bytes of a file. Throws input_error when there is no such file, file_error when it cannot be read.
inline std::string read_file(const std::filesystem::path& path) {
  const detail::file_handle file(std::fopen(path.c_str(), "rb"), &std::fclose);
  if (!file && (errno == ENOENT || errno == ENOTDIR)) throw input_error("no file " + path.string());
  if (!file) detail::fail_io("read", path, errno);
  std::string out;
  std::error_code unknown;  // of a pipe, say: then it is read piece by piece all the same
  if (const auto size = std::filesystem::file_size(path, unknown); !unknown) out.reserve(size);
  char block[1 << 16];
  while (const std::size_t count = std::fread(block, 1, sizeof block, file.get())) out.append(block, count);
  if (std::ferror(file.get())) detail::fail_io("read", path, errno);
  return out;
}

/// Replaces or creates a file: written beside it under another name, synced, then renamed, so that nobody ever sees
/// half of it, not even after a crash. A link stays, and the file behind it is replaced. fill(put) calls
/// put(std::string_view) with one piece of the file after the other.
/// Throws file_error naming the path when that fails, input_error when it is a device or a pipe, and whatever fill
/// throws; what was there is then still there, unless all that failed was to sync the folder with its new name.
template <class Fill>
  requires std::invocable<Fill&, detail::file_sink&>
void write_file(const std::filesystem::path& path, Fill fill) {
  const std::filesystem::path target = detail::behind_links(path);
  std::error_code unknown;
  const std::filesystem::file_type type = std::filesystem::status(target, unknown).type();
  if (type == std::filesystem::file_type::character || type == std::filesystem::file_type::block ||
      type == std::filesystem::file_type::fifo || type == std::filesystem::file_type::socket)
    throw input_error(target.string() + " is a device or a pipe, which a file cannot replace");
  detail::file_handle file(nullptr, &std::fclose);
  const std::filesystem::path aside = detail::create_sibling(target, [&](const std::filesystem::path& name) {
    file.reset(std::fopen(name.c_str(), "wbx"));
    return file ? 0 : errno;
  });
  std::error_code renamed, ignored;
  try {
    detail::file_sink put{file.get(), target};
    fill(put);
    detail::sync(file.get(), target);
    if (std::fclose(file.release()) != 0) detail::fail_io("write", target, errno);
    std::filesystem::rename(aside, target, renamed);
    if (renamed) detail::fail_io("write", target, renamed.value());
  } catch (...) {
    std::filesystem::remove(aside, ignored);
    throw;
  }
  if (const int error = detail::sync_folder_of(target)) detail::fail_io("write", target, error);
}

/// The same for a file that is in memory.
inline void write_file(const std::filesystem::path& path, std::string_view bytes) {
  write_file(path, [bytes](auto& put) { put(bytes); });
}

/// An output folder that appears whole or not at all: fill path(), then commit().
class staged_folder {
 public:
  /// Creates an empty folder beside `target`, and the parents of both. `entries` are the names that will be
  /// written into it: an older folder at `target` is replaced only if it holds nothing else, so that no
  /// stranger's file is ever lost. Throws input_error when it does or when target is not a folder, file_error
  /// when the world fails.
  staged_folder(const std::filesystem::path& target, std::vector<std::string> entries)
      : entries_(std::move(entries)) {
    std::error_code error;
    // Follows links, so that the folder behind a link is replaced and not the link.
    if (!target.empty())
      target_ = std::filesystem::weakly_canonical(std::filesystem::absolute(target), error);
    if (error || target.empty()) throw input_error(concat("not a folder name: \"", target.string(), "\""));
    if (!target_.has_filename()) target_ = target_.parent_path();  // a trailing slash
    check_replaceable();
    std::filesystem::create_directories(target_.parent_path(), error);
    if (error) detail::fail_io("create", target_.parent_path(), error.value());
    aside_ = create_aside();
  }
  staged_folder(const staged_folder&) = delete;
  staged_folder& operator=(const staged_folder&) = delete;
  ~staged_folder() {
    std::error_code ignored;
    if (!aside_.empty()) std::filesystem::remove_all(aside_, ignored);
  }

  /// Where to write until commit().
  const std::filesystem::path& path() const { return aside_; }

  /// Renames the folder into place, replacing an older one; path() is then empty.
  /// Throws as the constructor does; the older folder is then still there. A crash between the renames leaves the older
  /// and the new one whole, under names beside the target's.
  void commit() {
    require(!aside_.empty(), "staged_folder::commit: called twice");
    check_replaceable();
    std::error_code error, ignored;
    std::filesystem::path old;
    if (std::filesystem::exists(target_)) {
      old = create_aside();  // renaming replaces an empty folder
      std::filesystem::rename(target_, old, error);
    }
    if (!error) {
      std::filesystem::rename(aside_, target_, error);
      if (const int unsynced = error ? 0 : detail::sync_folder_of(target_)) {
        std::filesystem::rename(target_, aside_, ignored);
        error.assign(unsynced, std::generic_category());
      }
      if (error && !old.empty()) std::filesystem::rename(old, target_, ignored);
    }
    if (error) {
      if (!old.empty()) std::filesystem::remove(old, ignored);  // only if it is still the empty one
      detail::fail_io("write", target_, error.value());
    }
    aside_.clear();
    if (!old.empty()) std::filesystem::remove_all(old, ignored);
  }

 private:
  std::filesystem::path create_aside() const {
    return detail::create_sibling(target_, [](const std::filesystem::path& name) {
      std::error_code error;
      if (std::filesystem::create_directory(name, error)) return 0;
      return error ? error.value() : EEXIST;
    });
  }

  void check_replaceable() const {
    std::error_code error;
    if (!std::filesystem::exists(target_, error)) return;
    if (!std::filesystem::is_directory(target_)) throw input_error(target_.string() + " is not a folder");
    for (auto it = std::filesystem::directory_iterator(target_, error);
         !error && it != std::filesystem::directory_iterator(); it.increment(error)) {
      const std::string name = it->path().filename().string();
      bool ours = false;
      for (const std::string& entry : entries_) ours = ours || entry == name;
      if (!ours)
        throw input_error(concat("the folder ", target_.string(), " holds ", name,
                                 ", which is not an output of this program; choose another folder"));
    }
    if (error) detail::fail_io("read", target_, error.value());
  }

  std::vector<std::string> entries_;
  std::filesystem::path target_;
  std::filesystem::path aside_;
};

}  // namespace rlvr::decoder
