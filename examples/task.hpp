#pragma once
/// The example task: chains of two-digit sums and differences modulo 100, worked out in visible steps.
///
///     prompt      47+85-09=======
///     completion  +23-32=23
///
/// The completion repeats each sign and shows the sum so far (32, then 23) units digit first, as in column addition,
/// so that a small decoder can learn the carry; behind the = stands the answer in ordinary order, which the verifiers
/// numeric and exact_after_equals read. A completion of n terms has 3n + 1 tokens with the end of sequence: 7 to 16.
///
/// Every prompt is filled up with = to 15 characters: a sign and the place where the completion repeats it are then
/// always 15 tokens apart, and the = after the last term is what ends the chain. With a single = the distance depends
/// on the number of terms, and a decoder of 160,000 parameters with rotary positions has to find each one anew.

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <unordered_set>
#include <utility>
#include <vector>

#include <rlvr/core/error.hpp>
#include <rlvr/core/random.hpp>

namespace chain {

/// Every character that a prompt or a completion may hold.
inline constexpr std::string_view alphabet = "0123456789+-=";

inline constexpr std::size_t fewest_terms = 2, most_terms = 5;
inline constexpr std::size_t prompt_width = 3 * most_terms;
inline constexpr std::size_t longest_completion = 3 * most_terms + 1;  ///< tokens, the end of sequence included

/// One term: '+' or '-' and a value below 100. The sign of the first term is '+' and is not written.
struct term {
  char sign = '+';
  int value = 0;
};
using problem = std::vector<term>;

enum class split { train, validation, test };

/// How a completion comes about.
enum class procedure {
  correct,   ///< the rules of arithmetic
  noisy,     ///< each step may get one wrong digit; later steps follow from the wrong value
  no_carry,  ///< each digit by itself, carries and borrows forgotten
  direct     ///< the right answer without steps
};

/// What the base model learns from.
enum class corpus {
  clean,  ///< correct only
  noisy,  ///< noisy only
  mix     ///< 25% correct, 35% no_carry, 40% direct
};

struct example {
  std::string prompt;
  std::string completion;
};

namespace detail {
inline std::string two_digits(int value) {
  return {static_cast<char>('0' + value / 10), static_cast<char>('0' + value % 10)};
}
inline std::string units_first(int value) {
  return {static_cast<char>('0' + value % 10), static_cast<char>('0' + value / 10)};
}
inline int draw(rlvr::random_key key, int below, std::uint64_t index) {
  return static_cast<int>(key.below(static_cast<std::uint64_t>(below), index));
}
}  // namespace detail

/// a + b or a - b modulo 100.
inline int apply(int a, term t) { return (t.sign == '+' ? a + t.value : a - t.value + 100) % 100; }

/// The same digit by digit, without carry or borrow: 47+85 gives 22.
inline int apply_without_carry(int a, term t) {
  const int sign = t.sign == '+' ? 1 : -1;
  const int tens = (a / 10 + sign * (t.value / 10) + 10) % 10, units = (a % 10 + sign * (t.value % 10) + 10) % 10;
  return 10 * tens + units;
}

inline std::string prompt_text(const problem& p) {
  std::string out;
  for (std::size_t i = 0; i < p.size(); ++i) {
    if (i > 0) out += p[i].sign;
    out += detail::two_digits(p[i].value);
  }
  return out + std::string(prompt_width - out.size(), '=');
}

/// The gold answer, two digits.
inline std::string answer_text(const problem& p) {
  int sum = 0;
  for (term t : p) sum = apply(sum, t);
  return detail::two_digits(sum);
}

/// The completion that a procedure writes for a problem. Only `noisy` draws: with probability `noise` a step's
/// result has one of its two digits replaced by another digit.
inline std::string completion_text(const problem& p, procedure how, rlvr::random_key key, double noise = 0.3) {
  if (how == procedure::direct) return '=' + answer_text(p);
  std::string out;
  int sum = p.front().value;
  for (std::size_t i = 1; i < p.size(); ++i) {
    sum = how == procedure::no_carry ? apply_without_carry(sum, p[i]) : apply(sum, p[i]);
    if (how == procedure::noisy && key.uniform(i) < noise) {
      const rlvr::random_key step = key.fold(i);
      const int shift = 1 + detail::draw(step, 9, 0);
      sum = detail::draw(step, 2, 1) == 0 ? sum / 10 * 10 + (sum % 10 + shift) % 10 : (sum + 10 * shift) % 100;
    }
    out += p[i].sign + detail::units_first(sum);
  }
  return out + '=' + detail::two_digits(sum);
}

/// The split a prompt belongs to: 70% train, 10% validation, 20% test by a hash of its text (FNV-1a, 64 bits),
/// so that the splits are disjoint whoever draws from them.
inline split split_of(std::string_view prompt) {
  std::uint64_t hash = 0xcbf29ce484222325u;
  for (char c : prompt) hash = (hash ^ static_cast<unsigned char>(c)) * 0x100000001b3u;
  const std::uint64_t percent = (hash ^ (hash >> 32)) % 100;
  return percent < 70 ? split::train : percent < 80 ? split::validation : split::test;
}

/// A problem of 2 to `most` terms, every number of terms, sign and value equally likely.
inline problem draw_problem(rlvr::random_key key, std::size_t most = most_terms) {
  problem p(fewest_terms + static_cast<std::size_t>(key.below(most - fewest_terms + 1, 0)));
  for (std::size_t i = 0; i < p.size(); ++i)
    p[i] = {i > 0 && detail::draw(key, 2, 2 * i + 1) == 1 ? '-' : '+', detail::draw(key, 100, 2 * i + 2)};
  return p;
}

/// A problem of a split whose prompt is not among `excluded`: draws until one fits.
inline problem draw_problem(split part, rlvr::random_key key, const std::unordered_set<std::string>& excluded = {},
                            std::size_t most = most_terms) {
  for (std::uint64_t attempt = 0;; ++attempt) {
    problem p = draw_problem(key.fold(attempt), most);
    const std::string text = prompt_text(p);
    if (split_of(text) == part && !excluded.contains(text)) return p;
  }
}

/// `count` different problems of a split, none of them among `excluded`. The first n of a longer list are the
/// list of n. `count` must be well below the number of prompts there are.
inline std::vector<problem> draw_problems(split part, std::size_t count, rlvr::random_key key,
                                          std::unordered_set<std::string> excluded = {}) {
  std::vector<problem> out;
  for (std::uint64_t i = 0; out.size() < count; ++i) {
    problem p = draw_problem(part, key.fold(i), excluded);
    excluded.insert(prompt_text(p));
    out.push_back(std::move(p));
  }
  return out;
}

/// The procedure of one example of a corpus.
inline procedure draw_procedure(corpus from, rlvr::random_key key) {
  if (from == corpus::clean) return procedure::correct;
  if (from == corpus::noisy) return procedure::noisy;
  const int percent = detail::draw(key, 100, 0);
  return percent < 25 ? procedure::correct : percent < 60 ? procedure::no_carry : procedure::direct;
}

struct corpus_options {
  corpus from = corpus::noisy;
  double noise = 0.3;                         ///< of each step, for the noisy procedure
  std::size_t most = most_terms;              ///< terms at most
  std::unordered_set<std::string> held_out;   ///< prompts that are never drawn, besides those of the other splits
};

/// One example of a corpus.
inline example draw_example(const corpus_options& o, rlvr::random_key key) {
  const problem p = draw_problem(split::train, key.fold(1), o.held_out, o.most);
  return {prompt_text(p), completion_text(p, draw_procedure(o.from, key.fold(2)), key.fold(3), o.noise)};
}

/// A corpus by its name; throws std::invalid_argument for another name.
inline corpus corpus_named(std::string_view name) {
  rlvr::require(name == "clean" || name == "noisy" || name == "mix", "corpus: \"", name,
                "\" is not one of clean, noisy, mix");
  return name == "clean" ? corpus::clean : name == "noisy" ? corpus::noisy : corpus::mix;
}

}  // namespace chain
