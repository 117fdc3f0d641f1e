// Blocks of files read ahead: while a caller works with one, threads read the next.
#pragma once
#include <functional>
#include <memory>
#include <stop_token>
#include <vector>

#include "core/mapped_file.h"
#include "core/tensor.h"

namespace inkstone {

/// Some bytes of a file, at most once in a block.
struct FilePart {
  const MappedFile* file = nullptr;  ///< outlives every reader of it
  size_t begin = 0;
  size_t bytes = 0;
};
using FileBlock = std::vector<FilePart>;

/// How to read. Around the page cache nothing is kept, which is faster than through it if the blocks do not fit there.
enum class Caching : uint8_t { cached, direct };

/// What reads, and into what.
struct ReaderOptions {
  int threads = 4;                 ///< a disk needs a few requests at once; they wait more than they work
  size_t chunk = size_t{8} << 20;  ///< of one read: long enough for full speed, short enough to share out
  /// Given each slab of memory, makes of it what is used. Absent: it is used as it is.
  std::function<std::shared_ptr<Buffer>(std::shared_ptr<Buffer>)> prepare;
};

/// Reads blocks in a circle into two slabs of memory, one in use and one in the making.
class BlockReader {
 public:
  /// Bytes of memory for these blocks.
  static size_t slab_bytes(const std::vector<FileBlock>& blocks);

  /// Throws Error naming a file that cannot be opened again or has been replaced since it was mapped. After a stop
  /// request of `stop` get() throws Cancelled, soon if it waits.
  BlockReader(std::vector<FileBlock> blocks, Caching caching, std::stop_token stop = {}, const ReaderOptions& how = {});
  ~BlockReader();
  BlockReader(const BlockReader&) = delete;
  BlockReader& operator=(const BlockReader&) = delete;

  /// Where the parts of a block lie, in order, after waiting for it; what the call before gave is void. Reading of the
  /// block behind it begins. Throws Error naming a file that cannot be read or has become shorter.
  std::vector<std::byte*> get(size_t index);

  /// The memory that holds what get() gave last.
  std::shared_ptr<Buffer> memory() const;

  double waited_seconds() const;  ///< for blocks that were not there yet
  size_t bytes_read() const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace inkstone
