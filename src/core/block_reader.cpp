#include "core/block_reader.h"

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <condition_variable>
#include <fcntl.h>
#include <map>
#include <mutex>
#include <optional>
#include <sys/mman.h>
#include <system_error>
#include <thread>
#include <unistd.h>

#include "core/rounding.h"

namespace inkstone {
namespace {

constexpr size_t kUnit = 4096;  // what reads around the page cache begin, end and land at multiples of

size_t round_down(size_t n) { return n / kUnit * kUnit; }

/// The whole units of a file that hold a part.
size_t covering_bytes(const FilePart& part) {
  return round_up(part.begin + part.bytes, kUnit) - round_down(part.begin);
}

size_t covering_bytes(const FileBlock& block) {
  size_t sum = 0;
  for (const FilePart& part : block) sum += covering_bytes(part);
  return sum;
}

struct Slab final : Buffer {
  explicit Slab(size_t n) : Buffer(mmap(nullptr, n, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0), n) {
    check(data != MAP_FAILED, "out of memory: the system refuses {} bytes to read weights into", n);
  }
  ~Slab() override { munmap(data, bytes); }
};

/// A file opened for reading.
class File {
 public:
  File(const MappedFile& mapped, Caching caching) : path_(mapped.path()) {
    constexpr int kFlags = O_RDONLY | O_CLOEXEC;
    if (caching == Caching::direct) descriptor_.fd = open(path_.c_str(), kFlags | O_DIRECT);
    if (descriptor_.fd < 0) descriptor_.fd = open(path_.c_str(), kFlags);  // some file systems have no direct reads
    check(descriptor_.fd >= 0, "{}: cannot read: {}", path_.string(), std::generic_category().message(errno));
    mapped.check_is(descriptor_.fd);
  }

  /// `bytes` from `begin` on, of which at least `needed` must be there.
  void read(size_t begin, size_t bytes, size_t needed, std::byte* to) const {
    size_t done = 0;
    while (done < needed) {
      const ssize_t n = pread(descriptor_.fd, to + done, bytes - done, static_cast<off_t>(begin + done));
      if (n < 0 && errno == EINTR) continue;
      check(n >= 0, "{}: cannot read: {}", path_.string(), std::generic_category().message(errno));
      check(n > 0, "{}: ends after {} bytes now; it was changed while in use", path_.string(), begin + done);
      done += static_cast<size_t>(n);
    }
  }

 private:
  std::filesystem::path path_;
  MappedFile::Descriptor descriptor_;
};

struct Chunk {
  const File* file;
  size_t begin, bytes, needed;
  std::byte* to;
};

}  // namespace

struct BlockReader::State {
  std::vector<FileBlock> blocks;
  std::map<const MappedFile*, std::unique_ptr<File>> files;
  std::shared_ptr<Buffer> slabs[2];
  int current = 1;             // the slab that the caller uses
  std::optional<size_t> next;  // the block that the other one gets
  double waited = 0;
  size_t read = 0;
  std::stop_token watched;
  size_t chunk_bytes = 0;

  std::mutex mutex;  // of what follows
  std::condition_variable work;
  std::condition_variable_any done;
  std::vector<Chunk> chunks;
  size_t unfinished = 0;
  std::exception_ptr failure;
  bool stopping = false;
  std::vector<std::thread> threads;

  /// Where the parts of a block lie: as far from a unit's beginning as in their files.
  std::vector<std::byte*> places(size_t index, int slab) const {
    std::vector<std::byte*> at;
    auto* to = static_cast<std::byte*>(slabs[slab]->data);
    for (const FilePart& part : blocks[index]) {
      at.push_back(to + (part.begin - round_down(part.begin)));
      to += covering_bytes(part);
    }
    return at;
  }

  void begin_reading(size_t index, int slab) {
    const std::vector<std::byte*> at = places(index, slab);
    const std::lock_guard lock(mutex);
    for (size_t i = 0; i < at.size(); ++i) {
      const FilePart& part = blocks[index][i];
      const size_t begin = round_down(part.begin), end = part.begin + part.bytes;
      std::byte* to = at[i] - (part.begin - begin);
      for (size_t from = begin; from < end; from += chunk_bytes) {
        const size_t until = std::min(from + chunk_bytes, end);
        chunks.push_back(
            {files.at(part.file).get(), from, round_up(until, kUnit) - from, until - from, to + (from - begin)});
      }
      read += part.bytes;
    }
    unfinished += chunks.size();
    next = index;
    work.notify_all();
  }

  void wait_for_reading() {
    const auto start = std::chrono::steady_clock::now();
    std::unique_lock lock(mutex);
    const bool finished = done.wait(lock, watched, [this] { return unfinished == 0; });
    waited += std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    if (!finished) throw Cancelled();
    if (failure) std::rethrow_exception(std::exchange(failure, nullptr));
  }

  void serve() {
    std::unique_lock lock(mutex);
    while (true) {
      work.wait(lock, [this] { return stopping || !chunks.empty(); });
      if (stopping) return;
      const Chunk chunk = chunks.back();
      chunks.pop_back();
      lock.unlock();
      std::exception_ptr fault;
      try {
        chunk.file->read(chunk.begin, chunk.bytes, chunk.needed, chunk.to);
      } catch (...) {
        fault = std::current_exception();
      }
      lock.lock();
      if (fault) failure = fault;
      if (--unfinished == 0) done.notify_all();
    }
  }

  void stop() {
    {
      const std::lock_guard lock(mutex);
      stopping = true;
    }
    work.notify_all();
    for (std::thread& thread : threads) thread.join();
  }
};

size_t BlockReader::slab_bytes(const std::vector<FileBlock>& blocks) {
  size_t most = kUnit;
  for (const FileBlock& block : blocks) most = std::max(most, covering_bytes(block));
  return 2 * most;
}

BlockReader::BlockReader(std::vector<FileBlock> blocks, Caching caching, std::stop_token stop, const ReaderOptions& how)
    : state_(std::make_unique<State>()) {
  State& s = *state_;
  s.watched = std::move(stop);
  s.chunk_bytes = how.chunk;
  for (const FileBlock& block : blocks)
    for (const FilePart& part : block)
      if (!s.files.contains(part.file)) s.files[part.file] = std::make_unique<File>(*part.file, caching);
  for (auto& slab : s.slabs) {
    slab = std::make_shared<Slab>(slab_bytes(blocks) / 2);
    if (how.prepare) slab = how.prepare(slab);
  }
  s.blocks = std::move(blocks);
  for (int i = 0; i < how.threads; ++i) s.threads.emplace_back([&s] { s.serve(); });
}

BlockReader::~BlockReader() { state_->stop(); }

std::vector<std::byte*> BlockReader::get(size_t index) {
  State& s = *state_;
  if (s.watched.stop_requested()) throw Cancelled();
  if (s.next != index) {
    if (s.next) s.wait_for_reading();
    s.begin_reading(index, 1 - s.current);
  }
  s.wait_for_reading();
  s.current = 1 - s.current;
  s.begin_reading((index + 1) % s.blocks.size(), 1 - s.current);
  return s.places(index, s.current);
}

std::shared_ptr<Buffer> BlockReader::memory() const { return state_->slabs[state_->current]; }
double BlockReader::waited_seconds() const { return state_->waited; }
size_t BlockReader::bytes_read() const { return state_->read; }

}  // namespace inkstone
