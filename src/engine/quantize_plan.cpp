#include "engine/quantize_plan.h"

#include <algorithm>
#include <array>
#include <map>
#include <numeric>
#include <set>

#include "inkstone/combination_error.h"

#include "core/option_error.h"
#include "io/json.h"
#include "model/text_encoder.h"
#include "ops/mixed_codes.h"
#include "ops/quantize.h"

namespace inkstone {
namespace {

constexpr size_t kShardBytes = 2'000'000'000;  // a stopped run does at most this much again
constexpr std::array<int64_t, 3> kGroups = {32, 64, 128};
constexpr const char *kRows = "rows", *kForCpu = "cpu";  // layouts
constexpr std::array<std::string_view, 6> kTargetNames = {"stored", "f32", "bf16", "fp8", "int8", "int4"};

// Small matrices that every number of a picture or prompt passes, and the table of tokens, of which few rows are read.
constexpr std::array<const char*, 6> kKeptPatterns = {"img_in.*",   "txt_in.*",   "time_text_embed.*",
                                                      "norm_out.*", "proj_out.*", "model.embed_tokens.*"};

Target target_named(const std::string& name, const char* option) {
  const auto found = std::ranges::find(kTargetNames, name);
  check_option(found != kTargetNames.end(), "{} {}: int4, int8, fp8, bf16, f32 or stored is needed", option,
               shown(name));
  return static_cast<Target>(found - kTargetNames.begin());
}

bool is_dense_matrix(const std::string& name, const Tensor& data) {
  return name.ends_with(kWeightSuffix) && data.shape().rank() == 2 && data.count() > 0 && dense_format(data.dtype());
}

bool is_grouped(Target target) { return target == Target::int8 || target == Target::int4; }

std::vector<SafetensorsEntry> outputs_of(const TensorPlan& plan) {
  const auto entry = [](const std::string& name, DType dtype, const Shape& shape) {
    return SafetensorsEntry{.name = name, .dtype = dtype, .shape = shape};
  };
  const std::string layer = plan.name.substr(0, plan.name.size() - kWeightSuffix.size());
  const int64_t out = plan.matrix.out, in = plan.matrix.in;
  switch (plan.target) {
    case Target::stored:
      return {entry(plan.name, plan.stored.dtype(), plan.stored.shape())};
    case Target::f32:
      return {entry(plan.name, DType::f32, {out, in})};
    case Target::bf16:
      return {entry(plan.name, DType::bf16, {out, in})};
    case Target::fp8:
      return {entry(plan.name, DType::f8_e4m3, {out, in}), entry(layer + ".weight_scale", DType::f32, {}),
              entry(layer + ".comfy_quant", DType::u8, {static_cast<int64_t>(kFp8Description.size())})};
    case Target::int8:
    case Target::int4:
      break;
  }
  const bool small = plan.target == Target::int4;
  if (plan.mixed) {
    std::vector<SafetensorsEntry> parts = {
        entry(plan.name, DType::u8, {out, small ? in / 2 : in}),
        entry(layer + ".scales", DType::f32, {MixedOrder::groups_in(in), out}),
        entry(layer + ".factors", DType::f32, {in}),
        entry(layer + ".order", DType::u8, {static_cast<int64_t>(kMixedDescription.size())})};
    if (small) parts.push_back(entry(layer + ".steps", DType::u8, {2 * MixedOrder::small_groups_in(in), out}));
    return parts;
  }
  const int64_t codes = small ? in / layout_of(WeightFormat::affine4).numbers : in;
  return {entry(plan.name, small ? DType::u32 : DType::u8, {out, codes}),
          entry(layer + ".scales", DType::bf16, {out, in / plan.group}),
          entry(layer + ".offsets", DType::bf16, {out, in / plan.group})};
}

/// A matrix whose numbers cannot take the target asked for stays as it is if it is dense, and has bf16 otherwise.
TensorPlan plan_matrix(const std::string& name, const Weight& matrix, bool is_packed, const TargetRules& rules) {
  TensorPlan plan = {.name = name, .target = rules.target_of(name), .matrix = matrix, .stored = matrix.data};
  if (is_grouped(plan.target)) {
    plan.group = rules.group();
    if (matrix.in % plan.group != 0) plan.target = Target::stored;
  }
  if (plan.target == Target::stored && is_packed) plan.target = Target::bf16;
  plan.outputs = outputs_of(plan);
  return plan;
}

bool can_mix(const TensorPlan& plan) {
  const int64_t out = plan.matrix.out, in = plan.matrix.in;
  return plan.target == Target::int8   ? MixedOrder::takes(out, in)
         : plan.target == Target::int4 ? MixedOrder::takes_small(out, in)
                                       : false;
}

/// Layers of which every matrix has a target and sizes that can be.
void mix(const Checkpoint& files, std::vector<TensorPlan>& plans) {
  std::map<std::string, TensorPlan*, std::less<>> by_layer;
  for (TensorPlan& plan : plans)
    if (can_mix(plan)) by_layer[plan.name.substr(0, plan.name.size() - kWeightSuffix.size())] = &plan;
  for (const std::vector<std::string>& names : layers_in_8_bits(files)) {
    if (!std::ranges::all_of(names, [&](const std::string& name) { return by_layer.contains(name); })) continue;
    std::vector<Weight> matrices;
    for (const std::string& name : names) matrices.push_back(by_layer[name]->matrix);
    const auto layer = std::make_shared<MixedLayer>(std::move(matrices));
    for (const std::string& name : names) {
      TensorPlan& plan = *by_layer[name];
      plan.mixed = layer;
      plan.group = kMixedGroup;
      plan.outputs = outputs_of(plan);
    }
  }
}

std::vector<TensorPlan> plan_tensors(const Checkpoint& files, const TargetRules& rules, ComponentPlan& component) {
  std::vector<TensorPlan> plans;
  std::set<std::string> parts;  // of packed matrices
  int64_t unused = 0, ungrouped = 0;
  for (const auto& [name, tensor] : files.tensors) {
    if (is_unused_text_tensor(files, name)) {
      ++unused;
      continue;
    }
    if (!name.ends_with(kWeightSuffix)) continue;
    const auto packed = files.packed(name.substr(0, name.size() - kWeightSuffix.size()));
    if (!packed && !is_dense_matrix(name, tensor.data)) continue;
    plans.push_back(plan_matrix(name, packed ? packed->weight : dense_weight(tensor.data), packed.has_value(), rules));
    ungrouped += is_grouped(rules.target_of(name)) && !is_grouped(plans.back().target);
    parts.insert(name);
    if (packed) parts.insert(packed->parts.begin(), packed->parts.end());
  }
  if (rules.for_cpu()) mix(files, plans);
  for (const auto& [name, tensor] : files.tensors) {
    if (parts.contains(name) || is_unused_text_tensor(files, name)) continue;
    TensorPlan plan = {.name = name, .stored = tensor.data};
    plan.outputs = outputs_of(plan);
    plans.push_back(std::move(plan));
  }
  if (unused > 0)
    component.notes.push_back(
        fmt::format("{}: {} tensors that no prompt needs are left out", name_of(files.component), unused));
  if (ungrouped > 0)
    component.notes.push_back(fmt::format("{}: {} matrices are kept, as groups of {} do not divide their rows",
                                          name_of(files.component), ungrouped, rules.group()));
  std::ranges::sort(plans, {}, &TensorPlan::name);
  return plans;
}

template <class Count>
auto sum_over(const ComponentPlan& plan, const Count& count) {
  decltype(count(plan.shards.front().front())) sum = 0;
  for (const auto& shard : plan.shards)
    for (const TensorPlan& tensor : shard) sum += count(tensor);
  return sum;
}

}  // namespace

bool matches(std::string_view pattern, std::string_view text) {
  size_t star = pattern.find('*');
  if (star == std::string_view::npos) return pattern == text;
  if (!text.starts_with(pattern.substr(0, star))) return false;
  text.remove_prefix(star);
  while (true) {  // the first place of each part leaves most to those behind it
    pattern.remove_prefix(star + 1);
    star = pattern.find('*');
    if (star == std::string_view::npos) return text.ends_with(pattern);
    const size_t at = text.find(pattern.substr(0, star));
    if (at == std::string_view::npos) return false;
    text.remove_prefix(at + star);
  }
}

std::string_view name_of(Target target) { return kTargetNames[static_cast<size_t>(target)]; }

TargetRules::TargetRules(const QuantizeOptions& options)
    : group_(options.group.value_or(kUsualGroup)), for_cpu_(options.layout == kForCpu) {
  check_option(for_cpu_ || options.layout == kRows, "layout {}: {} or {} is needed", shown(options.layout), kRows,
               kForCpu);
  if (for_cpu_ && !options.calibrate.empty())
    throw CombinationError(fmt::format("calibrate: layout {} mixes the inputs that it would weigh", kForCpu));
  if (for_cpu_ && options.group)
    throw CombinationError(
        fmt::format("group {}: layout {} has groups of its own; layout rows takes a size", group_, kForCpu));
  check_option(std::ranges::find(kGroups, group_) != kGroups.end(), "group {}: 32, 64 or 128 is needed", group_);
  const Target all = target_named(options.format, "format");
  check_option(all != Target::stored && all != Target::f32, "format {}: int4, int8, fp8 or bf16 is needed",
               options.format);
  rules_.emplace_back("*", all);
  if (all != Target::bf16)
    for (const char* pattern : kKeptPatterns) rules_.emplace_back(pattern, Target::stored);
  for (const auto& [pattern, format] : options.keep) rules_.emplace_back(pattern, target_named(format, "keep"));
  if (options.group && std::ranges::none_of(rules_, [](const auto& rule) { return is_grouped(rule.second); }))
    throw CombinationError(
        fmt::format("group {}: {} has no groups; they belong to int4 and int8", group_, options.format));
}

Target TargetRules::target_of(const std::string& name) const {
  return std::find_if(rules_.rbegin(), rules_.rend(), [&](const auto& rule) { return matches(rule.first, name); })
      ->second;
}

size_t TensorPlan::bytes() const {
  size_t sum = 0;
  for (const SafetensorsEntry& e : outputs) sum += static_cast<size_t>(e.shape.count()) * size_of(e.dtype);
  return sum;
}

size_t ComponentPlan::source_bytes() const {
  return sum_over(*this, [](const TensorPlan& t) { return t.source_bytes(); });
}

size_t ComponentPlan::bytes() const {
  return sum_over(*this, [](const TensorPlan& t) { return t.bytes(); });
}

bool ComponentPlan::has_mixed() const {
  return sum_over(*this, [](const TensorPlan& t) { return t.mixed ? 1 : 0; }) > 0;
}

int64_t ComponentPlan::numbers() const {
  return sum_over(*this,
                  [](const TensorPlan& t) { return t.target == Target::stored ? 0 : t.matrix.out * t.matrix.in; });
}

ComponentPlan plan_component(const Checkpoint& files, const TargetRules& rules) {
  ComponentPlan component;
  size_t bytes = kShardBytes;  // of the last shard
  for (TensorPlan& plan : plan_tensors(files, rules, component)) {
    if (bytes + plan.bytes() > kShardBytes) {
      component.shards.emplace_back();
      bytes = 0;
    }
    bytes += plan.bytes();
    component.shards.back().push_back(std::move(plan));
  }
  return component;
}

}  // namespace inkstone
