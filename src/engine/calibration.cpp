#include "engine/calibration.h"

#include <fstream>

#include "inkstone/combination_error.h"

#include "core/option_error.h"
#include "engine/generation.h"
#include "engine/job.h"

namespace inkstone {
namespace {

namespace fs = std::filesystem;

constexpr int64_t kTokensOfASide = 16;  // 256 pixels: a quarter of the rows of 512x512, and all of its kinds
constexpr int64_t kSteps = 4;           // noisy, in between, and nearly clean latents

struct NumberedLine {
  size_t number = 0;
  std::string text;
};

std::vector<NumberedLine> lines_of(const fs::path& file) {
  std::ifstream in(file);
  std::error_code ignored;
  check_option(in && fs::is_regular_file(file, ignored), "calibrate {}: cannot read; a file of prompts is needed",
               file.string());
  std::vector<NumberedLine> lines;
  size_t number = 0;
  for (std::string line; std::getline(in, line);) {
    ++number;
    if (line.ends_with('\r')) line.pop_back();
    if (line.find_first_not_of(" \t") != std::string::npos) lines.push_back({number, line});
  }
  check_option(!lines.empty(), "calibrate {}: holds no prompt; one a line is needed", file.string());
  return lines;
}

EngineOptions engine_options(const QuantizeOptions& options) {
  std::error_code ignored;
  if (options.format != "int4" && options.format != "int8")
    throw CombinationError(
        fmt::format("calibrate: format {} has no scales to search, int4 and int8 have", options.format));
  check_option(fs::is_directory(options.source, ignored),
               "calibrate: {} is no model's folder, which is needed to draw the prompts", options.source.string());
  return {.model = options.source, .device = DeviceKind::cpu, .threads = options.threads};
}

}  // namespace

std::vector<std::string> read_prompts(const fs::path& file) {
  std::vector<std::string> prompts;
  for (NumberedLine& line : lines_of(file)) prompts.push_back(std::move(line.text));
  return prompts;
}

Calibration::Calibration(const QuantizeOptions& options)
    : options_(options), session_(engine_options(options), [this](Kernels& kernels) {
        return std::make_unique<InputMeter>(kernels, squares_);
      }) {
  const int64_t side = kTokensOfASide * session_.model().unit();
  for (const NumberedLine& line : lines_of(options.calibrate)) {
    requests_.push_back({.prompt = line.text,
                         .steps = kSteps,
                         .width = side,
                         .height = side,
                         .seed = requests_.size(),
                         .stop = options.stop});
    try {
      make_job(session_.model(), requests_.back());
    } catch (const Error& e) {
      fail_option("calibrate {}: line {}: {}", options.calibrate.string(), line.number, e.what());
    }
  }
}

const InputSquares& Calibration::run() {
  const auto steps = static_cast<int64_t>(requests_.size()) * kSteps;
  for (int64_t done = 0; Request & request : requests_) {
    if (options_.progress)
      request.progress = [&](const Progress& now) {
        if (now.stage != Stage::denoise) return;
        Progress all = now;
        all.step = done + now.step;
        all.steps = steps;
        all.seconds_left = now.seconds_per_step * static_cast<double>(steps - all.step);
        options_.progress(all);
      };
    generate(session_, request, 0);
    done += kSteps;
  }
  return squares_;
}

}  // namespace inkstone
