#pragma once
/// Byte-level byte pair encoding: text to tokens and back.

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
#include <queue>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

#include <rlvr/backend/decoder/errors.hpp>
#include <rlvr/backend/decoder/tokenizer.hpp>
#include <rlvr/core/error.hpp>
#include <rlvr/core/rollouts.hpp>
#include <rlvr/tokenizer/pre_tokenizer.hpp>

namespace rlvr::tokenizer {

/// A token that is found in the text before anything else is done with it.
struct added_token {
  std::string text;
  token id = 0;
  bool special = false;     ///< has no text when decoded
  bool normalized = false;  ///< is looked for in the normalised text
};

/// What a tokenizer.json says; parse_bpe reads it.
struct bpe_model {
  std::vector<std::optional<std::string>> bytes;  ///< by id: the bytes of a token; none for ids without any
  std::vector<std::pair<token, token>> merges;    ///< the first has priority
  std::vector<token> merged;                      ///< what each of them gives
  std::vector<added_token> added;
  std::string words{gpt2_words};  ///< one of known_words
  bool nfc = false;
  bool whole_words = false;   ///< a word that is a token is not merged ("ignore_merges")
  std::vector<token> prefix;  ///< put before a text that is not a chat, as begin of sequence
  std::optional<token> eos;
};

namespace detail {

/// Replaces what is not UTF-8 by U+FFFD, one for each longest part that could have begun a character.
inline std::string valid_utf8(std::string_view bytes) {
  std::string out;
  for (std::size_t at = 0; at < bytes.size();) {
    const std::size_t length = decoder::detail::decode_utf8(bytes, at).length;
    if (length > 0) {
      out += bytes.substr(at, length);
      at += length;
      continue;
    }
    out += "\xEF\xBF\xBD";
    // A longer part is a beginning if some continuation makes it a character: the smallest or the largest one does.
    std::size_t part = 1;
    const auto begins = [&](std::size_t n) {
      for (const char fill : {'\x80', '\xBF'}) {
        std::string candidate(bytes.substr(at, n));
        candidate.resize(4, fill);
        if (decoder::detail::decode_utf8(candidate, 0).length > n) return true;
      }
      return false;
    };
    while (part < 3 && at + part < bytes.size() && begins(part + 1)) ++part;
    at += part;
  }
  return out;
}

}  // namespace detail

/// The byte-level tokenizers of GPT-2, Llama 3, Qwen and OLMo. The steps: cut out added tokens; normalise; cut into
/// words; merge the bytes of each word, the pair of highest priority first, the leftmost of equal ones.
/// O(n log n) in the longest word, linear in the number of words. Copying is dear, encoding is const and thread-safe.
class bpe {
 public:
  /// Throws input_error when a merge or an added token is no token.
  explicit bpe(bpe_model model) : model_(std::move(model)), split_(model_.words) {
    byte_.fill(-1);
    for (std::size_t i = 0; i < model_.bytes.size(); ++i) {
      if (!model_.bytes[i]) continue;
      const std::string& s = *model_.bytes[i];
      if (s.size() == 1) byte_[static_cast<unsigned char>(s[0])] = static_cast<token>(i);
      if (model_.whole_words) whole_.emplace(s, static_cast<token>(i));
    }
    if (model_.merges.size() != model_.merged.size()) fail("merges without a result");
    merge_.reserve(model_.merges.size());
    for (std::size_t i = 0; i < model_.merges.size(); ++i) {
      const auto [left, right] = model_.merges[i];
      for (const token t : {left, right, model_.merged[i]})
        if (!in_range(t) || !model_.bytes[index(t)]) fail("merge ", i, " names token ", t, ", which is none");
      merge_.emplace(pair_key(left, right), rule{static_cast<std::uint32_t>(i), model_.merged[i]});
    }
    special_.assign(size(), 0);
    for (std::size_t i = 0; i < model_.added.size(); ++i) {
      const added_token& a = model_.added[i];
      if (!in_range(a.id) || a.text.empty()) fail("added token ", i, " has id ", a.id, " of ", size(), ", or no text");
      model_.bytes[index(a.id)] = a.text;
      special_[index(a.id)] = a.special;
      (a.normalized ? normalized_ : raw_)[static_cast<unsigned char>(a.text[0])].push_back(i);
    }
    for (auto* table : {&raw_, &normalized_})
      for (std::vector<std::size_t>& list : *table)
        std::sort(list.begin(), list.end(), [&](std::size_t a, std::size_t b) {
          return model_.added[a].text.size() > model_.added[b].text.size();
        });
    if (model_.eos && !in_range(*model_.eos)) fail("eos token ", *model_.eos, " of ", size());
    for (const token t : model_.prefix)
      if (!in_range(t)) fail("prefix token ", t, " of ", size());
  }

  std::size_t size() const { return model_.bytes.size(); }
  std::optional<token> eos() const { return model_.eos; }
  /// What stands before a text that is not a chat.
  std::span<const token> prefix() const { return model_.prefix; }
  bool is_special(token t) const { return in_range(t) && special_[index(t)]; }
  /// The added token of that text, if there is one.
  std::optional<token> find_added(std::string_view text) const {
    for (const added_token& a : model_.added)
      if (a.text == text) return a.id;
    return std::nullopt;
  }

