#include "cuda/fp8_layer.h"

#include <algorithm>

#include "cuda/joined_layer.h"
#include "cuda/layer_form.h"
#include "cuda/merged_layer.h"
#include "cuda/views.h"

namespace inkstone {
namespace {

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

bool has_row_scales(const Weight& w) { return w.format == WeightFormat::f8_e4m3 && (!w.scales || w.group == w.in); }

/// Codes that a side branch would change by less than their last digit, so that rounding them again would lose it.
bool would_lose_branches(const Slab& slab) { return has_row_scales(slab.weight) && !slab.branches.empty(); }

/// Rows of codes and scales for weights of any format.
void round_slab(CudaContext& context, const Slab& slab, const Tensor& codes, const Tensor& scales) {
  const Weight& w = slab.weight;
  if (has_row_scales(w)) {
    if (codes.data<void>() != w.data.data<void>()) copy_weights(context, codes, w.data);
    put_scales(context, scales, w);
    return;
  }
  const Tensor all = merged_numbers(context, slab);
  cuda::round_rows({codes.data<uint8_t>(), scales.data<float>()}, numbers(all), Activation::none, w.out, w.in,
                   context.stream());
}

/// A weight that views rows of codes.
Weight view_of(const Tensor& codes, const Tensor& scales, int64_t begin, int64_t end) {
  const int64_t in = codes.dim(1);
  return {.format = WeightFormat::f8_e4m3,
          .out = end - begin,
          .in = in,
          .data = codes.rows(begin, end),
          .scales = scales.rows(begin, end).reshape({end - begin, 1}),
          .group = in};
}

}  // namespace

bool suits_fp8(const Linear& layer) {
  return layer.tolerance != nullptr && layer.in() % cuda::kRoundedUnit == 0 && layer.out() % cuda::kRoundedUnit == 0 &&
         layer.in() <= cuda::kMaxRounded && std::ranges::none_of(layer.slabs, would_lose_branches);
}

size_t fp8_bytes(const Linear& layer) {
  constexpr int64_t kBesideRow = sizeof(float) + sizeof(bf16_t);  // its scale and its bias
  int64_t bytes = 0;
  for (const Slab& slab : layer.slabs) {
    const int64_t out = slab.weight.out, in = slab.weight.in;
    bytes += out * (in + kBesideRow);
  }
  return static_cast<size_t>(bytes);
}

namespace {

/// The codes of all slabs, if they lie as a form has them.
Tensor codes_in_place(const Linear& layer) {
  std::vector<Tensor> codes;
  for (const Slab& slab : layer.slabs) {
    if (!has_row_scales(slab.weight)) return {};
    codes.push_back(slab.weight.data);
  }
  return seen_as_one(codes);
}

Fp8Layer room_for(CudaContext& context, const Linear& layer) {
  constexpr int64_t kBounds = 2;
  Fp8Layer form;
  form.codes = codes_in_place(layer);
  if (!form.codes) form.codes = context.empty({layer.out(), layer.in()}, DType::f8_e4m3);
  const Tensor floats = context.empty({layer.out() + kBounds}, DType::f32);
  form.scales = floats.rows(0, layer.out());
  form.bound = floats.rows(layer.out(), layer.out() + kBounds);
  form.bias = room_for_bias(context, layer, DType::bf16);
  return form;
}

void fill(CudaContext& context, const Fp8Layer& form, const Linear& layer) {
  put_bias(context, form.bias, layer);
  int64_t first = 0;
  for (const Slab& slab : layer.slabs) {
    const int64_t end = first + slab.weight.out;
    round_slab(context, slab, form.codes.rows(first, end), form.scales.rows(first, end));
    first = end;
  }
  if (context.has_wgmma())
    cuda::bound_product(form.bound.data<float>(), {form.codes.data<uint8_t>(), form.scales.data<float>()},
                        form.bias ? form.bias.data<void>() : nullptr, layer.out(), layer.in(), context.stream());
  check_launch("rounding weights");
}

}  // namespace

const Fp8Layer& fp8_layer(CudaContext& context, const Linear& layer) {
  std::unique_ptr<DeviceForm>& form = layer.tolerance->form;
  if (form == nullptr) {
    auto made = std::make_unique<Fp8Layer>(room_for(context, layer));
    fill(context, *made, layer);
    form = std::move(made);
  }
  const auto& made = form_as<Fp8Layer>(*form);
  context.meet_for({made.scales});  // which were made with all the rest
  return made;
}

void keep_in_fp8(CudaContext& context, WeightUploads& uploads, Linear& layer) {
  const Fp8Layer form = room_for(context, layer);
  uploads.then([&context, form, layer] { fill(context, form, layer); });
  int64_t first = 0;
  for (Slab& slab : layer.slabs) {
    const int64_t end = first + slab.weight.out;
    slab.weight = view_of(form.codes, form.scales, first, end);
    slab.branches.clear();
    first = end;
  }
  layer.tolerance->form = std::make_unique<Fp8Layer>(form);
}

}  // namespace inkstone
