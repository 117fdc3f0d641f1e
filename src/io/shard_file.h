// A safetensors file of any size, made of pieces.
#pragma once
#include <filesystem>
#include <map>
#include <span>
#include <string>
#include <vector>

#include "io/safetensors.h"

namespace inkstone {

/// Takes its tensors' bytes in any order, from any thread. Until finish() the file has no name, or on file systems that
/// cannot do without `.NAME.part`, which the destructor removes; one that a killed process left is removed first.
class ShardFile {
 public:
  /// `entries`: name, dtype and shape of every tensor. Throws Error naming `path` and the reason if it cannot write.
  ShardFile(const std::filesystem::path& path, std::vector<SafetensorsEntry> entries,
            const std::map<std::string, std::string>& metadata);
  ~ShardFile();
  ShardFile(const ShardFile&) = delete;
  ShardFile& operator=(const ShardFile&) = delete;

  /// Bytes of a tensor from byte `offset` of it on.
  void write(const std::string& name, size_t offset, std::span<const std::byte> bytes);

  /// Gives the file its name. Every byte has been written.
  void finish();

 private:
  void write_at(size_t offset, std::span<const std::byte> bytes);
  [[noreturn]] void fail_with(int error) const;

  std::filesystem::path path_, part_;
  std::map<std::string, SafetensorsEntry> entries_;
  int fd_ = -1;
};

}  // namespace inkstone
