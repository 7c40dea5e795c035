#pragma once
/// Prompts and completions as a forest of distinct prefixes: what a causal decoder has to compute, once each.

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include <rlvr/core/rollouts.hpp>

namespace rlvr::decoder {

/// One row for every distinct prefix, one scored edge for every distinct (prefix, next token) of a completion.
/// A group shares its prompt's rows, equal rollouts share all of theirs, and rollouts that part later share what
/// they have in common: their coefficients add up on the shared edges. Rows are numbered so that a parent stands
/// before its children; the token that ends a completion needs an edge but no row.
class token_tree {
 public:
  static constexpr std::int32_t none = -1;

  struct edge {
    std::int32_t source;         ///< row whose next-token distribution scores `next`
    token next;
    std::int32_t child = none;   ///< row of the prefix extended by `next`, when somebody needs it
    std::int32_t sibling = none; ///< the next edge of the same source
    bool scored = false;         ///< belongs to a completion, not only to prompts
    double coefficient = 0;      ///< sum over the completions that pass
  };

  std::size_t rows() const { return tokens_.size(); }
  std::span<const token> tokens() const { return tokens_; }
  std::span<const edge> edges() const { return edges_; }
  token token_at(std::size_t row) const { return tokens_[row]; }
  std::size_t position(std::size_t row) const { return positions_[row]; }

  /// Rows of the ancestors of `row`, oldest first, and of itself: what it attends to.
  std::span<const std::int32_t> path(std::size_t row) const {
    return std::span<const std::int32_t>(paths_).subspan(path_begin_[row], positions_[row] + 1);
  }

  /// First edge of a row; follow `sibling`.
  std::int32_t first_edge(std::size_t row) const { return first_edge_[row]; }

  /// Adds a prompt and returns its last row. Requires: not empty.
  std::int32_t add_prompt(std::span<const token> prompt) {
    std::int32_t row = none;
    for (token t : prompt) row = child_of(edge_of(row, t));
    return row;
  }

  /// Adds a completion below a prompt's last row. Appends the edge of each token to `out`. `coefficients` is
  /// empty or has one entry per token.
  void add_completion(std::int32_t row, std::span<const token> completion, std::span<const double> coefficients,
                      std::vector<std::int32_t>& out) {
    for (std::size_t t = 0; t < completion.size(); ++t) {
      const std::int32_t e = edge_of(row, completion[t]);
      edge& at = edges_[static_cast<std::size_t>(e)];
      at.scored = true;
      if (!coefficients.empty()) at.coefficient += coefficients[t];
      out.push_back(e);
      if (t + 1 < completion.size()) row = child_of(e);
    }
  }

  void clear() {
    tokens_.clear();
    positions_.clear();
    path_begin_.clear();
    paths_.clear();
    first_edge_.clear();
    edges_.clear();
    first_root_ = none;
  }

 private:
  std::int32_t edge_of(std::int32_t source, token next) {
    std::int32_t& head = source == none ? first_root_ : first_edge_[static_cast<std::size_t>(source)];
    for (std::int32_t e = head; e != none; e = edges_[static_cast<std::size_t>(e)].sibling)
      if (edges_[static_cast<std::size_t>(e)].next == next) return e;
    edges_.push_back({.source = source, .next = next, .sibling = head});
    return head = static_cast<std::int32_t>(edges_.size() - 1);
  }

  std::int32_t child_of(std::int32_t e) {
    edge& at = edges_[static_cast<std::size_t>(e)];
    if (at.child != none) return at.child;
    const auto row = static_cast<std::int32_t>(tokens_.size());
    const std::size_t length = at.source == none ? 0 : positions_[static_cast<std::size_t>(at.source)] + 1;
    std::size_t begin = paths_.size();
    if (length > 0) {
      const std::size_t parent = path_begin_[static_cast<std::size_t>(at.source)];
      if (parent + length == paths_.size())
        begin = parent;  // the parent's path ends the array: go on from it
      else
        for (std::size_t i = 0; i < length; ++i) paths_.push_back(paths_[parent + i]);
    }
    paths_.push_back(row);
    path_begin_.push_back(begin);
    positions_.push_back(length);
    tokens_.push_back(at.next);
    first_edge_.push_back(none);
    at.child = row;
    return row;
  }

  std::vector<token> tokens_;
  std::vector<std::size_t> positions_;
  std::vector<std::size_t> path_begin_;
  std::vector<std::int32_t> paths_;
  std::vector<std::int32_t> first_edge_;
  std::vector<edge> edges_;
  std::int32_t first_root_ = none;
};

}  // namespace rlvr::decoder
