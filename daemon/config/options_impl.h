/* Inside of options.c and option_files.c: what is being read. */
#pragma once
#include "daemon/config/options.h"

#define OPTION_ARGS_MAX 256

struct loading {
	struct options *o;
	struct buf *messages;
	int errors;
	bool out_of_memory;
	bool db_unsure; /* what was wrong might have named a database */
	bool help, version, too_many;
	struct {
		const struct option_row *row;
		const char *value;
	} args[OPTION_ARGS_MAX];
	size_t n_args;
};

/* Add an error. */
void loading_complain(struct loading *l, const char *fmt, ...) printf_like(2, 3);
/* Set one value from `place` ("--name", "TASKERD_NAME in the environment"). */
void loading_apply(struct loading *l, const struct option_row *row, const char *text, enum option_source from,
                   const char *place);
/* A variable of the environment, or NULL if it is not set or empty (how compose files and units say "not set"). */
const char *loading_env(const char *name);
/* The file, which must be there if `given`, then the files beside it that add to it, in the order of their names. */
void loading_files(struct loading *l, const char *path, bool given);
/* A word about passwords that stand on the command line. */
void loading_warn_listed(struct loading *l);
/* Secrets that the service manager hands over: a file taskerd.NAME in $CREDENTIALS_DIRECTORY for each option that may
 * hold a password. */
void loading_credentials(struct loading *l);
