// What the cuda device needs to have weights come from host memory while it computes.
#pragma once
#include "cuda/context.h"
#include "ops/upload_slab.h"

namespace inkstone {

/// Page-locked until the last owner lets go; with a note the same memory as it is, if the system locks no more.
std::shared_ptr<Buffer> pinned_memory(CudaContext& context, std::shared_ptr<Buffer> host);

/// A slab that the context's copy stream fills; the context must outlive it.
std::unique_ptr<UploadSlab> make_upload_slab(CudaContext& context, size_t bytes);

}  // namespace inkstone
