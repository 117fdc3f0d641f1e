// Products of the transformer's linear layers at full size in bf16, FP8 and int8: time, rate and error of each way.
//
// Reference: f64 sums of the bf16 operands. Versions: cuBLASLt in bf16, in FP8 with one scale or with one a row
// (outer-vector scales), with the tensor cores' short sums or with f32 sums, and in int8; the passes around them:
// rounding activations with a scale a token, with and without a rotation before it, and multiplying with the scales
// afterwards.
#include <array>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cublasLt.h>
#include <cuda_bf16.h>
#include <string>
#include <vector>

#include "ladder.h"
#include "rounding.cuh"

namespace {

using namespace ladder;
using ladder::load_four;
using ladder::must;

constexpr size_t kWorkspaceBytes = size_t{64} << 20;
constexpr size_t kBeyondCache = size_t{192} << 20;  // three times an H200's L2
constexpr float kOutlierFactor = 100;

void must(cublasStatus_t status, const char* what) {
  must(status == CUBLAS_STATUS_SUCCESS, std::string(what) + ": " + cublasLtGetStatusString(status));
}

// Kernels.

__device__ float4 load_four(const int32_t* x, int64_t i) {
  const int4 v = reinterpret_cast<const int4*>(x)[i];
  return make_float4(static_cast<float>(v.x), static_cast<float>(v.y), static_cast<float>(v.z),
                     static_cast<float>(v.w));
}

/// d = product * row scale * column scale; grid (outs / (4 * kThreads), rows). d may be where the product is.
template <class From>
__global__ void rescale(__nv_bfloat16* d, const From* product, const float* row_scales, const float* column_scales) {
  const int column = static_cast<int>(blockIdx.x * kThreads + threadIdx.x);
  const int64_t i = int64_t{blockIdx.y} * gridDim.x * kThreads + column;
  const float4 v = load_four(product, i);
  const float4 s = reinterpret_cast<const float4*>(column_scales)[column];
  const float row = row_scales[blockIdx.y];
  __nv_bfloat162 pair[2] = {__floats2bfloat162_rn(v.x * s.x * row, v.y * s.y * row),
                            __floats2bfloat162_rn(v.z * s.z * row, v.w * s.w * row)};
  reinterpret_cast<uint2*>(d)[i] = reinterpret_cast<uint2&>(pair);
}

/// A warp per sampled output: adds the squares of its difference from the f64 product, and of that.
__global__ void add_squares(double* sums, const __nv_bfloat16* d, const __nv_bfloat16* x, const __nv_bfloat16* w,
                            int2 step, int2 size) {
  const int64_t row = int64_t{blockIdx.y} * step.x, out = int64_t{blockIdx.x} * step.y;
  double sum = 0;
  for (int k = static_cast<int>(threadIdx.x); k < size.y; k += kWarp)
    sum += double{__bfloat162float(x[row * size.y + k])} * double{__bfloat162float(w[out * size.y + k])};
  for (int offset = kWarp / 2; offset > 0; offset /= 2) sum += __shfl_xor_sync(kAllLanes, sum, offset);
  if (threadIdx.x != 0) return;
  const double difference = double{__bfloat162float(d[row * size.x + out])} - sum;
  atomicAdd(&sums[0], difference * difference);
  atomicAdd(&sums[1], sum * sum);
}

// cuBLASLt.

struct Shape {
  int rows, depth, outs;
  double flop() const { return 2.0 * rows * depth * outs; }
};

enum class Kind { bf16, fp8, fp8_row_scales, int8 };

/// d (rows, outs) = x (rows, depth) wᵀ by cuBLASLt's first choice, which is column-major: dᵀ = w xᵀ.
class Product {
 public:
  /// `scales`: of w and x, for Kind::fp8_row_scales alone.
  Product(cublasLtHandle_t handle, Kind kind, const Shape& shape, bool short_sums,
          std::array<const float*, 2> scales = {})
      : handle_(handle), kind_(kind) {
    const bool whole = kind == Kind::int8;
    const cudaDataType_t in = whole ? CUDA_R_8I : kind == Kind::bf16 ? CUDA_R_16BF : CUDA_R_8F_E4M3;
    must(cublasLtMatmulDescCreate(&desc_, whole ? CUBLAS_COMPUTE_32I : CUBLAS_COMPUTE_32F,
                                  whole ? CUDA_R_32I : CUDA_R_32F),
         "describing a product");
    set(CUBLASLT_MATMUL_DESC_TRANSA, CUBLAS_OP_T);
    if (short_sums) set(CUBLASLT_MATMUL_DESC_FAST_ACCUM, int8_t{1});
    const bool known = kind != Kind::fp8_row_scales || set_scales(scales);
    w_ = layout(in, shape.depth, shape.outs);
    x_ = layout(in, shape.depth, shape.rows);
    d_ = layout(whole ? CUDA_R_32I : CUDA_R_16BF, shape.outs, shape.rows);
    if (known) choose_algorithm();
  }
  ~Product() {
    for (const cublasLtMatrixLayout_t layout : {w_, x_, d_}) cublasLtMatrixLayoutDestroy(layout);
    cublasLtMatmulDescDestroy(desc_);
  }
  Product(const Product&) = delete;
  Product& operator=(const Product&) = delete;

