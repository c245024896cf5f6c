/* What a worker is sent of a step, made of the engine's rows, or of what was at hand for the step before: both ways say
 * the same, generation after generation. And what a single result asks of the database. The cache of templates is this
 * file's own, so nothing here needs a database. */
#include <check.h>
#include <endian.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "daemon/store/handover.h"
#include "daemon/store/hot_impl.h"
#include "protocol/mp.h"

#define CHAIN 70 /* steps, more than a step may have ancestors */
#define SLOT 5
#define OTHER_HANDLER 12

static struct tcache_step steps[CHAIN + 4]; /* those behind the last are in no template */
static char ns[] = "ns", name[] = "chain", version[] = "1.0.0";
static struct tcache_template chain =
	{.id = 3, .ns = ns, .name = name, .version = version, .n_steps = CHAIN, .steps = steps};
static const struct hot_node node = {.node_no = 2, .incarnation = 4, .secret = "a secret", .name = "n"};
static const struct hot_call call = {.node = &node, .seq = 9, .slot = SLOT, .max_body = 1 << 20};
static const struct uuid task = {{1, 2, 3, 4, 5, 6, 0x70, 8, 0x80, 10, 11, 12, 13, 0, 0, 0}};
static struct hot hot;
static enum db_failure why;
static struct err e;

const struct tcache_template *tcache_find(struct tcache *t, int template_id)
{
	(void)t;
	return template_id == chain.id ? &chain : NULL;
}

const struct tcache_template *tcache_get(struct tcache *t, PGconn *c, int template_id, enum db_failure *ret_why,
                                         struct err *ret_e)
{
	(void)c, (void)ret_why, (void)ret_e;
	return tcache_find(t, template_id);
}

/* Each step depends on the one before; nearest ancestors first, as the template layer cuts them. */
static void set_up(void)
{
	static char names[CHAIN][16];
	static int children[CHAIN];
	for (int i = 0; i < CHAIN; i++) {
		snprintf(names[i], sizeof names[i], "s%d", i);
		children[i] = i + 1;
		int n = i < CLAIM_DEPS_MAX ? i : CLAIM_DEPS_MAX;
		steps[i] = (struct tcache_step){.name = names[i],
		                                .max_attempts = 3,
		                                .plain = true,
		                                .handler_id = 11,
		                                .n_parents = i > 0,
		                                .n_ancestors = n,
		                                .last_ancestor = n > 0 ? i - n : -1,
		                                .ancestors_cut = i > CLAIM_DEPS_MAX,
		                                .children = &children[i],
		                                .n_children = i + 1 < CHAIN};
		buf_init(&steps[i].handler, 0);
		mp_map(&steps[i].handler, 0);
	}
	hot = (struct hot){.prover = prover_new()};
	ck_assert_ptr_nonnull(hot.prover);
	pgarray_init(&hot.handlers, PG_INT4);
	pgarray_init(&hot.taken, PG_INT4);
	pgarray_init(&hot.queued, PG_INT4);
	pgarray_init(&hot.queue_handlers, PG_INT4);
}

static void tear_down(void)
{
	for (int i = 0; i < CHAIN; i++)
		buf_done(&steps[i].handler);
	prover_free(hot.prover);
	pgarray_done(&hot.handlers);
	pgarray_done(&hot.taken);
	pgarray_done(&hot.queued);
	pgarray_done(&hot.queue_handlers);
}

/* A result of step `no`, {"r": no}, with what was at hand for it, which it owns then. */
static struct req *result_of(int no, struct claim *held)
{
	struct req *q = req_new(REQ_RESULT, (struct origin){0});
	ck_assert_ptr_nonnull(q);
	q->task = task;
	q->result = (struct req_result){.task_id = 77,
	                                .step_no = no,
	                                .fence = 1,
	                                .attempt = 1,
	                                .template_id = chain.id,
	                                .outcome = OUTCOME_SUCCESS,
	                                .held = held};
	buf_init(&q->result.value, 0);
	mp_map(&q->result.value, 1);
	mp_str(&q->result.value, "r");
	mp_int(&q->result.value, no);
	return q;
}

static struct claim *root(void)
{
	struct req *q = req_new(REQ_CREATE, (struct origin){0});
	ck_assert_ptr_nonnull(q);
	q->create.task = task;
	text_set(&q->create.context, "{\"c\":[1,2]}", 11);
	struct claim *cl = handover_root(&hot, NULL, &call, q, chain.id, 0, &why, &e);
	req_free(q);
	ck_assert_ptr_nonnull(cl);
	return cl;
}

