#pragma once

/* The part that submits and looks at tasks: calls come on stdin, answers go to stdout. The exit status. */
int run_client(const char *socket);
