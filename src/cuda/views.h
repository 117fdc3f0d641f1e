// Tensors and their kin as the .cu files take them.
#pragma once
#include "cuda/context.h"
#include "cuda/cuda_error.h"
#include "ops/kernels.h"

namespace inkstone {

inline cuda::Numbers numbers(const Tensor& t) {
  return t ? cuda::Numbers{t.data<const void>(), t.dtype()} : cuda::Numbers{};
}
inline cuda::Output output(const Tensor& t) { return {t.data<void>(), t.dtype()}; }

/// Whether four numbers can be read at once wherever four begin.
inline bool lies_in_fours(const Tensor& t) {
  return reinterpret_cast<uintptr_t>(t.data<const std::byte>()) % (4 * size_of(t.dtype())) == 0;
}

/// The same memory for numbers of another type, which may not be wider.
inline Tensor retyped(const Tensor& t, DType type) { return {t.buffer(), t.offset(), t.shape(), type}; }

/// Memory for the same numbers in a narrower type. `t`, which nobody has written yet, is given up before.
Tensor narrowed(CudaContext& context, Tensor t, DType type);

/// (n, d) numbers in 8 bits are a tensor of F8_E4M3, the codes, with the n scales behind it in the same memory.
inline cuda::Rounded rounded(const Tensor& codes) {
  return {codes.data<uint8_t>(), reinterpret_cast<float*>(codes.data<std::byte>() + codes.bytes())};
}
/// The memory that both take, in u8.
inline Shape rounded_shape(int64_t n, int64_t d) { return {n, d + static_cast<int64_t>(sizeof(float))}; }
/// A copy in 8 bits.
Tensor rounded_copy(CudaContext& context, const Tensor& x);

inline cuda::Matrix matrix(const Weight& w) {
  return {.data = w.data.data<const void>(),
          .format = w.format,
          .bits = bits_of(layout_of(w.format)),
          .group = w.group,
          .in = w.in,
          .scales = numbers(w.scales),
          .offsets = numbers(w.offsets)};
}

cuda::SequenceStarts sequence_starts(CudaContext& context, const Sequences& sequences);
cuda::RowVectors row_vectors(CudaContext& context, const SequenceRows& vectors);

/// A whole matrix as numbers that products read.
Tensor dense(CudaContext& context, const Weight& weight);

/// A tensor as numbers of a type: itself, or a copy.
Tensor as_type(CudaContext& context, const Tensor& t, DType type);

/// To be called after kernels were put into the stream: refused launches show only here.
inline void check_launch(const char* op) { check_cuda(cudaGetLastError(), op); }

}  // namespace inkstone
