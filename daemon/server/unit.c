/* The unit that a process belongs to, by its control group. */
#include "daemon/server/unit.h"

#include <stdio.h>
#include <string.h>

/* "0::/system.slice/taskerd-worker@shop.service/sub" belongs to taskerd-worker@shop.service: the last part that is a
 * unit which processes are started in. */
static void unit_in(const char *path, char *out, size_t size)
{
	static const char *const kinds[] = {".service", ".scope"};
	for (const char *p = path; *p; p += strcspn(p, "/\n")) {
		p += strspn(p, "/");
		size_t n = strcspn(p, "/\n");
		for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
			size_t k = strlen(kinds[i]);
			if (n > k && n < size && memcmp(p + n - k, kinds[i], k) == 0)
				snprintf(out, size, "%.*s", (int)n, p);
		}
		if (p[n] != '/')
			break;
	}
}

void unit_of(pid_t pid, char *out, size_t size)
{
	char path[64], line[1024];
	snprintf(path, sizeof path, "/proc/%d/cgroup", (int)pid);
	FILE *f = fopen(path, "re");
	out[0] = '\0';
	while (f && fgets(line, sizeof line, f))
		if (strncmp(line, "0::", 3) == 0 || strstr(line, ":name=systemd:"))
			unit_in(strchr(line, '/') ? strchr(line, '/') : "", out, size);
	if (f)
		fclose(f);
}
