/* Reading all options: collects the command line, then applies defaults, file, environment and command line
 * in rising precedence, then fills in what depends on other values and checks what only makes sense together.
 * Errors are collected, never cut short, so that one run shows them all. Called before threads start: it
 * reads the environment. */
#include "daemon/config/options.h"
#include "daemon/base/listen.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <unistd.h>

#include "daemon/config/access.h"
#include "daemon/config/option_file.h"
#include "daemon/config/option_show.h"
#include "daemon/config/option_value.h"
#include "daemon/config/options_impl.h"
#include "daemon/template/findings.h"

#define SOCKET_MAX 107

void loading_complain(struct loading *l, const char *fmt, ...)
{
	char text[1024];
	va_list ap;
	va_start(ap, fmt);
	vsnprintf(text, sizeof text, fmt, ap);
	va_end(ap);
	buf_printf(l->messages, "%s\n", text);
	l->errors++;
}

static const struct option_row *row_of(const char *name)
{
	return option_find(name, strlen(name));
}

static enum option_source source_of(const struct options *o, const char *name)
{
	return (enum option_source)o->source[row_of(name) - option_table];
}

void loading_apply(struct loading *l, const struct option_row *row, const char *text, enum option_source from,
                   const char *place)
{
	struct buf expected;
	buf_init(&expected, 1024);
	int rc = option_set(l->o, row, text, &expected);
	const char *why = buf_text(&expected);
	l->db_unsure |= rc < 0 && (row->type == OPT_DATABASE || row->type == OPT_EMBEDDED);
	if (rc == 0) /* of a variable its name alone */
		rc = option_set_source(l->o, row, from, place,
		                       from == FROM_ENVIRONMENT || from == FROM_DATABASE_URL ? strcspn(place, " ")
		                                                                             : strlen(place));
	if (rc == -ENOMEM)
		l->out_of_memory = true;
	else if (rc < 0 && option_hides(row, text))
		loading_complain(l, "%s: expected %s", place, why ? why : "another value");
	else if (rc < 0)
		loading_complain(l, "%s: expected %s, found %s", place, why ? why : "another value", QUOTE(text));
	buf_done(&expected);
}

/* "drain_timeout_ms" to "--drain-timeout-ms" or "TASKERD_DRAIN_TIMEOUT_MS". */
static const char *spell(char *out, size_t size, const char *prefix, const char *name, char gap, bool upper)
{
	int n = snprintf(out, size, "%s%s", prefix, name);
	for (char *c = out + strlen(prefix); n > 0 && *c; c++)
		*c = *c == '_' ? gap : upper ? (char)toupper((unsigned char)*c) : *c;
	return out;
}
#define SPELL_ARG(row) spell((char[64]){0}, 64, "--", (row)->name, '-', false)
#define SPELL_ENV(row) spell((char[64]){0}, 64, "TASKERD_", (row)->name, '_', true)

/* ---- command line ---- */

static bool has_value(const struct option_row *row)
{
	return row->arg && row->arg[0] != '[';
}

/* Report it, and say how many arguments to pass over, so that a misspelt option's value is not reported too.
 */
static int unknown_option(struct loading *l, const char *arg, size_t n, const char *next)
{
	const struct option_row *like = option_like(arg + 2, n - 2);
	if (like)
		loading_complain(l, "%.*s: no such option; did you mean %s?", (int)n, arg, SPELL_ARG(like));
	else
		loading_complain(l, "%.*s: no such option; see taskerd --help", (int)n, arg);
	return like && has_value(like) && !arg[n] && next && strncmp(next, "--", 2) != 0 ? 2 : 1;
}

static void take_arg(struct loading *l, const struct option_row *row, const char *value)
{
	if (l->too_many)
		return;
	if (l->n_args == OPTION_ARGS_MAX) {
		l->too_many = true;
		loading_complain(l, "%s: more than %d options", SPELL_ARG(row), OPTION_ARGS_MAX);
		return;
	}
	l->args[l->n_args].row = row;
	l->args[l->n_args++].value = value;
}

/* One "--name...", with the argument after it. Returns how many arguments it took. */
static int take_long(struct loading *l, const char *arg, const char *next)
{
	const char *eq = strchr(arg, '=');
	size_t n = eq ? (size_t)(eq - arg) : strlen(arg);
	const struct option_row *row = option_find(arg + 2, n - 2);
	if (!row)
		return unknown_option(l, arg, n, next);
	if (eq || !has_value(row)) {
		take_arg(l, row, eq ? eq + 1 : row->type == OPT_EMBEDDED ? "" : "true");
		return 1;
	}
	if (!next || strncmp(next, "--", 2) == 0) {
		loading_complain(l, "%s: needs a value (%s)", SPELL_ARG(row), row->arg);
		return 1;
	}
	take_arg(l, row, next);
	return 2;
}

