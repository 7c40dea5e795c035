#pragma once
/// Small scanners of text that the verifiers share.

#include <cstddef>
#include <string>
#include <string_view>

#include <rlvr/verify/exact.hpp>
#include <rlvr/verify/numeric.hpp>

namespace rlvr::detail {

/// Whether a byte continues a UTF-8 character that began before it.
constexpr bool continues_character(char c) {
  return (static_cast<unsigned char>(c) & 0xc0) == 0x80;
}

/// The number of code points; of a broken sequence, the bytes that are not continuations count.
constexpr std::size_t character_count(std::string_view text) {
  std::size_t count = 0;
  for (char c : text) count += !continues_character(c);
  return count;
}

/// The last `count` code points.
constexpr std::string_view last_characters(std::string_view text, std::size_t count) {
  std::size_t at = text.size();
  while (at > 0 && count > 0) count -= !continues_character(text[--at]);
  return text.substr(at);
}

/// The length in bytes of the character at the front of a text that is not empty.
constexpr std::size_t first_character(std::string_view text) {
  std::size_t length = 1;
  while (length < text.size() && continues_character(text[length])) ++length;
  return length;
}

/// Replaces every occurrence, from the left, and does not look into what it has put in.
inline void replace_all(std::string& text, std::string_view from, std::string_view to) {
  std::size_t at = text.find(from);
  if (at == std::string::npos) return;
  std::string out;
  out.reserve(text.size());
  std::size_t begin = 0;
  for (; at != std::string::npos; at = text.find(from, begin)) {
    out.append(text, begin, at - begin).append(to);
    begin = at + from.size();
  }
  out.append(text, begin, std::string::npos);
  text.swap(out);
}

/// f(), or an unscored verdict when memory runs out.
template <class F>
verdict unless_out_of_memory(const F& f) noexcept {
  try {
    return f();
  } catch (...) {  // only an allocation can fail in a verifier
    return {.reward = 0, .scored = false};
  }
}

}  // namespace rlvr::detail
