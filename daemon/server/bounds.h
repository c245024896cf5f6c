/* Bounds that are not options. */
#pragma once

#define HELLO_TIMEOUT_S 10
#define FRAME_MAX_BEFORE_HELLO (1u << 20)  /* room for HANDLERS_MAX names */
#define ITEMS_MAX_BEFORE_HELLO 16384u
#define ITEMS_MAX 262144u
#define DEPTH_MAX 30u
#define BULK_MAX 5000u
#define VALUE_DEPTH_MAX 24u /* of a context or result, so that it still fits when it travels inside other messages */
#define STEP_OVERHEAD 1024u	      /* of a step.execute frame around its first step */
#define ANSWER_OVERHEAD 64u	      /* of a response, in bytes or items, around its result */
#define RELEASES_MAX 3		      /* times a step is given back after a restart without using an attempt */
#define ITEMS_EXACT_FROM 16384u	      /* bytes: below, every byte is counted as an item */
#define ASKED_MAX 64u		      /* calls of one session that wait for the database; above, it is not read */
#define CLOSING_TIMEOUT_S 5	      /* for a peer to read the reason before its connection is closed */
#define DEPENDENCIES_PAGE (ITEMS_MAX + ITEMS_MAX / 2)
#define READ_CHUNK 65536u
#define READ_TURN_MAX (1u << 20)      /* bytes taken from one session before others have their turn */
#define OUT_PAUSE (8u << 20)	      /* unsent bytes above which a session is not read */
#define OUT_MAX (64u << 20)	      /* unsent bytes above which it is dropped */
/* of texts waiting for the store: above, creates are refused and workers not read */
#define STORE_BYTES_MAX (256u << 20)
#define QUEUE_OVERLOAD 100000u	      /* requests waiting for the store above which creates are refused */
#define HELD_BODY_MAX 16384u	      /* bytes of a step's inputs above which they are not kept while it runs */
#define ANNOUNCING_MAX 16u	      /* workers that the database is being told of */
#define RECONNECT_GRACE_MS 2000	      /* how long a living process may take to come back */
#define CONCURRENCY_MAX 10000
#define HANDLERS_MAX 10000
#define WATCHES_MAX 64		      /* on one session */
#define WAITS_MAX 10000		      /* on one session */
#define RECENT_MAX 4096u	      /* tasks */
#define PATTERNS_MAX 256u	      /* of one session */
#define PATTERNS_CALL_MAX 64u	      /* of one request */
#define EVENTS_UNREAD_MAX (4u << 20)  /* unsent bytes above which a session loses domain events */
#define EVENTS_UNREAD_ALL (256u << 20) /* the same for all subscribers together */
/* bytes of one buffer that are counted as they are used, and of a session that does no harm */
#define QUOTA_SMALL 65536u
#define TOKEN_NAMESPACES_MAX 100
#define STEPS_PAGE_MAX 5000	      /* steps of one task in an answer with their readiness */
#define RUNNING_SHOWN_MAX 1000u	      /* steps of one worker in an answer */
#define CONSUMERS_MAX 64u	      /* calls of one session that wait for durable events */
