// A memory plan as people and programs read it.
#pragma once
#include <string>

#include "inkstone/inkstone.h"

namespace inkstone::cli {

std::string plan_line(const Plan& plan);   ///< one line, without its end
std::string plan_table(const Plan& plan);  ///< a line for each stage and each choice
std::string plan_json(const Plan& plan);

}  // namespace inkstone::cli
