#include "tests/unit/taskerctl/fake_daemon.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>
#include "protocol/frame.h"
#include "protocol/mpjson.h"

#define PATIENCE_MS 10000

static int give_up(struct fake *f, const char *what, const char *detail)
{
	if (!f->failure[0])
		snprintf(f->failure, sizeof f->failure, "%s: %s", what, detail ? detail : "");
	return -1;
}

static int readable(int fd)
{
	struct pollfd p = {.fd = fd, .events = POLLIN};
	return poll(&p, 1, PATIENCE_MS) > 0;
}

static int read_exactly(struct fake *f, void *dst, size_t n)
{
	size_t have = 0;
	while (have < n) {
		if (!readable(f->fd))
			return give_up(f, "nothing came in time", NULL);
		ssize_t r = recv(f->fd, (char *)dst + have, n - have, 0);
		if (r <= 0)
			return give_up(f, "the client has closed", NULL);
		have += (size_t)r;
	}
	return 0;
}

static int write_all(struct fake *f, const void *p, size_t n)
{
	for (size_t done = 0; done < n;) {
		ssize_t r = send(f->fd, (const char *)p + done, n - done, MSG_NOSIGNAL);
		if (r < 0)
			return give_up(f, "cannot write", strerrordesc_np(errno));
		done += (size_t)r;
	}
	return 0;
}

static int read_message(struct fake *f, struct seen *s)
{
	unsigned char head[FRAME_HEADER];
	if (read_exactly(f, head, sizeof head) < 0)
		return -1;
	size_t n = (size_t)head[0] << 24 | (size_t)head[1] << 16 | (size_t)head[2] << 8 | head[3];
	s->bytes = malloc(n);
	if (!s->bytes || read_exactly(f, s->bytes, n) < 0 || mp_decode(s->bytes, n, &s->v) < 0) {
		free(s->bytes);
		s->bytes = NULL;
		return give_up(f, "no message", NULL);
	}
	return 0;
}

static const msgpack_object *method_of(const struct seen *s)
{
	const msgpack_object *a = s->v.root.via.array.ptr;
	return a[0].via.u64 == 0 ? &a[2] : &a[1];
}

static int expect(struct fake *f, const char *method)
{
	struct seen *s = &f->seen[f->nseen];
	if (f->nseen == FAKE_SEEN_MAX)
		return give_up(f, "too many messages", NULL);
	do {
		if (s->bytes) {
			mp_value_done(&s->v);
			free(s->bytes);
		}
		*s = (struct seen){0};
		if (read_message(f, s) < 0)
			return give_up(f, "waiting for", method);
	} while (mp_str_eq(method_of(s), "heartbeat"));
	f->nseen++;
	if (!mp_str_eq(method_of(s), method))
		return give_up(f, "another message came instead of", method);
	if (s->v.root.via.array.ptr[0].via.u64 == 0)
		f->ids[f->nids++] = (uint32_t)s->v.root.via.array.ptr[1].via.u64;
	return 0;
}

static int send_frame(struct fake *f, struct buf *b, size_t mark)
{
	frame_end(b, mark);
	int rc = b->failed ? give_up(f, "cannot encode", NULL) : write_all(f, b->data, b->len);
	buf_done(b);
	return rc;
}

static int reply(struct fake *f, size_t back, const char *json, bool is_error)
{
	struct buf b;
	struct mpjson_error why;
	buf_init(&b, 0);
	size_t mark = frame_begin(&b);
	mp_array(&b, 4);
	mp_uint(&b, 1);
	mp_uint(&b, f->ids[f->nids - back]);
	if (!is_error)
		mp_nil(&b);
	if (json_to_mp(json, strlen(json), &b, &why) < 0)
		give_up(f, why.what, json);
	if (is_error)
		mp_nil(&b);
	return send_frame(f, &b, mark);
}

static int note(struct fake *f, const char *text)
{
	struct buf b;
	struct mpjson_error why;
	const char *space = strchr(text, ' ');
	buf_init(&b, 0);
	size_t mark = frame_begin(&b);
	mp_array(&b, 3);
	mp_uint(&b, 2);
	mp_strn(&b, text, (size_t)(space - text));
	if (json_to_mp(space + 1, strlen(space + 1), &b, &why) < 0)
		give_up(f, why.what, text);
	return send_frame(f, &b, mark);
}

void fake_step_uuid(size_t i, char *dst)
{
	snprintf(dst, 37, "00000000-0000-7000-8000-%012zx", i);
}

