/* Sessions without a socket (front.h). */
#pragma once

struct session;

void local_flush(struct session *s);
void local_ended(struct session *s, const char *why);
