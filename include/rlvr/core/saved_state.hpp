#pragma once
/// State as bytes: what a selector, an allocator or a tracker has learned, saved and restored exactly.

#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <initializer_list>
#include <span>
#include <stdexcept>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

#include <rlvr/core/error.hpp>

namespace rlvr {

/// Saved bytes that are damaged, or are the state of something else. Nothing has been restored.
class state_error : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

namespace detail {

/// A name put together at compile time; longer than 256 characters it does not compile.
struct joined_name {
  char text[256] = {};
  std::size_t size = 0;

  consteval joined_name(std::initializer_list<std::string_view> parts) {
    for (const std::string_view part : parts)
      for (const char c : part) text[size++] = c;
  }
  constexpr operator std::string_view() const { return {text, size}; }
};

/// What a part without a state of its own, such as a gain, is called in the state_name of the whole. Parts that have no
/// state_name are all called alike.
template <class P>
constexpr std::string_view name_of() {
  if constexpr (requires { P::state_name; })
    return P::state_name;
  else
    return "unnamed";
}

/// A visitor that takes whatever it is shown.
struct any_field {
  template <class Field>
  void operator()(Field&&, std::string_view) const {}
};

}  // namespace detail

/// A value whose state is a fixed list of fields.
///
///  - `S::state_name`, `S::state_version`: what the bytes are the state of; a version is for one list of fields. What
///    learns something else from the same has another name.
///  - `S::visit_state(s, visit)`: calls visit(field, name) for every field, always in the same order; s is an S or a
///    const S. A field is a trivially copyable value, or a std::vector of them. A vector's size is part of what the
///    object is (the pool, the window) and never changes by restoring, unless visited as growing(vector).
///  - `S::check_state(s)`, if there: throws for fields that cannot belong together.
template <class S>
concept has_state = std::copyable<S> && requires(S& s, const S& c) {
  { S::state_name } -> std::convertible_to<std::string_view>;
  { S::state_version } -> std::convertible_to<std::uint32_t>;
  S::visit_state(s, detail::any_field{});
  S::visit_state(c, detail::any_field{});
};

/// Marks a vector whose size may be another after restoring.
template <class Vector>
struct growing {
  Vector& values;
};
template <class Vector>
growing(Vector&) -> growing<Vector>;

namespace detail {

static_assert(std::endian::native == std::endian::little, "saved state is written in the order of this machine");

inline constexpr std::string_view state_magic = "rlvrstat";

/// FNV-1a with 64 bits, eight bytes at a time: each step is a bijection of the hash, so that one changed byte always
/// changes it.
inline std::uint64_t checksum(std::span<const std::byte> bytes) {
  std::uint64_t hash = 0xcbf29ce484222325u;
  const auto mix = [&](std::uint64_t word) {
    hash = (hash ^ word) * 0x100000001b3u;
    hash ^= hash >> 32;
  };
  std::size_t i = 0;
  for (; i + 8 <= bytes.size(); i += 8) {
    std::uint64_t word;
    std::memcpy(&word, bytes.data() + i, 8);
    mix(word);
  }
  for (; i < bytes.size(); ++i) mix(std::to_integer<std::uint64_t>(bytes[i]));
  return hash;
}

/// Every field is announced by its name's hash, so that the state of another composition is told apart.
inline std::uint32_t name_hash(std::string_view name) {
  return static_cast<std::uint32_t>(checksum(std::as_bytes(std::span(name))));
}

/// Writes fields one behind the other; without a destination it only counts bytes.
struct state_writer {
  std::byte* to = nullptr;
  std::size_t at = 0;

  void raw(const void* from, std::size_t size) {
    if (to != nullptr && size > 0) std::memcpy(to + at, from, size);
    at += size;
  }
  template <class T>
  void value(const T& x) {
    static_assert(std::is_trivially_copyable_v<T>);
    raw(&x, sizeof x);
  }

  template <class T>
  void operator()(const T& field, std::string_view name) {
    value(name_hash(name));
    value(field);
  }
  template <class T>
  void operator()(const std::vector<T>& field, std::string_view name) {
    static_assert(std::is_trivially_copyable_v<T>);
    value(name_hash(name));
    value(std::uint64_t{field.size()});
    raw(field.data(), field.size() * sizeof(T));
  }
  template <class Vector>
  void operator()(growing<Vector> field, std::string_view name) {
    (*this)(field.values, name);
  }
};

struct state_reader {
  std::span<const std::byte> rest;
  std::string_view owner;

