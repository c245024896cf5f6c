/* What a template says of domain events. */
#pragma once
#include "daemon/template/checker.h"

/* Report events that are declared twice: by the template, or by a step for the same condition. */
void check_events(struct check *c, const struct ynode *root);
