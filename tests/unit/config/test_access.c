/* Rules of the option `access`: whom they fit, and what a peer is granted by several. */
#include <check.h>
#include <stdio.h>
#include <string.h>

#include "daemon/config/access.h"

static struct access_rules *rules;

/* Read rules; the findings as text in `said`. */
static char said[4096];
static void read_rules(const char *text)
{
	struct findings f = {0};
	struct yaml_tree *tree = NULL;
	struct buf b;
	ck_assert_int_eq(yaml_tree_parse(text, strlen(text), NULL, &tree, &f), 0);
	rules = access_rules_free(rules);
	ck_assert_int_eq(access_rules_read(yaml_tree_root(tree), &rules, &f), 0);
	buf_init(&b, 0);
	findings_finish(&f, 0);
	ck_assert_int_eq(findings_to_text(&f, "f", &b), 0);
	snprintf(said, sizeof said, "%s", b.len ? buf_text(&b) : "");
	buf_done(&b);
	findings_done(&f);
	yaml_tree_free(tree);
}

static void tear_down(void)
{
	rules = access_rules_free(rules);
}

static struct access peer(uid_t uid, gid_t gid)
{
	return access_of(rules, uid, &gid, 1);
}

static bool may(struct access a, enum role role, const char *ns)
{
	return access_allows(&a, role, ns, strlen(ns));
}

START_TEST(without_rules_everything)
{
	struct access a = access_of(NULL, 5, NULL, 0);
	ck_assert(access_has(&a, ROLE_ADMIN) && access_everywhere(&a, ROLE_WORK) && may(a, ROLE_ADMIN, "x"));
}
END_TEST

START_TEST(an_empty_list_grants_nothing)
{
	read_rules("[]");
	ck_assert_str_eq(said, "");
	ck_assert_ptr_nonnull(rules);
	struct access a = peer(5, 5);
	ck_assert(!access_has(&a, ROLE_NONE));
	ck_assert(!access_has(&a, ROLE_READ));
}
END_TEST

START_TEST(a_role_holds_where_it_is_granted)
{
	read_rules(
		"- {uid: 5, roles: submit, namespaces: [a, b]}\n- {gid: [7, 8], roles: [read], namespaces: c}\n- {everyone: true, roles: work}\n");
	ck_assert_str_eq(said, "");
	struct access a = peer(5, 8), other = peer(6, 6);
	ck_assert(may(a, ROLE_SUBMIT, "a") && may(a, ROLE_SUBMIT, "b") && may(a, ROLE_READ, "c"));
	ck_assert(!may(a, ROLE_SUBMIT, "c") && !may(a, ROLE_READ, "a") && !may(a, ROLE_SUBMIT, "") &&
	          !may(a, ROLE_SUBMIT, "ab"));
	ck_assert(may(a, ROLE_WORK, "z") && access_everywhere(&a, ROLE_WORK) && !access_everywhere(&a, ROLE_SUBMIT));
	ck_assert(!access_has(&a, ROLE_OPERATE) && !access_has(&a, ROLE_ADMIN));
	ck_assert(access_has(&other, ROLE_WORK) && !access_has(&other, ROLE_READ) && !access_has(&other, ROLE_SUBMIT));
	ck_assert(!access_equal(&a, &other));
}
END_TEST

START_TEST(some_roles_bring_others)
{
	read_rules("- {uid: 1, roles: operate, namespaces: a}\n- {uid: 2, roles: admin, namespaces: [a]}\n");
	struct access operator = peer(1, 0), admin = peer(2, 0);
	ck_assert(may(operator, ROLE_READ, "a") && may(operator, ROLE_OPERATE, "a"));
	ck_assert(!may(operator, ROLE_SUBMIT, "a") && !may(operator, ROLE_ADMIN, "a") &&
	          !may(operator, ROLE_READ, "b"));
	for (enum role r = ROLE_READ; r < ROLE_COUNT; r++)
		ck_assert(may(admin, r, "a") && !may(admin, r, "b"));
}
END_TEST

static void collect(const char *ns, void *arg)
{
	struct buf *all = arg;
	buf_printf(all, "%s ", ns);
}

START_TEST(the_namespaces_of_a_role)
{
	struct buf all;
	buf_init(&all, 0);
	read_rules(
		"- {uid: 5, roles: [read], namespaces: [a, b]}\n- {uid: 5, roles: [submit], namespaces: [c]}\n- {uid: 6, roles: read, namespaces: [d]}\n- {uid: 5, roles: operate, namespaces: [e]}\n");
	struct access a = peer(5, 5);
	access_each_namespace(&a, ROLE_READ, collect, &all);
	ck_assert_str_eq(buf_text(&all), "a b e ");
	buf_done(&all);
}
END_TEST

