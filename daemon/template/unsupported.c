/* One row for each feature that is parsed and checked but not run. A template that uses one is refused rather
 * than run without it; when the engine learns a feature, its row goes. */
#include "daemon/template/unsupported.h"

#include "daemon/template/fields.h"

static const struct {
	const struct field *table; /* where the key stands */
	const char *key, *why;
} unsupported_features[] = {
    {step_fields, "composition", "what it means is nowhere laid down, so it cannot be run: write its steps out"},
};

/* Empty lists and maps ask for nothing. */
static bool in_use(const struct ynode *n)
{
	return n->kind != YNODE_INVALID && !((n->kind == YNODE_SEQ || n->kind == YNODE_MAP) && n->n == 0);
}

static void check_level(struct check *c, const struct path *p, const struct ynode *map,
                        const struct field *table)
{
	for (size_t i = 0; i < sizeof unsupported_features / sizeof unsupported_features[0]; i++) {
		const char *key = unsupported_features[i].key;
		if (unsupported_features[i].table != table)
			continue;
		const struct ypair *pair = field_pair(map, field_find(table, key));
		if (pair && in_use(pair->value))
			check_report(c, c->draft ? FINDING_WARNING : FINDING_ERROR, PATH_KEY(p, pair->key),
			             pair->line, pair->column, "%s is not supported: %s", key,
			             unsupported_features[i].why);
	}
}

void check_features(struct check *c, const struct ynode *root)
{
	check_level(c, NULL, root, task_fields);
	const struct ynode *steps = field_get(root, task_fields, "steps");
	if (!ynode_is(steps, YNODE_SEQ))
		return;
	for (size_t i = 0; i < steps->n; i++)
		check_level(c, PATH_INDEX(PATH_KEY(NULL, "steps"), i), steps->u.items[i], step_fields);
}
