// Where the libraries of a CUDA toolkit lie.
#pragma once
#include <string>
#include <vector>

namespace inkstone {

/// Folders to look into for what the dynamic linker does not find: those of the toolkits that the environment names
/// (CUDA_HOME, CUDA_PATH; null or empty: none), then of those where installers put them.
inline std::vector<std::string> cuda_library_folders(const char* home, const char* path) {
  std::vector<std::string> folders;
  for (const char* const toolkit : {home, path, "/usr/local/cuda", "/opt/cuda"}) {
    if (toolkit == nullptr || *toolkit == '\0') continue;
    for (const char* const within : {"/lib64", "/lib", "/targets/x86_64-linux/lib", "/targets/sbsa-linux/lib"})
      folders.push_back(std::string(toolkit) + within);
  }
  return folders;
}

}  // namespace inkstone
