// Weights with changes of low rank added where they are expanded. Each number of the sum is made once, so a change
// costs its products and no passes over memory, however many rows the weights are multiplied with.
#include "cuda/packed.cuh"
#include "cuda/tensor_core.cuh"

namespace inkstone::cuda {
namespace {

constexpr int kRows = 64, kColumns = 256;  // of a block of threads
constexpr int kDepth = 64;                 // of a change, at once
constexpr int kEight = 8;                  // numbers of 16 bytes
constexpr int kPad = 8;                    // numbers: so that eight rows of one column never meet in a bank
constexpr int kMatrixSide = 16;            // of an instruction's matrices
constexpr int kWarpRows = 32, kWarpColumns = 64;
constexpr int kWarpsAcross = kColumns / kWarpColumns;
static_assert(kThreads / kWarp * kWarpRows * kWarpColumns == kRows * kColumns);

/// Shared memory, bf16: what is multiplied, then what it gave.
union Tile {
  struct {
    uint16_t up[kRows][kDepth + kPad];
    uint16_t down[kDepth][kColumns + kPad];
  } factors;
  uint16_t numbers[kRows][kColumns + kPad];
};

/// Accumulators of a thread.
using Sums = float[kWarpRows / kMatrixSide][kWarpColumns / 8][4];

/// The numbers of a matrix that a block of threads makes.
struct Place {
  int64_t rows, columns;  // of the matrix
  int64_t row, column;    // the first ones

