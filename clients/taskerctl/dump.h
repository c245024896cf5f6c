/* What a dump of a task is; taskerctl-dump(5). */
#pragma once
#include "clients/taskerctl/ctl.h"

#define DUMP_FORMAT "taskerd-task-dump"
#define DUMP_VERSION 1

/* cmd_history.c: all pages of task.history in one answer. `params` is taken. 0, or an exit code after having said
 * why. */
int history_fetch(struct ctl *c, json_t *params, json_t **ret) must_check;
