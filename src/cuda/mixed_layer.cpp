#include "cuda/mixed_layer.h"

#include <algorithm>

#include "cuda/joined_layer.h"
#include "cuda/layer_form.h"
#include "cuda/merged_layer.h"
#include "cuda/views.h"
#include "ops/mixed_order.h"

namespace inkstone {
namespace {

bool is_mixed(const Slab& slab) { return static_cast<bool>(slab.weight.factors); }

/// Powers of two that even out the inputs of matrices (out, in): see cpu/int8_factors.h, which finds them alike.
void put_factors(CudaContext& context, const Tensor& factors, const std::vector<Tensor>& matrices) {
  const int64_t in = matrices.front().dim(1);
  const Tensor shares = context.empty({in}, DType::f32);
  check_cuda(cudaMemsetAsync(shares.data<void>(), 0, shares.bytes(), context.stream()), "rounding weights");
  for (const Tensor& matrix : matrices) {
    const Tensor room = context.empty({matrix.dim(0)}, DType::f32);
    cuda::add_shares(shares.data<float>(), room.data<float>(), numbers(matrix), matrix.dim(0), in, context.stream());
  }
  cuda::mixed_factors(factors.data<float>(), shares.data<const float>(), in, context.stream());
}

bool are_mixed(const Linear& layer) { return std::ranges::all_of(layer.slabs, is_mixed); }

/// Slabs that are mixed codes already stay where they are.
MixedLayer room_for(CudaContext& context, const Linear& layer) {
  MixedLayer form;
  form.bias = room_for_bias(context, layer, DType::f32);
  const int64_t in = layer.in();
  const Tensor factors = are_mixed(layer) ? Tensor() : context.empty({in}, DType::f32);
  for (const Slab& slab : layer.slabs) {
    const int64_t out = slab.weight.out;
    form.weights.push_back(!factors ? slab.weight
                                    : Weight{.format = WeightFormat::affine8,
                                             .out = out,
                                             .in = in,
                                             .data = context.empty({out, in}, DType::u8),
                                             .scales = context.empty({MixedOrder::groups_in(in), out}, DType::f32),
                                             .group = kMixedGroup,
                                             .factors = factors});
  }
  return form;
}

void fill(CudaContext& context, const MixedLayer& form, const Linear& layer) {
  put_bias(context, form.bias, layer);
  if (are_mixed(layer)) return;
  std::vector<Tensor> matrices;
  for (const Slab& slab : layer.slabs) matrices.push_back(merged_numbers(context, slab));
  const Tensor& factors = form.weights.front().factors;
  put_factors(context, factors, matrices);
  for (size_t i = 0; i < matrices.size(); ++i) {
    const Weight& to = form.weights[i];
    cuda::round_mixed_weights({to.data.data<uint8_t>(), to.scales.data<float>()}, numbers(matrices[i]),
                              factors.data<const float>(), to.out, to.in, context.stream());
  }
  check_launch("rounding weights");
}

}  // namespace

bool suits_mixed(const CudaContext& context, const Linear& layer) {
  return context.arithmetic() == CudaArithmetic::int8 && layer.tolerance != nullptr &&
         layer.in() % cuda::kMixedUnit == 0 && layer.slabs.size() <= cuda::kMaxMixedSlabs &&
         std::ranges::all_of(layer.slabs, [](const Slab& slab) {
           return slab.weight.out % cuda::kMixedUnit == 0 && (!is_mixed(slab) || slab.branches.empty());
         });
}

size_t mixed_bytes(const Linear& layer) {
  constexpr int64_t kNumber = sizeof(float);
  const int64_t in = layer.in(), beside = (MixedOrder::groups_in(in) + 1) * kNumber;  // an output's scales and bias
  const auto slabs = static_cast<int64_t>(layer.slabs.size());
  return static_cast<size_t>(layer.out() * (in + beside) + slabs * in * kNumber);
}

const MixedLayer& mixed_layer(CudaContext& context, const Linear& layer) {
  std::unique_ptr<DeviceForm>& form = layer.tolerance->form;
  if (form == nullptr) {
    auto made = std::make_unique<MixedLayer>(room_for(context, layer));
    fill(context, *made, layer);
    form = std::move(made);
  }
  const auto& made = form_as<MixedLayer>(*form);
  context.meet_for({made.bias, made.weights.front().factors});  // which were made with all the rest
  return made;
}

void keep_mixed(CudaContext& context, WeightUploads& uploads, Linear& layer) {
  const MixedLayer form = room_for(context, layer);
  uploads.then([&context, form, layer] { fill(context, form, layer); });
  for (size_t i = 0; i < layer.slabs.size(); ++i) {
    layer.slabs[i].weight = form.weights[i];
    layer.slabs[i].branches.clear();
  }
  layer.tolerance->form = std::make_unique<MixedLayer>(form);
}

}  // namespace inkstone
