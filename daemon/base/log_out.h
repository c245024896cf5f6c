/* How a record is written. */
#pragma once
#include "daemon/base/log.h"

struct log_record {
	enum log_level level;
	const char *event, *message_id; /* or NULL */
	const struct log_where *where;
	const char *message;
	const char *const *fields;
};

/* False: there is no journal. */
int log_to_journal(const struct log_record *r);
void log_to_text(const struct log_record *r);
void log_to_json(const struct log_record *r);