  void raw(void* to, std::size_t size, std::string_view name) {
    if (size > rest.size()) throw state_error(concat(owner, ": the saved state ends inside ", name));
    if (size > 0) std::memcpy(to, rest.data(), size);
    rest = rest.subspan(size);
  }
  template <class T>
  T value(std::string_view name) {
    T x;
    raw(&x, sizeof x, name);
    return x;
  }

  void announced(std::string_view name) {
    if (value<std::uint32_t>(name) != name_hash(name))
      throw state_error(concat(owner, ": the saved state has something else where ", name, " is expected"));
  }

  template <class T>
  void operator()(T& field, std::string_view name) {
    announced(name);
    field = value<T>(name);
  }
  template <class T>
  void operator()(std::vector<T>& field, std::string_view name) {
    announced(name);
    const auto size = value<std::uint64_t>(name);
    if (size != field.size())
      throw state_error(concat(owner, ": the saved state has ", size, " entries of ", name, ", this one ", field.size()));
    raw(field.data(), field.size() * sizeof(T), name);
  }
  template <class T>
  void operator()(growing<std::vector<T>> field, std::string_view name) {
    announced(name);
    const auto size = value<std::uint64_t>(name);
    if (size > rest.size() / sizeof(T)) throw state_error(concat(owner, ": the saved state ends inside ", name));
    field.values.resize(size);
    raw(field.values.data(), size * sizeof(T), name);
  }
};

}  // namespace detail

/// The state of s: magic, name and version, fields, checksum of all before it. Little-endian. O(bytes).
template <has_state S>
std::vector<std::byte> save_state(const S& s) {
  const auto write_all = [&s](detail::state_writer& write) {
    const std::string_view name = S::state_name;
    write.raw(detail::state_magic.data(), detail::state_magic.size());
    write.value(std::uint32_t{S::state_version});
    write.value(static_cast<std::uint32_t>(name.size()));
    write.raw(name.data(), name.size());
    S::visit_state(s, write);
  };
  detail::state_writer count;
  write_all(count);
  std::vector<std::byte> bytes(count.at + sizeof(std::uint64_t));
  detail::state_writer write{bytes.data()};
  write_all(write);
  write.value(detail::checksum(std::span(bytes).first(write.at)));
  return bytes;
}

/// s <- the state that save_state wrote; s goes on exactly where the saved one stood. Options of s are not part of its
/// state. Throws state_error when the bytes are damaged, or the state of something with another state_name,
/// version or size, and says which; s is then unchanged. O(bytes), with a second copy of s while it runs.
template <has_state S>
void restore_state(S& s, std::span<const std::byte> bytes) {
  const std::string_view name = S::state_name;
  if (bytes.size() < detail::state_magic.size() + 16 ||
      std::memcmp(bytes.data(), detail::state_magic.data(), detail::state_magic.size()) != 0)
    throw state_error(concat(name, ": these bytes are not a saved state"));
  std::uint64_t sum;
  std::memcpy(&sum, bytes.data() + bytes.size() - sizeof sum, sizeof sum);
  const std::span<const std::byte> covered = bytes.first(bytes.size() - sizeof sum);
  if (sum != detail::checksum(covered)) throw state_error(concat(name, ": the saved state is damaged (checksum)"));

  detail::state_reader read{covered.subspan(detail::state_magic.size()), name};
  const auto version = read.template value<std::uint32_t>("version");
  const auto length = read.template value<std::uint32_t>("name");
  if (length > read.rest.size()) throw state_error(concat(name, ": the saved state ends inside name"));
  const std::string_view saved_name(reinterpret_cast<const char*>(read.rest.data()), length);
  if (saved_name != name) throw state_error(concat(name, ": the saved state is of ", saved_name));
  read.rest = read.rest.subspan(length);
  if (version != S::state_version)
    throw state_error(concat(name, ": the saved state has version ", version, ", expected ",
                             std::uint32_t{S::state_version}));
  S copy = s;
  S::visit_state(copy, read);
  if (!read.rest.empty()) throw state_error(concat(name, ": the saved state has ", read.rest.size(), " bytes too many"));
  if constexpr (requires { S::check_state(copy); }) S::check_state(copy);
  s = std::move(copy);
}

}  // namespace rlvr
