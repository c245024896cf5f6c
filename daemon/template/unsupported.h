/* What templates may say and this version of the engine does not do. */
#pragma once
#include "daemon/template/checker.h"

/* Refuse by name every feature in use that the engine lacks (a warning for drafts). */
void check_features(struct check *c, const struct ynode *root);
