// What a device keeps of layers once they were used.
#pragma once
#include <cstddef>

namespace inkstone {

/// How much may stay of layers once they were used, beyond what a device must keep.
struct KeepRoom {
  size_t bytes = 0;     ///< at most
  size_t net = 0;       ///< at most, less the pages of files that are not read any more
  bool mapped = false;  ///< whether the layers are read where files are mapped
};

/// What stays of layers, and the pages of files that it stands for.
struct Kept {
  size_t bytes = 0;
  size_t released = 0;
};

}  // namespace inkstone
