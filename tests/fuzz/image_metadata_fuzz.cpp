// Descriptions in PNG, JPEG and WebP files.
#include "core/error.h"
#include "io/image_codecs.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::span bytes(reinterpret_cast<const std::byte*>(data), size);
  try {
    inkstone::codec_of(bytes).metadata(bytes);
  } catch (const inkstone::Error&) {
  }
  return 0;
}
