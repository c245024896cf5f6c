/* The handlers of protocol/conformance as one WASI command: the adapter puts it under many names, and it does what
 * `handler` in its input says. */
#define _GNU_SOURCE /* memmem */
#include "clients/wasm/conformance/text.h"

static struct text step, config;

static int failure(struct text message, struct text type, struct text code, bool retryable, struct text after)
{
	printf("{\"message\":%.*s,\"error_type\":%.*s,\"error_code\":%.*s,\"retryable\":%s,\"retry_after\":%.*s}",
	       RAW(message), RAW(type), RAW(code), retryable ? "true" : "false", RAW(after));
	return 1;
}

static int say_again(const char *message)
{
	fprintf(stderr, "%s\n", message);
	return 1;
}

static long long attempt(void)
{
	return number(get(step, "attempt"), 1);
}

static int echo(void)
{
	printf("{\"context\":%.*s,\"config\":%.*s,\"inputs\":%.*s,\"results\":%.*s,\"attempt\":%.*s,\"max_attempts\":%.*s,\"task_uuid\":%.*s,\"step_uuid\":%.*s}",
	       RAW(get(step, "context")), RAW(config), RAW(get(step, "inputs")), RAW(get(step, "dependencies")),
	       RAW(get(step, "attempt")), RAW(get(step, "max_attempts")), RAW(get(step, "task_uuid")),
	       RAW(get(step, "step_uuid")));
	return 0;
}

static int value(void)
{
	printf("%.*s", RAW(get(config, "value")));
	return 0;
}

static int nothing(void)
{
	return 0;
}

static int fail(void)
{
	return failure(get(config, "message"), get(config, "error_type"), get(config, "error_code"),
	               is(get(config, "retryable"), "true"), missing);
}

static int error_retryable(void)
{
	return failure(get(config, "message"), missing, missing, true, missing);
}

static int error_permanent(void)
{
	return failure(get(config, "message"), missing, get(config, "error_code"), false, missing);
}

static int retry_after(void)
{
	static const struct text later = {"\"later\"", 7};
	if (attempt() == 1)
		return failure(later, missing, missing, true, get(config, "seconds"));
	printf("{\"attempt\":%lld}", attempt());
	return 0;
}

static int flaky(void)
{
	if (attempt() <= number(get(config, "failures"), 0))
		return say_again("not yet");
	printf("{\"attempt\":%lld}", attempt());
	return 0;
}

static int decision(void)
{
	struct text steps = get(config, "steps");
	if (is(steps, "[]") || is(steps, "null"))
		printf("{\"decision_point_outcome\":{\"type\":\"no_branches\"},\"reason\":\"none\"}");
	else
		printf("{\"decision_point_outcome\":{\"type\":\"create_steps\",\"step_names\":%.*s}}", RAW(steps));
	return 0;
}

static int analyze(void)
{
	long long total = number(get(config, "total"), 0), size = number(get(config, "size"), 1),
		  count = (total + size - 1) / size;
	if (total == 0) {
		printf("{\"batch_processing_outcome\":{\"type\":\"no_batches\"}}");
		return 0;
	}
	printf("{\"batch_processing_outcome\":{\"type\":\"create_batches\",\"worker_template_name\":\"work\",\"worker_count\":%lld,\"total_items\":%lld,\"cursor_configs\":[",
	       count, total);
	for (long long i = 0; i < count; i++) {
		long long start = i * size, end = start + size < total ? start + size : total;
		printf("%s{\"batch_id\":\"%03lld\",\"start_cursor\":%lld,\"end_cursor\":%lld,\"batch_size\":%lld}",
		       i ? "," : "", i + 1, start, end, end - start);
	}
	printf("]}}");
	return 0;
}

static int batch(void)
{
	struct text cursor = get(get(step, "inputs"), "cursor");
	long long start = number(get(cursor, "start_cursor"), 0), end = number(get(cursor, "end_cursor"), 0);
	printf("{\"items_processed\":%lld,\"start\":%lld,\"end\":%lld}", end - start, start, end);
	return 0;
}

static int aggregate(void)
{
	struct text all = get(step, "dependencies"), prefix = get(config, "prefix"), key, result;
	long long total = 0, workers = 0;
	const char *p = all.p + 1;
	while (next_entry(&p, &key, &result)) {
		if (key.n < prefix.n - 2 || memcmp(key.p, prefix.p + 1, prefix.n - 2) != 0)
			continue;
		workers++;
		total += number(get(result, "items_processed"), 0);
	}
	printf("{\"total\":%lld,\"worker_count\":%lld}", total, workers);
	return 0;
}

