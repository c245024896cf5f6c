/* What the client of a stream has. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* The id of a task's event: its time, and which of that time it is. Empty: before all. */
struct stream_mark {
	char at[40];
	unsigned nth;
};
/* False: the id (or NULL) is none of a task's event, and *ret is empty. */
bool stream_mark_read(const char *id, struct stream_mark *ret);
/* On to the next event. False: that is no time of an event. */
bool stream_mark_move(struct stream_mark *m, const char *at, size_t len);
bool stream_mark_covers(const struct stream_mark *seen, const struct stream_mark *m);

#define LATE_MAX 32 /* events that an id tells of */
/* A transaction may commit after the times that it has written. From `from` on (empty: not known) events may come that
 * are older than others that were sent: the newest of those sent are listed, by a hash. What is not on the list any
 * more is sent twice after a reconnect rather than never. */
struct stream_late {
	char from[40];
	unsigned n, next;
	struct {
		char at[40];
		uint32_t hash;
	} sent[LATE_MAX];
};
/* The part of an id behind its mark. */
void stream_late_read(const char *id, struct stream_late *ret);
void stream_late_add(struct stream_late *l, const char *at, uint32_t hash);
/* It may have been written after the mark was given, and was not sent. */
bool stream_late_is_new(const struct stream_late *l, const char *at, uint32_t hash);
/* A time as the events of the database have it. */
bool stream_is_time(const char *text, size_t len);
#define STREAM_ID 512
size_t stream_id(const struct stream_mark *m, const struct stream_late *l, char text[static STREAM_ID]);
