/* The C library, msg.h and PROTOCOL.md against the golden vectors. Arguments: the directory of protocol/. */
#include <errno.h>
#include <jansson.h>
#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include "protocol/envelope.h"
#include "protocol/frame.h"
#include "protocol/mpjson.h"
#include "protocol/scan.h"
#include "tests/unit/protocol/util.h"

static const char *protocol_dir;
static json_t *values, *frames, *messages, *hostile;

/* ---- reading the files ---- */

static json_t *load(const char *name)
{
	char path[4096];
	json_error_t e;
	snprintf(path, sizeof path, "%s/vectors/%s", protocol_dir, name);
	json_t *v = json_load_file(path, JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL, &e);
	if (!v) {
		fprintf(stderr, "%s:%d: %s\n", path, e.line, e.text);
		exit(EXIT_FAILURE);
	}
	return v;
}

static json_t *field(const json_t *entry, const char *key)
{
	json_t *v = json_object_get(entry, key);
	ck_assert_msg(v != NULL, "%s: no %s", json_string_value(json_object_get(entry, "name")), key);
	return v;
}

static const char *text(const json_t *entry, const char *key)
{
	const char *s = json_string_value(field(entry, key));
	ck_assert_ptr_nonnull(s);
	return s;
}

static void bytes_of(const json_t *entry, struct buf *b)
{
	buf_init(b, 0);
	unhex(b, text(entry, "hex"));
	ck_assert_ptr_nonnull(buf_text(b)); /* never NULL, even if empty */
}

static struct scan_limits limits_of(const json_t *entry, size_t *ret_max_payload)
{
	const json_t *l = json_object_get(entry, "limits"), *v;
	struct scan_limits r = {.max_items = 4096, .max_depth = 30};
	*ret_max_payload = 65536;
	if ((v = json_object_get(l, "max_payload")))
		*ret_max_payload = (size_t)json_integer_value(v);
	if ((v = json_object_get(l, "max_items")))
		r.max_items = (size_t)json_integer_value(v);
	if ((v = json_object_get(l, "max_depth")))
		r.max_depth = (unsigned)json_integer_value(v);
	return r;
}

/* ---- MessagePack to `meaning` ---- */

static json_t *marked(const char *key, const char *value)
{
	return json_pack("{s:s}", key, value);
}

/* msgpack-c has NULL for an empty string. */
static const char *chars_of(const msgpack_object_str *s)
{
	return s->size > 0 ? s->ptr : "";
}

static json_t *meaning_of(const msgpack_object *o);

static json_t *meaning_of_int(int64_t small, uint64_t magnitude, bool negative)
{
	char s[32];
	if (magnitude <= (1ULL << 53) - 1)
		return json_integer(small);
	snprintf(s, sizeof s, "%s%llu", negative ? "-" : "", (unsigned long long)magnitude);
	return marked("$int", s);
}

static json_t *meaning_of_double(double v)
{
	char s[64];
	if (!isfinite(v))
		return marked("$float", isnan(v) ? "nan" : v > 0 ? "inf" : "-inf");
	if (v > trunc(v) || v < trunc(v))
		return json_real(v);
	for (int digits = 1; digits <= 17; digits++) { /* shortest, as Python and JavaScript choose it */
		snprintf(s, sizeof s, "%.*g", digits, v);
		if (strtod(s, NULL) == v)
			break;
	}
	if (fabs(v) < 1e16)
		snprintf(s, sizeof s, "%.1f", v);
	return marked("$float", s);
}

static json_t *meaning_of_bin(const msgpack_object_bin *bin)
{
	struct buf hex;
	buf_init(&hex, 0);
	for (uint32_t i = 0; i < bin->size; i++)
		buf_printf(&hex, "%02x", (unsigned)(unsigned char)bin->ptr[i]);
	json_t *v = marked("$bin", buf_text(&hex));
	buf_done(&hex);
	return v;
}