static void put_step(struct buf *b, const char *callable, size_t no)
{
	char uuid[37];
	unsigned char claim[16] = {(unsigned char)no};
	fake_step_uuid(no, uuid);
	mp_map(b, 7);
	mp_str(b, "step_uuid");
	mp_str(b, uuid);
	mp_str(b, "attempt");
	mp_uint(b, 1);
	mp_str(b, "claim");
	mp_bin(b, claim, sizeof claim);
	mp_str(b, "handler");
	mp_map(b, 1);
	mp_str(b, "callable");
	mp_str(b, callable);
	mp_str(b, "context");
	mp_map(b, 1);
	mp_str(b, "number");
	mp_uint(b, no);
	mp_str(b, "dependencies");
	mp_map(b, 1);
	mp_str(b, "first");
	mp_nil(b);
	mp_str(b, "dependencies_partial");
	mp_bool(b, true);
}

static int execute(struct fake *f, const char *callable, size_t n)
{
	struct buf b;
	buf_init(&b, 0);
	size_t mark = frame_begin(&b);
	mp_array(&b, 3);
	mp_uint(&b, 2);
	mp_str(&b, "step.execute");
	mp_map(&b, 1);
	mp_str(&b, "steps");
	mp_array(&b, n);
	while (n-- > 0)
		put_step(&b, callable, f->nsteps++);
	return send_frame(f, &b, mark);
}

static int hang_up(struct fake *f)
{
	close(f->fd);
	f->fd = -1;
	return 0;
}

static int take_connection(struct fake *f)
{
	if (!readable(f->listener))
		return give_up(f, "nobody connects", NULL);
	f->fd = accept4(f->listener, NULL, NULL, SOCK_CLOEXEC);
	return f->fd < 0 ? give_up(f, "accept", strerrordesc_np(errno)) : 0;
}

static int wait_close(struct fake *f)
{
	char c[256];
	while (readable(f->fd))
		if (recv(f->fd, c, sizeof c, 0) <= 0)
			return hang_up(f);
	return give_up(f, "the client did not close", NULL);
}

static int act(struct fake *f, const struct act *a)
{
	switch (a->kind) {
	case ACT_ACCEPT:
		return take_connection(f);
	case ACT_EXPECT:
		return expect(f, a->text);
	case ACT_REPLY:
		return reply(f, 1, a->text, false);
	case ACT_REPLY_ERROR:
		return reply(f, 1, a->text, true);
	case ACT_REPLY_FIRST:
		return reply(f, 2, a->text, false);
	case ACT_NOTE:
		return note(f, a->text);
	case ACT_EXECUTE:
		return execute(f, a->text, a->n);
	case ACT_RAW:
		return write_all(f, a->text, a->n);
	case ACT_CLOSE:
		return hang_up(f);
	case ACT_WAIT_CLOSE:
		return wait_close(f);
	case ACT_END:
		break;
	}
	return -1;
}

static void *follow(void *arg)
{
	struct fake *f = arg;
	for (const struct act *a = f->script; a->kind != ACT_END; a++)
		if (act(f, a) < 0)
			break;
	if (f->fd >= 0)
		hang_up(f);
	return NULL;
}

void fake_start(struct fake *f, const struct act *script)
{
	struct sockaddr_un sa = {.sun_family = AF_UNIX};
	*f = (struct fake){.script = script, .fd = -1};
	snprintf(f->dir, sizeof f->dir, "/tmp/fake-daemon-XXXXXX");
	if (!mkdtemp(f->dir))
		abort();
	snprintf(f->path, sizeof f->path, "%s/s", f->dir);
	memcpy(sa.sun_path, f->path, sizeof f->path);
	f->listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (f->listener < 0 || bind(f->listener, (struct sockaddr *)&sa, sizeof sa) < 0 ||
	    listen(f->listener, 4) < 0)
		abort();
	if (pthread_create(&f->thread, NULL, follow, f) != 0)
		abort();
}

void fake_join(struct fake *f)
{
	pthread_join(f->thread, NULL);
}

void fake_done(struct fake *f)
{
	for (size_t i = 0; i < f->nseen; i++) {
		mp_value_done(&f->seen[i].v);
		free(f->seen[i].bytes);
	}
	close(f->listener);
	unlink(f->path);
	rmdir(f->dir);
}

const tasker_value *fake_params(const struct fake *f, size_t i)
{
	const struct seen *s = &f->seen[i];
	const msgpack_object *a = s->v.root.via.array.ptr;
	if (i >= f->nseen)
		return NULL;
	return (const tasker_value *)(a[0].via.u64 == 0 ? &a[3] : &a[2]);
}
