// What the public API reads and writes.
#include "inkstone/inkstone.h"

#include "core/error.h"
#include "engine/metadata.h"
#include "io/atomic_file.h"
#include "io/exif.h"
#include "io/image.h"
#include "io/safetensors.h"

namespace inkstone {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view kEmbeds = "embeds";
constexpr size_t kBesidePrompts = 4096;  // bytes of a description: numbers, names, paths, what JSON escapes

}  // namespace

void check_writable_file(const fs::path& path) { check_can_write(path); }

void check_picture_name(const fs::path& path) { image_format(path); }

void check_writable(const fs::path& path, size_t prompt_bytes) {
  const size_t most = image_format(path) == ImageFormat::png ? SIZE_MAX : kMaxExifComment - kBesidePrompts;
  check(prompt_bytes <= most, "{}: prompts of {} bytes; a JPEG or WebP file keeps at most {}, a .png any number",
        path.string(), prompt_bytes, most);
  check_writable_file(path);
}

void save_picture(const fs::path& path, const Picture& picture, std::stop_token stop) {
  write_image(path, {.width = picture.width, .height = picture.height, .rgb = picture.rgb}, picture.metadata,
              std::move(stop));
}

std::optional<std::string> read_picture_metadata(const fs::path& path) { return read_image_metadata(path); }

Request request_like(const fs::path& picture, EngineOptions& options) {
  const auto metadata = read_picture_metadata(picture);
  check(metadata.has_value(), "{}: does not say what made it; a picture by Inkstone is needed", picture.string());
  return parse_metadata(*metadata, picture, options);
}

void save_embeddings(const fs::path& path, const Embeddings& embeddings) {
  const Shape shape = {embeddings.rows, embeddings.width};
  check(static_cast<size_t>(shape.count()) == embeddings.values.size(), "embeddings {} with {} values", shape.text(),
        embeddings.values.size());
  write_safetensors(path, {{std::string(kEmbeds), host_tensor(embeddings.values).reshape(shape)}});
}

}  // namespace inkstone