static int event(void)
{
	printf("{\"amount\":%.*s}", RAW(get(config, "amount")));
	return 0;
}

static int log_line(void)
{
	struct text message = get(config, "message");
	fprintf(stderr, "%.*s\n", (int)message.n - 2, message.p + 1);
	printf("{\"logged\":true}");
	return 0;
}

static int sizes(void)
{
	struct text all = get(step, "dependencies"), key, result;
	const char *p = all.p + 1, *comma = "{";
	while (next_entry(&p, &key, &result)) {
		printf("%s\"%.*s\":%zu", comma, RAW(key), get(result, "blob").n - 2);
		comma = ",";
	}
	printf("}");
	return 0;
}

/* Of all dependencies that are asked for: a name is looked for with its quotes. */
static int uuids(void)
{
	struct text all = get(step, "dependency_uuids"), names = get(config, "names"), key, uuid;
	const char *p = all.p + 1, *comma = "{";
	while (next_entry(&p, &key, &uuid)) {
		if (!memmem(names.p, names.n, key.p - 1, key.n + 2))
			continue;
		printf("%s\"%.*s\":%.*s", comma, RAW(key), RAW(uuid));
		comma = ",";
	}
	printf("}");
	return 0;
}

static int print(const char *text)
{
	fputs(text, stdout);
	return 0;
}

static int not_a_number(void)
{
	return print("{\"value\":NaN}");
}

static int infinite(void)
{
	return print("{\"value\":Infinity}");
}

static int nul(void)
{
	return print("{\"value\":\"a\\u0000b\"}");
}

static int broken_text(void)
{
	struct text in = get(config, "in");
	if (in.n > 4 && memcmp(in.p, "\"log\"", 5) == 0) {
		fputs("broken: \xff\n", stderr);
		return print("{\"logged\":true}");
	}
	if (in.n > 6 && memcmp(in.p, "\"error\"", 7) == 0) {
		fputs("broken: \xff\n", stderr);
		return 1;
	}
	return print("{\"value\":\"broken: \\ud800\"}");
}

static int wide(void)
{
	return print("{\"value\":9007199254740993}");
}

static int deep(void)
{
	long long depth = number(get(config, "depth"), 0);
	print("{\"value\":");
	for (long long i = 0; i < depth; i++)
		putchar('[');
	for (long long i = 0; i < depth; i++)
		putchar(']');
	return print("}");
}

static int huge(void)
{
	static char block[65536];
	long long left = number(get(config, "bytes"), 0);
	memset(block, 'x', sizeof block);
	print("{\"blob\":\"");
	for (; left > 0; left -= (long long)sizeof block)
		fwrite(block, 1, left < (long long)sizeof block ? (size_t)left : sizeof block, stdout);
	return print("\"}");
}

static int hang(void)
{
	for (volatile int forever = 1; forever;)
		;
	return 0;
}

static int crash(void)
{
	if (attempt() <= number(get(config, "attempts"), 0))
		__builtin_trap();
	return print("{\"survived\":true}");
}

static const struct {
	const char *name;
	int (*run)(void);
} handlers[] = {{"echo", echo},
                {"value", value},
                {"nothing", nothing},
                {"fail", fail},
                {"error_retryable", error_retryable},
                {"error_permanent", error_permanent},
                {"retry_after", retry_after},
                {"flaky", flaky},
                {"decision", decision},
                {"analyze", analyze},
                {"batch", batch},
                {"aggregate", aggregate},
                {"event", event},
                {"log", log_line},
                {"sizes", sizes},
                {"uuids", uuids},
                {"nan", not_a_number},
                {"infinite", infinite},
                {"nul", nul},
                {"broken_text", broken_text},
                {"wide", wide},
                {"deep", deep},
                {"huge", huge},
                {"hang", hang},
                {"crash", crash}};

int main(void)
{
	step = read_input();
	config = get(step, "config");
	struct text name = get(step, "handler");
	for (size_t i = 0; i < sizeof handlers / sizeof *handlers; i++)
		if (name.n == strlen(handlers[i].name) + 7 && memcmp(name.p + 6, handlers[i].name, name.n - 7) == 0)
			return handlers[i].run();
	fprintf(stderr, "no handler %.*s here\n", RAW(name));
	return 2;
}
