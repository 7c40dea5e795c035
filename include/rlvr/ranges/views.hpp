#pragma once
/// Lazy views over the groups of a batch, composable with `|` and with all of range-v3:
///
///     for (auto batch : r | views::groups | views::subset(0, 4) | views::micro_batches(256))
///       use(collect(batch));

#include <concepts>
#include <cstddef>
#include <cstdint>
#include <span>
#include <utility>
#include <vector>

#include <range/v3/functional/bind_back.hpp>
#include <range/v3/functional/pipeable.hpp>
#include <range/v3/iterator/default_sentinel.hpp>
#include <range/v3/range/access.hpp>
#include <range/v3/range/concepts.hpp>
#include <range/v3/range/traits.hpp>
#include <range/v3/view/all.hpp>
#include <range/v3/view/chunk_by.hpp>
#include <range/v3/view/facade.hpp>
#include <range/v3/view/filter.hpp>
#include <range/v3/view/iota.hpp>
#include <range/v3/view/subrange.hpp>
#include <range/v3/view/transform.hpp>
#include <range/v3/view/view.hpp>

#include <rlvr/core/error.hpp>
#include <rlvr/core/rollouts.hpp>
#include <rlvr/core/validate.hpp>

namespace rlvr {

/// Rollouts [first, last) of a batch, which share their prompt. Nothing is copied: the batch must outlive the
/// view.
class group_view {
 public:
  group_view(const rollouts& batch, std::size_t first, std::size_t last)
      : batch_(&batch), first_(first), last_(last) {}

  const rollouts& batch() const { return *batch_; }
  std::size_t first() const { return first_; }
  std::size_t last() const { return last_; }
  std::size_t size() const { return last_ - first_; }
  std::uint32_t prompt() const { return batch_->prompts[first_]; }

  /// The group's part of an array with one entry per rollout: `g.rows(r.verdicts)`. Empty when the array is.
  /// Throws std::invalid_argument when the array is of another length.
  template <class T>
  std::span<const T> rows(const std::vector<T>& column) const {
    return part(column, batch_->size(), "rollouts", first_, last_);
  }
  /// The group's part of an array with one entry per token: `g.tokens(r.log_probs)`. Empty when the array is.
  /// Throws std::invalid_argument when the array is of another length.
  template <class T>
  std::span<const T> tokens(const std::vector<T>& column) const {
    return part(column, batch_->offsets.back(), "tokens", batch_->offsets[first_], batch_->offsets[last_]);
  }
  /// A range of the completions, each a span of tokens.
  auto completions() const {
    return ranges::views::iota(first_, last_) |
           ranges::views::transform([batch = batch_](std::size_t i) { return batch->completion(i); });
  }

 private:
  template <class T>
  static std::span<const T> part(const std::vector<T>& column, std::size_t expected, const char* of,
                                 std::size_t begin, std::size_t end) {
    if (column.empty()) return {};
    require(column.size() == expected, "group_view: an array of ", column.size(), " entries for ", expected, " ", of);
    return std::span<const T>(column).subspan(begin, end - begin);
  }

  const rollouts* batch_;
  std::size_t first_, last_;
};

/// A range whose elements are group_views.
template <class R>
concept group_range = ranges::input_range<R> && std::same_as<ranges::range_value_t<R>, group_view>;

/// Runs of whole groups, in order, each with at most `limit` rollouts; a group that is larger makes a run of
/// its own. Made by views::micro_batches.
template <class Groups>
class micro_batch_view : public ranges::view_facade<micro_batch_view<Groups>, ranges::unknown> {
 public:
  micro_batch_view() = default;
  micro_batch_view(Groups groups, std::size_t limit) : groups_(std::move(groups)), limit_(limit) {}

 private:
  friend ranges::range_access;
  using iterator = ranges::iterator_t<Groups>;

