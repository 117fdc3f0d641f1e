#include "cuda/weight_uploads.h"

#include <algorithm>

#include "core/rounding.h"
#include "cuda/cuda_error.h"
#include "cuda/joined_layer.h"
#include "ops/upload_slab.h"

namespace inkstone {
namespace {

constexpr const char* kUploading = "copying weights to the device";

/// Work in `behind` waits for all that is in `ahead` by now.
void follow(cudaStream_t behind, cudaStream_t ahead, cudaEvent_t event) {
  check_cuda(cudaEventRecord(event, ahead), kUploading);
  check_cuda(cudaStreamWaitEvent(behind, event), kUploading);
}

}  // namespace

/// Memory that copies go to may have been in use until now.
void WeightUploads::begin() {
  if (is_open_) return;
  follow(context_.copy_stream(), context_.stream(), worked_);
  context_.set_before_work([this] { finish(); });
  is_open_ = true;
}

Tensor WeightUploads::upload(const Tensor& host) {
  const Tensor to = context_.empty(host.shape(), host.dtype());
  copy(to, host);
  return to;
}

void WeightUploads::upload(Linear& layer, Stay stay) {
  const auto room_for = [&](const Shape& shape, DType type) {
    return stay == Stay::as_uploaded ? slabs_.empty(shape, type) : context_.empty(shape, type);
  };
  const auto upload_each = [&](const std::vector<Tensor*>& tensors) {
    for (Tensor* t : tensors) {
      if (!*t) continue;
      const Tensor to = room_for(t->shape(), t->dtype());
      copy(to, std::exchange(*t, to));
    }
  };
  const auto upload_as_one = [&](const std::vector<Tensor*>& tensors) {
    if (tensors.size() < 2 || !are_alike(tensors)) return upload_each(tensors);
    lay_as_one(tensors, room_for, [this](const Tensor& to, const Tensor& from) { copy(to, from); });
  };
  const bool dense = are_dense(layer);
  for (Tensor Weight::*member : {&Weight::data, &Weight::scales, &Weight::offsets, &Weight::factors}) {
    std::vector<Tensor*> tensors;
    for (Slab& slab : layer.slabs) tensors.push_back(&(slab.weight.*member));
    dense ? upload_as_one(tensors) : upload_each(tensors);
  }
  std::vector<Tensor*> biases;
  for (Slab& slab : layer.slabs) biases.push_back(&slab.bias);
  upload_as_one(biases);
  for (Slab& slab : layer.slabs)
    for (SideBranch& branch : slab.branches)
      for (Weight* half : {&branch.down, &branch.up})
        for_each_tensor(*half, [this](Tensor& tensor) { tensor = upload(tensor); });
}

/// After an error the rest is given up; nothing of it is under way then.
template <class Work>
void WeightUploads::or_close(const Work& work) {
  try {
    work();
  } catch (...) {
    try {
      copies_.await_begun(last_);
      is_working_ = true;
      follow(context_.stream(), context_.copy_stream(), copied_);
    } catch (const Error&) {  // the first error tells more
    }
    close();
    throw;
  }
}

/// Tensors share buffers: a copy of few bytes costs as much as one of many.
void WeightUploads::copy(const Tensor& to, const Tensor& from) {
  begin();
  for (size_t done = 0; done < from.bytes();) {
    const size_t size = std::min(LargeCopies::kPiece - taken_, from.bytes() - done);
    pieces_.push_back(
        {to.buffer(), from.buffer(), to.data<std::byte>() + done, from.data<const std::byte>() + done, size});
    done += size;
    taken_ = round_up(taken_ + size, kUploadUnit);
    if (taken_ >= LargeCopies::kPiece) or_close([this] { flush(); });
  }
}

void WeightUploads::flush() {
  if (pieces_.empty()) return;
  taken_ = 0;
  last_ = copies_.begin_upload(std::exchange(pieces_, {}), context_.copy_stream());
}

void WeightUploads::then(std::function<void()> work) {
  if (!is_open_) return work();
  or_close([&] {
    flush();
    later_.push_back({last_, std::move(work)});
    while (!later_.empty() && copies_.has_begun(later_.front().after)) begin_next();
  });
}

/// The work before has most likely ended by now, so that no copy waits for it.
void WeightUploads::begin_next() {
  Later next = std::move(later_.front());
  later_.pop_front();
  is_working_ = true;
  const cudaStream_t stream = context_.stream();
  follow(stream, context_.copy_stream(), copied_);
  if (queued_) check_cuda(cudaStreamWaitEvent(context_.copy_stream(), worked_), kUploading);
  queued_.reset();
  queued_.emplace(std::move(next.work), context_.memory());
  queued_->work();
  queued_->used.close();
  check_cuda(cudaEventRecord(worked_, stream), kUploading);
  is_working_ = false;
}

void WeightUploads::finish() {
  if (!is_open_ || is_working_) return;
  or_close([this] { finish_all(); });
  close();
}

void WeightUploads::finish_model() {
  slabs_.close();
  finish();
}

void WeightUploads::finish_all() {
  flush();
  for (; !later_.empty(); begin_next()) copies_.await_begun(later_.front().after);
  copies_.await_begun(last_);
  is_working_ = true;  // what follows is part of this
  follow(context_.stream(), context_.copy_stream(), copied_);
}

void WeightUploads::close() {
  context_.set_before_work(nullptr);
  is_open_ = is_working_ = false;
  pieces_.clear();
  taken_ = 0;
  later_.clear();
  queued_.reset();
}

}  // namespace inkstone
