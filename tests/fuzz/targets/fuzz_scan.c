/* What scan_value accepts, msgpack-c decodes; what mp_to_json then accepts, reads back as JSON, and its text
 * is a fixed point. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include "protocol/mpjson.h"
#include "protocol/scan.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const struct scan_limits limits = {.max_items = 4096, .max_depth = 30};

static void must(int ok)
{
	if (!ok)
		abort();
}

static int to_json(const void *data, size_t len, struct buf *out)
{
	struct mp_value v;
	struct mpjson_error err;
	must(mp_decode(data, len, &v) == 0);
	int r = mp_to_json(&v.root, "root", out, &err);
	if (r < 0)
		must(memchr(err.path, '\0', sizeof err.path) && err.what[0] != '\0' && out->len == 0);
	mp_value_done(&v);
	return r;
}

static void there_and_back(struct buf *json)
{
	struct buf bytes, again;
	struct mpjson_error err;
	struct scan_error se;
	buf_init(&bytes, 0);
	buf_init(&again, 0);
	must(json_to_mp(buf_text(json), json->len, &bytes, &err) == 0);
	must(scan_value(bytes.data, bytes.len, &limits, &se) == 0);
	must(to_json(bytes.data, bytes.len, &again) == 0);
	must(again.len == json->len && memcmp(again.data, json->data, json->len) == 0);
	buf_done(&bytes);
	buf_done(&again);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct scan_error se = {0};
	int r = scan_value(data, size, &limits, &se);
	if (r < 0) {
		must(se.what && se.offset <= size);
		return 0;
	}
	struct buf json;
	buf_init(&json, 0);
	if (to_json(data, size, &json) == 0)
		there_and_back(&json);
	buf_done(&json);
	return 0;
}