static void stray_word(struct loading *l, const char *word, bool after_embedded)
{
	if (strstr(word, "://"))
		loading_complain(
		    l, "taskerd takes options only: write --database=URI"); /* the word may hold a password */
	else if (after_embedded)
		loading_complain(l, "%s: write --embedded=DIR in one word", QUOTE(word));
	else
		loading_complain(l, "%s: taskerd takes options only", QUOTE(word));
}

static void read_args(struct loading *l, int argc, char **argv)
{
	for (int i = 1; i < argc;) {
		const char *a = argv[i];
		if (strcmp(a, "--help") == 0 || strcmp(a, "-h") == 0) {
			l->help = true;
			i++;
		} else if (strcmp(a, "--version") == 0 || strcmp(a, "-V") == 0) {
			l->version = true;
			i++;
		} else if (strncmp(a, "--", 2) == 0 && a[2]) {
			i += take_long(l, a, i + 1 < argc ? argv[i + 1] : NULL);
		} else {
			stray_word(l, a, i > 1 && strcmp(argv[i - 1], "--embedded") == 0);
			i++;
		}
	}
}

static const char *last_arg(const struct loading *l, const char *name)
{
	for (size_t i = l->n_args; i-- > 0;)
		if (strcmp(l->args[i].row->name, name) == 0)
			return l->args[i].value;
	return NULL;
}

/* ---- environment and file ---- */

const char *loading_env(const char *name)
{
	const char *v = getenv(name);
	return v && v[0] ? v : NULL;
}

static void read_environment(struct loading *l)
{
	for (size_t i = 0; i < option_count; i++) {
		const struct option_row *row = &option_table[i];
		const char *v = row->flags & OPT_IN_ENV ? loading_env(SPELL_ENV(row)) : NULL;
		char place[128];
		snprintf(place, sizeof place, "%s in the environment", SPELL_ENV(row));
		if (v)
			loading_apply(l, row, v, FROM_ENVIRONMENT, place);
	}
}

/* ---- values that depend on others ---- */

static void set_text(struct loading *l, char **field, char *text)
{
	if (!text)
		l->out_of_memory = true;
	free(*field);
	*field = text;
}

static char *join(const char *a, const char *b)
{
	char *r = NULL;
	return asprintf(&r, "%s/%s", a, b) < 0 ? NULL : r;
}

/* Where systemd says, else /var/lib/taskerd for root, else the user's own place. NULL if there is none or no
 * memory. */
static char *state_home(void)
{
	const char *unit = loading_env("STATE_DIRECTORY"); /* several are separated by colons */
	const char *xdg = loading_env("XDG_STATE_HOME"), *home = loading_env("HOME");
	if (unit && unit[0] == '/')
		return strndup(unit, strcspn(unit, ":"));
	if (geteuid() == 0)
		return strdup("/var/lib/taskerd");
	if (xdg && xdg[0] == '/')
		return join(xdg, "taskerd");
	return home && home[0] == '/' ? join(home, ".local/state/taskerd") : NULL;
}

static void finish_database(struct loading *l)
{
	struct options *o = l->o;
	enum option_source db = source_of(o, "database"), em = source_of(o, "embedded");
	if (o->database && o->embedded) {
		if (db == em)
			loading_complain(l, "database and embedded are both given (%s): keep one",
			         db == FROM_FILE          ? "in the file"
			         : db == FROM_ENVIRONMENT ? "in the environment"
			                                  : "on the command line");
		else
			option_clear(o, row_of(db > em ? "embedded" : "database"));
	}
	if (o->embedded && o->session_database)
		loading_complain(
			l, "session_database is for a database behind a pooler, and embedded has none: leave it out");
	if (o->database || o->embedded)
		return;
	const char *url = loading_env("DATABASE_URL");
	if (url)
		loading_apply(l, row_of("database"), url, FROM_DATABASE_URL,
		      "DATABASE_URL in the environment");
	else if (!l->db_unsure)
		loading_complain(l, "no database: give --embedded for a private PostgreSQL, or --database=URI for "
		            "one that you run");
}

static void finish_embedded(struct loading *l)
{
	struct options *o = l->o;
	if (!o->embedded || strcmp(o->embedded, EMBEDDED_DEFAULT) != 0)
		return;
	cleanup_(cleanup_free) char *home = state_home();
	if (home)
		set_text(l, &o->embedded, join(home, "embedded"));
	else
		loading_complain(l, "--embedded: neither XDG_STATE_HOME nor HOME is set: write --embedded=DIR");
}

