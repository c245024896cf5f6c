/* The one form of a template: see template.h on the definition. */
#pragma once
#include "daemon/template/fields.h"
#include "daemon/template/steps.h"

/* Make the root of a checked template without errors anew: entries of environment `name` (NULL: of none)
 * merged into the steps, dependencies named once. New nodes live in `tree`. 0; 1 if the merging would make
 * more than NORMAL_MAX_PAIRS; -ENOMEM. */
int normal_apply(struct yaml_tree *tree, const struct ynode *root, const struct steps *s, const char *name,
                 const struct ynode **ret) must_check;
#define NORMAL_MAX_PAIRS 1000000

/* Write a map by its table: proper names, the order of the table, defaults for what is absent, and with
 * `extras` the x- keys behind. `map` NULL is one with nothing given. */
void normal_put_map(struct buf *out, const struct ynode *map, const struct field *table, bool extras);
/* The value of one field of `map`, its default if absent, or null. */
void normal_put_field(struct buf *out, const struct ynode *map, const struct field *f);
/* Any value as JSON. */
void normal_put_value(struct buf *out, const struct ynode *n);
