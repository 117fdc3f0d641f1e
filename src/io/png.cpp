// PNG by libpng. Its errors jump with longjmp, which must not skip destructors: between setjmp and the jump only plain
// functions of this file run, and everything that owns memory lives in their callers.
#include <array>
#include <csetjmp>
#include <cstring>
#include <png.h>
#include <zlib.h>

#include "core/error.h"
#include "io/image_codecs.h"

namespace inkstone {
namespace {

constexpr size_t kSignatureBytes = 8;
constexpr char kKeyword[] = "inkstone";
constexpr int kBits = 8;
constexpr png_alloc_size_t kMaxChunkBytes = 4 << 20;
constexpr size_t kMessageBytes = 160;  // of an error; the library's own are far shorter, longer ones are cut

/// What libpng's callbacks reach.
struct Session {
  std::array<char, kMessageBytes> message{};
  std::ostream* out = nullptr;
  std::span<const std::byte> in;
};

[[noreturn]] void on_error(png_structp png, png_const_charp text) {
  auto* session = static_cast<Session*>(png_get_error_ptr(png));
  std::strncpy(session->message.data(), text, session->message.size() - 1);
  png_longjmp(png, 1);
}

void on_warning(png_structp, png_const_charp) {}

void on_write(png_structp png, png_bytep data, png_size_t size) {
  std::ostream& out = *static_cast<Session*>(png_get_io_ptr(png))->out;
  out.write(reinterpret_cast<const char*>(data), static_cast<std::streamsize>(size));
  if (!out) png_error(png, "the file takes nothing more");
}

void on_flush(png_structp) {}

void on_read(png_structp png, png_bytep data, png_size_t size) {
  auto* session = static_cast<Session*>(png_get_io_ptr(png));
  if (size > session->in.size()) png_error(png, "the file ends too early");
  std::memcpy(data, session->in.data(), size);
  session->in = session->in.subspan(size);
}

/// Owns the library's two objects.
class Handle {
 public:
  enum class Use { read, write };

  Handle(Use use, Session& session) : use_(use) {
    png = use == Use::read ? png_create_read_struct(PNG_LIBPNG_VER_STRING, &session, on_error, on_warning)
                           : png_create_write_struct(PNG_LIBPNG_VER_STRING, &session, on_error, on_warning);
    info = png == nullptr ? nullptr : png_create_info_struct(png);
    if (info == nullptr) {
      destroy();
      throw std::bad_alloc();
    }
  }
  Handle(const Handle&) = delete;
  Handle& operator=(const Handle&) = delete;
  ~Handle() { destroy(); }

  png_structp png = nullptr;
  png_infop info = nullptr;

