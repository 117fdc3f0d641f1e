#include "io/image.h"

#include <algorithm>
#include <cmath>
#include <png.h>
#include <sstream>

#include "io/files.h"
#include "io/image_codecs.h"

namespace inkstone {
namespace {

using ::testing::HasSubstr;

constexpr const char* kDescription = R"({"prompt": "一只猫, größer 😊 «\"\\»", "seed": 18446744073709551615})";

/// A smooth picture with odd sides, so that JPEG can keep it.
Image smooth(int64_t width, int64_t height) {
  Image image{.width = width, .height = height};
  for (int64_t y = 0; y < height; ++y)
    for (int64_t x = 0; x < width; ++x)
      for (int64_t c = 0; c < 3; ++c) image.rgb.push_back(static_cast<uint8_t>(20 + x * 3 + y * 2 + c * 40));
  return image;
}

/// Any bytes.
Image noisy(int64_t width, int64_t height) {
  Image image{.width = width, .height = height};
  uint32_t state = 1;
  for (int64_t i = 0; i < width * height * 3; ++i) {
    state = state * 1664525u + 1013904223u;
    image.rgb.push_back(static_cast<uint8_t>(state >> 24));
  }
  return image;
}

class ImageTest : public FolderTest {};

/// Every format.
class ImageFormats : public FolderTest, public ::testing::WithParamInterface<const char*> {
 protected:
  fs::path path() const { return at(std::string("picture.") + GetParam()); }
};

INSTANTIATE_TEST_SUITE_P(All, ImageFormats, ::testing::Values("png", "jpg", "webp"));

TEST_P(ImageFormats, DescriptionsComeBackByteForByte) {
  write_image(path(), smooth(17, 9), kDescription);
  EXPECT_EQ(read_image_metadata(path()), kDescription);
  EXPECT_EQ(files_in_folder(), 1u);
}

TEST_P(ImageFormats, LongDescriptionsComeBack) {
  std::string text = "{";
  while (text.size() < 60000) text += "墨 ink ";
  write_image(path(), smooth(17, 9), text);
  EXPECT_TRUE(read_image_metadata(path()) == text);
}

TEST_P(ImageFormats, WithoutADescriptionNoneIsFound) {
  write_image(path(), smooth(17, 9), "");
  EXPECT_EQ(read_image_metadata(path()), std::nullopt);
}

TEST_P(ImageFormats, AStopLeavesNoFile) {
  std::stop_source source;
  source.request_stop();
  EXPECT_THROW(write_image(path(), noisy(300, 200), kDescription, source.get_token()), Cancelled);
  EXPECT_EQ(files_in_folder(), 0u);
}

/// A large picture takes seconds to encode, for nothing where the file takes no more.
TEST_P(ImageFormats, EncodersGiveUpWhenTheStreamDoes) {
  const auto all = {&png_codec(), &jpeg_codec(), &webp_codec()};
  const ImageCodec& codec = **std::ranges::find(all, image_format(path()), &ImageCodec::format);
  std::ostringstream out;
  out.setstate(std::ios::badbit);
  EXPECT_THAT(error_of([&] { codec.encode(out, noisy(300, 200), kDescription); }), HasSubstr("cannot be written as"));
}

TEST_P(ImageFormats, ATruncatedPictureIsAnError) {
  write_image(path(), noisy(21, 13), kDescription);
  const std::string whole = read(path());
  for (size_t n = 0; n < whole.size(); ++n) {
    write(path().filename().string(), whole.substr(0, n));
    if (n + 2 < whole.size()) {  // a JPEG without its last marker is still whole
      EXPECT_THAT(error_of([&] { read_image(path()); }), HasSubstr(path().string())) << n;
    }
    try {
      read_image_metadata(path());  // may still be found in what is left
    } catch (const Error&) {
    }
  }
}

TEST_P(ImageFormats, DamagedBytesNeverCrash) {
  write_image(path(), noisy(21, 13), kDescription);
  const std::string whole = read(path());
  for (size_t n = 0; n < whole.size(); ++n) {
    std::string damaged = whole;
    damaged[n] = static_cast<char>(damaged[n] ^ 0x55);
    write(path().filename().string(), damaged);
    try {
      const Image image = read_image(path());
      EXPECT_EQ(image.rgb.size(), static_cast<size_t>(image.width * image.height * 3));
      read_image_metadata(path());
    } catch (const Error&) {
    }
  }
}

TEST_P(ImageFormats, PicturesThatCannotBeAreRefused) {
  EXPECT_THAT(error_of([&] { write_image(path(), {.width = 0, .height = 4}, ""); }), HasSubstr("0x4"));
  EXPECT_THAT(error_of([&] { write_image(path(), {.width = 20000, .height = 1}, ""); }), HasSubstr("20000x1"));
  EXPECT_THAT(error_of([&] { write_image(path(), {.width = 2, .height = 2}, ""); }), HasSubstr("need 12 bytes, not 0"));
  EXPECT_THAT(error_of([&] { write_image(path(), smooth(2, 2), std::string(1, '\0')); }), HasSubstr("zero byte"));
  EXPECT_EQ(files_in_folder(), 0u);
}

TEST_F(ImageTest, APngThatEndsInAChunksHeadIsRefusedBeforeTheLibraryTakesMemory) {
  constexpr size_t kHeader = 33;  // signature and IHDR
  write_image(at("a.png"), smooth(5, 3), "");
  const std::string head = read(at("a.png")).substr(0, kHeader);
  write("a.png", head + std::string("\x33\0\0\0iTXti\x82", 10));  // 855 MB are to follow
  EXPECT_THAT(error_of([&] { read_image_metadata(at("a.png")); }), HasSubstr("10 bytes are left for a chunk"));
  EXPECT_THAT(error_of([&] { read_image(at("a.png")); }), HasSubstr("10 bytes are left for a chunk"));
}

