#include "core/task_queue.h"

#include <atomic>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <memory>
#include <stdexcept>
#include <thread>
#include <vector>

#include "core/error.h"

namespace inkstone {
namespace {

using ::testing::HasSubstr;
using ::testing::ThrowsMessage;

/// Lets tasks that call pass() end.
class Gate {
 public:
  void open() { is_open_.store(true); }
  void pass() const {
    while (!is_open_.load()) std::this_thread::yield();
  }

 private:
  std::atomic<bool> is_open_ = false;
};

void wait_for(const std::atomic<int>& count, int wanted) {
  while (count.load() < wanted) std::this_thread::yield();
}

TEST(TaskQueue, RunsEveryTaskOnce) {
  for (const int threads : {1, 2, 8})
    for (const size_t room : {1u, 3u, 100u}) {
      TaskQueue queue(threads, room);
      EXPECT_EQ(queue.threads(), threads);
      std::vector<std::atomic<int>> runs(1000);
      for (std::atomic<int>& run : runs) queue.add([&run](int) { ++run; });
      queue.finish();
      for (const auto& n : runs) EXPECT_EQ(n, 1) << threads << " threads, room for " << room;
    }
}

TEST(TaskQueue, TasksBeginInOrder) {
  TaskQueue queue(1, 4);
  std::vector<int> order;
  for (int i = 0; i < 100; ++i) EXPECT_EQ(queue.add([&order, i](int) { order.push_back(i); }), uint64_t(i) + 1);
  queue.finish();
  ASSERT_EQ(order.size(), 100u);
  EXPECT_TRUE(std::ranges::is_sorted(order));
}

TEST(TaskQueue, NoTwoTasksOfAWorkerRunAtOnce) {
  TaskQueue queue(4, 8);
  std::vector<std::atomic<int>> inside(4);
  std::atomic<bool> doubled = false;
  for (int i = 0; i < 2000; ++i)
    queue.add([&](int worker) {
      if (inside.at(static_cast<size_t>(worker))++ != 0) doubled = true;
      --inside[static_cast<size_t>(worker)];
    });
  queue.finish();
  EXPECT_FALSE(doubled);
}

TEST(TaskQueue, NobodyWaitsForATaskThatTakesLong) {
  TaskQueue queue(2, 4);
  Gate gate;
  std::atomic<int> others = 0;
  const uint64_t slow = queue.add([&](int) { gate.pass(); });
  uint64_t last = 0;
  for (int i = 0; i < 50; ++i) last = queue.add([&](int) { ++others; });
  wait_for(others, 50);
  EXPECT_FALSE(queue.has_ended(slow));
  EXPECT_FALSE(queue.has_ended(last)) << "one before it has not ended";
  gate.open();
  queue.wait(slow);
  queue.wait(last);
  EXPECT_TRUE(queue.has_ended(last));
}

TEST(TaskQueue, NoMoreTasksWaitThanThereIsRoomFor) {
  constexpr int kTasks = 200, kRoom = 3;
  TaskQueue queue(2, kRoom);
  std::atomic<int> begun = 0;
  for (int added = 1; added <= kTasks; ++added) {
    queue.add([&](int) {
      ++begun;
      std::this_thread::yield();
    });
    EXPECT_GE(begun + kRoom + queue.threads(), added);
  }
  queue.finish();
  EXPECT_EQ(begun, kTasks);
}

TEST(TaskQueue, WritesOfTasksAreSeenByTheCaller) {
  TaskQueue queue(4, 16);
  std::vector<int> values(512);
  for (int round = 1; round <= 50; ++round) {
    for (int& value : values) queue.add([&value, round](int) { value += round; });
    queue.finish();
    ASSERT_THAT(values, ::testing::Each(round * (round + 1) / 2));
  }
}

TEST(TaskQueue, ATasksExceptionIsThrownOnceAndTheQueueWorksOn) {
  for (const int threads : {1, 3}) {
    TaskQueue queue(threads, 200);
    queue.add([](int) { throw std::runtime_error("task 1"); });
    EXPECT_THAT([&] { queue.finish(); }, ThrowsMessage<std::runtime_error>(HasSubstr("task 1")));
    EXPECT_NO_THROW(queue.finish());
    std::atomic<int> runs = 0;
    for (int i = 0; i < 100; ++i) queue.add([&](int) { ++runs; });
    queue.finish();
    EXPECT_EQ(runs, 100);
  }
}

TEST(TaskQueue, AfterAnExceptionWhatNobodyHasBegunIsDropped) {
  TaskQueue queue(1, 100);
  Gate gate;
  std::atomic<int> runs = 0;
  queue.add([&](int) {
    gate.pass();
    throw std::runtime_error("failed");
  });
  uint64_t last = 0;
  for (int i = 0; i < 50; ++i) last = queue.add([&](int) { ++runs; });
  gate.open();
  EXPECT_THAT([&] { queue.wait(last); }, ThrowsMessage<std::runtime_error>(HasSubstr("failed")));
  EXPECT_EQ(runs, 0);
  EXPECT_TRUE(queue.has_ended(last));
}

TEST(TaskQueue, EveryCallTellsOfAnException) {
  const auto fails = [](int) { throw std::runtime_error("failed"); };
  TaskQueue queue(2, 4);
  EXPECT_THROW(
      {
        queue.add(fails);
        while (true) queue.add([](int) {});
      },
      std::runtime_error);
  EXPECT_THROW(
      {
        const uint64_t number = queue.add(fails);
        while (true) queue.has_ended(number);
      },
      std::runtime_error);
  EXPECT_THROW(queue.wait(queue.add(fails)), std::runtime_error);
}

TEST(TaskQueue, AnExceptionComesAfterTheOthersHaveEnded) {
  TaskQueue queue(3, 8);
  Gate gate;
  std::atomic<int> inside = 0, ended = 0;
  for (int i = 0; i < 2; ++i)
    queue.add([&](int) {
      ++inside;
      gate.pass();
      ++ended;
    });
  wait_for(inside, 2);
  queue.add([&](int) { throw std::runtime_error("failed"); });
  std::thread opener([&] { gate.open(); });
  EXPECT_THROW(queue.finish(), std::runtime_error);
  EXPECT_EQ(ended, 2);
  opener.join();
}

TEST(TaskQueue, GivesOneOfSeveralExceptions) {
  TaskQueue queue(3, 100);
  const auto all_fail = [&] {
    for (int i = 0; i < 20; ++i) queue.add([](int) { throw std::runtime_error("failed"); });
    queue.finish();
  };
  EXPECT_THAT(all_fail, ThrowsMessage<std::runtime_error>(HasSubstr("failed")));
}

TEST(TaskQueue, ItsEndDropsWhatNobodyHasBegun) {
  std::atomic<int> runs = 0;
  const auto held = std::make_shared<int>(0);
  {
    Gate gate;
    TaskQueue queue(1, 100);
    std::atomic<int> inside = 0;
    queue.add([&](int) {
      ++inside;
      gate.pass();
    });
    wait_for(inside, 1);
    for (int i = 0; i < 50; ++i) queue.add([&runs, held](int) { ++runs; });
    gate.open();
  }
  EXPECT_LE(runs, 50);
  EXPECT_EQ(held.use_count(), 1);
}

TEST(TaskQueue, WhatATaskHoldsIsLetGoBeforeItHasEnded) {
  TaskQueue queue(2, 4);
  auto held = std::make_shared<int>(0);
  const std::weak_ptr<int> watched = held;
  queue.add([kept = std::move(held)](int) {});
  queue.finish();
  EXPECT_TRUE(watched.expired());
}

TEST(TaskQueue, RefusesNoThreadsAndNoRoom) {
  EXPECT_THAT([] { TaskQueue queue(0, 1); }, ThrowsMessage<Error>(HasSubstr("0 threads")));
  EXPECT_THAT([] { TaskQueue queue(1, 0); }, ThrowsMessage<Error>(HasSubstr("room for 0 tasks")));
}

}  // namespace
}  // namespace inkstone
