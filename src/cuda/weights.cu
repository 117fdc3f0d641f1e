// Weights of any format as dense numbers, and numbers of one type as another.
#include "cuda/packed.cuh"

namespace inkstone::cuda {
namespace {

constexpr int kPackedThreads = 64;  // each holds up to 256 numbers

/// Row i of the result is row i of the matrix, or row `rows[i]`.
__global__ void expand_elements(Output out, Matrix matrix, const int32_t* rows, int64_t count) {
  const int64_t i = int64_t{blockIdx.x} * blockDim.x + threadIdx.x;
  if (i >= count) return;
  const int64_t row = i / matrix.in;
  store(out, i, element(matrix, rows == nullptr ? row : rows[row], i % matrix.in));
}

/// A word of codes for each thread; groups hold whole words.
template <int kBits>
__global__ void expand_words(Output out, Matrix matrix, int64_t words) {
  constexpr int kPerWord = kWordBits / kBits;
  const int64_t i = int64_t{blockIdx.x} * blockDim.x + threadIdx.x;
  if (i >= words) return;
  const uint32_t word = static_cast<const uint32_t*>(matrix.data)[i];
  const int64_t group = i * kPerWord / matrix.group;
  const float scale = load(matrix.scales, group), offset = load(matrix.offsets, group);
  float values[kPerWord];
  expand_word<kBits>(word, scale, offset, values);
#pragma unroll
  for (int c = 0; c < kPerWord; c += 4)
    store4(out, i * kPerWord + c, make_float4(values[c], values[c + 1], values[c + 2], values[c + 3]));
}

/// A block for each thread; rows as in expand_elements.
template <WeightFormat kFormat, void (*kExpandBlock)(const uint8_t* block, float* out),
          int64_t kNumbers = layout_of(kFormat).numbers, int64_t kBytes = layout_of(kFormat).bytes>
__global__ void expand_packed(Output out, Matrix matrix, const int32_t* rows, int64_t blocks) {
  const int64_t i = int64_t{blockIdx.x} * blockDim.x + threadIdx.x;
  if (i >= blocks) return;
  const int64_t per_row = matrix.in / kNumbers;
  const int64_t from = rows == nullptr ? i : rows[i / per_row] * per_row + i % per_row;
  float values[kNumbers];
  kExpandBlock(static_cast<const uint8_t*>(matrix.data) + from * kBytes, values);
  for (int64_t c = 0; c < kNumbers; ++c) store(out, i * kNumbers + c, values[c]);
}

using PackedExpander = void (*)(Output out, Matrix matrix, const int32_t* rows, int64_t blocks);

struct PackedForm {
  template <WeightFormat format, void (*expand_block)(const uint8_t* block, float* out)>
  static PackedExpander of() {
    return expand_packed<format, expand_block>;
  }
};

void expand_rows(const Output& out, const Matrix& matrix, const int32_t* rows, int64_t n, cudaStream_t stream) {
  const int64_t count = n * matrix.in;
  if (count == 0) return;
  if (!is_packed(matrix)) {
    expand_elements<<<blocks_for(count), kThreads, 0, stream>>>(out, matrix, rows, count);
    return;
  }
  const int64_t blocks = count / layout_of(matrix.format).numbers;
  form_of_blocks<PackedForm>(matrix.format)<<<blocks_for(blocks, kPackedThreads), kPackedThreads, 0, stream>>>(
      out, matrix, rows, blocks);
}

__global__ void convert_fours(Output out, Numbers x, int64_t count) {
  const int64_t i = 4 * (int64_t{blockIdx.x} * blockDim.x + threadIdx.x);
  if (i < count) store4(out, i, load4(x, i));
}

__global__ void convert_elements(Output out, Numbers x, int64_t count) {
  const int64_t i = int64_t{blockIdx.x} * blockDim.x + threadIdx.x;
  if (i < count) store(out, i, load(x, i));
}

}  // namespace

void embed(float* out, const Matrix& table, const int32_t* ids, int64_t n, cudaStream_t stream) {
  expand_rows({out, DType::f32}, table, ids, n, stream);
}

void convert(const Output& out, const Numbers& x, int64_t count, cudaStream_t stream) {
  if (count == 0) return;
  if (fours(out, count) && fours(x, count)) {
    convert_fours<<<blocks_for(count / 4), kThreads, 0, stream>>>(out, x, count);
  } else {
    convert_elements<<<blocks_for(count), kThreads, 0, stream>>>(out, x, count);
  }
}

void expand(const Output& out, const Matrix& matrix, int64_t rows, cudaStream_t stream) {
  const int64_t count = rows * matrix.in;
  if (matrix.format == WeightFormat::f32) return convert(out, {matrix.data, DType::f32}, count, stream);
  if (matrix.format == WeightFormat::f16) return convert(out, {matrix.data, DType::f16}, count, stream);
  if (matrix.format == WeightFormat::bf16) return convert(out, {matrix.data, DType::bf16}, count, stream);
  if (out.type == DType::bf16 && matrix.offsets.data == nullptr)
    return expand_changed(out.data, matrix, rows, {}, stream);
  const bool in_words = matrix.offsets.data != nullptr && (matrix.bits == 4 || matrix.bits == 8) &&
                        matrix.group % (kWordBits / matrix.bits) == 0 && fours(out, count);
  if (!in_words) return expand_rows(out, matrix, nullptr, rows, stream);
  const int64_t words = count * matrix.bits / kWordBits;
  if (matrix.bits == 4) {
    expand_words<4><<<blocks_for(words), kThreads, 0, stream>>>(out, matrix, words);
  } else {
    expand_words<8><<<blocks_for(words), kThreads, 0, stream>>>(out, matrix, words);
  }
}

}  // namespace inkstone::cuda
