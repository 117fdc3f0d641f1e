#include "cuda/context.h"

#include <algorithm>

#include "core/option_error.h"
#include "core/quantity.h"
#include "cuda/cuda_error.h"

namespace inkstone {
namespace {

constexpr size_t kReserve = size_t{512} << 20;  // for what the driver and cuBLAS load later
constexpr size_t kSmall = size_t{1} << 20;      // up to here in units of kAlignment, from here on of kUnit
constexpr size_t kAlignment = 512, kUnit = size_t{2} << 20;
constexpr size_t kTables = 64;
constexpr size_t kMostHeld = size_t{64} << 20;  // by work aside, such as expanded weights of a text's layers

class CudaBlocks final : public BlockSource {
 public:
  explicit CudaBlocks(int index) : index_(index) {}

  size_t block_size(size_t bytes) const override {
    const size_t unit = bytes < kSmall ? kAlignment : kUnit;
    return (std::max<size_t>(bytes, 1) + unit - 1) / unit * unit;
  }
  void* take(size_t size) override {
    void* data = nullptr;
    check_cuda(cudaSetDevice(index_), "choosing a device");
    const cudaError_t status = cudaMalloc(&data, size);
    if (status != cudaErrorMemoryAllocation) {  // a device that is lost refuses everything
      check_cuda(status, "taking memory");
      return data;
    }
    cudaGetLastError();
    return nullptr;
  }
  void give_back(void* data, size_t) override {
    // It waits for the kernels that still use it. A device that is lost says so at the next call that may throw.
    if (cudaSetDevice(index_) != cudaSuccess || cudaFree(data) != cudaSuccess) cudaGetLastError();
  }
  std::string name() const override { return fmt::format("cuda:{}", index_); }

