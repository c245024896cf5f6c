/* What the verbs for operators share. */
#pragma once
#include "clients/taskerctl/ctl.h"

/* The options --reason and --operator. */
void operate_by_whom(const struct ctl *c, json_t *params);
/* UUID, or TASK and STEP. 0, or an exit code after having said why. */
int operate_step_args(const struct ctl *c, json_t *params) must_check;
/* Retry the tasks of the open dead letters that the options pick. */
int operate_redrive(struct ctl *c);
