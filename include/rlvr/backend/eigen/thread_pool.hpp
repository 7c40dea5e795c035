#pragma once
/// Threads that wait for work. What they compute never depends on how many they are.

#include <atomic>
#include <condition_variable>
#include <cstddef>
#include <exception>
#include <functional>
#include <mutex>
#include <thread>
#include <vector>

namespace rlvr::eigen {

/// A fixed team of threads; the caller is worker 0.
class thread_pool {
 public:
  /// 0 means one per hardware thread.
  explicit thread_pool(std::size_t threads = 0) {
    if (threads == 0) threads = std::thread::hardware_concurrency();
    if (threads == 0) threads = 1;
    for (std::size_t worker = 1; worker < threads; ++worker)
      team_.emplace_back([this, worker](std::stop_token stop) { wait_for_work(stop, worker); });
  }
  thread_pool(const thread_pool&) = delete;
  thread_pool& operator=(const thread_pool&) = delete;

  std::size_t size() const { return team_.size() + 1; }

  /// Calls f(index, worker) once for every index in [0, count), each index on one worker, indices handed out in
  /// increasing order; returns when all are done. When a call throws, the indices not yet begun are dropped and
  /// the first exception is thrown on. Not reentrant.
  void parallel_for(std::size_t count, const std::function<void(std::size_t, std::size_t)>& f) {
    if (count == 0) return;
    if (team_.empty() || count == 1) {
      for (std::size_t i = 0; i < count; ++i) f(i, 0);
      return;
    }
    {
      const std::lock_guard lock(mutex_);
      job_ = &f;
      count_ = count;
      next_ = 0;
      busy_ = team_.size();
      error_ = nullptr;
      ++generation_;
    }
    wake_.notify_all();
    work(0);
    std::unique_lock lock(mutex_);
    done_.wait(lock, [this] { return busy_ == 0; });
    job_ = nullptr;
    if (error_) std::rethrow_exception(error_);
  }

 private:
  void wait_for_work(std::stop_token stop, std::size_t worker) {
    std::size_t seen = 0;
    for (;;) {
      {
        std::unique_lock lock(mutex_);
        if (!wake_.wait(lock, stop, [&] { return generation_ != seen; })) return;
        seen = generation_;
      }
      work(worker);
      const std::lock_guard lock(mutex_);
      if (--busy_ == 0) done_.notify_one();
    }
  }

  void work(std::size_t worker) {
    for (std::size_t i = next_++; i < count_; i = next_++) {
      try {
        (*job_)(i, worker);
      } catch (...) {
        const std::lock_guard lock(mutex_);
        if (!error_) error_ = std::current_exception();
        next_ = count_;
      }
    }
  }

  std::mutex mutex_;
  std::condition_variable_any wake_;  // a stop request wakes it, so that a jthread's destructor is enough
  std::condition_variable done_;
  const std::function<void(std::size_t, std::size_t)>* job_ = nullptr;
  std::atomic<std::size_t> next_{0};
  std::size_t count_ = 0, busy_ = 0, generation_ = 0;
  std::exception_ptr error_;
  std::vector<std::jthread> team_;  // last: joins before the rest is destroyed
};

}  // namespace rlvr::eigen
