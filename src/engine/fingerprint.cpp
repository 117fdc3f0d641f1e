#include "engine/fingerprint.h"

#include <algorithm>
#include <fmt/format.h>
#include <fstream>
#include <vector>

#include "engine/config_json.h"

namespace inkstone {
namespace {

namespace fs = std::filesystem;

constexpr size_t kSampleBytes = 4096;
constexpr size_t kSamples = 64;  // of a file

size_t size_of(const fs::path& path) {
  std::error_code missing;  // it was mapped before
  return fs::file_size(path, missing);
}

std::string text_of(const ScheduleConfig& c) {
  return fmt::format("{} {} {} {} {} {} {} {}", c.base_shift, c.max_shift, c.base_image_tokens, c.max_image_tokens,
                     c.shift_terminal.value_or(0), c.shift, c.dynamic_shifting, static_cast<int>(c.time_shift));
}

}  // namespace

uint64_t hashed(std::string_view bytes, uint64_t hash) {
  for (const char c : bytes) hash = (hash ^ static_cast<uint8_t>(c)) * 0x100000001b3u;
  return hash;
}

uint64_t sampled_hash(const fs::path& path) {
  std::ifstream file(path, std::ios::binary);
  std::string sample(kSampleBytes, '\0');
  const size_t size = size_of(path), stride = std::max(size / kSamples, kSampleBytes);
  uint64_t hash = hashed("");
  for (size_t at = 0; at < size; at += stride) {
    file.seekg(static_cast<std::streamoff>(at));
    file.read(sample.data(), static_cast<std::streamsize>(std::min(kSampleBytes, size - at)));
    hash = hashed(std::string_view(sample).substr(0, static_cast<size_t>(file.gcount())), hash);
  }
  return hash;
}

std::string text_encoder_fingerprint(const Model& model) {
  std::string text = config_json(model.text_encoder).dump() + "\n";
  for (const fs::path& path : model.text_encoder_files.files) {
    std::error_code missing;
    const auto time = fs::last_write_time(path, missing).time_since_epoch();
    text += fmt::format("{} {} {} {:016x}\n", path.filename().string(), size_of(path), time.count(),
                        model.samples.at(path));
  }
  return text;
}

std::string model_fingerprint(const Model& model) {
  std::string text = config_json(model.transformer).dump() + config_json(model.text_encoder).dump() +
                     config_json(model.vae).dump() + text_of(model.schedule);
  for (const Checkpoint* component : model.files())
    for (const fs::path& path : component->files)
      text += fmt::format("\n{} {:016x}", size_of(path), model.samples.at(path));
  return fmt::format("{:016x}", hashed(text));
}

}  // namespace inkstone
