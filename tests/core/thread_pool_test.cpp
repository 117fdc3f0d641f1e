#include "core/thread_pool.h"

#include <atomic>
#include <chrono>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <set>
#include <stdexcept>
#include <stop_token>
#include <thread>
#include <vector>

#include "core/error.h"

namespace inkstone {
namespace {

using ::testing::Each;
using ::testing::HasSubstr;
using ::testing::ThrowsMessage;

TEST(ThreadPool, RunsEveryTaskOnce) {
  for (const int threads : {1, 2, 3, 8}) {
    ThreadPool pool(threads);
    EXPECT_EQ(pool.threads(), threads);
    for (const int64_t tasks : {0, 1, 2, 7, 1000}) {
      std::vector<std::atomic<int>> runs(static_cast<size_t>(tasks));
      pool.run(tasks, [&](int64_t i, int) { ++runs[static_cast<size_t>(i)]; });
      for (const auto& n : runs) EXPECT_EQ(n, 1) << threads << " threads, " << tasks << " tasks";
    }
  }
}

TEST(ThreadPool, NoTwoTasksOfAWorkerRunAtOnce) {
  ThreadPool pool(4);
  std::vector<std::atomic<int>> inside(4);
  std::atomic<bool> doubled = false;
  pool.run(2000, [&](int64_t, int worker) {
    if (inside.at(static_cast<size_t>(worker))++ != 0) doubled = true;
    --inside[static_cast<size_t>(worker)];
  });
  EXPECT_FALSE(doubled);
}

TEST(ThreadPool, TheCallerIsWorkerZero) {
  ThreadPool pool(1);
  pool.run(3, [caller = std::this_thread::get_id()](int64_t, int worker) {
    EXPECT_EQ(worker, 0);
    EXPECT_EQ(std::this_thread::get_id(), caller);
  });
}

TEST(ThreadPool, WorkersShareTheTasks) {
  ThreadPool pool(3);
  std::atomic<int> waiting = 0;
  pool.run(3, [&](int64_t, int) {  // ends only if all three are in it at once
    ++waiting;
    while (waiting < 3) std::this_thread::yield();
  });
  EXPECT_EQ(waiting, 3);
}

TEST(ThreadPool, ManySmallJobsLoseNoTask) {
  ThreadPool pool(4);
  int64_t expected = 0;
  std::atomic<int64_t> sum = 0;
  for (int64_t job = 0; job < 5000; ++job) {
    const int64_t tasks = job % 5 + 1;
    pool.run(tasks, [&, job](int64_t i, int) { sum += job * 10 + i; });
    expected += tasks * job * 10 + tasks * (tasks - 1) / 2;
    ASSERT_EQ(sum, expected) << "not all tasks of job " << job << " had run when run() returned";
  }
}

TEST(ThreadPool, SleepingWorkersWakeUp) {
  ThreadPool pool(2);
  for (int i = 0; i < 3; ++i) {
    std::this_thread::sleep_for(std::chrono::milliseconds(20));  // far longer than the workers spin
    std::atomic<int> waiting = 0;
    pool.run(2, [&](int64_t, int) {
      ++waiting;
      while (waiting < 2) std::this_thread::yield();
    });
    EXPECT_EQ(waiting, 2);
  }
}

TEST(ThreadPool, WritesOfTasksAreSeenByTheCaller) {
  ThreadPool pool(4);
  std::vector<int> values(512);
  for (int job = 1; job <= 200; ++job) {
    pool.run(512, [&](int64_t i, int) { values[static_cast<size_t>(i)] += job; });
    ASSERT_THAT(values, Each(job * (job + 1) / 2));
  }
}

TEST(ThreadPool, RethrowsATasksExceptionAfterTheOthersHaveEnded) {
  for (const int threads : {1, 3}) {
    ThreadPool pool(threads);
    std::atomic<int> runs = 0;
    const auto job = [&] {
      pool.run(50, [&](int64_t i, int) {
        ++runs;
        if (i == 7) throw std::runtime_error("task 7");
      });
    };
    EXPECT_THAT(job, ThrowsMessage<std::runtime_error>(HasSubstr("task 7")));
    EXPECT_EQ(runs, 50);
    EXPECT_NO_THROW(pool.run(3, [](int64_t, int) {})) << "the pool works on";
  }
}

TEST(ThreadPool, GivesOneOfSeveralExceptions) {
  ThreadPool pool(3);
  const auto all_fail = [&] { pool.run(20, [](int64_t, int) { throw std::runtime_error("failed"); }); };
  EXPECT_THAT(all_fail, ThrowsMessage<std::runtime_error>(HasSubstr("failed")));
}

TEST(ThreadPool, AStopLeavesOutWhatNobodyHasTakenAndThePoolWorksOn) {
  constexpr int64_t kTasks = 10'000, kLast = 7;
  for (const int threads : {1, 3}) {
    ThreadPool pool(threads);
    std::stop_source source;
    pool.watch(source.get_token());
    std::atomic<int64_t> runs = 0;
    const auto task = [&](int64_t i, int) {
      ++runs;
      if (i == kLast) source.request_stop();
      while (i > kLast && !source.stop_requested()) std::this_thread::yield();  // so that no worker takes two of these
    };
    EXPECT_THROW(pool.run(kTasks, task), Cancelled);
    EXPECT_GT(runs, kLast);
    EXPECT_LE(runs, kLast + threads);
    EXPECT_THROW(pool.run(1, [](int64_t, int) { FAIL() << "run after the stop"; }), Cancelled);
    pool.watch({});
    runs = 0;
    pool.run(kTasks, [&](int64_t, int) { ++runs; });
    EXPECT_EQ(runs, kTasks);
  }
}

TEST(ThreadPool, AStopInTheLastTaskIsTooLate) {
  ThreadPool pool(1);
  std::stop_source source;
  pool.watch(source.get_token());
  EXPECT_NO_THROW(pool.run(3, [&](int64_t i, int) {
    if (i == 2) source.request_stop();
  }));
}

TEST(ThreadPool, ATasksExceptionCountsMoreThanTheStop) {
  ThreadPool pool(1);
  std::stop_source source;
  pool.watch(source.get_token());
  const auto job = [&] {
    pool.run(5, [&](int64_t, int) {
      source.request_stop();
      throw std::runtime_error("a fault");
    });
  };
  EXPECT_THAT(job, ThrowsMessage<std::runtime_error>(HasSubstr("a fault")));
  EXPECT_THROW(pool.run(1, [](int64_t, int) {}), Cancelled);
}

TEST(ThreadPool, LongTasksCanLook) {
  ThreadPool pool(2);
  std::stop_source source;
  pool.watch(source.get_token());
  EXPECT_NO_THROW(pool.check_stop());
  const auto job = [&] {
    pool.run(1, [&](int64_t, int) {
      source.request_stop();
      pool.check_stop();
      FAIL() << "went on after the stop";
    });
  };
  EXPECT_THROW(job(), Cancelled);
}

TEST(ThreadPool, RefusesNoThreads) {
  EXPECT_THAT([] { ThreadPool pool(0); }, ThrowsMessage<Error>(HasSubstr("0 threads")));
}

TEST(ThreadPool, TwoPoolsWorkSideBySide) {
  ThreadPool outer(2), inner(2);
  std::atomic<int> runs = 0;
  outer.run(1, [&](int64_t, int) { inner.run(10, [&](int64_t, int) { ++runs; }); });
  EXPECT_EQ(runs, 10);
}

#ifndef NDEBUG
TEST(ThreadPoolDeathTest, RefusesNestedUse) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  ThreadPool pool(1);
  EXPECT_DEATH(pool.run(1, [&](int64_t, int) { pool.run(1, [](int64_t, int) {}); }), "its own pool");
}
#endif

TEST(ThreadPool, AtLeastOneProcessorIsUsable) { EXPECT_GE(usable_processors(), 1); }

}  // namespace
}  // namespace inkstone
