#include "io/scheme.h"

#include "io/json.h"

namespace inkstone {

std::string_view name_of(Component component) {
  switch (component) {
    case Component::transformer:
      return "transformer";
    case Component::text_encoder:
      return "text_encoder";
    case Component::vae:
      return "vae";
  }
  return "";
}

const StoredTensor* find(const TensorMap& tensors, std::string_view name) {
  const auto found = tensors.find(name);
  return found == tensors.end() ? nullptr : &found->second;
}

std::string describe(const StoredTensor& tensor, std::string_view canonical) {
  std::string text = fmt::format("{}: tensor {}", tensor.file.string(), shown(tensor.name));
  if (tensor.name != canonical) text += fmt::format(" ({} here)", canonical);
  return text;
}

void check_scale_type(const StoredTensor& tensor, std::string_view canonical) {
  const DType type = tensor.data.dtype();
  check(type == DType::f32 || type == DType::f16 || type == DType::bf16, "{}: is {}; F32, F16 and BF16 work",
        describe(tensor, canonical), type_name(tensor));
}

void check_weight_type(const StoredTensor& tensor, std::string_view canonical) {
  check(dense_format(tensor.data.dtype()).has_value(), "{}: is {}; {} work", describe(tensor, canonical),
        type_name(tensor), dense_types());
}

std::string with_replaced(std::string name, std::string_view from, std::string_view to) {
  if (const size_t at = name.find(from); at != std::string::npos) name.replace(at, from.size(), to);
  return name;
}

}  // namespace inkstone
