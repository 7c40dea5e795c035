#pragma once
/// Pools of prompts of mixed difficulty, made of the example task by what a base model can do.

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <rlvr/core/error.hpp>
#include <rlvr/core/random.hpp>

#include "task.hpp"

namespace chain {

/// What a completion is judged by.
enum class grading {
  answer,  ///< what stands behind the = must be the answer
  form     ///< two digits must stand there, whichever
};

enum class pool_kind {
  realistic,   ///< 45% of the prompts always right, 40% hopeless, 15% learnable
  balanced,    ///< equal parts of the four quarters of pass rates
  mislabelled  ///< balanced, with one digit of the answer changed in a share of the prompts
};

inline std::string_view to_string(pool_kind kind) {
  switch (kind) {
    case pool_kind::realistic: return "realistic";
    case pool_kind::balanced: return "balanced";
    case pool_kind::mislabelled: return "mislabelled";
  }
  return "";
}

/// One training prompt.
struct task_prompt {
  std::string prompt, answer;
  grading by = grading::answer;
  bool wrong = false;  ///< whether the answer is not the right one
};

/// What stands behind the last =.
inline std::string_view answer_of(std::string_view completion) {
  const std::size_t at = completion.rfind('=');
  return at == std::string_view::npos ? std::string_view() : completion.substr(at + 1);
}

/// Whether the completion is right by the prompt's grading.
inline bool is_right(const task_prompt& p, std::string_view completion) {
  const std::string_view answer = answer_of(completion);
  if (p.by == grading::answer) return answer == p.answer;
  return answer.size() == 2 && answer.find_first_not_of("0123456789") == std::string_view::npos;
}

/// The answer, as far as the prompt's grading tells answers apart.
inline std::string graded_answer(const task_prompt& p, std::string_view completion) {
  return p.by == grading::form && is_right(p, completion) ? std::string() : std::string(answer_of(completion));
}

/// The value of a prompt's chain without modulo.
inline int plain_sum(std::string_view prompt) {
  int sum = 0, sign = 1;
  for (std::size_t i = 0; i + 1 < prompt.size() && prompt[i] != '=';) {
    if (prompt[i] == '+' || prompt[i] == '-') {
      sign = prompt[i] == '+' ? 1 : -1;
      ++i;
    } else {
      sum += sign * (10 * (prompt[i] - '0') + (prompt[i + 1] - '0'));
      i += 2;
    }
  }
  return sum;
}

struct pool_options {
  pool_kind kind = pool_kind::realistic;
  std::size_t size = 256;
  double always = 0.45, hopeless = 0.40;  ///< shares of the realistic pool
  double wrong = 0.2;                     ///< share of the mislabelled one
  std::uint64_t seed = 0;
};

/// A pool from prompts, their answers and their pass rates under the base model.
///
/// No prompt of the task is saturated or out of reach for the noisy base, so two other tasks stand in for those in the
/// realistic pool, on prompts of the same look: `form` asks for any two digits, which the base always writes, and a
/// hopeless prompt asks for the sum itself where it is negative or above 99, which the base, with its two digits, never
/// writes. The learnable ones have pass rates in [0.2, 0.8]. Throws std::invalid_argument when there are too few
/// prompts of a kind.
inline std::vector<task_prompt> make_pool(const pool_options& o, const std::vector<std::string>& prompts,
                                          const std::vector<std::string>& answers, std::span<const double> rates) {
  rlvr::require(o.always >= 0 && o.hopeless >= 0 && o.always + o.hopeless <= 1, "make_pool: shares ", o.always, " and ",
                o.hopeless);
  rlvr::require(o.wrong >= 0 && o.wrong <= 1, "make_pool: a share of ", o.wrong, " wrong labels");
  std::vector<std::uint32_t> order(prompts.size());
  for (std::size_t i = 0; i < order.size(); ++i) order[i] = static_cast<std::uint32_t>(i);
  const rlvr::random_key key = rlvr::random_key(o.seed).fold(rlvr::purpose::corpus);
  shuffle(order, key);

  std::vector<task_prompt> out;
  std::vector<char> taken(prompts.size());
  const auto take = [&](std::size_t count, auto fits, auto change) {
    for (std::size_t j = 0; j < order.size() && count > 0; ++j) {
      const std::uint32_t i = order[j];
      if (taken[i] || !fits(i)) continue;
      taken[i] = 1;
      --count;
      task_prompt p{prompts[i], answers[i]};
      change(p);
      out.push_back(std::move(p));
    }
    rlvr::require(count == 0, "make_pool: ", count, " prompts are missing for the ", to_string(o.kind), " pool");
  };
  const auto part = [&](double share) { return static_cast<std::size_t>(share * static_cast<double>(o.size) + 0.5); };
  const auto as_is = [](task_prompt&) {};

  if (o.kind == pool_kind::realistic) {
    const std::size_t always = part(o.always), hopeless = part(o.hopeless);
    const auto outside = [&](std::uint32_t i) {
      const int sum = plain_sum(prompts[i]);
      return sum < 0 || sum > 99;
    };
    take(
        always, [](std::uint32_t) { return true; }, [](task_prompt& p) { p.by = grading::form; });
    take(hopeless, outside, [](task_prompt& p) { p.answer = std::to_string(plain_sum(p.prompt)); });
    take(
        o.size - always - hopeless, [&](std::uint32_t i) { return rates[i] >= 0.2 && rates[i] <= 0.8; }, as_is);
  } else {
    for (std::size_t quarter = 0; quarter < 4; ++quarter) {
      const std::size_t count = o.size / 4 + (quarter < o.size % 4);
      const double low = 0.25 * static_cast<double>(quarter);
      take(
          count, [&](std::uint32_t i) { return rates[i] >= low && (rates[i] < low + 0.25 || quarter == 3); }, as_is);
    }
  }
  shuffle(out, key.fold(1));
  if (o.kind == pool_kind::mislabelled)
    for (std::size_t i = 0; i < part(o.wrong); ++i) {
      char& digit = out[i].answer[key.below(2, 2 * i)];
      digit = static_cast<char>('0' + (digit - '0' + 1 + static_cast<int>(key.below(9, 2 * i + 1))) % 10);
      out[i].wrong = true;
    }
  return out;
}

}  // namespace chain
