#include "ops/interceptor.h"

#include <array>

namespace inkstone {
namespace {

constexpr double kMultiplyAdd = 2;  // operations

void add_if_present(std::vector<Tensor>& in, const Tensor& t) {
  if (t) in.push_back(t);
}

double flop_of(const LinearPart& part) {
  int64_t numbers = part.layer->in() * part.layer->out();  // of the matrices that each row meets
  for (const Slab& slab : part.layer->slabs)
    for (const SideBranch& branch : slab.branches) numbers += branch.rank() * (slab.weight.in + slab.weight.out);
  return kMultiplyAdd * static_cast<double>(part.x.dim(0) * numbers);
}

/// Two multiply-adds for each pair of a query and a key that it reads: one for the score, one for the sum.
double flop_of(const Qkv& in, const AttentionOptions& options) {
  double pairs = 0;
  for (int64_t s = 0; s < in.sequences.count(); ++s) {
    const auto n = static_cast<double>(in.sequences.end(s) - in.sequences.begin(s));
    pairs += options.causal ? n * (n + 1) / 2 : n * n;
  }
  return 2 * kMultiplyAdd * pairs * static_cast<double>(in.q.dim(1) * in.q.dim(2));
}

double flop_of(const Tensor& out, const Conv2d& conv) {
  const int64_t taps = conv.weight.dim(1) * conv.weight.dim(2) * conv.in();
  return kMultiplyAdd * static_cast<double>(out.count() * taps);
}

}  // namespace

void Interceptor::embed(Tensor& out, const Weight& table, const Tensor& ids) {
  intercept({"embed", {&out, 1}, {ids}, 0, [&](Kernels& k, std::span<Tensor> to) { k.embed(to[0], table, ids); }});
}

void Interceptor::linear(std::span<Tensor> out, std::span<const LinearPart> parts) {
  std::vector<Tensor> in;
  double flop = 0;
  for (const LinearPart& part : parts) {
    in.push_back(part.x);
    add_if_present(in, part.epilogue.residual);
    flop += flop_of(part);
  }
  intercept({"linear", out, in, flop, [&](Kernels& k, std::span<Tensor> to) { k.linear(to, parts); }, parts});
}

void Interceptor::rms_norm(Tensor& out, const Tensor& x, const Tensor& weight, const NormOptions& options) {
  intercept({"rms_norm", {&out, 1}, {x}, 0, [&](Kernels& k, std::span<Tensor> to) {
               k.rms_norm(to[0], x, weight, options);
             }});
}

void Interceptor::layer_norm_modulate(std::span<Tensor> out, std::span<const ModulatePart> parts, float eps) {
  std::vector<Tensor> in;
  for (const ModulatePart& part : parts) in.push_back(part.x);
  intercept({"layer_norm_modulate", out, in, 0,
             [&](Kernels& k, std::span<Tensor> to) { k.layer_norm_modulate(to, parts, eps); }});
}

void Interceptor::join_qkv(Qkv& out, std::span<const QkvPart> parts, float eps) {
  std::vector<Tensor> in;
  for (const QkvPart& part : parts) in.push_back(part.qkv);
  std::array<Tensor, 3> results = {out.q, out.k, out.v};
  intercept({"join_qkv", results, in, 0, [&](Kernels& k, std::span<Tensor> to) {
               Qkv qkv = {.q = to[0], .k = to[1], .v = to[2], .sequences = out.sequences};
               k.join_qkv(qkv, parts, eps);
               to[0] = qkv.q, to[1] = qkv.k, to[2] = qkv.v;
             }});
  out.q = results[0], out.k = results[1], out.v = results[2];
}

void Interceptor::attention(std::span<Tensor> out, const Qkv& in, const AttentionOptions& options) {
  intercept({"attention",
             out,
             {in.q, in.k, in.v},
             flop_of(in, options),
             [&](Kernels& k, std::span<Tensor> to) { k.attention(to, in, options); },
             {},
             nullptr,
             options.tolerant ? &in : nullptr});
}

void Interceptor::swiglu(Tensor& out, const Tensor& x) {
  intercept({"swiglu", {&out, 1}, {x}, 0, [&](Kernels& k, std::span<Tensor> to) { k.swiglu(to[0], x); }});
}

void Interceptor::timestep_embedding(Tensor& out, const Tensor& t) {
  intercept({"timestep_embedding", {&out, 1}, {t}, 0, [&](Kernels& k, std::span<Tensor> to) {
               k.timestep_embedding(to[0], t);
             }});
}

void Interceptor::patchify(Tensor& out, const Tensor& latents) {
  intercept(
      {"patchify", {&out, 1}, {latents}, 0, [&](Kernels& k, std::span<Tensor> to) { k.patchify(to[0], latents); }});
}

void Interceptor::unpatchify(Tensor& out, const Tensor& tokens) {
  intercept(
      {"unpatchify", {&out, 1}, {tokens}, 0, [&](Kernels& k, std::span<Tensor> to) { k.unpatchify(to[0], tokens); }});
}

void Interceptor::guided_step(Tensor& out, const Tensor& x, const Guidance& guidance, const Tensor& factor) {
  const auto& [cond, uncond, scale] = guidance;
  intercept({"guided_step", {&out, 1}, {x, cond, uncond, scale, factor}, 0, [&](Kernels& k, std::span<Tensor> to) {
               k.guided_step(to[0], x, guidance, factor);
             }});
}

void Interceptor::add_scaled(Tensor& out, const Tensor& x, const Tensor& y, const Tensor& factor) {
  intercept({"add_scaled", {&out, 1}, {x, y, factor}, 0, [&](Kernels& k, std::span<Tensor> to) {
               k.add_scaled(to[0], x, y, factor);
             }});
}

void Interceptor::scale_shift(Tensor& out, const Tensor& x, const Tensor& scale, const Tensor& shift) {
  intercept({"scale_shift", {&out, 1}, {x, scale, shift}, 0, [&](Kernels& k, std::span<Tensor> to) {
               k.scale_shift(to[0], x, scale, shift);
             }});
}

void Interceptor::concat_rows(Tensor& out, std::span<const Tensor> parts) {
  intercept({"concat_rows", {&out, 1}, {parts.begin(), parts.end()}, 0, [&](Kernels& k, std::span<Tensor> to) {
               k.concat_rows(to[0], parts);
             }});
}

void Interceptor::conv2d(Tensor& out, const Tensor& x, const Conv2d& conv, const Tensor& residual) {
  std::vector<Tensor> in = {x};
  add_if_present(in, residual);
  intercept({.op = "conv2d",
             .out = {&out, 1},
             .in = in,
             .flop = flop_of(out, conv),
             .run = [&](Kernels& k, std::span<Tensor> to) { k.conv2d(to[0], x, conv, residual); },
             .conv = &conv});
}

void Interceptor::to_rgb8(Tensor& out, const Tensor& x) {
  intercept({"to_rgb8", {&out, 1}, {x}, 0, [&](Kernels& k, std::span<Tensor> to) { k.to_rgb8(to[0], x); }});
}

void Interceptor::from_rgb8(Tensor& out, const Tensor& x) {
  intercept({"from_rgb8", {&out, 1}, {x}, 0, [&](Kernels& k, std::span<Tensor> to) { k.from_rgb8(to[0], x); }});
}

}  // namespace inkstone