 private:
  int index_;
};

/// Makes the device the current one, after checking that it can be used.
int select_device(int index) {
  const std::string reason = why_no_cuda(index);
  check_option(reason.empty(), "device {}: {}", cuda_option(index), reason);
  check_cuda(cudaSetDevice(index), "choosing a device");
  return index;
}

std::string describe_device(int index) {
  cudaDeviceProp properties = {};
  check_cuda(cudaGetDeviceProperties(&properties, index), "reading the device's properties");
  return fmt::format("cuda:{}: {}, compute capability {}.{}, {} multiprocessors, {}", index, properties.name,
                     properties.major, properties.minor, properties.multiProcessorCount,
                     quantity(static_cast<double>(properties.totalGlobalMem), "B"));
}

/// Of streams; a lesser number comes first.
struct Priorities {
  int least = 0, greatest = 0;
};
Priorities priorities() {
  Priorities found;
  check_cuda(cudaDeviceGetStreamPriorityRange(&found.least, &found.greatest), "asking for priorities");
  return found;
}

/// Leaves no error behind where the answer is no.
bool multiplies_by_wgmma() {
  const bool does = cuda::has_wgmma();
  cudaGetLastError();
  return does;
}

/// Bytes of the pool. CUDA's own are taken by now, but for those of the reserve.
size_t pool_limit(size_t memory_limit) {
  if (memory_limit > 0) {
    constexpr size_t kLeast = kCudaOwnBytes + Cublas::kWorkspaceBytes;
    const auto text = [](size_t bytes) { return quantity(static_cast<double>(bytes), "B"); };
    check_option(memory_limit >= kLeast,
                 "memory {}: of a GPU's memory CUDA itself takes {} and products {}; give more, the plan of a picture "
                 "says how much",
                 text(memory_limit), text(kCudaOwnBytes), text(Cublas::kWorkspaceBytes));
    return memory_limit - kCudaOwnBytes;
  }
  size_t available = 0, total = 0;
  check_cuda(cudaMemGetInfo(&available, &total), "asking for the device's memory");
  return available - std::min(available, kReserve);
}

}  // namespace

CudaFindings find_cuda(int index) {
  CudaFindings found = {.is_built = true, .program = CUDART_VERSION, .index = index};
  if (cudaDriverGetVersion(&found.driver) != cudaSuccess) found.driver = 0;
  cudaError_t status = cudaGetDeviceCount(&found.devices);
  if (status == cudaErrorNoDevice) status = cudaSuccess;  // the count says it
  if (status == cudaSuccess && 0 <= index && index < found.devices) {
    cudaDeviceProp properties = {};
    status = cudaGetDeviceProperties(&properties, index);
    found.name = properties.name;
    found.major = properties.major;
    found.minor = properties.minor;
    found.library_fault = Cublas::why_missing();
  }
  if (status != cudaSuccess) found.fault = cudaGetErrorString(status);
  cudaGetLastError();
  return found;
}

CudaContext::CudaContext(const CudaOptions& options)
    : index_(select_device(options.index)),
      arithmetic_(options.arithmetic),
      description_(describe_device(index_)),
      has_wgmma_(!options.ampere_kernels && multiplies_by_wgmma()),
      memory_(std::make_unique<CudaBlocks>(index_), pool_limit(options.memory_limit)),
      stream_(priorities().greatest),
      side_stream_(priorities().least),  // fills what the rest leaves idle
      copy_stream_(priorities().greatest),
      workspaces_{memory_.allocate(Cublas::kWorkspaceBytes), nullptr} {
  check(!rounds() || cublas_.has_row_scales(workspaces_[0]->data),
        "arithmetic {}: {} has no such products with this cuBLASLt; compute capability 9.0 and CUDA 12.9 do; "
        "arithmetic int8 works on every device",
        rounds_attention() ? "fp8_all" : "fp8", description_);
}

CudaContext::~CudaContext() {
  cudaSetDevice(index_);
  for (const CudaStream* s : {&stream_, &side_stream_, &copy_stream_}) cudaStreamSynchronize(*s);
}

void CudaContext::use_device() const { check_cuda(cudaSetDevice(index_), "choosing a device"); }

cudaStream_t CudaContext::stream() {
  use_device();
  if (const std::function<void()> call = before_work_) call();  // which may replace itself
  if (deferred_) std::exchange(deferred_, nullptr)();
  if (is_aside_) return side_stream_;
  if (is_forked_ && !stays_apart_) meet();
  return stream_;
}

CudaContext::Apart::Apart(CudaContext& context) : context_(context) {
  if (context.held_bytes_ > kMostHeld) context.meet();
  context.stays_apart_ = true;
  check_cuda(cudaEventRecord(context.forked_, context.stream()), "forking");
  check_cuda(cudaStreamWaitEvent(context.side_stream_, context.forked_), "forking");
  context.is_forked_ = true;
}

void* CudaContext::workspace() {
  std::shared_ptr<Buffer>& room = workspaces_[is_aside_ ? 1 : 0];
  if (!room) room = memory_.allocate(Cublas::kWorkspaceBytes);
  return room->data;
}

void CudaContext::meet() {
  is_forked_ = false;
  check_cuda(cudaEventRecord(done_aside_, side_stream_), "joining streams");
  check_cuda(cudaStreamWaitEvent(stream_, done_aside_), "joining streams");
  held_.clear();
  made_aside_.clear();
  held_bytes_ = 0;
}

void CudaContext::hold(const Tensor& made) {
  held_.push_back(made.buffer());
  made_aside_.insert(made.buffer().get());
  held_bytes_ += made.bytes();
}

void CudaContext::meet_for(const std::vector<Tensor>& tensors) {
  if (is_aside_) return;  // their stream is the present one
  const auto was_made_aside = [&](const Tensor& t) { return t && made_aside_.contains(t.buffer().get()); };
  if (is_forked_ && std::ranges::any_of(tensors, was_made_aside)) meet();
}

void CudaContext::begin_capture(std::vector<Tensor>& used) {
  // Relaxed: the pool may still have to ask the driver for memory.
  check_cuda(cudaStreamBeginCapture(stream(), cudaStreamCaptureModeRelaxed), "recording work");
  used_tables_ = &used;
}

cudaGraph_t CudaContext::end_capture() {
  used_tables_ = nullptr;
  try {
    stream();               // where all meets
  } catch (const Error&) {  // the record is broken already
  }
  cudaGraph_t graph = nullptr;
  const bool whole = cudaStreamEndCapture(stream_, &graph) == cudaSuccess;
  return whole ? graph : nullptr;
}

void CudaContext::note(std::string text) {
  const std::lock_guard lock(notes_mutex_);
  if (std::ranges::find(notes_, text) == notes_.end()) notes_.push_back(std::move(text));
}

std::vector<std::string> CudaContext::take_notes() {
  const std::lock_guard lock(notes_mutex_);
  return std::exchange(notes_, {});
}

Tensor CudaContext::empty(const Shape& shape, DType type) {
  const Tensor made = {memory_.allocate(static_cast<size_t>(shape.count()) * size_of(type)), 0, shape, type};
  if (is_aside_) hold(made);
  return made;
}

const int32_t* CudaContext::table(const std::vector<int32_t>& values) {
  const auto known = std::find_if(tables_.begin(), tables_.end(), [&](const Table& t) { return t.values == values; });
  if (known != tables_.end()) {
    tables_.splice(tables_.begin(), tables_, known);
  } else {
    check(used_tables_ == nullptr, "a step has other sequences of rows than the step before it");
    // Deferred work, with tables of its own, and a copy may fail: a table is known only once it is there.
    const cudaStream_t queue = stream();
    Table made = {values, empty({static_cast<int64_t>(values.size())}, DType::i32)};
    check_cuda(
        cudaMemcpyAsync(made.copy.data<void>(), made.values.data(), made.copy.bytes(), cudaMemcpyHostToDevice, queue),
        "copying to the device");
    if (is_forked_) check_cuda(cudaStreamSynchronize(queue), "copying to the device");  // the other may read it too
    tables_.push_front(std::move(made));
    if (tables_.size() > kTables) tables_.pop_back();
  }
  if (used_tables_ != nullptr) used_tables_->push_back(tables_.front().copy);
  if (is_aside_) held_.push_back(tables_.front().copy.buffer());
  return tables_.front().copy.data<const int32_t>();
}

}  // namespace inkstone
