// What prompts send through a model's linear layers, so that a search can weigh the errors of weights.
#pragma once
#include <filesystem>
#include <string>
#include <vector>

#include "inkstone/quantize.h"

#include "engine/session.h"
#include "ops/input_meter.h"

namespace inkstone {

/// The lines of a file, blank ones left out. Throws Error for a file without any.
std::vector<std::string> read_prompts(const std::filesystem::path& file);

class Calibration {
 public:
  /// Opens the source as a model and checks every prompt before any work. Throws Error, naming file and line, for a
  /// text that is not UTF-8 or too long, and for a source that is no whole model.
  explicit Calibration(const QuantizeOptions& options);

  /// Draws a small picture of each prompt, as generate() would. Memory as the plan of such a picture says: weights that
  /// do not fit are streamed.
  const InputSquares& run();

 private:
  const QuantizeOptions& options_;
  std::vector<Request> requests_;
  InputSquares squares_;
  Session session_;
};

}  // namespace inkstone
