/* Inside of the hot calls: parameters (params.c), rows (rows.c), the single-row path (one.c), batches (hot.c), of the
 * usual case (many.c). */
#pragma once
#include "daemon/store/hot.h"
#include "daemon/store/pgarray.h"
#include "daemon/store/schemas.h"
#include "daemon/store/tcache.h"

/* Columns of tasker.hot_row. */
enum col {
	C_KIND,
	C_IDX,
	C_STATUS,
	C_TASK_ID,
	C_TASK,
	C_TEMPLATE,
	C_STEP,
	C_ATTEMPT,
	C_FENCE,
	C_HANDLER,
	C_CONTEXT,
	C_DEPS,
	C_INPUTS,
	C_CHECKPOINT,
	C_META
};

enum stmt {
	S_RECORD,
	S_RECORD_ONE,
	S_RECORD_MANY,
	S_CREATE_ONE,
	S_CREATE_MANY,
	S_CREATE,
	S_CLAIM,
	S_START,
	S_START_CHECKED,
	S_RECOVER,
	S_ADOPT,
	S_CANCEL,
	S_STATES,
	S_COUNT
};

#define MAX_PARAMS 23
#define N_CREATE 7
#define N_NEXT 7

/* The arrays of record_results; record_many takes some of them. */
enum record_array {
	REC_TASK,
	REC_STEP,
	REC_FENCE,
	REC_OUTCOME,
	REC_RETRY,
	REC_DELAY,
	REC_RESULT,
	REC_ERROR,
	REC_META,
	REC_EXEC,
	REC_WORKER,
	REC_FINISHED,
	REC_BYTES,
	REC_EVENTS,
	REC_INHERITS,
	N_RECORD
};

struct hot {
	bool pooled;
	struct series *series;
	struct tcache *templates;
	struct schema_names *names;
	struct prover *prover;
	struct pgarray record[N_RECORD], create[N_CREATE];
	struct pgarray handlers, quotas, uuids;
	struct pgarray taken, queued, queue_handlers; /* of record_one: the children */
	struct pgarray next[N_NEXT]; /* of record_many: what follows from the results */
};

struct params {
	int n;
	const char *v[MAX_PARAMS];
	int len[MAX_PARAMS], fmt[MAX_PARAMS];
	uint64_t scalar[MAX_PARAMS];
};

/* Append one parameter. Scalars are kept in p, texts and arrays are not copied. */
void add_bytes(struct params *p, const void *v, size_t n);
void add_int4(struct params *p, int v);
void add_int8(struct params *p, uint64_t v);
void add_bool(struct params *p, bool v);
void add_float4(struct params *p, float v);
/* As text: PostgreSQL parses it either way. NULL if there is none. */
void add_json(struct params *p, const struct text *t);
void add_text(struct params *p, const char *s);
/* False if memory ran out while it was built. */
bool add_array(struct params *p, struct pgarray *a);
/* Who calls, and where its claims are noted: the first parameters of most functions. */
void add_common(struct params *p, const struct hot_call *call);
/* Only send it. 0, or -EIO: the connection is at fault. */
/* What the log calls it. */
const char *hot_name(enum stmt s);
int hot_send(PGconn *c, enum stmt s, const struct params *p) must_check;
int hot_execute(struct hot *h, PGconn *c, enum stmt s, const struct params *p, PGresult **ret, enum db_failure *why,
                struct err *e) must_check;

/* A task was made: its template's metrics are found. */
void note_created(struct hot *h, struct req *q);
int row_int(const PGresult *r, int row, enum col c); /* 0 for NULL */
/* An integer of any size in the only row; 0 for NULL. */
int64_t row_number(const PGresult *r, int col);
void row_status(const PGresult *r, int row, char *out, size_t size);
/* Rows of tasker.hot_row into *out and the requests. `payload`: c rows have what a worker needs. 0 or negative. */
int read_rows(struct hot *h, PGconn *c, const struct hot_call *call, const PGresult *r, bool payload, struct req **reqs,
              size_t n, struct done *out, enum db_failure *why, struct err *e) must_check;
/* Append who the step is and what is to be run. 0 or negative. */
int claim_put_identity(struct prover *prover, struct claim *cl, const struct hot_call *call,
                       const struct tcache_template *t, const struct tcache_step *s) must_check;

/* One success, or one task to be made, by itself: the usual case when little is going on. */
#define ONE_CHILDREN_MAX 64 /* steps that one result makes ready */
struct one {
	enum stmt stmt;
	struct params p;
	bool takes[ONE_CHILDREN_MAX];
	bool foreseen; /* what one_finish writes to has come from one_foresee */
};
/* Make the call that writes `q`; what it needs of templates must be cached. False: it is not such a case. */
bool one_prepare(struct hot *h, const struct hot_call *call, const struct req *q, struct one *ret);
/* While the database is at work: what follows from a result if the answer is the usual one. NULL: nothing, or no
 * memory; one_finish makes it then. */
struct done *one_foresee(struct hot *h, const struct hot_call *call, struct one *one, const struct req *q);
/* Its only row. 1: done; 0: not such a case after all, nothing was changed; negative as hot_run. */
int one_finish(struct hot *h, PGconn *c, const struct hot_call *call, const struct one *one, struct req *q,
               const PGresult *r, struct done *out, enum db_failure *why, struct err *e) must_check;
/* one_finish would have to load a template. */
bool one_must_load(struct hot *h, const struct one *one, const PGresult *r);
/* The refusal of the call means no more than that it is not such a case. */
bool one_is_refusal(const struct err *e);
/* Both, and what is between them. */
int one_run(struct hot *h, PGconn *c, const struct hot_call *call, struct req *q, struct done *out,
            enum db_failure *why, struct err *e) must_check;

/* A step that the recording of `q` has made ready: it is in its queue, or `taken` for this node, which makes a claim of
 * it. */
int note_child(struct hot *h, const struct hot_call *call, const struct tcache_template *t, int child, bool taken,
               const struct req *q, struct done *out, enum db_failure *why, struct err *e) must_check;

/* A task is complete. */
void note_completed(struct done *out, const struct uuid *task, unsigned series);

/* What all results have, into the arrays for the call. */
void put_success(struct hot *h, const struct req_result *q);
/* Those of the batch of results or creates that are the usual case. 1: committed; of the requests that have no status
 * nothing was changed, and many_left finds them. 0: not such a batch, nothing was changed; negative as hot_run. */
int many_run(struct hot *h, PGconn *c, const struct hot_call *call, struct req **reqs, size_t n, struct done *out,
             enum db_failure *why, struct err *e) must_check;

/* After start_tasks: check the contexts among its rows and begin, or end, their tasks. 0, or negative as hot_run. */
int start_check(struct hot *h, PGconn *c, const struct hot_call *call, const PGresult *r, struct done *out,
                enum db_failure *why, struct err *e) must_check;
