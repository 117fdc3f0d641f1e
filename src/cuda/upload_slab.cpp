#include "cuda/upload_slab.h"

#include "cuda/cuda_error.h"

namespace inkstone {
namespace {

/// Of memory that is locked.
struct PinnedBuffer final : Buffer {
  explicit PinnedBuffer(std::shared_ptr<Buffer> memory)
      : Buffer(memory->data, memory->bytes), host(std::move(memory)) {}
  ~PinnedBuffer() override { cudaHostUnregister(data); }

  std::shared_ptr<Buffer> host;
};

class CudaUploadSlab final : public UploadSlab {
 public:
  CudaUploadSlab(CudaContext& context, size_t bytes) : context_(context), memory_(context.memory().allocate(bytes)) {
    release();  // who had this memory before may still be at work
  }
  ~CudaUploadSlab() override { cudaEventSynchronize(filled_); }

  std::shared_ptr<Buffer> memory() const override { return memory_; }

  void fill(std::span<const UploadPart> parts) override {
    const cudaStream_t copies = context_.copy_stream();
    check_cuda(cudaStreamWaitEvent(copies, released_), "copying to the device");
    for (const UploadPart& part : parts)
      check_cuda(cudaMemcpyAsync(static_cast<std::byte*>(memory_->data) + part.offset, part.from, part.bytes,
                                 cudaMemcpyHostToDevice, copies),
                 "copying to the device");
    check_cuda(cudaEventRecord(filled_, copies), "copying to the device");
    check_cuda(cudaStreamWaitEvent(context_.stream(), filled_), "copying to the device");
  }

  void release() override { check_cuda(cudaEventRecord(released_, context_.stream()), "copying to the device"); }

  void wait() override { check_cuda(cudaEventSynchronize(filled_), "copying to the device"); }

 private:
  CudaContext& context_;
  std::shared_ptr<Buffer> memory_;
  CudaEvent released_, filled_;
};

}  // namespace

std::shared_ptr<Buffer> pinned_memory(CudaContext& context, std::shared_ptr<Buffer> host) {
  context.use_device();
  const cudaError_t status = cudaHostRegister(host->data, host->bytes, cudaHostRegisterDefault);
  if (status != cudaSuccess) {
    cudaGetLastError();
    context.note(fmt::format("host memory is not locked ({}), so blocks are streamed from it several times as slowly",
                             cudaGetErrorString(status)));
    return host;
  }
  return std::make_shared<PinnedBuffer>(std::move(host));
}

std::unique_ptr<UploadSlab> make_upload_slab(CudaContext& context, size_t bytes) {
  context.use_device();  // its events are of the device that this thread uses
  return std::make_unique<CudaUploadSlab>(context, bytes);
}

}  // namespace inkstone