static json_t *meaning_of_array(const msgpack_object_array *a)
{
	json_t *v = json_array();
	for (uint32_t i = 0; i < a->size; i++)
		json_array_append_new(v, meaning_of(&a->ptr[i]));
	return v;
}

static json_t *meaning_of_map(const msgpack_object_map *m)
{
	json_t *v = json_object();
	for (uint32_t i = 0; i < m->size; i++) {
		const msgpack_object_str *k = &m->ptr[i].key.via.str;
		ck_assert_int_eq(json_object_setn_new(v, chars_of(k), k->size, meaning_of(&m->ptr[i].val)),
		                 0);
	}
	return v;
}

static json_t *meaning_of(const msgpack_object *o)
{
	switch (o->type) {
	case MSGPACK_OBJECT_NIL:
		return json_null();
	case MSGPACK_OBJECT_BOOLEAN:
		return json_boolean(o->via.boolean);
	case MSGPACK_OBJECT_POSITIVE_INTEGER:
		return meaning_of_int((int64_t)o->via.u64, o->via.u64, false);
	case MSGPACK_OBJECT_NEGATIVE_INTEGER:
		return meaning_of_int(o->via.i64, -(uint64_t)o->via.i64, true);
	case MSGPACK_OBJECT_FLOAT32:
	case MSGPACK_OBJECT_FLOAT64:
		return meaning_of_double(o->via.f64);
	case MSGPACK_OBJECT_STR:
		return json_stringn(chars_of(&o->via.str), o->via.str.size);
	case MSGPACK_OBJECT_BIN:
		return meaning_of_bin(&o->via.bin);
	case MSGPACK_OBJECT_ARRAY:
		return meaning_of_array(&o->via.array);
	case MSGPACK_OBJECT_MAP:
		return meaning_of_map(&o->via.map);
	case MSGPACK_OBJECT_EXT:
		break;
	}
	ck_abort_msg("ext");
	return NULL;
}

static void assert_meaning(const msgpack_object *o, const json_t *want, const char *name)
{
	json_t *got = meaning_of(o);
	ck_assert_ptr_nonnull(got);
	char *got_text = json_dumps(got, JSON_ENCODE_ANY | JSON_COMPACT);
	char *want_text =
	    json_dumps(want, JSON_ENCODE_ANY | JSON_COMPACT); /* text, so that the order of keys counts */
	ck_assert_msg(strcmp(got_text, want_text) == 0, "%s means\n%s, not\n%s", name, got_text, want_text);
	free(got_text);
	free(want_text);
	json_decref(got);
}

/* ---- `meaning` to MessagePack ---- */

static void encode(const json_t *v, struct buf *out);

static bool encode_marked(const json_t *v, struct buf *out)
{
	const char *s;
	if (json_object_size(v) != 1)
		return false;
	if ((s = json_string_value(json_object_get(v, "$bin")))) {
		struct buf bin;
		buf_init(&bin, 0);
		unhex(&bin, s);
		mp_bin(out, bin.data, bin.len);
		buf_done(&bin);
	} else if ((s = json_string_value(json_object_get(v, "$float")))) {
		mp_double(out, strtod(s, NULL));
	} else if ((s = json_string_value(json_object_get(v, "$int")))) {
		errno = 0;
		if (s[0] == '-')
			mp_int(out, strtoll(s, NULL, 10));
		else
			mp_uint(out, strtoull(s, NULL, 10));
		ck_assert_int_eq(errno, 0);
	} else {
		return false;
	}
	return true;
}

static void encode_object(const json_t *v, struct buf *out)
{
	json_t *o =
	    json_copy((json_t *)(uintptr_t)v); /* shallow; the iterator asks for one that is not const */
	mp_map(out, json_object_size(o));
	for (void *it = json_object_iter(o); it; it = json_object_iter_next(o, it)) {
		mp_strn(out, json_object_iter_key(it), json_object_iter_key_len(it));
		encode(json_object_iter_value(it), out);
	}
	json_decref(o);
}

