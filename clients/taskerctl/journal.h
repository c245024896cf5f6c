/* cmd_logs.c: what the journal holds. */
#pragma once
#include "clients/taskerctl/ctl.h"

/* About a task, or a step of it (NULL: all), with the options --follow, --since and --lines. Returns an exit code. */
int journal_show(struct ctl *c, const char *task, const char *step);
