/* completion, and __complete, which the scripts of the shells ask: what may be written next. Everything derives from
 * the table of verbs; what the daemon knows is asked for within a moment, and nothing is ever said about what goes
 * wrong. */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>
#include <unistd.h>
#include "clients/taskerctl/complete.h"
#include "clients/taskerctl/ctl.h"
#include "clients/taskerctl/profile.h"
#include "clients/taskerctl/text.h"

#define ASK_MS 400 /* for one answer of the daemon */
#define END_MS 900 /* for everything */
#define AT_MOST 200

struct seek {
	struct ctl *ctl;
	const struct line *line;
	struct offers *out;
	json_t *seen;   /* an object: values that were offered */
	struct cli cli; /* what the line says of the daemon, and its profile */
};

static void offer_once(struct seek *s, const char *value, const char *about)
{
	if (!*value || json_object_get(s->seen, value))
		return;
	json_object_set_new(s->seen, value, json_true());
	offer(s->out, value, about);
}

/* ---- one item of a list ---- */

static void offer_namespace(struct seek *s, const json_t *item)
{
	offer_once(s, json_text(item, "namespace"), json_flag(item, "paused") ? "paused" : "");
}

static void offer_template(struct seek *s, const json_t *item)
{
	char ref[512];
	bool version = strchr(s->out->prefix, '@') != NULL;
	snprintf(ref, sizeof ref, "%s/%s%s%s", json_text(item, "namespace"), json_text(item, "name"),
	         version ? "@" : "", version ? json_text(item, "version") : "");
	offer_once(s, ref, "");
}

static void offer_template_name(struct seek *s, const json_t *item)
{
	offer_once(s, json_text(item, "name"), json_text(item, "namespace"));
}

static void offer_task(struct seek *s, const json_t *item)
{
	char about[400];
	snprintf(about, sizeof about, "%s/%s %s", json_text(item, "namespace"), json_text(item, "name"),
	         json_text(item, "state"));
	offer_once(s, json_text(item, "task_uuid"), about);
}

static void offer_worker(struct seek *s, const json_t *item)
{
	offer_once(s, json_text(item, "name"), json_text(item, "client"));
	if (is_uuid(json_text(item, "worker_uuid")) && *s->out->prefix)
		offer_once(s, json_text(item, "worker_uuid"), json_text(item, "name"));
}

static void offer_node(struct seek *s, const json_t *item)
{
	offer_once(s, json_text(item, "node"), json_text(item, "state"));
}

static void offer_entry(struct seek *s, const json_t *item)
{
	offer_once(s, json_text(item, "entry"), json_text(item, "reason"));
}

static void offer_step(struct seek *s, const json_t *item)
{
	offer_once(s, json_text(item, "name"), json_text(item, "state"));
}

/* ---- what is asked ---- */

static const struct source {
	const struct kind *kind;
	const char *method, *list; /* the message, and the list in its answer */
	bool limit;                /* it takes a limit and a namespace */
	void (*each)(struct seek *, const json_t *);
} sources[] = {
    {&kind_namespace, "namespace.list", "namespaces", false, offer_namespace},
    {&kind_template, "template.list", "templates", false, offer_template},
    {&kind_template_or_file, "template.list", "templates", false, offer_template},
    {&kind_template_name, "template.list", "templates", false, offer_template_name},
    {&kind_task, "task.list", "tasks", true, offer_task},
    {&kind_task_or_step, "task.list", "tasks", true, offer_task},
    {&kind_dlq_entry, "dlq.list", "entries", true, offer_entry},
    {&kind_worker, "worker.list", "workers", false, offer_worker},
    {&kind_node, "node.list", "nodes", false, offer_node},
    {&kind_step_name, "task.get", "steps", false, offer_step},
};