static void finish_socket(struct loading *l)
{
	struct options *o = l->o;
	const char *xdg = loading_env("XDG_RUNTIME_DIR");
	if (o->socket)
		return;
	if (o->embedded)
		set_text(l, &o->socket, join(o->embedded, "taskerd.sock"));
	else if (geteuid() == 0 || access("/run/taskerd", W_OK) == 0)
		set_text(l, &o->socket, strdup("/run/taskerd/taskerd.sock"));
	else if (xdg && xdg[0] == '/')
		set_text(l, &o->socket, join(xdg, "taskerd/taskerd.sock"));
	else
		loading_complain(l, "--socket: /run/taskerd cannot be written and XDG_RUNTIME_DIR is not set: write "
		            "--socket=PATH");
	if (o->socket && strlen(o->socket) > SOCKET_MAX)
		loading_complain(l,
		         "--socket: %.200s is longer than the %d bytes that a Unix socket can have: write "
		         "--socket=PATH",
		         o->socket, SOCKET_MAX);
}

/* /run/taskerd/taskerd.sock has HTTP beside it at /run/taskerd/taskerd-http.sock. */
static void finish_http(struct loading *l)
{
	struct options *o = l->o;
	struct listen_address at[LISTEN_MAX];
	char *path = NULL;
	if (o->http_listen || !o->socket)
		return;
	size_t n = strlen(o->socket), end = n > 5 && strcmp(o->socket + n - 5, ".sock") == 0 ? n - 5 : n;
	if (asprintf(&path, "%.*s-http.sock", (int)end, o->socket) < 0)
		path = NULL;
	if (path && listen_parse(path, at) != 1) { /* too long, or a comma in it */
		free(path);
		path = strdup("off");
	}
	set_text(l, &o->http_listen, path);
	o->http_listen_derived = true;
}

/* Tokens of another issuer, or for another service, are signed with the same keys. */
static void check_jwt(struct loading *l)
{
	const struct options *o = l->o;
	if (o->jwt_key_file && !o->jwt_issuer)
		loading_complain(
			l, "jwt_key_file: jwt_issuer is needed with it: the claim iss of the tokens that are taken");
	if (o->jwt_key_file && !o->jwt_audience)
		loading_complain(
			l, "jwt_key_file: jwt_audience is needed with it: the claim aud of tokens for this service");
	if (!o->jwt_key_file && (o->jwt_issuer || o->jwt_audience))
		loading_complain(l, "%s: without jwt_key_file no JSON Web Tokens are taken",
		                 o->jwt_issuer ? "jwt_issuer" : "jwt_audience");
}

static void finish_socket_group(struct loading *l)
{
	struct options *o = l->o;
	o->socket_gid = -1;
	if (!o->socket_group)
		return;
	char *end = NULL;
	unsigned long id = strtoul(o->socket_group, &end, 10);
	const struct group *gr = *end ? getgrnam(o->socket_group) : NULL;
	if (gr)
		o->socket_gid = gr->gr_gid;
	else if (!*end && id < UINT32_MAX)
		o->socket_gid = (long)id;
	else
		loading_complain(l, "socket_group: there is no group %s on this host", QUOTE(o->socket_group));
}

static void finish_node_name(struct loading *l)
{
	char host[65] = "";
	if (l->o->node_name)
		return;
	if (gethostname(host, sizeof host - 1) < 0 || !host[0])
		loading_complain(l, "--node-name: the host has no name: write --node-name=NAME");
	else
		loading_apply(l, row_of("node_name"), host, FROM_DEFAULT, "--node-name, from the host's name");
}

static void check_migrate(struct loading *l)
{
	if (l->o->migrate && l->o->embedded)
		loading_complain(l, "--migrate: with --embedded that happens at every start; it is for --database");
}

/* A context or result travels in one frame, with its ids. As MessagePack it is at most 9/5 as long as the text
 * that is counted ("0.5, " is five bytes there and nine here), so that half a frame of text always fits. */
static void check_sizes(struct loading *l)
{
	const struct options *o = l->o;
	size_t room = o->max_frame / 2;
	if (o->max_context > room)
		loading_complain(l, "max_context: expected at most half of max_frame (%zu), found %zu", room,
		         o->max_context);
	if (o->max_result > room)
		loading_complain(l, "max_result: expected at most half of max_frame (%zu), found %zu", room,
		         o->max_result);
}

static void set_defaults(struct loading *l)
{
	for (size_t i = 0; i < option_count; i++)
		if (option_table[i].fallback)
			loading_apply(l, &option_table[i], option_table[i].fallback, FROM_DEFAULT,
			      option_table[i].name);
}

/* ---- what is printed ---- */

static int print(struct buf *b)
{
	const char *text = buf_text(b);
	int rc = text ? 1 : -ENOMEM;
	if (text)
		fputs(text, stdout);
	fflush(stdout);
	buf_done(b);
	return rc;
}

