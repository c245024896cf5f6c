/* What a cell of a table of JSON objects may show: the functions of a column. `key` is a member of the object, or with
 * dots one of an object in it: "duration_ms.p50". What is absent or null shows as "-". */
#pragma once
#include "clients/taskerctl/table.h"

const json_t *json_at(const json_t *o, const char *path);
/* The first `most` items of a list when it is sorted (by pointers to json_t *), a new reference. */
json_t *json_sorted(const json_t *list, int (*compare)(const void *, const void *), size_t most);

/* The value as it is: text, number, yes or no, "a, b" of an array of texts, else JSON. */
void cell_value(struct table *t, const json_t *item, const char *key);
/* The same in the colour that the word has, see state_colour. */
void cell_state(struct table *t, const json_t *item, const char *key);
/* A number that is bad news if it is not 0. */
void cell_bad(struct table *t, const json_t *item, const char *key);

/* A time: how long ago; its date; to the second. */
void cell_age(struct table *t, const json_t *item, const char *key);
void cell_date(struct table *t, const json_t *item, const char *key);
void cell_second(struct table *t, const json_t *item, const char *key);
/* A duration in milliseconds. */
void cell_ms(struct table *t, const json_t *item, const char *key);
/* So many a second. */
void cell_rate(struct table *t, const json_t *item, const char *key);
/* A part of 1 in per cent, bad news if it is not 0. */
void cell_part(struct table *t, const json_t *item, const char *key);

/* Without a key of their own. */
void cell_template(struct table *t, const json_t *item, const char *key); /* NS/NAME@VERSION */
void cell_who(struct table *t, const json_t *item, const char *key);      /* whom an action is of */
void cell_attempts(struct table *t, const json_t *item, const char *key); /* used and allowed */
/* The workers of a queue, or that it is paused. */
void cell_queue_workers(struct table *t, const json_t *q, const char *key);
/* What an error says: a text, or an object with a message. */
void cell_error(struct table *t, const json_t *item, const char *key);
