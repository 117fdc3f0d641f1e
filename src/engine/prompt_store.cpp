#include "engine/prompt_store.h"

#include <algorithm>
#include <chrono>
#include <fstream>
#include <span>
#include <vector>

#include "core/error.h"
#include "io/safetensors.h"

namespace inkstone {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view kEmbeds = "embeds";
constexpr std::string_view kKey = "key";
constexpr std::string_view kSuffix = ".safetensors";
constexpr size_t kSampleBytes = 4096;
constexpr size_t kSamples = 64;  // of a file

/// FNV-1a, which spreads well enough to name files; the whole key is compared.
uint64_t hashed(std::span<const char> bytes, uint64_t hash = 0xcbf29ce484222325u) {
  for (const char c : bytes) hash = (hash ^ static_cast<uint8_t>(c)) * 0x100000001b3u;
  return hash;
}

uint64_t sampled_hash(const fs::path& path, size_t size) {
  std::ifstream file(path, std::ios::binary);
  std::vector<char> sample(kSampleBytes);
  const size_t stride = std::max(size / kSamples, kSampleBytes);
  uint64_t hash = hashed({});
  for (size_t at = 0; at < size; at += stride) {
    file.seekg(static_cast<std::streamoff>(at));
    file.read(sample.data(), static_cast<std::streamsize>(std::min(kSampleBytes, size - at)));
    hash = hashed({sample.data(), static_cast<size_t>(file.gcount())}, hash);
  }
  return hash;
}

}  // namespace

std::string fingerprint(const Checkpoint& files) {
  std::string text;
  for (const fs::path& path : files.files) {
    std::error_code missing;  // it was mapped before
    const size_t size = fs::file_size(path, missing);
    const auto time = fs::last_write_time(path, missing).time_since_epoch();
    text += fmt::format("{} {} {} {:016x}\n", path.filename().string(), size, time.count(), sampled_hash(path, size));
  }
  return text;
}

PromptStore::PromptStore(fs::path folder, size_t most_bytes) : folder_(std::move(folder)), most_bytes_(most_bytes) {}

fs::path PromptStore::path_of(const std::string& key) const {
  return folder_ / fmt::format("{:016x}{}", hashed(key), kSuffix);
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
