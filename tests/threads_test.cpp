#include <atomic>
#include <cstddef>
#include <stdexcept>
#include <thread>
#include <vector>

#include <rlvr/backend/eigen/ordered_sum.hpp>
#include <rlvr/backend/eigen/thread_pool.hpp>

#include "catch.hpp"

using rlvr::eigen::ordered_sum;
using rlvr::eigen::thread_pool;

TEST_CASE("thread_pool: every index once, on a worker of the team", "[threads]") {
  for (std::size_t threads : {1, 2, 5}) {
    thread_pool pool(threads);
    REQUIRE(pool.size() == threads);
    for (std::size_t count : {0, 1, 3, 1000}) {
      std::vector<std::atomic<int>> calls(count);
      std::atomic<bool> in_team = true;
      pool.parallel_for(count, [&](std::size_t i, std::size_t worker) {
        ++calls[i];
        if (worker >= threads) in_team = false;
      });
      for (const auto& n : calls) CHECK(n == 1);
      CHECK(in_team);
    }
  }
}

TEST_CASE("thread_pool: the first exception comes out, and the pool works on", "[threads]") {
  thread_pool pool(3);
  for (int repeat = 0; repeat < 50; ++repeat) {
    CHECK_THROWS_AS(pool.parallel_for(100,
                                      [](std::size_t i, std::size_t) {
                                        if (i % 7 == 3) throw std::runtime_error("index");
                                      }),
                    std::runtime_error);
    std::atomic<std::size_t> done = 0;
    pool.parallel_for(10, [&](std::size_t, std::size_t) { ++done; });
    CHECK(done == 10);
  }
}

TEST_CASE("ordered_sum: the bits of adding one after the other, whoever adds and whenever", "[threads]") {
  const std::size_t terms = 200, size = 50;
  const auto term = [](std::size_t k) {
    std::vector<float> t(size);
    for (std::size_t i = 0; i < size; ++i) t[i] = 1.0f / static_cast<float>(1 + (k * 37 + i * 11) % 1009);
    return t;
  };
  std::vector<float> expected(size, 0.1f);
  for (std::size_t k = 0; k < terms; ++k)
    for (std::size_t i = 0; i < size; ++i) expected[i] += term(k)[i];
  for (std::size_t threads : {1, 2, 4})
    for (std::size_t waiting : {1, 3, 100}) {
      std::vector<float> total(size, 0.1f);
      ordered_sum<float> sum(total, waiting);
      thread_pool pool(threads);
      pool.parallel_for(terms, [&](std::size_t k, std::size_t) {
        if (k % 5 == 0) std::this_thread::yield();
        std::vector<float> t = term(k);
        sum.add(k, t);
      });
      CHECK(total == expected);
    }
}

TEST_CASE("ordered_sum: nobody waits for a term that will never come", "[threads]") {
  std::vector<float> total(3, 0.0f);
  ordered_sum<float> sum(total, 1);
  thread_pool pool(4);
  CHECK_THROWS_AS(pool.parallel_for(100,
                                    [&](std::size_t k, std::size_t) {
                                      if (k == 2) {
                                        sum.abandon();
                                        throw std::runtime_error("term 2");
                                      }
                                      std::vector<float> t(3, 1.0f);
                                      sum.add(k, t);
                                    }),
                  std::runtime_error);
}
