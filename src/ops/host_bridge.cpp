#include "ops/host_bridge.h"

#include <algorithm>
#include <deque>

namespace inkstone {

Weight HostBridge::up(const Weight& weight) {
  if (weight.factors) {  // in the order of the host's kernels
    const Tensor numbers = host_tensor({weight.out, weight.in}, DType::f32);
    dequantize_rows(weight, 0, weight.out, numbers.data<float>());
    return dense_weight(up(numbers));
  }
  Weight placed = weight;
  placed.data = up(weight.data);
  placed.scales = up(weight.scales);
  placed.offsets = up(weight.offsets);
  return placed;
}

SequenceRows HostBridge::up(const SequenceRows& vectors) {
  SequenceRows placed = vectors;
  placed.table = up(vectors.table);
  placed.row = up(vectors.row);
  return placed;
}

Tensor HostBridge::like(const Tensor& out) { return {device_.allocate(out.bytes()), 0, out.shape(), out.dtype()}; }

void HostBridge::down(const Tensor& result, Tensor& out) {
  const Tensor host = device_.download(result);
  const Tensor values = host.dtype() == out.dtype() ? host : to_f32(host);
  std::copy_n(values.data<const std::byte>(), values.bytes(), out.data<std::byte>());
}

template <class Run>
void HostBridge::give(Tensor& out, const Run& run) {
  Tensor result = like(out);
  run(device_.kernels(), result);
  down(result, out);
}

template <class Run>
void HostBridge::give(std::span<Tensor> out, const Run& run) {
  std::vector<Tensor> results;
  for (const Tensor& t : out) results.push_back(like(t));
  run(device_.kernels(), std::span<Tensor>(results));
  for (size_t i = 0; i < out.size(); ++i) down(results[i], out[i]);
}

void HostBridge::embed(Tensor& out, const Weight& table, const Tensor& ids) {
  give(out, [&](Kernels& k, Tensor& to) { k.embed(to, up(table), up(ids)); });
}

void HostBridge::linear(std::span<Tensor> out, std::span<const LinearPart> parts) {
  std::deque<Linear> layers;  // parts point to them
  std::vector<LinearPart> placed(parts.begin(), parts.end());
  for (LinearPart& part : placed) {
    Linear& layer = layers.emplace_back();
    for (const Slab& slab : part.layer->slabs) {
      layer.slabs.push_back({up(slab.weight), up(slab.bias)});
      for (const SideBranch& branch : slab.branches)
        layer.slabs.back().branches.push_back({up(branch.down), up(branch.up), branch.factor});
    }
    part.layer = &layer;
    part.x = up(part.x);
    part.epilogue.gate = up(part.epilogue.gate);
    part.epilogue.residual = up(part.epilogue.residual);
  }
  give(out, [&](Kernels& k, std::span<Tensor> to) { k.linear(to, placed); });
}

void HostBridge::rms_norm(Tensor& out, const Tensor& x, const Tensor& weight, const NormOptions& options) {
  give(out, [&](Kernels& k, Tensor& to) { k.rms_norm(to, up(x), up(weight), options); });
}

void HostBridge::layer_norm_modulate(std::span<Tensor> out, std::span<const ModulatePart> parts, float eps) {
  std::vector<ModulatePart> placed;
  for (const ModulatePart& part : parts) placed.push_back({up(part.x), up(part.shift), up(part.scale), part.feeds});
  give(out, [&](Kernels& k, std::span<Tensor> to) { k.layer_norm_modulate(to, placed, eps); });
}

void HostBridge::join_qkv(Qkv& out, std::span<const QkvPart> parts, float eps) {
  std::vector<QkvPart> placed(parts.begin(), parts.end());
  for (QkvPart& part : placed)
    for (Tensor* t : {&part.qkv, &part.q_norm, &part.k_norm, &part.rope.cos_sin}) *t = up(*t);
  Qkv results = {like(out.q), like(out.k), like(out.v), out.sequences};
  device_.kernels().join_qkv(results, placed, eps);
  down(results.q, out.q);
  down(results.k, out.k);
  down(results.v, out.v);
}

void HostBridge::attention(std::span<Tensor> out, const Qkv& in, const AttentionOptions& options) {
  const Qkv placed = {up(in.q), up(in.k), up(in.v), in.sequences};
  give(out, [&](Kernels& k, std::span<Tensor> to) { k.attention(to, placed, options); });
}

void HostBridge::swiglu(Tensor& out, const Tensor& x) {
  give(out, [&](Kernels& k, Tensor& to) { k.swiglu(to, up(x)); });
}

void HostBridge::timestep_embedding(Tensor& out, const Tensor& t) {
  give(out, [&](Kernels& k, Tensor& to) { k.timestep_embedding(to, up(t)); });
}

void HostBridge::patchify(Tensor& out, const Tensor& latents) {
  give(out, [&](Kernels& k, Tensor& to) { k.patchify(to, up(latents)); });
}

void HostBridge::unpatchify(Tensor& out, const Tensor& tokens) {
  give(out, [&](Kernels& k, Tensor& to) { k.unpatchify(to, up(tokens)); });
}

void HostBridge::guided_step(Tensor& out, const Tensor& x, const Guidance& guidance, const Tensor& factor) {
  const Guidance placed = {up(guidance.cond), up(guidance.uncond), up(guidance.scale)};
  give(out, [&](Kernels& k, Tensor& to) { k.guided_step(to, up(x), placed, up(factor)); });
}

void HostBridge::add_scaled(Tensor& out, const Tensor& x, const Tensor& y, const Tensor& factor) {
  give(out, [&](Kernels& k, Tensor& to) { k.add_scaled(to, up(x), up(y), up(factor)); });
}

void HostBridge::scale_shift(Tensor& out, const Tensor& x, const Tensor& scale, const Tensor& shift) {
  give(out, [&](Kernels& k, Tensor& to) { k.scale_shift(to, up(x), up(scale), up(shift)); });
}

void HostBridge::concat_rows(Tensor& out, std::span<const Tensor> parts) {
  std::vector<Tensor> placed;
  for (const Tensor& part : parts) placed.push_back(up(part));
  give(out, [&](Kernels& k, Tensor& to) { k.concat_rows(to, placed); });
}

void HostBridge::conv2d(Tensor& out, const Tensor& x, const Conv2d& conv, const Tensor& residual) {
  Conv2d placed = conv;
  placed.weight = up(conv.weight);
  placed.bias = up(conv.bias);
  placed.norm = up(conv.norm);
  give(out, [&](Kernels& k, Tensor& to) { k.conv2d(to, up(x), placed, up(residual)); });
}

void HostBridge::to_rgb8(Tensor& out, const Tensor& x) {
  give(out, [&](Kernels& k, Tensor& to) { k.to_rgb8(to, up(x)); });
}

void HostBridge::from_rgb8(Tensor& out, const Tensor& x) {
  give(out, [&](Kernels& k, Tensor& to) { k.from_rgb8(to, up(x)); });
}

}  // namespace inkstone
