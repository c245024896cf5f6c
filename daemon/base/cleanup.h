/* Scope-bound clean-up. cleanup_(f) runs f(&variable) when the variable goes out of scope; TAKE_PTR and TAKE_FD
 * hand the resource on instead. Locals are destroyed in reverse order of declaration, so declare guards first. */
#pragma once
#include <stdlib.h>
#include <unistd.h>

#define cleanup_(fn) __attribute__((cleanup(fn)))

#define TAKE_PTR(p)                                                                                                    \
	({                                                                                                             \
		__typeof__(p) *take_src_ = &(p);                                                                       \
		__typeof__(p) take_val_ = *take_src_;                                                                  \
		*take_src_ = NULL;                                                                                     \
		take_val_;                                                                                             \
	})

static inline int take_fd(int *fd)
{
	int r = *fd;
	*fd = -1;
	return r;
}
#define TAKE_FD(fd) take_fd(&(fd))

static inline void cleanup_free(void *p)
{
	free(*(void **)p);
}

static inline void cleanup_close(const int *fd)
{
	if (*fd >= 0)
		close(*fd);
}

/* Define cleanup_NAME(T **) calling FREE on a non-NULL pointer. */
#define DEFINE_CLEANUP(T, NAME, FREE)                                                                                  \
	static inline void NAME(T **p)                                                                                 \
	{                                                                                                              \
		if (*p)                                                                                                \
			FREE(*p);                                                                                      \
	}

#define must_check __attribute__((warn_unused_result))
#define printf_like(fmt, args) __attribute__((format(printf, fmt, args)))
