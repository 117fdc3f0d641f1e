#include "cuda/cublas.h"

#include <algorithm>
#include <array>
#include <cstdlib>
#include <cublasLt.h>
#include <dlfcn.h>
#include <filesystem>

#include "core/error.h"
#include "cuda/cuda_error.h"
#include "cuda/library_folders.h"

namespace inkstone {
namespace {

constexpr int kBestAlignment = 256;
constexpr size_t kMostPlans = 1024;  // a model of one size of picture needs some fifty; each length of a text adds some

/// Of what the library makes, which it destroys.
template <class Handle>
using Owner = std::unique_ptr<std::remove_pointer_t<Handle>, cublasStatus_t (*)(Handle)>;
using Description = Owner<cublasLtMatmulDesc_t>;
using Layout = Owner<cublasLtMatrixLayout_t>;

#define INKSTONE_TEXT_OF(x) #x
#define INKSTONE_TEXT(x) INKSTONE_TEXT_OF(x)
constexpr const char* kLibrary = "libcublasLt.so." INKSTONE_TEXT(CUBLAS_VER_MAJOR);
constexpr const char* kVersion = INKSTONE_TEXT(CUBLAS_VER_MAJOR) "." INKSTONE_TEXT(CUBLAS_VER_MINOR);

struct Opened {
  void* library = nullptr;
  std::string obstacle;  // if there is none
};

/// It stays loaded: others may use it, and CUDA's libraries cannot be unloaded safely.
Opened open_library() {
  constexpr int kHow = RTLD_NOW | RTLD_LOCAL;
  if (void* const found = dlopen(kLibrary, kHow)) return {found, {}};
  std::string obstacle = dlerror();
  for (const std::string& folder : cuda_library_folders(std::getenv("CUDA_HOME"), std::getenv("CUDA_PATH"))) {
    const std::filesystem::path file = std::filesystem::path(folder) / kLibrary;
    if (void* const found = dlopen(file.c_str(), kHow)) return {found, {}};
    const char* const why = dlerror();
    std::error_code ignored;
    if (std::filesystem::exists(file, ignored)) obstacle = why;  // it lacks something itself
  }
  return {nullptr, obstacle};
}

std::string words_for(const std::string& obstacle) {
  return fmt::format("{} of the CUDA toolkit is needed, where the dynamic linker or CUDA_HOME finds it: {}", kLibrary,
                     obstacle);
}

#if CUBLAS_VER_MAJOR > 12 || (CUBLAS_VER_MAJOR == 12 && CUBLAS_VER_MINOR >= 9)
#define INKSTONE_ROW_SCALES
#endif

cudaDataType_t data_type(DType type) {
  if (type == DType::f8_e4m3) return CUDA_R_8F_E4M3;
  return type == DType::bf16 ? CUDA_R_16BF : CUDA_R_32F;
}

int alignment(const void* data) {
  const auto address = reinterpret_cast<uintptr_t>(data);
  int alignment = kBestAlignment;
  while (address % static_cast<uintptr_t>(alignment) != 0) alignment /= 2;
  return alignment;
}

}  // namespace

struct Cublas::Library {
  Library() {
    const Opened opened = open_library();
    check(opened.library != nullptr, "device {}: {}", current_cuda_device(), words_for(opened.obstacle));
    const auto find = [&](auto& function, const char* name) {
      function = reinterpret_cast<std::remove_reference_t<decltype(function)>>(dlsym(opened.library, name));
      check(function != nullptr, "device {}: {} has no {}, that of cuBLAS {} or newer is needed", current_cuda_device(),
            kLibrary, name, kVersion);
    };
    find(status_name, "cublasLtGetStatusName");
    find(status_text, "cublasLtGetStatusString");
    find(create, "cublasLtCreate");
    find(destroy, "cublasLtDestroy");
    find(matmul, "cublasLtMatmul");
    find(heuristic, "cublasLtMatmulAlgoGetHeuristic");
    find(desc_create, "cublasLtMatmulDescCreate");
    find(desc_destroy, "cublasLtMatmulDescDestroy");
    find(desc_set, "cublasLtMatmulDescSetAttribute");
    find(layout_create, "cublasLtMatrixLayoutCreate");
    find(layout_destroy, "cublasLtMatrixLayoutDestroy");
    find(layout_set, "cublasLtMatrixLayoutSetAttribute");
    find(preference_create, "cublasLtMatmulPreferenceCreate");
    find(preference_destroy, "cublasLtMatmulPreferenceDestroy");
    find(preference_set, "cublasLtMatmulPreferenceSetAttribute");
    must(create(&handle), "starting");
  }
  ~Library() { destroy(handle); }

  /// Throws Error with the library's words unless a call of it went well.
  void must(cublasStatus_t status, const char* what) const {
    check(status == CUBLAS_STATUS_SUCCESS, "device {}: {}: cuBLASLt says {}: {}", current_cuda_device(), what,
          status_name(status), status_text(status));
  }