static void encode(const json_t *v, struct buf *out)
{
	switch (json_typeof(v)) {
	case JSON_OBJECT:
		if (!encode_marked(v, out))
			encode_object(v, out);
		break;
	case JSON_ARRAY:
		mp_array(out, json_array_size(v));
		for (size_t i = 0; i < json_array_size(v); i++)
			encode(json_array_get(v, i), out);
		break;
	case JSON_STRING:
		mp_strn(out, json_string_value(v), json_string_length(v));
		break;
	case JSON_INTEGER:
		mp_int(out, json_integer_value(v));
		break;
	case JSON_REAL:
		mp_double(out, json_real_value(v));
		break;
	case JSON_TRUE:
	case JSON_FALSE:
		mp_bool(out, json_is_true(v));
		break;
	case JSON_NULL:
		mp_nil(out);
		break;
	}
}

static void assert_encodes_to(const json_t *meaning, const char *hex, const char *name)
{
	struct buf out;
	buf_init(&out, 0);
	encode(meaning, &out);
	assert_hex(&out, hex, name);
	buf_done(&out);
}

/* ---- the tests ---- */

static void decode(const struct buf *b, struct mp_value *v, const char *name)
{
	static const struct scan_limits limits = {.max_items = 4096, .max_depth = 30};
	struct scan_error e;
	ck_assert_msg(scan_value(b->data, b->len, &limits, &e) == 0, "%s: %s at %zu", name, e.what, e.offset);
	ck_assert_int_eq(mp_decode(b->data, b->len, v), 0);
}

static void assert_json(const json_t *entry, const msgpack_object *o)
{
	struct buf out;
	struct mpjson_error e;
	const json_t *refused = json_object_get(entry, "refused");
	buf_init(&out, 0);
	int r = mp_to_json(o, "value", &out, &e);
	if (refused) {
		ck_assert_int_eq(r, -EINVAL);
		ck_assert_str_eq(e.path, text(refused, "path"));
		ck_assert_str_eq(e.what, text(refused, "what"));
	} else {
		ck_assert_int_eq(r, 0);
		ck_assert_str_eq(buf_text(&out), text(entry, "json"));
	}
	buf_done(&out);
}

START_TEST(value_vector)
{
	const json_t *entry = json_array_get(values, (size_t)_i);
	const char *name = text(entry, "name");
	struct buf b;
	struct mp_value v;
	ck_assert(json_is_true(field(entry, "valid")));
	bytes_of(entry, &b);
	decode(&b, &v, name);
	assert_meaning(&v.root, field(entry, "meaning"), name);
	assert_json(entry, &v.root);
	if (!json_is_false(json_object_get(entry, "canonical")))
		assert_encodes_to(field(entry, "meaning"), text(entry, "hex"), name);
	mp_value_done(&v);
	buf_done(&b);
}
END_TEST

START_TEST(stream_vector)
{
	const json_t *entry = json_array_get(frames, (size_t)_i);
	const json_t *meaning = field(entry, "meaning"), *want = field(meaning, "frames");
	const char *name = text(entry, "name");
	size_t max = (size_t)json_integer_value(field(entry, "limit")), at = 0, off, len, n = 0;
	struct buf b, again;
	int r;
	ck_assert(json_is_true(field(entry, "valid")));
	bytes_of(entry, &b);
	buf_init(&again, 0);
	while ((r = frame_peek(b.data + at, b.len - at, max, &off, &len)) == 1) {
		struct buf payload = {.data = b.data + at + off, .len = len};
		struct mp_value v;
		decode(&payload, &v, name);
		assert_meaning(&v.root, json_array_get(want, n), name);
		size_t mark = frame_begin(&again);
		encode(json_array_get(want, n++), &again);
		frame_end(&again, mark);
		mp_value_done(&v);
		at += off + len;
	}
	ck_assert_msg(r == 0, "%s: %d", name, r);
	ck_assert_uint_eq(n, json_array_size(want));
	ck_assert_uint_eq(b.len - at, (size_t)json_integer_value(field(meaning, "left")));
	ck_assert_uint_eq(again.len, at);
	ck_assert(at == 0 || memcmp(again.data, b.data, at) == 0);
	buf_done(&b);
	buf_done(&again);
}
END_TEST

