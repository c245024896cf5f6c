/* Hash tables of uthash. They allocate a little for each entry; without memory for that the process ends, as with
 * need(). */
#pragma once
#include "daemon/base/need.h"

#define uthash_fatal(message) need(NULL)
#include <uthash.h>
