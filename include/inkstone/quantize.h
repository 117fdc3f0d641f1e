// Packing a model's weights into fewer bits, once, into files of their own.
#pragma once
#include "inkstone/inkstone.h"

namespace inkstone {

struct QuantizeOptions {
  /// A model's folder, or a folder or file of a transformer, a text encoder, or several components.
  std::filesystem::path source;
  std::filesystem::path output;  ///< a folder, made if it is not there
  std::string format = "int4";   ///< of matrices: int4, int8, fp8 or bf16
  /// Inputs that share a scale, with int4 and int8: 32, 64 or 128; 64 if not given. An Error where nothing has groups,
  /// and with layout "cpu", whose groups are its own.
  std::optional<int64_t> group;

  /// "rows", or "cpu": int8 and int4 matrices of the layers that Arithmetic::int8_all multiplies in 8 bits lie as the
  /// cpu's kernels read them, in groups of 384, so that nothing is rounded when they are used. Other devices, and other
  /// arithmetic, unpack them.
  std::string layout = "rows";

  /// Formats of tensors whose names match a pattern (`*` stands for any text): those above, f32, or stored (as it is).
  /// The last that matches counts. Without one, a model's ends and its timestep embedding are stored as they are.
  std::vector<std::pair<std::string, std::string>> keep;

  /// A text file with a prompt a line, or empty. The source, a whole model's folder, draws a small picture of each in
  /// four steps, and the search for scales of int4 and int8 weighs an error by the mean square of what it is multiplied
  /// with.
  std::filesystem::path calibrate;

  int threads = 0;            ///< 0: as many as the machine and the container allow
  ProgressFunction progress;  ///< Stage::write; a step is 2^24 numbers
  std::stop_token stop;       ///< Cancelled is thrown soon after a stop request
};

/// A matrix that was converted.
struct QuantizedTensor {
  std::string component;
  std::string name;       ///< diffusers'
  std::string format;     ///< that it has now
  double error = 0;       ///< root of (sum of squared errors / sum of squares)
  bool weighted = false;  ///< these squares times the mean squares of the inputs that QuantizeOptions::calibrate gave
};

struct QuantizeResult {
  std::vector<QuantizedTensor> tensors;  ///< the greatest error first
  size_t source_bytes = 0;               ///< of the tensors that were converted or copied
  size_t bytes = 0;                      ///< of what became of them
  std::vector<std::string> notes;        ///< what was left out or kept, and why
};

/// Writes `source` with its matrices in `format` to `output`, and what else a model's folder holds. Reads and writes
/// piece by piece: memory does not grow with the model. A file appears when it is whole; a call that was stopped or
/// killed goes on with the files that are missing when it is made again. `quantization.json` beside the weights tells
/// options and errors. Throws Error for options out of range, files that cannot be read, an output that other options
/// or another source made, too little room on the disk, numbers that are not finite, and prompts that cannot be drawn.
INKSTONE_API QuantizeResult quantize(const QuantizeOptions& options);

}  // namespace inkstone
