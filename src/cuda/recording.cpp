#include "cuda/recording.h"

#include <array>

#include "core/error.h"
#include "cuda/cuda_error.h"

namespace inkstone {
namespace {

/// Ends whatever way the work ends.
class Capture {
 public:
  Capture(CudaContext& context, std::vector<Tensor>& used) : context_(context) { context.begin_capture(used); }
  ~Capture() {
    if (is_open_) take();
    if (graph_ != nullptr) cudaGraphDestroy(graph_);
  }
  Capture(const Capture&) = delete;
  Capture& operator=(const Capture&) = delete;

  /// Null if the driver could not record it.
  cudaGraph_t take() {
    is_open_ = false;
    return graph_ = context_.end_capture();
  }

 private:
  CudaContext& context_;
  bool is_open_ = true;
  cudaGraph_t graph_ = nullptr;
};

class CudaRecording final : public Recording {
 public:
  CudaRecording(CudaContext& context, std::span<const Tensor> inputs) : context_(context), memory_(context.memory()) {
    for (const Tensor& input : inputs) inputs_.push_back(context.empty(input.shape(), input.dtype()));
  }
  ~CudaRecording() override {
    try {
      cudaStreamSynchronize(context_.stream());
    } catch (const Error&) {  // a device that is lost has nothing to wait for
    }
    if (launch_ != nullptr) cudaGraphExecDestroy(launch_);
  }

  /// Throws Error if the work cannot be recorded.
  void record(const RecordedWork& work) {
    Capture capture(context_, used_);
    result_ = work(inputs_);
    memory_.close();
    const cudaGraph_t graph = capture.take();
    check(graph != nullptr, "the driver cannot record it");
    check_cuda(cudaGraphInstantiate(&launch_, graph, 0), "recording work");
  }

  Tensor replay(std::span<const Tensor> inputs) override {
    // One replay is queued behind the one that runs: a stop request would not be heard behind more.
    const CudaEvent& done = done_[replays_++ % done_.size()];
    check_cuda(cudaEventSynchronize(done), "computing");
    const cudaStream_t stream = context_.stream();
    for (size_t i = 0; i < inputs.size(); ++i)
      check_cuda(cudaMemcpyAsync(inputs_[i].data<void>(), inputs[i].data<const void>(), inputs_[i].bytes(),
                                 cudaMemcpyDeviceToDevice, stream),
                 "replaying work");
    check_cuda(cudaGraphLaunch(launch_, stream), "replaying work");
    check_cuda(cudaEventRecord(done, stream), "replaying work");
    return result_;
  }

 private:
  CudaContext& context_;
  PoolReserve memory_;
  std::vector<Tensor> inputs_, used_;
  Tensor result_;
  cudaGraphExec_t launch_ = nullptr;
  std::array<CudaEvent, 2> done_;
  size_t replays_ = 0;
};

}  // namespace

std::unique_ptr<Recording> record_work(CudaContext& context, std::span<const Tensor> inputs, const RecordedWork& work) {
  try {
    context.use_device();  // its events are of the device that this thread uses
    auto recording = std::make_unique<CudaRecording>(context, inputs);
    recording->record(work);
    return recording;
  } catch (const Error& e) {  // queued op by op the work may need less memory; if not, it says so itself
    context.note(fmt::format("steps are queued op by op, which may take longer: {}", e.what()));
  }
  cudaGetLastError();
  return nullptr;
}

}  // namespace inkstone