static json_t *params_of(const struct source *from, const struct seek *s)
{
	const struct line *l = s->line;
	const char *space = line_value(l, "namespace") ?: s->cli.space;
	json_t *p = json_object();
	if (from->kind == &kind_step_name)
		json_object_set_new(p, "task_uuid", json_string(l->nargs > 0 ? l->args[0] : ""));
	if (from->limit)
		json_object_set_new(p, "limit", json_integer(AT_MOST));
	if (from->limit && space)
		json_object_set_new(p, "namespace", json_string(space));
	return p;
}

static void ask(struct seek *s, const struct source *from)
{
	struct tasker_error err = {0};
	cleanup_(cleanup_json) json_t *answer = NULL;
	const struct tasker_options o = {.socket_path = s->cli.socket,
	                                 .client = "taskerctl/" TASKERD_VERSION,
	                                 .timeout_ms = ASK_MS};
	size_t i;
	json_t *item;
	s->ctl->timeout_ms = ASK_MS;
	if (tasker_connect(&s->ctl->conn, &o, &err) < 0 ||
	    ctl_try(s->ctl, from->method, params_of(from, s), &answer, &err) < 0)
		return;
	json_array_foreach(json_object_get(answer, from->list), i, item) from->each(s, item);
}

/* The daemon that the line means; and the names of profiles, where one is wanted. */
static void use_profiles(struct seek *s, const struct profiles *all, const struct kind *wanted)
{
	const char *name = line_value(s->line, "profile");
	const struct profile *p = name ? profile_find(all, name, NULL) : NULL;
	cleanup_(cleanup_buf) struct buf why = {0};
	buf_init(&why, 0);
	s->cli = *s->ctl->cli;
	s->cli.socket = line_value(s->line, "socket");
	if (p && !s->cli.socket)
		s->cli.socket = p->values[PROFILE_SOCKET];
	if (!name && profile_choose(all, &s->cli, &p, &why) < 0)
		p = NULL;
	if (p && s->cli.socket)
		s->cli.space = p->values[PROFILE_NAMESPACE];
	else if (p)
		profile_apply(p, &s->cli);
	for (size_t i = 0; wanted == &kind_profile && i < all->n; i++)
		offer_once(s, all->items[i].name, all->items[i].values[PROFILE_SOCKET]);
}

static void end(int sig)
{
	(void)sig;
	_exit(EXIT_OK);
}

/* Whatever happens: who presses a key does not wait. */
static void set_end(void)
{
	const struct itimerval t = {.it_value = {.tv_sec = END_MS / 1000, .tv_usec = END_MS % 1000 * 1000}};
	signal(SIGALRM, end);
	setitimer(ITIMER_REAL, &t, NULL);
}

int run_complete(struct ctl *c)
{
	cleanup_(cleanup_buf) struct buf b = {0};
	cleanup_(cleanup_json) json_t *seen = json_object();
	struct line line;
	struct offers out = {.buf = &b};
	set_end();
	buf_init(&b, 0);
	const struct kind *kind = complete_words(c->cli->nargs, c->cli->args, &line, &out);
	struct seek s = {.ctl = c, .line = &line, .out = &out, .seen = seen};
	struct profiles profiles = {0};
	cleanup_(cleanup_buf) struct buf why = {0};
	buf_init(&why, 0);
	if (kind && profiles_read(&profiles, &why) == 0)
		use_profiles(&s, &profiles, kind);
	for (size_t i = 0; kind && i < sizeof sources / sizeof *sources; i++)
		if (sources[i].kind == kind)
			ask(&s, &sources[i]);
	profiles_done(&profiles);
	ctl_write(&b);
	return EXIT_OK;
}

int run_completion(struct ctl *c)
{
	for (const struct completion_script *s = completion_scripts; s->shell; s++)
		if (strcmp(s->shell, c->cli->args[0]) == 0) {
			fputs(s->text, stdout);
			return EXIT_OK;
		}
	return ctl_fail(c, EXIT_USAGE, "no completion for %s: there is bash, zsh and fish", c->cli->args[0]);
}
