#include "core/mapped_file.h"

#include <fstream>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include "io/files.h"

namespace inkstone {
namespace {

using ::testing::HasSubstr;

class MappedFileTest : public FolderTest {
 protected:
  static std::string error_of_opening(const fs::path& path) {
    return error_of([&] { MappedFile::open(path); });
  }
};

TEST_F(MappedFileTest, GivesTheBytesOfAFile) {
  const fs::path path = folder_ / "file";
  std::ofstream(path) << "seven!!";
  const auto file = MappedFile::open(path);
  EXPECT_EQ(file->path(), path);
  const auto bytes = file->bytes();
  EXPECT_EQ(std::string(reinterpret_cast<const char*>(bytes.data()), bytes.size()), "seven!!");
}

TEST_F(MappedFileTest, StaysReadableAfterTheFileIsRemoved) {
  const fs::path path = folder_ / "file";
  std::ofstream(path) << "x";
  const auto file = MappedFile::open(path);
  fs::remove(path);
  EXPECT_EQ(file->bytes()[0], std::byte{'x'});
}

TEST_F(MappedFileTest, TellsThatTheFileChanged) {
  const fs::path path = folder_ / "file", other = folder_ / "other";
  for (const fs::path& made : {path, other}) std::ofstream(made) << "seven!!";
  const auto shorter = MappedFile::open(path), rewritten = MappedFile::open(other);
  shorter->check_unchanged();
  fs::resize_file(path, 3);
  EXPECT_THAT(error_of([&] { shorter->check_unchanged(); }),
              HasSubstr("file: changed while it was in use: 3 bytes now, 7"));
  fs::last_write_time(other, fs::last_write_time(other) + std::chrono::seconds(1));
  EXPECT_THAT(error_of([&] { rewritten->check_unchanged(); }),
              HasSubstr("other: changed while it was in use: written"));
}

TEST_F(MappedFileTest, ARemovedOrReplacedFileIsUnchanged) {
  const fs::path path = folder_ / "file";
  std::ofstream(path) << "seven!!";
  const auto file = MappedFile::open(path);
  fs::remove(path);
  file->check_unchanged();
  std::ofstream(path) << "x";
  file->check_unchanged();
  EXPECT_EQ(file->bytes().size(), 7u);
}

TEST_F(MappedFileTest, AnEmptyFileHasNoBytes) {
  std::ofstream(folder_ / "empty").close();
  EXPECT_TRUE(MappedFile::open(folder_ / "empty")->bytes().empty());
}

TEST_F(MappedFileTest, RefusesWhatIsNoRegularFile) {
  EXPECT_THAT(error_of_opening(folder_ / "none"), HasSubstr("none: cannot read: No such file"));
  EXPECT_THAT(error_of_opening(folder_), HasSubstr("is a folder"));
  ASSERT_EQ(mkfifo((folder_ / "pipe").c_str(), 0600), 0);
  EXPECT_THAT(error_of_opening(folder_ / "pipe"), HasSubstr("pipe: is not a regular file"));
}

}  // namespace
}  // namespace inkstone