  /// Whether this cuBLASLt and device have a kernel.
  bool offered() const { return offered_; }

  void run(void* d, const void* x, const void* w, void* workspace) const {
    const float one = 1, zero = 0;
    const int32_t whole_one = 1, whole_zero = 0;
    const bool whole = kind_ == Kind::int8;
    const void* alpha = whole ? static_cast<const void*>(&whole_one) : &one;
    const void* beta = whole ? static_cast<const void*>(&whole_zero) : &zero;
    must(cublasLtMatmul(handle_, desc_, alpha, w, w_, x, x_, beta, d, d_, d, d_, &algorithm_, workspace,
                        kWorkspaceBytes, nullptr),
         "a product");
  }

 private:
  template <class T>
  void set(cublasLtMatmulDescAttributes_t attribute, const T& value) {
    must(cublasLtMatmulDescSetAttribute(desc_, attribute, &value, sizeof(value)), "describing a product");
  }

  /// False where cuBLASLt is too old for them.
  bool set_scales([[maybe_unused]] const std::array<const float*, 2>& scales) {
#if CUDART_VERSION >= 12090
    set(CUBLASLT_MATMUL_DESC_A_SCALE_MODE, CUBLASLT_MATMUL_MATRIX_SCALE_OUTER_VEC_32F);
    set(CUBLASLT_MATMUL_DESC_B_SCALE_MODE, CUBLASLT_MATMUL_MATRIX_SCALE_OUTER_VEC_32F);
    set(CUBLASLT_MATMUL_DESC_A_SCALE_POINTER, scales[0]);
    set(CUBLASLT_MATMUL_DESC_B_SCALE_POINTER, scales[1]);
    return true;
#else
    return false;
#endif
  }

  static cublasLtMatrixLayout_t layout(cudaDataType_t type, int rows, int columns) {
    cublasLtMatrixLayout_t made = nullptr;
    must(cublasLtMatrixLayoutCreate(&made, type, static_cast<uint64_t>(rows), static_cast<uint64_t>(columns), rows),
         "describing a matrix");
    return made;
  }

  void choose_algorithm() {
    cublasLtMatmulPreference_t preference = nullptr;
    must(cublasLtMatmulPreferenceCreate(&preference), "choosing a kernel");
    must(cublasLtMatmulPreferenceSetAttribute(preference, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, &kWorkspaceBytes,
                                              sizeof(kWorkspaceBytes)),
         "choosing a kernel");
    cublasLtMatmulHeuristicResult_t found = {};
    int count = 0;
    const cublasStatus_t status =
        cublasLtMatmulAlgoGetHeuristic(handle_, desc_, w_, x_, d_, d_, preference, 1, &found, &count);
    cublasLtMatmulPreferenceDestroy(preference);
    offered_ = status == CUBLAS_STATUS_SUCCESS && count > 0;
    algorithm_ = found.algo;
  }

