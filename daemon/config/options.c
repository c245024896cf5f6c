/* Reading all options: collects the command line, then applies defaults, file, environment and command line
 * in rising precedence, then fills in what depends on other values and checks what only makes sense together.
 * Errors are collected, never cut short, so that one run shows them all. Called before threads start: it
 * reads the environment. */
#include "daemon/config/options.h"

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
#include "daemon/config/option_value.h"
#include "daemon/template/findings.h"

#define ARGS_MAX 256
#define SOCKET_MAX 107

struct arg {
	const struct option_row *row;
	const char *value;
};

struct loading {
	struct options *o;
	struct buf *messages;
	int errors;
	bool out_of_memory;
	bool db_unsure; /* what was wrong might have named a database */
	bool help, version, too_many;
	struct arg args[ARGS_MAX];
	size_t n_args;
};

static void complain(struct loading *l, const char *fmt, ...) printf_like(2, 3);
static void complain(struct loading *l, const char *fmt, ...)
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

/* Set one value from `place` ("--name", "TASKERD_NAME in the environment"). */
static void apply(struct loading *l, const struct option_row *row, const char *text, enum option_source from,
                  const char *place)
{
	struct buf expected;
	buf_init(&expected, 1024);
	int rc = option_set(l->o, row, text, &expected);
	const char *why = buf_text(&expected);
	l->db_unsure |= rc < 0 && (row->type == OPT_DATABASE || row->type == OPT_EMBEDDED);
	if (rc == 0)
		l->o->source[row - option_table] = (unsigned char)from;
	else if (rc == -ENOMEM)
		l->out_of_memory = true;
	else if (row->type == OPT_DATABASE)
		complain(l, "%s: expected %s", place, why ? why : "another value");
	else
		complain(l, "%s: expected %s, found %s", place, why ? why : "another value", QUOTE(text));
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
		complain(l, "%.*s: no such option; did you mean %s?", (int)n, arg, SPELL_ARG(like));
	else
		complain(l, "%.*s: no such option; see taskerd --help", (int)n, arg);
	return like && has_value(like) && !arg[n] && next && strncmp(next, "--", 2) != 0 ? 2 : 1;
}

static void take_arg(struct loading *l, const struct option_row *row, const char *value)
{
	if (l->too_many)
		return;
	if (l->n_args == ARGS_MAX) {
		l->too_many = true;
		complain(l, "%s: more than %d options", SPELL_ARG(row), ARGS_MAX);
		return;
	}
	l->args[l->n_args++] = (struct arg){row, value};
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
		complain(l, "%s: needs a value (%s)", SPELL_ARG(row), row->arg);
		return 1;
	}
	take_arg(l, row, next);
	return 2;
}

