/* What is in effect, and where each value came from: as lines of a configuration file, and as data. */
#include <string.h>

#include "daemon/config/access.h"
#include "daemon/config/option_show.h"
#include "daemon/config/option_value.h"
#include "protocol/mp.h"

static const char *const source_names[] = {[FROM_DEFAULT] = "default",
                                           [FROM_DATABASE_URL] = "environment",
                                           [FROM_FILE] = "file",
                                           [FROM_CREDENTIAL] = "credential",
                                           [FROM_ENVIRONMENT] = "environment",
                                           [FROM_COMMAND_LINE] = "command line"};

/* `name: value # source place` */
static void show_line(const char *name, const char *value, enum option_source from, const char *place, struct buf *out)
{
	buf_printf(out, "%s: %s # %s%s%s\n", name, value && value[0] ? value : "null", source_names[from],
	           place ? " " : "", place ? place : "");
}

void options_show(const struct options *o, struct buf *out)
{
	for (size_t i = 0; i < option_count; i++) {
		const struct option_row *row = &option_table[i];
		if (!(row->flags & OPT_IN_FILE))
			continue;
		struct buf value;
		buf_init(&value, 16384);
		options_format(o, row, &value);
		show_line(row->name, buf_text(&value), (enum option_source)o->source[i], o->place[i], out);
		buf_done(&value);
	}
	if (o->access) {
		struct buf rules;
		buf_init(&rules, 0);
		access_rules_format(o->access, &rules);
		show_line("access", buf_text(&rules), FROM_FILE, o->access_place, out);
		buf_done(&rules);
	}
}

static void put_pair(struct buf *out, const char *key, const char *value)
{
	mp_str(out, key);
	mp_str(out, value && value[0] ? value : NULL);
}

/* One option; what is NULL becomes nil. */
struct shown {
	const char *name, *text, *fallback, *note, *place, *help;
	enum option_source from;
	bool reloads;
};

static void put_shown(const struct shown *s, bool with_value, struct buf *out)
{
	mp_map(out, with_value ? 8 : 5);
	put_pair(out, "name", s->name);
	if (with_value) {
		put_pair(out, "value", s->text);
		put_pair(out, "source", source_names[s->from]);
		put_pair(out, "place", s->place);
	}
	put_pair(out, "default", s->fallback);
	put_pair(out, "note", s->note);
	mp_str(out, "reload");
	mp_bool(out, s->reloads);
	put_pair(out, "help", s->help);
}

static void put_row(const struct options *o, const struct option_row *row, struct buf *out)
{
	size_t i = (size_t)(row - option_table);
	struct buf value;
	buf_init(&value, 16384);
	if (o)
		options_format(o, row, &value);
	struct shown s = {.name = row->name,
	                  .text = o ? buf_text(&value) : NULL,
	                  .fallback = row->type == OPT_BOOL && !row->fallback ? "false" : row->fallback,
	                  .note = row->note,
	                  .place = o ? o->place[i] : NULL,
	                  .help = row->help,
	                  .from = o ? (enum option_source)o->source[i] : FROM_DEFAULT,
	                  .reloads = row->flags & OPT_RELOAD};
	put_shown(&s, o != NULL, out);
	buf_done(&value);
}

static void put_access(const struct options *o, struct buf *out)
{
	struct buf rules;
	bool any = o && o->access;
	buf_init(&rules, 0);
	if (any)
		access_rules_format(o->access, &rules);
	struct shown s = {.name = "access",
	                  .text = any ? buf_text(&rules) : NULL,
	                  .note = "whoever can connect may do everything",
	                  .place = any ? o->access_place : NULL,
	                  .help = "who may do what, by user and group",
	                  .from = any ? FROM_FILE : FROM_DEFAULT,
	                  .reloads = true};
	put_shown(&s, o != NULL, out);
	buf_done(&rules);
}

void options_describe(const struct options *o, const char *from, struct buf *out)
{
	size_t n = 1;
	mp_map(out, 2);
	put_pair(out, "from", from);
	mp_str(out, "options");
	size_t mark = mp_array_open(out);
	for (size_t i = 0; i < option_count; i++)
		if (option_table[i].flags & OPT_IN_FILE) {
			put_row(o, &option_table[i], out);
			n++;
		}
	put_access(o, out);
	mp_array_close(out, mark, n);
}
