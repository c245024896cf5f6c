/* The daemon's options: one table, from which the command line, the environment, the configuration file,
 * --help and the manual are read and checked. Precedence: command line, environment, credentials, files, default. A
 * value is checked even if another overrides it. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include "daemon/base/log.h"
#include "protocol/buf.h"
#include "protocol/msg.h"

struct access_rules;

/* Algorithms of JSON Web Tokens: with a public key. */
enum jwt_algorithm {
	JWT_RS256,
	JWT_RS384,
	JWT_RS512,
	JWT_PS256,
	JWT_PS384,
	JWT_PS512,
	JWT_ES256,
	JWT_ES384,
	JWT_ES512,
	JWT_ALGORITHMS
};
extern const char *const jwt_algorithm_names[JWT_ALGORITHMS];

#define OPTIONS_DEFAULT_FILE "/etc/taskerd/taskerd.yaml"

struct options {
	int argc; /* the command line, for a reload */
	char **argv;
	char *config; /* the file that was read, or NULL */
	char *socket; /* absolute */
	int socket_mode;
	char *socket_group; /* or NULL */
	long socket_gid;    /* of it, or -1 */
	struct access_rules *access_retired; /* before a reload */
	struct access_rules *access; /* of the file; NULL: whoever can connect may do everything */
	char *database; /* libpq URI or keyword string, may hold a password: print it with options_redact
	                   only. NULL if embedded */
	/* the same, of the same database without a transaction pooler; or NULL: `database` is none */
	char *session_database;
	char *embedded; /* absolute directory, or NULL if `database` is used */
	bool migrate, check_config, verbose;
	char *node_name;
	char *environment; /* or NULL: no `environments` block of a template applies */
	enum log_level log_level;
	enum log_format log_format;
	int store_threads, batch_max, max_sessions, max_branches, metrics_templates;
	int max_sessions_per_uid, max_requests_per_uid, max_steps_per_uid;
	size_t max_bytes_per_uid;
	int drain_timeout_ms, resume_grace_ms, lease_ttl_ms, poll_interval_ms, heartbeat_ms, sweep_interval_ms;
	int retention_complete_minutes, retention_error_minutes, retention_cancelled_minutes,
		retention_resolved_minutes, retention_archived_minutes;
	bool retention_delete;
	size_t max_frame, max_context, max_result;
	char *http_listen;	   /* as listen_parse takes it */
	bool http_listen_derived;  /* from `socket`: nobody asked for it */
	enum role http_anonymous_role;
	int http_max_connections, http_max_streams, http_max_requests_per_user, http_max_streams_per_user,
		http_timeout_ms;
	size_t http_max_header, http_max_body;
	char *jwt_key_file; /* NULL: no JSON Web Tokens are taken */
	char *jwt_issuer, *jwt_audience, *jwt_roles_claim, *jwt_namespaces_claim;
	unsigned jwt_algorithms; /* bits 1 << enum jwt_algorithm */
	int jwt_leeway_ms;
	char *trace_url; /* NULL: no spans are sent */
	char *trace_headers; /* a secret; or NULL */
	int trace_sample_percent;
	unsigned char source[96]; /* enum option_source by row of the table */
	char *place[96];          /* there: a file with its line, a variable, an option as it is spelled; or NULL */
	char *access_place;
	const char *reading; /* the file whose values are being set */
};

enum option_type {
	OPT_BOOL,
	OPT_INT,
	OPT_SIZE,     /* bytes, with KiB, MiB, GiB or not */
	OPT_OCTAL,    /* file mode */
	OPT_NAME,     /* letters, digits, dot, dash, underscore; at most `max` bytes */
	OPT_PATH,     /* made absolute */
	OPT_DATABASE, /* libpq URI or keyword string */
	OPT_EMBEDDED, /* true, false or a directory */
	OPT_LEVEL,    /* of the log */
	OPT_LISTEN,   /* addresses to listen on, or off */
	OPT_ROLE,     /* of the access rules */
	OPT_LOG_FORMAT,
	OPT_TEXT,     /* any, without control characters; at most `max` bytes */
	OPT_ALGORITHMS, /* of JSON Web Tokens */
	OPT_URL,      /* of a collector of spans */
	OPT_HEADERS,  /* name=value,name=value; a secret */
};

enum option_flags {
	OPT_IN_FILE = 1, /* may stand in the configuration file (and in the environment) */
	OPT_IN_ENV = 2,
	OPT_RELOAD = 4, /* taken over by a reload; the others need a restart */
};

enum option_source { FROM_DEFAULT, FROM_DATABASE_URL, FROM_FILE, FROM_CREDENTIAL, FROM_ENVIRONMENT, FROM_COMMAND_LINE };

struct option_row {
	const char
	    *name; /* key of the file; --with-dashes on the command line; TASKERD_NAME in the environment */
	enum option_type type;
	const char *fallback; /* default as it would be written, or NULL: none, or as `note` says */
	long long min, max;
	unsigned flags;
	size_t offset;    /* in struct options */
	const char *arg;  /* placeholder of the value in --help; NULL for a switch */
	const char *note; /* the default in words, where it is not a constant; or NULL */
	const char *help; /* one sentence without a full stop */
};

extern const struct option_row option_table[];
extern const size_t option_count;

/* Read everything. 0: run with *o (the caller calls options_done), `messages` may hold warnings. 1: --help,
 * --version or --check-config was asked for and printed on stdout; nothing to free. -EINVAL: `messages` has a
 * line for every error, each with its place; -ENOMEM. */
int options_load(int argc, char **argv, struct options *o, struct buf *messages) must_check;
/* The same of the files and the environment alone, for those who only want to see them: a database need not be named.
 * 0, -EINVAL or -ENOMEM. */
int options_preview(const char *config, struct options *o, struct buf *messages) must_check;
void options_done(struct options *o);

/* Take over from `fresh` what a reload may change, leave the rest, and write one line a value that waits for
 * a restart. The number of values taken over, or -ENOMEM. Both structs stay the caller's; access rules that are
 * replaced live on in `now`, for those who hold them. */
int options_reload(struct options *now, struct options *fresh, struct buf *messages) must_check;

/* Append `database` with every password replaced by "***". */
void options_redact(const char *database, struct buf *out);
/* Append the value of one row as it would be written in the file; passwords redacted; "" for none. */
void options_format(const struct options *o, const struct option_row *row, struct buf *out);
/* Append the text of --help. */
void options_help(struct buf *out);
