/* Declarations of domain events. The fields of each are checked by the tables; here is what they say together. */
#include "daemon/template/events.h"

#include <string.h>

#include "daemon/template/fields.h"

#define COMPARED_MAX 1000u /* pairs are compared; no sensible list is longer */

static const char *text_in(const struct ynode *list, size_t i, const char *key, const char *otherwise)
{
	const char *text = ynode_str(ynode_get(list->u.items[i], key));
	return text ? text : otherwise;
}

static bool same(const struct ynode *list, size_t a, size_t b)
{
	const char *name = text_in(list, a, "name", NULL), *other = text_in(list, b, "name", NULL);
	return name && other && strcmp(name, other) == 0 &&
	       strcmp(text_in(list, a, "condition", "success"), text_in(list, b, "condition", "success")) == 0;
}

static void check_list(struct check *c, const struct path *p, const struct ynode *list, const char *result)
{
	if (!ynode_is(list, YNODE_SEQ))
		return;
	for (size_t b = 1; b < list->n && b < COMPARED_MAX; b++)
		for (size_t a = 0; a < b; a++) {
			if (!same(list, a, b))
				continue;
			const struct ynode *name = ynode_get(list->u.items[b], "name");
			check_warning(c, PATH_KEY(PATH_INDEX(p, b), "name"), name,
			              "%s is declared at line %u already%s", DESCRIBE(name), list->u.items[a]->line,
			              result);
			break;
		}
}

void check_events(struct check *c, const struct ynode *root)
{
	const struct ynode *steps = field_get(root, task_fields, "steps");
	check_list(c, PATH_KEY(NULL, "domain_events"), field_get(root, task_fields, "domain_events"), "");
	if (!ynode_is(steps, YNODE_SEQ))
		return;
	for (size_t i = 0; i < steps->n; i++)
		check_list(c, PATH_KEY(PATH_INDEX(PATH_KEY(NULL, "steps"), i), "publishes_events"),
		           field_get(steps->u.items[i], step_fields, "publishes_events"), ": it is published for each");
}
