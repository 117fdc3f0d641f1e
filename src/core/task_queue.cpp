#include "core/task_queue.h"

#include <algorithm>
#include <system_error>
#include <utility>

#include "core/error.h"

namespace inkstone {

TaskQueue::TaskQueue(int threads, size_t room) : room_(room) {
  check(threads > 0 && room > 0, "{} threads and room for {} tasks: at least one of each is needed", threads, room);
  running_.resize(static_cast<size_t>(threads));
  try {
    for (int worker = 0; worker < threads; ++worker) threads_.emplace_back([this, worker] { serve(worker); });
  } catch (const std::system_error& e) {
    stop();
    fail("{} threads: only {} could be started: {}", threads, threads_.size(), e.what());
  }
}

TaskQueue::~TaskQueue() { stop(); }

void TaskQueue::stop() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  work_.notify_all();
  for (std::thread& thread : threads_) thread.join();
}

/// All up to this one have ended.
uint64_t TaskQueue::last_ended() const {
  uint64_t first = next_;
  for (const uint64_t number : running_)
    if (number != 0) first = std::min(first, number);
  return first - 1;
}

/// A failure ends the waiting, once nobody works any more.
void TaskQueue::await(std::unique_lock<std::mutex>& lock, const std::function<bool()>& reached) {
  const auto idle = [this] { return std::ranges::all_of(running_, [](uint64_t number) { return number == 0; }); };
  progress_.wait(lock, [&] { return failure_ ? idle() : reached(); });
  if (failure_) std::rethrow_exception(std::exchange(failure_, nullptr));
}

uint64_t TaskQueue::add(Task task) {
  std::unique_lock lock(mutex_);
  await(lock, [this] { return waiting_.size() < room_; });
  waiting_.push_back(std::move(task));
  ++added_;
  lock.unlock();
  work_.notify_one();
  return added_;
}

bool TaskQueue::has_ended(uint64_t number) {
  std::unique_lock lock(mutex_);
  await(lock, [] { return true; });
  return last_ended() >= number;
}

void TaskQueue::wait(uint64_t number) {
  std::unique_lock lock(mutex_);
  await(lock, [&] { return last_ended() >= number; });
}

void TaskQueue::serve(int worker) {
  uint64_t& mine = running_[static_cast<size_t>(worker)];
  std::unique_lock lock(mutex_);
  while (true) {
    work_.wait(lock, [this] { return stopping_ || !waiting_.empty(); });
    if (stopping_) return;
    Task task = std::move(waiting_.front());
    waiting_.pop_front();
    mine = next_++;
    lock.unlock();
    std::exception_ptr failure;
    try {
      task(worker);
    } catch (...) {
      failure = std::current_exception();
    }
    task = nullptr;  // what it holds may take time to go
    lock.lock();
    mine = 0;
    if (failure && !failure_) {
      failure_ = failure;
      next_ += waiting_.size();
      waiting_.clear();
    }
    progress_.notify_all();
  }
}

}  // namespace inkstone
