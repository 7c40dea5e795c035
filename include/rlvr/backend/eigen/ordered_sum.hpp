#pragma once
/// A sum whose terms are made by several threads and added in one order.

#include <condition_variable>
#include <cstddef>
#include <map>
#include <mutex>
#include <span>
#include <utility>
#include <vector>

namespace rlvr::eigen {

/// total += term 0, then term 1, ...: the same bits whoever made the terms and whenever they came.
template <class T>
class ordered_sum {
 public:
  /// Terms that come early wait in memory, at most `waiting` of them.
  ordered_sum(std::span<T> total, std::size_t waiting) : total_(total), most_waiting_(waiting) {}

  /// Hands in term k, each k once, and leaves in `term` a vector to be used again. Returns at once unless too many
  /// terms wait already. Requires that terms are begun in increasing order of k.
  void add(std::size_t k, std::vector<T>& term) {
    std::unique_lock lock(mutex_);
    room_.wait(lock, [&] { return abandoned_ || k == next_ || waiting_.size() < most_waiting_; });
    if (abandoned_) return;
    waiting_.emplace(k, std::move(term));
    while (!adding_ && !waiting_.empty() && waiting_.begin()->first == next_) {
      std::vector<T> first = std::move(waiting_.begin()->second);
      waiting_.erase(waiting_.begin());
      adding_ = true;
      lock.unlock();
      for (std::size_t i = 0; i < total_.size(); ++i) total_[i] += first[i];
      lock.lock();
      adding_ = false;
      spare_.push_back(std::move(first));
      ++next_;
      room_.notify_all();
    }
    if (!spare_.empty()) {
      term = std::move(spare_.back());
      spare_.pop_back();
    }
  }

  /// A term will never come: nobody waits for it any more, and the sum is not completed.
  void abandon() {
    const std::lock_guard lock(mutex_);
    abandoned_ = true;
    room_.notify_all();
  }

 private:
  std::span<T> total_;
  std::size_t most_waiting_, next_ = 0;
  bool adding_ = false, abandoned_ = false;
  std::map<std::size_t, std::vector<T>> waiting_;
  std::vector<std::vector<T>> spare_;
  std::mutex mutex_;
  std::condition_variable room_;
};

}  // namespace rlvr::eigen
