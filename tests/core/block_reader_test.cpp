#include "core/block_reader.h"

#include <cstring>
#include <fstream>
#include <gmock/gmock.h>

#include "io/files.h"

namespace inkstone {
namespace {

class BlockReaderTest : public FolderTest {
 protected:
  /// Writes and maps a file.
  std::shared_ptr<MappedFile> file_of(size_t bytes) const {
    std::string content(bytes, 0);
    for (size_t i = 0; i < bytes; ++i) content[i] = byte_at(i);
    std::ofstream(at(kName), std::ios::binary) << content;
    return MappedFile::open(at(kName));
  }
  static constexpr const char* kName = "weights";
  static char byte_at(size_t i) { return static_cast<char>((i * 2654435761u) >> 13); }

  static void expect_part(const FilePart& part, const std::byte* got) {
    std::string expected(part.bytes, 0);
    for (size_t i = 0; i < part.bytes; ++i) expected[i] = byte_at(part.begin + i);
    EXPECT_EQ(std::memcmp(got, expected.data(), part.bytes), 0) << part.begin;
    EXPECT_EQ(reinterpret_cast<uintptr_t>(got) % 64, part.begin % 64);  // as aligned as in the file
  }
};

TEST_F(BlockReaderTest, GivesEveryPartOfEveryBlockInAnyOrder) {
  constexpr size_t kBytes = (size_t{20} << 20) + 77;  // the last part ends within a unit
  const auto mapped = file_of(kBytes);
  const MappedFile* const file = mapped.get();
  const std::vector<FileBlock> blocks = {
      {{file, 8, 100}, {file, 4096, 4096}, {file, 5000, 3}},
      {{file, 123456, size_t{9} << 20}},
      {{file, kBytes - 1, 1}, {file, kBytes - 40000, 39000}, {file, 0, 1}},
  };
  for (const Caching caching : {Caching::cached, Caching::direct}) {
    BlockReader reader(blocks, caching);
    for (const size_t index : {0, 1, 2, 0, 1, 0, 0, 2}) {
      const auto places = reader.get(index);
      ASSERT_EQ(places.size(), blocks[index].size());
      for (size_t i = 0; i < places.size(); ++i) {
        expect_part(blocks[index][i], places[i]);
        const auto* begin = static_cast<const std::byte*>(reader.memory()->data);
        EXPECT_TRUE(places[i] >= begin && places[i] + blocks[index][i].bytes <= begin + reader.memory()->bytes);
      }
    }
    EXPECT_GT(reader.bytes_read(), size_t{27} << 20);
    EXPECT_GE(reader.waited_seconds(), 0);
  }
}

TEST_F(BlockReaderTest, HasTwoSlabsAsLargeAsTheLargestBlock) {
  const auto file = file_of(100000);
  const size_t bytes = BlockReader::slab_bytes({{{file.get(), 10, 10}}, {{file.get(), 0, 50000}}});
  EXPECT_GE(bytes, 2u * 50000);
  EXPECT_LE(bytes, 2u * (50000 + 2 * 4096));
}

TEST_F(BlockReaderTest, GivesNothingAfterAStop) {
  const auto file = file_of(100000);
  std::stop_source source;
  BlockReader reader({{{file.get(), 0, 100}}, {{file.get(), 5000, 90000}}}, Caching::cached, source.get_token());
  expect_part({file.get(), 0, 100}, reader.get(0).front());
  source.request_stop();  // block 1 may be there already
  EXPECT_THROW(reader.get(1), Cancelled);
}

TEST_F(BlockReaderTest, NamesAFileThatWasCut) {
  const auto file = file_of(100000);
  BlockReader reader({{{file.get(), 0, 100000}}}, Caching::cached);
  fs::resize_file(at(kName), 50000);
  const std::string cut = error_of([&] {
    reader.get(0);
    reader.get(0);  // the first may have been read in time
  });
  EXPECT_THAT(cut, ::testing::HasSubstr("weights: ends after 50000 bytes now; it was changed while in use"));
}

TEST_F(BlockReaderTest, RefusesAFileThatIsNotTheMappedOneAnyMore) {
  const auto file = file_of(1000);
  const auto error = [&] { return error_of([&] { BlockReader({{{file.get(), 0, 1000}}}, Caching::cached); }); };
  fs::remove(at(kName));
  EXPECT_THAT(error(), ::testing::HasSubstr("weights: cannot read: No such file"));
  const auto replacement = file_of(1000);
  EXPECT_THAT(error(), ::testing::HasSubstr("weights: changed while it was in use: replaced by another file"));
  BlockReader({{{replacement.get(), 0, 1000}}}, Caching::cached).get(0);
}

}  // namespace
}  // namespace inkstone
