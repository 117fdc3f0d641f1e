// A fixed set of threads that share out numbered tasks.
#pragma once
#include <cstdint>
#include <functional>
#include <memory>
#include <stop_token>

namespace inkstone {

/// The threads that this process may use: processors in its affinity mask, bounded by its control group's quota.
int usable_processors();

/// Owned by one caller at a time; the calling thread works as worker 0.
class ThreadPool {
 public:
  explicit ThreadPool(int threads);
  ~ThreadPool();
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  int threads() const;

  /// From here on run() throws Cancelled soon after a stop request of `stop`: tasks that nobody has taken are left out.
  /// The pool works on once it watches another token.
  void watch(std::stop_token stop);

  /// For tasks that take long: throws Cancelled if a stop was requested.
  void check_stop() const;

  /// Runs task(index, worker) for every index in [0, tasks), each once, taken by whichever worker is free; worker is in
  /// [0, threads()). Returns when all have run. An exception of a task is rethrown here, after the others have ended.
  void run(int64_t tasks, const std::function<void(int64_t index, int worker)>& task);

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace inkstone
