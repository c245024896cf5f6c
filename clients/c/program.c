/* A worker as a whole program: the command line, signals, processes that replace each other. */
#include "clients/c/worker.h"

#include <errno.h>
#include <getopt.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define MAX_NAMESPACES 64u
#define MAX_PROCESSES 256u
/* A process that ends sooner than this after its start is replaced after a pause of as long. */
#define SHORT_LIFE_US 1000000u

struct command {
	struct tasker_worker_options o;
	const char *namespaces[MAX_NAMESPACES + 1];
	size_t nnamespaces;
	unsigned processes;
	const char *replay;
	bool quiet, help;
};

static tasker_worker *the_worker;
static volatile sig_atomic_t stopping;
static volatile sig_atomic_t said[2]; /* to stop: by whomever, by the process that has started this one */
static pid_t parent;                  /* that process, in one of several */

static void say(void *arg, const char *line)
{
	(void)arg;
	fprintf(stderr, "%s[%d]: %s\n", program_invocation_short_name, (int)getpid(), line);
}

/* ---- the command line ---- */

static int usage(const char *why)
{
	FILE *out = why ? stderr : stdout;
	if (why)
		fprintf(out, "%s: %s\n", program_invocation_short_name, why);
	fprintf(out,
	        "usage: %s [OPTION]...\n"
	        "  --socket PATH          of taskerd\n"
	        "  --name NAME            shown to people\n"
	        "  --namespace NS         take steps of this one only; may be repeated\n"
	        "  --threads N            handlers that run at a time in one process\n"
	        "  --max-concurrency N    steps held at a time\n"
	        "  --processes N          so many worker processes; one that crashes is replaced\n"
	        "  --replay STEP_UUID     run the handler of a recorded step again, record nothing\n"
	        "  --quiet                no lines about connections\n",
	        program_invocation_short_name);
	return why ? -EINVAL : 0;
}

static int read_number(const char *text, unsigned long max, unsigned *ret)
{
	char *end;
	errno = 0;
	unsigned long v = strtoul(text, &end, 10);
	if (errno || end == text || *end || *text == '-' || v > max)
		return usage(
		    "a number of the right size is needed after --threads, --max-concurrency, --processes");
	*ret = (unsigned)v;
	return 0;
}

static int add_namespace(struct command *c, const char *name)
{
	if (c->nnamespaces == MAX_NAMESPACES)
		return usage("too many namespaces");
	c->namespaces[c->nnamespaces++] = name;
	c->o.namespaces = c->namespaces;
	return 0;
}

static int set_option(struct command *c, int option)
{
	switch (option) {
	case 's':
		c->o.socket_path = optarg;
		return 0;
	case 'n':
		c->o.name = optarg;
		return 0;
	case 'N':
		return add_namespace(c, optarg);
	case 't':
		return read_number(optarg, 1024, &c->o.threads);
	case 'c':
		return read_number(optarg, 100000, &c->o.max_concurrency);
	case 'p':
		return read_number(optarg, MAX_PROCESSES, &c->processes);
	case 'r':
		c->replay = optarg;
		return 0;
	case 'q':
		c->quiet = true;
		return 0;
	case 'h':
		c->help = true;
		return 0;
	default:
		return usage("unknown option");
	}
}

static int read_command(struct command *c, int argc, char **argv)
{
	static const struct option options[] = {
	    {"socket", 1, NULL, 's'},  {"name", 1, NULL, 'n'},   {"namespace", 1, NULL, 'N'},
	    {"threads", 1, NULL, 't'}, {"replay", 1, NULL, 'r'}, {"max-concurrency", 1, NULL, 'c'},
	    {"quiet", 0, NULL, 'q'},   {"help", 0, NULL, 'h'},   {"processes", 1, NULL, 'p'},
	    {NULL, 0, NULL, 0}};
	int option, rc = 0;
	optind = 1;
	while (rc == 0 && (option = getopt_long(argc, argv, "", options, NULL)) >= 0)
		rc = set_option(c, option);
	if (rc == 0 && optind < argc)
		rc = usage("an option was expected");
	if (!c->quiet && !c->o.log)
		c->o.log = say;
	return rc;
}

/* ---- one process ---- */

/* Told a second time, a process ends at once. What the parent passes on is no second time: a service manager and a
 * terminal tell every process themselves. */
static void on_signal(int sig, siginfo_t *from, void *context)
{
	bool passed_on = parent && from->si_pid == parent;
	(void)sig;
	(void)context;
	if (said[passed_on])
		_exit(1);
	said[passed_on] = 1;
	if (the_worker && !stopping)
		tasker_worker_stop(the_worker);
	stopping = 1;
}

static void catch_signals(void)
{
	struct sigaction sa = {.sa_sigaction = on_signal, .sa_flags = SA_SIGINFO};
	sigaction(SIGTERM, &sa, NULL);
	sigaction(SIGINT, &sa, NULL);
	signal(SIGPIPE, SIG_IGN);
}

