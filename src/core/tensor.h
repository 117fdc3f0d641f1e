// A dense row-major array on one device. Cheap to copy: copies share the buffer.
#pragma once
#include <array>
#include <initializer_list>
#include <memory>
#include <span>
#include <string>

#include "core/dtype.h"
#include "core/error.h"

namespace inkstone {

/// Up to six sizes, outermost first (a convolution of the VAE's files has five).
class Shape {
 public:
  static constexpr int kMaxRank = 6;

  Shape() = default;
  Shape(std::initializer_list<int64_t> dims) : Shape(std::span(dims.begin(), dims.size())) {}
  explicit Shape(std::span<const int64_t> dims);

  int rank() const { return rank_; }
  int64_t operator[](int i) const { return dims_[static_cast<size_t>(i < 0 ? rank_ + i : i)]; }
  int64_t count() const;
  /// Product of all sizes but the last.
  int64_t rows() const { return rank_ > 0 ? count_of_first(rank_ - 1) : 1; }
  Shape with_first(int64_t n) const;
  std::string text() const;  ///< "[2, 3]"
  bool operator==(const Shape&) const = default;

 private:
  int64_t count_of_first(int n) const;

  std::array<int64_t, kMaxRank> dims_{};
  int rank_ = 0;
};

/// Memory that tensors share; freed or returned to its pool with the last of them.
struct Buffer {
  Buffer(void* d, size_t n) : data(d), bytes(n) {}
  Buffer(const Buffer&) = delete;
  Buffer& operator=(const Buffer&) = delete;
  virtual ~Buffer() = default;

  void* data;
  size_t bytes;
};

/// A view of `shape` elements of `dtype`, starting `offset` bytes into a buffer. Empty until assigned.
class Tensor {
 public:
  Tensor() = default;
  Tensor(std::shared_ptr<Buffer> buffer, size_t offset, Shape shape, DType dtype)
      : buffer_(std::move(buffer)), offset_(offset), shape_(shape), dtype_(dtype) {}

  explicit operator bool() const { return buffer_ != nullptr; }
  const Shape& shape() const { return shape_; }
  int64_t dim(int i) const { return shape_[i]; }
  int64_t count() const { return shape_.count(); }
  DType dtype() const { return dtype_; }
  size_t bytes() const { return static_cast<size_t>(count()) * size_of(dtype_); }

  /// The elements; the caller vouches that T is the dtype.
  template <class T>
  T* data() const {
    return reinterpret_cast<T*>(static_cast<std::byte*>(buffer_->data) + offset_);
  }
  template <class T>
  std::span<T> span() const {
    return {data<T>(), static_cast<size_t>(count())};
  }

  /// Rows [begin, end) of the first axis; shares the buffer.
  Tensor rows(int64_t begin, int64_t end) const;
  /// The same elements under another shape of equal count; shares the buffer.
  Tensor reshape(Shape shape) const;

  const std::shared_ptr<Buffer>& buffer() const { return buffer_; }
  size_t offset() const { return offset_; }

 private:
  std::shared_ptr<Buffer> buffer_;
  size_t offset_ = 0;
  Shape shape_;
  DType dtype_ = DType::f32;
};

/// An uninitialised tensor in host memory of its own.
Tensor host_tensor(Shape shape, DType dtype);

/// A host tensor (n) with a copy of `values`.
Tensor host_tensor(std::span<const float> values);
Tensor host_tensor(std::span<const int32_t> values);

/// A host f32 copy of a host tensor of any float type.
Tensor to_f32(const Tensor& host);

}  // namespace inkstone

/// Shapes print as in Shape::text(), made only where a message is.
template <>
struct fmt::formatter<inkstone::Shape> : fmt::formatter<std::string> {
  auto format(const inkstone::Shape& shape, fmt::format_context& context) const {
    return fmt::formatter<std::string>::format(shape.text(), context);
  }
};
