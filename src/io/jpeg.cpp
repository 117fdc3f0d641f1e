// JPEG by libjpeg. Its errors jump with longjmp, which must not skip destructors: between setjmp and the jump only
// plain functions of this file run, and everything that owns memory lives in their callers.
#include <array>
#include <csetjmp>
#include <cstdio>  // jpeglib.h needs it
#include <cstring>
#include <jpeglib.h>

#include "core/error.h"
#include "io/exif.h"
#include "io/image_codecs.h"

namespace inkstone {
namespace {

constexpr int kQuality = 95;
constexpr int kExifMarker = JPEG_APP0 + 1;
constexpr unsigned kMaxMarkerBytes = 0xffff;
constexpr size_t kBufferBytes = 65536;  // compressed bytes that go to the stream at once
constexpr int kMaxScans = 100;          // a small progressive file could otherwise ask for thousands of passes

/// The library's error state, with the way back.
struct Session {
  jpeg_error_mgr errors;  // first, so that the library's pointer to it is ours
  jpeg_progress_mgr progress;
  std::jmp_buf back;
  std::array<char, JMSG_LENGTH_MAX> message;
};

[[noreturn]] void on_error(j_common_ptr jpeg) {
  auto* session = reinterpret_cast<Session*>(jpeg->err);
  jpeg->err->format_message(jpeg, session->message.data());
  std::longjmp(session->back, 1);
}

/// Warnings mean damaged data, which the library would patch with grey.
void on_message(j_common_ptr jpeg, int level) {
  if (level < 0) on_error(jpeg);
}

/// For faults that the library has no text for; `text` is a short one.
[[noreturn]] void jump_back(j_common_ptr jpeg, const char* text) {
  auto* session = reinterpret_cast<Session*>(jpeg->err);
  std::strcpy(session->message.data(), text);
  std::longjmp(session->back, 1);
}

void on_progress(j_common_ptr jpeg) {
  if (reinterpret_cast<j_decompress_ptr>(jpeg)->input_scan_number > kMaxScans) jump_back(jpeg, "too many scans");
}

void prepare(Session& session) {
  jpeg_std_error(&session.errors);
  session.errors.error_exit = on_error;
  session.errors.emit_message = on_message;
  session.progress.progress_monitor = on_progress;
  session.message[0] = '\0';
}

/// Where the library puts compressed bytes.
struct Destination {
  jpeg_destination_mgr manager;  // first, so that the library's pointer to it is ours
  std::ostream* out;
  std::array<JOCTET, kBufferBytes> buffer;
};

/// Jumps back if the stream takes nothing more.
void check_stream(j_compress_ptr jpeg) {
  if (!reinterpret_cast<Destination*>(jpeg->dest)->out->flush())
    jump_back(reinterpret_cast<j_common_ptr>(jpeg), "the file takes nothing more");
}

void empty_buffer(j_compress_ptr jpeg, size_t used) {
  auto* to = reinterpret_cast<Destination*>(jpeg->dest);
  to->out->write(reinterpret_cast<const char*>(to->buffer.data()), static_cast<std::streamsize>(used));
  check_stream(jpeg);
  to->manager.next_output_byte = to->buffer.data();
  to->manager.free_in_buffer = to->buffer.size();
}

void on_start(j_compress_ptr jpeg) { empty_buffer(jpeg, 0); }

boolean on_full(j_compress_ptr jpeg) {
  empty_buffer(jpeg, reinterpret_cast<Destination*>(jpeg->dest)->buffer.size());
  return TRUE;
}

void on_end(j_compress_ptr jpeg) {
  auto* to = reinterpret_cast<Destination*>(jpeg->dest);
  empty_buffer(jpeg, to->buffer.size() - to->manager.free_in_buffer);
}

struct Compressor {
  explicit Compressor(std::ostream& out) {
    prepare(session);
    jpeg.err = &session.errors;
    to.manager.init_destination = on_start;
    to.manager.empty_output_buffer = on_full;
    to.manager.term_destination = on_end;
    to.out = &out;
  }
  Compressor(const Compressor&) = delete;
  Compressor& operator=(const Compressor&) = delete;
  ~Compressor() { jpeg_destroy_compress(&jpeg); }

