/* The table of options. A new option is a row here and a field of struct options; its manual entry is held to
 * this table by a test. */
#include "daemon/config/options.h"

#define AT(field) offsetof(struct options, field)
#define EVERYWHERE (OPT_IN_FILE | OPT_IN_ENV)
#define KIB (1LL << 10)
#define MIB (1LL << 20)
#define HOUR_MS 3600000
#define YEARS_100_MINUTES 52560000

const struct option_row option_table[] = {
    /* what to run on */
    {"embedded", OPT_EMBEDDED, NULL, 0, 4000, EVERYWHERE, AT(embedded), "[DIR]",
     "DIR: embedded in $STATE_DIRECTORY, else in /var/lib/taskerd as root, or $XDG_STATE_HOME/taskerd",
     "make and run a private PostgreSQL in DIR"},
    {"database", OPT_DATABASE, NULL, 0, 4096, EVERYWHERE, AT(database), "URI",
     "$DATABASE_URL, if nothing else names a database",
     "PostgreSQL to use: a URI or keyword string as libpq takes it"},
    {"session_database", OPT_DATABASE, NULL, 0, 4096, EVERYWHERE, AT(session_database), "URI",
     "none: `database` is no transaction pooler",
     "the same database without a transaction pooler, for locks, LISTEN and migrations"},
    {"config", OPT_PATH, NULL, 0, 4000, OPT_IN_ENV, AT(config), "FILE",
     OPTIONS_DEFAULT_FILE " if it is there", "read options from this YAML file"},
    /* what to do instead of running */
    {"migrate", OPT_BOOL, NULL, 0, 1, 0, AT(migrate), NULL, NULL,
     "bring the database's schema up to date and exit"},
    {"check_config", OPT_BOOL, NULL, 0, 1, 0, AT(check_config), NULL, NULL, "check all options and exit"},
    {"verbose", OPT_BOOL, NULL, 0, 1, 0, AT(verbose), NULL, NULL,
     "with --check-config: print the values in effect"},
    /* who and where */
    {"socket", OPT_PATH, NULL, 0, 107, EVERYWHERE, AT(socket), "PATH",
     "DIR/taskerd.sock with --embedded, else /run/taskerd/taskerd.sock, or "
     "$XDG_RUNTIME_DIR/taskerd/taskerd.sock for an "
     "ordinary user",
     "Unix socket to listen on"},
    {"socket_mode", OPT_OCTAL, "0660", 0, 0777, EVERYWHERE, AT(socket_mode), "MODE", NULL,
     "permissions of the socket, in octal"},
    {"socket_group", OPT_NAME, NULL, 1, 64, EVERYWHERE, AT(socket_group), "GROUP", "that of taskerd",
     "group of the socket, by name or number"},
    {"node_name", OPT_NAME, NULL, 1, 64, EVERYWHERE, AT(node_name), "NAME", "the host's name",
     "name of this daemon among those on one database"},
    {"environment", OPT_NAME, NULL, 1, 64, EVERYWHERE, AT(environment), "NAME", "none",
     "which `environments` block of templates applies"},
    {"log_level", OPT_LEVEL, "info", 0, 0, EVERYWHERE | OPT_RELOAD, AT(log_level), "LEVEL", NULL,
     "least important messages to log: error, warn, info or debug"},
    {"log_format", OPT_LOG_FORMAT, "auto", 0, 0, EVERYWHERE | OPT_RELOAD, AT(log_format), "FORMAT", NULL,
     "how to log: text, json, journal, or auto: the journal under systemd, else text"},
    /* times */
    {"drain_timeout_ms", OPT_INT, "30000", 0, HOUR_MS, EVERYWHERE | OPT_RELOAD, AT(drain_timeout_ms), "MS",
     NULL, "how long a stop waits for running steps"},
    {"resume_grace_ms", OPT_INT, "10000", 0, HOUR_MS, EVERYWHERE | OPT_RELOAD, AT(resume_grace_ms), "MS",
     NULL, "how long steps wait for a worker that lost its connection"},
    {"lease_ttl_ms", OPT_INT, "15000", 1000, HOUR_MS, EVERYWHERE, AT(lease_ttl_ms), "MS", NULL,
     "after how long a silent node's steps are given to others"},
    {"poll_interval_ms", OPT_INT, "10000", 100, HOUR_MS, EVERYWHERE | OPT_RELOAD, AT(poll_interval_ms), "MS",
     NULL, "how often queues are looked at without a notification"},
    {"heartbeat_ms", OPT_INT, "10000", 100, HOUR_MS, EVERYWHERE | OPT_RELOAD, AT(heartbeat_ms), "MS", NULL,
     "how often a worker must send something"},
    {"sweep_interval_ms", OPT_INT, "5000", 100, HOUR_MS, EVERYWHERE, AT(sweep_interval_ms), "MS", NULL,
     "how often tasks are looked for that are late, or over and to be removed"},
    /* what becomes of finished tasks */
    {"retention_complete_minutes", OPT_INT, "0", 0, YEARS_100_MINUTES, EVERYWHERE, AT(retention_complete_minutes),
     "MINUTES", NULL, "how long tasks are kept that are complete; 0: for ever"},
    {"retention_error_minutes", OPT_INT, "0", 0, YEARS_100_MINUTES, EVERYWHERE, AT(retention_error_minutes),
     "MINUTES", NULL, "how long tasks are kept that ended in error; 0: for ever"},
    {"retention_cancelled_minutes", OPT_INT, "0", 0, YEARS_100_MINUTES, EVERYWHERE, AT(retention_cancelled_minutes),
     "MINUTES", NULL, "how long tasks are kept that were cancelled; 0: for ever"},
    {"retention_resolved_minutes", OPT_INT, "0", 0, YEARS_100_MINUTES, EVERYWHERE, AT(retention_resolved_minutes),
     "MINUTES", NULL, "how long tasks are kept that were resolved by hand; 0: for ever"},
    {"retention_delete", OPT_BOOL, NULL, 0, 1, EVERYWHERE, AT(retention_delete), NULL, NULL,
     "delete tasks whose time is over, instead of archiving them"},
    {"retention_archived_minutes", OPT_INT, "0", 0, YEARS_100_MINUTES, EVERYWHERE, AT(retention_archived_minutes),
     "MINUTES", NULL, "how long archived tasks are kept; 0: for ever"},
    /* bounds */
    {"store_threads", OPT_INT, "2", 1, 8, EVERYWHERE, AT(store_threads), "N", NULL,
     "threads that talk to the database, each with a connection"},
    {"batch_max", OPT_INT, "500", 1, 10000, EVERYWHERE, AT(batch_max), "N", NULL,
     "most results recorded in one transaction"},
    {"max_sessions", OPT_INT, "2000", 1, 100000, EVERYWHERE | OPT_RELOAD, AT(max_sessions), "N", NULL,
     "most connections at a time"},
    {"max_sessions_per_uid", OPT_INT, "0", 0, 100000, EVERYWHERE | OPT_RELOAD, AT(max_sessions_per_uid), "N",
     NULL, "most connections of one user; 0: three quarters of max_sessions"},
    {"max_requests_per_uid", OPT_INT, "20000", 64, 1000000, EVERYWHERE | OPT_RELOAD, AT(max_requests_per_uid),
     "N", NULL, "most requests of one user that are not answered yet"},
    {"max_steps_per_uid", OPT_INT, "20000", 1, 1000000, EVERYWHERE | OPT_RELOAD, AT(max_steps_per_uid), "N",
     NULL, "most steps that the workers of one user may ask for at a time"},
    {"max_bytes_per_uid", OPT_SIZE, "128 MiB", 1 * MIB, 1024 * MIB, EVERYWHERE | OPT_RELOAD,
     AT(max_bytes_per_uid), "SIZE", NULL, "most that is kept in memory for one user, unread, unsent or unrecorded"},
    {"max_branches", OPT_INT, "100", 1, 10000, EVERYWHERE, AT(max_branches), "N", NULL,
     "most steps that a decision may name"},
    {"max_frame", OPT_SIZE, "4 MiB", 64 * KIB, 64 * MIB, EVERYWHERE, AT(max_frame), "SIZE", NULL,
     "largest message taken or sent"},
    {"max_context", OPT_SIZE, "1 MiB", 1 * KIB, 32 * MIB, EVERYWHERE, AT(max_context), "SIZE", NULL,
     "largest context of a task, as JSON"},
    {"max_result", OPT_SIZE, "1 MiB", 1 * KIB, 32 * MIB, EVERYWHERE, AT(max_result), "SIZE", NULL,
     "largest result of a step, as JSON"},
    /* HTTP */
    {"http_listen", OPT_LISTEN, NULL, 0, 1024, EVERYWHERE, AT(http_listen), "ADDRESSES",
     "a Unix socket beside `socket`, taskerd-http.sock for taskerd.sock",
     "where to answer HTTP: Unix socket paths, ports of 127.0.0.1, ADDRESS:PORT; or off"},
    {"http_anonymous_role", OPT_ROLE, "none", 0, 0, EVERYWHERE | OPT_RELOAD, AT(http_anonymous_role), "ROLE",
     NULL, "what who comes over TCP without a token may do: none, read, submit, work, operate or admin"},
    {"http_max_connections", OPT_INT, "256", 1, 100000, EVERYWHERE | OPT_RELOAD, AT(http_max_connections), "N",
     NULL, "most HTTP connections at a time"},
    {"http_max_streams", OPT_INT, "64", 0, 100000, EVERYWHERE | OPT_RELOAD, AT(http_max_streams), "N", NULL,
     "most streams of events over HTTP at a time"},
    {"http_max_header", OPT_SIZE, "16 KiB", 1 * KIB, 1 * MIB, EVERYWHERE, AT(http_max_header), "SIZE", NULL,
     "largest request line and header of an HTTP request"},
    {"http_max_body", OPT_SIZE, "4 MiB", 1 * KIB, 64 * MIB, EVERYWHERE, AT(http_max_body), "SIZE", NULL,
     "largest body of an HTTP request"},
    {"http_timeout_ms", OPT_INT, "30000", 100, HOUR_MS, EVERYWHERE, AT(http_timeout_ms), "MS", NULL,
     "how long an HTTP client may take to send a request, or to take some of the answer"},
    /* JSON Web Tokens over HTTP */
    {"jwt_key_file", OPT_PATH, NULL, 0, 4000, EVERYWHERE | OPT_RELOAD, AT(jwt_key_file), "FILE",
     "none: no JSON Web Tokens are taken", "public keys that sign JSON Web Tokens: PEM, or a JSON Web Key Set"},
    {"jwt_issuer", OPT_TEXT, NULL, 1, 1024, EVERYWHERE | OPT_RELOAD, AT(jwt_issuer), "TEXT",
     "needed with jwt_key_file", "who issues the tokens: their claim iss"},
    {"jwt_audience", OPT_TEXT, NULL, 1, 1024, EVERYWHERE | OPT_RELOAD, AT(jwt_audience), "TEXT",
     "needed with jwt_key_file", "whom the tokens are for: one of their claim aud"},
    {"jwt_algorithms", OPT_ALGORITHMS, "RS256 PS256 ES256", 0, 0, EVERYWHERE | OPT_RELOAD, AT(jwt_algorithms), "NAMES",
     NULL, "how the tokens may be signed: RS256 to 512, PS256 to 512, ES256 to 512"},
    {"jwt_roles_claim", OPT_TEXT, "roles", 1, 256, EVERYWHERE | OPT_RELOAD, AT(jwt_roles_claim), "NAME", NULL,
     "the claim that lists the roles of who shows a token"},
    {"jwt_namespaces_claim", OPT_TEXT, "namespaces", 1, 256, EVERYWHERE | OPT_RELOAD, AT(jwt_namespaces_claim), "NAME",
     NULL, "the claim that lists the namespaces for which they hold, or is *"},
    {"jwt_leeway_ms", OPT_INT, "30000", 0, 600000, EVERYWHERE | OPT_RELOAD, AT(jwt_leeway_ms), "MS", NULL,
     "how far the issuer's clock may be from this host's"},
};
const size_t option_count = sizeof option_table / sizeof *option_table;

_Static_assert(sizeof option_table / sizeof *option_table <= sizeof((struct options *)0)->source,
               "struct options has room for every row's source");
