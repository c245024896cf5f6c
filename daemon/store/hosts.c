#include "daemon/store/hosts.h"

#include <stdlib.h>
#include <string.h>
#include "daemon/base/cleanup.h"

DEFINE_CLEANUP(PQconninfoOption, cleanup_conninfo, PQconninfoFree)

#define PARAMS_MAX 64 /* libpq knows about forty */

static int count(const char *list)
{
	int n = 1;
	for (const char *p = list; p && *p; p++)
		n += *p == ',';
	return n;
}

static bool is_list(const char *keyword)
{
	return strcmp(keyword, "host") == 0 || strcmp(keyword, "hostaddr") == 0 || strcmp(keyword, "port") == 0;
}

int hosts_count(const char *conninfo)
{
	int n = 1;
	cleanup_(cleanup_conninfo) PQconninfoOption *o = PQconninfoParse(conninfo, NULL);
	for (PQconninfoOption *p = o; p && p->keyword; p++)
		if (p->val && is_list(p->keyword) && count(p->val) > n)
			n = count(p->val);
	return n;
}

/* "a,b,c" by 1 is "b,c,a". One port for all hosts stays what it is. */
static void rotate(char *list, int turn)
{
	char *head = strdup(list), *tail = list;
	if (!head)
		return; /* this turn has the order of the string */
	for (; turn > 0 && tail; turn--)
		tail = (tail = strchr(tail, ',')) ? tail + 1 : NULL;
	if (tail && tail > list) {
		size_t before = (size_t)(tail - list), after = strlen(tail);
		memmove(list, tail, after);
		list[after] = ',';
		memcpy(list + after + 1, head, before - 1);
	}
	free(head);
}

PGconn *hosts_start(const char *conninfo, int turn, const char *const *keys, const char *const *values, int n)
{
	const char *k[PARAMS_MAX + 1], *v[PARAMS_MAX + 1];
	int at = 0;
	cleanup_(cleanup_conninfo) PQconninfoOption *o = PQconninfoParse(conninfo, NULL);
	if (!o)
		return NULL;
	for (; at < n; at++)
		k[at] = keys[at], v[at] = values[at];
	for (PQconninfoOption *p = o; p->keyword && at < PARAMS_MAX; p++) {
		if (!p->val)
			continue;
		if (is_list(p->keyword))
			rotate(p->val, turn);
		k[at] = p->keyword;
		v[at++] = p->val;
	}
	k[at] = v[at] = NULL;
	return PQconnectStartParams(k, v, 0);
}
