// Files and errors for the tests of this folder.
#pragma once
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <functional>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <string>
#include <system_error>
#include <unistd.h>

#include "core/error.h"
#include "core/tensor.h"

namespace inkstone {

namespace fs = std::filesystem;

/// An empty folder that goes with its owner.
class TemporaryFolder {
 public:
  TemporaryFolder() {
    std::string name = (fs::temp_directory_path() / "inkstone-test-XXXXXX").string();
    if (mkdtemp(name.data()) == nullptr) throw std::system_error(errno, std::generic_category(), name);
    path_ = name;
  }
  TemporaryFolder(const TemporaryFolder&) = delete;
  TemporaryFolder& operator=(const TemporaryFolder&) = delete;
  ~TemporaryFolder() {
    std::error_code ignored;
    fs::remove_all(path_, ignored);
  }

  const fs::path& path() const { return path_; }
  fs::path operator/(const std::string& name) const { return path_ / name; }

 private:
  fs::path path_;
};

/// A test with an empty folder of its own.
class FolderTest : public ::testing::Test {
 protected:
  fs::path at(const std::string& name) const { return folder_ / name; }

  fs::path write(const std::string& name, std::string_view bytes) const {
    const fs::path path = at(name);
    fs::create_directories(path.parent_path());
    std::ofstream(path, std::ios::binary).write(bytes.data(), static_cast<std::streamsize>(bytes.size()));
    return path;
  }

  std::string read(const fs::path& path) const {
    std::ifstream file(path, std::ios::binary);
    return {std::istreambuf_iterator<char>(file), {}};
  }

  size_t files_in_folder() const {
    return static_cast<size_t>(std::distance(fs::directory_iterator(folder_), fs::directory_iterator()));
  }

  const TemporaryFolder temporary_;
  const fs::path folder_ = temporary_.path();
};

/// The text of the Error that `call` throws, which must be one line.
inline std::string error_of(const std::function<void()>& call) {
  try {
    call();
  } catch (const Error& e) {
    const std::string text = e.what();
    EXPECT_EQ(text.find('\n'), std::string::npos) << text;
    return text;
  }
  ADD_FAILURE() << "no error";
  return "";
}

/// A safetensors file with this header and `data_bytes` zeros.
inline std::string safetensors_bytes(const std::string& header, size_t data_bytes) {
  const uint64_t length = header.size();
  std::string bytes(sizeof(length), '\0');
  std::memcpy(bytes.data(), &length, sizeof(length));
  return bytes + header + std::string(data_bytes, '\0');
}

/// A tensor of f32 numbers 0, 1, 2, ... in `shape`.
inline Tensor counting(const Shape& shape) {
  Tensor t = host_tensor(shape, DType::f32);
  for (int64_t i = 0; i < t.count(); ++i) t.data<float>()[i] = static_cast<float>(i);
  return t;
}

inline Tensor in_bf16(const Tensor& f32) {
  Tensor t = host_tensor(f32.shape(), DType::bf16);
  for (int64_t i = 0; i < t.count(); ++i) t.data<bf16_t>()[i] = to_bf16(f32.data<float>()[i]);
  return t;
}

inline std::vector<float> values(const Tensor& f32) {
  EXPECT_EQ(f32.dtype(), DType::f32);
  const auto span = f32.span<const float>();
  return {span.begin(), span.end()};
}

}  // namespace inkstone