static int print_help(void)
{
	struct buf b;
	buf_init(&b, 1 << 20);
	options_help(&b);
	return print(&b);
}

static int print_check(const struct options *o)
{
	struct buf b;
	buf_init(&b, 1 << 20);
	buf_append_str(&b, "configuration ok\n");
	if (o->verbose)
		options_show(o, &b);
	return print(&b);
}

/* ---- */

static void load_all(struct loading *l)
{
	const char *given = last_arg(l, "config");
	given = given ? given : loading_env("TASKERD_CONFIG");
	set_defaults(l);
	loading_files(l, given ? given : OPTIONS_DEFAULT_FILE, given != NULL);
	loading_credentials(l);
	read_environment(l);
	for (size_t i = 0; i < l->n_args; i++)
		if (strcmp(l->args[i].row->name, "config") != 0)
			loading_apply(l, l->args[i].row, l->args[i].value, FROM_COMMAND_LINE,
			      SPELL_ARG(l->args[i].row));
	finish_database(l);
	loading_warn_listed(l);
	finish_embedded(l);
	finish_socket(l);
	finish_http(l);
	check_jwt(l);
	finish_socket_group(l);
	finish_node_name(l);
	check_migrate(l);
	check_sizes(l);
}

int options_preview(const char *config, struct options *o, struct buf *messages)
{
	struct loading l = {.o = o, .messages = messages, .db_unsure = true};
	*o = (struct options){0};
	if (config)
		take_arg(&l, row_of("config"), config);
	load_all(&l);
	int rc = l.out_of_memory || messages->failed ? -ENOMEM : l.errors ? -EINVAL : 0;
	if (rc < 0)
		options_done(o);
	return rc;
}

int options_load(int argc, char **argv, struct options *o, struct buf *messages)
{
	struct loading l = {.o = o, .messages = messages};
	*o = (struct options){.argc = argc, .argv = argv};
	read_args(&l, argc, argv);
	if (l.help)
		return print_help();
	if (l.version) {
		puts("taskerd " TASKERD_VERSION);
		return 1;
	}
	load_all(&l);
	if (l.out_of_memory || messages->failed) {
		options_done(o);
		return -ENOMEM;
	}
	if (l.errors) {
		options_done(o);
		return -EINVAL;
	}
	if (!o->check_config)
		return 0;
	int rc = print_check(o);
	options_done(o);
	return rc;
}

void options_done(struct options *o)
{
	for (size_t i = 0; i < option_count; i++)
		if (option_is_text(&option_table[i]))
			option_clear(o, &option_table[i]);
	for (size_t i = 0; i < option_count; i++)
		free(o->place[i]);
	free(o->access_place);
	o->access = access_rules_free(o->access);
	o->access_retired = access_rules_free(o->access_retired);
}

/* It follows from another, of which there will be a word. */
static bool is_derived(const struct options *now, const struct options *fresh, const struct option_row *row)
{
	return row->offset == offsetof(struct options, http_listen) && now->http_listen_derived &&
	       fresh->http_listen_derived;
}

static int reload_access(struct options *now, struct options *fresh, struct buf *messages)
{
	char *place = now->access_place;
	now->access_place = fresh->access_place;
	fresh->access_place = place;
	if (access_rules_equal(now->access, fresh->access))
		return 0;
	now->access_retired = access_rules_retire(now->access, now->access_retired);
	now->access = fresh->access;
	fresh->access = NULL;
	buf_append_str(messages, now->access ? "access: " : "access: no rules: whoever can connect may do everything");
	if (now->access)
		access_rules_format(now->access, messages);
	buf_append_str(messages, "\n");
	return 1;
}

int options_reload(struct options *now, struct options *fresh, struct buf *messages)
{
	int changed = 0;
	for (size_t i = 0; i < option_count; i++) {
		const struct option_row *row = &option_table[i];
		if (!(row->flags & OPT_IN_FILE) || (!option_equal(now, fresh, row) && is_derived(now, fresh, row)))
			continue;
		bool same = option_equal(now, fresh, row), taken = same || (row->flags & OPT_RELOAD);
		const char *place = fresh->place[i];
		if (taken && option_set_source(now, row, (enum option_source)fresh->source[i], place,
		                               place ? strlen(place) : 0) < 0)
			return -ENOMEM;
		if (same)
			continue;
		if (!taken) {
			buf_printf(messages, "%s: the new value waits for a restart\n", row->name);
			continue;
		}
		if (option_copy(now, fresh, row) < 0)
			return -ENOMEM;
		changed++;
		buf_printf(messages, "%s: ", row->name);
		options_format(now, row, messages);
		buf_append_str(messages, "\n");
	}
	changed += reload_access(now, fresh, messages);
	return messages->failed ? -ENOMEM : changed;
}
