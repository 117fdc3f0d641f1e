// Writes GGUF files for tests.
#pragma once
#include <cstring>
#include <string>
#include <vector>

#include "core/tensor.h"

namespace inkstone {

/// A GGUF file in the making, also of wrong ones: nothing is checked.
class GgufWriter {
 public:
  explicit GgufWriter(uint32_t version = 3, uint64_t alignment = 32) : version_(version), alignment_(alignment) {}

  GgufWriter& text(const std::string& key, const std::string& value) { return pair(key, 8) << value, *this; }
  GgufWriter& u32(const std::string& key, uint32_t value) { return pair(key, 4) << value, *this; }
  GgufWriter& f32(const std::string& key, float value) { return pair(key, 6) << value, *this; }
  GgufWriter& texts(const std::string& key, const std::vector<std::string>& values) {
    Bytes& out = pair(key, 9) << uint32_t{8} << uint64_t{values.size()};
    for (const std::string& value : values) out << value;
    return *this;
  }
  GgufWriter& i32s(const std::string& key, const std::vector<int32_t>& values) {
    Bytes& out = pair(key, 9) << uint32_t{5} << uint64_t{values.size()};
    for (const int32_t value : values) out << value;
    return *this;
  }
  /// A pair of any type, with the bytes of its value.
  GgufWriter& raw(const std::string& key, uint32_t type, const std::string& value) {
    pair(key, type).bytes += value;
    return *this;
  }

  /// `shape` outermost first; `type` is the format's number.
  GgufWriter& tensor(const std::string& name, uint32_t type, const std::vector<int64_t>& shape,
                     const std::string& data) {
    data_.resize((data_.size() + alignment_ - 1) / alignment_ * alignment_);
    return tensor_at(name, type, shape, data_.size(), data);
  }
  GgufWriter& tensor_at(const std::string& name, uint32_t type, const std::vector<int64_t>& shape, uint64_t offset,
                        const std::string& data) {
    infos_ << name << static_cast<uint32_t>(shape.size());
    for (size_t i = shape.size(); i-- > 0;) infos_ << shape[i];
    infos_ << type << offset;
    data_ += data;
    ++tensors_;
    return *this;
  }
  /// A float tensor as it is: F32, F16 or BF16.
  GgufWriter& tensor(const std::string& name, const Tensor& t) {
    std::vector<int64_t> shape;
    for (int i = 0; i < t.shape().rank(); ++i) shape.push_back(t.dim(i));
    const uint32_t type = t.dtype() == DType::f32 ? 0 : t.dtype() == DType::f16 ? 1 : 30;
    return tensor(name, type, shape, {t.data<const char>(), t.bytes()});
  }

  std::string bytes() const {
    Bytes all{"GGUF"};
    all << version_ << tensors_ << pairs_;
    all.bytes += metadata_.bytes + infos_.bytes;
    all.bytes.resize((all.bytes.size() + alignment_ - 1) / alignment_ * alignment_);
    return all.bytes + data_;
  }

 private:
  struct Bytes {
    std::string bytes;
    Bytes& operator<<(const std::string& text) {
      *this << uint64_t{text.size()};
      bytes += text;
      return *this;
    }
    template <class T>
    Bytes& operator<<(const T& number) {
      bytes.append(reinterpret_cast<const char*>(&number), sizeof number);
      return *this;
    }
  };

  Bytes& pair(const std::string& key, uint32_t type) {
    ++pairs_;
    return metadata_ << key << type;
  }

  uint32_t version_;
  uint64_t alignment_;
  uint64_t tensors_ = 0, pairs_ = 0;
  Bytes metadata_, infos_;
  std::string data_;
};

}  // namespace inkstone