  cublasLtHandle_t handle_;
  Kind kind_;
  bool offered_ = false;
  cublasLtMatmulDesc_t desc_ = nullptr;
  cublasLtMatrixLayout_t w_ = nullptr, x_ = nullptr, d_ = nullptr;
  cublasLtMatmulAlgo_t algorithm_ = {};
};

template <class Code, bool kRotate>
void round_matrix(void* codes, float* scales, const __nv_bfloat16* x, int rows, int depth, float largest) {
  constexpr int kPart = kThreads * kLaneNumbers;
  auto* to = static_cast<Code*>(codes);
  if (depth == 3 * kPart) {
    round_rows<Code, 3, kRotate><<<rows, kThreads>>>(to, scales, x, largest);
  } else {
    must(depth == 12 * kPart, "a depth that round_rows was not compiled for");
    round_rows<Code, 12, kRotate><<<rows, kThreads>>>(to, scales, x, largest);
  }
  must(cudaGetLastError(), "rounding");
}

/// The operands of one layer. Weights lie there several times, since those of sixty blocks do not stay in the cache.
struct Layer {
  explicit Layer(const Shape& s)
      : shape(s),
        copies(static_cast<int>(kBeyondCache / weight_count()) + 1),
        x(size_t(s.rows) * s.depth),
        w(weight_count() * copies),
        d(size_t(s.rows) * s.outs),
        x_codes(size_t(s.rows) * s.depth),
        w_codes(weight_count() * copies),
        whole(size_t(s.rows) * s.outs),
        x_scales(s.rows),
        w_scales(s.outs) {}

  size_t weight_count() const { return size_t(shape.outs) * shape.depth; }
  const __nv_bfloat16* weight(int round) const { return w.data() + weight_count() * (round % copies); }
  const uint8_t* codes(int round) const { return w_codes.data() + weight_count() * (round % copies); }

  /// Outliers are `factor` times larger in x and as much smaller in w, so that the product is of the same size.
  void fill(float factor) {
    const auto draw = [this](__nv_bfloat16* to, size_t count, uint64_t seed, float outlier) {
      const auto blocks = static_cast<unsigned>((count + kThreads - 1) / kThreads);
      fill_normal<<<blocks, kThreads>>>(to, static_cast<int64_t>(count), shape.depth, seed << 40, outlier);
      must(cudaGetLastError(), "drawing numbers");
    };
    draw(x.data(), size_t(shape.rows) * shape.depth, 1, factor);
    draw(w.data(), weight_count(), 2, 1 / factor);
    for (int i = 1; i < copies; ++i)
      must(cudaMemcpy(w.data() + weight_count() * i, w.data(), weight_count() * sizeof(__nv_bfloat16),
                      cudaMemcpyDefault),
           "copying weights");
  }

  template <class Code, bool kRotate>
  void round_both(float largest) {
    round_matrix<Code, kRotate>(x_codes.data(), x_scales.data(), x.data(), shape.rows, shape.depth, largest);
    round_matrix<Code, kRotate>(w_codes.data(), w_scales.data(), w.data(), shape.outs, shape.depth, largest);
    for (int i = 1; i < copies; ++i)
      must(cudaMemcpy(w_codes.data() + weight_count() * i, w_codes.data(), weight_count(), cudaMemcpyDefault),
           "copying codes");
  }

