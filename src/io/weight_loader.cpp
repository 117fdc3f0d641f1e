#include "io/weight_loader.h"

#include <algorithm>

#include "core/host_memory.h"
#include "core/mapped_file.h"
#include "io/json.h"

namespace inkstone {
namespace {

constexpr int64_t kKernel = 3;                 // rows, columns and frames of a convolution
constexpr int64_t kPiece = int64_t{16} << 20;  // numbers that are converted between two looks at the stop token
constexpr size_t kSmall =
    size_t{1} << 20;  // bytes; below, such as biases: to ask for room takes longer than to fill it

[[noreturn]] void refuse_shape(const StoredTensor& tensor, const std::string& name, const std::string& needed) {
  fail("{}: has shape {}, {} is needed", describe(tensor, name), tensor.data.shape().text(), needed);
}

/// Converted weights must fit into memory, unlike mapped ones.
void check_room(const Shape& shape, DType type) {
  const size_t bytes = static_cast<size_t>(shape.count()) * size_of(type);
  if (bytes < kSmall) return;
  const size_t available = available_memory();
  check(bytes <= available, "a weight {} held as {}: {} bytes are needed, {} are available", shape.text(),
        name_of(type), bytes, available);
}

/// (out, in) without the kernel axes of size 1 between or behind, which only a VAE's convolutions have; empty if it is
/// something else.
std::optional<Shape> matrix_shape(const Shape& shape, Component component, bool channels_last) {
  if (shape.rank() < 2 || (shape.rank() > 2 && component != Component::vae)) return std::nullopt;
  const int in = channels_last ? shape.rank() - 1 : 1;
  for (int i = 1; i < shape.rank(); ++i)
    if (i != in && shape[i] != 1) return std::nullopt;
  return Shape{shape[0], shape[in]};
}

/// Whether a tensor is a row of n numbers. A VAE's have axes of size 1 beside (its norms broadcast over pixels).
bool is_vector(const Shape& shape, Component component, int64_t n) {
  if (component != Component::vae) return shape == Shape{n};
  for (int i = 0; i < shape.rank(); ++i)
    if (shape[i] != 1 && shape[i] != n) return false;
  return shape.rank() > 0 && shape.count() == n;
}

/// Elements between neighbours along the axes of a stored kernel, and to its last temporal slice.
struct KernelStrides {
  int64_t out, row, column, in, last_slice;
};

std::optional<KernelStrides> kernel_strides(const Shape& shape, int64_t out, int64_t in, bool channels_last) {
  constexpr int64_t k = kKernel;
  const Shape flat = channels_last ? Shape{out, k, k, in} : Shape{out, in, k, k};
  const Shape causal = channels_last ? Shape{out, k, k, k, in} : Shape{out, in, k, k, k};
  if (shape != flat && shape != causal) return std::nullopt;
  const int64_t slices = shape == causal ? k : 1;
  const int64_t pixel = channels_last ? in : 1;
  return KernelStrides{.out = in * slices * k * k,
                       .row = k * pixel,
                       .column = pixel,
                       .in = channels_last ? 1 : slices * k * k,
                       .last_slice = (slices - 1) * k * k * pixel};
}

template <class T>
void copy_kernel(const Tensor& stored, const KernelStrides& s, const Tensor& kernel) {
  const T* from = stored.data<const T>() + s.last_slice;
  T* to = kernel.data<T>();
  for (int64_t o = 0; o < kernel.dim(0); ++o)
    for (int64_t y = 0; y < kKernel; ++y)
      for (int64_t x = 0; x < kKernel; ++x)
        for (int64_t i = 0; i < kernel.dim(3); ++i) *to++ = from[o * s.out + y * s.row + x * s.column + i * s.in];
}

}  // namespace

WeightLoader::WeightLoader(const Checkpoint& checkpoint, WeightPlace& place, HeldType held, std::stop_token stop)
    : checkpoint_(checkpoint), place_(place), held_(held), stop_(std::move(stop)) {
  check(!held || held == DType::f32 || held == DType::bf16, "weights cannot be held as {}; F32 and BF16 work",
        held ? name_of(*held) : "");
}

void WeightLoader::check_stop() const {
  if (stop_.stop_requested()) throw Cancelled();
}

std::string WeightLoader::unused_beside(const std::string& name) const {
  const std::string layer = name.substr(0, name.rfind('.') + 1);
  std::vector<std::string> names;
  for (const auto& [canonical, tensor] : checkpoint_.tensors)
    if (canonical.starts_with(layer) && !used_.contains(canonical)) names.push_back(tensor.name);
  return names.empty() ? "" : fmt::format("; unused of its layer: {}", first_names(names));
}

const StoredTensor& WeightLoader::need(const std::string& name) {
  const StoredTensor* tensor = checkpoint_.find(name);
  if (tensor == nullptr)
    fail("{}: tensor \"{}\" is missing{}{}", checkpoint_.path.string(), name,
         checkpoint_.scheme == &diffusers_scheme() ? "" : " (its name in diffusers)", unused_beside(name));
  used_.insert(name);
  return *tensor;
}

Tensor WeightLoader::hold(const Tensor& dense) const {
  if (!held_ || held_ == dense.dtype()) return dense;
  if (held_ == DType::bf16 && is_fp8(dense.dtype())) return dense;  // stays packed
  return converted(dense_weight(dense.reshape({dense.dim(0), dense.count() / dense.dim(0)})), *held_)
      .reshape(dense.shape());
}

/// A matrix as f32 or bf16 in memory of its own. Its pages of the file leave resident memory: a component's would else
/// lie beside all copies until the last is made.
Tensor WeightLoader::converted(const Weight& weight, DType type) const {
  const Shape shape = {weight.out, weight.in};
  check_room(shape, type);
  const Tensor all = host_tensor(shape, type);
  const int64_t rows = std::max<int64_t>(1, kPiece / weight.in);
  for (int64_t begin = 0, end = 0; begin < weight.out; begin = end) {
    check_stop();
    end = std::min(begin + rows, weight.out);
    const Tensor piece = all.rows(begin, end);
    const Tensor wide = type == DType::f32 ? piece : host_tensor(piece.shape(), DType::f32);
    dequantize_rows(weight, begin, end, wide.data<float>());
    if (type == DType::bf16) std::ranges::transform(wide.span<const float>(), piece.data<bf16_t>(), to_bf16);
  }
  for (const Tensor& part : {weight.data, weight.scales, weight.offsets, weight.factors}) release_pages(part);
  return all;
}

Weight WeightLoader::packed_matrix(const std::string& layer, const PackedWeight& packed, int64_t out, int64_t in) {
  mark_used(packed);
  const Weight& weight = packed.weight;
  const std::string& name = packed.parts.front();
  check(weight.out == out && weight.in == in, "{}: layer {} is packed and holds {}, {} is needed",
        describe(*checkpoint_.find(name), name), layer, Shape{weight.out, weight.in}.text(), Shape{out, in}.text());
  return held_ == DType::f32 || (held_ && weight.factors) ? dense_weight(converted(weight, *held_)) : weight;
}

Weight WeightLoader::matrix(const std::string& layer, int64_t out, int64_t in) {
  check_stop();
  if (const auto packed = checkpoint_.packed(layer)) return packed_matrix(layer, *packed, out, in);
  const std::string name = layer + std::string(kWeightSuffix);
  const StoredTensor& stored = need(name);
  check_weight_type(stored, name);
  const Shape shape = {out, in};
  if (matrix_shape(stored.data.shape(), checkpoint_.component, checkpoint_.scheme->channels_last) != shape)
    refuse_shape(stored, name, shape.text());
  return dense_weight(hold(stored.data.reshape(shape)));
}

std::vector<SideBranch> WeightLoader::side_branches(const std::string& layer) const {
  std::vector<SideBranch> branches;
  const auto stored = checkpoint_.branches.find(layer);
  if (stored == checkpoint_.branches.end()) return branches;
  for (const StoredBranch& branch : stored->second)
    branches.push_back({dense_weight(branch.down.data), dense_weight(branch.up.data), branch.factor});
  return branches;
}

Linear WeightLoader::linear(const std::vector<SlabName>& slabs, int64_t in, Bias bias) {
  Linear layer;
  for (const SlabName& slab : slabs) {
    const Weight weight = matrix(slab.name, slab.out, in);
    layer.slabs.push_back({weight, bias == Bias::present ? numbers(slab.name + ".bias", slab.out) : Tensor(),
                           side_branches(slab.name), slab.name});
  }
  place_.upload_weights(layer);
  return layer;
}

Linear WeightLoader::linear(const std::string& name, int64_t out, int64_t in, Bias bias) {
  return linear({{name, out}}, in, bias);
}

Linear WeightLoader::tolerant(Linear layer) const {
  layer.tolerance = std::make_shared<Tolerance>();
  place_.round_weights(layer);
  return layer;
}

Conv2d WeightLoader::tolerant(Conv2d conv) const {
  conv.tolerant = true;
  return conv;
}

Weight WeightLoader::table(const std::string& name, int64_t rows, int64_t width) {
  check(name.ends_with(kWeightSuffix), "the table \"{}\" must be named with its suffix {}", name, kWeightSuffix);
  Weight table = matrix(name.substr(0, name.size() - kWeightSuffix.size()), rows, width);
  for_each_tensor(table, [this](Tensor& tensor) { tensor = place_.upload_weight(tensor); });
  return table;
}

Tensor WeightLoader::vector(const std::string& name, int64_t n) { return place_.upload_weight(numbers(name, n)); }

Tensor WeightLoader::numbers(const std::string& name, int64_t n) {
  check_stop();
  const StoredTensor& stored = need(name);
  check_weight_type(stored, name);
  if (!is_vector(stored.data.shape(), checkpoint_.component, n)) refuse_shape(stored, name, Shape{n}.text());
  const Tensor flat = stored.data.reshape({n});
  return flat.dtype() == DType::f32 ? flat
                                    : converted(dense_weight(stored.data.reshape({1, n})), DType::f32).reshape({n});
}

Conv2d WeightLoader::conv2d(const std::string& name, int64_t out, int64_t in) {
  check_stop();
  const std::string weight = name + std::string(kWeightSuffix);
  const StoredTensor& stored = need(weight);
  check_weight_type(stored, weight);
  const bool channels_last = checkpoint_.scheme->channels_last;
  const auto strides = kernel_strides(stored.data.shape(), out, in, channels_last);
  if (!strides)
    refuse_shape(stored, weight,
                 channels_last ? fmt::format("[{0}, 3, 3, {1}] or [{0}, 3, 3, 3, {1}]", out, in)
                               : fmt::format("[{0}, {1}, 3, 3] or [{0}, {1}, 3, 3, 3]", out, in));
  Tensor source = stored.data;
  if (is_fp8(source.dtype()))  // no device convolves with it; bf16 holds its numbers exactly
    source = converted(dense_weight(source.reshape({1, source.count()})), DType::bf16).reshape(source.shape());
  const Tensor kernel = host_tensor({out, kKernel, kKernel, in}, source.dtype());
  if (size_of(source.dtype()) == sizeof(float)) {
    copy_kernel<float>(source, *strides, kernel);
  } else {
    copy_kernel<uint16_t>(source, *strides, kernel);
  }
  return {.weight = place_.upload_weight(hold(kernel)), .bias = vector(name + ".bias", out)};
}

void WeightLoader::ignore(const std::string& prefix) { ignored_.push_back(prefix); }

void WeightLoader::ignore_layer(const std::string& name, Bias bias) {
  mark_used(name + std::string(kWeightSuffix));
  if (bias == Bias::present) mark_used(name + ".bias");
  if (const auto packed = checkpoint_.packed(name)) mark_used(*packed);
}

std::vector<std::string> WeightLoader::surplus() const {
  std::vector<std::string> names;
  for (const auto& item : checkpoint_.tensors) {
    const std::string& name = item.first;
    const bool known = used_.contains(name) || std::any_of(ignored_.begin(), ignored_.end(), [&](const auto& prefix) {
                         return name.starts_with(prefix);
                       });
    if (!known) names.push_back(name);
  }
  return names;
}

void WeightLoader::finish() const {
  place_.finish_uploads();
  const std::vector<std::string> names = surplus();
  if (!names.empty())
    fail("{}: is not part of this {} ({} such in all)", describe(*checkpoint_.find(names.front()), names.front()),
         name_of(checkpoint_.component), names.size());
}

}  // namespace inkstone
