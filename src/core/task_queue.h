// Threads that take tasks from a queue in the order in which they came, without waiting for one another.
#pragma once
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <exception>
#include <functional>
#include <mutex>
#include <thread>
#include <vector>

namespace inkstone {

/// Owned by one caller at a time, which adds tasks and waits for them. Once a task has thrown, those that nobody has
/// begun are dropped; the caller's next call throws what it threw, after all others have ended, and the queue works on.
class TaskQueue {
 public:
  using Task = std::function<void(int worker)>;  ///< worker is in [0, threads())

  /// At most `room` tasks wait for a thread.
  TaskQueue(int threads, size_t room);
  /// Drops what nobody has begun.
  ~TaskQueue();
  TaskQueue(const TaskQueue&) = delete;
  TaskQueue& operator=(const TaskQueue&) = delete;

  int threads() const { return static_cast<int>(threads_.size()); }

  /// Waits for room. Gives the task's number; they count from 1 on.
  uint64_t add(Task task);
  /// Whether this task and all before it have ended.
  bool has_ended(uint64_t number);
  /// Waits for that.
  void wait(uint64_t number);
  void finish() { wait(added_); }

 private:
  void serve(int worker);
  void stop();
  uint64_t last_ended() const;
  void await(std::unique_lock<std::mutex>& lock, const std::function<bool()>& reached);

  const size_t room_;
  uint64_t added_ = 0;  // by the caller alone
  std::mutex mutex_;    // of what follows
  std::condition_variable work_, progress_;
  std::deque<Task> waiting_;
  uint64_t next_ = 1;              // the number of the first one that waits
  std::vector<uint64_t> running_;  // what each worker is at; 0: nothing
  std::exception_ptr failure_;
  bool stopping_ = false;
  std::vector<std::thread> threads_;
};

}  // namespace inkstone
