#include "core/thread_pool.h"

#include <atomic>
#include <cassert>
#include <condition_variable>
#include <exception>
#include <mutex>
#include <system_error>
#include <thread>
#include <vector>

#include "core/error.h"

namespace inkstone {
namespace {

constexpr int kSpins = 4000;  // about 50 us: longer than the gap between two ops, shorter than a time slice

void pause() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#endif
}

/// Looks at `done` for a while before the caller goes to sleep.
bool spin_until(const auto& done, int spins) {
  for (int i = 0; i < spins; ++i) {
    if (done()) return true;
    pause();
  }
  return done();
}

}  // namespace

struct ThreadPool::State {
  using Task = std::function<void(int64_t, int)>;

  // Upper half: number of the job; lower half: tasks of it that nobody has taken. In one word, so that a worker which
  // comes late cannot take a task of the next job for one of the last.
  std::atomic<uint64_t> open = 0;
  std::atomic<const Task*> task = nullptr;
  std::atomic<int64_t> tasks = 0;
  std::atomic<int64_t> unfinished = 0;
  std::atomic<bool> stopping = false;
  std::atomic<bool> running = false;
  std::atomic<bool> left_out = false;  // some tasks of the job
  std::stop_token watched;             // changes only between jobs; read by who has taken a task

  std::mutex mutex;  // of what follows, and of going to sleep
  std::condition_variable work, done;
  std::exception_ptr failure;

  int spins = 0;
  std::vector<std::thread> threads;

  static constexpr uint64_t kTasksMask = 0xffffffff;
  bool has_tasks() const { return (open.load() & kTasksMask) != 0; }

  void work_on_job(int worker) {
    for (uint64_t seen = open.load(); (seen & kTasksMask) != 0; seen = open.load()) {
      // Read before the claim: as long as the job has open tasks, they belong to it.
      const Task* current = task.load();
      const int64_t index = tasks.load() - static_cast<int64_t>(seen & kTasksMask);
      if (open.compare_exchange_weak(seen, seen - 1)) run_task(*current, index, worker);
    }
  }

  void run_task(const Task& current, int64_t index, int worker) {
    try {
      if (watched.stop_requested()) {
        left_out.store(true);
      } else {
        current(index, worker);
      }
    } catch (...) {
      const std::lock_guard lock(mutex);
      if (!failure) failure = std::current_exception();
    }
    if (unfinished.fetch_sub(1) == 1) {
      const std::lock_guard lock(mutex);  // the caller is either asleep or has yet to look
      done.notify_one();
    }
  }

  void serve(int worker) {
    const auto called = [this] { return has_tasks() || stopping.load(); };
    while (true) {
      if (!spin_until(called, spins)) {
        std::unique_lock lock(mutex);
        work.wait(lock, called);
      }
      if (stopping.load()) return;
      work_on_job(worker);
    }
  }

  void publish(int64_t count, const Task& job) {
    const std::lock_guard lock(mutex);
    task.store(&job);
    tasks.store(count);
    unfinished.store(count);
    const uint64_t number = (open.load() >> 32) + 1;
    open.store((number << 32) | static_cast<uint64_t>(count));
  }

  void stop() {
    {
      const std::lock_guard lock(mutex);
      stopping.store(true);
    }
    work.notify_all();
    for (std::thread& thread : threads) thread.join();
  }
};

ThreadPool::ThreadPool(int threads) : state_(std::make_unique<State>()) {
  check(threads > 0, "{} threads: at least one is needed", threads);
  if (threads <= usable_processors()) state_->spins = kSpins;  // else spinning would keep others from working
  try {
    for (int worker = 1; worker < threads; ++worker)
      state_->threads.emplace_back([state = state_.get(), worker] { state->serve(worker); });
  } catch (const std::system_error& e) {
    state_->stop();
    fail("{} threads: only {} could be started: {}", threads, state_->threads.size() + 1, e.what());
  }
}

ThreadPool::~ThreadPool() {
  assert(!state_->running);
  state_->stop();
}

void ThreadPool::watch(std::stop_token stop) {
  assert(!state_->running);
  state_->watched = std::move(stop);
}

void ThreadPool::check_stop() const {
  if (state_->watched.stop_requested()) throw Cancelled();
}

int ThreadPool::threads() const { return static_cast<int>(state_->threads.size()) + 1; }

void ThreadPool::run(int64_t tasks, const std::function<void(int64_t, int)>& task) {
  assert(tasks >= 0 && static_cast<uint64_t>(tasks) <= State::kTasksMask);
  if (tasks == 0) return;
  State& s = *state_;
  [[maybe_unused]] const bool nested = s.running.exchange(true);
  assert(!nested && "a task must not run tasks on its own pool");

  s.publish(tasks, task);
  if (tasks > 1) s.work.notify_all();
  s.work_on_job(0);
  const auto finished = [&s] { return s.unfinished.load() == 0; };
  if (!spin_until(finished, s.spins)) {
    std::unique_lock lock(s.mutex);
    s.done.wait(lock, finished);
  }
  s.running.store(false);

  std::unique_lock lock(s.mutex);
  const std::exception_ptr failure = std::exchange(s.failure, nullptr);
  lock.unlock();
  const bool left_out = s.left_out.exchange(false);
  if (failure) std::rethrow_exception(failure);
  if (left_out) throw Cancelled();
}

}  // namespace inkstone
