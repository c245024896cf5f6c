/* t.play as a module, with the work of tests/integration/handlers/play.py and outcomes.py. play_wasm.py runs it, and
 * keeps the ledger, which is out of a module's reach. */
#include "clients/wasm/conformance/text.h"

static struct text names;

static struct text name_of(long long no)
{
	static const struct text nobody = {"\"nobody\"", 8};
	struct text name = no < 0 ? nobody : item(names, no);
	return name.p == missing.p ? nobody : name;
}

static void decision(const char *numbers)
{
	printf("\"decision_point_outcome\":{\"type\":\"create_steps\",\"step_names\":[");
	for (char *end; *numbers; numbers = *end ? end + 1 : end) {
		struct text name = name_of(strtoll(numbers, &end, 10));
		printf("%.*s%s", RAW(name), *end ? "," : "");
	}
	printf("]}");
}

static void batches(long long worker, long long n)
{
	struct text name = name_of(worker);
	printf("\"batch_processing_outcome\":{\"type\":\"create_batches\",\"worker_template_name\":%.*s,\"worker_count\":%lld,\"total_items\":%lld,\"cursor_configs\":[",
	       RAW(name), n, 10 * n);
	for (long long k = 0; k < n; k++)
		printf("%s{\"batch_id\":\"%03lld\",\"start_cursor\":%lld,\"end_cursor\":%lld,\"batch_size\":10}",
		       k ? "," : "", k + 1, 10 * k, 10 * k + 10);
	printf("]}");
}

static void outcome(const char *word)
{
	const char *colon = strchr(word, ':');
	char *end = NULL;
	long long no = colon ? strtoll(colon + 1, &end, 10) : -1;
	printf("{");
	if (strncmp(word, "names:", 6) == 0) {
		decision(word + 6);
	} else if (strcmp(word, "none") == 0) {
		printf("\"decision_point_outcome\":{\"type\":\"no_branches\"}");
	} else if (strncmp(word, "batches:", 8) == 0) {
		batches(no, strtoll(end + 1, NULL, 10));
	} else if (strncmp(word, "nobatches:", 10) == 0) {
		printf("\"batch_processing_outcome\":{\"type\":\"no_batches\"");
		if (no >= 0)
			printf(",\"worker_template_name\":%.*s", RAW(name_of(no)));
		printf("}");
	} else if (strcmp(word, "bad") == 0) {
		decision("-1");
		printf(",");
		batches(-1, 1);
	} else {
		printf("\"said\":\"%s\"", word);
	}
	printf("}");
}

static int failure(const char *message, const char *type, bool retryable, const char *more)
{
	printf("{\"message\":\"%s\",\"error_type\":\"%s\",\"retryable\":%s%s}", message, type,
	       retryable ? "true" : "false", more);
	return 1;
}

static int act(const char *word, bool has_checkpoint)
{
	if (strcmp(word, "retry") == 0 || strcmp(word, "delay") == 0)
		return failure("asked to fail", "RetryableError", true, *word == 'd' ? ",\"retry_after\":0.02" : "");
	if (strcmp(word, "perm") == 0)
		return failure("asked to fail for good", "PermanentError", false, "");
	if (strcmp(word, "yield") == 0 && !has_checkpoint)
		printf("{\"type\":\"checkpoint_yield\",\"cursor\":5,\"items_processed\":5,\"accumulated_results\":{\"pid\":1}}");
	else
		outcome(word);
	return 0;
}

int main(void)
{
	struct text step = read_input(), context = get(step, "context"), name = get(step, "name");
	char key[64] = "", word[512] = "ok";
	snprintf(key, sizeof key, "%.*s", (int)name.n - 2, name.p + 1);
	struct text words = get(get(get(context, "do"), "0"), key);
	long long attempt = number(get(step, "attempt"), 1), n = count(words);
	struct text said = item(words, (attempt < n ? attempt : n) - 1);
	if (said.p != missing.p)
		snprintf(word, sizeof word, "%.*s", (int)said.n - 2, said.p + 1);
	names = get(context, "names");
	return act(word, !is(get(step, "checkpoint"), "null"));
}
