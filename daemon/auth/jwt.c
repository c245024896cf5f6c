#include "daemon/auth/jwt.h"

#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "daemon/auth/secret.h"

#define NAMESPACES_MAX 256

DEFINE_CLEANUP(cjose_jws_t, cleanup_jws, cjose_jws_release)
DEFINE_CLEANUP(json_t, cleanup_json, json_decref)

static int refuse(struct err *e, const char *why)
{
	return err_set(e, -EACCES, "permission_denied", "the token is refused: %s", why);
}

/* ---- the signature ---- */

static int algorithm_of(const char *name)
{
	for (int i = 0; name && i < JWT_ALGORITHMS; i++)
		if (strcmp(name, jwt_algorithm_names[i]) == 0)
			return i;
	return -1;
}

/* What the header says must be what is expected; it chooses nothing but one of several keys. */
static int check_header(cjose_header_t *h, const struct jwt_rules *rules, unsigned *ret_algorithm, struct err *e)
{
	const char *typ = cjose_header_get(h, "typ", NULL);
	cleanup_(cleanup_free) char *crit = cjose_header_get_raw(h, "crit", NULL);
	int algorithm = algorithm_of(cjose_header_get(h, CJOSE_HDR_ALG, NULL));
	if (algorithm < 0 || !(rules->algorithms & 1u << algorithm))
		return refuse(e, "its algorithm is not one of those allowed");
	if (crit)
		return refuse(e, "its header asks for extensions (crit)");
	if (typ && strcasecmp(typ, "JWT") != 0 && strcasecmp(typ, "at+jwt") != 0)
		return refuse(e, "its type is not JWT");
	*ret_algorithm = 1u << algorithm;
	return 0;
}

static bool signed_by_one(cjose_jws_t *jws, const struct jwt_keys *keys, unsigned algorithm, const char *kid)
{
	for (size_t i = 0; i < keys->n; i++) {
		const struct jwt_key *key = &keys->key[i];
		bool fits = (key->algorithms & algorithm) && (!kid || !key->kid[0] || strcmp(kid, key->kid) == 0);
		if (fits && cjose_jws_verify(jws, key->jwk, NULL))
			return true;
	}
	return false;
}

/* ---- the claims ---- */

/* A time in seconds; a fraction is allowed. 1 with *ret, 0: absent, -1: something else. */
static int time_claim(const json_t *claims, const char *name, double *ret)
{
	const json_t *v = json_object_get(claims, name);
	if (!v)
		return 0;
	if (!json_is_number(v))
		return -1;
	*ret = json_number_value(v);
	return *ret >= 0 && *ret < 1e12 ? 1 : -1;
}

static int check_times(const json_t *claims, const struct jwt_rules *rules, usec_t now, usec_t *ret_expires,
                       struct err *e)
{
	double at = (double)now / USEC_PER_SEC, leeway = rules->leeway_ms / 1000.0, exp = 0, nbf = 0, iat = 0;
	int has_exp = time_claim(claims, "exp", &exp), has_nbf = time_claim(claims, "nbf", &nbf),
	    has_iat = time_claim(claims, "iat", &iat);
	if (has_exp <= 0)
		return refuse(e, "it does not say until when it is good (exp)");
	if (has_nbf < 0 || has_iat < 0)
		return refuse(e, "nbf or iat is no time");
	if (exp + leeway <= at)
		return refuse(e, "it has expired");
	if ((has_nbf && nbf - leeway > at) || (has_iat && iat - leeway > at))
		return refuse(e, "it is not good yet (nbf, iat)");
	*ret_expires = (usec_t)((exp + leeway) * USEC_PER_SEC);
	return 0;
}

static bool is_text(const json_t *v, const char *text)
{
	return json_is_string(v) && json_string_length(v) == strlen(text) && strcmp(json_string_value(v), text) == 0;
}

static bool holds_text(const json_t *v, const char *text)
{
	const json_t *x;
	size_t i;
	json_array_foreach(v, i, x) if (is_text(x, text)) return true;
	return is_text(v, text);
}

/* A claim by its name, or, if there is none of this name, by a path of names with dots. */
static const json_t *find_claim(const json_t *claims, const char *name)
{
	const json_t *v = json_object_get(claims, name);
	char part[128];
	while (!v && claims) {
		size_t n = strcspn(name, ".");
		if (n == 0 || n >= sizeof part)
			return NULL;
		memcpy(part, name, n);
		part[n] = '\0';
		claims = json_object_get(claims, part);
		if (!name[n])
			return claims;
		name += n + 1;
	}
	return v;
}

/* Call `fn` for each word of a claim: an array of strings, or one string with blanks between. False: it is neither. */
static bool each_word(const json_t *claim, void (*fn)(void *arg, const char *word, size_t len), void *arg)
{
	const json_t *x;
	size_t i;
	json_array_foreach(claim, i, x)
	{
		if (!json_is_string(x))
			return false;
		fn(arg, json_string_value(x), json_string_length(x));
	}
	const char *s = json_string_value(claim);
	for (; s && *s; s += strspn(s, " ")) {
		size_t n = strcspn(s, " ");
		if (n > 0)
			fn(arg, s, n);
		s += n;
	}
	return json_is_array(claim) || json_is_string(claim);
}

