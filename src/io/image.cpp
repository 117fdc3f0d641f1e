#include "io/image.h"

#include <algorithm>
#include <array>
#include <cctype>

#include "core/error.h"
#include "core/mapped_file.h"
#include "io/atomic_file.h"
#include "io/image_codecs.h"

namespace inkstone {
namespace {

namespace fs = std::filesystem;

std::array<const ImageCodec*, 3> codecs() { return {&png_codec(), &jpeg_codec(), &webp_codec()}; }

/// Adds the path to errors of a codec.
auto with_path(const fs::path& path, const auto& call) {
  try {
    return call();
  } catch (const Error& e) {
    fail("{}: {}", path.string(), e.what());
  }
}

}  // namespace

void check_image_size(int64_t width, int64_t height) {
  check(width > 0 && height > 0 && width <= kMaxImageSide && height <= kMaxImageSide,
        "a picture of {}x{}; a side has 1 to {} pixels", width, height, kMaxImageSide);
  check(width * height <= kMaxImagePixels, "a picture of {}x{} has {} pixels; at most {} work", width, height,
        width * height, kMaxImagePixels);
}

const ImageCodec& codec_of(std::span<const std::byte> bytes) {
  for (const ImageCodec* codec : codecs())
    if (codec->recognises(bytes)) return *codec;
  fail("is not a PNG, JPEG or WebP picture");
}

ImageFormat image_format(const fs::path& path) {
  std::string extension = path.extension().string();
  std::transform(extension.begin(), extension.end(), extension.begin(),
                 [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  if (extension == ".png") return ImageFormat::png;
  if (extension == ".jpg" || extension == ".jpeg") return ImageFormat::jpeg;
  if (extension == ".webp") return ImageFormat::webp;
  fail("{}: a picture's name must end in .png, .jpg, .jpeg or .webp", path.string());
}

void write_image(const fs::path& path, const Image& image, const std::string& metadata, std::stop_token stop) {
  const ImageFormat format = image_format(path);
  const auto all = codecs();
  const ImageCodec& codec = **std::find_if(all.begin(), all.end(), [&](const auto* c) { return c->format == format; });
  with_path(path, [&] {
    check_image_size(image.width, image.height);
    check(image.rgb.size() == static_cast<size_t>(image.width * image.height * 3),
          "{} x {} pixels need {} bytes, not {}", image.width, image.height, image.width * image.height * 3,
          image.rgb.size());
    check(metadata.find('\0') == std::string::npos, "a description with a zero byte cannot be stored");
  });
  const auto encode = [&](std::ostream& out) { with_path(path, [&] { codec.encode(out, image, metadata); }); };
  write_atomically(path, encode, std::move(stop));
}

Image read_image(const fs::path& path) {
  const auto file = MappedFile::open(path);
  return with_path(path, [&] { return codec_of(file->bytes()).decode(file->bytes()); });
}

std::optional<std::string> read_image_metadata(const fs::path& path) {
  const auto file = MappedFile::open(path);
  return with_path(path, [&] { return codec_of(file->bytes()).metadata(file->bytes()); });
}

}  // namespace inkstone