  /// The tokens of a text; added tokens in it become themselves, none is put around it.
  /// Throws input_error for bytes that are not UTF-8, or that the vocabulary has no token for.
  std::vector<token> encode(std::string_view text) const {
    for (std::size_t at = 0; at < text.size();) {
      const std::size_t length = decoder::detail::decode_utf8(text, at).length;
      if (length == 0) throw decoder::input_error(concat("bytes that are not UTF-8 at byte ", at, " of the text"));
      at += length;
    }
    std::vector<token> out;
    scratch s;
    cut_added(text, raw_, out, [&](std::string_view plain) {
      const std::string composed = model_.nfc ? to_nfc(plain) : std::string(plain);
      cut_added(composed, normalized_, out,
                [&](std::string_view rest) { split_(rest, [&](std::string_view word) { merge(word, s, out); }); });
    });
    return out;
  }

  /// The text of tokens. Special tokens, and ids from size() on (rows that pad an embedding), have none; bytes that
  /// are not UTF-8 become U+FFFD. Throws std::invalid_argument for a negative token.
  std::string decode(std::span<const token> tokens) const {
    std::string out;
    for (std::size_t i = 0; i < tokens.size(); ++i) {
      require(tokens[i] >= 0, "bpe::decode: token ", i, " is ", tokens[i]);
      if (in_range(tokens[i]) && !is_special(tokens[i]) && model_.bytes[index(tokens[i])])
        out += *model_.bytes[index(tokens[i])];
    }
    return detail::valid_utf8(out);
  }

 private:
  struct rule {
    std::uint32_t rank;
    token result;
  };
  /// A pair that may be merged, if both its symbols are still what they were.
  struct candidate {
    std::uint32_t rank, at;
    token left, right;
    friend bool operator>(const candidate& a, const candidate& b) {
      return a.rank != b.rank ? a.rank > b.rank : a.at > b.at;
    }
  };
  struct symbol {
    token id;  // -1: merged into one before it
    std::uint32_t before, after;
  };
  struct scratch {
    std::vector<symbol> symbols;
    std::priority_queue<candidate, std::vector<candidate>, std::greater<candidate>> queue;
  };
  using starts = std::array<std::vector<std::size_t>, 256>;  // added tokens by first byte, longest first

  template <class... Parts>
  [[noreturn]] static void fail(const Parts&... parts) {
    throw decoder::input_error(concat("bpe: ", parts...));
  }
  static std::size_t index(token t) { return static_cast<std::size_t>(t); }
  bool in_range(token t) const { return t >= 0 && index(t) < size(); }
  static std::uint64_t pair_key(token a, token b) {
    return std::uint64_t{static_cast<std::uint32_t>(a)} << 32 | static_cast<std::uint32_t>(b);
  }

  /// Appends the added tokens of a text, leftmost and longest first, and calls f for what lies between.
  template <class F>
  void cut_added(std::string_view text, const starts& table, std::vector<token>& out, F f) const {
    std::size_t begin = 0;
    for (std::size_t at = 0; at < text.size();) {
      const added_token* found = nullptr;
      for (const std::size_t i : table[static_cast<unsigned char>(text[at])])
        if (text.substr(at).starts_with(model_.added[i].text)) {
          found = &model_.added[i];
          break;
        }
      if (!found) {
        ++at;
        continue;
      }
      if (at > begin) f(text.substr(begin, at - begin));
      out.push_back(found->id);
      begin = at += found->text.size();
    }
    if (begin < text.size()) f(text.substr(begin));
  }

  void merge(std::string_view word, scratch& s, std::vector<token>& out) const {
    if (model_.whole_words)
      if (const auto whole = whole_.find(std::string(word)); whole != whole_.end()) {
        out.push_back(whole->second);
        return;
      }
    constexpr std::uint32_t none = 0xFFFFFFFFu;
    require(word.size() < none, "bpe::encode: a word of ", word.size(), " bytes");
    s.symbols.clear();
    for (std::size_t i = 0; i < word.size(); ++i) {
      const token id = byte_[static_cast<unsigned char>(word[i])];
      if (id < 0)
        throw decoder::input_error(
            concat("the vocabulary has no token for byte ", int{static_cast<unsigned char>(word[i])}));
      s.symbols.push_back({id, i == 0 ? none : static_cast<std::uint32_t>(i - 1),
                           i + 1 == word.size() ? none : static_cast<std::uint32_t>(i + 1)});
    }
    const auto offer = [&](std::uint32_t at) {
      if (at == none || s.symbols[at].after == none) return;
      const token left = s.symbols[at].id, right = s.symbols[s.symbols[at].after].id;
      if (const auto r = merge_.find(pair_key(left, right)); r != merge_.end())
        s.queue.push({r->second.rank, at, left, right});
    };
    for (std::size_t i = 0; i < s.symbols.size(); ++i) offer(static_cast<std::uint32_t>(i));
    while (!s.queue.empty()) {
      const candidate c = s.queue.top();
      s.queue.pop();
      symbol& left = s.symbols[c.at];
      if (left.id != c.left || left.after == none || s.symbols[left.after].id != c.right) continue;
      symbol& right = s.symbols[left.after];
      left.id = model_.merged[c.rank];
      right.id = -1;
      left.after = right.after;
      if (left.after != none) s.symbols[left.after].before = c.at;
      offer(left.before);
      offer(c.at);
    }
    for (std::uint32_t at = 0; at != none && !s.symbols.empty(); at = s.symbols[at].after)
      out.push_back(s.symbols[at].id);
  }

  bpe_model model_;
  word_splitter split_;
  std::array<token, 256> byte_{};
  std::unordered_map<std::uint64_t, rule> merge_;
  std::unordered_map<std::string, token> whole_;
  std::vector<std::uint8_t> special_;
  starts raw_, normalized_;
};

}  // namespace rlvr::tokenizer