 private:
  void destroy() {
    if (use_ == Use::read) {
      png_destroy_read_struct(&png, &info, nullptr);
    } else {
      png_destroy_write_struct(&png, &info);
    }
  }
  Use use_;
};

bool write_png(const Handle& h, Session& session, const Image& image, const std::string& metadata) {
  if (setjmp(png_jmpbuf(h.png)) != 0) return false;
  png_set_write_fn(h.png, &session, on_write, on_flush);
  png_set_compression_strategy(h.png, Z_RLE);  // filtered pixels hardly repeat but side by side; elsewhere nobody looks
  const auto width = static_cast<png_uint_32>(image.width);
  const auto height = static_cast<png_uint_32>(image.height);
  png_set_IHDR(h.png, h.info, width, height, kBits, PNG_COLOR_TYPE_RGB, PNG_INTERLACE_NONE,
               PNG_COMPRESSION_TYPE_DEFAULT, PNG_FILTER_TYPE_DEFAULT);
  if (!metadata.empty()) {
    png_text text{};
    text.compression = PNG_ITXT_COMPRESSION_NONE;
    text.key = const_cast<char*>(kKeyword);
    text.text = const_cast<char*>(metadata.c_str());
    text.itxt_length = metadata.size();
    png_set_text(h.png, h.info, &text, 1);
  }
  png_write_info(h.png, h.info);
  for (png_uint_32 y = 0; y < height; ++y) png_write_row(h.png, image.rgb.data() + size_t{y} * width * 3);
  png_write_end(h.png, h.info);
  return true;
}

/// Reads what stands before the pixels.
bool read_header(const Handle& h, Session& session) {
  if (setjmp(png_jmpbuf(h.png)) != 0) return false;
  png_set_read_fn(h.png, &session, on_read);
  png_set_user_limits(h.png, kMaxImageSide, kMaxImageSide);
  png_set_chunk_malloc_max(h.png, kMaxChunkBytes);
  png_read_info(h.png, h.info);
  return true;
}

/// Makes every kind of picture 8-bit RGB; rows point into the caller's pixels.
bool read_rows(const Handle& h, png_bytepp rows) {
  if (setjmp(png_jmpbuf(h.png)) != 0) return false;
  png_read_image(h.png, rows);
  png_read_end(h.png, nullptr);
  return true;
}

bool convert_to_rgb8(const Handle& h) {
  if (setjmp(png_jmpbuf(h.png)) != 0) return false;
  png_set_expand(h.png);
  png_set_scale_16(h.png);
  png_set_gray_to_rgb(h.png);
  png_set_strip_alpha(h.png);
  png_set_interlace_handling(h.png);
  png_read_update_info(h.png, h.info);
  return true;
}

bool recognises(std::span<const std::byte> bytes) {
  return bytes.size() >= kSignatureBytes &&
         png_sig_cmp(reinterpret_cast<png_const_bytep>(bytes.data()), 0, kSignatureBytes) == 0;
}

uint32_t big_endian(std::span<const std::byte> bytes) {
  uint32_t number = 0;
  for (size_t i = 0; i < sizeof(number); ++i) number = number << 8 | std::to_integer<uint32_t>(bytes[i]);
  return number;
}

/// The library takes memory for a chunk, and clears it, before it finds that the file is shorter.
void check_chunks(std::span<const std::byte> bytes) {
  constexpr size_t kFrame = 12;  // length, name and checksum around a chunk's data
  constexpr size_t kLengthBytes = 4;
  constexpr std::string_view kEnd = "IEND";
  bytes = bytes.subspan(kSignatureBytes);
  for (bool is_last = false; !is_last;) {
    check(bytes.size() >= kFrame,
          "broken PNG: {} bytes are left for a chunk, at least {} are needed (is it truncated?)", bytes.size(), kFrame);
    const uint32_t length = big_endian(bytes);
    check(length <= bytes.size() - kFrame, "broken PNG: a chunk of {} bytes, {} are left (is it truncated?)", length,
          bytes.size() - kFrame);
    is_last = std::memcmp(bytes.data() + kLengthBytes, kEnd.data(), kEnd.size()) == 0;
    bytes = bytes.subspan(kFrame + length);
  }
}

void check_read(bool ok, const Session& session) { check(ok, "broken PNG: {}", session.message.data()); }

void encode(std::ostream& out, const Image& image, const std::string& metadata) {
  Session session{.out = &out};
  const Handle h(Handle::Use::write, session);
  check(write_png(h, session, image, metadata), "cannot be written as PNG: {}", session.message.data());
}

Image decode(std::span<const std::byte> bytes) {
  check_chunks(bytes);
  Session session{.in = bytes};
  const Handle h(Handle::Use::read, session);
  check_read(read_header(h, session), session);
  Image image{.width = png_get_image_width(h.png, h.info), .height = png_get_image_height(h.png, h.info)};
  check_image_size(image.width, image.height);
  check_read(convert_to_rgb8(h), session);
  const auto row_bytes = static_cast<size_t>(image.width) * 3;
  check(png_get_rowbytes(h.png, h.info) == row_bytes, "broken PNG: rows of {} bytes", png_get_rowbytes(h.png, h.info));
  image.rgb.resize(row_bytes * static_cast<size_t>(image.height));
  std::vector<png_bytep> rows;
  for (int64_t y = 0; y < image.height; ++y) rows.push_back(image.rgb.data() + static_cast<size_t>(y) * row_bytes);
  check_read(read_rows(h, rows.data()), session);
  return image;
}

std::optional<std::string> metadata(std::span<const std::byte> bytes) {
  check_chunks(bytes);
  Session session{.in = bytes};
  const Handle h(Handle::Use::read, session);
  check_read(read_header(h, session), session);
  png_textp texts = nullptr;
  int count = 0;
  png_get_text(h.png, h.info, &texts, &count);
  for (int i = 0; i < count; ++i)
    if (std::strcmp(texts[i].key, kKeyword) == 0 && texts[i].compression >= PNG_ITXT_COMPRESSION_NONE)
      return std::string(texts[i].text, texts[i].itxt_length);
  return std::nullopt;
}

}  // namespace

const ImageCodec& png_codec() {
  static constexpr ImageCodec codec = {ImageFormat::png, recognises, encode, decode, metadata};
  return codec;
}

}  // namespace inkstone