static struct claim *child_of(int no, struct claim *held)
{
	struct req *q = result_of(no, held);
	ck_assert(handover_possible(&chain, &q->result));
	struct claim *cl = handover_claim(hot.prover, &call, &chain, no + 1, 1, q, &why, &e);
	ck_assert_ptr_nonnull(cl);
	ck_assert_int_eq(cl->task_id, 77);
	req_free(q);
	return cl;
}

static void has_text(const msgpack_object *map, const char *key, const char *text)
{
	const msgpack_object *v = mp_get(map, key);
	ck_assert_msg(v && mp_str_eq(v, text), "%s is not %s", key, text);
}

/* The numbers of those steps, in the order of their names. */
static void has_numbers(const msgpack_object *item, int no)
{
	const msgpack_object *numbers = NULL;
	const char *before = "";
	unsigned n = (unsigned)steps[no].n_ancestors;
	ck_assert_int_eq(mp_get_array(item, "dependency_steps", &numbers), n > 0);
	ck_assert_uint_eq(n > 0 ? numbers->via.array.size : 0, n);
	for (unsigned i = 0; i < n; i++) {
		int number = (int)numbers->via.array.ptr[i].via.u64;
		ck_assert(number < no && number >= no - (int)n);
		ck_assert_str_lt(before, steps[number].name);
		before = steps[number].name;
	}
}

/* The dependencies of step `no` are all that it may be given, each with its own result. */
static void has_dependencies(const msgpack_object *item, int no)
{
	const msgpack_object *deps = NULL, *result = NULL;
	char parent[16];
	int64_t r = -1;
	bool partial = false;
	ck_assert_int_eq(mp_get_map(item, "dependencies", &deps), steps[no].n_ancestors > 0);
	ck_assert_uint_eq(deps ? deps->via.map.size : 0, (unsigned)steps[no].n_ancestors);
	for (int i = no - steps[no].n_ancestors; i < no; i++) {
		snprintf(parent, sizeof parent, "s%d", i);
		ck_assert_msg(mp_get_map(deps, parent, &result) == 1, "s%d is given no result of %s", no, name);
		ck_assert_int_eq(mp_get_int(result, "r", 0, CHAIN, &r), 1);
		ck_assert_int_eq(r, i);
	}
	has_numbers(item, no);
	ck_assert_int_eq(mp_get_bool(item, "dependencies_partial", &partial), steps[no].ancestors_cut);
	ck_assert(partial == steps[no].ancestors_cut);
}

/* A step.execute item of `n` fields, all of them there, of this attempt. */
static void is_whole(const struct claim *cl, int no, int fence, const char *correlation)
{
	struct buf b;
	struct mp_value v;
	char uuid[UUID_TEXT];
	const void *proof = NULL;
	size_t len = 0;
	uint32_t proved = 0;
	const msgpack_object *context = NULL;
	struct uuid step = uuid_for_step(&task, (unsigned)no);
	buf_init(&b, 0);
	mp_map(&b, cl->fields);
	mp_raw(&b, cl->body.data, cl->body.len);
	ck_assert_int_eq(mp_decode(b.data, b.len, &v), 0);
	uuid_format(&step, uuid);
	has_text(&v.root, "step_uuid", uuid);
	has_text(&v.root, "step", steps[no].name);
	has_text(&v.root, "correlation_id", correlation);
	ck_assert_int_eq(mp_get_map(&v.root, "context", &context), 1);
	ck_assert_uint_eq(mp_get(context, "c")->via.array.size, 2);
	has_dependencies(&v.root, no);
	ck_assert_int_eq(mp_get_bin(&v.root, "claim", &proof, &len), 1);
	ck_assert_uint_eq(len, PROOF_LEN);
	ck_assert_int_eq(proof_check(hot.prover, node.secret, &task, (unsigned)no, proof, &proved), 0);
	ck_assert_uint_eq(proved, (unsigned)fence);
	ck_assert_int_eq(cl->fence, fence);
	ck_assert_int_eq(cl->attempt, fence);
	ck_assert_int_eq(cl->step_no, no);
	ck_assert_int_eq(cl->slot, SLOT);
	ck_assert_int_eq(cl->handler_id, 11);
	ck_assert(cl->parts.whole);
	mp_value_done(&v);
	buf_done(&b);
}

