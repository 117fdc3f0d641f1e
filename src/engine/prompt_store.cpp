#include "engine/prompt_store.h"

#include <algorithm>
#include <chrono>
#include <vector>

#include "core/error.h"
#include "engine/fingerprint.h"
#include "io/safetensors.h"

namespace inkstone {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view kEmbeds = "embeds";
constexpr std::string_view kKey = "key";
constexpr std::string_view kSuffix = ".safetensors";

}  // namespace

PromptStore::PromptStore(fs::path folder, size_t most_bytes) : folder_(std::move(folder)), most_bytes_(most_bytes) {}

fs::path PromptStore::path_of(const std::string& key) const {
  return folder_ / fmt::format("{:016x}{}", hashed(key), kSuffix);  // the whole key is in the file
}

Tensor PromptStore::find(const std::string& key) const {
  const fs::path path = path_of(key);
  std::error_code missing;
  if (!is_used() || !fs::exists(path, missing)) return {};
  try {
    const SafetensorsFile file = read_safetensors(path);
    const auto stored_key = file.metadata.find(std::string(kKey));
    const auto embeds = file.tensors.find(kEmbeds);
    if (stored_key == file.metadata.end() || stored_key->second != key || embeds == file.tensors.end()) return {};
    if (embeds->second.data.dtype() != DType::f32 || embeds->second.data.shape().rank() != 2) return {};
    fs::last_write_time(path, fs::file_time_type::clock::now(), missing);  // used last, so removed last
    const auto values = embeds->second.data.span<const float>();
    return host_tensor(std::vector<float>(values.begin(), values.end())).reshape(embeds->second.data.shape());
  } catch (const Error&) {
    return {};
  }
}

void PromptStore::add(const std::string& key, const Tensor& embeddings) const {
  if (!is_used()) return;
  try {
    fs::create_directories(folder_);
    write_safetensors(path_of(key), {{std::string(kEmbeds), embeddings}}, {{std::string(kKey), key}});
    remove_oldest();
  } catch (const Error&) {  // a full disk, say: the next run encodes the prompt again
  } catch (const fs::filesystem_error&) {
  }
}

void PromptStore::remove_oldest() const {
  struct Kept {
    fs::file_time_type when;
    size_t bytes;
    fs::path path;
  };
  std::vector<Kept> all;
  size_t sum = 0;
  for (const auto& entry : fs::directory_iterator(folder_)) {
    if (entry.path().extension() != kSuffix) continue;
    all.push_back({entry.last_write_time(), entry.file_size(), entry.path()});
    sum += all.back().bytes;
  }
  std::ranges::sort(all, {}, &Kept::when);
  for (auto oldest = all.begin(); sum > most_bytes_ && oldest != all.end(); ++oldest) {
    fs::remove(oldest->path);
    sum -= oldest->bytes;
  }
}

}  // namespace inkstone
