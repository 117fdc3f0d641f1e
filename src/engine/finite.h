// Numbers that are not finite: where they are, and whose fault they are.
#pragma once
#include <optional>
#include <stop_token>
#include <string>

#include "io/checkpoint.h"

namespace inkstone {

/// "nan at [0, 3]" for the first NaN or infinity of a host tensor of type f32, f16 or bf16; nothing if there is none.
std::optional<std::string> find_not_finite(const Tensor& host);

/// Throws Error naming file, tensor, number and place of the first NaN or infinity among a component's weights and
/// LoRAs. Reads all of them; throws Cancelled soon after a stop request.
void refuse_not_finite(const Checkpoint& files, const std::stop_token& stop = {});

}  // namespace inkstone
