// What the GPU reaches in this run, at the head of every ladder.
#pragma once

namespace ladder {

/// Prints the rates of a large product, in bf16 and in 8 bits where it has such products, and of a large copy. Gives
/// the copy's, in bytes a second.
double print_peaks();

}  // namespace ladder
