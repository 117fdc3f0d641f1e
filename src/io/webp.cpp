// WebP by libwebp, lossless; the description by libwebpmux.
#include <cstring>
#include <memory>
#include <webp/decode.h>
#include <webp/encode.h>
#include <webp/mux.h>

#include "core/error.h"
#include "io/exif.h"
#include "io/image_codecs.h"

namespace inkstone {
namespace {

constexpr int kEffort = 6;  // of 9: the usual balance of time and size
constexpr int kCopy = 1;    // the container keeps its own bytes
constexpr int kRiffBytes = 12;
static_assert(kMaxImageSide <= WEBP_MAX_DIMENSION);

struct MuxDelete {
  void operator()(WebPMux* mux) const { WebPMuxDelete(mux); }
};
using Mux = std::unique_ptr<WebPMux, MuxDelete>;

/// A picture and the bytes it is encoded to.
struct Encoder {
  Encoder() { WebPMemoryWriterInit(&bytes); }
  Encoder(const Encoder&) = delete;
  Encoder& operator=(const Encoder&) = delete;
  ~Encoder() {
    WebPPictureFree(&picture);
    WebPMemoryWriterClear(&bytes);
  }
  WebPPicture picture{};
  WebPMemoryWriter bytes;
};

/// Called now and then; 0 ends the encoding. An empty write tells whether the stream still takes something.
int goes_on(int, const WebPPicture* picture) { return static_cast<std::ostream*>(picture->user_data)->flush() ? 1 : 0; }

const uint8_t* as_uint8(std::span<const std::byte> bytes) { return reinterpret_cast<const uint8_t*>(bytes.data()); }

void write_with_exif(std::ostream& out, const WebPData& picture, const std::string& metadata) {
  const std::vector<std::byte> block = exif_block(metadata);
  const auto tiff = std::span(block).subspan(kExifSignature.size());
  const WebPData exif = {as_uint8(tiff), tiff.size()};
  const Mux mux(WebPMuxNew());
  WebPData file;
  WebPDataInit(&file);
  const bool ok = mux && WebPMuxSetImage(mux.get(), &picture, !kCopy) == WEBP_MUX_OK &&
                  WebPMuxSetChunk(mux.get(), "EXIF", &exif, !kCopy) == WEBP_MUX_OK &&
                  WebPMuxAssemble(mux.get(), &file) == WEBP_MUX_OK;
  if (ok) out.write(reinterpret_cast<const char*>(file.bytes), static_cast<std::streamsize>(file.size));
  WebPDataClear(&file);
  check(ok, "its description cannot be added to the WebP file");
}

bool recognises(std::span<const std::byte> bytes) {
  return bytes.size() >= kRiffBytes && std::memcmp(bytes.data(), "RIFF", 4) == 0 &&
         std::memcmp(bytes.data() + 8, "WEBP", 4) == 0;
}

void encode(std::ostream& out, const Image& image, const std::string& metadata) {
  WebPConfig config;
  Encoder e;
  check(WebPConfigInit(&config) != 0 && WebPConfigLosslessPreset(&config, kEffort) != 0 &&
            WebPPictureInit(&e.picture) != 0,
        "the WebP library has another version");
  e.picture.use_argb = 1;
  e.picture.width = static_cast<int>(image.width);
  e.picture.height = static_cast<int>(image.height);
  e.picture.writer = WebPMemoryWrite;
  e.picture.custom_ptr = &e.bytes;
  e.picture.progress_hook = goes_on;
  e.picture.user_data = &out;
  check(WebPPictureImportRGB(&e.picture, image.rgb.data(), static_cast<int>(image.width) * 3) != 0 &&
            WebPEncode(&config, &e.picture) != 0,
        "cannot be written as WebP: error {} of the library", static_cast<int>(e.picture.error_code));
  if (metadata.empty()) {
    out.write(reinterpret_cast<const char*>(e.bytes.mem), static_cast<std::streamsize>(e.bytes.size));
  } else {
    write_with_exif(out, {e.bytes.mem, e.bytes.size}, metadata);
  }
}

Image decode(std::span<const std::byte> bytes) {
  WebPBitstreamFeatures features;
  check(WebPGetFeatures(as_uint8(bytes), bytes.size(), &features) == VP8_STATUS_OK, "broken WebP: bad header");
  check(features.has_animation == 0, "is an animation, a still picture is needed");
  Image image{.width = features.width, .height = features.height};
  check_image_size(image.width, image.height);
  image.rgb.resize(static_cast<size_t>(image.width * image.height) * 3);
  check(WebPDecodeRGBInto(as_uint8(bytes), bytes.size(), image.rgb.data(), image.rgb.size(), features.width * 3) !=
            nullptr,
        "broken WebP: bad pixels (is it truncated?)");
  return image;
}

std::optional<std::string> metadata(std::span<const std::byte> bytes) {
  const WebPData file = {as_uint8(bytes), bytes.size()};
  const Mux mux(WebPMuxCreate(&file, !kCopy));
  check(mux != nullptr, "broken WebP: bad chunks (is it truncated?)");
  WebPData exif;
  if (WebPMuxGetChunk(mux.get(), "EXIF", &exif) != WEBP_MUX_OK) return std::nullopt;
  std::vector<std::byte> block(kExifSignature.size() + exif.size);
  std::memcpy(block.data(), kExifSignature.data(), kExifSignature.size());
  std::memcpy(block.data() + kExifSignature.size(), exif.bytes, exif.size);
  return exif_comment(block);
}

}  // namespace

const ImageCodec& webp_codec() {
  static constexpr ImageCodec codec = {ImageFormat::webp, recognises, encode, decode, metadata};
  return codec;
}

}  // namespace inkstone
