/* Answers. Each reply_ ends the exchange. */
#pragma once
#include "daemon/base/need.h"
#include "daemon/http/exchange.h"
#include "protocol/buf.h"
#include "protocol/mp.h"

void reply_json(struct exchange *x, int status, struct buf *json);
/* `what`: a type of media; takes the bytes of `body`. */
void reply_bytes(struct exchange *x, int status, const char *type, struct buf *body);
/* An error of the protocol: a map. */
void reply_problem(struct exchange *x, const msgpack_object *error);
void reply_err(struct exchange *x, const struct err *e);
void reply_refusal(struct exchange *x, int status, const char *code, const char *path, const char *fmt, ...)
	printf_like(5, 6);
/* The result of the exchange's message. */
void reply_result(struct exchange *x, const msgpack_object *result);
/* If something was done, and how it is now is not known: what is known. False: nothing was. */
bool reply_made(struct exchange *x);
void reply_empty(struct exchange *x, int status);
void add_header(struct exchange *x, const char *name, const char *value);
const char *http_phrase_of(int status);
/* The members that each problem has, without the closing brace. */
void problem_begin(struct buf *json, int status, const char *code, size_t len);
/* The sentence, here and where clients of Tasker Core look for it. */
void problem_put_detail(struct buf *json, int status, const char *text);
