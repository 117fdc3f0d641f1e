#include "cuda/fp8_layer.h"

#include <algorithm>

#include "cuda/views.h"

namespace inkstone {
namespace {

void copy(CudaContext& context, const Tensor& to, const Tensor& from) {
  check_cuda(
      cudaMemcpyAsync(to.data<void>(), from.data<void>(), to.bytes(), cudaMemcpyDeviceToDevice, context.stream()),
      "copying weights");
}

/// The scales of has_row_scales(), ones where there are none.
void put_scales(CudaContext& context, const Tensor& to, const Weight& w) {
  if (w.scales) {
    cuda::convert(output(to), numbers(w.scales), to.count(), context.stream());
    return;
  }
  const std::vector<float> ones(static_cast<size_t>(w.out), 1.0f);
  check_cuda(cudaMemcpyAsync(to.data<void>(), ones.data(), to.bytes(), cudaMemcpyHostToDevice, context.stream()),
             "copying to the device");
}

bool is_plain(WeightFormat format) {
  return format == WeightFormat::f32 || format == WeightFormat::f16 || format == WeightFormat::bf16;
}

bool has_row_scales(const Weight& w) { return w.format == WeightFormat::f8_e4m3 && (!w.scales || w.group == w.in); }

/// Rows of codes and scales for a weight of any format.
void round_weight(CudaContext& context, const Weight& w, const Tensor& codes, const Tensor& scales) {
  if (has_row_scales(w)) {
    copy(context, codes, w.data);
    put_scales(context, scales, w);
    return;
  }
  Tensor dense = w.data;
  if (!is_plain(w.format)) {
    dense = context.empty({w.out, w.in}, DType::f32);
    cuda::expand(output(dense), matrix(w), w.out, context.stream());
  }
  cuda::round_rows({codes.data<uint8_t>(), scales.data<float>()}, numbers(dense), Activation::none, w.out, w.in,
                   context.stream());
}

Tensor joined_bias(CudaContext& context, const Linear& layer) {
  if (std::ranges::none_of(layer.slabs, [](const Slab& slab) { return static_cast<bool>(slab.bias); })) return {};
  const Tensor bias = context.empty({layer.out()}, DType::bf16);
  check_cuda(cudaMemsetAsync(bias.data<void>(), 0, bias.bytes(), context.stream()), "clearing a bias");
  int64_t first = 0;
  for (const Slab& slab : layer.slabs) {
    if (slab.bias)
      cuda::convert(output(bias.rows(first, first + slab.weight.out)), numbers(slab.bias), slab.weight.out,
                    context.stream());
    first += slab.weight.out;
  }
  return bias;
}

}  // namespace

bool suits_fp8(const Linear& layer) {
  return layer.tolerance != nullptr && !layer.has_branches() && layer.in() % cuda::kRoundedUnit == 0 &&
         layer.out() % cuda::kRoundedUnit == 0 && layer.in() <= cuda::kMaxRounded;
}

const Fp8Layer& fp8_layer(CudaContext& context, const Linear& layer) {
  std::unique_ptr<DeviceForm>& form = layer.tolerance->form;
  if (form == nullptr) {
    auto made = std::make_unique<Fp8Layer>();
    made->codes = context.empty({layer.out(), layer.in()}, DType::f8_e4m3);
    made->scales = context.empty({layer.out()}, DType::f32);
    made->bias = joined_bias(context, layer);
    int64_t first = 0;
    for (const Slab& slab : layer.slabs) {
      const int64_t end = first + slab.weight.out;
      round_weight(context, slab.weight, made->codes.rows(first, end), made->scales.rows(first, end));
      first = end;
    }
    check_launch("rounding weights");
    form = std::move(made);
  }
  return static_cast<const Fp8Layer&>(*form);
}

void keep_in_fp8(CudaContext& context, Linear& layer) {
  const Fp8Layer& form = fp8_layer(context, layer);
  int64_t first = 0;
  for (Slab& slab : layer.slabs) {
    Weight& w = slab.weight;
    const int64_t end = first + w.out;
    w = {.format = WeightFormat::f8_e4m3,
         .out = w.out,
         .in = w.in,
         .data = form.codes.rows(first, end),
         .scales = form.scales.rows(first, end).reshape({w.out, 1}),
         .group = w.in};
    first = end;
  }
}

}  // namespace inkstone
