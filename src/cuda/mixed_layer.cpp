#include "cuda/mixed_layer.h"

#include <algorithm>

#include "cuda/joined_layer.h"
#include "cuda/merged_layer.h"
#include "cuda/views.h"
#include "ops/mixed_order.h"

namespace inkstone {
namespace {

bool is_mixed(const Slab& slab) { return static_cast<bool>(slab.weight.factors); }

/// A slab's matrix with its side branches.
Tensor numbers_of(CudaContext& context, const Slab& slab) {
  const Weight& w = slab.weight;
  if (slab.branches.empty() && w.format == dense_format(w.data.dtype())) return w.data;
  const Tensor all = context.empty({w.out, w.in}, DType::f32);
  cuda::expand(output(all), matrix(w), w.out, context.stream());
  if (!slab.branches.empty()) add_branches(context, all, slab);
  return all;
}

/// Powers of two that even out the inputs of matrices (out, in): see cpu/int8_factors.h, which finds them alike.
Tensor factors_of(CudaContext& context, const std::vector<Tensor>& matrices) {
  const int64_t in = matrices.front().dim(1);
  const Tensor shares = context.empty({in}, DType::f32);
  check_cuda(cudaMemsetAsync(shares.data<void>(), 0, shares.bytes(), context.stream()), "rounding weights");
  for (const Tensor& matrix : matrices) {
    const Tensor room = context.empty({matrix.dim(0)}, DType::f32);
    cuda::add_shares(shares.data<float>(), room.data<float>(), numbers(matrix), matrix.dim(0), in, context.stream());
  }
  const Tensor factors = context.empty(shares.shape(), DType::f32);
  cuda::mixed_factors(factors.data<float>(), shares.data<const float>(), in, context.stream());
  return factors;
}

Weight mixed(CudaContext& context, const Tensor& matrix, const Tensor& factors) {
  const int64_t out = matrix.dim(0), in = matrix.dim(1);
  const Weight made = {.format = WeightFormat::affine8,
                       .out = out,
                       .in = in,
                       .data = context.empty({out, in}, DType::u8),
                       .scales = context.empty({MixedOrder::groups_in(in), out}, DType::f32),
                       .group = kMixedGroup,
                       .factors = factors};
  cuda::round_mixed_weights({made.data.data<uint8_t>(), made.scales.data<float>()}, numbers(matrix),
                            factors.data<const float>(), out, in, context.stream());
  return made;
}

/// The slabs' weights; those that are mixed codes already stay where they are.
std::vector<Weight> mixed_slabs(CudaContext& context, const Linear& layer) {
  std::vector<Weight> weights;
  if (std::ranges::all_of(layer.slabs, is_mixed)) {
    for (const Slab& slab : layer.slabs) weights.push_back(slab.weight);
    return weights;
  }
  std::vector<Tensor> matrices;
  for (const Slab& slab : layer.slabs) matrices.push_back(numbers_of(context, slab));
  const Tensor factors = factors_of(context, matrices);
  for (const Tensor& matrix : matrices) weights.push_back(mixed(context, matrix, factors));
  return weights;
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
    auto made = std::make_unique<MixedLayer>();
    made->bias = joined_bias(context, layer, DType::f32);
    made->weights = mixed_slabs(context, layer);
    check_launch("rounding weights");
    form = std::move(made);
  }
  return static_cast<const MixedLayer&>(*form);
}

void keep_mixed(CudaContext& context, Linear& layer) {
  const MixedLayer& form = mixed_layer(context, layer);
  for (size_t i = 0; i < layer.slabs.size(); ++i) {
    layer.slabs[i].weight = form.weights[i];
    layer.slabs[i].branches.clear();
  }
}

}  // namespace inkstone
