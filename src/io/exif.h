// The user comment in the EXIF block of JPEG and WebP files.
#pragma once
#include <cstddef>
#include <optional>
#include <span>
#include <string>
#include <vector>

namespace inkstone {

/// What begins an EXIF block in JPEG; WebP leaves it out.
constexpr std::string_view kExifSignature{"Exif\0\0", 6};

/// Bytes. A JPEG segment holds 65533, signature and directories included.
constexpr size_t kMaxExifComment = 65000;

/// An EXIF block with signature that holds only this comment, as UTF-8. Throws Error if it does not fit (about 64 kB).
std::vector<std::byte> exif_block(const std::string& comment);

/// The comment of a block that exif_block made; empty optional if there is none. Trusts nothing.
std::optional<std::string> exif_comment(std::span<const std::byte> block);

}  // namespace inkstone
