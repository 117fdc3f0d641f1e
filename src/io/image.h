// Pictures in files: PNG, JPEG, WebP, with the text that says what made them.
#pragma once
#include <cstdint>
#include <filesystem>
#include <optional>
#include <stop_token>
#include <string>
#include <vector>

namespace inkstone {

/// 8-bit RGB, rows from top to bottom.
struct Image {
  int64_t width = 0;
  int64_t height = 0;
  std::vector<uint8_t> rgb;  ///< height * width * 3
};

enum class ImageFormat : uint8_t { png, jpeg, webp };

/// From the extension (png, jpg, jpeg, webp, any case); Error names the path and the extensions that work.
ImageFormat image_format(const std::filesystem::path& path);

/// Writes a picture whole or not at all. `metadata` (UTF-8 JSON, may be empty) goes into a PNG iTXt chunk with the
/// keyword "inkstone", or into the EXIF user comment of JPEG (quality 95, no chroma subsampling) and WebP (lossless).
/// Throws Cancelled soon after a stop request of `stop`.
void write_image(const std::filesystem::path& path, const Image& image, const std::string& metadata,
                 std::stop_token stop = {});

/// Reads a picture of any of the formats, recognised by content; alpha is dropped, grey and palette become RGB.
Image read_image(const std::filesystem::path& path);

/// The text that write_image stored; empty optional if there is none. Foreign bytes: never trusts a length.
std::optional<std::string> read_image_metadata(const std::filesystem::path& path);

}  // namespace inkstone
