#include "cuda/joined_layer.h"

#include <algorithm>

#include "cuda/layer_form.h"
#include "cuda/merged_layer.h"
#include "cuda/views.h"

namespace inkstone {
namespace {

struct Bf16Layer final : DeviceForm {
  Tensor bias;
};

std::vector<Tensor> biases_of(const Linear& layer) {
  std::vector<Tensor> biases;
  for (const Slab& slab : layer.slabs)
    if (slab.bias) biases.push_back(slab.bias);
  return biases;
}

}  // namespace

Tensor seen_as_one(const std::vector<Tensor>& tensors) {
  const Tensor& first = tensors.front();
  size_t end = first.offset();
  int64_t rows = 0;
  for (const Tensor& t : tensors) {
    if (t.buffer() != first.buffer() || t.offset() != end || t.dtype() != first.dtype()) return {};
    end += t.bytes();
    rows += t.dim(0);
  }
  return {first.buffer(), first.offset(), first.shape().with_first(rows), first.dtype()};
}

void copy_weights(CudaContext& context, const Tensor& to, const Tensor& from) {
  check_cuda(
      cudaMemcpyAsync(to.data<void>(), from.data<void>(), to.bytes(), cudaMemcpyDeviceToDevice, context.stream()),
      "copying weights");
}

bool are_alike(const std::vector<Tensor*>& tensors) {
  const Tensor& first = *tensors.front();
  return std::ranges::all_of(tensors, [&](const Tensor* t) {
    return *t && t->dtype() == first.dtype() && t->shape().with_first(1) == first.shape().with_first(1);
  });
}

bool are_dense(const Linear& layer) {
  return std::ranges::all_of(
      layer.slabs, [](const Slab& slab) { return slab.weight.format == dense_format(slab.weight.data.dtype()); });
}

void join_slabs(CudaContext& context, Linear& layer) {
  if (layer.slabs.size() < 2) return;
  std::vector<Tensor*> weights, biases;
  for (Slab& slab : layer.slabs) {
    weights.push_back(&slab.weight.data);
    biases.push_back(&slab.bias);
  }
  const auto join = [&](const std::vector<Tensor*>& tensors) {
    if (!are_alike(tensors)) return;
    lay_as_one(
        tensors, [&](const Shape& shape, DType type) { return context.empty(shape, type); },
        [&](const Tensor& to, const Tensor& from) { copy_weights(context, to, from); });
  };
  if (are_dense(layer)) join(weights);
  join(biases);
}

Tensor joined_weights(CudaContext& context, const Linear& layer) {
  const DType type = context.operand_type();
  const auto lies_ready = [&](const Slab& slab) {
    return slab.weight.format == dense_format(type) && slab.branches.empty();
  };
  std::vector<Tensor> tensors;
  for (const Slab& slab : layer.slabs)
    if (lies_ready(slab)) tensors.push_back(slab.weight.data);
  if (tensors.size() == layer.slabs.size())
    if (const Tensor one = seen_as_one(tensors)) return one;
  const Tensor all = context.empty({layer.out(), layer.in()}, type);
  int64_t begin = 0;
  for (const Slab& slab : layer.slabs) {
    const Tensor part = all.rows(begin, begin + slab.weight.out);
    if (!slab.branches.empty()) {
      put_with_branches(context, part, slab);
    } else if (lies_ready(slab)) {
      copy_weights(context, part, slab.weight.data);
    } else {
      cuda::expand(output(part), matrix(slab.weight), slab.weight.out, context.stream());
    }
    begin += slab.weight.out;
  }
  return all;
}

Tensor room_for_bias(CudaContext& context, const Linear& layer, DType type) {
  const std::vector<Tensor> biases = biases_of(layer);
  if (biases.empty()) return {};
  if (biases.size() == layer.slabs.size())
    if (const Tensor one = seen_as_one(biases); one && one.dtype() == type) return one;
  return context.empty({layer.out()}, type);
}

void put_bias(CudaContext& context, const Tensor& room, const Linear& layer) {
  const std::vector<Tensor> biases = biases_of(layer);
  if (biases.empty()) return;
  const bool all = biases.size() == layer.slabs.size();
  if (const Tensor one = all ? seen_as_one(biases) : Tensor()) {
    if (one.buffer() != room.buffer()) cuda::convert(output(room), numbers(one), room.count(), context.stream());
    return;
  }
  check_cuda(cudaMemsetAsync(room.data<void>(), 0, room.bytes(), context.stream()), "clearing a bias");
  int64_t begin = 0;
  for (const Slab& slab : layer.slabs) {
    if (slab.bias)
      cuda::convert(output(room.rows(begin, begin + slab.weight.out)), numbers(slab.bias), slab.weight.out,
                    context.stream());
    begin += slab.weight.out;
  }
}

Tensor joined_bias(CudaContext& context, const Linear& layer, DType type) {
  const Tensor bias = room_for_bias(context, layer, type);
  put_bias(context, bias, layer);
  return bias;
}

Tensor kept_bias(CudaContext& context, const Linear& layer, DType type) {
  if (!layer.tolerance || type != DType::bf16) return joined_bias(context, layer, type);
  std::unique_ptr<DeviceForm>& form = layer.tolerance->form;
  if (form == nullptr) {
    auto made = std::make_unique<Bf16Layer>();
    made->bias = joined_bias(context, layer, type);
    form = std::move(made);
  }
  const Tensor& bias = form_as<Bf16Layer>(*form).bias;
  context.meet_for({bias});
  return bias;
}

}  // namespace inkstone
