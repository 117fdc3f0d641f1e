#include "engine/finite.h"

#include <algorithm>

#include "core/error.h"

namespace inkstone {
namespace {

constexpr int64_t kBlock = 4096;  // numbers that are looked at without a branch, so that the loop is vectorised

/// The bits that are all set in NaN and infinity: the exponent.
template <class Bits>
int64_t find_exponent(const Tensor& host, Bits exponent) {
  const Bits* numbers = host.data<const Bits>();
  const auto bad = [&](Bits x) { return (x & exponent) == exponent; };
  const int64_t count = host.count();
  for (int64_t begin = 0, end = 0; begin < count; begin = end) {
    end = std::min(begin + kBlock, count);
    int any = 0;
    for (int64_t i = begin; i < end; ++i) any |= static_cast<int>(bad(numbers[i]));
    if (any != 0) return std::find_if(numbers + begin, numbers + end, bad) - numbers;
  }
  return -1;
}

int64_t first_not_finite(const Tensor& host) {
  switch (host.dtype()) {
    case DType::f32:
      return find_exponent<uint32_t>(host, 0x7f800000);
    case DType::f16:
      return find_exponent<uint16_t>(host, 0x7c00);
    case DType::bf16:
      return find_exponent<uint16_t>(host, 0x7f80);
    default:
      return -1;
  }
}

/// "[1, 0, 5, 7]" of the number at `flat`.
std::string index_text(const Shape& shape, int64_t flat) {
  std::vector<int64_t> index;
  for (int i = shape.rank() - 1; i >= 0; --i) {
    index.insert(index.begin(), flat % shape[i]);
    flat /= shape[i];
  }
  return Shape(index).text();
}

}  // namespace

std::optional<std::string> find_not_finite(const Tensor& host) {
  const int64_t at = first_not_finite(host);
  if (at < 0) return std::nullopt;
  const float number = *to_f32(host.reshape({host.count()}).rows(at, at + 1)).data<const float>();
  return fmt::format("{} at {}", number, index_text(host.shape(), at));
}

void refuse_not_finite(const Checkpoint& files, const std::stop_token& stop) {
  const auto look_at = [&](const StoredTensor& tensor, std::string_view name) {
    if (stop.stop_requested()) throw Cancelled();
    if (const auto found = find_not_finite(tensor.data))
      fail("{}: holds {}, finite numbers are needed", describe(tensor, name), *found);
  };
  for (const auto& [name, tensor] : files.tensors) look_at(tensor, name);
  for (const auto& [layer, branches] : files.branches)
    for (const StoredBranch& branch : branches)
      for (const StoredTensor* half : {&branch.down, &branch.up}) look_at(*half, half->name);
}

}  // namespace inkstone
