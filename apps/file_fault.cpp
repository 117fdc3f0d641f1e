#include "file_fault.h"

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <climits>
#include <csignal>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

namespace inkstone::cli {
namespace {

constexpr std::string_view kPrefix = "error: ";
constexpr std::string_view kReason = ": was cut short, or could not be read, while it was in use";
constexpr size_t kLine = PATH_MAX + 128;  // of /proc/self/maps: a path and some numbers

/// The message, which only the thread that set `caught` writes, before `text_length`.
std::array<char, kPrefix.size() + kLine + kReason.size() + 1> text{};
std::atomic_flag caught;
std::atomic<size_t> text_length = 0;
std::atomic<int> told_by = 0;
static_assert(std::atomic<size_t>::is_always_lock_free && std::atomic<int>::is_always_lock_free);

/// What is mapped at an address, as a line of /proc/self/maps ("begin-end rights offset device inode path") tells it.
struct Mapping {
  uintptr_t end = 0;
  std::string_view path;  // into the line
};

bool holds(char* line, uintptr_t address, Mapping& found) {
  constexpr int kHex = 16, kFieldsBeforePath = 5;
  char* rest = nullptr;
  const uintptr_t begin = std::strtoull(line, &rest, kHex);
  if (*rest != '-') return false;
  found.end = std::strtoull(rest + 1, &rest, kHex);
  if (address < begin || address >= found.end) return false;
  std::string_view path = line;
  for (int field = 0; field < kFieldsBeforePath; ++field) {
    path.remove_prefix(std::min(path.find(' '), path.size()));
    path.remove_prefix(std::min(path.find_first_not_of(' '), path.size()));
  }
  found.path = path;
  return true;
}

/// Looks through /proc/self/maps with calls that a signal handler may make. `line` holds the found path.
bool find_mapping(uintptr_t address, std::array<char, kLine>& line, Mapping& found) {
  const int maps = open("/proc/self/maps", O_RDONLY | O_CLOEXEC);
  if (maps < 0) return false;
  bool there = false;
  size_t length = 0;
  for (char c = 0; !there && read(maps, &c, 1) == 1;) {
    if (c != '\n') {
      if (length + 1 < line.size()) line[length++] = c;
      continue;
    }
    line[length] = '\0';
    there = holds(line.data(), address, found);
    length = 0;
  }
  close(maps);
  return there;
}

char* append(char* to, std::string_view part) {
  std::memcpy(to, part.data(), part.size());
  return to + part.size();
}

void set_text(std::string_view path) {
  const char* end = append(append(append(text.data(), kPrefix), path.empty() ? "a mapped file" : path), kReason);
  text_length = static_cast<size_t>(end - text.data());
}

/// What is missing becomes zeros, to the end of its mapping: one fault, however much a file lost.
bool fill(uintptr_t page, uintptr_t end) {
  return mmap(reinterpret_cast<void*>(page), end - page, PROT_READ,
              MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED | MAP_NORESERVE, -1, 0) != MAP_FAILED;
}

[[noreturn]] void end_program() {
  text[text_length] = '\n';
  [[maybe_unused]] const ssize_t written = write(STDERR_FILENO, text.data(), text_length + 1);
  _exit(EXIT_FAILURE);
}

void handle(int signal, siginfo_t* info, void*) {
  const int error_before = errno;
  const auto page_bytes = static_cast<uintptr_t>(sysconf(_SC_PAGESIZE));
  const uintptr_t page = reinterpret_cast<uintptr_t>(info->si_addr) / page_bytes * page_bytes;
  std::array<char, kLine> line;
  Mapping mapping;
  if (info->si_code != BUS_ADRERR || !find_mapping(page, line, mapping)) {
    std::signal(signal, SIG_DFL);  // of another kind: the same access ends the program, as ever
    return;
  }
  const bool first = !caught.test_and_set();
  if (first) set_text(mapping.path);
  if (!fill(page, mapping.end)) end_program();
  if (first && told_by == 0) end_program();
  if (first) kill(getpid(), told_by);
  errno = error_before;
}

}  // namespace

void catch_file_faults() {
  struct sigaction action = {};
  action.sa_sigaction = handle;
  action.sa_flags = SA_SIGINFO;
  sigaction(SIGBUS, &action, nullptr);
}

void tell_file_faults_by(int signal) { told_by = signal; }

std::string_view file_fault() {
  return std::string_view(text.data(), text_length).substr(std::min(kPrefix.size(), text_length.load()));
}

}  // namespace inkstone::cli
