#include "interrupt.h"

#include <chrono>
#include <unistd.h>

#include "inkstone/error.h"

#include "file_fault.h"

namespace inkstone::cli {
namespace {

constexpr int kSignals[] = {SIGINT, SIGTERM, SIGHUP};
/// What comes so soon after the first is the same request: a session that ends may send SIGTERM and SIGHUP, and
/// `timeout` sends its signal to the program and to its group.
constexpr auto kSameRequest = std::chrono::milliseconds(100);
constexpr int kWakeUp = SIGUSR1;  // to the waiting thread, from the destructor or a file's fault

/// A signal that is ignored stays so: nohup and background jobs of shells rely on it.
bool is_ignored(int signal) {
  struct sigaction action = {};
  return sigaction(signal, nullptr, &action) == 0 && action.sa_handler == SIG_IGN;
}

/// Whatever else came of it, the file is the cause.
void check_no_file_fault() {
  if (!file_fault().empty()) throw Error(std::string(file_fault()));
}

}  // namespace

Interrupt::Interrupt() {
  sigemptyset(&caught_);
  for (const int signal : kSignals)
    if (!is_ignored(signal)) sigaddset(&caught_, signal);
  sigaddset(&caught_, kWakeUp);
  pthread_sigmask(SIG_BLOCK, &caught_, &mask_before_);
  waiter_ = std::jthread([this](const std::stop_token& ended) { wait(ended); });
  tell_file_faults_by(kWakeUp);
}

Interrupt::~Interrupt() {
  tell_file_faults_by(0);
  waiter_.request_stop();
  pthread_kill(waiter_.native_handle(), kWakeUp);
  waiter_.join();
  std::signal(kWakeUp, SIG_IGN);  // drops a fault's that came too late for the waiter
  pthread_sigmask(SIG_SETMASK, &mask_before_, nullptr);
}

void Interrupt::wait(const std::stop_token& ended) {
  using Clock = std::chrono::steady_clock;
  Clock::time_point first;
  while (!ended.stop_requested()) {
    int caught = 0;
    if (sigwait(&caught_, &caught) != 0) continue;
    if (caught == kWakeUp) {
      if (!file_fault().empty()) source_.request_stop();
      continue;
    }
    if (signal_ == 0) {
      first = Clock::now();
      signal_ = caught;
    } else if (Clock::now() - first > kSameRequest) {
      _exit(exit_code_of(caught));
    }
    source_.request_stop();
  }
}

void run_interruptibly(const std::function<void(const std::stop_token& stop)>& work) {
  const Interrupt interrupt;
  try {
    work(interrupt.token());
  } catch (const Cancelled&) {
    check_no_file_fault();
    throw Interrupted(interrupt.signal());
  } catch (const std::exception&) {
    check_no_file_fault();
    throw;
  }
  check_no_file_fault();
}

}  // namespace inkstone::cli
