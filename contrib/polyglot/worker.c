/* One more than the step before. */
#include <stdlib.h>
#include <string.h>
#include <tasker.h>

static enum tasker_verdict count(void *arg, tasker_step *step)
{
	char after[64], *before = NULL;
	(void)arg;
	tasker_copy(tasker_step_config(step, "after"), after, sizeof after);
	if (tasker_step_dependency(step, after, &before, NULL) < 0)
		return tasker_step_refuse(step, "ConfigurationError", "there is no such step before");
	const char *n = strstr(before, "\"n\":");
	tasker_step_succeedf(step, NULL, "{\"n\":%ld,\"language\":\"C\",\"runtime\":%s}",
	                     n ? strtol(n + 4, NULL, 10) + 1 : -1, __VERSION__);
	free(before);
	return TASKER_DONE;
}

int main(int argc, char **argv)
{
	static const struct tasker_handler handlers[] = {{"polyglot.c", count, NULL}, {NULL, NULL, NULL}};
	const struct tasker_program program = {.handlers = handlers, .options = {.name = "c", .threads = 1}};
	return tasker_main(argc, argv, &program);
}
