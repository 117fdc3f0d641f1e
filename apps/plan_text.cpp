#include "plan_text.h"

#include <fmt/format.h>
#include <nlohmann/json.hpp>
#include <vector>

#include "text.h"

namespace inkstone::cli {
namespace {

std::string pictures_text(int64_t count) { return count == 1 ? "one picture" : fmt::format("{} pictures", count); }

std::string band_text(int64_t rows) {
  return rows == 0 ? "the VAE decodes whole pictures"
                   : fmt::format("the VAE decodes {} rows of latents at a time", rows);
}

std::string source_text(const char* name, bool streamed, bool on_host = false) {
  return !streamed ? fmt::format("the {} stays in memory", name)
                   : fmt::format("the {} is streamed from {}", name, on_host ? "host memory" : "the disk");
}

/// Where the transformer's blocks are, all in one place or some in another.
std::string transformer_text(const Plan& plan) {
  const int64_t stay = plan.blocks - plan.blocks_streamed;
  if (!plan.transformer_streamed || stay == 0)
    return source_text("transformer", plan.transformer_streamed, plan.transformer_on_host);
  return fmt::format("{} of the transformer's {} blocks stay {}, {} are streamed from {}", stay, plan.blocks,
                     plan.transformer_on_host ? "on the GPU" : "in memory", plan.blocks_streamed,
                     plan.transformer_on_host ? "host memory" : "the disk");
}

/// Empty if no stage does it.
std::string trim_text(const Plan& plan) {
  std::vector<std::string> stages;
  for (const Plan::StageNeed& need : plan.stages)
    if (need.trimmed) stages.emplace_back(name_of(need.stage));
  if (stages.empty()) return "";
  return fmt::format("{} gives unused memory back at once, to stay within what there is", fmt::join(stages, " and "));
}

constexpr const char* kWidened = "LoRAs are added to the weights, which take more memory so";
constexpr const char* kModulation = "transformer's modulation";

bool modulation_alone(const Plan& plan) { return plan.modulation_streamed && !plan.transformer_streamed; }

std::vector<std::string> choices(const Plan& plan) {
  std::vector<std::string> lines = {
      plan.text_encoder_streamed ? source_text("text encoder", true)
                                 : "the text encoder is in memory until the prompt is encoded",
      plan.transformer_beside ? "the transformer is loaded beside it"
                              : "the transformer is loaded after it: there is no room for both",
      transformer_text(plan), fmt::format("{} at a time", pictures_text(plan.batch)), band_text(plan.band_rows)};
  if (modulation_alone(plan)) lines.push_back(source_text(kModulation, true));
  if (plan.lora_widens) lines.emplace_back(kWidened);
  if (const std::string trim = trim_text(plan); !trim.empty()) lines.push_back(trim);
  return lines;
}

}  // namespace

std::string plan_line(const Plan& plan) {
  std::vector<std::string> stages;
  for (const Plan::StageNeed& need : plan.stages)
    stages.push_back(fmt::format("{} to {}", bytes_text(need.own_bytes + need.mapped_bytes), name_of(need.stage)));
  std::string line = fmt::format("memory: {}; {} needed, {} available", fmt::join(stages, ", "),
                                 bytes_text(plan.needed_bytes), bytes_text(plan.available_bytes));
  if (plan.text_encoder_streamed) line += "; " + source_text("text encoder", true);
  if (plan.transformer_streamed) line += "; " + transformer_text(plan);
  if (modulation_alone(plan)) line += "; " + source_text(kModulation, true);
  if (plan.lora_widens) line += fmt::format("; {}", kWidened);
  line += fmt::format("; {} at a time", pictures_text(plan.batch));
  if (plan.band_rows > 0) line += "; " + band_text(plan.band_rows);
  if (const std::string trim = trim_text(plan); !trim.empty()) line += "; " + trim;
  return line;
}

std::string plan_table(const Plan& plan) {
  std::string table = fmt::format("{:<10}{:>12}{:>12}{:>12}\n", "stage", "own", "mapped", "together");
  for (const Plan::StageNeed& need : plan.stages)
    table += fmt::format("{:<10}{:>12}{:>12}{:>12}\n", name_of(need.stage), bytes_text(need.own_bytes),
                         bytes_text(need.mapped_bytes), bytes_text(need.own_bytes + need.mapped_bytes));
  table += fmt::format("{} needed, {} available\n", bytes_text(plan.needed_bytes), bytes_text(plan.available_bytes));
  for (const std::string& choice : choices(plan)) table += choice + "\n";
  return table;
}

std::string plan_json(const Plan& plan) {
  nlohmann::ordered_json stages = nlohmann::ordered_json::array();
  for (const Plan::StageNeed& need : plan.stages)
    stages.push_back({{"stage", name_of(need.stage)},
                      {"own_bytes", need.own_bytes},
                      {"mapped_bytes", need.mapped_bytes},
                      {"trimmed", need.trimmed}});
  const nlohmann::ordered_json json = {{"needed_bytes", plan.needed_bytes},
                                       {"available_bytes", plan.available_bytes},
                                       {"stages", stages},
                                       {"text_encoder_streamed", plan.text_encoder_streamed},
                                       {"transformer_streamed", plan.transformer_streamed},
                                       {"blocks", plan.blocks},
                                       {"blocks_streamed", plan.blocks_streamed},
                                       {"modulation_streamed", plan.modulation_streamed},
                                       {"transformer_on_host", plan.transformer_on_host},
                                       {"lora_widens", plan.lora_widens},
                                       {"transformer_beside", plan.transformer_beside},
                                       {"batch", plan.batch},
                                       {"band_rows", plan.band_rows}};
  return json.dump() + "\n";
}

}  // namespace inkstone::cli
