#pragma once
/// Rollouts packed into rows, without padding: a prompt once, behind it the completions that follow it.

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>
#include <tuple>
#include <utility>
#include <vector>

#include <rlvr/backend/cuda/device.hpp>
#include <rlvr/core/ragged.hpp>
#include <rlvr/core/rollouts.hpp>

namespace rlvr::cuda {

/// Rows, the tiles of attention, and the edges (row, next token) whose log-probabilities are asked for. The last token
/// of a completion needs an edge but no row. Completions of one prompt that stand side by side share its rows.
class packing {
 public:
  std::vector<std::int32_t> tokens, positions;  ///< per row
  std::vector<attention_task> forward, backward;
  std::vector<key_task> keys;
  std::vector<std::int32_t> sources;                ///< rows with edges
  std::vector<std::int32_t> edge_begin, edge_next;  ///< edges of sources[i]: edge_begin[i] .. edge_begin[i + 1]
  std::vector<double> coefficients;                 ///< per edge, the sum over its tokens
  std::vector<std::int32_t> edge_of_token;          ///< per completion token, in the order of the rollouts given
  std::vector<std::int32_t> embedded, embedded_begin, embedded_rows;  ///< distinct tokens and their rows

  packing() = default;
  packing(const ragged<token>& prompts, const rollouts& r, std::span<const double> token_coefficients,
          std::span<const std::size_t> chosen, attention_tiles tiles)
      : tiles_(tiles) {
    std::vector<edge> asked;
    for (std::size_t i = 0; i < chosen.size();) {
      const std::span<const token> prompt = prompts[r.prompts[chosen[i]]];
      const auto prefix = static_cast<std::int32_t>(tokens.size());
      const auto length = static_cast<std::int32_t>(prompt.size());
      add_sequence(prompt, {0, 0, 0});
      const std::size_t first_key = keys.size();
      add_keys(prefix, length);
      const std::size_t end_key = keys.size();
      const std::uint32_t of = r.prompts[chosen[i]];
      for (; i < chosen.size() && r.prompts[chosen[i]] == of; ++i) {
        const std::span<const token> completion = r.completion(chosen[i]);
        const auto row = static_cast<std::int32_t>(tokens.size());
        for (std::size_t t = 0; t < completion.size(); ++t) {
          const std::int32_t source = t == 0 ? row_before(prefix, length) : row + static_cast<std::int32_t>(t) - 1;
          asked.push_back({source, completion[t], asked.size(),
                           token_coefficients.empty() ? 0 : token_coefficients[r.offsets[chosen[i]] + t]});
        }
        if (completion.size() > 1) {
          add_sequence(completion.first(completion.size() - 1), {prefix, length, row});
          add_keys(row, static_cast<std::int32_t>(completion.size()) - 1);
          for (std::size_t k = keys.size(); k-- > end_key && keys[k].key_row >= row;) keys[k].query_end = rows();
        }
      }
      for (std::size_t k = first_key; k < end_key; ++k) keys[k].query_end = rows();
    }
    list_edges(asked);
    list_embedded();
  }

  std::int32_t rows() const { return static_cast<std::int32_t>(tokens.size()); }

  /// As many bytes as the lists of so many rows and completion tokens take, or more.
  static std::size_t most_bytes(std::size_t rows, std::size_t completion_tokens) {
    constexpr std::size_t lists = 12, padding = 32, index = sizeof(std::int32_t);
    return rows * (7 * index + 2 * sizeof(attention_task) + sizeof(key_task)) +
           completion_tokens * (index + sizeof(double)) + lists * padding;
  }

 private:
  /// That completion token `token` of all asks for.
  struct edge {
    std::int32_t source;
    rlvr::token next;
    std::size_t token;
    double coefficient;
  };
  struct prefix_of {
    std::int32_t row, length, own_row;
  };
  static std::int32_t row_before(std::int32_t prefix, std::int32_t length) { return prefix + length - 1; }

  void add_sequence(std::span<const token> sequence, prefix_of p) {
    const auto row = static_cast<std::int32_t>(tokens.size()), length = static_cast<std::int32_t>(sequence.size());
    for (std::int32_t i = 0; i < length; ++i) {
      tokens.push_back(sequence[static_cast<std::size_t>(i)]);
      positions.push_back(p.length + i);
    }
    const auto cut = [&](std::vector<attention_task>& to, std::int32_t tile) {
      for (std::int32_t i = 0; i < length; i += tile)
        to.push_back({row + i, std::min(tile, length - i), p.row, p.length, row, i});
    };
    cut(forward, tiles_.forward);
    cut(backward, tiles_.backward);
  }
  void add_keys(std::int32_t row, std::int32_t length) {
    for (std::int32_t i = 0; i < length; i += tiles_.backward)
      keys.push_back({row + i, std::min(tiles_.backward, length - i), 0});
  }
  /// One for each source and next token, in their order; equal ones are summed in the order in which they were asked.
  void list_edges(std::vector<edge>& asked) {
    edge_of_token.resize(asked.size());
    std::sort(asked.begin(), asked.end(), [](const edge& x, const edge& y) {
      return std::tie(x.source, x.next, x.token) < std::tie(y.source, y.next, y.token);
    });
    for (const edge& e : asked) {
      const bool new_source = sources.empty() || sources.back() != e.source;
      if (new_source) {
        sources.push_back(e.source);
        edge_begin.push_back(static_cast<std::int32_t>(edge_next.size()));
      }
      if (new_source || edge_next.back() != e.next) {
        edge_next.push_back(e.next);
        coefficients.push_back(0);
      }
      coefficients.back() += e.coefficient;
      edge_of_token[e.token] = static_cast<std::int32_t>(edge_next.size()) - 1;
    }
    edge_begin.push_back(static_cast<std::int32_t>(edge_next.size()));
  }
  void list_embedded() {
    std::vector<std::pair<token, std::int32_t>> row_of;
    for (std::size_t i = 0; i < tokens.size(); ++i) row_of.push_back({tokens[i], static_cast<std::int32_t>(i)});
    std::sort(row_of.begin(), row_of.end());
    for (const auto& [t, row] : row_of) {
      if (embedded.empty() || embedded.back() != t) {
        embedded.push_back(t);
        embedded_begin.push_back(static_cast<std::int32_t>(embedded_rows.size()));
      }
      embedded_rows.push_back(row);
    }
    embedded_begin.push_back(static_cast<std::int32_t>(embedded_rows.size()));
  }

  attention_tiles tiles_{};
};

}  // namespace rlvr::cuda
