#include "interrupt.h"

#include <unistd.h>

#include "inkstone/error.h"

namespace inkstone::cli {
namespace {

constexpr int kSignals[] = {SIGINT, SIGTERM, SIGHUP};
constexpr int kWakeUp = SIGUSR1;  // from the destructor to the waiting thread

/// A signal that is ignored stays so: nohup and background jobs of shells rely on it.
bool is_ignored(int signal) {
  struct sigaction action = {};
  return sigaction(signal, nullptr, &action) == 0 && action.sa_handler == SIG_IGN;
}

}  // namespace

Interrupt::Interrupt() {
  sigemptyset(&caught_);
  for (const int signal : kSignals)
    if (!is_ignored(signal)) sigaddset(&caught_, signal);
  sigaddset(&caught_, kWakeUp);
  pthread_sigmask(SIG_BLOCK, &caught_, &mask_before_);
  waiter_ = std::jthread([this](const std::stop_token& ended) { wait(ended); });
}

Interrupt::~Interrupt() {
  waiter_.request_stop();
  pthread_kill(waiter_.native_handle(), kWakeUp);
  waiter_.join();
  pthread_sigmask(SIG_SETMASK, &mask_before_, nullptr);
}

void Interrupt::wait(const std::stop_token& ended) {
  while (!ended.stop_requested()) {
    int caught = 0;
    if (sigwait(&caught_, &caught) != 0 || caught == kWakeUp) continue;
    if (signal_ != 0) _exit(exit_code_of(caught));
    signal_ = caught;
    source_.request_stop();
  }
}

void run_interruptibly(const std::function<void(const std::stop_token& stop)>& work) {
  const Interrupt interrupt;
  try {
    work(interrupt.token());
  } catch (const Cancelled&) {
    throw Interrupted(interrupt.signal());
  }
}

}  // namespace inkstone::cli
