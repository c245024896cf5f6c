/* What to do about an error: the next command to try. Pure. */
#pragma once
#include "clients/taskerctl/cli.h"
#include "clients/taskerctl/exits.h"

/* Append it. There always is one: in the end the help of the verb. */
void put_hint(struct buf *b, const struct tasker_error *err, const struct cli *cli);
/* "see: taskerctl help task get" */
void put_help_hint(struct buf *b, const struct cli *cli);
