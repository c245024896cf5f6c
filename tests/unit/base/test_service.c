/* service.c: a manager that does not read holds up nobody, and is told all that matters once it reads. */
#include "daemon/base/service.h"

#include <check.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

static int manager = -1;
static char path[64];

static void begin(void)
{
	struct sockaddr_un a = {.sun_family = AF_UNIX};
	snprintf(path, sizeof path, "/tmp/taskerd-service-%d", (int)getpid());
	unlink(path);
	memcpy(a.sun_path, path, strlen(path));
	manager = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	ck_assert_int_ge(manager, 0);
	ck_assert_int_eq(bind(manager, (const struct sockaddr *)&a, sizeof a), 0);
	setenv("NOTIFY_SOCKET", path, 1);
}

static void end(void)
{
	while (!service_offer()) {
		char text[256];
		ck_assert_int_ge(recv(manager, text, sizeof text, MSG_DONTWAIT), 0);
	}
	close(manager);
	unlink(path);
	unsetenv("NOTIFY_SOCKET");
}

/* Until the manager's socket takes no more; how many it took. */
static unsigned fill(void)
{
	struct sockaddr_un a = {.sun_family = AF_UNIX};
	int s = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	unsigned n = 0;
	memcpy(a.sun_path, path, strlen(path));
	ck_assert_int_eq(connect(s, (const struct sockaddr *)&a, sizeof a), 0);
	while (send(s, "X=1", 3, MSG_DONTWAIT) == 3)
		n++;
	close(s);
	ck_assert_uint_gt(n, 0);
	return n;
}

static void hear(const char *expected)
{
	char text[256] = "";
	ck_assert_int_ge(recv(manager, text, sizeof text - 1, MSG_DONTWAIT), 0);
	ck_assert_str_eq(text, expected);
}

START_TEST(without_a_manager)
{
	unsetenv("NOTIFY_SOCKET");
	service_tell("READY=1");
	ck_assert(service_offer());
	ck_assert_int_eq(service_give("FDSTORE=1", 0, 1000), -ENOTCONN);
	ck_assert_int_eq(service_barrier(1000), -ENOTCONN);
}
END_TEST

START_TEST(one_that_reads)
{
	begin();
	service_tell("READY=1");
	hear("READY=1");
	service_tell("STATUS=a");
	service_tell("STATUS=b");
	hear("STATUS=a");
	hear("STATUS=b");
	end();
}
END_TEST

START_TEST(one_that_does_not)
{
	begin();
	for (unsigned n = fill(), i = 0; i <= n; i++) {
		if (i == 0) { /* these would wait for ever */
			service_tell("STATUS=starting");
			service_tell("STATUS=up");
			service_tell("READY=1");
			service_tell("WATCHDOG=1");
			service_tell("STATUS=serving");
			ck_assert(!service_offer());
			ck_assert_int_eq(service_give("FDSTORE=1", 0, 20000), -ETIMEDOUT);
			ck_assert_int_eq(service_barrier(20000), -ETIMEDOUT);
		}
		if (i < n)
			hear("X=1");
	}
	ck_assert(service_offer());
	hear("STATUS=up");
	hear("READY=1");
	hear("STATUS=serving");
	end();
}
END_TEST

START_TEST(one_that_never_does)
{
	begin();
	unsigned n = fill();
	for (int i = 0; i < 1000; i++)
		service_tell(i % 2 ? "READY=1" : "RELOADING=1");
	for (unsigned i = 0; i < n; i++)
		hear("X=1");
	for (int i = 0; i < 16; i++) { /* the last of them, in order */
		(void)service_offer();
		hear(i % 2 ? "READY=1" : "RELOADING=1");
	}
	ck_assert(service_offer());
	end();
}
END_TEST

START_TEST(one_that_is_started_again)
{
	begin();
	service_tell("READY=1");
	close(manager);
	begin();
	service_tell("STATUS=here");
	hear("STATUS=here");
	end();
}
END_TEST

START_TEST(descriptors_and_barriers)
{
	int ends[2], got = -1;
	char text[64] = "", room[CMSG_SPACE(sizeof(int))] __attribute__((aligned(8)));
	struct iovec part = {.iov_base = text, .iov_len = sizeof text - 1};
	struct msghdr m = {.msg_iov = &part, .msg_iovlen = 1, .msg_control = room, .msg_controllen = sizeof room};
	begin();
	ck_assert_int_eq(pipe(ends), 0);
	ck_assert_int_eq(service_give("FDSTORE=1\nFDNAME=x", ends[1], USEC_PER_SEC), 0);
	ck_assert_int_ge(recvmsg(manager, &m, MSG_CMSG_CLOEXEC), 0);
	ck_assert_str_eq(text, "FDSTORE=1\nFDNAME=x");
	const struct cmsghdr *c = CMSG_FIRSTHDR(&m);
	if (c)
		memcpy(&got, CMSG_DATA(c), sizeof got);
	ck_assert_int_ge(got, 0);
	ck_assert_int_eq((int)write(got, "y", 1), 1);
	ck_assert_int_eq((int)read(ends[0], text, 1), 1);
	ck_assert_int_eq(service_barrier(20000), -ETIMEDOUT); /* it keeps what it has been given */
	close(got);
	close(ends[0]);
	close(ends[1]);
	end();
}
END_TEST

int main(void)
{
	Suite *s = suite_create("service");
	TCase *tc = tcase_create("service");
	tcase_add_test(tc, without_a_manager);
	tcase_add_test(tc, one_that_reads);
	tcase_add_test(tc, one_that_does_not);
	tcase_add_test(tc, one_that_never_does);
	tcase_add_test(tc, one_that_is_started_again);
	tcase_add_test(tc, descriptors_and_barriers);
	suite_add_tcase(s, tc);
	SRunner *r = srunner_create(s);
	srunner_run_all(r, CK_ENV);
	int failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