static void stray_word(struct loading *l, const char *word, bool after_embedded)
{
	if (strstr(word, "://"))
		complain(
		    l, "taskerd takes options only: write --database=URI"); /* the word may hold a password */
	else if (after_embedded)
		complain(l, "%s: write --embedded=DIR in one word", QUOTE(word));
	else
		complain(l, "%s: taskerd takes options only", QUOTE(word));
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

static const char *env(const char *name)
{
	const char *v = getenv(name);
	return v && v[0] ? v : NULL; /* set but empty is how compose files and units say "not set" */
}

static void read_environment(struct loading *l)
{
	for (size_t i = 0; i < option_count; i++) {
		const struct option_row *row = &option_table[i];
		const char *v = row->flags & OPT_IN_ENV ? env(SPELL_ENV(row)) : NULL;
		char place[128];
		snprintf(place, sizeof place, "%s in the environment", SPELL_ENV(row));
		if (v)
			apply(l, row, v, FROM_ENVIRONMENT, place);
	}
}

static int slurp(const char *path, struct buf *out)
{
	cleanup_(cleanup_close) int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
	struct stat st;
	if (fd < 0 || fstat(fd, &st) < 0)
		return -errno;
	if (!S_ISREG(st.st_mode))
		return S_ISDIR(st.st_mode) ? -EISDIR : -EINVAL;
	for (;;) {
		void *at = buf_reserve(out, 8192);
		ssize_t n = at ? read(fd, at, 8192) : out->failed;
		if (n < 0)
			return at ? -errno : (int)n;
		if (n == 0)
			return 0;
		buf_added(out, (size_t)n);
	}
}

static bool holds_password(const char *database)
{
	struct buf shown;
	buf_init(&shown, 8192);
	if (database)
		options_redact(database, &shown);
	const char *text = database ? buf_text(&shown) : NULL;
	bool r = text && strcmp(text, database) != 0;
	buf_done(&shown);
	return r;
}

/* A password that everybody may read is worth a word; it is not refused, because the file may be a test's. */
static void warn_if_readable(struct loading *l, const char *path)
{
	const struct {
		const char *name, *value;
	} keys[] = {{"database", l->o->database}, {"session_database", l->o->session_database}};
	struct stat st;
	if (stat(path, &st) < 0 || !(st.st_mode & 0004))
		return;
	for (size_t i = 0; i < sizeof keys / sizeof *keys; i++)
		if (source_of(l->o, keys[i].name) == FROM_FILE && holds_password(keys[i].value))
			buf_printf(l->messages, "%s: warning: %s: holds a password and can be read by everyone: chmod o-r %s\n", path, keys[i].name, path);
}

static void read_file(struct loading *l)
{
	const char *given = last_arg(l, "config");
	given = given ? given : env("TASKERD_CONFIG");
	const char *path = given ? given : OPTIONS_DEFAULT_FILE;
	struct buf text;
	buf_init(&text, OPTION_FILE_MAX + 8192);
	int rc = slurp(path, &text);
	if (rc == -ENOENT && !given) {
		buf_done(&text);
		return;
	}
	if (rc < 0) {
		l->db_unsure = true;
		complain(l, "%s: %s", path, rc == -EMSGSIZE ? "larger than 1 MiB" : strerror(-rc));
	} else {
		const char *s = buf_text(&text);
		int errors = s ? option_file_apply(l->o, s, text.len, path, l->messages) : -ENOMEM;
		l->errors += errors > 0 ? errors : 0;
		l->db_unsure |= errors != 0;
		l->out_of_memory |= errors < 0;
		warn_if_readable(l, path);
		apply(l, row_of("config"), path, given ? FROM_COMMAND_LINE : FROM_DEFAULT, "--config");
	}
	buf_done(&text);
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
	const char *unit = env("STATE_DIRECTORY"); /* several are separated by colons */
	const char *xdg = env("XDG_STATE_HOME"), *home = env("HOME");
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
			complain(l, "database and embedded are both given (%s): keep one",
			         db == FROM_FILE          ? "in the file"
			         : db == FROM_ENVIRONMENT ? "in the environment"
			                                  : "on the command line");
		else
			option_clear(o, row_of(db > em ? "embedded" : "database"));
	}
	if (o->embedded && o->session_database)
		complain(l, "session_database is for a database behind a pooler, and embedded has none: leave it out");
	if (o->database || o->embedded)
		return;
	if (env("DATABASE_URL"))
		apply(l, row_of("database"), env("DATABASE_URL"), FROM_DATABASE_URL,
		      "DATABASE_URL in the environment");
	else if (!l->db_unsure)
		complain(l, "no database: give --embedded for a private PostgreSQL, or --database=URI for "
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
		complain(l, "--embedded: neither XDG_STATE_HOME nor HOME is set: write --embedded=DIR");
}

static void finish_socket(struct loading *l)
{
	struct options *o = l->o;
	const char *xdg = env("XDG_RUNTIME_DIR");
	if (o->socket)
		return;
	if (o->embedded)
		set_text(l, &o->socket, join(o->embedded, "taskerd.sock"));
	else if (geteuid() == 0 || access("/run/taskerd", W_OK) == 0)
		set_text(l, &o->socket, strdup("/run/taskerd/taskerd.sock"));
	else if (xdg && xdg[0] == '/')
		set_text(l, &o->socket, join(xdg, "taskerd/taskerd.sock"));
	else
		complain(l, "--socket: /run/taskerd cannot be written and XDG_RUNTIME_DIR is not set: write "
		            "--socket=PATH");
	if (o->socket && strlen(o->socket) > SOCKET_MAX)
		complain(l,
		         "--socket: %.200s is longer than the %d bytes that a Unix socket can have: write "
		         "--socket=PATH",
		         o->socket, SOCKET_MAX);
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
		complain(l, "socket_group: there is no group %s on this host", QUOTE(o->socket_group));
}

static void finish_node_name(struct loading *l)
{
	char host[65] = "";
	if (l->o->node_name)
		return;
	if (gethostname(host, sizeof host - 1) < 0 || !host[0])
		complain(l, "--node-name: the host has no name: write --node-name=NAME");
	else
		apply(l, row_of("node_name"), host, FROM_DEFAULT, "--node-name, from the host's name");
}

static void check_migrate(struct loading *l)
{
	if (l->o->migrate && l->o->embedded)
		complain(l, "--migrate: with --embedded that happens at every start; it is for --database");
}

/* A context or result travels in one frame, with its ids. As MessagePack it is at most 9/5 as long as the text
 * that is counted ("0.5, " is five bytes there and nine here), so that half a frame of text always fits. */
static void check_sizes(struct loading *l)
{
	const struct options *o = l->o;
	size_t room = o->max_frame / 2;
	if (o->max_context > room)
		complain(l, "max_context: expected at most half of max_frame (%zu), found %zu", room,
		         o->max_context);
	if (o->max_result > room)
		complain(l, "max_result: expected at most half of max_frame (%zu), found %zu", room,
		         o->max_result);
}

static void set_defaults(struct loading *l)
{
	for (size_t i = 0; i < option_count; i++)
		if (option_table[i].fallback)
			apply(l, &option_table[i], option_table[i].fallback, FROM_DEFAULT,
			      option_table[i].name);
}

/* ---- what is printed ---- */

static const char *const source_names[] = {[FROM_DEFAULT] = "default",
                                           [FROM_DATABASE_URL] = "DATABASE_URL",
                                           [FROM_FILE] = "file",
                                           [FROM_ENVIRONMENT] = "environment",
                                           [FROM_COMMAND_LINE] = "command line"};

/* As lines of a configuration file, with where each value came from. */
static void show_values(const struct options *o, struct buf *out)
{
	for (size_t i = 0; i < option_count; i++) {
		const struct option_row *row = &option_table[i];
		if (!(row->flags & OPT_IN_FILE))
			continue;
		struct buf value;
		buf_init(&value, 16384);
		options_format(o, row, &value);
		const char *text = buf_text(&value);
		buf_printf(out, "%s: %s # %s\n", row->name, text && text[0] ? text : "null",
		           source_names[o->source[i]]);
		buf_done(&value);
	}
	if (o->access) {
		buf_append_str(out, "access: ");
		access_rules_format(o->access, out);
		buf_append_str(out, " # file\n");
	}
}

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
		show_values(o, &b);
	return print(&b);
}

