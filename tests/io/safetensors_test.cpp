#include "io/safetensors.h"

#include "io/files.h"

namespace inkstone {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::EndsWith;
using ::testing::HasSubstr;
using ::testing::StartsWith;

class SafetensorsTest : public FolderTest {
 protected:
  std::string error_of_header(const std::string& header, size_t data_bytes) {
    const fs::path path = write("bad.safetensors", safetensors_bytes(header, data_bytes));
    const std::string text = error_of([&] { read_safetensors(path); });
    EXPECT_THAT(text, HasSubstr("bad.safetensors"));
    return text;
  }
};

TEST_F(SafetensorsTest, ReadsWhatItWrote) {
  const Tensor f32 = counting({2, 3});
  write_safetensors(at("t.safetensors"), {{"a", in_bf16(counting({3}))}, {"b", f32}, {"scalar", counting({})}},
                    {{"format", "pt"}, {"note", "Tusche 墨\n"}});
  const SafetensorsFile file = read_safetensors(at("t.safetensors"));
  ASSERT_EQ(file.tensors.size(), 3u);
  EXPECT_EQ(values(file.tensors.at("b").data), values(f32));
  EXPECT_EQ(file.tensors.at("b").data.shape(), f32.shape());
  EXPECT_EQ(values(to_f32(file.tensors.at("a").data)), values(counting({3})));
  EXPECT_EQ(file.tensors.at("scalar").data.count(), 1);
  EXPECT_EQ(file.metadata.at("note"), "Tusche 墨\n");
  EXPECT_EQ(files_in_folder(), 1u);
}

TEST_F(SafetensorsTest, TensorsOfAFileShareItsMapping) {
  write_safetensors(at("t.safetensors"), {{"a", counting({3})}, {"b", counting({5})}, {"c", in_bf16(counting({3}))}});
  const SafetensorsFile file = read_safetensors(at("t.safetensors"));
  const auto& buffer = file.tensors.at("a").data.buffer();
  EXPECT_EQ(buffer, file.tensors.at("b").data.buffer());
  EXPECT_EQ(buffer, file.tensors.at("c").data.buffer());
  EXPECT_EQ(buffer->bytes, fs::file_size(at("t.safetensors")));
}

TEST_F(SafetensorsTest, ATensorOutlivesTheFileObject) {
  write_safetensors(at("t.safetensors"), {{"a", counting({4})}});
  const Tensor a = read_safetensors(at("t.safetensors")).tensors.at("a").data;
  EXPECT_THAT(values(a), ElementsAre(0, 1, 2, 3));
}

TEST_F(SafetensorsTest, MisalignedTensorsAreCopied) {
  std::string header = R"({"x":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}})";
  while (header.size() % 4 != 1) header += ' ';
  std::string bytes = safetensors_bytes(header, 0);
  const float numbers[] = {1.5f, -2.0f};
  bytes.append(reinterpret_cast<const char*>(numbers), sizeof(numbers));
  const SafetensorsFile file = read_safetensors(write("t.safetensors", bytes));
  const Tensor& x = file.tensors.at("x").data;
  EXPECT_EQ(reinterpret_cast<uintptr_t>(x.data<float>()) % alignof(float), 0u);
  EXPECT_THAT(values(x), ElementsAre(1.5f, -2.0f));
}

TEST_F(SafetensorsTest, ReadsEveryDtype) {
  std::string header = "{";
  size_t end = 0;
  for (int i = 0; i <= static_cast<int>(DType::boolean); ++i) {
    const auto type = static_cast<DType>(i);
    header += fmt::format(R"({}"{}":{{"dtype":"{}","shape":[1],"data_offsets":[{},{}]}})", i == 0 ? "" : ",", i,
                          name_of(type), end, end + size_of(type));
    end += size_of(type);
  }
  const auto file = read_safetensors(write("t.safetensors", safetensors_bytes(header + "}", end)));
  for (const auto& [name, tensor] : file.tensors) EXPECT_EQ(tensor.data.dtype(), static_cast<DType>(std::stoi(name)));
  EXPECT_EQ(file.tensors.size(), 15u);
}

TEST_F(SafetensorsTest, AcceptsNoTensorsAndEmptyTensors) {
  EXPECT_TRUE(read_safetensors(write("none.safetensors", safetensors_bytes("{}", 0))).tensors.empty());
  const auto file = read_safetensors(
      write("t.safetensors", safetensors_bytes(R"({"e":{"dtype":"F32","shape":[0,4],"data_offsets":[0,0]}})", 0)));
  EXPECT_EQ(file.tensors.at("e").data.count(), 0);
}

TEST_F(SafetensorsTest, AFileCutAtAnyByteIsRefused) {
  write_safetensors(at("whole.safetensors"), {{"a", counting({3})}, {"b", counting({1})}});
  const std::string whole = read(at("whole.safetensors"));
  for (size_t n = 0; n < whole.size(); ++n) {
    const fs::path path = write("cut.safetensors", whole.substr(0, n));
    EXPECT_THAT(error_of([&] { read_safetensors(path); }), HasSubstr("cut.safetensors")) << n;
  }
}

TEST_F(SafetensorsTest, AbsurdHeaderLengthsAreRefused) {
  for (const uint64_t length : {uint64_t{3}, uint64_t{99'999'999}, uint64_t{1} << 40, ~uint64_t{0}, ~uint64_t{0} - 7}) {
    std::string bytes = safetensors_bytes("{}", 0);
    std::memcpy(bytes.data(), &length, sizeof(length));
    const fs::path path = write("bad.safetensors", bytes);
    EXPECT_THAT(error_of([&] { read_safetensors(path); }), HasSubstr("header of " + std::to_string(length)));
  }
}

TEST_F(SafetensorsTest, OtherFilesAreNamedAsSuch) {
  const std::string png("\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0\1\0", 20);
  for (const std::string& foreign : {png, std::string("version https://git-lfs.github.com/spec/v1\n"),
                                     std::string(100, '\0'), safetensors_bytes("[]", 0)}) {
    const fs::path path = write("foreign", foreign);
    EXPECT_THAT(error_of([&] { read_safetensors(path); }),
                StartsWith(path.string() + ": is not a safetensors file, which is needed: it begins with \""));
  }
  const fs::path path = write("foreign", "version https://git-lfs.github.com/spec/v1\n");
  EXPECT_THAT(error_of([&] { read_safetensors(path); }), EndsWith("begins with \"version https://\""));
}

TEST_F(SafetensorsTest, TruncatedFilesSaySo) {
  const std::string whole = safetensors_bytes(R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}})", 8);
  const size_t header = whole.size() - 16;
  const auto error_of_first = [&](size_t n) {
    const fs::path path = write("cut.safetensors", whole.substr(0, n));
    return error_of([&] { read_safetensors(path); }).substr(path.string().size());
  };
  EXPECT_EQ(error_of_first(7), ": 7 bytes: not a safetensors file (is it truncated?)");
  for (const size_t left : {size_t{0}, size_t{1}, header - 1})
    EXPECT_EQ(error_of_first(8 + left),
              fmt::format(": a header of {} bytes, but the file ends after {} (is it truncated?)", header, left));
  EXPECT_EQ(error_of_first(whole.size() - 1),
            ": tensor \"a\": its data ends at byte 8, the file holds 7 bytes of data (is it truncated?)");
}