/* Rows of the engine ----------------------------------------------------------------------------------------------- */

static PGresult *result_set(int columns)
{
	static char column[] = "x";
	PGresAttDesc attrs[16];
	for (int i = 0; i < columns; i++)
		attrs[i] = (PGresAttDesc){.name = column, .format = 1};
	PGresult *r = PQmakeEmptyPGresult(NULL, PGRES_TUPLES_OK);
	ck_assert_ptr_nonnull(r);
	ck_assert(PQsetResultAttrs(r, columns, attrs));
	for (int i = 0; i < columns; i++)
		ck_assert(PQsetvalue(r, 0, i, NULL, -1));
	return r;
}

static void put_bytes(PGresult *r, int col, const void *v, size_t n)
{
	char copy[8192];
	ck_assert_uint_le(n, sizeof copy);
	memcpy(copy, v, n);
	ck_assert(PQsetvalue(r, 0, col, copy, (int)n));
}

static void put_int4(PGresult *r, int col, int v)
{
	uint32_t be = htobe32((uint32_t)v);
	put_bytes(r, col, &be, sizeof be);
}

static void put_json(PGresult *r, int col, const char *json)
{
	char jsonb[8192];
	int n = snprintf(jsonb, sizeof jsonb, "\1%s", json);
	put_bytes(r, col, jsonb, (size_t)n);
}

/* The claim of step `no` as the engine tells it to `who`; deps: how many of its nearest ancestors' results are in
 * it. */
static struct claim *from_rows_of(const struct hot_call *who, int no, int deps, const char *status, const char *meta)
{
	char json[4096];
	struct done *d = done_new(DONE_BATCH);
	PGresult *r = result_set(C_META + 1);
	put_bytes(r, C_KIND, "c", 1);
	put_bytes(r, C_TASK_ID, &(uint64_t){htobe64(77)}, 8);
	put_bytes(r, C_TASK, task.b, sizeof task.b);
	put_int4(r, C_TEMPLATE, chain.id);
	put_int4(r, C_STEP, no);
	put_int4(r, C_ATTEMPT, 2);
	put_int4(r, C_FENCE, 2);
	put_int4(r, C_HANDLER, 11);
	put_json(r, C_CONTEXT, "{\"c\":[1,2]}");
	if (status)
		put_bytes(r, C_STATUS, status, strlen(status));
	if (meta)
		put_json(r, C_META, meta);
	int at = 0;
	for (int i = no - deps; i < no; i++)
		at += snprintf(json + at, sizeof json - (size_t)at, "%s\"%d\":{\"r\":%d}", at ? "," : "{", i, i);
	snprintf(json + at, sizeof json - (size_t)at, "}");
	if (deps > 0)
		put_json(r, C_DEPS, json);
	ck_assert_int_eq(read_rows(&hot, NULL, who, r, true, NULL, 0, d, &why, &e), 0);
	struct claim *cl = d->claims;
	d->claims = NULL;
	ck_assert_ptr_nonnull(cl);
	done_free(d);
	PQclear(r);
	return cl;
}

static struct claim *from_rows(int no, int deps, const char *status, const char *meta)
{
	return from_rows_of(&call, no, deps, status, meta);
}

/* Tests ------------------------------------------------------------------------------------------------------------ */

START_TEST(generations)
{
	char own[UUID_TEXT];
	uuid_format(&task, own);
	struct claim *cl = root();
	is_whole(cl, 0, 1, own);
	cl->task_id = 77;
	for (int no = 1; no < CHAIN; no++) {
		cl = child_of(no - 1, cl);
		is_whole(cl, no, 1, own);
	}
	claim_free(cl);
}
END_TEST

START_TEST(from_the_database_on)
{
	int from = (int[]){0, 1, 2, 63, 64, 65, 68}[_i];
	struct claim *cl =
		from_rows(from, steps[from].n_ancestors, NULL, "{\"priority\": 5, \"correlation_id\": \"order 7\"}");
	is_whole(cl, from, 2, "order 7");
	for (int no = from + 1; no < CHAIN && no < from + 4; no++) {
		cl = child_of(no - 1, cl);
		is_whole(cl, no, 1, "order 7");
		ck_assert_uint_eq(cl->parts.n_carry, 3);
	}
	claim_free(cl);
}
END_TEST