static void assert_envelope(const json_t *entry, const struct envelope *e)
{
	const char *name = text(entry, "name"), *message = text(entry, "message"),
	           *kind = text(entry, "kind");
	enum msg_dir dir = strcmp(text(entry, "direction"), "to_daemon") == 0 ? MSG_TO_DAEMON : MSG_TO_CLIENT;
	bool answer = strcmp(kind, "response") == 0 || strcmp(kind, "error") == 0;
	enum msg_dir asked = answer ? MSG_TO_DAEMON : dir;
	int id = msg_find(message, strlen(message), asked);
	ck_assert_msg(id >= 0, "%s: %s is not in msg.h for its direction", name, message);
	if (answer) {
		ck_assert_int_eq(dir, MSG_TO_CLIENT);
		ck_assert_int_eq(msg_infos[id].kind, MSG_REQUEST);
		ck_assert_int_eq(e->kind, ENV_RESPONSE);
		ck_assert_int_eq(e->error != NULL, strcmp(kind, "error") == 0);
		return;
	}
	bool request = strcmp(kind, "request") == 0;
	ck_assert_int_eq(msg_infos[id].kind, request ? MSG_REQUEST : MSG_NOTIFICATION);
	ck_assert_int_eq(e->kind, request ? ENV_REQUEST : ENV_NOTIFICATION);
	ck_assert_msg(e->method_len == strlen(message) && memcmp(e->method, message, e->method_len) == 0,
	              "%s: another method", name);
}

START_TEST(message_vector)
{
	const json_t *entry = json_array_get(messages, (size_t)_i);
	const char *name = text(entry, "name"), *why;
	struct buf b;
	struct mp_value v;
	struct envelope e;
	ck_assert(json_is_true(field(entry, "valid")));
	bytes_of(entry, &b);
	decode(&b, &v, name);
	assert_meaning(&v.root, field(entry, "meaning"), name);
	assert_encodes_to(field(entry, "meaning"), text(entry, "hex"), name);
	ck_assert_msg(envelope_read(&v.root, &e, &why) == 0, "%s: %s", name, why);
	assert_envelope(entry, &e);
	mp_value_done(&v);
	buf_done(&b);
}
END_TEST

static void refused_by_frame(const struct buf *b, size_t max_payload, const char *why)
{
	size_t at = 0, off, len;
	int r;
	while ((r = frame_peek(b->data + at, b->len - at, max_payload, &off, &len)) == 1)
		at += off + len;
	ck_assert_int_eq(r, -EMSGSIZE);
	bool zero = memcmp(b->data + at, "\0\0\0", FRAME_HEADER) == 0;
	ck_assert_str_eq(why, zero ? "length 0" : "length above the limit");
}

static void refused_by_scan(const struct buf *b, const struct scan_limits *l, const json_t *entry)
{
	struct scan_error e;
	ck_assert_int_eq(scan_value(b->data, b->len, l, &e), -EBADMSG);
	ck_assert_str_eq(e.what, text(entry, "why"));
	ck_assert_msg(e.offset == (size_t)json_integer_value(field(entry, "offset")), "%s: at %zu",
	              text(entry, "name"), e.offset);
}

static void refused_by_envelope(const struct buf *b, const json_t *entry)
{
	struct mp_value v;
	struct envelope e;
	const char *why = "";
	decode(b, &v, text(entry, "name"));
	ck_assert_int_eq(envelope_read(&v.root, &e, &why), -EBADMSG);
	ck_assert_str_eq(why, text(entry, "why"));
	mp_value_done(&v);
}