static void take_role(void *arg, const char *word, size_t len)
{
	unsigned *roles = arg;
	*roles |= 1u << role_named(word, len); /* a claim may hold roles of other services */
}

struct namespaces {
	bool all, wrong;
	size_t n;
	char name[NAMESPACES_MAX][ACCESS_NAMESPACE_MAX + 1];
};

static void take_namespace(void *arg, const char *word, size_t len)
{
	struct namespaces *ns = arg;
	if (len == 1 && word[0] == '*')
		ns->all = true;
	else if (!is_namespace_name(word, len) || ns->n == NAMESPACES_MAX)
		ns->wrong = true;
	else
		snprintf(ns->name[ns->n++], sizeof ns->name[0], "%.*s", (int)len, word);
}

/* Roles and namespaces. Who is granted nothing is known all the same. */
static int grant(const json_t *claims, const struct jwt_rules *rules, struct principal *who, struct err *e)
{
	struct namespaces ns = {0};
	const char *names[NAMESPACES_MAX];
	unsigned roles = 0;
	const json_t *said = find_claim(claims, rules->roles_claim),
		     *where = find_claim(claims, rules->namespaces_claim);
	if (said && !each_word(said, take_role, &roles))
		return refuse(e, "its claim of roles is neither a list of names nor a string of them");
	if (where && (!each_word(where, take_namespace, &ns) || ns.wrong))
		return refuse(e, "its claim of namespaces is neither a list of their names nor a string of them");
	for (size_t i = 0; i < ns.n; i++)
		names[i] = ns.name[i];
	if (!ns.all && ns.n == 0)
		roles = 0;
	if (principal_grant(who, roles & ~(1u << ROLE_NONE), names, ns.all ? 0 : ns.n) < 0)
		return err_set(e, -ENOMEM, "overloaded", "out of memory");
	return 0;
}

static int set_name(const json_t *claims, struct principal *who, struct err *e)
{
	char name[PRINCIPAL_NAME_MAX];
	const json_t *sub = json_object_get(claims, "sub");
	if (!json_is_string(sub) || json_string_length(sub) == 0)
		return refuse(e, "it does not say for whom it is (sub)");
	int n = snprintf(name, sizeof name, "jwt:%s", json_string_value(sub));
	if (n < 0 || (size_t)n >= sizeof name || strlen(json_string_value(sub)) != json_string_length(sub) ||
	    !principal_set_name(who, name))
		return refuse(e, "the name of whom it is for (sub) is too long, or no text");
	return 0;
}

static int check_claims(const json_t *claims, const struct jwt_rules *rules, usec_t now, struct principal *who,
                        struct err *e)
{
	if (!json_is_object(claims))
		return refuse(e, "its claims are no JSON object");
	if (!is_text(json_object_get(claims, "iss"), rules->issuer))
		return refuse(e, "it is not from the issuer that is expected (iss)");
	if (!holds_text(json_object_get(claims, "aud"), rules->audience))
		return refuse(e, "it is not meant for this service (aud)");
	int rc = check_times(claims, rules, now, &who->expires, e);
	if (rc == 0)
		rc = set_name(claims, who, e);
	return rc == 0 ? grant(claims, rules, who, e) : rc;
}

/* Three parts with a dot between two. */
static bool has_form(const char *token, size_t len)
{
	const char *end = token + len;
	for (int parts = 1;; parts++) {
		const char *dot = memchr(token, '.', (size_t)(end - token));
		if (!is_base64url(token, (size_t)((dot ? dot : end) - token)))
			return false;
		if (!dot)
			return parts == 3;
		token = dot + 1;
	}
}

int jwt_check(const struct jwt_keys *keys, const struct jwt_rules *rules, const char *token, size_t len, usec_t now,
              struct principal *who, struct err *e)
{
	uint8_t *payload = NULL;
	size_t payload_len = 0;
	unsigned algorithm = 0;
	if (len > JWT_MAX)
		return refuse(e, "it is longer than 8192 bytes");
	cleanup_(cleanup_jws) cjose_jws_t *jws = has_form(token, len) ? cjose_jws_import(token, len, NULL) : NULL;
	if (!jws)
		return refuse(e, "it is neither a token of this service nor a JSON Web Token");
	cjose_header_t *header = cjose_jws_get_protected(jws);
	int rc = check_header(header, rules, &algorithm, e);
	if (rc < 0)
		return rc;
	if (!signed_by_one(jws, keys, algorithm, cjose_header_get(header, CJOSE_HDR_KID, NULL)) ||
	    !cjose_jws_get_plaintext(jws, &payload, &payload_len, NULL))
		return refuse(e, "its signature is not from one of the keys that are trusted");
	cleanup_(cleanup_json) json_t *claims =
		json_loadb((const char *)payload, payload_len, JSON_REJECT_DUPLICATES, NULL);
	return check_claims(claims, rules, now, who, e);
}
