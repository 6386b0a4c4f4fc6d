// What this process holds: a search for a secret, and the figures of a leak.
#pragma once

#include "host.h"

// scan searches all readable memory for what hex says in UTF-8, as UTF-8 and as
// UTF-16, and adds what it found to the answer. The needle is kept masked, so it
// does not find itself.
void scan(const char *hex, Json &answer);

// figures adds handles, memory and window objects to the answer.
void figures(Json &answer);
