/* worker, node, queue. */
#include "clients/taskerctl/verbs/verbs.h"

const struct verb worker_verbs[] = {
    {.name = "list",
     .summary = "List the connected workers",
     .asks = "worker.list",
     .list = "workers",
     .examples = {{"Who works, on what, and how much", "taskerctl worker list"}},
     .flags = VERB_PAGES,
     .run = run_worker_list},
    NO_VERB};

const struct verb node_verbs[] = {
    {.name = "list",
     .summary = "List the daemons on this database",
     .asks = "node.list",
     .list = "nodes",
     .examples = {{"Which hosts there are", "taskerctl node list"}},
     .flags = VERB_PAGES,
     .run = run_node_list},
    NO_VERB};

const struct verb queue_verbs[] = {
    {.name = "list",
     .summary = "List the queues: what is ready, and who could run it",
     .asks = "queue.list",
     .list = "queues",
     .examples = {{"What waits, and for whom", "taskerctl queue list"}},
     .flags = VERB_PAGES,
     .run = run_queue_list},
    NO_VERB};
