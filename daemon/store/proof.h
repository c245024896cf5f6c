/* Claim proofs: what a worker shows to say "I was given this attempt", checkable after a restart without any stored session. */
#pragma once
#include <stdint.h>
#include "daemon/core/uuid.h"

#define PROOF_LEN 16u
#define SECRET_LEN 32u

/* Four bytes of fence, then the first twelve of HMAC-SHA256(secret, task UUID, step number, fence). */
void proof_make(const uint8_t secret[SECRET_LEN], const struct uuid *task, unsigned step_no, uint32_t fence, uint8_t out[PROOF_LEN]);
/* 0 with the fence if `proof` was made by proof_make for this step; -EACCES otherwise. Constant time. */
int proof_check(const uint8_t secret[SECRET_LEN], const struct uuid *task, unsigned step_no, const uint8_t proof[PROOF_LEN], uint32_t *ret_fence);