  template <class T>
  void set(const Description& desc, cublasLtMatmulDescAttributes_t attribute, const T& value) const {
    must(desc_set(desc.get(), attribute, &value, sizeof(value)), "describing a product");
  }

  cublasLtHandle_t handle = nullptr;
  decltype(&cublasLtGetStatusName) status_name;
  decltype(&cublasLtGetStatusString) status_text;
  decltype(&cublasLtCreate) create;
  decltype(&cublasLtDestroy) destroy;
  decltype(&cublasLtMatmul) matmul;
  decltype(&cublasLtMatmulAlgoGetHeuristic) heuristic;
  decltype(&cublasLtMatmulDescCreate) desc_create;
  decltype(&cublasLtMatmulDescDestroy) desc_destroy;
  decltype(&cublasLtMatmulDescSetAttribute) desc_set;
  decltype(&cublasLtMatrixLayoutCreate) layout_create;
  decltype(&cublasLtMatrixLayoutDestroy) layout_destroy;
  decltype(&cublasLtMatrixLayoutSetAttribute) layout_set;
  decltype(&cublasLtMatmulPreferenceCreate) preference_create;
  decltype(&cublasLtMatmulPreferenceDestroy) preference_destroy;
  decltype(&cublasLtMatmulPreferenceSetAttribute) preference_set;
};

/// cuBLASLt is column-major: it is asked for dᵀ = w xᵀ.
struct Cublas::Plan {
  Plan(const Library& l, const Product& p) : library(l), desc(describe(l)) {
    l.set(desc, CUBLASLT_MATMUL_DESC_TRANSA, p.upright ? CUBLAS_OP_N : CUBLAS_OP_T);
    if (p.bias != nullptr || p.gelu) l.set(desc, CUBLASLT_MATMUL_DESC_EPILOGUE, epilogue(p));
    if (p.type == DType::f8_e4m3) ask_for_row_scales();
    w = p.upright ? layout(p.type, p.outs, p.depth, p.w.stride, p.batch, p.w.step)
                  : layout(p.type, p.depth, p.outs, p.w.stride, p.batch, p.w.step);
    x = layout(p.type, p.depth, p.rows, p.x.stride, p.batch, p.x.step);
    d = layout(p.d.type, p.outs, p.rows, p.d_stride, p.batch, p.d_step);
    choose_algorithm(p);
  }

  static Description describe(const Library& l) {
    cublasLtMatmulDesc_t made = nullptr;
    l.must(l.desc_create(&made, CUBLAS_COMPUTE_32F, CUDA_R_32F), "describing a product");
    return {made, l.desc_destroy};
  }

  static cublasLtEpilogue_t epilogue(const Product& p) {
    if (p.bias == nullptr) return CUBLASLT_EPILOGUE_GELU;
    return p.gelu ? CUBLASLT_EPILOGUE_GELU_BIAS : CUBLASLT_EPILOGUE_BIAS;
  }

  void ask_for_row_scales() const {
#ifdef INKSTONE_ROW_SCALES
    library.set(desc, CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE, static_cast<int32_t>(CUDA_R_16BF));
    library.set(desc, CUBLASLT_MATMUL_DESC_A_SCALE_MODE, CUBLASLT_MATMUL_MATRIX_SCALE_OUTER_VEC_32F);
    library.set(desc, CUBLASLT_MATMUL_DESC_B_SCALE_MODE, CUBLASLT_MATMUL_MATRIX_SCALE_OUTER_VEC_32F);
    library.set(desc, CUBLASLT_MATMUL_DESC_FAST_ACCUM, int8_t{1});  // costs no error that is seen beside the rounding
#endif
  }

  /// What changes from call to call. The library wants to see it before it chooses a kernel.
  void point(const Product& p) const {
    if (p.bias != nullptr) library.set(desc, CUBLASLT_MATMUL_DESC_BIAS_POINTER, p.bias);
    if (p.type != DType::f8_e4m3) return;
    library.set(desc, CUBLASLT_MATMUL_DESC_A_SCALE_POINTER, p.w.scales);
    library.set(desc, CUBLASLT_MATMUL_DESC_B_SCALE_POINTER, p.x.scales);
  }

  Layout layout(DType type, int64_t rows, int64_t columns, int64_t stride, int64_t batch, int64_t step) const {
    cublasLtMatrixLayout_t made = nullptr;
    library.must(library.layout_create(&made, data_type(type), static_cast<uint64_t>(rows),
                                       static_cast<uint64_t>(columns), stride),
                 "describing a matrix");
    Layout owner = {made, library.layout_destroy};
    const auto set = [&](cublasLtMatrixLayoutAttribute_t attribute, const auto& value) {
      library.must(library.layout_set(made, attribute, &value, sizeof(value)), "describing a matrix");
    };
    if (batch > 1) {
      set(CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT, static_cast<int32_t>(batch));
      set(CUBLASLT_MATRIX_LAYOUT_STRIDED_BATCH_OFFSET, step);
    }
    return owner;
  }