TEST_F(ImageTest, PngAndWebpKeepEveryPixel) {
  for (const char* name : {"a.png", "a.webp"}) {
    write_image(at(name), noisy(37, 23), kDescription);
    const Image back = read_image(at(name));
    EXPECT_EQ(back.width, 37);
    EXPECT_EQ(back.height, 23);
    EXPECT_EQ(back.rgb, noisy(37, 23).rgb) << name;
  }
}

TEST_F(ImageTest, JpegIsCloseAndKeepsFineColour) {
  Image image = smooth(40, 31);
  for (size_t i = 0; i < image.rgb.size(); i += 6) image.rgb[i] = 200;  // every other pixel redder: 4:2:0 would blur it
  write_image(at("a.jpg"), image, "");
  const Image back = read_image(at("a.jpg"));
  ASSERT_EQ(back.rgb.size(), image.rgb.size());
  double sum = 0;
  for (size_t i = 0; i < image.rgb.size(); ++i) sum += std::abs(double{1} * image.rgb[i] - back.rgb[i]);
  EXPECT_LT(sum / static_cast<double>(image.rgb.size()), 4.0);
}

TEST_F(ImageTest, DescriptionsThatDoNotFitIntoExifAreRefused) {
  const std::string text(70000, 'x');
  EXPECT_THAT(error_of([&] { write_image(at("a.jpg"), smooth(8, 8), text); }), HasSubstr("70000 bytes, at most 65000"));
  EXPECT_THAT(error_of([&] { write_image(at("a.webp"), smooth(8, 8), text); }), HasSubstr("at most 65000"));
  EXPECT_EQ(files_in_folder(), 0u);
  write_image(at("a.png"), smooth(8, 8), text);
  EXPECT_TRUE(read_image_metadata(at("a.png")) == text);
}

TEST_F(ImageTest, FormatsAreKnownByContentNotByName) {
  write_image(at("a.webp"), smooth(8, 8), kDescription);
  fs::rename(at("a.webp"), at("a.png"));
  EXPECT_EQ(read_image(at("a.png")).rgb, smooth(8, 8).rgb);
  EXPECT_EQ(read_image_metadata(at("a.png")), kDescription);
}

TEST_F(ImageTest, ExtensionsMayHaveAnyCase) {
  EXPECT_EQ(image_format("a.PNG"), ImageFormat::png);
  EXPECT_EQ(image_format("a.Jpeg"), ImageFormat::jpeg);
  EXPECT_EQ(image_format("a.b.jpg"), ImageFormat::jpeg);
  EXPECT_EQ(image_format("a.WebP"), ImageFormat::webp);
}

TEST_F(ImageTest, UnknownExtensionsAndContentsAreRefused) {
  for (const char* name : {"a.gif", "a", ".png", "a.png.txt"})
    EXPECT_THAT(error_of([&] { image_format(name); }), HasSubstr(".png, .jpg, .jpeg or .webp")) << name;
  EXPECT_THAT(error_of([&] { read_image(write("a.png", "GIF89a")); }), HasSubstr("is not a PNG, JPEG or WebP"));
  EXPECT_THAT(error_of([&] { read_image(write("b.png", "")); }), HasSubstr("is not a PNG, JPEG or WebP"));
  EXPECT_THAT(error_of([&] { read_image(at("none.png")); }), HasSubstr("No such file"));
}

/// A PNG of any kind by libpng's simple interface.
void write_foreign_png(const fs::path& path, uint32_t format, const std::vector<uint8_t>& pixels, uint32_t width,
                       const void* colours = nullptr) {
  png_image image{};
  image.version = PNG_IMAGE_VERSION;
  image.width = width;
  image.height = 1;
  image.format = format;
  image.colormap_entries = 2;
  ASSERT_NE(png_image_write_to_file(&image, path.c_str(), 0, pixels.data(), 0, colours), 0) << image.message;
}

TEST_F(ImageTest, GreyPaletteAndAlphaBecomeRgb) {
  using Bytes = std::vector<uint8_t>;
  write_foreign_png(at("grey.png"), PNG_FORMAT_GRAY, {7, 200}, 2);
  EXPECT_EQ(read_image(at("grey.png")).rgb, (Bytes{7, 7, 7, 200, 200, 200}));
  write_foreign_png(at("alpha.png"), PNG_FORMAT_RGBA, {1, 2, 3, 0, 4, 5, 6, 128}, 2);
  EXPECT_EQ(read_image(at("alpha.png")).rgb, (Bytes{1, 2, 3, 4, 5, 6})) << "alpha is dropped, not applied";
  const Bytes colours = {9, 8, 7, 30, 20, 10};
  write_foreign_png(at("palette.png"), PNG_FORMAT_RGB_COLORMAP, {1, 0, 1}, 3, colours.data());
  EXPECT_EQ(read_image(at("palette.png")).rgb, (Bytes{30, 20, 10, 9, 8, 7, 30, 20, 10}));
}

TEST_F(ImageTest, HugePicturesInSmallFilesAreRefused) {
  write_image(at("a.png"), smooth(8, 8), "");
  std::string bytes = read(at("a.png"));
  const size_t width_at = 16;  // signature, length, "IHDR"
  bytes[width_at + 2] = '\x40';
  bytes[width_at + 3] = '\x01';  // 16385
  EXPECT_THAT(error_of([&] { read_image(write("b.png", bytes)); }), HasSubstr("broken PNG"));
  EXPECT_THAT(error_of([] { check_image_size(16000, 16000); }), HasSubstr("at most 67108864 work"));
  EXPECT_NO_THROW(check_image_size(8192, 8192));
}

}  // namespace
}  // namespace inkstone