START_TEST(hostile_bytes)
{
	const json_t *entry = json_array_get(hostile, (size_t)_i);
	const char *by = text(entry, "refused_by");
	size_t max_payload;
	struct scan_limits l = limits_of(entry, &max_payload);
	struct buf b;
	ck_assert(json_is_false(field(entry, "valid")));
	bytes_of(entry, &b);
	if (strcmp(by, "frame") == 0)
		refused_by_frame(&b, max_payload, text(entry, "why"));
	else if (strcmp(by, "scan") == 0)
		refused_by_scan(&b, &l, entry);
	else if (strcmp(by, "envelope") == 0)
		refused_by_envelope(&b, entry);
	else
		ck_abort_msg("refused by %s?", by);
	buf_done(&b);
}
END_TEST

static unsigned count(const char *message, const char *kind)
{
	unsigned n = 0;
	for (size_t i = 0; i < json_array_size(messages); i++) {
		const json_t *e = json_array_get(messages, i);
		n += strcmp(text(e, "message"), message) == 0 && strcmp(text(e, "kind"), kind) == 0;
	}
	return n;
}

START_TEST(every_message_has_its_vectors)
{
	for (int i = 0; i < MSG_COUNT; i++) {
		const char *name = msg_infos[i].name;
		if (msg_infos[i].kind == MSG_NOTIFICATION)
			ck_assert_msg(count(name, "notification") > 0, "no vector for %s", name);
		else
			ck_assert_msg(count(name, "request") && count(name, "response") &&
			                  count(name, "error"),
			              "no request, response or error vector for %s", name);
	}
}
END_TEST

START_TEST(names_are_unique)
{
	json_t *const files[] = {values, frames, messages, hostile};
	for (size_t f = 0; f < N_OF(files); f++) {
		json_t *seen = json_object();
		for (size_t i = 0; i < json_array_size(files[f]); i++) {
			const char *name = text(json_array_get(files[f], i), "name");
			ck_assert_msg(!json_object_get(seen, name), "%s occurs twice", name);
			json_object_set_new(seen, name, json_true());
		}
		json_decref(seen);
	}
}
END_TEST

/* ---- PROTOCOL.md ---- */

static char *read_protocol_md(void)
{
	char path[4096], chunk[4096];
	struct buf b;
	snprintf(path, sizeof path, "%s/PROTOCOL.md", protocol_dir);
	FILE *f = fopen(path, "r");
	ck_assert_msg(f != NULL, "%s", path);
	buf_init(&b, 0);
	for (size_t n; (n = fread(chunk, 1, sizeof chunk, f)) > 0;)
		buf_append(&b, chunk, n);
	fclose(f);
	char *t = buf_take_text(&b);
	ck_assert_ptr_nonnull(t);
	return t;
}

START_TEST(every_message_is_in_the_text)
{
	char *md = read_protocol_md(), quoted[64], called[64];
	for (int i = 0; i < MSG_COUNT; i++) {
		snprintf(quoted, sizeof quoted, "`%s`", msg_infos[i].name);
		snprintf(called, sizeof called, "`%s ", msg_infos[i].name);
		ck_assert_msg(strstr(md, quoted) || strstr(md, called), "%s is not in PROTOCOL.md",
		              msg_infos[i].name);
	}
	free(md);
}
END_TEST

