/* JSON schemas inside templates. */
#pragma once
#include "daemon/template/checker.h"

/* Report everything that keeps the schema `n` from being used, and what in it checks nothing. */
void check_schema_field(struct check *c, const struct path *p, const struct ynode *n);