TEST_F(SafetensorsTest, MetadataMayBeNull) {
  const fs::path path = write("mlx.safetensors", safetensors_bytes(R"({"__metadata__":null})", 0));
  EXPECT_TRUE(read_safetensors(path).metadata.empty());
}

TEST_F(SafetensorsTest, BrokenHeadersAreRefused) {
  EXPECT_THAT(error_of_header("{\"a\"", 0), HasSubstr("not valid JSON"));
  EXPECT_THAT(error_of_header("{\"a\xff\":{}}", 0), HasSubstr("not valid JSON"));
  EXPECT_THAT(error_of_header(R"({"a":1})", 0), HasSubstr("dtype, shape and data_offsets"));
  EXPECT_THAT(error_of_header(R"({"a":{"dtype":"F32","shape":[]}})", 0), HasSubstr("dtype, shape and data_offsets"));
  EXPECT_THAT(error_of_header(R"({"__metadata__":[]})", 0), HasSubstr("__metadata__"));
  EXPECT_THAT(error_of_header(R"({"__metadata__":{"a":1}})", 0), HasSubstr("must hold strings"));
}

TEST_F(SafetensorsTest, ANameGivenTwiceIsRefused) {
  EXPECT_THAT(error_of_header(R"({"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},)"
                              R"("a":{"dtype":"U8","shape":[1],"data_offsets":[1,2]}})",
                              2),
              HasSubstr("\"a\" is given twice"));
}