/* ---- */

static void load_all(struct loading *l)
{
	set_defaults(l);
	read_file(l);
	read_environment(l);
	for (size_t i = 0; i < l->n_args; i++)
		if (strcmp(l->args[i].row->name, "config") != 0)
			apply(l, l->args[i].row, l->args[i].value, FROM_COMMAND_LINE,
			      SPELL_ARG(l->args[i].row));
	finish_database(l);
	finish_embedded(l);
	finish_socket(l);
	finish_socket_group(l);
	finish_node_name(l);
	check_migrate(l);
	check_sizes(l);
}

int options_load(int argc, char **argv, struct options *o, struct buf *messages)
{
	struct loading l = {.o = o, .messages = messages};
	memset(o, 0, sizeof *o);
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
	o->access = access_rules_free(o->access);
}

int options_reload(struct options *now, const struct options *fresh, struct buf *messages)
{
	int changed = 0;
	for (size_t i = 0; i < option_count; i++) {
		const struct option_row *row = &option_table[i];
		if (!(row->flags & OPT_IN_FILE) || option_equal(now, fresh, row))
			continue;
		if (!(row->flags & OPT_RELOAD)) {
			buf_printf(messages, "%s: the new value waits for a restart\n", row->name);
			continue;
		}
		if (option_copy(now, fresh, row) < 0)
			return -ENOMEM;
		now->source[i] = fresh->source[i];
		changed++;
	}
	if (!access_rules_equal(now->access, fresh->access))
		buf_append_str(messages, "access: the new value waits for a restart\n");
	return messages->failed ? -ENOMEM : changed;
}