  __device__ bool holds(int r, int c) const { return row + r < rows && column + c < columns; }
};

/// Numbers that can be read four at a time, wherever eight begin; else absent.
__device__ Numbers in_fours(const Matrix& m) {
  const bool is_plain =
      m.format == WeightFormat::f32 || m.format == WeightFormat::f16 || m.format == WeightFormat::bf16;
  if (!is_plain || m.in % kEight != 0 || !fits(m.data, sizeof(float4))) return {};
  return {m.data, m.format == WeightFormat::f32   ? DType::f32
                  : m.format == WeightFormat::f16 ? DType::f16
                                                  : DType::bf16};
}

__device__ const uint16_t* bf16_at(const Matrix& m, int64_t row, int64_t column) {
  return static_cast<const uint16_t*>(m.data) + row * m.in + column;
}

/// Eight neighbours times `factor` as bf16; zeros behind the end of the row.
__device__ uint4 rounded_eight(const Matrix& m, const Numbers& fours, int64_t row, int64_t column, float factor) {
  float values[kEight];
#pragma unroll
  for (int c = 0; c < kEight; c += 4) {
    float4 four = {};
    if (fours.data != nullptr) {
      four = load4(fours, row * m.in + column + c);
    } else {
      float* const each[] = {&four.x, &four.y, &four.z, &four.w};
      for (int i = 0; i < 4; ++i)
        if (column + c + i < m.in) *each[i] = element(m, row, column + c + i);
    }
    values[c] = four.x, values[c + 1] = four.y, values[c + 2] = four.z, values[c + 3] = four.w;
  }
  const auto pair = [&](int c) { return pack_bf16(factor * values[c], factor * values[c + 1]); };
  return {pair(0), pair(2), pair(4), pair(6)};
}

/// Fills a tile with numbers times `factor` from (row, column) on; zeros where there are none.
template <int kTileRows, int kTileColumns>
__device__ void fill(uint16_t (&to)[kTileRows][kTileColumns + kPad], const Matrix& m, const Place& at, float factor) {
  const Numbers fours = in_fours(m);
  const bool as_they_are = fours.data != nullptr && fours.type == DType::bf16 && factor == 1.0f;
  for (int i = threadIdx.x; i < kTileRows * kTileColumns / kEight; i += kThreads) {
    const int row = i / (kTileColumns / kEight), column = i % (kTileColumns / kEight) * kEight;
    const bool inside = at.holds(row, column);
    if (as_they_are) {
      copy_async(shared_address(&to[row][column]), inside ? bf16_at(m, at.row + row, at.column + column) : m.data,
                 inside);
    } else {
      *reinterpret_cast<uint4*>(&to[row][column]) =
          inside ? rounded_eight(m, fours, at.row + row, at.column + column, factor) : uint4{};
    }
  }
}

/// sums += up down, of this warp's part of a tile, over `depth` of its numbers.
__device__ void multiply(Sums& sums, const Tile& tile, int64_t depth) {
  const int warp = threadIdx.x / kWarp, lane = threadIdx.x % kWarp;
  const int row = warp / kWarpsAcross * kWarpRows, column = warp % kWarpsAcross * kWarpColumns;
  const int place = lane % kMatrixSide, half = lane / kMatrixSide * 8;  // as load_matrices() wants addresses
  for (int k = 0; k < kDepth && k < depth; k += kMatrixSide) {
    uint32_t up[kWarpRows / kMatrixSide][4];
#pragma unroll
    for (int m = 0; m < kWarpRows / kMatrixSide; ++m)
      load_matrices(up[m], shared_address(&tile.factors.up[row + m * kMatrixSide + place][k + half]));
#pragma unroll
    for (int n = 0; n < kWarpColumns / 8; n += 2) {
      uint32_t down[4];
      load_matrices_transposed(down, shared_address(&tile.factors.down[k + place][column + n * 8 + half]));
#pragma unroll
      for (int m = 0; m < kWarpRows / kMatrixSide; ++m) {
        multiply_add(sums[m][n], up[m], down[0], down[1]);
        multiply_add(sums[m][n + 1], up[m], down[2], down[3]);
      }
    }
  }
}

/// sums += factor * up down
__device__ void add_change(Sums& sums, Tile& tile, const Change& change, const Place& at) {
  const int64_t rank = change.up.in;
  for (int64_t k = 0; k < rank; k += kDepth) {
    fill<kRows, kDepth>(tile.factors.up, change.up, {at.rows, rank, at.row, k}, change.factor);
    fill<kDepth, kColumns>(tile.factors.down, change.down, {rank, at.columns, k, at.column}, 1.0f);
    commit_copies();
    wait_copies<0>();
    __syncthreads();
    multiply(sums, tile, rank - k);
    __syncthreads();
  }
}

/// Leaves the sums of all warps in the tile.
__device__ void put(Tile& tile, const Sums& sums) {
  const int warp = threadIdx.x / kWarp, lane = threadIdx.x % kWarp;
  const int row = warp / kWarpsAcross * kWarpRows + lane / 4;
  const int column = warp % kWarpsAcross * kWarpColumns + lane % 4 * 2;
#pragma unroll
  for (int m = 0; m < kWarpRows / kMatrixSide; ++m)
#pragma unroll
    for (int n = 0; n < kWarpColumns / 8; ++n)
#pragma unroll
      for (int half = 0; half < 2; ++half)
        *reinterpret_cast<uint32_t*>(&tile.numbers[row + m * kMatrixSide + half * 8][column + n * 8]) =
            pack_bf16(sums[m][n][2 * half], sums[m][n][2 * half + 1]);
}

// Forms of weights: kNumbers neighbours that a thread fetches, ahead of the products, and expands, behind them.

/// Any that stand alone, in rows of any length.
struct Singles {
  static constexpr int kNumbers = 8;
  struct Raw {
    int64_t row, column;
  };
  static __device__ Raw fetch(const Matrix&, int64_t row, int64_t column) { return {row, column}; }
  static __device__ void expand(const Matrix& m, const Raw& raw, float* values) {
#pragma unroll
    for (int c = 0; c < kNumbers; ++c) values[c] = raw.column + c < m.in ? element(m, raw.row, raw.column + c) : 0.0f;
  }
};

/// Numbers of one type in rows of whole eights, aligned to eight bytes.
template <WeightFormat kFormat>
struct Eights {
  static constexpr int kNumbers = 8;
  static constexpr int kPairs = layout_of(kFormat).bytes;  // of words, as many as a number has bytes
  struct Raw {
    uint2 pairs[kPairs];
    float scale;
  };
  static __device__ Raw fetch(const Matrix& m, int64_t row, int64_t column) {
    const int64_t i = row * m.in + column;
    Raw raw;
#pragma unroll
    for (int p = 0; p < kPairs; ++p) raw.pairs[p] = static_cast<const uint2*>(m.data)[i / kNumbers * kPairs + p];
    raw.scale = m.scales.data == nullptr ? 1.0f : load(m.scales, i / m.group);
    return raw;
  }
  static __device__ void expand(const Matrix&, const Raw& raw, float* values) {
#pragma unroll
    for (int c = 0; c < kNumbers; ++c)
      values[c] = raw.scale * number_at(kFormat, reinterpret_cast<const uint8_t*>(raw.pairs) + c * kPairs);
  }
};

/// Codes of groups that hold whole eights.
template <int kBits>
struct Codes {
  static constexpr int kNumbers = 8;
  static constexpr int kWords = kNumbers * kBits / kWordBits;
  struct Raw {
    uint32_t words[kWords];
    float scale, offset;
  };
  static __device__ Raw fetch(const Matrix& m, int64_t row, int64_t column) {
    const int64_t i = row * m.in + column;
    Raw raw;
#pragma unroll
    for (int w = 0; w < kWords; ++w) raw.words[w] = static_cast<const uint32_t*>(m.data)[i / kNumbers * kWords + w];
    raw.scale = load(m.scales, i / m.group), raw.offset = load(m.offsets, i / m.group);
    return raw;
  }
  static __device__ void expand(const Matrix&, const Raw& raw, float* values) {
#pragma unroll
    for (int w = 0; w < kWords; ++w)
      expand_word<kBits>(raw.words[w], raw.scale, raw.offset, values + w * (kWordBits / kBits));
  }
};

/// GGUF's blocks.
template <WeightFormat kFormat, void (*kExpandBlock)(const uint8_t* block, float* out)>
struct Blocks {
  static constexpr int kNumbers = layout_of(kFormat).numbers, kBytes = layout_of(kFormat).bytes;
  using Raw = const uint8_t*;
  static __device__ Raw fetch(const Matrix& m, int64_t row, int64_t column) {
    return static_cast<const uint8_t*>(m.data) + (row * m.in + column) / kNumbers * kBytes;
  }
  static __device__ void expand(const Matrix&, const Raw& block, float* values) { kExpandBlock(block, values); }
};

/// Evenly spread bits, the same for the same index.
__device__ uint32_t chance(int64_t index) {
  constexpr uint32_t kGoldenRatio = 0x9e3779b9u;  // of 2^32
  uint32_t bits = static_cast<uint32_t>(index) * kGoldenRatio;
  bits = (bits ^ bits >> 16) * kGoldenRatio;
  bits = (bits ^ bits >> 15) * kGoldenRatio;
  return bits ^ bits >> 16;
}

/// bf16 neighbours, the first with this index: rounded to the nearest, or up and down with a chance of 16 bits each.
__device__ uint32_t rounded_pair(float low, float high, int64_t index, bool by_chance) {
  if (!by_chance) return pack_bf16(low, high);
  const uint32_t chances = chance(index);
  const auto raised = [](float x, uint32_t by) { return __float_as_uint(x) + (isnan(x) ? 0 : by); };  // or NaN gives -0
  return raised(low, chances & 0xffffu) >> 16 | (raised(high, chances >> 16) & 0xffff0000u);
}

/// The numbers of a tile that this thread adds the matrix to.
template <class Form>
struct Share {
  static constexpr int kAcross = kColumns / Form::kNumbers;
  static constexpr int kEach = (kRows * kAcross + kThreads - 1) / kThreads;

