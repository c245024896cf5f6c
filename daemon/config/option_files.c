/* Where options are read from besides the command line and the environment: the configuration file, the files that add
 * to it, and credentials. */
#include "daemon/config/options_impl.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "daemon/config/option_file.h"
#include "daemon/config/option_value.h"

#define CREDENTIAL_MAX 4096
#define DROP_INS_MAX 100

static int slurp(const char *path, struct buf *out)
{
	cleanup_(cleanup_close) int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
	struct stat st;
	if (fd < 0 || fstat(fd, &st) < 0)
		return -errno;
	/* /dev/null is a file without options; out has an end, whatever else it is */
	if (!S_ISREG(st.st_mode) && !S_ISCHR(st.st_mode))
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

/* Whether it may not be shown as it is. */
static bool holds_password(struct options *o, const struct option_row *row)
{
	struct buf shown;
	const char *value = *option_text_at(o, row);
	buf_init(&shown, 8192);
	options_format(o, row, &shown);
	const char *text = value ? buf_text(&shown) : NULL;
	bool r = text && strcmp(text, value) != 0;
	buf_done(&shown);
	return r;
}

static const struct {
	const char *name, *option, *where;
} passwords[] = {{"database", "database", "a credential or ~/.pgpass"},
		 {"session_database", "session-database", "a credential or ~/.pgpass"},
		 {"trace_headers", "trace-headers", "or a credential"}};
#define N_PASSWORDS (sizeof passwords / sizeof *passwords)

static const struct option_row *password_row(size_t i)
{
	return option_find(passwords[i].name, strlen(passwords[i].name));
}

/* A password that everybody may read is worth a word; it is not refused, because the file may be a test's. */
static void warn_if_readable(struct loading *l, const char *path, const struct option_row *row)
{
	struct stat st;
	if (stat(path, &st) == 0 && (st.st_mode & 0004) && holds_password(l->o, row))
		buf_printf(l->messages, "%s: warning: %s: holds a password and can be read by everyone: chmod o-r %s\n",
		           path, row->name, path);
}

void loading_warn_listed(struct loading *l)
{
	for (size_t i = 0; i < N_PASSWORDS; i++) {
		const struct option_row *row = password_row(i);
		if (l->o->source[row - option_table] == FROM_COMMAND_LINE && holds_password(l->o, row))
			buf_printf(
				l->messages,
				"--%s: warning: holds a password, and everyone on this host can list the command line: write it into the configuration file, %s\n",
				passwords[i].option, passwords[i].where);
	}
}

static void apply_file(struct loading *l, const char *path, const char *text, size_t len)
{
	unsigned char *source[N_PASSWORDS], before[N_PASSWORDS];
	for (size_t i = 0; i < N_PASSWORDS; i++) {
		source[i] = &l->o->source[password_row(i) - option_table];
		before[i] = *source[i];
		*source[i] = FROM_DEFAULT;
	}
	int errors = option_file_apply(l->o, text, len, path, l->messages);
	l->errors += errors > 0 ? errors : 0;
	l->db_unsure |= errors != 0;
	l->out_of_memory |= errors < 0;
	for (size_t i = 0; i < N_PASSWORDS; i++)
		if (*source[i] == FROM_FILE)
			warn_if_readable(l, path, password_row(i));
		else
			*source[i] = before[i];
}

/* 0 or why it cannot be read. */
static int read_one(struct loading *l, const char *path)
{
	struct buf text;
	buf_init(&text, OPTION_FILE_MAX + 8192);
	int rc = slurp(path, &text);
	const char *s = rc == 0 ? buf_text(&text) : NULL;
	if (s)
		apply_file(l, path, s, text.len);
	else if (rc == 0)
		l->out_of_memory = true;
	buf_done(&text);
	return rc;
}

static void cannot_read(struct loading *l, const char *path, int rc)
{
	l->db_unsure = true;
	loading_complain(l, "%s: %s", path, rc == -EMSGSIZE ? "larger than 1 MiB" : strerror(-rc));
}

static int is_drop_in(const struct dirent *d)
{
	size_t n = strlen(d->d_name);
	return d->d_name[0] != '.' && n > 5 && strcmp(d->d_name + n - 5, ".yaml") == 0;
}

/* taskerd.yaml has its additions in taskerd.d. */
static void read_drop_ins(struct loading *l, const char *path)
{
	char dir[4096], file[4096 + 256];
	struct dirent **found = NULL;
	size_t stem = strlen(path);
	if (stem > 5 && strcmp(path + stem - 5, ".yaml") == 0)
		stem -= 5;
	int n = snprintf(dir, sizeof dir, "%.*s.d", (int)stem, path);
	n = n > 0 && (size_t)n < sizeof dir ? scandir(dir, &found, is_drop_in, alphasort) : 0;
	if (n < 0 && errno != ENOENT && errno != ENOTDIR)
		cannot_read(l, dir, -errno);
	if (n > DROP_INS_MAX)
		loading_complain(l, "%s: %d files, expected at most %d", dir, n, DROP_INS_MAX);
	for (int i = 0; i < n; i++) {
		snprintf(file, sizeof file, "%s/%s", dir, found[i]->d_name);
		int rc = n <= DROP_INS_MAX ? read_one(l, file) : 0;
		if (rc < 0)
			cannot_read(l, file, rc);
		free(found[i]);
	}
	free(found);
}

void loading_files(struct loading *l, const char *path, bool given)
{
	int rc = read_one(l, path);
	if (rc < 0 && (given || rc != -ENOENT))
		cannot_read(l, path, rc);
	if (rc == 0)
		loading_apply(l, option_find("config", 6), path, given ? FROM_COMMAND_LINE : FROM_DEFAULT, "--config");
	read_drop_ins(l, path);
}

void loading_credentials(struct loading *l)
{
	const char *dir = loading_env("CREDENTIALS_DIRECTORY");
	for (size_t i = 0; dir && i < option_count; i++) {
		char path[4096];
		struct buf text;
		if (!option_is_secret(&option_table[i]))
			continue;
		buf_init(&text, CREDENTIAL_MAX + 8192);
		snprintf(path, sizeof path, "%s/taskerd.%s", dir, option_table[i].name);
		int rc = slurp(path, &text);
		char *s = rc == 0 ? buf_text(&text) : NULL;
		if (rc < 0 && rc != -ENOENT)
			cannot_read(l, path, rc);
		if (s) {
			s[strcspn(s, "\r\n")] = '\0'; /* editors end a file with a line feed */
			loading_apply(l, &option_table[i], s, FROM_CREDENTIAL, path);
		}
		buf_done(&text);
	}
}
