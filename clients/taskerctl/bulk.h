/* task create --from. */
#pragma once
#include "clients/taskerctl/ctl.h"

/* A task for each row of a file; `common` is what all have. Returns an exit code. */
int create_many(struct ctl *c, const json_t *common, const char *path);
