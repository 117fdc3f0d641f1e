// One encoder and decoder per picture format, on bytes; image.cpp adds the files.
#pragma once
#include <cstddef>
#include <ostream>
#include <span>

#include "io/image.h"

namespace inkstone {

constexpr int64_t kMaxImageSide = 16383;  // WebP's limit, so that a picture fits into every format
/// Bounds what a small file can make a decoder allocate.
constexpr int64_t kMaxImagePixels = int64_t{1} << 26;

/// Throws Error for a picture that is empty or beyond the limits.
void check_image_size(int64_t width, int64_t height);

/// Bytes of a format. Decoders throw Error, without a path, for anything broken; encoders for what the format cannot
/// hold and, soon, for a stream that takes nothing more.
struct ImageCodec {
  ImageFormat format;
  bool (*recognises)(std::span<const std::byte> bytes);
  void (*encode)(std::ostream& out, const Image& image, const std::string& metadata);
  Image (*decode)(std::span<const std::byte> bytes);
  std::optional<std::string> (*metadata)(std::span<const std::byte> bytes);
};

const ImageCodec& png_codec();
const ImageCodec& jpeg_codec();
const ImageCodec& webp_codec();

/// The codec for these bytes. Throws Error if there is none.
const ImageCodec& codec_of(std::span<const std::byte> bytes);

}  // namespace inkstone
