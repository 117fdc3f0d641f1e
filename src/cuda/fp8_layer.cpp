#include "cuda/fp8_layer.h"

#include <algorithm>

#include "core/rounding.h"
#include "cuda/joined_layer.h"
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

Tensor zeros(CudaContext& context, const Shape& shape, DType type) {
  const Tensor made = context.empty(shape, type);
  check_cuda(cudaMemsetAsync(made.data<void>(), 0, made.bytes(), context.stream()), "clearing weights");
  return made;
}

Fp8Branch rounded_branch(CudaContext& context, const SideBranch& branch, int64_t column) {
  const int64_t rank = branch.rank(), rows = round_up(rank, cuda::kRoundedUnit);
  Fp8Branch made = {.codes = zeros(context, {rows, branch.down.in}, DType::f8_e4m3),
                    .scales = zeros(context, {rows}, DType::f32),
                    .up = dense(context, branch.up),
                    .factor = branch.factor,
                    .column = column};
  round_weight(context, branch.down, made.codes.rows(0, rank), made.scales.rows(0, rank));
  return made;
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
         layer.in() <= cuda::kMaxRounded;
}

size_t fp8_bytes(const Linear& layer) {
  constexpr int64_t kBesideRow = sizeof(float) + sizeof(bf16_t);  // its scale and its bias
  int64_t bytes = 0;
  for (const Slab& slab : layer.slabs) {
    const int64_t out = slab.weight.out, in = slab.weight.in;
    bytes += out * (in + kBesideRow);
    for (const SideBranch& branch : slab.branches)
      bytes += round_up(branch.rank(), cuda::kRoundedUnit) * (in + static_cast<int64_t>(sizeof(float))) +
               out * branch.rank() * static_cast<int64_t>(sizeof(bf16_t));
  }
  return static_cast<size_t>(bytes);
}

const Fp8Layer& fp8_layer(CudaContext& context, const Linear& layer) {
  std::unique_ptr<DeviceForm>& form = layer.tolerance->form;
  if (form == nullptr) {
    auto made = std::make_unique<Fp8Layer>();
    made->codes = context.empty({layer.out(), layer.in()}, DType::f8_e4m3);
    made->scales = context.empty({layer.out()}, DType::f32);
    made->bias = joined_bias(context, layer, DType::bf16);
    int64_t first = 0;
    for (const Slab& slab : layer.slabs) {
      const int64_t end = first + slab.weight.out;
      round_weight(context, slab.weight, made->codes.rows(first, end), made->scales.rows(first, end));
      for (const SideBranch& branch : slab.branches) made->branches.push_back(rounded_branch(context, branch, first));
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
  auto kept = form.branches.begin();
  for (Slab& slab : layer.slabs) {
    const int64_t end = first + slab.weight.out;
    slab.weight = view_of(form.codes, form.scales, first, end);
    for (SideBranch& branch : slab.branches) {
      branch.down = view_of(kept->codes, kept->scales, 0, branch.rank());
      branch.up = dense_weight(kept->up);
      ++kept;
    }
    first = end;
  }
}

}  // namespace inkstone