START_TEST(a_correlation_id_of_its_own)
{
	static const char *const metas[] = {NULL, "{\"priority\": 5}"};
	char own[UUID_TEXT];
	uuid_format(&task, own);
	struct claim *cl = from_rows(2, 2, NULL, metas[_i]);
	is_whole(cl, 2, 2, own);
	claim_free(cl);
}
END_TEST

/* What is too large when it is MessagePack is left out, like what was too large as JSON. */
START_TEST(results_that_take_too_much)
{
	struct hot_call small = call;
	struct buf b;
	struct mp_value v;
	bool partial = false;
	small.max_body = 64;
	struct claim *cl = from_rows_of(&small, 3, 3, NULL, NULL);
	ck_assert(!cl->parts.whole);
	buf_init(&b, 0);
	mp_map(&b, cl->fields);
	mp_raw(&b, cl->body.data, cl->body.len);
	ck_assert_int_eq(mp_decode(b.data, b.len, &v), 0);
	ck_assert_ptr_null(mp_get(&v.root, "dependencies"));
	ck_assert_int_eq(mp_get_bool(&v.root, "dependencies_partial", &partial), 1);
	ck_assert(partial);
	mp_value_done(&v);
	buf_done(&b);
	claim_free(cl);
}
END_TEST

static bool possible(int no, struct claim *held)
{
	struct req *q = result_of(no, held);
	bool yes = handover_possible(&chain, &q->result);
	req_free(q);
	return yes;
}

START_TEST(what_cannot_be_handed_over)
{
	struct claim *cl = from_rows(3, 0, "partial", NULL); /* results that were too large to come with it */
	ck_assert(!cl->parts.whole);
	ck_assert(!possible(3, cl));
	ck_assert(!possible(3, NULL));
	ck_assert(possible(3, from_rows(3, 3, NULL, NULL)));
	steps[CHAIN + 3] = steps[3];
	ck_assert(!possible(CHAIN + 3, from_rows(3, 3, NULL, NULL))); /* a batch made it */
	steps[4].n_parents = 2;
	ck_assert(!possible(3, from_rows(3, 3, NULL, NULL)));
	steps[4].n_parents = 1;
	steps[4].n_ancestors = 5;
	ck_assert(!possible(3, from_rows(3, 3, NULL, NULL)));
	steps[4].n_ancestors = 4;
	steps[3].plain = false;
	ck_assert(!possible(3, from_rows(3, 3, NULL, NULL)));
	steps[3].n_children = 0;
	ck_assert(!possible(3, NULL));
	steps[3].plain = true;
	ck_assert(possible(3, NULL)); /* nobody is given anything */
}
END_TEST

/* Step 0 with steps 1 to 4 as its children, two handlers. */
static struct req *fan(unsigned credits)
{
	static int children[] = {1, 2, 3, 4};
	steps[0].children = children;
	steps[0].n_children = 4;
	for (int i = 1; i <= 4; i++)
		steps[i] = (struct tcache_step){.name = steps[i].name,
		                                .handler = steps[i].handler,
		                                .plain = true,
		                                .handler_id = i == 2 ? OTHER_HANDLER : 11,
		                                .n_parents = 1,
		                                .n_ancestors = 1,
		                                .last_ancestor = 0};
	struct req *q = result_of(0, root());
	text_set(&q->result.result, "{\"r\":0}", 7);
	q->offer.pool = pool_handlers_new(1, (int[]){11}, 1);
	q->offer.credits = credits;
	return q;
}

static void fan_done(struct req *q)
{
	q->offer.pool = pool_handlers_unref(q->offer.pool);
	req_free(q);
}

