// When a call did what, and what of it at the same time.
#pragma once
#include <string>
#include <vector>

#include "inkstone/inkstone.h"

namespace inkstone::cli {

/// A line for each activity: "encode from 0.05 s to 1.5 s"; of those beside the stages also how long which stage ran
/// meanwhile.
std::vector<std::string> timeline_lines(const std::vector<Activity>& timeline);

}  // namespace inkstone::cli
