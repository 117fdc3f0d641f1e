#include "io/exif.h"

#include <cstring>
#include <libexif/exif-data.h>
#include <memory>

#include "core/error.h"

namespace inkstone {
namespace {

// A comment begins with the name of its character set, 8 bytes. EXIF 2.3 (4.6.5) has none for UTF-8 and says to leave
// those bytes zero for what it does not name.
constexpr std::string_view kUndefinedCharacters{"\0\0\0\0\0\0\0\0", 8};

struct ExifUnref {
  void operator()(ExifData* p) const { exif_data_unref(p); }
  void operator()(ExifMem* p) const { exif_mem_unref(p); }
  void operator()(ExifEntry* p) const { exif_entry_unref(p); }
};
template <class T>
using ExifPointer = std::unique_ptr<T, ExifUnref>;

template <class T>
ExifPointer<T> owned(T* p) {
  if (p == nullptr) throw std::bad_alloc();
  return ExifPointer<T>(p);
}

}  // namespace

std::vector<std::byte> exif_block(const std::string& comment) {
  check(comment.size() <= kMaxExifComment, "a description of {} bytes, at most {} fit into a JPEG or WebP file",
        comment.size(), kMaxExifComment);
  const std::string text = std::string(kUndefinedCharacters) + comment;
  const auto memory = owned(exif_mem_new_default());
  const auto data = owned(exif_data_new_mem(memory.get()));
  const auto entry = owned(exif_entry_new_mem(memory.get()));
  entry->tag = EXIF_TAG_USER_COMMENT;
  entry->format = EXIF_FORMAT_UNDEFINED;
  entry->components = text.size();
  entry->size = static_cast<unsigned>(text.size());
  entry->data = static_cast<unsigned char*>(exif_mem_alloc(memory.get(), static_cast<ExifLong>(text.size())));
  if (entry->data == nullptr) throw std::bad_alloc();
  std::memcpy(entry->data, text.data(), text.size());
  exif_content_add_entry(data->ifd[EXIF_IFD_EXIF], entry.get());

  unsigned char* saved = nullptr;
  unsigned size = 0;
  exif_data_save_data(data.get(), &saved, &size);
  const std::unique_ptr<unsigned char, decltype(&std::free)> bytes(saved, std::free);
  if (!bytes) throw std::bad_alloc();
  const auto* begin = reinterpret_cast<const std::byte*>(saved);
  return {begin, begin + size};
}

std::optional<std::string> exif_comment(std::span<const std::byte> block) {
  if (block.size() > UINT32_MAX) return std::nullopt;
  const auto data = owned(exif_data_new());
  exif_data_unset_option(data.get(), EXIF_DATA_OPTION_FOLLOW_SPECIFICATION);  // would rewrite comments
  exif_data_load_data(data.get(), reinterpret_cast<const unsigned char*>(block.data()),
                      static_cast<unsigned>(block.size()));
  const ExifEntry* entry = exif_content_get_entry(data->ifd[EXIF_IFD_EXIF], EXIF_TAG_USER_COMMENT);
  if (entry == nullptr || entry->data == nullptr) return std::nullopt;
  const std::string_view text(reinterpret_cast<const char*>(entry->data), entry->size);
  if (!text.starts_with(kUndefinedCharacters) || text.find_first_not_of('\0') == std::string_view::npos)
    return std::nullopt;
  return std::string(text.substr(kUndefinedCharacters.size()));
}

}  // namespace inkstone