/* A name in code type that begins like a message's must be one. */
START_TEST(the_text_names_no_other_messages)
{
	static const char *const subjects[] = {"task",  "step",   "template", "session", "worker", "node",
	                                       "queue", "result", "server",   "dlq",     "event",  "token"};
	static const char letters[] = "abcdefghijklmnopqrstuvwxyz_";
	char *md = read_protocol_md();
	unsigned found = 0;
	for (const char *p = strchr(md, '`'); p; p = strchr(p + 1, '`')) {
		size_t first = strspn(p + 1, letters), rest;
		if (p[1 + first] != '.' || (rest = strspn(p + 2 + first, letters)) == 0)
			continue;
		for (size_t i = 0; i < N_OF(subjects); i++)
			if (strlen(subjects[i]) == first && memcmp(p + 1, subjects[i], first) == 0) {
				int len = (int)(first + 1 + rest);
				found++;
				ck_assert_msg(msg_find(p + 1, (size_t)len, MSG_TO_DAEMON) >= 0 ||
				                  msg_find(p + 1, (size_t)len, MSG_TO_CLIENT) >= 0,
				              "PROTOCOL.md speaks of %.*s, msg.h does not", len, p + 1);
			}
	}
	ck_assert_uint_gt(found, 20);
	free(md);
}
END_TEST

/* The codes of the table in section 9: "| `code` | ...". */
static json_t *codes_in_text(const char *md)
{
	json_t *codes = json_object();
	const char *p = strstr(md, "\n## 9. Error codes");
	ck_assert_ptr_nonnull(p);
	const char *next = strstr(p + 1, "\n## ");
	while ((p = strstr(p, "\n| `")) && (!next || p < next)) {
		p += 4;
		const char *end = strchr(p, '`');
		ck_assert_ptr_nonnull(end);
		json_object_setn_new(codes, p, (size_t)(end - p), json_false());
	}
	ck_assert_uint_gt(json_object_size(codes), 10);
	return codes;
}

static const char *code_of(const json_t *entry)
{
	const json_t *meaning = field(entry, "meaning");
	if (strcmp(text(entry, "kind"), "error") == 0)
		return text(json_array_get(meaning, 2), "code");
	if (strcmp(text(entry, "message"), "error") == 0)
		return text(json_array_get(meaning, 2), "code");
	return NULL;
}

START_TEST(error_codes_are_those_of_the_text)
{
	char *md = read_protocol_md();
	json_t *codes = codes_in_text(md);
	for (size_t i = 0; i < json_array_size(messages); i++) {
		const json_t *entry = json_array_get(messages, i);
		const char *code = code_of(entry);
		if (!code)
			continue;
		ck_assert_msg(json_object_get(codes, code), "%s: PROTOCOL.md has no code %s",
		              text(entry, "name"), code);
		json_object_set_new(codes, code, json_true());
	}
	for (void *it = json_object_iter(codes); it; it = json_object_iter_next(codes, it))
		ck_assert_msg(json_is_true(json_object_iter_value(it)), "no vector shows the code %s",
		              json_object_iter_key(it));
	json_decref(codes);
	free(md);
}
END_TEST

int main(int argc, char **argv)
{
	if (argc != 2) {
		fprintf(stderr, "usage: %s DIRECTORY-OF-PROTOCOL\n", argv[0]);
		return EXIT_FAILURE;
	}
	protocol_dir = argv[1];
	values = load("values.json");
	frames = load("frames.json");
	messages = load("messages.json");
	hostile = load("hostile.json");
	Suite *s = suite_create("vectors");
	TCase *v = tcase_create("vectors"), *t = tcase_create("text");
	tcase_add_loop_test(v, value_vector, 0, (int)json_array_size(values));
	tcase_add_loop_test(v, stream_vector, 0, (int)json_array_size(frames));
	tcase_add_loop_test(v, message_vector, 0, (int)json_array_size(messages));
	tcase_add_loop_test(v, hostile_bytes, 0, (int)json_array_size(hostile));
	tcase_add_test(t, every_message_has_its_vectors);
	tcase_add_test(t, names_are_unique);
	tcase_add_test(t, every_message_is_in_the_text);
	tcase_add_test(t, the_text_names_no_other_messages);
	tcase_add_test(t, error_codes_are_those_of_the_text);
	suite_add_tcase(s, v);
	suite_add_tcase(s, t);
	int r = run_suite(s);
	json_decref(values);
	json_decref(frames);
	json_decref(messages);
	json_decref(hostile);
	return r;
}
