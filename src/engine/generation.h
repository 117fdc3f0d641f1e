// One call of Engine::generate.
#pragma once
#include "engine/session.h"

namespace inkstone {

/// Checks everything, then draws. `opening_seconds`: spent before on opening the model, told as part of loading.
Result generate(Session& session, const Request& request, double opening_seconds);

/// What generate would do.
Plan plan(Session& session, const Request& request);

}  // namespace inkstone
