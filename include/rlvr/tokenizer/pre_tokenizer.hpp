#pragma once
/// What byte-level BPE does to a text before it merges: Unicode normalisation and the cut into words.

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <new>
#include <stdexcept>
#include <string>
#include <string_view>

#ifndef PCRE2_CODE_UNIT_WIDTH
#define PCRE2_CODE_UNIT_WIDTH 8
#endif
#include <pcre2.h>
#include <utf8proc.h>

#include <rlvr/core/error.hpp>

namespace rlvr::tokenizer {

/// The regular expressions by which published byte-level tokenizers cut a text into words; others are refused,
/// because dialects of regular expressions differ and a token that is off by one shows nowhere.
inline constexpr std::string_view gpt2_words =
    R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)";
inline constexpr std::string_view known_words[] = {
    gpt2_words,
    // qwen2, qwen2.5, qwen3 and what was distilled into them
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)",
    // llama 3, olmo 2 and 3
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)",
    // qwen3.5
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)"};

/// Cuts text into words by one of known_words.
class word_splitter {
 public:
  /// Requires: one of known_words.
  explicit word_splitter(std::string_view expression) {
    const std::string text = spell_out_space(expression);
    int error = 0;
    PCRE2_SIZE at = 0;
    code_.reset(pcre2_compile_8(reinterpret_cast<PCRE2_SPTR8>(text.data()), text.size(), PCRE2_UTF | PCRE2_UCP, &error,
                                &at, nullptr));
    require(code_ != nullptr, "word_splitter: error ", error, " at ", at, " of ", expression);
    pcre2_jit_compile_8(code_.get(), PCRE2_JIT_COMPLETE);  // where it can
  }

  /// f(word) for every word, in order; together they are the text. Requires: valid UTF-8. Linear in the text.
  template <class F>
  void operator()(std::string_view text, F f) const {
    const std::unique_ptr<pcre2_match_data_8, free_match> match(
        pcre2_match_data_create_from_pattern_8(code_.get(), nullptr));
    if (!match) throw std::bad_alloc();
    const auto* subject = reinterpret_cast<PCRE2_SPTR8>(text.data());
    for (std::size_t begin = 0; begin < text.size();) {
      const int found =
          pcre2_match_8(code_.get(), subject, text.size(), begin, PCRE2_NO_UTF_CHECK, match.get(), nullptr);
      if (found < 0 && found != PCRE2_ERROR_NOMATCH)
        throw std::runtime_error(concat("pcre2_match: error ", found, " at byte ", begin, " of the text"));
      const PCRE2_SIZE* range = pcre2_get_ovector_pointer_8(match.get());
      const std::size_t from = found < 0 ? text.size() : range[0], to = found < 0 ? text.size() : range[1];
      if (from > begin) f(text.substr(begin, from - begin));  // what no alternative matches is a word too
      if (to > from) f(text.substr(from, to - from));
      begin = to;
    }
  }

 private:
  struct free_code {
    void operator()(pcre2_code_8* p) const { pcre2_code_free_8(p); }
  };
  struct free_match {
    void operator()(pcre2_match_data_8* p) const { pcre2_match_data_free_8(p); }
  };

  /// PCRE2's \s has U+180E, which Unicode took out of its white space in version 6.3.
  static std::string spell_out_space(std::string_view expression) {
    constexpr std::string_view space =
        R"(\t-\r \x{85}\x{a0}\x{1680}\x{2000}-\x{200a}\x{2028}\x{2029}\x{202f}\x{205f}\x{3000})";
    std::string out;
    bool in_class = false;
    for (std::size_t i = 0; i < expression.size(); ++i) {
      const char c = expression[i], next = c == '\\' ? expression[i + 1] : '\0';
      if (next == 's') {
        out += in_class ? std::string(space) : concat("[", space, "]");
        ++i;
      } else if (next == 'S') {
        out += concat("[^", space, "]");
        ++i;
      } else {
        if (c == '[' || c == ']') in_class = c == '[';
        out += c;
      }
    }
    return out;
  }

  std::unique_ptr<pcre2_code_8, free_code> code_;
};

/// The text in Unicode normalisation form C. Requires: valid UTF-8. Linear in the text.
inline std::string to_nfc(std::string_view text) {
  bool ascii = true;
  for (const char c : text) ascii = ascii && static_cast<unsigned char>(c) < 0x80;
  if (ascii) return std::string(text);
  utf8proc_uint8_t* composed = nullptr;
  const utf8proc_ssize_t length =
      utf8proc_map(reinterpret_cast<const utf8proc_uint8_t*>(text.data()), static_cast<utf8proc_ssize_t>(text.size()),
                   &composed, static_cast<utf8proc_option_t>(UTF8PROC_STABLE | UTF8PROC_COMPOSE));
  const std::unique_ptr<utf8proc_uint8_t, decltype(&std::free)> owner(composed, &std::free);
  if (length < 0) throw std::runtime_error(concat("utf8proc_map: ", std::string_view(utf8proc_errmsg(length))));
  return std::string(reinterpret_cast<const char*>(composed), static_cast<std::size_t>(length));
}

}  // namespace rlvr::tokenizer
