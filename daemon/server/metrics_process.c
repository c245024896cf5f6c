#include "daemon/server/metrics_process.h"

#include "daemon/server/metrics_process.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

/* A small file of /proc. "" if it cannot be read. */
static void read_file(const char *path, char *out, size_t size)
{
	FILE *f = fopen(path, "re");
	size_t n = f ? fread(out, 1, size - 1, f) : 0;
	out[n] = '\0';
	if (f)
		fclose(f);
}

/* The numbers of a line, from the given one on. */
static double number_at(const char *text, unsigned i)
{
	while (i-- > 0) {
		text += strcspn(text, " ");
		text += strspn(text, " ");
	}
	return strtod(text, NULL);
}

static double count_descriptors(void)
{
	DIR *d = opendir("/proc/self/fd");
	double n = -1; /* its own */
	if (!d)
		return 0;
	for (const struct dirent *e; (e = readdir(d));)
		n += e->d_name[0] != '.';
	closedir(d);
	return n;
}

/* Ticks since the boot, which was so many seconds ago. */
static double start_time(void)
{
	char text[1024];
	struct timespec boot = {0}, now = {0};
	read_file("/proc/self/stat", text, sizeof text);
	const char *after = strrchr(text, ')'); /* the name may hold anything */
	if (!after)
		return 0;
	clock_gettime(CLOCK_BOOTTIME, &boot);
	clock_gettime(CLOCK_REALTIME, &now);
	return (double)(now.tv_sec - boot.tv_sec) + number_at(after, 20) / (double)sysconf(_SC_CLK_TCK);
}

void process_look(struct process_state *ret)
{
	char text[256];
	struct rusage u = {0};
	struct rlimit limit = {0};
	double page = (double)sysconf(_SC_PAGESIZE);
	read_file("/proc/self/statm", text, sizeof text);
	(void)getrusage(RUSAGE_SELF, &u);
	(void)getrlimit(RLIMIT_NOFILE, &limit);
	*ret = (struct process_state){
		.cpu = (double)u.ru_utime.tv_sec + (double)u.ru_stime.tv_sec +
	               (double)(u.ru_utime.tv_usec + u.ru_stime.tv_usec) / 1e6,
		.resident = number_at(text, 1) * page,
		.virtual = number_at(text, 0) * page,
		.fds = count_descriptors(),
		.max_fds = (double)limit.rlim_cur,
		.started = start_time(),
	};
}
