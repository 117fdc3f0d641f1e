#include "engine/component_totals.h"

#include <algorithm>
#include <cctype>
#include <set>

#include "core/error.h"

namespace inkstone {
namespace {

constexpr const char* kMixed = " in the cpu's order";

std::optional<PackedWeight> packed_matrix(const Checkpoint& files, const std::string& name) {
  if (!name.ends_with(kWeightSuffix)) return std::nullopt;
  return files.packed(name.substr(0, name.size() - kWeightSuffix.size()));
}

std::string lower(std::string_view text) {
  std::string out(text);
  std::ranges::transform(out, out.begin(), [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  return out;
}

/// "bf16", or "int4+bf16" with the greater share first.
std::string format_text(const std::map<std::string, int64_t>& formats) {
  std::vector<std::pair<int64_t, std::string>> shares;
  for (const auto& [format, parameters] : formats) shares.emplace_back(-parameters, format);
  std::ranges::sort(shares);
  std::vector<std::string> names;
  for (const auto& [parameters, format] : shares) names.push_back(format);
  return fmt::format("{}", fmt::join(names, "+"));
}

}  // namespace

std::string_view telling_tensor(Component component) {
  switch (component) {
    case Component::transformer:
      return "img_in.weight";
    case Component::text_encoder:
      return "model.embed_tokens.weight";
    case Component::vae:
      return "decoder.conv_in.weight";
  }
  return "";
}

ComponentTotals totals_of(const Checkpoint& files) {
  ComponentTotals totals;
  std::map<std::string, int64_t> formats, packed_formats;  // parameters of matrices
  std::set<std::string> parts_of_packed;
  for (const auto& [name, tensor] : files.tensors) {
    totals.bytes += tensor.data.bytes();
    ++totals.dtypes[type_name(tensor)];
    if (const auto packed = packed_matrix(files, name)) {
      const int64_t parameters = packed->weight.out * packed->weight.in;
      const std::string format(layout_of(packed->weight.format).name);
      formats[format + (packed->weight.factors ? kMixed : "")] += parameters;
      packed_formats[format] += parameters;
      totals.parameters += parameters;
      parts_of_packed.insert(packed->parts.begin(), packed->parts.end());
    }
  }
  for (const auto& [name, tensor] : files.tensors) {
    if (parts_of_packed.contains(name)) continue;
    totals.parameters += tensor.data.count();
    if (tensor.data.shape().rank() > 1) formats[lower(type_name(tensor))] += tensor.data.count();
  }
  totals.format = format_text(formats);
  totals.packed = format_text(packed_formats);
  return totals;
}

bool loses_in_bf16(const Checkpoint& files) {
  return std::ranges::any_of(files.tensors, [](const auto& item) {
    const DType type = item.second.data.dtype();
    return item.second.data.shape().rank() > 1 && (type == DType::f32 || type == DType::f16);
  });
}

}  // namespace inkstone
