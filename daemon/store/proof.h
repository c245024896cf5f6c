/* Claim proofs: what a worker shows to say "I was given this attempt", checkable after a restart without any stored
 * session. */
#pragma once
#include <stdbool.h>
#include <stdint.h>
#include "daemon/base/cleanup.h"
#include "daemon/core/uuid.h"

#define PROOF_LEN 16u
#define SECRET_LEN 32u

/* Makes and checks proofs. Preparing a key costs more than a proof, so a prover keeps what it has prepared for the
 * secret it was last used with. One thread at a time. */
struct prover;

struct prover *prover_new(void);	      /* NULL: out of memory */
struct prover *prover_free(struct prover *p); /* accepts and returns NULL */

/* Four bytes of fence, then the first twelve of HMAC-SHA256(secret, task UUID, step number, fence). 0, or -EIO: the
 * library failed, *out is not a proof. */
int proof_make(struct prover *p, const uint8_t secret[SECRET_LEN], const struct uuid *task, unsigned step_no,
               uint32_t fence, uint8_t out[PROOF_LEN]) must_check;
/* The fence that a proof names, whether it is true or not. */
uint32_t proof_fence(const uint8_t proof[PROOF_LEN]);
/* In constant time. */
bool proof_equal(const uint8_t a[PROOF_LEN], const uint8_t b[PROOF_LEN]);
/* 0 with the fence if `proof` was made by proof_make for this step; -EACCES otherwise. Constant time. */
int proof_check(struct prover *p, const uint8_t secret[SECRET_LEN], const struct uuid *task, unsigned step_no,
                const uint8_t proof[PROOF_LEN], uint32_t *ret_fence) must_check;