  class cursor {
   public:
    cursor() = default;
    cursor(iterator first, ranges::sentinel_t<Groups> end, std::size_t limit)
        : last_(first), end_(end), limit_(limit) {
      next();
    }
    ranges::subrange<iterator> read() const { return {first_, last_}; }
    bool equal(const cursor& other) const { return first_ == other.first_; }
    bool equal(ranges::default_sentinel_t) const { return first_ == end_; }
    void next() {
      first_ = last_;
      std::size_t size = 0;
      while (last_ != end_) {
        size += group_view(*last_).size();
        if (size > limit_ && last_ != first_) break;
        ++last_;
      }
    }

   private:
    iterator first_, last_;
    ranges::sentinel_t<Groups> end_;
    std::size_t limit_ = 0;
  };

  cursor begin_cursor() { return cursor(ranges::begin(groups_), ranges::end(groups_), limit_); }

  Groups groups_;
  std::size_t limit_ = 0;
};

namespace detail {

struct groups_fn {
  auto operator()(const rollouts& r) const {
    validate_offsets(r);
    return ranges::views::iota(std::size_t{0}, r.size()) |
           ranges::views::chunk_by(
               [&r](std::size_t i, std::size_t j) { return r.prompts[i] == r.prompts[j]; }) |
           ranges::views::transform([&r](auto run) {
             const std::size_t first = *ranges::begin(run);
             return group_view(r, first, first + static_cast<std::size_t>(ranges::distance(run)));
           });
  }
  void operator()(rollouts&&) const = delete;  // the view would outlive them
};

struct micro_batches_fn {
  template <ranges::viewable_range R>
  requires group_range<R> && ranges::forward_range<R>
  auto operator()(R&& groups, std::size_t limit) const {
    return micro_batch_view<ranges::views::all_t<R>>(ranges::views::all(std::forward<R>(groups)), limit);
  }
};

}  // namespace detail

namespace views {

/// rollouts -> a range of group_view: runs of equal prompt, the same as groups_of. Throws std::invalid_argument for
/// offsets or prompts that are not those of the tokens.
inline constexpr auto groups = ranges::make_pipeable(detail::groups_fn{});

/// Groups -> those whose prompt is m modulo `count`: `count` disjoint subsets, split by prompt.
/// Throws std::invalid_argument unless m < count.
inline auto subset(std::size_t m, std::size_t count) {
  require(m < count, "views::subset: subset ", m, " of ", count);
  return ranges::views::filter([m, count](const group_view& g) { return g.prompt() % count == m; });
}

/// Groups -> micro-batches of whole groups with at most `limit` rollouts each; a larger group stands alone.
/// Each is a range of group_view. Throws std::invalid_argument when limit is 0.
inline auto micro_batches(std::size_t limit) {
  require(limit > 0, "views::micro_batches: limit is 0");
  return ranges::make_view_closure(ranges::bind_back(detail::micro_batches_fn{}, limit));
}

}  // namespace views

/// The rollouts of some groups, copied one behind the other, with what their batch has of log-probs, entropies, flags
/// and verdicts; what a policy can be given. O(B + T).
template <group_range R>
rollouts collect(R&& groups) {
  rollouts out;
  for (const group_view& g : groups) {
    const rollouts& r = g.batch();
    const auto join = [](auto& ours, auto part) { ours.insert(ours.end(), part.begin(), part.end()); };
    for (std::size_t i = g.first(); i < g.last(); ++i)
      out.offsets.push_back(out.offsets.back() + r.length(i));
    join(out.tokens, g.tokens(r.tokens));
    join(out.log_probs, g.tokens(r.log_probs));
    join(out.entropies, g.tokens(r.entropies));
    join(out.prompts, g.rows(r.prompts));
    join(out.finished, g.rows(r.finished));
    join(out.verdicts, g.rows(r.verdicts));
  }
  return out;
}

/// The parts of an array with one entry per token of their batch, such as coefficients, that belong to some groups:
/// the entries for collect(groups). O(T).
template <group_range R, class T>
std::vector<T> collect_tokens(R&& groups, const std::vector<T>& column) {
  std::vector<T> out;
  for (const group_view& g : groups) {
    const std::span<const T> part = g.tokens(column);
    out.insert(out.end(), part.begin(), part.end());
  }
  return out;
}

}  // namespace rlvr