START_TEST(more_than_one_word_of_rules)
{
	char text[ACCESS_RULES_MAX * 64 + 64] = "";
	size_t at = 0;
	for (int i = 0; i < ACCESS_RULES_MAX; i++)
		at += (size_t)snprintf(text + at, sizeof text - at, "- {uid: %d, roles: read, namespaces: n%d}\n", i,
		                       i);
	read_rules(text);
	ck_assert_str_eq(said, "");
	for (unsigned i = 0; i < ACCESS_RULES_MAX; i++) {
		char ns[16];
		snprintf(ns, sizeof ns, "n%u", i);
		ck_assert(may(peer(i, 0), ROLE_READ, ns) && !may(peer(i + 1, 0), ROLE_READ, ns));
	}
	snprintf(text + at, sizeof text - at, "- {uid: 1, roles: read}\n");
	read_rules(text);
	ck_assert_ptr_nonnull(strstr(said, "at most 256 rules"));
}
END_TEST

START_TEST(printed_as_it_would_be_written)
{
	struct buf b, again;
	read_rules(
		"- {user: root, group: root, gid: 7, roles: [work, read], namespaces: [a, b]}\n- {everyone: true, roles: admin, namespaces: '*'}\n");
	ck_assert_str_eq(said, "");
	buf_init(&b, 0);
	buf_init(&again, 0);
	access_rules_format(rules, &b);
	ck_assert_str_eq(
		buf_text(&b),
		"[{uid: [0], gid: [0, 7], roles: [read, work], namespaces: [a, b]}, {everyone: true, roles: [read, submit, work, operate, admin], namespaces: [\"*\"]}]");
	read_rules(buf_text(&b));
	access_rules_format(rules, &again);
	ck_assert_str_eq(buf_text(&again), buf_text(&b));
	buf_done(&b);
	buf_done(&again);
}
END_TEST

static const struct {
	const char *text, *expected;
} wrong[] = {
    {"5", "expected a list"},
    {"- 5", "f:1:3: error: access[0]: expected a rule"},
    {"- {roles: read}", "for whom?"},
    {"- {uid: 5}", "roles are missing"},
    {"- {uid: 5, roles: []}", "at least one value"},
    {"- {uid: 5, roles: [read, fly]}", "f:1:26: error: access[0].roles: expected read, submit, work, operate or admin"},
    {"- {uid: x, roles: read}", "access[0].uid: expected a number"},
    {"- {uid: 4294967295, roles: read}", "access[0].uid: expected a number"},
    {"- {uid: -1, roles: read}", "access[0].uid: expected a number"},
    {"- {user: 5, roles: read}", "access[0].user: expected the name of a user"},
    {"- {group: nobody-has-this, roles: read}", "there is no group"},
    {"- {everyone: false, roles: read}", "access[0].everyone: expected true"},
    {"- {uid: 5, role: read}", "did you mean roles?"},
    {"- {uid: 5, roles: read, namespaces: [a, '*']}", "expected the name of a namespace"},
    {"- {uid: 5, roles: read, namespaces: ['a\"b']}", "expected the name of a namespace"},
    {"- {uid: 5, roles: read, namespaces: [aaaaaaaaaaaaaaaaaaaaaaaaaaaaaa]}", "expected the name of a namespace"},
    {"- {uid: 5, roles: read, namespaces: []}", "at least one value"},
};

START_TEST(what_is_wrong)
{
	read_rules(wrong[_i].text);
	ck_assert_msg(strstr(said, wrong[_i].expected) != NULL, "%s\n%s", wrong[_i].text, said);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("access");
	TCase *t = tcase_create("access");
	tcase_add_checked_fixture(t, NULL, tear_down);
	tcase_add_test(t, without_rules_everything);
	tcase_add_test(t, an_empty_list_grants_nothing);
	tcase_add_test(t, a_role_holds_where_it_is_granted);
	tcase_add_test(t, some_roles_bring_others);
	tcase_add_test(t, the_namespaces_of_a_role);
	tcase_add_test(t, more_than_one_word_of_rules);
	tcase_add_test(t, printed_as_it_would_be_written);
	tcase_add_loop_test(t, what_is_wrong, 0, sizeof wrong / sizeof *wrong);
	suite_add_tcase(s, t);
	SRunner *r = srunner_create(s);
	srunner_run_all(r, CK_ENV);
	int failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed != 0;
}
