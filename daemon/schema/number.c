#include "daemon/schema/number.h"

#define EXPONENT_MAX 1000000000

static bool is_digit(const char *p, const char *end)
{
	return p < end && *p >= '0' && *p <= '9';
}

struct reading {
	uint64_t digits;
	int64_t exponent;
};

static const char *read_digits(const char *p, const char *end, struct reading *r, bool fraction)
{
	for (; is_digit(p, end); p++) {
		bool fits = r->digits < 1000000000000000000u; /* one more digit keeps it below 10^19 */
		if (fits)
			r->digits = r->digits * 10 + (uint64_t)(*p - '0');
		r->exponent += fits == fraction ? (fraction ? -1 : 1) : 0;
	}
	return p;
}

static const char *read_exponent(const char *p, const char *end, struct reading *r)
{
	bool negative = p < end && *p == '-';
	int64_t e = 0;
	if (p < end && (*p == '-' || *p == '+'))
		p++;
	if (!is_digit(p, end))
		return NULL;
	for (; is_digit(p, end); p++)
		e = e > EXPONENT_MAX ? e : e * 10 + (*p - '0');
	r->exponent += negative ? -e : e;
	return p;
}

static void normalise(const struct reading *r, struct number *n)
{
	uint64_t digits = r->digits;
	int64_t e = r->exponent;
	for (; digits > 0 && digits % 10 == 0; digits /= 10)
		e++;
	if (digits == 0) {
		*n = (struct number){0};
		return;
	}
	n->digits = digits;
	n->exponent = (int32_t)(e > EXPONENT_MAX ? EXPONENT_MAX : e < -EXPONENT_MAX ? -EXPONENT_MAX : e);
}

const char *number_read(const char *p, const char *end, struct number *ret)
{
	struct reading r = {0};
	bool negative = p < end && *p == '-';
	p += negative;
	if (!is_digit(p, end) || (*p == '0' && is_digit(p + 1, end)))
		return NULL;
	p = read_digits(p, end, &r, false);
	if (p < end && *p == '.') {
		if (!is_digit(p + 1, end))
			return NULL;
		p = read_digits(p + 1, end, &r, true);
	}
	if (p < end && (*p == 'e' || *p == 'E'))
		p = read_exponent(p + 1, end, &r);
	if (!p)
		return NULL;
	*ret = (struct number){.negative = negative};
	normalise(&r, ret);
	return p;
}

static int count_digits(uint64_t v)
{
	int n = 0;
	for (; v > 0; v /= 10)
		n++;
	return n;
}

static unsigned __int128 scaled(uint64_t v, int64_t by)
{
	unsigned __int128 r = v;
	for (; by > 0; by--)
		r *= 10;
	return r;
}

static int compare_magnitude(const struct number *a, const struct number *b)
{
	if (a->digits == 0 || b->digits == 0)
		return (a->digits > 0) - (b->digits > 0);
	int64_t size_a = (int64_t)a->exponent + count_digits(a->digits);
	int64_t size_b = (int64_t)b->exponent + count_digits(b->digits);
	if (size_a != size_b)
		return size_a < size_b ? -1 : 1;
	/* As many places before the point: the exponents differ by less than 19. */
	int64_t low = a->exponent < b->exponent ? a->exponent : b->exponent;
	unsigned __int128 va = scaled(a->digits, a->exponent - low), vb = scaled(b->digits, b->exponent - low);
	return (va > vb) - (va < vb);
}

int number_compare(const struct number *a, const struct number *b)
{
	if (a->negative != b->negative)
		return a->negative ? -1 : 1;
	int c = compare_magnitude(a, b);
	return a->negative ? -c : c;
}

/* v * 10^e mod m, by squaring. */
static uint64_t times_power_mod(uint64_t v, int64_t e, uint64_t m)
{
	unsigned __int128 r = v % m, base = 10 % m;
	for (; e > 0; e >>= 1) {
		if (e & 1)
			r = r * base % m;
		base = base * base % m;
	}
	return (uint64_t)r;
}

bool number_is_multiple(const struct number *a, const struct number *b)
{
	int64_t shift = (int64_t)a->exponent - b->exponent;
	if (a->digits == 0)
		return true;
	if (shift >= 0)
		return times_power_mod(a->digits, shift, b->digits) == 0;
	/* a->digits has no trailing zero, so it is no multiple of ten, let alone of b->digits * 10^n. */
	return false;
}

bool number_to_count(const struct number *n, uint64_t *ret)
{
	static const struct number most = {.digits = 9007199254740992};
	if (n->negative || !number_is_integer(n) || number_compare(n, &most) > 0)
		return false;
	*ret = (uint64_t)scaled(n->digits, n->exponent);
	return true;
}
