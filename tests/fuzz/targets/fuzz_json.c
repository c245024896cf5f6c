/* JSON text from outside: what json_to_mp accepts is MessagePack that scan_value accepts, goes to JSON, and
 * comes back as the same bytes. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include "protocol/mpjson.h"
#include "protocol/scan.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must(int ok)
{
	if (!ok)
		abort();
}

static void back_again(const struct buf *bytes)
{
	struct scan_limits limits = {.max_items = SIZE_MAX, .max_depth = 30};
	struct scan_error se;
	struct mp_value v;
	struct mpjson_error err;
	struct buf json, again;
	buf_init(&json, 0);
	buf_init(&again, 0);
	must(scan_value(bytes->data, bytes->len, &limits, &se) == 0);
	must(mp_decode(bytes->data, bytes->len, &v) == 0);
	must(mp_to_json(&v.root, NULL, &json, &err) == 0);
	must(json_to_mp(buf_text(&json), json.len, &again, &err) == 0);
	must(again.len == bytes->len && memcmp(again.data, bytes->data, again.len) == 0);
	mp_value_done(&v);
	buf_done(&json);
	buf_done(&again);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct buf bytes;
	struct mpjson_error err = {0};
	buf_init(&bytes, 0);
	if (json_to_mp((const char *)data, size, &bytes, &err) == 0)
		back_again(&bytes);
	else
		must(bytes.len == 0 && err.what[0] != '\0' && memchr(err.what, '\0', sizeof err.what));
	buf_done(&bytes);
	return 0;
}