  dim3 rescale_grid() const {
    return dim3(static_cast<unsigned>(shape.outs / (kThreads * kLaneNumbers)), static_cast<unsigned>(shape.rows));
  }
  void rescale_whole() {
    rescale<<<rescale_grid(), kThreads>>>(d.data(), whole.data(), x_scales.data(), w_scales.data());
  }
  void rescale_in_place() {
    rescale<<<rescale_grid(), kThreads>>>(d.data(), d.data(), x_scales.data(), w_scales.data());
  }

  /// ‖d - reference‖ / ‖reference‖ over every 17th row and every 12th output.
  double error() const {
    const int2 step = {17, 12};
    Buffer<double> sums(2);
    must(cudaMemset(sums.data(), 0, sums.bytes()), "clearing sums");
    const dim3 grid(static_cast<unsigned>(shape.outs / step.y), static_cast<unsigned>(shape.rows / step.x));
    add_squares<<<grid, kWarp>>>(sums.data(), d.data(), x.data(), w.data(), step, {shape.outs, shape.depth});
    std::array<double, 2> squares = {};
    must(cudaMemcpy(squares.data(), sums.data(), sums.bytes(), cudaMemcpyDefault), "checking");
    return std::sqrt(squares[0] / squares[1]);
  }

  Shape shape;
  int copies;
  Buffer<__nv_bfloat16> x, w, d;
  Buffer<uint8_t> x_codes, w_codes;
  Buffer<int32_t> whole;
  Buffer<float> x_scales, w_scales;
};

/// The products of one layer in every way that cuBLASLt offers.
struct Products {
  Products(cublasLtHandle_t handle, Layer& layer)
      : bf16(handle, Kind::bf16, layer.shape, false),
        fp8_short(handle, Kind::fp8, layer.shape, true),
        fp8(handle, Kind::fp8, layer.shape, false),
        rows_short(handle, Kind::fp8_row_scales, layer.shape, true, {layer.w_scales.data(), layer.x_scales.data()}),
        rows(handle, Kind::fp8_row_scales, layer.shape, false, {layer.w_scales.data(), layer.x_scales.data()}),
        int8(handle, Kind::int8, layer.shape, false) {}
  Product bf16, fp8_short, fp8, rows_short, rows, int8;
};

using Fp8 = __nv_fp8_storage_t;

/// What there is in bf16 and in one of the 8-bit codes, which the layer holds.
std::vector<Step> steps_of(Layer& l, const Products& p, bool whole, void* workspace) {
  std::vector<Step> steps;
  const auto codes = [&](const char* name, const Product& of, void* d) {
    const auto work = [&l, &of, d, workspace](int round) { of.run(d, l.x_codes.data(), l.codes(round), workspace); };
    if (of.offered()) steps.push_back({name, work});
  };
  const auto round_x = [&l](auto code, auto rotated, float largest) {
    return [&l, largest](int) {
      round_matrix<decltype(code), decltype(rotated)::value>(l.x_codes.data(), l.x_scales.data(), l.x.data(),
                                                             l.shape.rows, l.shape.depth, largest);
    };
  };
  const double x = double(l.shape.rows) * l.shape.depth, d = double(l.shape.rows) * l.shape.outs;
  steps.push_back(
      {"bf16", [&l, &p, workspace](int round) { p.bf16.run(l.d.data(), l.x.data(), l.weight(round), workspace); }});
  if (whole) {
    codes("int8 to int32", p.int8, l.whole.data());
    steps.push_back({"rescale int32 to bf16", [&l](int) { l.rescale_whole(); }, 6 * d});
    steps.push_back({"round x, rotated, to int8", round_x(int8_t{}, std::true_type{}, kInt8Largest), 3 * x});
    steps.push_back({"round x to int8", round_x(int8_t{}, std::false_type{}, kInt8Largest), 3 * x});
  } else {
    codes("fp8, one scale, short sums", p.fp8_short, l.d.data());
    codes("fp8, one scale", p.fp8, l.d.data());
    codes("fp8, row scales, short sums", p.rows_short, l.d.data());
    codes("fp8, row scales", p.rows, l.d.data());
    steps.push_back({"rescale bf16 in place", [&l](int) { l.rescale_in_place(); }, 4 * d});
    steps.push_back({"round x to fp8", round_x(Fp8{}, std::false_type{}, kFp8Largest), 3 * x});
  }
  return steps;
}

/// What rounding may cost. Outliers may spoil all but bf16; NaN is below no bound.
double bound_of(const Product& product, const Products& all, bool outliers) {
  if (&product == &all.bf16) return 5e-3;
  if (outliers) return 1;
  return &product == &all.int8 ? 2e-2 : 5e-2;
}

void print_errors(Layer& l, const Products& p, bool outliers, void* workspace) {
  const auto check = [&](const char* name, const Product& product, const auto& prepare, const auto& finish) {
    if (!product.offered()) return;
    l.d.poison();
    prepare();
    if (&product == &p.bf16) {
      product.run(l.d.data(), l.x.data(), l.weight(0), workspace);
    } else {
      void* d = &product == &p.int8 ? static_cast<void*>(l.whole.data()) : l.d.data();
      product.run(d, l.x_codes.data(), l.codes(0), workspace);
    }
    finish();
    const double error = l.error();
    std::printf("  %-28s %.2e\n", name, error);
    must(error < bound_of(product, p, outliers), std::string(name) + ": the error is too large");
  };
  const auto nothing = [] {};
  const auto fp8 = [&l] { l.round_both<Fp8, false>(kFp8Largest); };
  const auto fp8_rotated = [&l] { l.round_both<Fp8, true>(kFp8Largest); };
  const auto whole = [&l] { l.rescale_whole(); };
  check("bf16", p.bf16, nothing, nothing);
  check("fp8, rescaled, short sums", p.fp8_short, fp8, [&l] { l.rescale_in_place(); });
  check("fp8, rescaled", p.fp8, fp8, [&l] { l.rescale_in_place(); });
  check("fp8, row scales, short sums", p.rows_short, fp8, nothing);
  check("fp8, row scales", p.rows, fp8, nothing);
  check("the same, rotated", p.rows, fp8_rotated, nothing);
  check(
      "int8", p.int8, [&l] { l.round_both<int8_t, false>(kInt8Largest); }, whole);
  check(
      "int8, rotated", p.int8, [&l] { l.round_both<int8_t, true>(kInt8Largest); }, whole);
}

void measure(cublasLtHandle_t handle, const Shape& shape, void* workspace) {
  Layer layer(shape);
  const Products products(handle, layer);
  std::printf("\n%d rows, %d -> %d\n", shape.rows, shape.depth, shape.outs);
  layer.fill(1);
  layer.round_both<Fp8, false>(kFp8Largest);
  print_times(shape.flop(), steps_of(layer, products, false, workspace));
  layer.round_both<int8_t, false>(kInt8Largest);
  print_times(shape.flop(), steps_of(layer, products, true, workspace));
  std::printf("  relative error, normal numbers\n");
  print_errors(layer, products, false, workspace);
  std::printf("  relative error, outliers\n");
  layer.fill(kOutlierFactor);
  print_errors(layer, products, true, workspace);
}

}  // namespace

int main() {
  print_head();
  cublasLtHandle_t handle = nullptr;
  must(cublasLtCreate(&handle), "starting cuBLASLt");
  std::printf("cuBLASLt %zu\n", cublasLtGetVersion());
  const Buffer<uint8_t> workspace(kWorkspaceBytes);
  for (const int rows : {1088, 4160}) {  // 512x512 and 1024x1024, 64 tokens of text
    measure(handle, {rows, 3072, 3072}, workspace.data());
    measure(handle, {rows, 3072, 9216}, workspace.data());
    measure(handle, {rows, 3072, 12288}, workspace.data());
    measure(handle, {rows, 12288, 3072}, workspace.data());
  }
  cublasLtDestroy(handle);
}
