#include "daemon/store/step_name.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "protocol/mpjson.h"

#define STEP_NO_MAX (1 << 24) /* as a step's UUID has room for */

/* "{name}_{batch_id}" */
static int put_instance(struct buf *out, const char *name, const msgpack_object *inputs)
{
	const char *id = "";
	size_t n = 0;
	const msgpack_object *cursor = NULL;
	if (inputs->type == MSGPACK_OBJECT_MAP && mp_get_map(inputs, "cursor", &cursor) == 1)
		(void)!mp_get_str(cursor, "batch_id", &id, &n);
	size_t size = strlen(name) + n + 2;
	cleanup_(cleanup_free) char *text = malloc(size);
	if (!text)
		return -ENOMEM;
	int len = snprintf(text, size, "%s_%.*s", name, (int)n, id);
	mp_strn(out, text, (size_t)len);
	return 0;
}

int step_name_put(struct buf *out, const struct tcache_template *t, int no, const char *inputs, size_t len)
{
	const struct tcache_step *s = tcache_step_of(t, no);
	if (no < t->n_steps) {
		mp_str(out, s->name);
		return 0;
	}
	struct buf tmp;
	struct mpjson_error je;
	struct mp_value v = {0};
	buf_init(&tmp, 0);
	int rc = json_to_mp(inputs ? inputs : "{}", inputs ? len : 2, &tmp, &je);
	if (rc == 0)
		rc = mp_decode(tmp.data, tmp.len, &v);
	if (rc == 0) {
		rc = put_instance(out, s->name, &v.root);
		mp_value_done(&v);
	}
	buf_done(&tmp);
	return rc;
}

struct step_named step_key_read(const struct tcache_template *t, const char *key, size_t len)
{
	struct step_named v = {key, len, 0};
	size_t i = 0;
	for (; i < len && key[i] >= '0' && key[i] <= '9' && v.no < STEP_NO_MAX; i++)
		v.no = v.no * 10 + (key[i] - '0');
	if (i == len && v.no < t->n_steps) {
		v.name = t->steps[v.no].name;
		v.len = strlen(v.name);
	} else if (i < len) {
		v.name = key + i + 1;
		v.len = len - i - 1;
	}
	return v;
}

static int by_name(const void *va, const void *vb)
{
	const struct step_named *a = va, *b = vb;
	int c = memcmp(a->name, b->name, a->len < b->len ? a->len : b->len);
	return c ? c : (a->len > b->len) - (a->len < b->len);
}

void step_numbers_put(struct buf *out, struct step_named *v, size_t n)
{
	if (n > 1)
		qsort(v, n, sizeof *v, by_name);
	mp_str(out, "dependency_steps");
	mp_array(out, n);
	for (size_t i = 0; i < n; i++)
		mp_int(out, v[i].no);
}
