/* Profiles: names for daemons, with what to assume there. Read from a file of the system and one of the user. */
#pragma once
#include "clients/taskerctl/cli.h"
#include "protocol/buf.h"

enum profile_key {
	PROFILE_SOCKET,
	PROFILE_NAMESPACE,
	PROFILE_OUTPUT,
	PROFILE_COLOR,
	PROFILE_PAGER,
	PROFILE_TIMEOUT,
	PROFILE_KEYS
};
extern const char *const profile_key_names[PROFILE_KEYS];

struct profile {
	const char *name, *file;
	unsigned line;
	const char *values[PROFILE_KEYS]; /* NULL: not given */
};

struct profiles {
	struct profile *items; /* the user's own before the system's of the same name, which is left out */
	size_t n;
	const char *chosen_by_default; /* or NULL */
	void *store;                   /* what the texts live in */
};

/* Read them. 0; -EINVAL with every mistake as FILE:LINE:COLUMN in `why`; -ENOMEM. */
int profiles_read(struct profiles *ret, struct buf *why);
void profiles_done(struct profiles *p);
/* By its name; NULL if there is none, with a complaint that ends in a newline in `why`, if that is not NULL. */
const struct profile *profile_find(const struct profiles *p, const char *name, struct buf *why);
/* The one that holds for a command line: --profile, TASKERCTL_PROFILE, the files' default. 0 with *ret (NULL: none). */
int profile_choose(const struct profiles *p, const struct cli *cli, const struct profile **ret, struct buf *why);
/* What the command line leaves open becomes as the profile has it. 0, or -EINVAL. */
void profile_apply(const struct profile *p, struct cli *cli);
/* Say what is wrong with the files (`read`: with the choice). EXIT_USAGE. */
int profile_refuse(const struct ctl *c, bool read, struct buf *why);