  typename Form::Raw raw[kEach];

  template <class Work>
  __device__ void each(const Place& at, const Work& work) {
#pragma unroll
    for (int e = 0; e < kEach; ++e) {
      const int i = static_cast<int>(threadIdx.x) + e * kThreads;
      const int row = i / kAcross, column = i % kAcross * Form::kNumbers;
      if (row < kRows && at.holds(row, column)) work(raw[e], row, column);
    }
  }

  __device__ void fetch(const Matrix& m, const Place& at) {
    each(at, [&](auto& r, int row, int column) { r = Form::fetch(m, at.row + row, at.column + column); });
  }

  __device__ void add(Tile& tile, const Matrix& m, const Place& at, bool by_chance) {
    each(at, [&](const auto& r, int row, int column) {
      float values[Form::kNumbers];
      Form::expand(m, r, values);
      auto* pairs = reinterpret_cast<uint32_t*>(&tile.numbers[row][column]);
      const int64_t first = (at.row + row) * m.in + at.column + column;
      for (int c = 0; c < Form::kNumbers; c += 2) {
        const uint32_t pair = pairs[c / 2];
        pairs[c / 2] = rounded_pair(values[c] + float_of(pair << 16), values[c + 1] + float_of(pair & 0xffff0000u),
                                    first + c, by_chance);
      }
    });
  }
};

__device__ void store(uint16_t* out, const Tile& tile, const Place& at) {
  const bool wide = at.columns % kEight == 0 && fits(out, sizeof(uint4));
  for (int i = threadIdx.x; i < kRows * kColumns / kEight; i += kThreads) {
    const int row = i / (kColumns / kEight), column = i % (kColumns / kEight) * kEight;
    if (!at.holds(row, column)) continue;
    uint16_t* const to = out + (at.row + row) * at.columns + at.column + column;
    if (wide) {
      *reinterpret_cast<uint4*>(to) = *reinterpret_cast<const uint4*>(&tile.numbers[row][column]);
    } else {
      for (int c = 0; c < kEight && at.holds(row, column + c); ++c) to[c] = tile.numbers[row][column + c];
    }
  }
}

template <class Form>
__global__ void __launch_bounds__(kThreads)
    expand_and_add(uint16_t* out, Matrix matrix, Changes changes, int64_t rows) {
  __shared__ __align__(16) Tile tile;
  const Place at = {rows, matrix.in, int64_t{blockIdx.y} * kRows, int64_t{blockIdx.x} * kColumns};
  Share<Form> share;
  share.fetch(matrix, at);
  Sums sums = {};
  for (int i = 0; i < changes.count; ++i) add_change(sums, tile, changes.items[i], at);
  put(tile, sums);
  __syncthreads();
  share.add(tile, matrix, at, changes.count > 0);
  __syncthreads();
  store(out, tile, at);
}

using Adder = void (*)(uint16_t* out, Matrix matrix, Changes changes, int64_t rows);

struct AdderOfBlocks {
  template <WeightFormat format, void (*expand_block)(const uint8_t* block, float* out)>
  static Adder of() {
    return expand_and_add<Blocks<format, expand_block>>;
  }
};

Adder adder_for(const Matrix& m) {
  if (is_packed(m)) return form_of_blocks<AdderOfBlocks>(m.format);
  const bool eights =
      m.in % kEight == 0 && fits(m.data, sizeof(uint2)) && (m.scales.data == nullptr || m.group % kEight == 0);
  if (!eights) return expand_and_add<Singles>;
  switch (m.format) {
    case WeightFormat::f16:
      return expand_and_add<Eights<WeightFormat::f16>>;
    case WeightFormat::bf16:
      return expand_and_add<Eights<WeightFormat::bf16>>;
    case WeightFormat::f8_e4m3:
      return expand_and_add<Eights<WeightFormat::f8_e4m3>>;
    case WeightFormat::f8_e5m2:
      return expand_and_add<Eights<WeightFormat::f8_e5m2>>;
    case WeightFormat::affine4:
      return expand_and_add<Codes<4>>;
    case WeightFormat::affine8:
      return expand_and_add<Codes<8>>;
    default:
      return expand_and_add<Singles>;
  }
}

}  // namespace

void expand_changed(void* out, const Matrix& matrix, int64_t rows, const Changes& changes, cudaStream_t stream) {
  if (rows == 0) return;
  const dim3 grid = {blocks_for(matrix.in, kColumns), blocks_for(rows, kRows)};
  adder_for(matrix)<<<grid, kThreads, 0, stream>>>(static_cast<uint16_t*>(out), matrix, changes, rows);
}

}  // namespace inkstone::cuda
