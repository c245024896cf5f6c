/* Units of the service manager. */
#pragma once
#include <stddef.h>
#include <sys/types.h>

/* The unit that a process belongs to, by its control group; empty if none is known. */
void unit_of(pid_t pid, char *out, size_t size);
