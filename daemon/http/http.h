/* HTTP: health, metrics, and the protocol's messages as REST resources. */
#pragma once
#include "daemon/server/front.h"

extern const struct front http_front;
