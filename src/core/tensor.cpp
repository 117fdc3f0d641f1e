#include "core/tensor.h"

#include <algorithm>
#include <cstring>
#include <new>

namespace inkstone {
namespace {

constexpr std::align_val_t kAlignment{64};  // a cache line, and the widest vector

struct HostBuffer final : Buffer {
  explicit HostBuffer(size_t n) : Buffer(::operator new(std::max<size_t>(n, 1), kAlignment), n) {}
  ~HostBuffer() override { ::operator delete(data, kAlignment); }
};

template <class T>
Tensor copy_of(std::span<const T> values, DType dtype) {
  Tensor t = host_tensor({static_cast<int64_t>(values.size())}, dtype);
  std::copy(values.begin(), values.end(), t.data<T>());
  return t;
}

template <class T>
void widen(const Tensor& from, const Tensor& to) {
  const auto source = from.span<const T>();
  std::transform(source.begin(), source.end(), to.data<float>(), [](T x) { return to_float(x); });
}

}  // namespace

Shape::Shape(std::span<const int64_t> dims) {
  check(dims.size() <= kMaxRank, "a tensor of rank {}: at most {} is supported", dims.size(), kMaxRank);
  for (const int64_t d : dims) dims_[static_cast<size_t>(rank_++)] = d;
}

int64_t Shape::count_of_first(int n) const {
  int64_t product = 1;
  for (int i = 0; i < n; ++i) product *= dims_[static_cast<size_t>(i)];
  return product;
}

int64_t Shape::count() const { return count_of_first(rank_); }

Shape Shape::with_first(int64_t n) const {
  Shape s = *this;
  s.dims_[0] = n;
  return s;
}

std::string Shape::text() const { return fmt::format("[{}]", fmt::join(dims_.begin(), dims_.begin() + rank_, ", ")); }

Tensor Tensor::rows(int64_t begin, int64_t end) const {
  check(0 <= begin && begin <= end && end <= dim(0), "rows {} to {} of a tensor {}", begin, end, shape_.text());
  const int64_t row = dim(0) == 0 ? 0 : count() / dim(0);
  const size_t bytes = static_cast<size_t>(begin * row) * size_of(dtype_);
  return {buffer_, offset_ + bytes, shape_.with_first(end - begin), dtype_};
}

Tensor Tensor::reshape(Shape shape) const {
  check(shape.count() == count(), "a tensor {} cannot be seen as {}", shape_.text(), shape.text());
  return {buffer_, offset_, shape, dtype_};
}

Tensor host_tensor(Shape shape, DType dtype) {
  const auto bytes = static_cast<size_t>(shape.count()) * size_of(dtype);
  return {std::make_shared<HostBuffer>(bytes), 0, shape, dtype};
}

Tensor host_tensor(std::span<const float> values) { return copy_of(values, DType::f32); }
Tensor host_tensor(std::span<const int32_t> values) { return copy_of(values, DType::i32); }

Tensor to_f32(const Tensor& host) {
  Tensor out = host_tensor(host.shape(), DType::f32);
  switch (host.dtype()) {
    case DType::f32:
      widen<float>(host, out);
      break;
    case DType::f16:
      widen<f16_t>(host, out);
      break;
    case DType::bf16:
      widen<bf16_t>(host, out);
      break;
    default:
      fail("a tensor of {} where F32, F16 or BF16 is needed", name_of(host.dtype()));
  }
  return out;
}

}  // namespace inkstone
