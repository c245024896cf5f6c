/* Pieces that the languages share. */
#pragma once
#include "clients/taskerctl/gen.h"

enum gen_step { GEN_STEP_PLAIN, GEN_STEP_DECISION, GEN_STEP_ANALYZER, GEN_STEP_WORKER, GEN_STEP_AGGREGATE };

static inline void gen_json_done(json_t **j)
{
	json_decref(*j);
}
#define cleanup_json_ __attribute__((cleanup(gen_json_done)))

/* "" if it is not there. */
const char *gen_text(const json_t *o, const char *key);
enum gen_step gen_step_kind(const json_t *step);
/* The name of the step with this number (an item of "parents" or "children"). */
const char *gen_step_name(const struct gen_model *m, const json_t *no);
/* Whether the step with this number is a batch worker, of which there are as many as there is work: its name is the
 * beginning of theirs. */
bool gen_is_many(const struct gen_model *m, const json_t *no);
const char *gen_first_child(const struct gen_model *m, const json_t *step);
/* The template step that does the work of a batchable one. */
const char *gen_batch_worker(const struct gen_model *m, const json_t *step);
/* Whether this is the first step with its callable: a handler that serves several is written once. */
bool gen_first_with_callable(const struct gen_model *m, const json_t *step);
/* What a handler does, for its comment: the step's description, or its name. */
const char *gen_about_step(const struct gen_model *m, const json_t *step);
/* Whether its handler takes results of other steps as parameters: gen_put_parents then puts some. */
bool gen_has_parents(const struct gen_model *m, const json_t *step);
/* The names of the steps that this one depends on and of which there is one, as parameters are called, with commas
 * between; each with `behind` behind it, and the step's name quoted if `quote` is not NULL. */
typedef void gen_quote_fn(struct buf *b, const char *text);
void gen_put_parents(const struct gen_model *m, const json_t *step, const struct gen_language *l, struct buf *b,
                     const char *behind, gen_quote_fn *quote);
/* For each batch worker that this step depends on a statement: `before`, a name, `between`, the quoted beginning of the
 * workers' names, `after`. */
void gen_put_batches(const struct gen_model *m, const json_t *step, const struct gen_language *l, struct buf *b,
                     const char *const around[3], gen_quote_fn *quote);
/* "shop/order 1.0.0". */
void gen_put_title(const struct gen_model *m, struct buf *b);
/* Text in which {name} stands for the template's name in snake case, {Name} in Pascal case. */
void gen_put_named(const struct gen_model *m, struct buf *b, const char *text);
/* A shell script that runs the whole workflow: `command` is how people start it, `program` ({name} in it stands) the
 * worker. */
void gen_put_shell_test(const struct gen_model *m, struct buf *b, const char *command, const char *program);
/* A value as JSON. */
void gen_put_json(struct buf *b, const json_t *v);

/* How a language writes values. */
struct gen_literals {
	const char *open, *arrow, *close; /* of an object with members: around them, and between key and value */
	const char *words[3];             /* null, false, true */
	gen_quote_fn *quote;
};
void gen_put_literal(struct buf *b, const json_t *v, const struct gen_literals *l);

/* Each publisher that an event of the template names, once: `put` gets the name and that of a class for it. */
typedef void gen_publisher_fn(struct buf *b, const char *name, const char *class_name);
void gen_each_publisher(const struct gen_model *m, struct buf *b, gen_publisher_fn *put);
bool gen_has_publishers(const struct gen_model *m);

/* What a new handler answers, statements with their indentation and end. */
struct gen_answers {
	const char *route, *route_end; /* a decision, around the quoted name of a step */
	const char *config;            /* what an analyzer says of its batch */
	const char *counted;           /* what a batch worker says it did */
	const char *value, *value_end; /* any other handler, around a literal */
	const struct gen_literals *literals;
};
void gen_put_answer(const struct gen_model *m, const json_t *step, struct buf *b, const struct gen_answers *a);
