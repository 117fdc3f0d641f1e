// Full-size random weights in files, for what reads them.
#pragma once
#include <filesystem>
#include <fmt/format.h>
#include <unistd.h>

#include "inkstone/inkstone.h"

namespace inkstone {

/// A random model on the disk, for as long as this lives.
struct RandomModelFiles {
  RandomModelFiles(const std::string& format, int64_t layers)
      : folder(std::filesystem::temp_directory_path() / fmt::format("stream-bench-{}", getpid())) {
    write_random_model(folder, {.format = format, .layers = layers});
  }
  RandomModelFiles(const RandomModelFiles&) = delete;
  RandomModelFiles& operator=(const RandomModelFiles&) = delete;
  ~RandomModelFiles() {
    std::error_code ignored;
    std::filesystem::remove_all(folder, ignored);
  }
  std::filesystem::path folder;
};

}  // namespace inkstone