  jpeg_compress_struct jpeg{};
  Session session{};
  Destination to{};
};

bool compress(Compressor& c, const Image& image, std::span<const std::byte> exif) {
  if (setjmp(c.session.back) != 0) return false;
  jpeg_create_compress(&c.jpeg);
  c.jpeg.dest = &c.to.manager;
  c.jpeg.image_width = static_cast<JDIMENSION>(image.width);
  c.jpeg.image_height = static_cast<JDIMENSION>(image.height);
  c.jpeg.input_components = 3;
  c.jpeg.in_color_space = JCS_RGB;
  jpeg_set_defaults(&c.jpeg);
  jpeg_set_quality(&c.jpeg, kQuality, TRUE);
  c.jpeg.comp_info[0].h_samp_factor = 1;  // 4:4:4: as many colour samples as brightness samples
  c.jpeg.comp_info[0].v_samp_factor = 1;
  c.jpeg.optimize_coding = TRUE;
  jpeg_start_compress(&c.jpeg, TRUE);
  if (!exif.empty())
    jpeg_write_marker(&c.jpeg, kExifMarker, reinterpret_cast<const JOCTET*>(exif.data()),
                      static_cast<unsigned>(exif.size()));
  const size_t row_bytes = static_cast<size_t>(image.width) * 3;
  while (c.jpeg.next_scanline < c.jpeg.image_height) {
    auto* row = const_cast<JSAMPROW>(image.rgb.data() + c.jpeg.next_scanline * row_bytes);
    jpeg_write_scanlines(&c.jpeg, &row, 1);
    check_stream(&c.jpeg);  // nothing is written before the last row
  }
  jpeg_finish_compress(&c.jpeg);
  return true;
}

struct Decompressor {
  Decompressor() {
    prepare(session);
    jpeg.err = &session.errors;
  }
  Decompressor(const Decompressor&) = delete;
  Decompressor& operator=(const Decompressor&) = delete;
  ~Decompressor() { jpeg_destroy_decompress(&jpeg); }

  void check_ok(bool ok) const { check(ok, "broken JPEG: {}", session.message.data()); }

  jpeg_decompress_struct jpeg{};
  Session session{};
};

bool read_header(Decompressor& d, std::span<const std::byte> bytes) {
  if (setjmp(d.session.back) != 0) return false;
  jpeg_create_decompress(&d.jpeg);
  d.jpeg.progress = &d.session.progress;
  jpeg_mem_src(&d.jpeg, reinterpret_cast<const unsigned char*>(bytes.data()), bytes.size());
  jpeg_save_markers(&d.jpeg, kExifMarker, kMaxMarkerBytes);
  jpeg_read_header(&d.jpeg, TRUE);
  return true;
}

bool decompress(Decompressor& d, Image& image) {
  if (setjmp(d.session.back) != 0) return false;
  d.jpeg.out_color_space = JCS_RGB;
  jpeg_start_decompress(&d.jpeg);
  const size_t row_bytes = static_cast<size_t>(image.width) * 3;
  while (d.jpeg.output_scanline < d.jpeg.output_height) {
    JSAMPROW row = image.rgb.data() + d.jpeg.output_scanline * row_bytes;
    jpeg_read_scanlines(&d.jpeg, &row, 1);
  }
  jpeg_finish_decompress(&d.jpeg);
  return true;
}

bool recognises(std::span<const std::byte> bytes) {
  return bytes.size() >= 3 && bytes[0] == std::byte{0xff} && bytes[1] == std::byte{0xd8} && bytes[2] == std::byte{0xff};
}

void encode(std::ostream& out, const Image& image, const std::string& metadata) {
  const auto exif = metadata.empty() ? std::vector<std::byte>() : exif_block(metadata);
  Compressor c(out);
  check(compress(c, image, exif), "cannot be written as JPEG: {}", c.session.message.data());
}

Image decode(std::span<const std::byte> bytes) {
  Decompressor d;
  d.check_ok(read_header(d, bytes));
  Image image{.width = d.jpeg.image_width, .height = d.jpeg.image_height};
  check_image_size(image.width, image.height);
  image.rgb.resize(static_cast<size_t>(image.width * image.height) * 3);
  d.check_ok(decompress(d, image));
  return image;
}

std::optional<std::string> metadata(std::span<const std::byte> bytes) {
  Decompressor d;
  d.check_ok(read_header(d, bytes));
  for (const jpeg_marker_struct* marker = d.jpeg.marker_list; marker != nullptr; marker = marker->next) {
    const std::span block(reinterpret_cast<const std::byte*>(marker->data), marker->data_length);
    if (const auto comment = exif_comment(block)) return comment;
  }
  return std::nullopt;
}

}  // namespace

const ImageCodec& jpeg_codec() {
  static constexpr ImageCodec codec = {ImageFormat::jpeg, recognises, encode, decode, metadata};
  return codec;
}

}  // namespace inkstone
