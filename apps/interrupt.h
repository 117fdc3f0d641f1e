// Ctrl-C: the first one asks the work to stop, the second ends the program at once.
#pragma once
#include <atomic>
#include <csignal>
#include <exception>
#include <functional>
#include <stop_token>
#include <thread>

namespace inkstone::cli {

/// The exit code of a program that a signal ended, as shells give it: 130 for Ctrl-C.
constexpr int exit_code_of(int signal) { return 128 + signal; }

/// Thrown when the work has stopped because of a signal.
class Interrupted : public std::exception {
 public:
  /// `what` tells the user what became of the work; it lives as long as the program.
  explicit Interrupted(int signal, const char* what = "interrupted, nothing was written")
      : signal_(signal), what_(what) {}
  const char* what() const noexcept override { return what_; }
  int signal() const { return signal_; }

 private:
  int signal_;
  const char* what_;
};

/// While it lives, SIGINT, SIGTERM and SIGHUP request a stop instead of ending the program. It waits for them in a
/// thread of its own, so nothing runs in a signal handler. Make it before any other thread: they inherit its mask.
class Interrupt {
 public:
  Interrupt();
  ~Interrupt();
  Interrupt(const Interrupt&) = delete;
  Interrupt& operator=(const Interrupt&) = delete;

  std::stop_token token() const { return source_.get_token(); }
  int signal() const { return signal_; }  ///< the one that asked for the stop; 0 for none

 private:
  void wait(const std::stop_token& ended);

  std::stop_source source_;
  std::atomic<int> signal_ = 0;
  sigset_t caught_;
  sigset_t mask_before_;
  std::jthread waiter_;
};

/// Runs work of the library under an Interrupt. Throws Interrupted where the work throws Cancelled, and Error if a
/// mapped file failed, see file_fault().
void run_interruptibly(const std::function<void(const std::stop_token& stop)>& work);

}  // namespace inkstone::cli