TEST_F(SafetensorsTest, UnknownDtypesAreRefusedWithTheKnownOnes) {
  EXPECT_THAT(error_of_header(R"({"a":{"dtype":"F4","shape":[1],"data_offsets":[0,1]}})", 1),
              AllOf(HasSubstr("\"F4\""), HasSubstr("BF16"), HasSubstr("\"a\"")));
  EXPECT_THAT(error_of_header(R"({"a":{"dtype":7,"shape":[1],"data_offsets":[0,1]}})", 1),
              HasSubstr("unknown dtype 7"));
}

TEST_F(SafetensorsTest, BadShapesAreRefused) {
  const auto with_shape = [&](const std::string& shape) {
    return error_of_header(R"({"a":{"dtype":"F32","shape":)" + shape + R"(,"data_offsets":[0,4]}})", 4);
  };
  EXPECT_THAT(with_shape("[-1]"), HasSubstr("whole numbers from 0, found -1"));
  EXPECT_THAT(with_shape("[1.5]"), HasSubstr("found 1.5"));
  EXPECT_THAT(with_shape("[\"1\"]"), HasSubstr("found \"1\""));
  EXPECT_THAT(with_shape("4"), HasSubstr("must be an array"));
  EXPECT_THAT(with_shape("[1,1,1,1,1,1,1]"), HasSubstr("7 axes"));
  EXPECT_THAT(with_shape("[18446744073709551615]"), HasSubstr("too large"));
  EXPECT_THAT(with_shape("[4294967296,4294967296]"), HasSubstr("too large"));
  EXPECT_THAT(with_shape("[4611686018427387905]"), HasSubstr("too large")) << "4 times this is 4 modulo 2^64";
  EXPECT_THAT(with_shape("[9223372036854775807,9223372036854775807,0]"), HasSubstr("too large"));
  EXPECT_THAT(with_shape("[2]"), HasSubstr("F32 [2] needs 8 bytes, its data_offsets span 4"));
}

TEST_F(SafetensorsTest, BadOffsetsAreRefused) {
  const auto with_offsets = [&](const std::string& offsets) {
    return error_of_header(R"({"a":{"dtype":"F32","shape":[1],"data_offsets":)" + offsets + "}}", 4);
  };
  EXPECT_THAT(with_offsets("[4,0]"), HasSubstr("two rising numbers"));
  EXPECT_THAT(with_offsets("[0]"), HasSubstr("two rising numbers"));
  EXPECT_THAT(with_offsets("[0,2,4]"), HasSubstr("two rising numbers"));
  EXPECT_THAT(with_offsets("[-4,0]"), HasSubstr("found -4"));
  EXPECT_THAT(with_offsets("[4,8]"), HasSubstr("ends at byte 8, the file holds 4"));
  EXPECT_THAT(with_offsets("[18446744073709551612,18446744073709551615]"), HasSubstr("ends at byte"));
  EXPECT_THAT(with_offsets("{}"), HasSubstr("must be an array"));
}

TEST_F(SafetensorsTest, OverlapsAndGapsAreRefused) {
  const auto two = [&](const std::string& a, const std::string& b, size_t data) {
    return error_of_header(R"({"a":{"dtype":"U8","shape":[4],"data_offsets":)" + a +
                               R"(},"b":{"dtype":"U8","shape":[4],"data_offsets":)" + b + "}}",
                           data);
  };
  EXPECT_THAT(two("[0,4]", "[2,6]", 6),
              HasSubstr("\"a\" and \"b\" overlap: one ends at byte 4 of the data, the next begins at 2"));
  EXPECT_THAT(two("[0,4]", "[0,4]", 4), HasSubstr("overlap"));
  EXPECT_THAT(two("[0,4]", "[5,9]", 9), HasSubstr("1 bytes before tensor \"b\""));
  EXPECT_THAT(two("[1,5]", "[5,9]", 9), HasSubstr("1 bytes before tensor \"a\""));
  EXPECT_THAT(two("[0,4]", "[4,8]", 9), HasSubstr("the last 1 bytes"));
}

TEST_F(SafetensorsTest, WhatIsNoFileIsRefused) {
  EXPECT_THAT(error_of([&] { read_safetensors(at("none")); }), HasSubstr("No such file"));
  EXPECT_THAT(error_of([&] { read_safetensors(folder_); }), HasSubstr("is a folder"));
}

}  // namespace
}  // namespace inkstone