/* Made with the answer, and while it is awaited. */
START_TEST(children_within_the_credits)
{
	struct one one;
	unsigned credits = (unsigned)_i % 5;
	struct req *q = fan(credits);
	bool takes[] = {credits > 0, false, credits > 1, credits > 2};
	ck_assert(one_prepare(&hot, &call, q, &one));
	ck_assert_int_eq(one.stmt, S_RECORD_ONE);
	for (int i = 0; i < 4; i++)
		ck_assert_msg(one.takes[i] == takes[i], "child %d with %u credits", i + 1, credits);

	ck_assert_uint_eq(hot.taken.n, credits < 3 ? credits : 3);
	ck_assert_uint_eq(hot.queued.n, 4 - hot.taken.n);
	ck_assert_uint_eq(hot.queue_handlers.n, hot.queued.n);

	struct done *d = _i < 5 ? done_new(DONE_BATCH) : one_foresee(&hot, &call, &one, q);
	ck_assert_ptr_nonnull(d);
	ck_assert(one.foreseen == (_i >= 5));
	PGresult *r = result_set(1);
	put_int4(r, 0, 1);
	ck_assert_int_eq(one_finish(&hot, NULL, &call, &one, q, r, d, &why, &e), 1);
	ck_assert_str_eq(q->status, "recorded");
	ck_assert_ptr_null(d->settled);
	unsigned n = 0;
	for (const struct claim *cl = d->claims; cl; cl = cl->next, n++) {
		ck_assert_int_ne(cl->step_no, 2);
		ck_assert(takes[cl->step_no - 1]);
		ck_assert_int_eq(cl->fence, 1);
		ck_assert_int_eq(cl->slot, SLOT);
	}
	ck_assert_uint_eq(n, credits < 3 ? credits : 3);
	bool told = false;
	for (size_t i = 0; i < d->n_ids; i++)
		told = told || d->ids[i] == OTHER_HANDLER;
	ck_assert(told); /* its queue has a message */
	PQclear(r);
	done_free(d);
	fan_done(q);
}
END_TEST

static void is_no_case(struct req *q)
{
	struct one one;
	ck_assert(!one_prepare(&hot, &call, q, &one));
}

START_TEST(what_a_single_call_cannot_record)
{
	static int many[ONE_CHILDREN_MAX + 1];
	struct req *q = fan(1);
	q->result.publishes = true;
	is_no_case(q);
	q->result.publishes = false;
	for (int outcome = 0; outcome < OUTCOME_COUNT; outcome++) {
		q->result.outcome = (enum outcome)outcome;
		struct one one;
		ck_assert(one_prepare(&hot, &call, q, &one) == (outcome == OUTCOME_SUCCESS));
	}
	q->result.outcome = OUTCOME_SUCCESS;
	q->result.template_id = chain.id + 1;
	is_no_case(q);
	q->result.template_id = chain.id;
	for (int i = 0; i <= ONE_CHILDREN_MAX; i++)
		many[i] = 1;
	steps[0].children = many;
	steps[0].n_children = ONE_CHILDREN_MAX + 1;
	is_no_case(q);
	steps[0].n_children = ONE_CHILDREN_MAX;
	struct one one;
	ck_assert(one_prepare(&hot, &call, q, &one));
	fan_done(q);
}
END_TEST

START_TEST(answers_of_a_single_call)
{
	struct one one;
	struct req *q = result_of(CHAIN - 1, NULL);
	text_set(&q->result.result, "1", 1);
	ck_assert(one_prepare(&hot, &call, q, &one));
	struct done *d = done_new(DONE_BATCH);
	PGresult *r = result_set(1);
	put_int4(r, 0, 0);
	ck_assert_int_eq(one_finish(&hot, NULL, &call, &one, q, r, d, &why, &e), 0); /* no such case: nothing is said */
	ck_assert_str_eq(q->status, "");
	PQclear(r);
	r = result_set(1);
	put_int4(r, 0, 2);
	ck_assert_int_eq(one_finish(&hot, NULL, &call, &one, q, r, d, &why, &e), 1);
	ck_assert_str_eq(q->status, "recorded");
	ck_assert_ptr_nonnull(d->settled);
	ck_assert(uuid_eq(&d->settled->task, &task));
	ck_assert_str_eq(d->settled->state, "complete");
	PQclear(r);
	done_free(d);
	req_free(q);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("claims");
	TCase *t = tcase_create("claims");
	tcase_add_checked_fixture(t, set_up, tear_down);
	tcase_add_test(t, generations);
	tcase_add_loop_test(t, from_the_database_on, 0, 7);
	tcase_add_loop_test(t, a_correlation_id_of_its_own, 0, 2);
	tcase_add_test(t, results_that_take_too_much);
	tcase_add_test(t, what_cannot_be_handed_over);
	tcase_add_loop_test(t, children_within_the_credits, 0, 10);
	tcase_add_test(t, what_a_single_call_cannot_record);
	tcase_add_test(t, answers_of_a_single_call);
	suite_add_tcase(s, t);
	SRunner *sr = srunner_create(s);
	srunner_run_all(sr, CK_ENV);
	int failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed ? 1 : 0;
}
