#include "ops/ops.h"

#include "ops/arguments.h"

namespace inkstone {
namespace {

const Shape kScalar = {1};

void check_part(const Arguments& arguments, const LinearPart& part) {
  arguments.layer_input("x", part.x);
  arguments.need(part.layer != nullptr, "x {} has no layer", part.x.shape());
  arguments.layer(*part.layer, part.x.dim(1));
  const Epilogue& e = part.epilogue;
  const Shape out = {part.x.dim(0), part.layer->out()};
  if (e.gate) arguments.vectors("gate", e.gate, out[0], out[1]);
  if (e.residual) arguments.activation("residual", e.residual, out);
  arguments.need(e.feeds == nullptr || e.feeds->in() == out[1], "output {} cannot feed a layer that takes {}", out,
                 e.feeds == nullptr ? 0 : e.feeds->in());
}

void check_part(const Arguments& arguments, const QkvPart& part, const Heads& heads) {
  arguments.activation("qkv", part.qkv, 2);
  const int64_t n = part.qkv.dim(0);
  arguments.activation("qkv", part.qkv, {n, (heads.heads + 2 * heads.kv_heads) * heads.width});
  arguments.sequences(part.sequences, n);
  if (part.q_norm) arguments.tensor("q_norm", part.q_norm, {heads.width}, DType::f32);
  if (part.k_norm) arguments.tensor("k_norm", part.k_norm, {heads.width}, DType::f32);
  if (!part.rope) return;
  arguments.need(heads.width % 2 == 0, "heads of odd width {} cannot be rotated", heads.width);
  arguments.tensor("rope", part.rope.cos_sin, {n, heads.width / 2, 2}, DType::f32);
}

}  // namespace

Tensor Ops::empty(const Shape& shape, Use use) {
  return empty(shape, use == Use::operand ? device_.narrow_type() : device_.activation_type());
}

Tensor Ops::empty(const Shape& shape, DType dtype) {
  return {device_.allocate(static_cast<size_t>(shape.count()) * size_of(dtype)), 0, shape, dtype};
}

Tensor Ops::embed(const Weight& table, const Tensor& ids) {
  const Arguments arguments("embed", device_);
  arguments.weight("table", table);
  arguments.need(ids && ids.shape().rank() == 1 && ids.dtype() == DType::i32, "ids are {} {}, I32 [n] is needed",
                 name_of(ids.dtype()), ids.shape());
  Tensor out = empty({ids.dim(0), table.in});
  kernels_.embed(out, table, ids);
  return out;
}

std::vector<Tensor> Ops::linear(const std::vector<LinearPart>& parts, Use use) {
  const Arguments arguments("linear", device_);
  std::vector<Tensor> out;
  for (const LinearPart& part : parts) {
    check_part(arguments, part);
    out.push_back(empty({part.x.dim(0), part.layer->out()}, use));
  }
  kernels_.linear(out, parts);
  return out;
}

Tensor Ops::linear(const Tensor& x, const Linear& layer, const Epilogue& epilogue, Use use) {
  return linear({{x, &layer, epilogue}}, use).front();
}

Tensor Ops::rms_norm(const Tensor& x, const Tensor& weight, const NormOptions& options, Use use) {
  const Arguments arguments("rms_norm", device_);
  arguments.activation("x", x);
  arguments.tensor("weight", weight, {x.dim(-1)}, DType::f32);
  Tensor out = empty(x.shape(), use);
  kernels_.rms_norm(out, x, weight, options);
  return out;
}

std::vector<Tensor> Ops::layer_norm_modulate(const std::vector<ModulatePart>& parts, float eps) {
  const Arguments arguments("layer_norm_modulate", device_);
  std::vector<Tensor> out;
  for (const ModulatePart& part : parts) {
    arguments.activation("x", part.x, 2);
    const int64_t n = part.x.dim(0), d = part.x.dim(1);
    arguments.vectors("shift", part.shift, n, d);
    arguments.vectors("scale", part.scale, n, d);
    arguments.need(part.feeds == nullptr || part.feeds->in() == d, "x {} cannot feed a layer that takes {}",
                   part.x.shape(), part.feeds == nullptr ? 0 : part.feeds->in());
    out.push_back(empty(part.x.shape()));
  }
  kernels_.layer_norm_modulate(out, parts, eps);
  return out;
}

Qkv Ops::join_qkv(const std::vector<QkvPart>& parts, const Heads& heads, float eps) {
  const Arguments arguments("join_qkv", device_);
  arguments.need(!parts.empty(), "there is no part");
  arguments.need(heads.kv_heads > 0 && heads.heads > 0 && heads.heads % heads.kv_heads == 0,
                 "{} heads cannot share {} key heads", heads.heads, heads.kv_heads);
  Qkv out;
  for (const QkvPart& part : parts) {
    check_part(arguments, part, heads);
    const int64_t count = part.sequences->count();
    arguments.need(count == parts.front().sequences->count(), "streams of {} and {} sequences",
                   parts.front().sequences->count(), count);
    out.sequences.streams.push_back(*part.sequences);
  }
  const int64_t n = out.sequences.rows();
  out.q = empty({n, heads.heads, heads.width});
  out.k = empty({n, heads.kv_heads, heads.width});
  out.v = empty({n, heads.kv_heads, heads.width});
  kernels_.join_qkv(out, parts, eps);
  return out;
}

std::vector<Tensor> Ops::attention(const Qkv& in, const AttentionOptions& options) {
  const Arguments arguments("attention", device_);
  arguments.activation("q", in.q, 3);
  arguments.activation("k", in.k, 3);
  const int64_t heads = in.q.dim(1), kv_heads = in.k.dim(1), width = in.q.dim(2);
  arguments.need(kv_heads > 0 && heads % kv_heads == 0, "q {} cannot share the heads of k {}", in.q.shape(),
                 in.k.shape());
  arguments.activation("k", in.k, {in.q.dim(0), kv_heads, width});
  arguments.activation("v", in.v, in.k.shape());
  arguments.need(!in.sequences.streams.empty() && in.sequences.rows() == in.q.dim(0), "q {} has sequences of {} rows",
                 in.q.shape(), in.sequences.streams.empty() ? 0 : in.sequences.rows());
  arguments.need(options.feeds.empty() || options.feeds.size() == in.sequences.streams.size(),
                 "{} streams cannot feed {} layers", in.sequences.streams.size(), options.feeds.size());
  for (const Linear* layer : options.feeds)
    arguments.need(layer == nullptr || layer->in() == heads * width, "q {} cannot feed a layer that takes {}",
                   in.q.shape(), layer == nullptr ? 0 : layer->in());
  std::vector<Tensor> out;
  for (const Sequences& stream : in.sequences.streams)
    out.push_back(empty({stream.rows(), heads * width}, Use::operand));
  kernels_.attention(out, in, options);
  return out;
}

Tensor Ops::swiglu(const Tensor& x) {
  const Arguments arguments("swiglu", device_);
  arguments.activation("x", x, 2);
  arguments.need(x.dim(1) % 2 == 0, "x {} has no two equal halves", x.shape());
  Tensor out = empty({x.dim(0), x.dim(1) / 2});
  kernels_.swiglu(out, x);
  return out;
}

Tensor Ops::timestep_embedding(const Tensor& t, int64_t width) {
  const Arguments arguments("timestep_embedding", device_);
  arguments.need(t && t.shape().rank() == 1 && t.dtype() == DType::f32, "t is {} {}, F32 [n] is needed",
                 name_of(t.dtype()), t.shape());
  arguments.need(width > 0 && width % 2 == 0, "t {} has width {}, an even one is needed", t.shape(), width);
  Tensor out = empty({t.dim(0), width});
  kernels_.timestep_embedding(out, t);
  return out;
}

Tensor Ops::patchify(const Tensor& latents, int64_t patch) {
  const Arguments arguments("patchify", device_);
  arguments.activation("latents", latents, 4);
  const int64_t height = latents.dim(2), width = latents.dim(3);
  arguments.need(patch > 0 && height % patch == 0 && width % patch == 0,
                 "latents {} cannot be cut into patches of side {}", latents.shape(), patch);
  Tensor out = empty({latents.dim(0) * (height / patch) * (width / patch), latents.dim(1) * patch * patch});
  kernels_.patchify(out, latents);
  return out;
}

Tensor Ops::unpatchify(const Tensor& tokens, const Shape& grid, int64_t patch) {
  const Arguments arguments("unpatchify", device_);
  arguments.activation("tokens", tokens, 2);
  arguments.need(grid.rank() == 3 && patch > 0, "latents {} with patches of side {}: (count, height, width) is needed",
                 grid, patch);
  const int64_t area = patch * patch;
  arguments.need(
      grid[1] % patch == 0 && grid[2] % patch == 0 && grid.count() == tokens.dim(0) * area && tokens.dim(1) % area == 0,
      "tokens {} are not latents {} cut into patches of side {}", tokens.shape(), grid, patch);
  Tensor out = empty({grid[0], grid[1], grid[2], tokens.dim(1) / area});
  kernels_.unpatchify(out, tokens);
  return out;
}

Tensor Ops::guided_step(const Tensor& x, const Guidance& guidance, const Tensor& factor) {
  const Arguments arguments("guided_step", device_);
  arguments.activation("x", x, 2);
  arguments.activation("cond", guidance.cond, x.shape());
  arguments.activation("uncond", guidance.uncond, x.shape());
  arguments.tensor("scale", guidance.scale, kScalar, DType::f32);
  arguments.tensor("factor", factor, kScalar, DType::f32);
  Tensor out = empty(x.shape());
  kernels_.guided_step(out, x, guidance, factor);
  return out;
}

Tensor Ops::add_scaled(const Tensor& x, const Tensor& y, const Tensor& factor) {
  const Arguments arguments("add_scaled", device_);
  arguments.activation("x", x);
  arguments.activation("y", y, x.shape());
  arguments.tensor("factor", factor, kScalar, DType::f32);
  Tensor out = empty(x.shape());
  kernels_.add_scaled(out, x, y, factor);
  return out;
}

Tensor Ops::scale_shift(const Tensor& x, const Tensor& scale, const Tensor& shift) {
  const Arguments arguments("scale_shift", device_);
  arguments.activation("x", x);
  arguments.tensor("scale", scale, {x.dim(-1)}, DType::f32);
  arguments.tensor("shift", shift, {x.dim(-1)}, DType::f32);
  Tensor out = empty(x.shape());
  kernels_.scale_shift(out, x, scale, shift);
  return out;
}

Tensor Ops::concat_rows(const std::vector<Tensor>& parts) {
  const Arguments arguments("concat_rows", device_);
  arguments.need(!parts.empty(), "there is no part");
  int64_t rows = 0;
  bool alike = true;
  for (const Tensor& part : parts) {
    arguments.activation("part", part);
    arguments.need(part.shape() == parts.front().shape().with_first(part.dim(0)), "{} cannot stand below {}",
                   part.shape(), parts.front().shape());
    rows += part.dim(0);
    alike = alike && part.dtype() == parts.front().dtype();
  }
  const Shape shape = parts.front().shape().with_first(rows);
  Tensor out = alike ? empty(shape, parts.front().dtype()) : empty(shape);
  kernels_.concat_rows(out, parts);
  return out;
}

Tensor Ops::conv2d(const Tensor& x, const Conv2d& conv, const Tensor& residual) {
  const Arguments arguments("conv2d", device_);
  arguments.activation("x", x, 4);
  arguments.need(conv.weight && conv.weight.shape().rank() == 4, "weight is {}, (out, 3, 3, in) is needed",
                 conv.weight.shape());
  const Shape weight = {conv.out(), 3, 3, x.dim(3)};
  arguments.need(conv.weight.shape() == weight, "weight is {} for x {}, {} is needed", conv.weight.shape(), x.shape(),
                 weight);
  arguments.tensor("bias", conv.bias, {conv.out()}, DType::f32);
  if (conv.norm) arguments.tensor("norm", conv.norm, {conv.out()}, DType::f32);
  arguments.need((conv.stride == 1 || conv.stride == 2) && (conv.upsampling == 1 || conv.upsampling == 2),
                 "stride {} and upsampling {} for x {}: 1 or 2 is needed", conv.stride, conv.upsampling, x.shape());
  const Shape shape = {x.dim(0), x.dim(1) * conv.upsampling / conv.stride, x.dim(2) * conv.upsampling / conv.stride,
                       conv.out()};
  if (residual) arguments.activation("residual", residual, shape);
  Tensor out = empty(shape);
  kernels_.conv2d(out, x, conv, residual);
  return out;
}

Tensor Ops::to_rgb8(const Tensor& x) {
  const Arguments arguments("to_rgb8", device_);
  arguments.activation("x", x);
  Tensor out = empty(x.shape(), DType::u8);
  kernels_.to_rgb8(out, x);
  return out;
}

Tensor Ops::from_rgb8(const Tensor& x) {
  const Arguments arguments("from_rgb8", device_);
  arguments.need(x && x.dtype() == DType::u8, "x is {} {}, a tensor of U8 is needed", name_of(x.dtype()), x.shape());
  Tensor out = empty(x.shape());
  kernels_.from_rgb8(out, x);
  return out;
}

}  // namespace inkstone