int worker_add_all(tasker_worker *w, const struct tasker_handler *handlers, struct tasker_error *err)
{
	for (const struct tasker_handler *h = handlers; h->callable; h++) {
		int rc = tasker_worker_add(w, h->callable, h->fn, h->arg);
		if (rc < 0)
			return tasker_fail_(err, rc, "bad_call", "the handler %s cannot be added: %s",
			                    h->callable, strerrordesc_np(-rc));
	}
	return 0;
}

static int run_worker(const struct tasker_program *p, const struct command *c)
{
	struct tasker_worker_options o = c->o;
	struct tasker_error err = {0};
	tasker_worker *w = NULL;
	if (c->replay)
		o.threads = 0;
	int rc = tasker_worker_new(&w, &o, &err);
	if (rc == 0)
		rc = worker_add_all(w, p->handlers, &err);
	if (rc == 0 && c->replay) {
		rc = worker_replay(w, c->replay, &err);
	} else if (rc == 0) {
		the_worker = w;
		catch_signals();
		rc = tasker_worker_run(w, &err);
		the_worker = NULL;
	}
	tasker_worker_free(w);
	if (rc < 0)
		fprintf(stderr, "%s: %s%s: %s\n", program_invocation_short_name, c->replay ? "cannot replay: " : "",
		        err.code, err.message);
	return rc < 0;
}

/* ---- many processes ---- */

struct child {
	pid_t pid;
	uint64_t begun_us;
	bool refused; /* it has ended for good */
};

static void start_child(struct child *ch, const struct tasker_program *p, const struct command *c)
{
	ch->begun_us = tasker_now_us_();
	ch->pid = fork();
	if (ch->pid == 0) {
		parent = getppid();
		_exit(run_worker(p, c));
	}
	if (ch->pid < 0)
		say(NULL, "cannot make another process; trying again");
}

static struct child *child_of(struct child *all, unsigned n, pid_t pid)
{
	for (unsigned i = 0; i < n; i++)
		if (all[i].pid == pid)
			return &all[i];
	return NULL;
}

/* What becomes of a process that has ended. A status of 1 is the daemon's refusal, which holds for the next
 * one too. */
static void on_ended(struct child *ch, int status)
{
	char line[120];
	if (WIFSIGNALED(status))
		snprintf(line, sizeof line, "worker process %d was ended by signal %d; it is replaced",
		         (int)ch->pid, WTERMSIG(status));
	else
		snprintf(line, sizeof line, "worker process %d ended with status %d", (int)ch->pid,
		         WEXITSTATUS(status));
	if (!stopping)
		say(NULL, line);
	ch->refused = WIFEXITED(status) && WEXITSTATUS(status) == 1;
	ch->pid = -1;
}

/* A pause that ends with a signal. */
static void rest(void)
{
	const struct timespec second = {.tv_sec = 1};
	nanosleep(&second, NULL);
}

/* True while there is something to wait for. */
static bool replace_children(struct child *all, unsigned n, const struct tasker_program *p,
                             const struct command *c)
{
	bool any = false;
	for (unsigned i = 0; i < n; i++) {
		if (all[i].pid < 0 && !all[i].refused && !stopping) {
			if (all[i].begun_us && tasker_now_us_() - all[i].begun_us < SHORT_LIFE_US)
				rest();
			if (!stopping)
				start_child(&all[i], p, c);
		}
		any = any || all[i].pid > 0 || (!all[i].refused && !stopping);
	}
	return any;
}

static void stop_children(const struct child *all, unsigned n)
{
	for (unsigned i = 0; i < n; i++)
		if (all[i].pid > 0)
			kill(all[i].pid, SIGTERM);
}

static int supervise(const struct tasker_program *p, const struct command *c)
{
	struct child all[MAX_PROCESSES] = {0};
	bool told = false, refused = false;
	unsigned n = c->processes;
	for (unsigned i = 0; i < n; i++)
		all[i].pid = -1;
	catch_signals();
	while (replace_children(all, n, p, c)) {
		int status;
		if (stopping && !told) {
			stop_children(all, n);
			told = true;
		}
		pid_t pid = waitpid(-1, &status, 0);
		struct child *ch = pid > 0 ? child_of(all, n, pid) : NULL;
		if (ch) {
			on_ended(ch, status);
			refused = refused || ch->refused;
		} else if (pid < 0 && errno == ECHILD) {
			rest();
		}
	}
	return refused;
}

int tasker_main(int argc, char **argv, const struct tasker_program *program)
{
	struct command c = {.o = program->options};
	if (read_command(&c, argc, argv) < 0)
		return 2;
	if (c.help)
		return usage(NULL);
	return c.processes > 1 && !c.replay ? supervise(program, &c) : run_worker(program, &c);
}
