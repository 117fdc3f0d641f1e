// The config.json of each component, with the fields that this program reads.
#pragma once
#include <nlohmann/json.hpp>

#include "model/config.h"

namespace inkstone {

nlohmann::ordered_json config_json(const TransformerConfig& c);
nlohmann::ordered_json config_json(const TextEncoderConfig& c);
nlohmann::ordered_json config_json(const VaeConfig& c);

}  // namespace inkstone
