#include "io/shard_file.h"

#include <csignal>
#include <sys/resource.h>

#include "io/files.h"

namespace inkstone {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

std::vector<SafetensorsEntry> two_tensors() {
  return {{.name = "bytes", .dtype = DType::u8, .shape = {3}},
          {.name = "numbers", .dtype = DType::f32, .shape = {2, 2}}};
}

std::span<const std::byte> bytes_of(const Tensor& t) { return std::as_bytes(std::span(t.data<char>(), t.bytes())); }

class ShardFileTest : public FolderTest {};

TEST_F(ShardFileTest, PiecesInAnyOrderMakeAFile) {
  const Tensor numbers = counting({2, 2});
  const Tensor bytes = host_tensor({3}, DType::u8);
  std::ranges::copy(std::string_view("abc"), bytes.data<char>());
  ShardFile shard(at("s.safetensors"), two_tensors(), {{"format", "pt"}});
  shard.write("numbers", 8, bytes_of(numbers).subspan(8));
  shard.write("bytes", 0, bytes_of(bytes));
  shard.write("numbers", 0, bytes_of(numbers).first(8));
  EXPECT_FALSE(fs::exists(at("s.safetensors")));
  shard.finish();
  EXPECT_EQ(files_in_folder(), 1u);

  const SafetensorsFile file = read_safetensors(at("s.safetensors"));
  EXPECT_EQ(file.metadata.at("format"), "pt");
  EXPECT_EQ(values(file.tensors.at("numbers").data), values(numbers));
  EXPECT_EQ(std::string(file.tensors.at("bytes").data.data<char>(), 3), "abc");
}

TEST_F(ShardFileTest, WhatIsNotFinishedLeavesNothing) {
  write("s.safetensors", "older");
  write(".s.safetensors.part",
        "left by a killed process, and longer than what is written now: " + std::string(999, 'x'));
  {
    ShardFile shard(at("s.safetensors"), two_tensors(), {});
    shard.write("numbers", 0, bytes_of(counting({2, 2})));
  }
  EXPECT_EQ(read(at("s.safetensors")), "older");
  EXPECT_EQ(files_in_folder(), 1u);
}

TEST_F(ShardFileTest, BytesThatDoNotFitAreRefused) {
  ShardFile shard(at("s.safetensors"), two_tensors(), {});
  EXPECT_THAT(error_of([&] {
                shard.write("numbers", 4, bytes_of(counting({2, 2})));
              }),
              AllOf(HasSubstr("s.safetensors: tensor numbers"), HasSubstr("16 bytes from byte 4 do not fit its 16")));
}

TEST_F(ShardFileTest, AFullDiskIsNamedAndLeavesNothing) {
  rlimit before = {};
  getrlimit(RLIMIT_FSIZE, &before);
  const auto handler = std::signal(SIGXFSZ, SIG_IGN);
  const rlimit small = {.rlim_cur = 4096, .rlim_max = before.rlim_max};
  setrlimit(RLIMIT_FSIZE, &small);
  const std::string error = error_of([&] {
    ShardFile shard(at("s.safetensors"), {{.name = "x", .dtype = DType::f32, .shape = {4096}}}, {});
    shard.write("x", 0, bytes_of(counting({4096})));
  });
  setrlimit(RLIMIT_FSIZE, &before);
  std::signal(SIGXFSZ, handler);
  EXPECT_THAT(error, AllOf(HasSubstr("s.safetensors: cannot write"), HasSubstr("File too large")));
  EXPECT_EQ(files_in_folder(), 0u);
}

TEST_F(ShardFileTest, AFolderThatIsNotThereIsNamed) {
  EXPECT_THAT(error_of([&] { ShardFile(at("none/s.safetensors"), two_tensors(), {}); }),
              AllOf(HasSubstr("none/s.safetensors: cannot write"), HasSubstr("No such file or directory")));
}

}  // namespace
}  // namespace inkstone