  void choose_algorithm(const Product& p) {
    point(p);
    cublasLtMatmulPreference_t made = nullptr;
    library.must(library.preference_create(&made), "choosing a kernel");
    const Owner<cublasLtMatmulPreference_t> preference = {made, library.preference_destroy};
    const auto prefer = [&](cublasLtMatmulPreferenceAttributes_t attribute, const auto& value) {
      library.must(library.preference_set(preference.get(), attribute, &value, sizeof(value)), "choosing a kernel");
    };
    prefer(CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, Cublas::kWorkspaceBytes);
    prefer(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, static_cast<uint32_t>(alignment(p.w.data)));
    prefer(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, static_cast<uint32_t>(alignment(p.x.data)));
    prefer(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, static_cast<uint32_t>(alignment(added_of(p))));
    prefer(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, static_cast<uint32_t>(alignment(p.d.data)));
    cublasLtMatmulHeuristicResult_t found = {};
    const auto find = [&] {
      int count = 0;
      return library.heuristic(library.handle, desc.get(), w.get(), x.get(), d.get(), d.get(), preference.get(), 1,
                               &found, &count) == CUBLAS_STATUS_SUCCESS &&
             count > 0;
    };
    bool is_found = find();
    if (!is_found && p.type == DType::f8_e4m3) {  // cuBLASLt 13.1: few rows of 12288 numbers, with a bias
      library.set(desc, CUBLASLT_MATMUL_DESC_FAST_ACCUM, int8_t{0});
      is_found = find();
    }
    check(
        is_found,
        "device {}: cuBLASLt has no kernel for a product of {} rows, {} inputs and {} outputs in {}; a newer one may, "
        "or another --dtype or --arithmetic needs none",
        current_cuda_device(), p.rows, p.depth, p.outs, name_of(p.type));
    algorithm = found.algo;
  }

  static const void* added_of(const Product& p) { return p.added == nullptr ? p.d.data : p.added; }

  const Library& library;
  Description desc;
  Layout w = {nullptr, nullptr}, x = {nullptr, nullptr}, d = {nullptr, nullptr};
  cublasLtMatmulAlgo_t algorithm = {};
  uint64_t last_use = 0;
};

std::string Cublas::why_missing() {
  const Opened opened = open_library();
  return opened.library != nullptr ? std::string() : words_for(opened.obstacle);
}

Cublas::Cublas() : library_(std::make_unique<Library>()) {}
Cublas::~Cublas() = default;

uint64_t Cublas::last_use_of(const Plans::value_type& plan) { return plan.second->last_use; }

Cublas::Plan& Cublas::plan_for(const Product& p) {
  const std::vector<int64_t> key = {static_cast<int64_t>(p.type),
                                    static_cast<int64_t>(p.d.type),
                                    p.rows,
                                    p.outs,
                                    p.depth,
                                    p.x.stride,
                                    p.x.step,
                                    p.w.stride,
                                    p.w.step,
                                    p.d_stride,
                                    p.d_step,
                                    p.batch,
                                    p.upright,
                                    p.gelu,
                                    p.bias != nullptr,
                                    p.added != nullptr,
                                    alignment(p.x.data),
                                    alignment(p.w.data),
                                    alignment(p.d.data),
                                    alignment(Plan::added_of(p)),
                                    alignment(p.bias)};
  auto plan = plans_.find(key);
  if (plan == plans_.end()) {
    if (plans_.size() >= kMostPlans) plans_.erase(std::ranges::min_element(plans_, {}, last_use_of));
    plan = plans_.emplace(key, std::make_unique<Plan>(*library_, p)).first;
  }
  plan->second->last_use = ++uses_;
  return *plan->second;
}

bool Cublas::has_row_scales([[maybe_unused]] void* room) {
#ifdef INKSTONE_ROW_SCALES
  constexpr int64_t kSide = 256;
  const Product::Operand operand = {room, kSide, 0, static_cast<const float*>(room)};
  try {
    plan_for({.type = DType::f8_e4m3,
              .rows = kSide,
              .outs = kSide,
              .depth = kSide,
              .x = operand,
              .w = operand,
              .d = {room, DType::bf16},
              .d_stride = kSide});
    return true;
  } catch (const Error&) {  // an older library, or a device that it has no kernel for
  }
#endif
  return false;
}

void Cublas::multiply(const Product& p, cudaStream_t stream, void* workspace) {
  if (p.rows == 0 || p.outs == 0) return;
  const Plan& plan = plan_for(p);
  plan.point(p);
  const float added = p.added != nullptr ? 1.0f : 0.0f;
  library_->must(library_->matmul(library_->handle, plan.desc.get(), &p.factor, p.w.data, plan.w.get(), p.x.data,
                                  plan.x.get(), &added, Plan::added_of(p), plan.d.get(), p.d.data, plan.d.get(),
                                  &plan.algorithm, workspace, kWorkspaceBytes, stream),
                 "a product");
}

}  // namespace inkstone
